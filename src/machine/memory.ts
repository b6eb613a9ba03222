/**
 * The one shared memory of a machine, and what lies where in it.
 *
 * | from | what |
 * |---|---|
 * | 0 | nothing: a stray zero pointer hits no state |
 * | ARENA_BASE | records, timer slots, wait words, rings |
 * | VCPU_BASE + i × VCPU_STRIDE | engine state of vCPU i (soft: registers, TLBs) |
 * | CODE_BASE | decoded code of the software CPU, in equal parts for its vCPUs |
 * | RAM_BASE | guest RAM, guest-physical 0 upwards; then what is no RAM to the guest: ROM, video memory |
 */
import { HostError, messageOf } from "../base/errors.ts";

export const PAGE_BYTES = 4096;
export const WASM_PAGE_BYTES = 65536;
const MIB = 1 << 20;

export const ARENA_BASE = 64 * 1024;
export const ARENA_BYTES = 8 * MIB - ARENA_BASE;
export const VCPU_BASE = 8 * MIB;
export const VCPU_STRIDE = 1 * MIB;
export const MAX_VCPUS = 64;
export const CODE_BASE = VCPU_BASE + MAX_VCPUS * VCPU_STRIDE; // 72 MiB
export const CODE_BYTES = 440 * MIB;
/** 512 MiB: a multiple of 2 MiB, so that the host may use large pages. */
export const RAM_BASE = CODE_BASE + CODE_BYTES;

/** The most RAM a machine can have: guest-physical 3 GiB is where the PCI hole starts. */
export const MAX_RAM_BYTES = 3 * 1024 * MIB;

/** All that a 32-bit address reaches. */
const RESERVED_PAGES = 65536;

/**
 * Allocates the memory of a machine with `ramBytes` of guest RAM and what follows it. Nothing of it is resident until touched.
 *
 * Address space is reserved for the whole 4 GiB: generated code, which is compiled without checks of bounds, has nothing else
 * within its reach (docs/decisions/0008-no-bounds-checks.md).
 */
export function allocateMachineMemory(ramBytes: number, extraBytes = 0): WebAssembly.Memory {
  const initial = Math.ceil((RAM_BASE + ramBytes + extraBytes) / WASM_PAGE_BYTES);
  try {
    return new WebAssembly.Memory({ initial, maximum: RESERVED_PAGES, shared: true });
  } catch (error) {
    throw new HostError(`The host does not reserve 4 GiB of address space (see ulimit -v): ${messageOf(error)}`);
  }
}
