import { assertEquals, assertStringIncludes } from "@std/assert";
import { Trike } from "../boot/guests.ts";
import { firmwareOrSkip } from "./images.ts";

const code = firmwareOrSkip("ovmf", "/usr/share/OVMF/OVMF_CODE_4M.fd");
const vars = firmwareOrSkip("ovmf", "/usr/share/OVMF/OVMF_VARS_4M.fd");

/** Starts the UEFI shell, has it do `commands`, and returns what the console said. */
async function shell(varsFile: string, commands: readonly string[]): Promise<string> {
  const machine = ["--memory", "128M", "--engine", "soft", "--timeout", "60"];
  await using trike = new Trike(["run", "--quiet", "--firmware", code.path, "--firmware-vars", varsFile, ...machine]);
  await trike.talk.until("seconds to skip", 40);
  await trike.talk.type("\x1b");
  let said = await trike.talk.until("Shell> ", 20);
  for (const command of commands) {
    await trike.talk.type(command + "\r");
    if (command !== "reset -s") said += await trike.talk.until("Shell> ", 20);
  }
  const { code: status, stdout, stderr } = await trike.end();
  assertEquals([status, stderr], [0, ""]);
  return said + stdout;
}

Deno.test({
  name: "OVMF: the UEFI shell on COM1, and a variable that outlives the machine in --firmware-vars",
  // About 8 s: nothing shorter runs all of a UEFI firmware.
  ignore: code.ignore || vars.ignore,
  fn: async () => {
    const dir = await Deno.makeTempDir();
    try {
      await Deno.copyFile(vars.path, `${dir}/vars.fd`);
      const said = await shell(`${dir}/vars.fd`, ["memmap", "set kept through-flash", "reset -s"]);
      assertStringIncludes(said, "Total Memory:            127 MB"); // what OVMF leaves of 128
      const [before, after] = await Promise.all([vars.path, `${dir}/vars.fd`].map((path) => Deno.readFile(path)));
      assertEquals(after!.length, before!.length);
      // UEFI names variables and keeps the shell's in UTF-16.
      const text = new TextDecoder("utf-16le").decode(after);
      assertEquals([text.includes("kept\0"), text.includes("through-flash")], [true, true]);
    } finally {
      await Deno.remove(dir, { recursive: true });
    }
  },
});
