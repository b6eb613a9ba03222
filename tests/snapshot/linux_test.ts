/** The default guest, saved and resumed: by the command line, and where instructions make the time. */
import { assert, assertEquals } from "@std/assert";
import { type Machine, startMachine } from "../../src/machine/machine.ts";
import { Snapshot } from "../../src/machine/snapshot.ts";
import type { MachineSpec } from "../../src/machine/spec.ts";
import { guestOrSkip, pattern, runGuest, script, Trike, trike, withFolder } from "../boot/guests.ts";

const { guest, ignore } = await guestOrSkip("cloud");
/** Its kernel has the driver of generation IDs. */
const generic = await guestOrSkip("generic");

/** How often a timer of each CPU has fired. */
async function timers(run: Trike): Promise<number[]> {
  return (await run.talk.run("grep LOC /proc/interrupts")).trim().split(/\s+/).slice(1, 3).map(Number);
}

Deno.test({
  name: "two vCPUs: a resumed guest keeps its shell, its variables, its files, its loop and its disk",
  ignore,
  fn: () =>
    withFolder(async (folder) => {
      const disk = `${folder}/disk.img`, file = `${folder}/snapshot`, bytes = pattern(1 << 20);
      await Deno.writeFile(disk, bytes);
      const keep = ["--snapshot-on-exit", file, "--snapshot-compress"];
      {
        await using run = new Trike(runGuest(guest, "", "--cpus", "2", "--disk", disk, ...keep));
        const { talk } = run;
        await talk.prompt();
        await talk.run("WORD=kept; umask 027; echo in tmpfs > /tmp/f; echo 0 > /tmp/count");
        await talk.run(
          "cd /tmp; while :; do echo $(($(cat count) + 1)) > next; mv next count; usleep 20000; done & cd",
        );
        // The one is on the disk, the other in the guest's memory only, when the machine is saved.
        await talk.run("printf synced | dd of=/dev/vda bs=512 seek=1 conv=notrunc,fsync 2>/dev/null");
        await talk.run("exec 3<>/dev/vda; printf cached >&3");
        // Saved, it goes on; what was saved then is replaced when it ends.
        run.kill("SIGUSR2");
        await talk.run("echo on > /tmp/went");
        while (!await Deno.stat(file).catch(() => null)) await talk.run("true");
        const first = (await Deno.stat(file)).mtime!;
        run.kill("SIGTERM");
        const { code, stderr } = await run.end();
        assertEquals(code, 143);
        assert(stderr.includes(`go on with: trike resume ${file}`), stderr);
        assert((await Deno.stat(file)).mtime! >= first);
      }
      {
        await using run = new Trike(["resume", file, "--quiet", "--timeout", "60"]);
        const { talk } = run;
        await talk.type("\r");
        await talk.prompt();
        assertEquals(
          (await talk.run("echo $WORD; umask; cat /tmp/f /tmp/went; nproc")).trim(),
          "kept\n0027\nin tmpfs\non\n2",
        );
        const count = async () => Number((await talk.run("cat /tmp/count")).trim());
        const then = await count(), fired = await timers(run);
        await talk.run("usleep 300000");
        assert(await count() > then);
        const now = await timers(run);
        assert(now.every((n, cpu) => n > fired[cpu]!), `${fired} to ${now}`);
        // The time of day is known to the clock that is not the processor's.
        const seconds = Date.parse(
          (await talk.run("cat /sys/class/rtc/rtc0/date /sys/class/rtc/rtc0/time"))
            .trim().replace("\n", "T") + "Z",
        );
        assert(Math.abs(seconds - Date.now()) < 5000, `${new Date(seconds)}`);
        bytes.set(new TextEncoder().encode("cached, and more"));
        bytes.set(new TextEncoder().encode("synced"), 512);
        const [sum] = (await talk.run("printf ', and more' >&3; sync; sha256sum /dev/vda")).split(" ");
        assertEquals(sum, new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex());
        await talk.type("poweroff -f\r");
        assertEquals((await run.end()).code, 0);
      }
      assertEquals(await Deno.readFile(disk), bytes);
      // The snapshot does not fit the disk any more.
      const { code, stderr } = await trike(["resume", file, "--quiet", "--timeout", "5"]);
      assertEquals(code, 2);
      assert(
        stderr.includes(`"${disk}" was written after the machine was saved; --force resumes all the same`),
        stderr,
      );
    }),
});

/** What COM1 says until the machine ends. */
async function said(machine: Machine): Promise<string> {
  const { tx } = machine.serial[0]!;
  let text = "";
  while (!tx.closed || tx.available > 0) {
    await tx.whenReadable(100);
    text += new TextDecoder().decode(tx.read());
  }
  await machine.ended;
  return text;
}

