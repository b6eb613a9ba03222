/** The files that fill the memory after guest RAM, and what lies where in it. */
import { checkFirmwareMemory, readRom } from "../boot/firmware.ts";
import { readOptionRom } from "../boot/option_rom.ts";
import { PAGE_BYTES } from "./memory.ts";
import type { Pc, PcOptions } from "./pc.ts";
import type { MachineSpec } from "./spec.ts";
import { VRAM_BYTES } from "./video.ts";

export interface Roms {
  readonly extraBytes: number;
  readonly options: Pick<PcOptions, "extraBytes" | "firmware" | "vga" | "netRom">;
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
  const varsPath = spec.firmware?.vars ?? null;
  const vars = varsPath === null
    ? new Uint8Array()
    : readRom({ what: "firmware variables", path: varsPath }, { min: PAGE_BYTES, max: 2 ** 20 });
  const firmware = rom
    ? { romBytes: rom.length, romAt: place(rom.length), varsBytes: vars.length, varsAt: place(vars.length) }
    : null;
  const bios = spec.vga?.bios ? readOptionRom({ what: "video BIOS", path: spec.vga.bios }) : new Uint8Array();
  const vga = spec.vga ? { vramAt: place(VRAM_BYTES), romAt: place(bios.length), romBytes: bios.length } : null;
  const romPath = spec.net?.rom;
  const netRom = romPath === undefined ? null : readOptionRom({ what: "option ROM", path: romPath });
  const netRomInfo = netRom && { at: place(netRom.length), bytes: netRom.length };
  return {
    extraBytes: next,
    options: { extraBytes: next, firmware, vga, netRom: netRomInfo },
    load(pc) {
      if (rom) pc.firmware!.load(rom, vars);
      pc.video?.load(bios);
      if (netRom) pc.loadNetRom(netRom);
    },
  };
}
