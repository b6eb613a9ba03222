import { assert, assertEquals } from "@std/assert";
import { DARWIN_SYMBOLS } from "../../ffi/darwin.ts";
import { HYPERVISOR_SYMBOLS } from "../../ffi/hypervisor_x86_64.ts";
import { sysvHash } from "./elf.ts";
import { libraryPath } from "./rig.ts";

/** What a tool of binutils says of the library, or null, with a word, if it is not installed. */
async function tool(name: string, ...args: string[]): Promise<string | null> {
  try {
    const { code, stdout, stderr } = await new Deno.Command(name, { args, env: { LC_ALL: "C" } }).output();
    const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
    assertEquals([code, text(stderr)], [0, ""], `${name} ${args.join(" ")}`);
    return text(stdout);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    console.log(`skipped: ${name} is not installed`);
    return null;
  }
}

Deno.test("the hash of symbol names is the gABI's", () => {
  // The examples are those that every description of the format gives: known names and their hashes.
  assertEquals(sysvHash(""), 0);
  assertEquals(sysvHash("printf"), 0x077905a6);
  assertEquals(sysvHash("exit"), 0x0006cf04);
});

Deno.test("readelf finds nothing wrong with the library, and its segments as they are meant", async () => {
  const all = await tool("readelf", "--all", "--wide", libraryPath());
  if (all === null) return;
  assert(!/Warning|Error|<corrupt>|bad/i.test(all.replace(/rror_|_error/g, "")), all);
  assert(/Type:\s+DYN/.test(all) && /Machine:\s+Advanced Micro Devices X86-64/.test(all));
  assert(/LOAD .* R E 0x1000/.test(all) && /LOAD .* RW\s+0x1000/.test(all), all);
  assert(/GNU_STACK .* RW /.test(all), "the stack would be executable");
});

Deno.test("nm finds every function of the bindings in the library", async () => {
  const names = await tool("nm", "--dynamic", "--defined-only", libraryPath());
  if (names === null) return;
  const found = new Set(names.split("\n").filter((line) => / T /.test(line)).map((line) => line.split(" ")[2]));
  for (const name of [...Object.keys(HYPERVISOR_SYMBOLS), ...Object.keys(DARWIN_SYMBOLS)]) {
    assert(found.has(name), name);
  }
});

Deno.test("objdump reads the code of a stub as it is meant", async () => {
  const code = await tool("objdump", "--disassemble", "--no-show-raw-insn", "-M", "intel", libraryPath());
  if (code === null) return;
  assert(!/\(bad\)/.test(code), code);
  const lines = code.split("\n").map((line) => line.split("\t").slice(1).join(" ").replace(/\s+/g, " ").trim());
  const third = Object.keys(HYPERVISOR_SYMBOLS)[2]!, at = code.split("\n").findIndex((l) => l.includes(`<${third}>:`));
  assertEquals(lines[at + 1], "mov r11d,0x2");
  assert(lines[at + 2]!.startsWith("jmp "));
  assert(lines.includes("mov r10,QWORD PTR fs:0x0") && lines.includes("jmp QWORD PTR [rax+r11*8]"), code);
});
