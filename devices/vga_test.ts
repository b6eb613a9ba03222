import { assertEquals } from "@std/assert";
import { ManualClock } from "../src/base/clock.ts";
import { PciFunctionRecord } from "./pci/function.ts";
import { Vga } from "./vga.ts";
import { blinkAt, VgaDisplay } from "./vga_display.ts";
import { DISPI, DISPI_ENABLE, VGA_PCI, VgaRecord } from "./vga_registers.ts";

const VRAM = 1 << 20;

function card() {
  const s = VgaRecord.create();
  const clock = new ManualClock();
  const vram = new Uint8Array(VRAM);
  const rom = Uint8Array.of(0x55, 0xaa, 4, ...new Array(2045).fill(7));
  const dev = new Vga(s, PciFunctionRecord.create(), { clock, vram, rom });
  const inb = (port: number) => dev.legacyPorts.read(port - 0x3b0, 1);
  const outb = (port: number, value: number) => dev.legacyPorts.write(port - 0x3b0, 1, value);
  const indexed = (port: number) => (index: number, value: number) => {
    outb(port, index);
    outb(port + 1, value);
  };
  const attribute = (index: number, value: number) => {
    inb(0x3da);
    outb(0x3c0, index);
    outb(0x3c0, value);
  };
  const dispi = (index: number, value: number) => {
    dev.dispiPorts.write(0, 2, index);
    dev.dispiPorts.write(1, 2, value);
  };
  const readDispi = (index: number) => (dev.dispiPorts.write(0, 2, index), dev.dispiPorts.read(1, 2));
  outb(0x3c2, 1); // colour: ports at 3Dxh
  const parts = { seq: indexed(0x3c4), gc: indexed(0x3ce), crtc: indexed(0x3d4), attribute, dispi, readDispi };
  return { s, dev, clock, vram, display: new VgaDisplay(s, vram), inb, outb, ...parts };
}
type Card = ReturnType<typeof card>;

/** What a BIOS sets for every mode: running, screen on, an attribute palette of 0 to 15, a DAC in which colour n is n, 2n, 3n. */
function common({ seq, attribute, outb, crtc }: Card): void {
  seq(0, 3);
  crtc(0x11, 0); // open registers 0 to 7
  for (let i = 0; i < 16; i++) attribute(i, i);
  attribute(0x12, 0x0f);
  outb(0x3c8, 0);
  for (let i = 0; i < 256; i++) [i & 63, (2 * i) & 63, (3 * i) & 63].forEach((v) => outb(0x3c9, v));
}
const wide = (v: number) => ((v & 63) << 2) | ((v & 63) >> 4);
const colour = (i: number) => (wide(i) << 16) | (wide(2 * i) << 8) | wide(3 * i);

/** 80 by 25 cells of 9 by 16 dots. */
function textMode(c: Card): void {
  common(c);
  c.seq(1, 0);
  c.seq(2, 3);
  c.seq(4, 2);
  c.gc(5, 0x10);
  c.gc(6, 0x0e);
  c.crtc(1, 79);
  c.crtc(7, 0x1f); // vertical display end bit 8, line compare bit 8
  c.crtc(9, 0x4f);
  c.crtc(0x0a, 0x20); // no cursor
  c.crtc(0x12, 0x8f);
  c.crtc(0x13, 40);
  c.crtc(0x17, 0xa3);
  c.crtc(0x18, 0xff);
  c.attribute(0x10, 0x0c);
  c.attribute(0x31, 0); // the palette is the display's again
}

/** Planes from here on, as for loading a font: sequential, no odd/even, at A0000h. */
function planes(c: Card, mask: number): void {
  c.seq(2, mask);
  c.seq(4, 6);
  c.gc(5, 0);
  c.gc(6, 5);
  c.gc(8, 0xff);
}

function picture({ display }: Card) {
  const size = display.size, out = new Uint32Array(size.width * size.height);
  display.render(out, size, { cursor: true, text: true });
  return { ...size, at: (x: number, y: number) => out[y * size.width + x]! };
}

Deno.test("VGA: an index and its data may be written as a word, and bits that do not exist read as zero", () => {
  const { dev, inb } = card();
  dev.legacyPorts.write(0x3ce - 0x3b0, 2, 0xff03);
  assertEquals([inb(0x3ce), inb(0x3cf)], [3, 0x1f]);
  dev.legacyPorts.write(0x3c4 - 0x3b0, 2, 0xff02);
  assertEquals(inb(0x3c5), 0x0f);
});

