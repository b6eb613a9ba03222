/** The default guest as a person meets it: `deno task run` on a terminal, and what they would type. */
import { assert, assertEquals, assertMatch, assertNotEquals, assertStringIncludes } from "@std/assert";
import { TestTerminal } from "../cli/pty.ts";
import { guestOrSkip, pattern, ROOT, sha256, withFolder } from "./guests.ts";
import { plain, Talk } from "./talk.ts";

const { ignore } = await guestOrSkip("cloud");

/** `deno task run` on a terminal that is its own in every way, so that the host would send it signals for Ctrl-C. */
async function onTerminal(
  args: readonly string[],
  body: (talk: Talk, terminal: TestTerminal, before: Uint8Array) => Promise<void>,
): Promise<number> {
  const terminal = TestTerminal.open();
  await terminal.resize(100, 30);
  const before = terminal.mode();
  const script = 'tty=$1; shift; exec setsid --ctty --wait "$@" <>"$tty" >&0 2>&0';
  const task = [Deno.execPath(), "task", "--quiet", "run", "--timeout", "240", ...args];
  const child = new Deno.Command("sh", {
    args: ["-c", script, "sh", terminal.name, ...task],
    cwd: ROOT,
    env: { NO_COLOR: "1" },
    stdin: "null",
  }).spawn();
  let ended = false;
  const status = child.status.finally(() => ended = true);
  const talk = new Talk({
    read: async () => {
      const last = ended;
      const bytes = await terminal.read(100);
      return last && bytes.length === 0 ? null : bytes;
    },
    write: (bytes) => terminal.write(bytes),
  });
  try {
    await body(talk, terminal, before);
    const { code } = await status;
    assertEquals(terminal.mode(), before, "the terminal's mode is back");
    return code;
  } finally {
    if (!ended) child.kill("SIGKILL"); // the terminal hangs up with its session's leader, which ends trike
    await status;
    terminal.close();
  }
}

