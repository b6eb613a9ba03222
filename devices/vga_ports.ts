/** The registers of a VGA-compatible display, behind its ports. See vga.ts. */
import type { Clock } from "../src/base/clock.ts";
import type { View } from "../src/base/record.ts";
import {
  ATTR_BIT,
  ATTR_COUNT,
  CRTC,
  CRTC_COUNT,
  CRTC_PROTECT,
  DAC_COLORS,
  DISPI,
  DISPI_ENABLE,
  DISPI_ID,
  DISPI_ID5,
  DISPI_MAX,
  DISPI_REGISTERS,
  GC_COUNT,
  MISC_COLOR,
  PORT,
  SEQ_COUNT,
  type VgaRecord,
} from "./vga_registers.ts";

/** Timing of the 70 Hz text mode: a frame of 449 lines, of which 400 are seen; a line of 31.8 µs, a fifth of it blank. */
const FRAME_NS = 14_268_000, LINES = 449, SEEN_LINES = 400, RETRACE_LINES = [412, 414] as const;
const LINE_NS = FRAME_NS / LINES, SEEN_OF_LINE = 0.8;
const STATUS1 = { DISPLAY_DISABLED: 1 << 0, VERTICAL_RETRACE: 1 << 3 } as const;
const STATUS0_SWITCH_SENSE = 1 << 4;
const DAC_STATE_READ = 3;
const BPPS = [8, 15, 16, 24, 32];

/** Bits of each register that can be written. */
const SEQ_MASK = [0x03, 0x3d, 0x0f, 0x3f, 0x0e, 0, 0, 0xff];
const GC_MASK = [0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff, 0, 0, 0, 0, 0, 0, 0];

export class VgaPorts {
  constructor(
    private readonly s: View<typeof VgaRecord>,
    private readonly clock: Clock,
    private readonly vram: Uint8Array,
  ) {}

