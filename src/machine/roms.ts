/** The files that fill the memory after guest RAM, and what lies where in it. */
import { checkFirmwareMemory, readRom } from "../boot/firmware.ts";
import { PAGE_BYTES } from "./memory.ts";
import type { Pc, PcOptions } from "./pc.ts";
import type { MachineSpec } from "./spec.ts";

export interface Roms {
  readonly extraBytes: number;
  readonly options: Pick<PcOptions, "extraBytes" | "firmware">;
  /** Puts them into the machine's memory. */
  load(pc: Pc): void;
}

/** Reads the files. Throws ConfigError for what is wrong with them. */
export function readRoms(spec: MachineSpec): Roms {
  let next = 0;
  const place = (sizeBytes: number) => {
    const at = next;
    next += Math.ceil(sizeBytes / PAGE_BYTES) * PAGE_BYTES;
    return at;
  };
  if (spec.firmware) checkFirmwareMemory(spec.memoryBytes);
  const rom = spec.firmware ? readRom({ what: "firmware", path: spec.firmware.path }) : null;
  const firmware = rom ? { romBytes: rom.length, romAt: place(rom.length) } : null;
  return {
    extraBytes: next,
    options: { extraBytes: next, firmware },
    load(pc) {
      if (rom) pc.firmware!.load(rom);
    },
  };
}
