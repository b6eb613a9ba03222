/** The console on a real terminal: raw mode, keys, pastes, and the mode put back whatever happens. */
import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { ByteRing } from "../../src/base/ring.ts";
import { Terminal, type TerminalStreams } from "../../src/host/terminal.ts";
import { TerminalClient, TestTerminal } from "./pty.ts";
import { decode, eventually, noise, start, withFiles } from "./trike.ts";

const bytes = (text: string) => new TextEncoder().encode(text);

async function onTerminal(
  append: string,
  body: (terminal: TestTerminal, child: Deno.ChildProcess) => Promise<void>,
  prepare: (terminal: TestTerminal) => Promise<void> = () => Promise.resolve(),
): Promise<{ code: number; stderr: string }> {
  const terminal = TestTerminal.open();
  try {
    let result = { code: -1, stderr: "" };
    await prepare(terminal);
    await withFiles(async ({ kernel }) => {
      const before = terminal.mode();
      const args = ["run", "-q", "--kernel", kernel, "--timeout", "20", "--append", append];
      const child = start(args, { terminal: terminal.name });
      await body(terminal, child);
      await child.stdin.close();
      result = decode(await child.output());
      assertEquals(terminal.mode(), before, `the terminal's mode after "${append}"`);
    });
    return result;
  } finally {
    terminal.close();
  }
}

Deno.test("every way to end puts the terminal's mode back", async () => {
  const ends: [string, number, ((t: TestTerminal, child: Deno.ChildProcess) => Promise<void> | void)?][] = [
    ["then=poweroff", 0],
    ["then=died", 3],
    ["then=host-error", 1],
    ["crash", 70],
    ["reject", 70],
    ["echo", 0, (t) => t.write(bytes("\x01x"))],
    ["deaf", 0, (t) => t.write(bytes("\x01x"))],
    ["echo", 129, (_, child) => child.kill("SIGHUP")],
    ["button=poweroff", 0, (_, child) => child.kill("SIGTERM")],
  ];
  for (const [append, code, act] of ends) {
    const result = await onTerminal(`say=up ${append}`, async (terminal, child) => {
      const before = terminal.mode();
      await terminal.until("up");
      if (act) {
        assertNotEquals(terminal.mode(), before, "raw while the guest runs");
        await act(terminal, child);
      }
    });
    assertEquals(result.code, code, `${append}: ${result.stderr}`);
  }
});

Deno.test("keys reach the guest, Ctrl-C and Ctrl-D too; Ctrl-A h lists trike's own, Ctrl-A Ctrl-A is one Ctrl-A", async () => {
  const { code } = await onTerminal("say=up", async (terminal) => {
    await terminal.until("up");
    await terminal.write(bytes("\x03\x04\x1a\x1c\x11\x13\r.\x01c\x01\x01!"));
    assertEquals(await terminal.until("!"), "\x03\x04\x1a\x1c\x11\x13\r.\x01!");
    await terminal.write(bytes("\x01h"));
    assert((await terminal.until("Ctrl-A Ctrl-A")).includes("Ctrl-A x"));
    await terminal.write(bytes("\x01x"));
  });
  assertEquals(code, 0);
});

Deno.test("a paste of 1 MB goes in and comes back without losing a byte", async () => {
  // Not LF, which a terminal's driver turns into CR LF, nor Ctrl-A, which must be typed twice.
  const paste = noise(1_000_000).map((byte) => byte === 0x0a || byte === 0x01 ? 0x20 : byte);
  await onTerminal("say=up", async (terminal) => {
    await terminal.until("up");
    const writing = terminal.write(paste);
    let n = 0;
    const end = performance.now() + 20_000;
    while (n < paste.length && performance.now() < end) {
      const piece = await terminal.read();
      const wrong = piece.findIndex((byte, i) => byte !== paste[n + i]);
      if (wrong >= 0) throw new Error(`byte ${n + wrong} came back as ${piece[wrong]}, not ${paste[n + wrong]}`);
      n += piece.length;
    }
    assertEquals(n, paste.length);
    await writing;
    await terminal.write(bytes("\x01x"));
  });
});

Deno.test("Ctrl-A x leaves a guest that has stopped listening, after more than its ring holds was typed", async () => {
  const { code } = await onTerminal("say=up deaf", async (terminal) => {
    await terminal.until("up");
    await terminal.write(noise(200_000).map((byte) => byte === 1 ? 2 : byte));
    await terminal.write(bytes("\x01x"));
  });
  assertEquals(code, 0);
});

