/**
 * How the interpreter enters native code: the handler of NATIVE records, and the call itself.
 *
 * A NATIVE record holds a host address (8 bytes at OP.imm). Native code finds the instructions it may still run in S.budget and
 * leaves them there; its status flags come back in a form (flag_forms.ts) and are put in their place here.
 */
import { openTrampoline } from "../../../../ffi/machine_code.ts";
import type { CpuExports } from "../../../cpu/x86/exports.ts";
import { OP, S } from "../../../cpu/x86/state.ts";
import { Module } from "../../../wasm/module.ts";
import type { Type } from "../../../wasm/value.ts";

const HANDLER: readonly Type[] = ["i32", "i32", "i64"];

/** Host address of byte `at` of a machine's memory. */
export function hostAddress(memory: WebAssembly.Memory, at: number): bigint {
  // SAFETY: a shared WebAssembly.Memory is never moved, and whoever has this address has the memory.
  const bytes = new Uint8Array(memory.buffer as unknown as ArrayBuffer, at, 1);
  return BigInt(Deno.UnsafePointer.value(Deno.UnsafePointer.of(bytes)));
}

/** Calls the machine code at `thunk` with the host address of byte `at` of the memory, as C calls a function. */
export function enterBy(memory: WebAssembly.Memory, at: number, thunk: bigint): () => void {
  const { bsearch } = openTrampoline();
  const state = Deno.UnsafePointer.create(hostAddress(memory, at)), code = Deno.UnsafePointer.create(thunk);
  // SAFETY: what the pointers lead to lasts as long as this function: the vCPU has the memory, and code is never unmapped.
  return () => bsearch(state, state, 1, 0, code);
}

/** The handler of NATIVE records of the vCPU whose state is at `cpu`: a module with one function, "handler". */
export function handlerModule(cpu: number, pages: number): Uint8Array<ArrayBuffer> {
  const m = new Module();
  m.importMemory("env", "memory", pages, 65536);
  const enter = m.importFunc("env", "enter", [], []);
  const settle = m.importFunc("env", "settleNative", [], []);
  m.export(m.func("handler", HANDLER, ["i32"], (c) => {
    // The interpreter has counted the record, which is no instruction.
    const budget = c.let(c.ld32(cpu, S.budget).add(1));
    c.st32(cpu, budget, S.budget);
    c.st64(cpu, c.ld64(c.param(1), OP.imm), S.nativeTarget);
    c.call(enter);
    c.if(c.ld32(cpu, S.nativeForm), () => {
      c.call(settle);
    });
    const ran = budget.sub(c.ld32(cpu, S.budget)).sx();
    c.st64(cpu, c.ld64(cpu, S.tierRetired).add(ran), S.tierRetired);
    const status = c.ld32(cpu, S.exitStatus), slot = c.let(status.shl(3));
    c.st64(slot, c.ld64(slot, cpu + S.regionsLeft).add(1), cpu + S.regionsLeft);
    c.return(status);
  }));
  return m.bytes(false);
}

/** That handler, over the interpreter it belongs to. */
export function openHandler(
  memory: WebAssembly.Memory,
  cpu: number,
  exports: CpuExports,
  enter: () => void,
): (cpu: number, op: number, ea: bigint) => number {
  const module = new WebAssembly.Module(handlerModule(cpu, Math.floor(memory.buffer.byteLength / 65536)));
  const { settleNative } = exports as unknown as Record<string, WebAssembly.ExportValue>;
  return new WebAssembly.Instance(module, { env: { memory, enter, settleNative: settleNative! } }).exports
    .handler as never;
}
