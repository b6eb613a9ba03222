/** Memory that code runs in, and the way into it from the interpreter. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import * as C from "../../ffi/libc.ts";
import { HostError } from "../../src/base/errors.ts";
import { formNumber } from "../../src/cpu/x86/flag_forms.ts";
import type { CpuExports } from "../../src/cpu/x86/exports.ts";
import { STATUS } from "../../src/cpu/x86/ops.ts";
import { OP, S } from "../../src/cpu/x86/state.ts";
import { CodeArena, type MapCalls } from "../../src/engine/soft/native/code_arena.ts";
import { enterBy, openHandler } from "../../src/engine/soft/native/entry.ts";
import { CpuView } from "../../src/engine/soft/cpu_view.ts";
import { hex, ignore, le32 } from "./fixture.ts";

const CPU = 0x1000, RECORD = 0x8000, ARENA_BYTES = 1 << 20;
/** As where SELinux has its way: no mapping may be written and run. */
const NO_RWX: Partial<MapCalls> = {
  mmap: (at, bytes, rights, flags, fd, offset) =>
    (rights & 6) === 6
      ? C.openLibc().mmap(0n, 0n, 0, 0, -1, 0n)
      : C.openLibc().mmap(at, bytes, rights, flags, fd, offset),
};

function memoryOf() {
  return new WebAssembly.Memory({ initial: 4, maximum: 65536, shared: true });
}

Deno.test({
  name: "machine code laid in the arena is called once, with the state's address",
  ignore,
  fn() {
    const memory = memoryOf(), words = new Uint32Array(memory.buffer), arena = CodeArena.open(ARENA_BYTES);
    arena.add(hex("ff 07 31 c0 c3")); // inc dword [rdi]; xor eax, eax; ret
    const enter = enterBy(memory, CPU, arena.base);
    for (let n = 1; n <= 2000; n++) {
      enter();
      assertEquals(words[CPU / 4], n);
    }
    assertEquals(words.filter((w) => w !== 0).length, 1);
  },
});

Deno.test({
  name: "where memory that is both written and run is refused, two mappings of the same pages do",
  ignore,
  fn() {
    const memory = memoryOf(), words = new Uint32Array(memory.buffer);
    const arena = CodeArena.open(ARENA_BYTES, { ...C.openLibc(), ...NO_RWX });
    arena.add(hex("ff 07 31 c0 c3"));
    enterBy(memory, CPU, arena.base)();
    assertEquals(words[CPU / 4], 1);
  },
});

Deno.test({
  name: "a host that has no memory for code says which call it refused, and why",
  ignore,
  fn() {
    const none = { ...C.openLibc(), mmap: () => C.openLibc().mmap(0n, 0n, 0, 0, -1, 0n) };
    const error = assertThrows(() => CodeArena.open(ARENA_BYTES, none), HostError);
    assertEquals(
      error.message,
      "Cannot have memory for native code: mmap says EBADF, and EBADF to a memfd that is not writable; " +
        'leave ",native" out of --engine',
    );
  },
});

Deno.test({
  name: "an arena is forgotten but for what is kept",
  ignore,
  fn() {
    const arena = CodeArena.open(4096);
    arena.add(hex("90 90 c3"));
    arena.keep();
    assertEquals(arena.at, arena.base + 16n);
    arena.add(new Uint8Array(4000));
    assert(!arena.fits(128) && arena.fits(64));
    arena.forget();
    assertEquals([arena.usedBytes, arena.fits(4080), arena.fits(4081)], [16, true, false]);
  },
});

/** The handler of NATIVE records over code that does `body`; the flags that it has put. */
function handlerOver(body: string) {
  const memory = memoryOf(), cpu = new CpuView(memory.buffer, CPU), arena = CodeArena.open(ARENA_BYTES);
  // push r15; mov r15, rdi; call [r15 + nativeTarget]; xor eax, eax; pop r15; ret
  arena.add(hex(`41 57 49 89 ff 41 ff 97 ${le32(S.nativeTarget)} 31 c0 41 5f c3`));
  cpu.dv.setBigUint64(RECORD + OP.imm, arena.at, true);
  arena.add(hex(`${body} c3`));
  const flags: number[] = [];
  const exports = { settleNative: () => void flags.push(cpu.get("nativeForm")) } as unknown as CpuExports;
  const enter = enterBy(memory, CPU, arena.base);
  const handler = openHandler(memory, CPU, exports, enter);
  return { cpu, flags, run: () => handler(CPU, RECORD, 0n) };
}

/** mov dword [r15 + field], value */
const put = (field: keyof typeof S, value: number) => `41 c7 87 ${le32(S[field])} ${le32(value)}`;

Deno.test({
  name: "a NATIVE record takes nothing of the budget, and what its code has run counts as compiled",
  ignore,
  fn() {
    // sub dword [r15 + budget], 7
    const body = `41 83 af ${le32(S.budget)} 07 ${put("exitStatus", STATUS.JUMP)}`;
    const { cpu, flags, run } = handlerOver(body);
    cpu.put("budget", 99); // of 100, one for the record
    assertEquals([run(), cpu.get("budget")], [STATUS.JUMP, 93]);
    assertEquals([cpu.get64("tierRetired"), cpu.get64("regionsLeft", STATUS.JUMP)], [7n, 1n]);
    assertEquals(flags, []);
  },
});

Deno.test({
  name: "flags that native code leaves in a form are put in their place, once",
  ignore,
  fn() {
    const form = formNumber("SUB", 32);
    const { flags, run } = handlerOver(`${put("nativeForm", form)} ${put("exitStatus", STATUS.RESUME)}`);
    assertEquals(run(), STATUS.RESUME);
    assertEquals(flags, [form]);
  },
});

Deno.test({
  name: "flags that are in the state are left there",
  ignore,
  fn() {
    const { flags, run } = handlerOver(`${put("exitStatus", STATUS.RESUME)}`);
    assertEquals(run(), STATUS.RESUME);
    assertEquals(flags, []);
  },
});