Deno.test("--serial pty: the name is printed, clients come and go, early output is kept, and it is raw", () =>
  withFiles(async ({ kernel }) => {
    const args = ["run", "-q", "--kernel", kernel, "--append", "say=early button=poweroff", "--timeout", "20"];
    const child = start([...args, "--serial", "pty"], { allow: ["--allow-read", "--allow-write", "--allow-ffi"] });
    const reader = child.stderr.getReader();
    const line = new TextDecoder().decode((await reader.read()).value);
    const name = line.match(/^trike: COM1 is (\/dev\/\S+)\n$/)?.[1];
    if (name === undefined) throw new Error(`no name in ${line}`);
    const first = new TerminalClient(name);
    await first.until("early");
    await first.write(bytes("\x03\n\r\x04."));
    assertEquals(await first.until("."), "\x03\n\r\x04.");
    first.close();
    const second = new TerminalClient(name);
    await second.write(bytes("again"));
    await second.until("again");
    const paste = noise(100_000, 7);
    const writing = second.write(paste);
    let n = 0;
    await eventually(async () => {
      const piece = await second.read();
      assertEquals(piece.findIndex((byte, i) => byte !== paste[n + i]), -1);
      n += piece.length;
      assertEquals(n, paste.length);
    });
    await writing;
    second.close();
    child.kill("SIGTERM");
    assertEquals((await child.status).code, 0);
    await Promise.all([reader.cancel(), child.stdout.cancel(), child.stdin.close()]);
  }));

Deno.test("the size of the terminal is told at the start and at SIGWINCH, and not after close", async () => {
  const alive = setInterval(() => {}, 1 << 30); // waiting for a ring does not keep an event loop going
  let columns = 80;
  const sizes: number[][] = [];
  const streams: TerminalStreams = {
    input: { read: () => Promise.resolve(null), isTerminal: () => false, setRaw: () => {} },
    output: { write: (b) => Promise.resolve(b.length), isTerminal: () => true },
    size: () => ({ columns, rows: 24 }),
  };
  const events = { onLeave() {}, onLost() {}, onResize: (...size: number[]) => void sizes.push(size) };
  const terminal = new Terminal(events, streams);
  terminal.attach({ tx: ByteRing.private(), rx: ByteRing.private(), notifyInput() {} });
  assertEquals(sizes, [[80, 24]]);
  columns = 132;
  Deno.kill(Deno.pid, "SIGWINCH");
  await eventually(() => assertEquals(sizes, [[80, 24], [132, 24]]));
  columns = 0; // what a terminal of unknown size says
  Deno.kill(Deno.pid, "SIGWINCH");
  await new Promise((resolve) => setTimeout(resolve, 50));
  await terminal.close();
  clearInterval(alive);
  assertEquals(sizes.length, 2);
});

Deno.test("the machine's virtio console is told the terminal's size, and every new one", async () => {
  await onTerminal("say=up sizes", async (terminal, child) => {
    await terminal.until("<80x25>");
    await terminal.resize(132, 43);
    child.kill("SIGWINCH"); // no job of this terminal's session, so it is not told by the host
    await terminal.until("<132x43>");
    await terminal.write(bytes("\x01x"));
  }, (terminal) => terminal.resize(80, 25));
});

Deno.test("the mode is put back once by close, by abandon and by the unloading of the process, whichever is first", async () => {
  const alive = setInterval(() => {}, 1 << 30);
  for (const leave of ["close", "abandon", "unload"]) {
    const raws: boolean[] = [];
    const streams: TerminalStreams = {
      input: { read: () => new Promise(() => {}), isTerminal: () => true, setRaw: (raw) => void raws.push(raw) },
      output: { write: (b) => Promise.resolve(b.length), isTerminal: () => true },
      size: () => ({ columns: 80, rows: 24 }),
    };
    const terminal = new Terminal({ onLeave() {}, onLost() {} }, streams);
    terminal.attach({ tx: ByteRing.private(), rx: ByteRing.private(), notifyInput() {} });
    assertEquals([raws, terminal.raw], [[true], true]);
    if (leave === "unload") globalThis.dispatchEvent(new Event("unload"));
    else if (leave === "abandon") terminal.abandon();
    await terminal.close();
    globalThis.dispatchEvent(new Event("unload"));
    assertEquals([raws, terminal.raw], [[true, false], false], leave);
  }
  clearInterval(alive);
});
