/**
 * Giving pages of the machine's memory back to the host.
 *
 * A shared WebAssembly.Memory is private anonymous memory of the process, so madvise(MADV_DONTNEED) takes its pages away at
 * once, whoever's they are. No call of Deno's or of WebAssembly's does that: without FFI the pages stay.
 */
import { MADV_DONTNEED, openMadvise } from "../../ffi/madvise.ts";
import type { GuestRam } from "../base/ram.ts";

/** Whether memory can be given back here; if not, why. */
export function whyNotReturned(): string | null {
  if (Deno.build.os !== "linux") return `on ${Deno.build.os}`;
  return Deno.permissions.querySync({ name: "ffi" }).state === "granted" ? null : "without --allow-ffi";
}

/** Gives RAM back; a function that does nothing where that cannot be. Both numbers are multiples of the page size. */
export function openReturn(memory: WebAssembly.Memory, ram: GuestRam): (gpa: number, sizeBytes: number) => void {
  if (whyNotReturned() !== null) return () => {};
  const { madvise } = openMadvise();
  // SAFETY: the pointer is of the machine's memory, which never grows or moves and lives as long as `ram`, which this keeps;
  // every range is inside RAM, where nothing of ours is.
  const base = Deno.UnsafePointer.value(Deno.UnsafePointer.of(new Uint8Array(memory.buffer, ram.base)));
  return (gpa, sizeBytes) => {
    if (!ram.contains(gpa, sizeBytes)) return;
    // Refused, the pages stay as they are, which a guest that gave them away cannot tell.
    if (madvise(base + BigInt(gpa), BigInt(sizeBytes), MADV_DONTNEED) === 0) ram.wrote(gpa, sizeBytes);
  };
}
