/** For tests: machine code in 64-bit mode on the software CPU, with handlers by vector. */
import { longMode, type SoftFixture, softFixture } from "./fixture.ts";

export const CODE = 0x10000, DATA = 0x20000, STACK = 0x30000;
const IDT = 0x6000, HANDLER = 0x11000, HANDLER_BYTES = 0x100, CODE_SELECTOR = 0x10;

/** Bytes as hexadecimal digits. */
export function put(f: SoftFixture, at: number, code: string): void {
  const bytes = Uint8Array.from(code.replaceAll(" ", "").match(/../g)!, (x) => parseInt(x, 16));
  f.ram.bytes(at, bytes.length)!.set(bytes);
  f.ram.wrote(at, bytes.length);
}

/** In 64-bit mode at the first of `lines`, with handlers for vectors. */
export function load(lines: readonly string[], handlers: Record<number, readonly string[]> = {}): SoftFixture {
  const f = softFixture();
  longMode(f, CODE, STACK);
  put(f, CODE, lines.join(""));
  let at = HANDLER;
  for (const [vector, code] of Object.entries(handlers)) {
    f.ram.write(IDT + 16 * Number(vector), 4, (CODE_SELECTOR << 16) | (at & 0xffff));
    f.ram.write(IDT + 16 * Number(vector) + 4, 4, (at & 0xffff_0000) | 0x8e00);
    put(f, at, code.join(""));
    at += HANDLER_BYTES;
  }
  f.vcpu.put64("idtrBase", IDT);
  f.vcpu.put("idtrLimit", 0xfff);
  return f;
}
/** A general register. */
export const reg = (f: SoftFixture, n: number) => f.vcpu.get64("gpr", n);
export const HLT = "f4";
