/**
 * What a VGA-compatible display shows: from its registers and its memory to pixels, or to the text on it.
 *
 * Spec: [vga §2.6] how the CRT controller, the attribute controller and the DAC make pixels of memory; [bochs-vbe].
 * Shown: text modes with their fonts, cursor and blinking; planar modes of 16 colours; chained and unchained modes of 256; the
 * two bits a pixel of CGA; DISPI modes of 8 to 32 bits. Start address, line compare and panning of whole pixels count.
 * Not shown: the border, smooth panning, underlining.
 *
 * Reads a record that the guest changes meanwhile and a snapshot may have filled with anything: nothing here trusts a value.
 */
import type { View } from "../src/base/record.ts";
import {
  ATTR,
  ATTR_BIT,
  CRTC,
  CURSOR_OFF,
  DISPI,
  DISPI_ENABLE,
  GC,
  GC_BIT,
  SEQ,
  SEQ_BIT,
  type VgaRecord,
} from "./vga_registers.ts";

/** The largest picture, in each direction. */
export const MAX_PIXELS = 2560;
const BLANK = { width: 640, height: 400 } as const;

export interface ScreenSize {
  readonly width: number;
  readonly height: number;
}

export interface BlinkState {
  readonly cursor: boolean;
  readonly text: boolean;
}

/** Shown twice a second, the text of blinking cells half as often. */
export function blinkAt(ms: number): BlinkState {
  return { cursor: ms % 500 < 250, text: ms % 1000 < 500 };
}

type Kind = "blank" | "dispi" | "text" | "planar" | "cga" | "bytes";

export class VgaDisplay {
  readonly #palette = new Uint32Array(256);

  constructor(private readonly s: View<typeof VgaRecord>, private readonly vram: Uint8Array) {}

