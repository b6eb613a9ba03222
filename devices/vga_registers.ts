/**
 * What a VGA-compatible display consists of: its ports, the registers behind them, its record.
 *
 * Spec: [vga §2] the registers by port and index; [bochs-vbe] the DISPI registers; [stdvga] PCI identity and the MMIO BAR.
 */
import { record } from "../src/base/record.ts";

/** Legacy ports, from 3B0h. What is at 3Bxh answers there in monochrome modes, else at 3Dxh. */
export const VGA_PORT = { BASE: 0x3b0, BYTES: 0x30 } as const;
export const PORT = {
  ATTRIBUTE: 0x3c0,
  ATTRIBUTE_READ: 0x3c1,
  MISC_WRITE: 0x3c2, // reads as input status 0
  ENABLE: 0x3c3,
  SEQUENCER_INDEX: 0x3c4,
  SEQUENCER_DATA: 0x3c5,
  PEL_MASK: 0x3c6,
  DAC_READ_INDEX: 0x3c7, // reads as the DAC's state
  DAC_WRITE_INDEX: 0x3c8,
  DAC_DATA: 0x3c9,
  FEATURE_READ: 0x3ca,
  MISC_READ: 0x3cc,
  GRAPHICS_INDEX: 0x3ce,
  GRAPHICS_DATA: 0x3cf,
  /** From 3B0h or 3D0h. */
  CRTC_INDEX: 4,
  CRTC_DATA: 5,
  STATUS1: 0xa, // written: feature control
} as const;

/** DISPI: an index and a data register of 16 bits each, one port apart. */
export const DISPI_PORT = 0x1ce;
export const DISPI_PORT_BYTES = 3;
export const DISPI = {
  ID: 0,
  XRES: 1,
  YRES: 2,
  BPP: 3,
  ENABLE: 4,
  BANK: 5,
  VIRT_WIDTH: 6,
  VIRT_HEIGHT: 7,
  X_OFFSET: 8,
  Y_OFFSET: 9,
  VIDEO_MEMORY_64K: 10,
} as const;
export const DISPI_REGISTERS = 11;
export const DISPI_ENABLE = {
  ENABLED: 1 << 0,
  GETCAPS: 1 << 1,
  DAC_8BIT: 1 << 5,
  LFB: 1 << 6,
  NOCLEARMEM: 1 << 7,
} as const;
export const DISPI_ID = 0xb0c0;
/** The newest interface. */
export const DISPI_ID5 = 0xb0c5;
export const DISPI_MAX = { XRES: 2560, YRES: 1600, BPP: 32 } as const;

export const SEQ = { RESET: 0, CLOCKING_MODE: 1, MAP_MASK: 2, CHARACTER_MAP: 3, MEMORY_MODE: 4 } as const;
export const SEQ_COUNT = 8;
export const SEQ_BIT = { DOT8: 1 << 0, DOT_CLOCK_HALF: 1 << 3, SCREEN_OFF: 1 << 5, CHAIN4: 1 << 3 } as const;

export const GC = {
  SET_RESET: 0,
  ENABLE_SET_RESET: 1,
  COLOR_COMPARE: 2,
  DATA_ROTATE: 3,
  READ_MAP: 4,
  MODE: 5,
  MISC: 6,
  COLOR_DONT_CARE: 7,
  BIT_MASK: 8,
} as const;
export const GC_COUNT = 16;
export const GC_BIT = {
  WRITE_MODE: 3, // in MODE
  READ_MODE: 1 << 3,
  ODD_EVEN: 1 << 4,
  SHIFT_INTERLEAVED: 1 << 5,
  SHIFT_256: 1 << 6,
  GRAPHICS: 1 << 0, // in MISC
} as const;

export const CRTC = {
  H_DISPLAY_END: 0x01,
  OVERFLOW: 0x07,
  PRESET_ROW_SCAN: 0x08,
  MAX_SCAN_LINE: 0x09,
  CURSOR_START: 0x0a,
  CURSOR_END: 0x0b,
  START_HIGH: 0x0c,
  START_LOW: 0x0d,
  CURSOR_HIGH: 0x0e,
  CURSOR_LOW: 0x0f,
  V_RETRACE_END: 0x11,
  V_DISPLAY_END: 0x12,
  OFFSET: 0x13,
  MODE_CONTROL: 0x17,
  LINE_COMPARE: 0x18,
} as const;
export const CRTC_COUNT = 0x19;
/** V_RETRACE_END bit 7: registers 0 to 7 are write-protected, but for bit 4 of OVERFLOW. */
export const CRTC_PROTECT = 1 << 7;
export const CURSOR_OFF = 1 << 5; // in CURSOR_START

export const ATTR = {
  MODE_CONTROL: 0x10,
  OVERSCAN: 0x11,
  PLANE_ENABLE: 0x12,
  PANNING: 0x13,
  COLOR_SELECT: 0x14,
} as const;
export const ATTR_COUNT = 0x15;
export const ATTR_BIT = {
  PALETTE_SOURCE: 1 << 5, // in the index
  LINE_GRAPHICS: 1 << 2, // in MODE_CONTROL
  BLINK: 1 << 3,
  COLOR_8BIT: 1 << 6,
  P54_SELECT: 1 << 7,
} as const;

export const MISC_COLOR = 1 << 0; // in the miscellaneous output register
export const DAC_COLORS = 256;

/** The PCI function: a linear framebuffer, and registers in memory. */
export const VGA_PCI = {
  VENDOR: 0x1234,
  DEVICE: 0x1111,
  CLASS: 0x030000,
  FRAMEBUFFER_BAR: 0,
  REGISTERS_BAR: 2,
  REGISTERS_BYTES: 4096,
} as const;
/** Offsets in the register BAR. */
export const VGA_MMIO = { PORTS: 0x400, PORTS_END: 0x420, DISPI: 0x500, DISPI_END: 0x516, EXTENDED: 0x600 } as const;

export const VgaRecord = record("vga", 1, {
  misc: "u8",
  enable: "u8",
  feature: "u8",
  sequencerIndex: { type: "u8", max: SEQ_COUNT - 1 },
  sequencer: { array: "u8", length: SEQ_COUNT },
  graphicsIndex: { type: "u8", max: GC_COUNT - 1 },
  graphics: { array: "u8", length: GC_COUNT },
  crtcIndex: "u8",
  crtc: { array: "u8", length: CRTC_COUNT },
  /** With PALETTE_SOURCE. */
  attributeIndex: { type: "u8", max: 0x3f },
  /** The next write to the attribute port is data. */
  attributeData: { type: "u8", max: 1 },
  attribute: { array: "u8", length: ATTR_COUNT },
  pelMask: { type: "u8", reset: 0xff },
  /** Red, green, blue, as written. */
  dac: { array: "u8", length: DAC_COLORS * 3 },
  dacReadAt: { type: "u16", max: DAC_COLORS * 3 - 1 },
  dacWriteAt: { type: "u16", max: DAC_COLORS * 3 - 1 },
  /** The index register last written was that for reading. */
  dacReading: { type: "u8", max: 1 },
  /** A byte of each plane, as the last read found them. */
  latch: { array: "u8", length: 4 },
  dispiIndex: "u16",
  dispi: { array: "u16", length: DISPI_REGISTERS },
});
