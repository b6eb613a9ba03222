/** For tests: machine code in hexadecimal, and why it cannot run here. */
import { nativeRefusal } from "../../src/engine/soft/native/available.ts";

const refusal = nativeRefusal();
/** Of Deno.test. */
export const ignore = refusal !== null;
if (refusal) console.log(`skipped: native code: ${refusal.why}`);

export function hex(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(text.trim().split(/\s+/), (byte) => parseInt(byte, 16));
}

/** A 32-bit number as it stands in memory. */
export function le32(value: number): string {
  return [0, 8, 16, 24].map((n) => ((value >>> n) & 0xff).toString(16)).join(" ");
}