  get #kind(): Kind {
    const { dispi, graphics, attributeIndex, sequencer } = this.s;
    if (dispi[DISPI.ENABLE]! & DISPI_ENABLE.ENABLED) return "dispi";
    const off = sequencer[SEQ.CLOCKING_MODE]! & SEQ_BIT.SCREEN_OFF;
    if (off || !(attributeIndex & ATTR_BIT.PALETTE_SOURCE) || sequencer[SEQ.RESET] !== 3) return "blank";
    if (!(graphics[GC.MISC]! & GC_BIT.GRAPHICS)) return "text";
    if (graphics[GC.MODE]! & GC_BIT.SHIFT_256) return "bytes";
    return graphics[GC.MODE]! & GC_BIT.SHIFT_INTERLEAVED ? "cga" : "planar";
  }

  get size(): ScreenSize {
    const { dispi } = this.s;
    switch (this.#kind) {
      case "blank":
        return BLANK;
      case "dispi":
        return bounded(dispi[DISPI.XRES]!, dispi[DISPI.YRES]!);
      case "text":
        return bounded(this.#columns * this.#dots, this.#lines);
      case "bytes":
        return bounded(this.#columns * 4, Math.ceil(this.#lines / this.#repeat));
      default:
        return bounded(this.#columns * 8, Math.ceil(this.#lines / this.#repeat));
    }
  }

  /** Fills `out` with pixels of 00RRGGBBh, row by row; it holds as many as `size`, asked just before, says. */
  render(out: Uint32Array, size: ScreenSize, blink: BlinkState): void {
    const kind = this.#kind;
    if (kind === "blank") return void out.fill(0);
    this.#fillPalette();
    if (kind === "dispi") this.#renderDispi(out, size);
    else if (kind === "text") this.#renderText(out, size, blink);
    else if (kind === "bytes") this.#renderBytes(out, size);
    else this.#renderPlanes(out, size, kind === "cga");
  }

  /** The characters on the screen, a string a row, or null in a graphics mode. Codes are those of the cells. */
  textCells(): { readonly columns: number; readonly rows: number; readonly codes: Uint8Array } | null {
    if (this.#kind !== "text") return null;
    const columns = this.#columns, rows = Math.floor(this.#lines / this.#cellHeight);
    const codes = new Uint8Array(columns * rows);
    for (let y = 0; y < rows; y++) {
      for (let x = 0; x < columns; x++) codes[y * columns + x] = this.#byte((this.#start + y * this.#pitch + x) * 4);
    }
    return { columns, rows, codes };
  }

  #byte(at: number): number {
    return this.vram[at & (this.vram.length - 1)]!;
  }

  get #columns(): number {
    return this.s.crtc[CRTC.H_DISPLAY_END]! + 1;
  }
  get #dots(): number {
    const clocking = this.s.sequencer[SEQ.CLOCKING_MODE]!;
    return clocking & SEQ_BIT.DOT8 ? 8 : 9;
  }
  /** Scan lines that are seen: ten bits, two of them in OVERFLOW. */
  get #lines(): number {
    const { crtc } = this.s, overflow = crtc[CRTC.OVERFLOW]!;
    return (crtc[CRTC.V_DISPLAY_END]! | ((overflow >> 1) & 1) << 8 | ((overflow >> 6) & 1) << 9) + 1;
  }
  /** The scan line at which the start address begins anew at 0. */
  get #lineCompare(): number {
    const { crtc } = this.s;
    return crtc[CRTC.LINE_COMPARE]! | ((crtc[CRTC.OVERFLOW]! >> 4) & 1) << 8 |
      ((crtc[CRTC.MAX_SCAN_LINE]! >> 6) & 1) << 9;
  }
  get #cellHeight(): number {
    return (this.s.crtc[CRTC.MAX_SCAN_LINE]! & 0x1f) + 1;
  }
  /** How often a row of pixels is shown. */
  get #repeat(): number {
    return (this.#interlaced ? 1 : this.#cellHeight) * (this.s.crtc[CRTC.MAX_SCAN_LINE]! & 0x80 ? 2 : 1);
  }
  /** The CRT controller takes an address bit from the row counter: CGA's two halves of a picture. */
  get #interlaced(): boolean {
    return !(this.s.crtc[CRTC.MODE_CONTROL]! & 1) && (this.s.graphics[GC.MISC]! & GC_BIT.GRAPHICS) !== 0;
  }
  get #start(): number {
    const { crtc } = this.s;
    return (crtc[CRTC.START_HIGH]! << 8) | crtc[CRTC.START_LOW]!;
  }
  /** Addresses from one row to the next. */
  get #pitch(): number {
    return this.s.crtc[CRTC.OFFSET]! * 2;
  }

  /** The DAC's colours as they appear. Its registers have six bits a channel, unless DISPI asks for eight. */
  #fillPalette(): void {
    const { dac, dispi, pelMask } = this.s;
    const wide = (dispi[DISPI.ENABLE]! & DISPI_ENABLE.DAC_8BIT) !== 0;
    const channel = (v: number) => wide ? v : ((v & 0x3f) << 2) | ((v & 0x3f) >> 4);
    for (let i = 0; i < 256; i++) {
      const at = (i & pelMask) * 3;
      this.#palette[i] = (channel(dac[at]!) << 16) | (channel(dac[at + 1]!) << 8) | channel(dac[at + 2]!);
    }
  }

  /** The colour of attribute `a`, by way of the attribute controller's palette. */
  #color(a: number): number {
    const { attribute } = this.s;
    const select = attribute[ATTR.COLOR_SELECT]!, mode = attribute[ATTR.MODE_CONTROL]!;
    let index = attribute[a & attribute[ATTR.PLANE_ENABLE]! & 0xf]! & 0x3f;
    if (mode & ATTR_BIT.P54_SELECT) index = (index & 0x0f) | ((select & 3) << 4);
    return this.#palette[index | ((select & 0xc) << 4)]!;
  }

  #renderText(out: Uint32Array, { width, height }: ScreenSize, blink: BlinkState): void {
    const { attribute, crtc, sequencer } = this.s;
    const columns = this.#columns, dots = this.#dots, cellHeight = this.#cellHeight, pitch = this.#pitch;
    const mode = attribute[ATTR.MODE_CONTROL]!;
    const colors = Uint32Array.from({ length: 16 }, (_, i) => this.#color(i));
    // Two fonts of the eight in plane 2; attribute bit 3 chooses, if they differ. [vga §2.4.1]
    const map = sequencer[SEQ.CHARACTER_MAP]!;
    const fontB = font((map & 3) | ((map >> 2) & 4)), fontA = font(((map >> 2) & 3) | ((map >> 3) & 4));
    const cursorAt = (crtc[CRTC.CURSOR_HIGH]! << 8) | crtc[CRTC.CURSOR_LOW]!;
    const cursorOn = blink.cursor && !(crtc[CRTC.CURSOR_START]! & CURSOR_OFF);
    const cursorTop = crtc[CRTC.CURSOR_START]! & 0x1f, cursorBottom = crtc[CRTC.CURSOR_END]! & 0x1f;
    const start = this.#start;
    for (let y = 0; y < height; y++) {
      const row = Math.floor(y / cellHeight), line = y % cellHeight;
      for (let column = 0; column < columns; column++) {
        const cell = start + row * pitch + column;
        const code = this.#byte(cell * 4), look = this.#byte(cell * 4 + 1);
        let bits = this.#byte(((look & 8 ? fontA : fontB) + code * 32 + line) * 4 + 2);
        let background = look >> 4;
        if (mode & ATTR_BIT.BLINK) {
          background &= 7;
          if (look & 0x80 && !blink.text) bits = 0;
        }
        if (cursorOn && cell === cursorAt && line >= cursorTop && line <= cursorBottom) bits = 0x1ff;
        const ink = colors[look & 0xf]!, paper = colors[background]!;
        // The ninth dot is background, but of box-drawing characters, whose lines must meet.
        const ninth = bits === 0x1ff || (mode & ATTR_BIT.LINE_GRAPHICS && code >= 0xc0 && code <= 0xdf && bits & 1);
        const x0 = column * dots;
        for (let x = 0; x < dots && x0 + x < width; x++) {
          out[y * width + x0 + x] = (x < 8 ? (bits >> (7 - x)) & 1 : ninth) ? ink : paper;
        }
      }
    }
  }

  #renderPlanes(out: Uint32Array, { width, height }: ScreenSize, cga: boolean): void {
    const { attribute } = this.s;
    const colors = Uint32Array.from({ length: 16 }, (_, i) => this.#color(i));
    const start = this.#start, pitch = this.#pitch, compare = this.#lineCompare, repeat = this.#repeat;
    const panning = attribute[ATTR.PANNING]! & 7;
    const interlaced = this.#interlaced;
    for (let y = 0; y < height; y++) {
      const scan = y * repeat;
      const split = scan > compare;
      const inRow = interlaced ? y >> 1 : split ? Math.floor((scan - compare - 1) / repeat) : y;
      let line = (split ? 0 : start) + inRow * pitch;
      if (interlaced && y & 1) line += cga ? 0x1000 : 0x2000;
      for (let x = 0; x < width; x++) {
        const dot = x + (split ? 0 : panning), at = (line + (dot >> 3)) * 4;
        let a: number;
        if (cga) a = (this.#byte(at + ((dot >> 2) & 1)) >> (2 * (3 - (dot & 3)))) & 3;
        else {
          const shift = 7 - (dot & 7);
          a = ((this.#byte(at) >> shift) & 1) | (((this.#byte(at + 1) >> shift) & 1) << 1) |
            (((this.#byte(at + 2) >> shift) & 1) << 2) | (((this.#byte(at + 3) >> shift) & 1) << 3);
        }
        out[y * width + x] = colors[a]!;
      }
    }
  }

  #renderBytes(out: Uint32Array, { width, height }: ScreenSize): void {
    const start = this.#start, pitch = this.#pitch, compare = this.#lineCompare, repeat = this.#repeat;
    for (let y = 0; y < height; y++) {
      const scan = y * repeat, split = scan > compare;
      const line = split ? Math.floor((scan - compare - 1) / repeat) * pitch : start + y * pitch;
      for (let x = 0; x < width; x++) out[y * width + x] = this.#palette[this.#byte(line * 4 + x)]!;
    }
  }

  #renderDispi(out: Uint32Array, { width, height }: ScreenSize): void {
    const { dispi } = this.s;
    const bpp = dispi[DISPI.BPP]!, bytes = (bpp + 7) >> 3;
    const stride = dispi[DISPI.VIRT_WIDTH]! * bytes;
    const first = dispi[DISPI.Y_OFFSET]! * stride + dispi[DISPI.X_OFFSET]! * bytes;
    const { vram } = this;
    for (let y = 0; y < height; y++) {
      let at = first + y * stride;
      const to = y * width;
      if (at + width * bytes > vram.length) {
        out.fill(0, to, to + width);
        continue;
      }
      if (bpp === 32 && at % 4 === 0) {
        const row = new Uint32Array(vram.buffer, vram.byteOffset + at, width);
        for (let x = 0; x < width; x++) out[to + x] = row[x]! & 0xffffff;
        continue;
      }
      for (let x = 0; x < width; x++, at += bytes) out[to + x] = this.#pixel(bpp, at);
    }
  }

  #pixel(bpp: number, at: number): number {
    const { vram } = this;
    if (bpp === 8) return this.#palette[vram[at]!]!;
    const word = vram[at]! | (vram[at + 1]! << 8);
    if (bpp === 15) return (five(word >> 10) << 16) | (five(word >> 5) << 8) | five(word);
    if (bpp === 16) return (five(word >> 11) << 16) | (six(word >> 5) << 8) | five(word);
    return word | (vram[at + 2]! << 16);
  }
}

function font(n: number): number {
  // Fonts 0 to 3 start at multiples of 16 KiB, 4 to 7 lie 8 KiB behind them.
  return (n & 3) * 0x4000 + (n & 4 ? 0x2000 : 0);
}

function five(v: number): number {
  return ((v & 0x1f) << 3) | ((v & 0x1f) >> 2);
}
function six(v: number): number {
  return ((v & 0x3f) << 2) | ((v & 0x3f) >> 4);
}

function bounded(width: number, height: number): ScreenSize {
  return width > 0 && height > 0 ? { width: Math.min(width, MAX_PIXELS), height: Math.min(height, MAX_PIXELS) } : BLANK;
}
