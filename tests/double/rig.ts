/** For tests of the double: the library in a folder of its own, attached to this thread, and calls that check. */
import { HV } from "./double.ts";
import { attachDouble, type Quirks, setQuirks, writeDouble } from "./double.ts";
import { DARWIN_SYMBOLS } from "../../ffi/darwin.ts";
import { HYPERVISOR_SYMBOLS } from "../../ffi/hypervisor_x86_64.ts";

export type Hv = Deno.DynamicLibrary<typeof HYPERVISOR_SYMBOLS & typeof DARWIN_SYMBOLS>["symbols"];

let path: string | undefined;
/** One library for all tests of the process, as the state behind it is one. */
export function libraryPath(): string {
  return path ??= writeDouble(Deno.makeTempDirSync({ prefix: "double-" }));
}

let opened: Hv | undefined;
/** The functions, on this thread; `quirks` as setQuirks has them. */
export function openRig(quirks: Partial<Quirks> = {}): Hv {
  if (!opened) {
    attachDouble(libraryPath());
    opened = Deno.dlopen(libraryPath(), { ...HYPERVISOR_SYMBOLS, ...DARWIN_SYMBOLS }).symbols;
  }
  setQuirks(quirks);
  return opened;
}

const NAMES = Object.fromEntries(Object.entries(HV).map(([name, code]) => [code, name]));
/** The name of a return code. */
export const said = (code: number): string => NAMES[code] ?? code.toString(16);
export function ok(code: number): void {
  if (code !== HV.SUCCESS) throw new Error(`HV_${said(code)}`);
}

/** Host memory that starts on a page, and its address. */
export function hostMemory(bytes: number): { u8: Uint8Array; dv: DataView; pointer: Deno.PointerObject } {
  const memory = new WebAssembly.Memory({
    initial: Math.ceil(bytes / 65536),
    maximum: Math.ceil(bytes / 65536),
    shared: true,
  });
  const u8 = new Uint8Array(memory.buffer as unknown as ArrayBuffer);
  return { u8, dv: new DataView(memory.buffer), pointer: Deno.UnsafePointer.of(u8)! };
}
