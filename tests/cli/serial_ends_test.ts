/** `--serial tty:` and `pty:LINK`, `--pid-file`: what trike leaves on the host while it runs, and after. */
import { assert, assertEquals } from "@std/assert";
import { TerminalClient, TestTerminal } from "./pty.ts";
import { decode, eventually, start, trike, withFiles } from "./trike.ts";

const allow = ["--allow-read", "--allow-write", "--allow-ffi"];
const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

Deno.test("--serial tty: bytes go both ways unchanged, and the terminal's mode is put back", () =>
  withFiles(async ({ dir, kernel }) => {
    const terminal = TestTerminal.open();
    try {
      const before = terminal.mode();
      const args = ["run", "-q", "--kernel", kernel, "--append", "say=up\\r\\n"];
      const child = start([...args, "--serial", `tty:${terminal.name}`], { allow });
      await terminal.until("up\r\n");
      await terminal.write(new TextEncoder().encode("\x03\x04a\r\x01x"));
      await terminal.until("\x03\x04a\r\x01x");
      assert(text(before) !== text(terminal.mode()), "it was raw");
      child.kill("SIGHUP");
      await child.stdin.close();
      const { code, stderr } = decode(await child.output());
      assertEquals([code, stderr], [129, ""]);
      assertEquals(terminal.mode(), before);
    } finally {
      terminal.close();
    }
    await Deno.writeTextFile(`${dir}/plain`, "");
    const run = (path: string) => trike(["run", "-q", "--kernel", kernel, "--serial", `tty:${path}`], { allow });
    const [gone, plain, null_] = await Promise.all([run(`${dir}/gone`), run(`${dir}/plain`), run("/dev/null")]);
    assertEquals([gone.code, plain.code, null_.code], [2, 2, 2]);
    for (const { stderr } of [gone, plain, null_]) {
      assert(/^trike: --serial .*expected a terminal/.test(stderr), stderr);
    }
  }));

Deno.test("--serial pty:LINK leads to the terminal while the machine runs; --pid-file names the process", () =>
  withFiles(async ({ dir, kernel }) => {
    const link = `${dir}/tty`, pid = `${dir}/pid`;
    await Deno.symlink("/dev/pts/gone", link); // left behind by a run that was killed
    const args = ["run", "-q", "--kernel", kernel, "--append", "echo", "--serial", `pty:${link}`, "--pid-file", pid];
    const child = start(args, { allow });
    const client = await eventually(() => new TerminalClient(link));
    try {
      await client.write(new TextEncoder().encode("hello"));
      await client.until("hello");
    } finally {
      client.close();
    }
    assertEquals(await Deno.readTextFile(pid), `${child.pid}\n`);
    child.kill("SIGHUP");
    await child.stdin.close();
    assertEquals(decode(await child.output()).code, 129);
    const left = Array.from(Deno.readDirSync(dir), ({ name }) => name).sort();
    assertEquals(left, ["vmlinuz"]);
    // A file of somebody's is not taken for a link of ours.
    await Deno.writeTextFile(link, "precious");
    const refused = await trike(args, { allow });
    assertEquals([refused.code, await Deno.readTextFile(link)], [2, "precious"]);
    assert(refused.stderr.includes("--serial") && refused.stderr.includes("symbolic link"), refused.stderr);
  }));