Deno.test({
  name: "where instructions make the time, a resumed guest goes on exactly as the saved one does",
  ignore,
  fn: () =>
    withFolder(async (folder) => {
      const file = `${folder}/snapshot`;
      const work = "cd /tmp; for i in 1 2 3 4 5; do head -c 20000 /dev/urandom > f; " +
        "md5sum f; date +%s; cat /proc/uptime; usleep 10000; done; cat /proc/interrupts";
      const spec: MachineSpec = {
        engine: "soft",
        memoryBytes: 128 << 20,
        cpus: 1,
        kernel: guest.kernel,
        initrd: guest.initrd,
        append: `${guest.append} ${script(work)}`,
        disks: [],
        serial: [{ kind: "stdio" }],
        noReboot: true,
        icount: true,
        trace: null,
      };
      const one = await startMachine(spec);
      const { tx } = one.serial[0]!;
      let early = "";
      while ((early.match(/ f\r?\n/g) ?? []).length < 2) {
        await tx.whenReadable(100);
        early += new TextDecoder().decode(tx.read());
      }
      await one.snapshot(file, { compress: false, stop: false });
      const unread = new TextDecoder().decode(tx.read());
      const rest = await said(one);
      assert(early.length + unread.length < 4000 && rest.length > 500, rest);

      const two = await startMachine(spec, { snapshot: new Snapshot(file) });
      const again = await said(two);
      // What was in the ring when the machine was saved is the first one's to print.
      assert(rest.endsWith(again.slice(-400)), `${rest}\n---\n${again}`);
      assert((unread + rest).includes(again), `${unread}\n---\n${rest}\n---\n${again}`);
    }),
});

Deno.test({
  name: "a resumed guest is told, and makes new random numbers",
  ignore: generic.ignore,
  fn: () =>
    withFolder(async (folder) => {
      const file = `${folder}/snapshot`;
      {
        await using run = new Trike(runGuest(generic.guest, "", "--memory", "256M", "--snapshot-on-exit", file));
        await run.talk.prompt();
        run.kill("SIGTERM");
        assertEquals((await run.end()).code, 143);
      }
      await using run = new Trike(["resume", file, "--quiet", "--timeout", "60"]);
      await run.talk.type("\r");
      await run.talk.prompt();
      const said = await run.talk.run("dmesg | grep -c 'crng reseeded due to virtual machine fork'");
      assertEquals(said.trim(), "1");
    }),
});

/** A server on this host's loop-back that answers each client that asks, and lets the others be. */
function greeter(): { port: number; close(): void } {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const serve = async (client: Deno.Conn) => {
    using _ = client;
    const buffer = new Uint8Array(4096);
    for (let n = await client.read(buffer); n !== null; n = await client.read(buffer)) {
      if (!new TextDecoder().decode(buffer.subarray(0, n)).startsWith("GET")) continue;
      await client.write(new TextEncoder().encode("HTTP/1.0 200 OK\r\nContent-Length: 7\r\n\r\nserved\n"));
      return;
    }
  };
  const accept = async () => {
    for await (const client of listener) serve(client).catch(() => {});
  };
  accept().catch(() => {});
  return { port: listener.addr.port, close: () => listener.close() };
}

Deno.test({
  name: "a resumed guest keeps its address and reaches the host; connections that were open are reset",
  ignore,
  sanitizeOps: false,
  sanitizeResources: false,
  fn: () =>
    withFolder(async (folder) => {
      const file = `${folder}/snapshot`, server = greeter();
      const allow = ["--allow-read", "--allow-write", "--allow-env", "--allow-net"];
      const fetchIt = `wget -q -O - http://10.0.2.2:${server.port}/`;
      {
        await using run = new Trike(runGuest(guest, "", "--net", "user", "--snapshot-on-exit", file), allow);
        await run.talk.prompt();
        await run.talk.run("while ! ip route | grep -q default; do sleep 0.1; done");
        assertEquals((await run.talk.run(fetchIt)).trim(), "served");
        const talker = `(while sleep 0.2; do echo word; done) | nc 10.0.2.2 ${server.port}; echo gone > /tmp/gone`;
        await run.talk.run(`(${talker}) 2>/dev/null &`);
        assertEquals((await run.talk.run("sleep 0.5; cat /tmp/gone 2>/dev/null")).trim(), "");
        run.kill("SIGTERM");
        assertEquals((await run.end()).code, 143);
      }
      await using run = new Trike(["resume", file, "--quiet", "--timeout", "60"], allow);
      await run.talk.type("\r");
      await run.talk.prompt();
      const address = await run.talk.run("ip addr show eth0");
      assert(address.includes("inet 10.0.2.15/24"), address);
      assertEquals((await run.talk.run(fetchIt)).trim(), "served");
      // Its end is told by the shell as well.
      const end = await run.talk.run("while ! [ -e /tmp/gone ]; do sleep 0.1; done; cat /tmp/gone", 20);
      assert(end.startsWith("gone\n"), end);
      server.close();
    }),
});