Deno.test("VGA: the CRT controller answers at 3D4h or at 3B4h, as the miscellaneous output says", () => {
  const { inb, outb, crtc } = card();
  crtc(0x0f, 0x55);
  assertEquals([inb(0x3d5), inb(0x3b5)], [0x55, 0xff]);
  outb(0x3c2, 0);
  assertEquals([inb(0x3d5), inb(0x3b5), inb(0x3cc)], [0xff, 0x55, 0]);
});

Deno.test("VGA: CRT registers 0 to 7 are protected by bit 7 of 11h, but for line compare bit 8", () => {
  const { inb, crtc, outb } = card();
  crtc(1, 79);
  crtc(7, 0);
  crtc(0x11, 0x80);
  crtc(1, 39);
  crtc(7, 0xff);
  outb(0x3d4, 1);
  assertEquals(inb(0x3d5), 79);
  outb(0x3d4, 7);
  assertEquals(inb(0x3d5), 0x10);
});

Deno.test("VGA: the attribute port takes index and data in turn, and reading input status 1 starts with the index", () => {
  const { inb, outb } = card();
  inb(0x3da);
  outb(0x3c0, 0x10);
  outb(0x3c0, 0x0c);
  outb(0x3c0, 0x11);
  inb(0x3da);
  outb(0x3c0, 0x10);
  assertEquals(inb(0x3c1), 0x0c);
});

Deno.test("VGA: the DAC counts through red, green and blue, for reading and for writing apart", () => {
  const { inb, outb } = card();
  outb(0x3c8, 5);
  [1, 2, 3, 4, 5, 6].forEach((v) => outb(0x3c9, v));
  assertEquals([inb(0x3c8), inb(0x3c7)], [7, 0]);
  outb(0x3c7, 5);
  assertEquals([inb(0x3c7), ...Array.from({ length: 6 }, () => inb(0x3c9))], [3, 1, 2, 3, 4, 5, 6]);
});

Deno.test("VGA: the retrace bit of input status 1 comes once a frame, 70 times a second", () => {
  const { inb, clock } = card();
  let rises = 0, before = 8;
  for (let us = 0; us < 1_000_000; us += 20) {
    const now = inb(0x3da) & 8;
    if (now && !before) rises++;
    before = now;
    clock.jump(20_000);
  }
  assertEquals(rises, 70);
});

Deno.test("VGA: every write mode, with rotation, set/reset, operation and bit mask, changes the bits the manual says", () => {
  const c = card();
  planes(c, 0x0f);
  let seed = 1;
  const random = () => (seed = Math.imul(seed, 1103515245) + 12345 >>> 0) >>> 16;
  for (let i = 0; i < 3000; i++) {
    const old = [0, 1, 2, 3].map(() => random() & 0xff), value = random() & 0xff;
    const [set, enable, rotate, op, mask, map, mode] = [
      random() & 15,
      random() & 15,
      random() & 7,
      random() & 3,
      random() & 255,
      random() & 15,
      random() & 3,
    ];
    c.vram.set(old, 0x400);
    c.gc(5, 0);
    c.dev.window.read(0x100, 1); // fills the latches
    c.gc(0, set!);
    c.gc(1, enable!);
    c.gc(3, rotate! | (op! << 3));
    c.gc(5, mode!);
    c.gc(8, mask!);
    c.seq(2, map!);
    c.dev.window.write(0x100, 1, value);
    // The model: one plane, one bit at a time.
    const bit = (v: number, n: number) => (v >> n) & 1;
    const rotated = (n: number) => bit(value, (n + rotate!) % 8);
    const want = old.map((latch, p) => {
      if (!bit(map!, p)) return latch;
      let result = 0;
      for (let n = 0; n < 8; n++) {
        const held = bit(latch, n);
        if (mode === 1) {
          result |= held << n;
          continue;
        }
        const source = mode === 2 ? bit(value, p) : mode === 3 || bit(enable!, p) ? bit(set!, p) : rotated(n);
        const done = [source, source & held, source | held, source ^ held][op!]!;
        const through = mode === 3 ? bit(mask!, n) & rotated(n) : bit(mask!, n);
        result |= (through ? done : held) << n;
      }
      return result;
    });
    assertEquals([...c.vram.subarray(0x400, 0x404)], want, `case ${i}, mode ${mode}`);
  }
});

Deno.test("VGA: read mode 1 tells which pixels have the colour compared with, in the planes that count", () => {
  const c = card();
  planes(c, 0x0f);
  // Pixels, from the left: colours 0 to 7.
  c.vram.set([0b01010101, 0b00110011, 0b00001111, 0], 0);
  c.gc(5, 8);
  c.gc(2, 5);
  c.gc(7, 0x0f);
  assertEquals(c.dev.window.read(0, 1), 0b00000100);
  c.gc(7, 0x01); // only plane 0: odd colours
  assertEquals(c.dev.window.read(0, 1), 0b01010101);
});