  /** Of a port at 3Bxh or 3Dxh: its low digit if it answers now, or -1. */
  #crtcPort(port: number): number {
    const color = (this.s.misc & MISC_COLOR) !== 0;
    return (port & 0xff0) === (color ? 0x3d0 : 0x3b0) ? port & 0xf : -1;
  }

  read(port: number): number {
    const s = this.s;
    switch (port) {
      case PORT.ATTRIBUTE:
        return s.attributeIndex;
      case PORT.ATTRIBUTE_READ:
        return s.attribute[s.attributeIndex & 0x1f] ?? 0;
      case PORT.MISC_WRITE:
        return STATUS0_SWITCH_SENSE;
      case PORT.ENABLE:
        return s.enable;
      case PORT.SEQUENCER_INDEX:
        return s.sequencerIndex;
      case PORT.SEQUENCER_DATA:
        return s.sequencer[s.sequencerIndex]!;
      case PORT.PEL_MASK:
        return s.pelMask;
      case PORT.DAC_READ_INDEX:
        return s.dacReading ? DAC_STATE_READ : 0;
      case PORT.DAC_WRITE_INDEX:
        return Math.floor(s.dacWriteAt / 3);
      case PORT.DAC_DATA: {
        const value = s.dac[s.dacReadAt]!;
        s.dacReadAt = (s.dacReadAt + 1) % (3 * DAC_COLORS);
        return value;
      }
      case PORT.FEATURE_READ:
        return s.feature;
      case PORT.MISC_READ:
        return s.misc;
      case PORT.GRAPHICS_INDEX:
        return s.graphicsIndex;
      case PORT.GRAPHICS_DATA:
        return s.graphics[s.graphicsIndex]!;
    }
    switch (this.#crtcPort(port)) {
      case PORT.CRTC_INDEX:
        return s.crtcIndex;
      case PORT.CRTC_DATA:
        return s.crtc[s.crtcIndex] ?? 0xff;
      case PORT.STATUS1:
        s.attributeData = 0;
        return this.#status1();
    }
    return 0xff;
  }

  #status1(): number {
    const inFrame = this.clock.nowNs() % FRAME_NS;
    const line = Math.floor(inFrame / LINE_NS), inLine = (inFrame % LINE_NS) / LINE_NS;
    const retrace = line >= RETRACE_LINES[0] && line < RETRACE_LINES[1];
    return (line >= SEEN_LINES || inLine >= SEEN_OF_LINE ? STATUS1.DISPLAY_DISABLED : 0) |
      (retrace ? STATUS1.VERTICAL_RETRACE : 0);
  }

  write(port: number, value: number): void {
    const s = this.s;
    switch (port) {
      case PORT.ATTRIBUTE:
        if (s.attributeData === 0) s.attributeIndex = value & 0x3f;
        else this.#writeAttribute(value);
        s.attributeData ^= 1;
        return;
      case PORT.MISC_WRITE:
        s.misc = value;
        return;
      case PORT.ENABLE:
        s.enable = value & 1;
        return;
      case PORT.SEQUENCER_INDEX:
        s.sequencerIndex = value & (SEQ_COUNT - 1);
        return;
      case PORT.SEQUENCER_DATA:
        s.sequencer[s.sequencerIndex] = value & SEQ_MASK[s.sequencerIndex]!;
        return;
      case PORT.PEL_MASK:
        s.pelMask = value;
        return;
      case PORT.DAC_READ_INDEX:
        s.dacReadAt = value * 3;
        s.dacReading = 1;
        return;
      case PORT.DAC_WRITE_INDEX:
        s.dacWriteAt = value * 3;
        s.dacReading = 0;
        return;
      case PORT.DAC_DATA:
        s.dac[s.dacWriteAt] = value;
        s.dacWriteAt = (s.dacWriteAt + 1) % (3 * DAC_COLORS);
        return;
      case PORT.GRAPHICS_INDEX:
        s.graphicsIndex = value & (GC_COUNT - 1);
        return;
      case PORT.GRAPHICS_DATA:
        s.graphics[s.graphicsIndex] = value & GC_MASK[s.graphicsIndex]!;
        return;
    }
    switch (this.#crtcPort(port)) {
      case PORT.CRTC_INDEX:
        s.crtcIndex = value;
        return;
      case PORT.CRTC_DATA:
        this.#writeCrtc(value);
        return;
      case PORT.STATUS1:
        s.feature = value;
    }
  }

  #writeAttribute(value: number): void {
    const s = this.s, index = s.attributeIndex & 0x1f;
    // The palette is the display's, not the processor's, while PALETTE_SOURCE is set.
    if (index >= ATTR_COUNT || (index < 0x10 && s.attributeIndex & ATTR_BIT.PALETTE_SOURCE)) return;
    s.attribute[index] = index < 0x10 ? value & 0x3f : value;
  }

  #writeCrtc(value: number): void {
    const { crtc, crtcIndex: index } = this.s;
    if (index >= CRTC_COUNT) return;
    if (index <= CRTC.OVERFLOW && crtc[CRTC.V_RETRACE_END]! & CRTC_PROTECT) {
      if (index === CRTC.OVERFLOW) crtc[index] = (crtc[index]! & ~0x10) | (value & 0x10);
      return;
    }
    crtc[index] = value;
  }

  readDispi(index: number): number {
    const { dispi } = this.s;
    switch (index) {
      case DISPI.ID:
        return dispi[DISPI.ID] || DISPI_ID5;
      case DISPI.VIDEO_MEMORY_64K:
        return this.vram.length >>> 16;
      case DISPI.XRES:
      case DISPI.YRES:
      case DISPI.BPP:
        if (dispi[DISPI.ENABLE]! & DISPI_ENABLE.GETCAPS) {
          return index === DISPI.XRES ? DISPI_MAX.XRES : index === DISPI.YRES ? DISPI_MAX.YRES : DISPI_MAX.BPP;
        }
    }
    return index < DISPI_REGISTERS ? dispi[index]! : 0;
  }

  /** Registers hold only what can be shown: a value that cannot is ignored, or brought to the nearest that can. */
  writeDispi(index: number, value: number): void {
    const { dispi } = this.s;
    const bytesPerPixel = () => (dispi[DISPI.BPP]! + 7) >> 3;
    switch (index) {
      case DISPI.ID:
        if (value >= DISPI_ID && value <= DISPI_ID5) dispi[DISPI.ID] = value;
        return;
      case DISPI.XRES:
        if (value > 0 && value <= DISPI_MAX.XRES && (value & 7) === 0) dispi[index] = value;
        return;
      case DISPI.YRES:
        if (value > 0 && value <= DISPI_MAX.YRES) dispi[index] = value;
        return;
      case DISPI.BPP:
        if (BPPS.includes(value === 0 ? 8 : value)) dispi[index] = value === 0 ? 8 : value;
        return;
      case DISPI.ENABLE:
        this.#enable(value);
        return;
      case DISPI.BANK:
        dispi[index] = value & ((this.vram.length >>> 16) - 1);
        return;
      case DISPI.VIRT_WIDTH: {
        const width = Math.max(value, dispi[DISPI.XRES]!);
        this.#setVirtual(
          Math.min(width, Math.floor(this.vram.length / Math.max(1, dispi[DISPI.YRES]! * bytesPerPixel()))),
        );
        return;
      }
      case DISPI.X_OFFSET:
        dispi[index] = Math.min(value, Math.max(0, dispi[DISPI.VIRT_WIDTH]! - dispi[DISPI.XRES]!));
        return;
      case DISPI.Y_OFFSET:
        dispi[index] = Math.min(value, Math.max(0, dispi[DISPI.VIRT_HEIGHT]! - dispi[DISPI.YRES]!));
    }
  }

  #enable(value: number): void {
    const { dispi } = this.s;
    const was = dispi[DISPI.ENABLE]!;
    if (value & DISPI_ENABLE.ENABLED && !(was & DISPI_ENABLE.ENABLED)) {
      const bytes = dispi[DISPI.XRES]! * dispi[DISPI.YRES]! * ((dispi[DISPI.BPP]! + 7) >> 3);
      // Without a mode, or with one that does not fit, nothing is switched on.
      if (bytes === 0 || bytes > this.vram.length) value &= ~DISPI_ENABLE.ENABLED;
      else {
        this.#setVirtual(dispi[DISPI.XRES]!);
        dispi[DISPI.X_OFFSET] = dispi[DISPI.Y_OFFSET] = 0;
        if (!(value & DISPI_ENABLE.NOCLEARMEM)) this.vram.fill(0, 0, bytes);
      }
    }
    if (!(value & DISPI_ENABLE.ENABLED)) dispi[DISPI.BANK] = 0;
    dispi[DISPI.ENABLE] = value &
      (DISPI_ENABLE.ENABLED | DISPI_ENABLE.GETCAPS | DISPI_ENABLE.DAC_8BIT | DISPI_ENABLE.LFB |
        DISPI_ENABLE.NOCLEARMEM);
  }

  /** The virtual height is what video memory has room for. */
  #setVirtual(width: number): void {
    const { dispi } = this.s;
    const line = width * ((dispi[DISPI.BPP]! + 7) >> 3);
    dispi[DISPI.VIRT_WIDTH] = width;
    dispi[DISPI.VIRT_HEIGHT] = Math.min(0xffff, Math.floor(this.vram.length / Math.max(1, line)));
    dispi[DISPI.X_OFFSET] = Math.min(dispi[DISPI.X_OFFSET]!, Math.max(0, width - dispi[DISPI.XRES]!));
    dispi[DISPI.Y_OFFSET] = Math.min(
      dispi[DISPI.Y_OFFSET]!,
      Math.max(0, dispi[DISPI.VIRT_HEIGHT]! - dispi[DISPI.YRES]!),
    );
  }
}
