/**
 * A VGA-compatible display adapter on PCI, with the linear modes of Bochs's DISPI interface.
 *
 * Spec: [vga §2] registers, [vga §2.5] memory; [bochs-vbe]; [stdvga]: vendor 1234h, device 1111h, framebuffer in BAR 0, ports and
 * DISPI registers in BAR 2, video BIOS in the expansion ROM.
 * Emulated: sequencer, CRT controller, graphics controller, attribute controller, DAC, as far as they decide what is seen;
 * the window at A0000h with its planes, write and read modes, chain 4 and odd/even; retrace bits that follow guest time.
 * Absent: timing of the CRT, interrupts at retrace, EDID, light pen, the DISPI registers' 4-bit planar modes.
 *
 * Video memory keeps the four bytes of an address, one of each plane, beside each other; so chain-4 pixels lie in it as they
 * do on the screen, and a text cell's character, attribute and glyph byte are bytes 0, 1 and 2 of its doubleword.
 */
import { ones, type Region } from "../src/base/bus.ts";
import type { Clock } from "../src/base/clock.ts";
import type { View } from "../src/base/record.ts";
import { PciFunction, type PciFunctionRecord } from "./pci/function.ts";
import { VgaPorts } from "./vga_ports.ts";
import {
  DISPI,
  DISPI_ENABLE,
  GC,
  GC_BIT,
  SEQ,
  SEQ_BIT,
  VGA_MMIO,
  VGA_PCI,
  VGA_PORT,
  type VgaRecord,
} from "./vga_registers.ts";

export const VGA_WINDOW = { BASE: 0xa_0000, BYTES: 0x2_0000 } as const;
const BANK_BYTES = 0x1_0000;
/** Where the window is and how large, by bits 3:2 of the graphics controller's miscellaneous register. */
const WINDOWS = [[0, 0x2_0000], [0, 0x1_0000], [0x1_0000, 0x8000], [0x1_8000, 0x8000]] as const;

export interface VgaParts {
  readonly clock: Clock;
  /** A power of two, at least 256 KiB. Shared by every thread; the processor reaches it by the map of memory. */
  readonly vram: Uint8Array;
  /** The video BIOS, a power of two long, or empty. */
  readonly rom: Uint8Array;
}

export class Vga extends PciFunction {
  /** Ports 3B0h to 3DFh. */
  readonly legacyPorts: Region;
  /** Ports 1CEh to 1D0h. */
  readonly dispiPorts: Region;
  /** A0000h to BFFFFh. */
  readonly window: Region;
  readonly #ports: VgaPorts;
  readonly #vram: Uint8Array;
  readonly #mask: number;

  constructor(
    private readonly s: View<typeof VgaRecord>,
    pci: View<typeof PciFunctionRecord>,
    parts: VgaParts,
  ) {
    const { vram, rom } = parts;
    super(pci, {
      vendor: VGA_PCI.VENDOR,
      device: VGA_PCI.DEVICE,
      revision: 2,
      classCode: VGA_PCI.CLASS,
      subsystemVendor: 0x1af4,
      subsystem: 0x1100,
      bars: {
        [VGA_PCI.FRAMEBUFFER_BAR]: { kind: "memory32", sizeBytes: vram.length, prefetchable: true },
        [VGA_PCI.REGISTERS_BAR]: { kind: "memory32", sizeBytes: VGA_PCI.REGISTERS_BYTES },
      },
      rom,
    });
    this.#vram = vram;
    this.#mask = vram.length - 1;
    this.#ports = new VgaPorts(s, parts.clock, vram);
    const ports = this.#ports;
    // Wider accesses to the byte-wide ports are those of their bytes, low first: an index and its data at once.
    this.legacyPorts = bytewise({
      read: (offset) => ports.read(VGA_PORT.BASE + offset),
      write: (offset, value) => ports.write(VGA_PORT.BASE + offset, value),
    });
    this.dispiPorts = {
      read: (offset, size) => size !== 2 ? ones(size) : offset === 0 ? s.dispiIndex : ports.readDispi(s.dispiIndex),
      write: (offset, size, value) => {
        if (size !== 2) return;
        if (offset === 0) s.dispiIndex = value;
        else ports.writeDispi(s.dispiIndex, value);
      },
    };
    this.window = bytewise({
      read: (offset) => this.#readWindow(offset),
      write: (offset, value) => this.#writeWindow(offset, value),
    });
  }

  /** Where the processor finds the framebuffer, or -1. */
  get framebufferBase(): number {
    return this.barBase(VGA_PCI.FRAMEBUFFER_BAR);
  }