Deno.test("VGA: text and its attributes go to planes 0 and 1, and nowhere else, by way of B8000h", () => {
  const c = card();
  textMode(c);
  [..."Hello"].forEach((ch, i) => c.dev.window.write(0x18000 + 2 * i, 2, ch.charCodeAt(0) | 0x1f00));
  assertEquals(c.dev.window.read(0x18000, 4), 0x1f651f48);
  assertEquals(c.dev.window.read(0x10000, 1), 0xff); // B0000h is not the window now
  const cells = c.display.textCells()!;
  assertEquals([cells.columns, cells.rows], [80, 25]);
  assertEquals(String.fromCharCode(...cells.codes.subarray(0, 5)), "Hello");
});

Deno.test("VGA: a character is drawn from the font in plane 2, in the colours of its attribute, nine dots wide", () => {
  const c = card();
  textMode(c);
  c.dev.window.write(0x18000 + 2 * (80 + 3), 2, 0x1e41); // column 3, row 1: yellow on blue
  c.dev.window.write(0x18000 + 2 * (80 + 4), 2, 0x1ec4); // a box-drawing character
  planes(c, 4);
  c.dev.window.write(0x41 * 32 + 5, 1, 0b10000001);
  c.dev.window.write(0xc4 * 32 + 5, 1, 0b00000001);
  c.gc(5, 0x10);
  c.gc(6, 0x0e);
  const p = picture(c);
  assertEquals([p.width, p.height], [720, 400]);
  const y = 16 + 5;
  assertEquals([0, 1, 7, 8].map((x) => p.at(27 + x, y)), [14, 1, 14, 1].map(colour));
  assertEquals([7, 8].map((x) => p.at(36 + x, y)), [14, 14].map(colour));
});

Deno.test("VGA: the cursor stands in its cell on the lines it is given, while it is lit", () => {
  const c = card();
  textMode(c);
  c.crtc(0x0a, 13);
  c.crtc(0x0b, 14);
  c.crtc(0x0e, 0);
  c.crtc(0x0f, 2);
  c.dev.window.write(0x18004, 2, 0x0720);
  const lit = picture(c);
  assertEquals([12, 13, 14, 15].map((y) => lit.at(18, y)), [0, 7, 7, 0].map(colour));
  assertEquals([blinkAt(0).cursor, blinkAt(250).cursor, blinkAt(500).cursor], [true, false, true]);
});

Deno.test("VGA: mode 12h shows a bit of each plane as a pixel", () => {
  const c = card();
  common(c);
  c.seq(1, 1);
  planes(c, 0x0f);
  c.crtc(1, 79);
  c.crtc(7, 0x12); // 480 lines; line compare bit 8
  c.crtc(9, 0x40);
  c.crtc(0x12, 0xdf);
  c.crtc(0x13, 40);
  c.crtc(0x17, 0xe3);
  c.crtc(0x18, 0xff);
  c.attribute(0x10, 1);
  c.attribute(0x30, 1);
  c.gc(8, 0xff);
  c.gc(5, 2); // write mode 2: a colour
  c.gc(8, 0x20);
  c.dev.window.read(80 * 3 + 1, 1);
  c.dev.window.write(80 * 3 + 1, 1, 11);
  const p = picture(c);
  assertEquals([p.width, p.height], [640, 480]);
  assertEquals([9, 10, 11].map((x) => p.at(x, 3)), [0, 11, 0].map(colour));
});

Deno.test("VGA: mode 13h shows a byte as a pixel, twice in each direction of the CRT's 400 lines", () => {
  const c = card();
  common(c);
  c.seq(1, 1);
  c.seq(2, 0x0f);
  c.seq(4, 0x0e);
  c.gc(5, 0x40);
  c.gc(6, 5);
  c.crtc(1, 79);
  c.crtc(7, 0x1f);
  c.crtc(9, 0x41);
  c.crtc(0x12, 0x8f);
  c.crtc(0x13, 40);
  c.crtc(0x17, 0xa3);
  c.crtc(0x18, 0xff);
  c.attribute(0x10, 0x41);
  c.attribute(0x31, 0);
  c.dev.window.write(320 * 7 + 100, 1, 200);
  const p = picture(c);
  assertEquals([p.width, p.height], [320, 200]);
  assertEquals([99, 100, 101].map((x) => p.at(x, 7)), [0, 200, 0].map(colour));
});

