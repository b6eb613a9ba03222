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

/** [pcifw §5.1.1] An expansion ROM starts with this, then its length in units of 512 bytes. */
const OPTION_ROM_SIGNATURE = 0xaa55;
const MAX_OPTION_ROM_BYTES = 256 * 1024;

/** Reads an expansion ROM; what is given is a power of two long, as its BAR is. */
export function readOptionRom(name: Named): Uint8Array {
  const bytes = withFile(name, (file, sizeBytes) => {
    if (sizeBytes > MAX_OPTION_ROM_BYTES) throw cannotLoad(name, `${sizeBytes} bytes is too large for an option ROM`);
    const all = new Uint8Array(sizeBytes);
    readInto(name, file, all);
    return all;
  });
  if (bytes.length < 3 || (bytes[0]! | (bytes[1]! << 8)) !== OPTION_ROM_SIGNATURE) {
    throw cannotLoad(name, "it is not an option ROM: the first two bytes were expected to be 55h and AAh");
  }
  const padded = new Uint8Array(2 ** Math.ceil(Math.log2(Math.max(PAGE_BYTES, bytes.length))));
  padded.set(bytes);
  return padded;
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
