/** `trike run` as a process: exit statuses, signals, pipes, permissions. */
import { assert, assertEquals } from "@std/assert";
import { decode, eventually, noise, start, TRIKE, trike, withFiles } from "./trike.ts";

Deno.test("each end of a guest has its exit status and its line", () =>
  withFiles(async ({ dir, kernel }) => {
    const ends: [string, number, RegExp][] = [
      ["say=bye\\n then=poweroff", 0, /^$/],
      ["say=bye then=reset", 0, /^$/],
      ["say=bye then=died", 3, /^trike: the guest died: triple fault at rip \[31m0x7c00\n$/],
      ["say=bye then=debug-exit", 0x43, /^$/],
      ["say=bye then=host-error", 1, /^trike: the host gave up\n$/],
      ["fail", 1, /^trike: the loop-back machine does not start\n$/],
      ["say=bye crash", 70, /^trike: a defect in trike: Error: the loop-back machine crashed\n/],
    ];
    const run = (append: string) => trike(["run", "--quiet", "--kernel", kernel, "--append", append]);
    for (const [append, code, line] of ends) {
      const result = await run(append);
      assertEquals(result.code, code, `${append}: ${result.stderr}`);
      assert(line.test(result.stderr), `${append}: ${result.stderr}`);
      if (append.startsWith("say")) assertEquals(result.stdout.trimEnd(), "bye", append);
    }
    const plain = ["run", "--net", "none", "--kernel", kernel, "--append", "then=poweroff"];
    const told = await trike([...plain, "--stats", `${dir}/s`]);
    assertEquals(told.stderr, "trike: engine soft (hvf: on Intel Macs only; kvm: needs --allow-ffi)\n");
  }));

Deno.test("without --allow-net there is no network, and one line says so; with it there is no word of it", () =>
  withFiles(async ({ kernel }) => {
    const args = ["run", "--kernel", kernel, "--append", "then=poweroff"];
    const allow = ["--allow-read", "--allow-write", "--allow-net"];
    const [denied, allowed] = await Promise.all([trike(args), trike(args, { allow })]);
    const lines = (text: string) => text.split("\n").filter((line) => line.includes("network"));
    assertEquals(lines(denied.stderr), ["trike: no network: trike runs without --allow-net"]);
    assertEquals(lines(allowed.stderr), []);
  }));

Deno.test("what there is to know about the machine is said once it runs, unless --quiet", () =>
  withFiles(async ({ kernel }) => {
    const plain = ["run", "--net", "none", "--kernel", kernel, "--append", "note then=poweroff"];
    const run = (...args: string[]) => trike([...plain, ...args]);
    const [told, quiet] = await Promise.all([run(), run("-q")]);
    assertEquals(told.stderr.split("\n").slice(1), ["trike: the loop-back machine has a note", ""]);
    assertEquals(quiet.stderr, "");
  }));

Deno.test("mistakes end with status 2 before anything starts, without any permission", async () => {
  const bare = { allow: [], program: TRIKE };
  const [unknown, engine, none, help, version] = await Promise.all([
    trike(["run", "--memroy", "1G"], bare),
    trike(["run", "--engine", "kvm"], bare),
    trike([], bare),
    trike(["--help"], bare),
    trike(["--version"], bare),
  ]);
  assertEquals([unknown.code, engine.code, none.code, help.code, version.code], [2, 2, 2, 0, 0]);
  for (const { stderr } of [unknown, engine, none]) assertEquals(stderr.match(/^trike: .*\n$/)?.length, 1, stderr);
  assertEquals([help.stderr, version.stderr], ["", ""]);
  assert(/^trike \d+\.\d+\.\d+\n$/.test(version.stdout));
});

Deno.test("read permission for the named files is all a machine asks for; without it the host has refused", () =>
  withFiles(async ({ kernel }) => {
    const args = ["run", "--quiet", "--kernel", kernel, "--append", "say=here then=poweroff"];
    const [granted, denied] = await Promise.all([
      trike(args, { allow: [`--allow-read=${kernel}`] }),
      trike(args, { allow: [] }),
    ]);
    assertEquals([granted.code, granted.stdout, granted.stderr], [0, "here", ""]);
    assertEquals(denied.code, 1);
    assert(denied.stderr.includes("--kernel") && denied.stderr.includes("allow-read"), denied.stderr);
  }));

Deno.test("1 MB through pipes and back arrives as it was, every byte of it", () =>
  withFiles(async ({ kernel }) => {
    const sent = noise(1_000_000);
    const child = start(["run", "-q", "--kernel", kernel, "--append", "echo", "--timeout", "30"]);
    const writer = child.stdin.getWriter();
    const writing = writer.write(sent).then(() => writer.close());
    const received = new Uint8Array(sent.length);
    let n = 0;
    for await (const chunk of child.stdout) {
      received.set(chunk.subarray(0, sent.length - n), n);
      n += chunk.length;
      if (n >= sent.length) child.kill("SIGHUP");
    }
    await writing;
    assertEquals(n, sent.length);
    assertEquals(received.findIndex((byte, i) => byte !== sent[i]), -1);
    assertEquals((await child.status).code, 129);
    await child.stderr.cancel();
  }));

Deno.test("--timeout stops a guest with 124, also one that will not stop; --stats tells of both", () =>
  withFiles(async ({ dir, kernel }) => {
    const mark = "say=TRIKE-MARK:init\\r\\n";
    const run = (append: string, stats: string) =>
      trike(["run", "-q", "--kernel", kernel, "--append", append, "--timeout", "0.5", "--stats", stats]);
    const [idle, stuck] = await Promise.all([run(mark, `${dir}/idle`), run(`${mark} stuck`, `${dir}/stuck`)]);
    assertEquals([idle.code, stuck.code], [124, 124]);
    assertEquals(idle.stderr, "trike: stopped after 0.5 s (--timeout)\n");
    for (const name of ["idle", "stuck"]) {
      const stats = JSON.parse(await Deno.readTextFile(`${dir}/${name}`));
      const { wallSeconds, firstByteSeconds, marks, ...rest } = stats;
      assertEquals(rest, {
        engine: "soft",
        end: "stopped",
        guestSeconds: 1.25,
        instructions: 42,
        exits: { pioWrite: 3 },
        interrupts: { "30": 7 },
      });
      assert(wallSeconds >= 0.5 && wallSeconds < 20 && firstByteSeconds > 0 && firstByteSeconds <= marks.init);
    }
  }));

Deno.test("SIGTERM and SIGINT press the power button, and at the second time stop; SIGHUP stops", () =>
  withFiles(async ({ kernel }) => {
    const run = async (append: string, ...signals: Deno.Signal[]) => {
      const child = start(["run", "-q", "--kernel", kernel, "--append", `say=up ${append}`, "--timeout", "20"]);
      const reader = child.stdout.getReader();
      await reader.read(); // "up": the machine runs, and the listeners are there
      reader.releaseLock();
      for (const [i, signal] of signals.entries()) {
        child.kill(signal);
        if (i < signals.length - 1) await new Promise((resolve) => setTimeout(resolve, 300));
      }
      await child.stdin.close();
      return decode(await child.output());
    };
    assertEquals((await run("button=poweroff", "SIGTERM")).code, 0);
    const twice = await run("", "SIGTERM", "SIGTERM");
    assertEquals(twice.code, 143);
    assertEquals(twice.stderr, "trike: SIGTERM: pressed the power button; again to stop the machine at once\n");
    assertEquals((await run("", "SIGINT", "SIGINT")).code, 130);
    assertEquals((await run("", "SIGHUP")).code, 129);
    assertEquals((await run("", "SIGQUIT")).code, 131);
  }));

Deno.test("a reader of stdout that leaves ends the machine with status 1", () =>
  withFiles(async ({ kernel }) => {
    const child = start(["run", "-q", "--kernel", kernel, "--append", "say=up", "--timeout", "20"]);
    const reader = child.stdout.getReader();
    await reader.read();
    await reader.cancel();
    const writer = child.stdin.getWriter();
    await writer.write(new TextEncoder().encode("more"));
    assertEquals((await child.status).code, 1);
    assert((await new Response(child.stderr).text()).includes("standard output"));
    await writer.close().catch(() => {});
  }));

Deno.test("a stalled reader of stdout does not hold up a forced end", () =>
  withFiles(async ({ kernel }) => {
    const child = start(["run", "-q", "--kernel", kernel, "--append", "echo", "--timeout", "1"]);
    const writer = child.stdin.getWriter();
    writer.write(noise(1_000_000)).catch(() => {});
    const status = await child.status;
    assertEquals(status.code, 124);
    await Promise.all([child.stdout.cancel(), child.stderr.cancel(), writer.abort().catch(() => {})]);
  }));

Deno.test("COM1 on a socket: what the guest wrote early is there, and a client may come again", () =>
  withFiles(async ({ dir, kernel }) => {
    const socket = `${dir}/com1`;
    const args = ["run", "-q", "--kernel", kernel, "--append", "say=early button=poweroff", "--timeout", "20"];
    const child = start([...args, "--serial", `unix:${socket}`, "--serial", `file:${dir}/com2`], {
      allow: ["--allow-read", "--allow-write", "--allow-net"],
    });
    const connect = () => Deno.connect({ transport: "unix", path: socket });
    const talk = async (conn: Deno.UnixConn, sent: string, expected: string) => {
      await conn.write(new TextEncoder().encode(sent));
      let got = "";
      const buffer = new Uint8Array(100);
      while (got.length < expected.length) {
        const n = await conn.read(buffer);
        if (n === null) break;
        got += new TextDecoder().decode(buffer.subarray(0, n));
      }
      assertEquals(got, expected);
    };
    const first = await eventually(connect);
    await talk(first, "one", "earlyone");
    const second = await connect(); // waits in line: it is not answered while the first is here
    first.close();
    await talk(second, "two", "two");
    child.kill("SIGTERM");
    const rest = await second.read(new Uint8Array(1)).catch(() => null);
    assertEquals(rest, null);
    second.close();
    const { code, stderr } = decode(await child.output());
    assertEquals(code, 0, stderr);
    await child.stdin.close();
    assertEquals((await Deno.lstat(socket).catch((error) => error)).name, "NotFound");
    assertEquals((await Deno.stat(`${dir}/com2`)).size, 0);
  }));

Deno.test("COM1 into a file: the file is emptied first and has all output at the end", () =>
  withFiles(async ({ dir, kernel }) => {
    const path = `${dir}/com1`;
    await Deno.writeTextFile(path, "what was here before");
    const args = ["run", "-q", "--kernel", kernel, "--append", "say=bye\\n then=poweroff", "--serial"];
    const result = await trike([...args, `file:${path}`]);
    assertEquals([result.code, result.stdout, result.stderr], [0, "", ""]);
    assertEquals(await Deno.readTextFile(path), "bye\n");
  }));