  override barRead(bar: number, offset: number, size: number): number {
    if (bar === VGA_PCI.FRAMEBUFFER_BAR) return littleEndian(this.#vram, offset, size);
    const { PORTS, PORTS_END, DISPI: AT, DISPI_END } = VGA_MMIO;
    if (offset >= PORTS && offset + size <= PORTS_END) return this.legacyPorts.read(offset - PORTS + 0x10, size);
    if (offset >= AT && offset < DISPI_END && size === 2 && !(offset & 1)) {
      return this.#ports.readDispi((offset - AT) >> 1);
    }
    return offset < PORTS ? 0 : ones(size);
  }

  override barWrite(bar: number, offset: number, size: number, value: number): void {
    if (bar === VGA_PCI.FRAMEBUFFER_BAR) {
      for (let i = 0; i < size; i++) this.#vram[offset + i] = value >>> (8 * i);
      return;
    }
    const { PORTS, PORTS_END, DISPI: AT, DISPI_END } = VGA_MMIO;
    if (bar !== VGA_PCI.REGISTERS_BAR) return;
    if (offset >= PORTS && offset + size <= PORTS_END) this.legacyPorts.write(offset - PORTS + 0x10, size, value);
    else if (offset >= AT && offset < DISPI_END && size === 2 && !(offset & 1)) {
      this.#ports.writeDispi((offset - AT) >> 1, value);
    }
  }

  /** The address in the planes' space of an offset in the window, or -1 if the window is elsewhere. */
  #address(offset: number): number {
    const [base, bytes] = WINDOWS[(this.s.graphics[GC.MISC]! >> 2) & 3]!;
    const address = offset - base;
    if (address < 0 || address >= bytes) return -1;
    return address + this.s.dispi[DISPI.BANK]! * BANK_BYTES;
  }

  get #chain4(): boolean {
    const linear = (this.s.dispi[DISPI.ENABLE]! & DISPI_ENABLE.ENABLED) !== 0;
    return linear || (this.s.sequencer[SEQ.MEMORY_MODE]! & SEQ_BIT.CHAIN4) !== 0;
  }

  #readWindow(offset: number): number {
    const address = this.#address(offset);
    if (address < 0) return 0xff;
    const { graphics, latch } = this.s, vram = this.#vram, mask = this.#mask;
    if (this.#chain4) return vram[address & mask]!;
    if (graphics[GC.MODE]! & GC_BIT.ODD_EVEN) {
      const plane = (graphics[GC.READ_MAP]! & 2) | (address & 1);
      return vram[((address >> 1) * 4 + plane) & mask]!;
    }
    const at = (address * 4) & mask;
    for (let p = 0; p < 4; p++) latch[p] = vram[at + p]!;
    if (!(graphics[GC.MODE]! & GC_BIT.READ_MODE)) return latch[graphics[GC.READ_MAP]! & 3]!;
    // Read mode 1: a bit for each pixel whose colour is the one compared with, in the planes that count.
    let differs = 0;
    for (let p = 0; p < 4; p++) {
      if ((graphics[GC.COLOR_DONT_CARE]! >> p) & 1) {
        differs |= latch[p]! ^ ((graphics[GC.COLOR_COMPARE]! >> p) & 1 ? 0xff : 0);
      }
    }
    return ~differs & 0xff;
  }

  #writeWindow(offset: number, value: number): void {
    const address = this.#address(offset);
    if (address < 0) return;
    const { graphics, sequencer } = this.s, vram = this.#vram, mask = this.#mask;
    const planes = sequencer[SEQ.MAP_MASK]!;
    if (this.#chain4) {
      if ((this.s.dispi[DISPI.ENABLE]! & DISPI_ENABLE.ENABLED) || (planes >> (address & 3)) & 1) {
        vram[address & mask] = value;
      }
      return;
    }
    if (graphics[GC.MODE]! & GC_BIT.ODD_EVEN) {
      const plane = (graphics[GC.READ_MAP]! & 2) | (address & 1);
      if ((planes >> plane) & 1) vram[((address >> 1) * 4 + plane) & mask] = value;
      return;
    }
    this.#writePlanes((address * 4) & mask, value, planes);
  }

  /** [vga §2.5.3] The four write modes. */
  #writePlanes(at: number, value: number, planes: number): void {
    const { graphics, latch } = this.s, vram = this.#vram;
    const mode = graphics[GC.MODE]! & GC_BIT.WRITE_MODE;
    const rotate = graphics[GC.DATA_ROTATE]! & 7, operation = (graphics[GC.DATA_ROTATE]! >> 3) & 3;
    const rotated = ((value >> rotate) | (value << (8 - rotate))) & 0xff;
    let bits = graphics[GC.BIT_MASK]!;
    if (mode === 3) bits &= rotated;
    for (let p = 0; p < 4; p++) {
      if (!((planes >> p) & 1)) continue;
      const old = latch[p]!;
      if (mode === 1) {
        vram[at + p] = old;
        continue;
      }
      const set = (graphics[GC.SET_RESET]! >> p) & 1 ? 0xff : 0;
      let data = rotated;
      if (mode === 2) data = (value >> p) & 1 ? 0xff : 0;
      else if (mode === 3 || (graphics[GC.ENABLE_SET_RESET]! >> p) & 1) data = set;
      if (operation === 1) data &= old;
      else if (operation === 2) data |= old;
      else if (operation === 3) data ^= old;
      vram[at + p] = (data & bits) | (old & ~bits);
    }
  }
}

function bytewise(one: { read(offset: number): number; write(offset: number, value: number): void }): Region {
  return {
    read(offset, size) {
      let value = 0;
      for (let i = 0; i < size; i++) value = (value | (one.read(offset + i) << (8 * i))) >>> 0;
      return value;
    },
    write(offset, size, value) {
      for (let i = 0; i < size; i++) one.write(offset + i, (value >>> (8 * i)) & 0xff);
    },
  };
}

function littleEndian(bytes: Uint8Array, at: number, size: number): number {
  let value = 0;
  for (let i = 0; i < size; i++) value = (value | ((bytes[at + i] ?? 0xff) << (8 * i))) >>> 0;
  return value;
}
