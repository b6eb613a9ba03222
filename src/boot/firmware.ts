/** Firmware images and the state a processor starts them in. */
import { ConfigError } from "../base/errors.ts";
import type { InitialState } from "../engine/engine.ts";
import { cannotLoad, type Named, readInto, withFile } from "./host_file.ts";

const PAGE_BYTES = 4096;
/** The reset vector's segment must be ROM; above 16 MiB the I/O APIC and the local APIC would be in the way. */
const MIN_ROM_BYTES = 64 * 1024, MAX_ROM_BYTES = 16 * 1024 * 1024;

/** Reads a ROM image whole: whole pages, within the limits. */
export function readRom(name: Named, limits = { min: MIN_ROM_BYTES, max: MAX_ROM_BYTES }): Uint8Array {
  return withFile(name, (file, sizeBytes) => {
    if (sizeBytes < limits.min || sizeBytes > limits.max || sizeBytes % PAGE_BYTES !== 0) {
      throw cannotLoad(
        name,
        `expected whole pages of 4 KiB, from ${limits.min} to ${limits.max} bytes, and found ${sizeBytes} bytes`,
      );
    }
    const bytes = new Uint8Array(sizeBytes);
    readInto(name, file, bytes);
    return bytes;
  });
}

/** Most RAM that leaves room for what firmware lays out below 4 GiB. */
export const MAX_FIRMWARE_RAM_BYTES = 0xb000_0000;

export function checkFirmwareMemory(memoryBytes: number): void {
  if (memoryBytes > MAX_FIRMWARE_RAM_BYTES) {
    throw new ConfigError(
      `--memory ${memoryBytes / 2 ** 20}M is too much with --firmware: expected at most ${
        MAX_FIRMWARE_RAM_BYTES / 2 ** 20
      }M`,
    );
  }
}

const CR0_RESET = 0x6000_0010; // CD, NW, ET
const CODE16 = 0x9b;

/** The reset vector, FFFFFFF0h, in real mode. Everything else is as a reset leaves it. [sdm3 §10.1.1, §10.1.4] */
export function resetVector(): InitialState {
  return {
    rip: 0xfff0,
    rflags: 2,
    cr0: CR0_RESET,
    cr3: 0,
    cr4: 0,
    efer: 0,
    gpr: {},
    segments: { cs: { selector: 0xf000, base: 0xffff_0000, limit: 0xffff, rights: CODE16 } },
    gdtr: { base: 0, limit: 0xffff },
    idtr: { base: 0, limit: 0xffff },
  };
}