Deno.test("VGA: DISPI tells what it is and can, and shows a linear mode of 32 bits", () => {
  const c = card();
  assertEquals(c.readDispi(DISPI.ID), 0xb0c5);
  c.dispi(DISPI.ENABLE, DISPI_ENABLE.GETCAPS);
  assertEquals([DISPI.XRES, DISPI.YRES, DISPI.BPP].map(c.readDispi), [2560, 1600, 32]);
  assertEquals(c.readDispi(DISPI.VIDEO_MEMORY_64K), VRAM / 65536);
  c.dispi(DISPI.ENABLE, 0);
  c.dispi(DISPI.XRES, 320);
  c.dispi(DISPI.YRES, 200);
  c.dispi(DISPI.BPP, 32);
  c.dispi(DISPI.ENABLE, DISPI_ENABLE.ENABLED | DISPI_ENABLE.LFB);
  assertEquals(c.readDispi(DISPI.VIRT_HEIGHT), Math.floor(VRAM / 1280));
  c.dispi(DISPI.VIRT_WIDTH, 400);
  c.dispi(DISPI.Y_OFFSET, 2);
  c.dispi(DISPI.X_OFFSET, 3);
  c.dev.barWrite(VGA_PCI.FRAMEBUFFER_BAR, (2 * 400 + 3 + 5) * 4, 4, 0xff123456);
  const p = picture(c);
  assertEquals([p.width, p.height, p.at(5, 0), p.at(4, 0)], [320, 200, 0x123456, 0]);
});

Deno.test("VGA: DISPI's banks let 64 KiB of a linear mode be seen at A0000h", () => {
  const c = card();
  planes(c, 0);
  c.dispi(DISPI.XRES, 640);
  c.dispi(DISPI.YRES, 480);
  c.dispi(DISPI.BPP, 8);
  c.dispi(DISPI.ENABLE, DISPI_ENABLE.ENABLED);
  c.dispi(DISPI.BANK, 2);
  c.dev.window.write(0x1234, 1, 0x99);
  assertEquals(c.vram[0x21234], 0x99);
});

Deno.test("VGA: DISPI modes of 15, 16, 24 and 8 bits have the colours that they say", () => {
  for (
    const [bpp, value, want] of [[15, 0x7c1f, 0xff00ff], [16, 0x07e0, 0x00ff00], [24, 0x123456, 0x123456], [
      8,
      3,
      colour(3),
    ]]
  ) {
    const c = card();
    common(c);
    c.dispi(DISPI.XRES, 8);
    c.dispi(DISPI.YRES, 2);
    c.dispi(DISPI.BPP, bpp!);
    c.dispi(DISPI.ENABLE, DISPI_ENABLE.ENABLED | DISPI_ENABLE.LFB);
    c.dev.barWrite(0, 0, 4, value!);
    assertEquals(picture(c).at(0, 0), want, `${bpp} bits`);
  }
});

Deno.test("VGA: a DISPI mode that does not fit in video memory is not switched on", () => {
  const c = card();
  c.dispi(DISPI.XRES, 2560);
  c.dispi(DISPI.YRES, 1600);
  c.dispi(DISPI.BPP, 32);
  c.dispi(DISPI.ENABLE, DISPI_ENABLE.ENABLED);
  assertEquals(c.readDispi(DISPI.ENABLE), 0);
});

Deno.test("VGA: the register BAR has the ports at 400h and DISPI at 500h, the expansion ROM the video BIOS", () => {
  const c = card();
  c.dev.barWrite(VGA_PCI.REGISTERS_BAR, 0x400 + 0x0e, 2, 0x0503); // 3CEh, 3CFh
  assertEquals(c.dev.barRead(VGA_PCI.REGISTERS_BAR, 0x40f, 1), 5);
  assertEquals(c.dev.barRead(VGA_PCI.REGISTERS_BAR, 0x500, 2), 0xb0c5);
  assertEquals(c.dev.romRead(0, 4), 0x0704aa55);
  c.dev.writeConfig(0x30, 4, 0xffffffff);
  assertEquals(c.dev.readConfig(0x30, 4), (-2048 | 1) >>> 0);
});

Deno.test("VGA: whatever is in the record, a picture can be drawn", () => {
  const c = card();
  const bytes = new Uint8Array(VgaRecord.sizeBytes);
  let seed = 7;
  for (let i = 0; i < 30; i++) {
    for (let k = 0; k < bytes.length; k++) bytes[k] = (seed = Math.imul(seed, 1103515245) + 12345 >>> 0) >>> 16;
    const view = VgaRecord.view(bytes.buffer, 0);
    view.sequencer[0] = 3;
    view.crtc[1] = 99;
    const display = new VgaDisplay(view, c.vram), size = display.size;
    display.render(new Uint32Array(size.width * size.height), size, blinkAt(i));
    display.textCells();
  }
});