Deno.test({ name: "the default guest on a terminal", ignore }, (t) =>
  withFolder(async (folder) => {
    const disk = pattern(4 << 20);
    const image = `${folder}/disk.img`;
    await Deno.writeFile(image, disk);

    const code = await onTerminal(["--disk", image], async (talk, terminal, before) => {
      await t.step("greets with the engine, then what it is, then the prompt", async () => {
        const greeting = await talk.prompt();
        assertMatch(greeting, /^trike: engine (soft|kvm|hvf)\b/m);
        assertMatch(greeting, /^Linux \S+ and BusyBox;/m);
        assertStringIncludes(greeting, "Ctrl-A x");
        assert(!/permission|Deno requests|error|warn/i.test(greeting), greeting);
        assertNotEquals(terminal.mode(), before, "raw while the guest runs");
      });
      await t.step("runs programs and loops", async () => {
        assertMatch(await talk.run("uname -a"), /^Linux trike \S+cloud-amd64 .* x86_64 GNU\/Linux\n$/);
        assertEquals(await talk.run("for i in 1 2 3; do echo $((i * i)); done"), "1\n4\n9\n");
        assertEquals(await talk.run("seq 5000 | awk '{ s += $1 } END { print s }'"), "12502500\n");
      });
      await t.step("knows the size of the terminal", async () => {
        assertEquals(await talk.run("stty size"), "30 100\n");
      });
      await t.step("knows on its virtio console that the window's size has changed", async () => {
        // Linux looks at it when it changes, and not before.
        const size = () => talk.run("stty -F /dev/hvc0 size");
        await terminal.resize(120, 40);
        let now = await size();
        for (let i = 0; i < 20 && now !== "40 120\n"; i++) now = await size();
        assertEquals(now, "40 120\n");
      });
      await t.step("has interrupts of the timer, the console and the disk", async () => {
        const counts = new Map(
          (await talk.run("cat /proc/interrupts")).split("\n").map((line) => {
            const [, name, count] = /^ *(\w+): +(\d+)/.exec(line) ?? [];
            return [/ttyS0|virtio\d+-req/.exec(line)?.[0] ?? name, Number(count)];
          }),
        );
        assert(counts.get("LOC")! > 10 && counts.get("ttyS0")! > 10, JSON.stringify([...counts]));
        assert([...counts].some(([name, n]) => name?.endsWith("-req") && n > 0), JSON.stringify([...counts]));
      });
      await t.step("has job control", async () => {
        await talk.run("sleep 1000 &");
        await talk.type("sh -c 'echo on; exec sleep 500'\r");
        await talk.until("on\r");
        await talk.type("\x1a");
        assertMatch(await talk.prompt(), /Stopped +sh -c/);
        const jobs = await talk.run("jobs");
        assertMatch(jobs, /^\[1\].*Running +sleep 1000$/m);
        assertMatch(jobs, /^\[2\].*Stopped +sh -c/m);
        await talk.run("kill -9 %1 %2; wait");
        // It tells of each that has ended, once, and then forgets it.
        let left = await talk.run("jobs");
        for (let n = 0; n < 20 && left !== ""; n++) left = await talk.run("sleep 0.2; jobs");
        assertEquals(left, "");
      });
      await t.step("hears Ctrl-C, which reaches the guest and not trike", async () => {
        await talk.type("sh -c 'echo on; exec sleep 1000'\r");
        await talk.until("on\r");
        await talk.type("\x03");
        await talk.prompt();
        assertEquals(await talk.run("echo $?"), "130\n");
      });
      await t.step("reads the disk and writes it", async () => {
        assertEquals(await talk.run("cat /sys/block/vda/size"), `${disk.length / 512}\n`);
        const sum = await talk.run("dd if=/dev/vda bs=64k 2>/dev/null | sha256sum");
        assertEquals(sum, `${await sha256(disk)}  -\n`);
        await talk.run("echo written by the guest | dd of=/dev/vda bs=512 seek=3 conv=sync,fsync 2>/dev/null");
        const written = await Deno.readFile(image);
        const sector = new Uint8Array(512);
        sector.set(new TextEncoder().encode("written by the guest\n"));
        assertEquals(written.subarray(3 * 512, 4 * 512), sector);
        assertEquals(written.subarray(4 * 512), disk.subarray(4 * 512));
      });
      await t.step("keeps Ctrl-A: h lists the keys, a second one goes to the guest", async () => {
        await talk.type("\x01h");
        const keys = plain(await talk.until("Ctrl-A Ctrl-A"));
        assertStringIncludes(keys, "Ctrl-A x");
        await talk.until("\n");
        await talk.type("cho made whole\x01\x01"); // to the line's beginning
        await talk.type("e\r");
        assertMatch(await talk.prompt(), /^made whole$/m);
      });
      await t.step("takes a paste of 1 MB, echoes it, and loses no byte", async () => {
        let text = "";
        for (let i = 0; text.length < 1_000_000; i++) text += `line ${i} of a paste ${(i * 7919) % 1_000_003}\r`;
        await talk.type("cat >/tmp/paste\r");
        await talk.until("paste\r");
        const typing = talk.type(text);
        const [echo] = await Promise.all([talk.until(text.slice(-12, -1), 150), typing]);
        assert(echo.length >= text.length);
        await talk.type("\x04");
        await talk.prompt();
        const sum = await sha256(new TextEncoder().encode(text.replaceAll("\r", "\n")));
        assertEquals(await talk.run("sha256sum </tmp/paste"), `${sum}  -\n`);
      });
      await t.step("powers off", async () => {
        await talk.type("poweroff\r");
        assertMatch(plain(await talk.toEnd()), /reboot: Power down\n$/);
      });
    });
    assertEquals(code, 0);
  }));

Deno.test({ name: "Ctrl-A x leaves a guest that still boots", ignore }, async () => {
  const code = await onTerminal([], async (talk, terminal, before) => {
    await talk.until("trike: engine ");
    while (terminal.mode().every((byte, i) => byte === before[i])) await new Promise((go) => setTimeout(go, 20));
    await talk.type("\x01x");
    await talk.toEnd();
  });
  assertEquals(code, 0);
});
