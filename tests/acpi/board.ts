import type { BoardDescription } from "../../src/boot/acpi/board.ts";

/** A board with everything on it, for tests. */
export const BOARD: BoardDescription = {
  cpus: 3,
  localApicBase: 0xfee00000,
  ioApic: { id: 0, base: 0xfec00000, firstGsi: 0 },
  isaTimerGsi: 2,
  pm: {
    event: 0x600,
    control: 0x604,
    timer: 0x608,
    smiCommand: 0xb2,
    acpiEnable: 0xf1,
    acpiDisable: 0xf0,
    sci: 9,
    s5: 5,
  },
  reset: { port: 0xcf9, value: 6 },
  pci: {
    ecam: { base: 0xe0000000, buses: 256, claimed: 0x10000000 },
    memory32: [{ base: 0xc0000000, length: 0x20000000 }],
    memory64: [{ base: 0x8000000000, length: 0x1000000000 }],
    io: [{ base: 0, length: 0xcf8 }, { base: 0xd00, length: 0xf300 }],
    lpcDevice: 31,
    gsi: (device, pin) => 16 + (device + pin) % 8,
  },
  pic: { master: 0x20, slave: 0xa0, elcr: 0x4d0 },
  pit: { port: 0x40, irq: 0, speaker: 0x61 },
  rtc: { ports: { base: 0x70, length: 4 }, irq: 8, century: 0x32 },
  ps2: { data: 0x60, command: 0x64, keyboardIrq: 1, mouseIrq: 12 },
  serial: [{ port: 0x3f8, irq: 4 }, { port: 0x2f8, irq: 3 }],
  pvpanic: { port: 0x505 },
  vmGeneration: { base: 0x1_fedf_f000, gsi: 10 },
  reservedPorts: [{ base: 0x80, length: 1 }, { base: 0x92, length: 1 }],
};

/** The least a board can have. */
export const BARE: BoardDescription = {
  ...BOARD,
  cpus: 1,
  pci: { ...BOARD.pci, memory64: [] },
  pic: null,
  pit: null,
  rtc: null,
  ps2: null,
  serial: [],
  pvpanic: null,
  reservedPorts: [],
};
