/**
 * A PCI function: configuration space with a type 0 header, base address registers, capabilities, and an interrupt pin.
 *
 * Spec: [pci §6] configuration space, [pci §6.2.5] base addresses, [pci §6.7] capabilities list, [pci §2.2.6] interrupt pins.
 * Emulated: everything a driver of a single-function device needs; the extended space of PCI Express reads as zero, which says
 * that it holds no capability.
 * Emulated where a function has one: expansion ROM [pci §6.2.5.2].
 * Absent: parity and system errors (their status bits are always zero), power management.
 *
 * Subclasses describe themselves in their constructors (`define`, `addCapability`) and answer for their BARs.
 */
import { Bug } from "../../src/base/errors.ts";
import { record, type View } from "../../src/base/record.ts";

/** Offsets in the header. */
export const PCI = {
  VENDOR_ID: 0x00,
  DEVICE_ID: 0x02,
  COMMAND: 0x04,
  STATUS: 0x06,
  REVISION_ID: 0x08,
  CLASS_CODE: 0x09,
  HEADER_TYPE: 0x0e,
  BAR0: 0x10,
  SUBSYSTEM_VENDOR_ID: 0x2c,
  SUBSYSTEM_ID: 0x2e,
  EXPANSION_ROM: 0x30,
  CAPABILITIES: 0x34,
  INTERRUPT_LINE: 0x3c,
  INTERRUPT_PIN: 0x3d,
} as const;

export const COMMAND = {
  IO_SPACE: 1 << 0,
  MEMORY_SPACE: 1 << 1,
  BUS_MASTER: 1 << 2,
  PARITY_ERROR_RESPONSE: 1 << 6,
  SERR_ENABLE: 1 << 8,
  INTERRUPT_DISABLE: 1 << 10,
} as const;

export const STATUS = { INTERRUPT: 1 << 3, CAPABILITIES_LIST: 1 << 4 } as const;

/** Capability identifiers. */
export const CAPABILITY = { VENDOR_SPECIFIC: 0x09, MSIX: 0x11 } as const;

const ROM_ENABLE = 1 << 0; // in EXPANSION_ROM

const HEADER_BYTES = 0x40;
const CONFIG_BYTES = 256;
const BARS = 6;

export const PciFunctionRecord = record("pci-function", 1, {
  /**
   * Configuration space as it differs, bit for bit, from its power-on value. So the power-on record is all zeros whatever the
   * function is, and a snapshot cannot change a read-only bit: those are masked out on every read.
   */
  delta: { array: "u8", length: CONFIG_BYTES },
  /** The function asks for its interrupt pin to be asserted. */
  intx: { type: "u8", max: 1 },
});

export interface BarSpec {
  readonly kind: "memory32" | "memory64" | "io";
  /** A power of two; at least 16 for memory, 4 for I/O. */
  readonly sizeBytes: number;
  readonly prefetchable?: boolean;
}

export interface PciFunctionSpec {
  readonly vendor: number;
  readonly device: number;
  readonly revision: number;
  /** Base class, sub-class and programming interface, as 24 bits. */
  readonly classCode: number;
  readonly subsystemVendor?: number;
  readonly subsystem?: number;
  /** 1 to 4 for INTA# to INTD#. */
  readonly interruptPin?: 1 | 2 | 3 | 4;
  /** By BAR number; a 64-bit one takes the next number too. */
  readonly bars?: Readonly<Record<number, BarSpec>>;
  /** The expansion ROM: a power of two long, at least 2 KiB, or empty for none. */
  readonly rom?: Uint8Array;
}

/** What a function tells the host bridge it sits under. */
export interface PciParent {
  /** Which addresses the function claims may have changed. */
  decodeChanged(salt: number): void;
  intxChanged(fn: PciFunction): void;
}

export class PciFunction {
  readonly bars: readonly (BarSpec | null)[];
  readonly interruptPin: number;
  readonly #rom: Uint8Array;
  /** Where it sits: device × 8 + function. Set by the host bridge. */
  devfn = -1;
  #parent: PciParent | null = null;
  readonly #fixed = new Uint8Array(CONFIG_BYTES);
  readonly #mask = new Uint8Array(CONFIG_BYTES);
  #capabilityEnd = HEADER_BYTES;
  #lastCapability: number = 0;

  constructor(protected readonly pci: View<typeof PciFunctionRecord>, spec: PciFunctionSpec) {
    this.define(PCI.VENDOR_ID, 2, spec.vendor);
    this.define(PCI.DEVICE_ID, 2, spec.device);
    const command = COMMAND.IO_SPACE | COMMAND.MEMORY_SPACE | COMMAND.BUS_MASTER | COMMAND.PARITY_ERROR_RESPONSE |
      COMMAND.SERR_ENABLE | COMMAND.INTERRUPT_DISABLE;
    this.define(PCI.COMMAND, 2, 0, command);
    this.define(PCI.REVISION_ID, 4, ((spec.classCode << 8) | spec.revision) >>> 0);
    this.define(0x0c, 1, 0, 0xff); // Cache Line Size: a scratch register for a function that never bursts
    this.define(PCI.SUBSYSTEM_VENDOR_ID, 2, spec.subsystemVendor ?? 0);
    this.define(PCI.SUBSYSTEM_ID, 2, spec.subsystem ?? 0);
    this.interruptPin = spec.interruptPin ?? 0;
    this.define(PCI.INTERRUPT_LINE, 1, 0, this.interruptPin ? 0xff : 0);
    this.define(PCI.INTERRUPT_PIN, 1, this.interruptPin);
    const bars: (BarSpec | null)[] = new Array(BARS).fill(null);
    for (const [key, bar] of Object.entries(spec.bars ?? {})) {
      const i = Number(key);
      bars[i] = bar;
      this.#defineBar(PCI.BAR0 + 4 * i, bar);
    }
    this.bars = bars;
    this.#rom = spec.rom ?? new Uint8Array(0);
    if (this.romBytes > 0) this.define(PCI.EXPANSION_ROM, 4, 0, ((-this.romBytes) >>> 0 | ROM_ENABLE) >>> 0);
  }

  #defineBar(at: number, bar: BarSpec): void {
    if (bar.sizeBytes & (bar.sizeBytes - 1) || bar.sizeBytes < 4) throw new Bug(`BAR of ${bar.sizeBytes} bytes`);
    const addressMask = (-bar.sizeBytes) >>> 0;
    // All 32 bits: SeaBIOS takes a size for what is left of them, though bits 31..16 may be fixed [pci §6.2.5.1].
    if (bar.kind === "io") return this.define(at, 4, 1, addressMask & 0xfffffffc);
    const type = (bar.kind === "memory64" ? 4 : 0) | (bar.prefetchable ? 8 : 0);
    this.define(at, 4, type, addressMask & 0xfffffff0);
    if (bar.kind === "memory64") this.define(at + 4, 4, 0, 0xffffffff);
  }

  /** Lays out a register: its power-on value and the bits a guest may change. For constructors. */
  protected define(at: number, width: number, value: number, writable = 0): void {
    for (let i = 0; i < width; i++) {
      this.#fixed[at + i] = value >>> (8 * i);
      this.#mask[at + i] = writable >>> (8 * i);
    }
  }

  /**
   * Appends a capability with its two-byte header; `body` is what follows, `writable` its changeable bits. Returns where it is.
   * For constructors.
   */
  protected addCapability(id: number, body: Uint8Array, writable?: Uint8Array): number {
    const at = this.#capabilityEnd;
    if (at + 2 + body.length > CONFIG_BYTES) throw new Bug("Capabilities do not fit in configuration space");
    this.define(at, 2, id);
    this.#fixed.set(body, at + 2);
    if (writable) this.#mask.set(writable, at + 2);
    this.#fixed[this.#lastCapability ? this.#lastCapability + 1 : PCI.CAPABILITIES] = at;
    this.#fixed[PCI.STATUS]! |= STATUS.CAPABILITIES_LIST;
    this.#lastCapability = at;
    this.#capabilityEnd = (at + 2 + body.length + 3) & ~3;
    return at;
  }

  attach(parent: PciParent, devfn: number): void {
    if (this.#parent) throw new Bug("PCI function attached twice");
    this.#parent = parent;
    this.devfn = devfn;
  }

  /** Function 0 of a device with others says so in its header. */
  markMultifunction(): void {
    this.#fixed[PCI.HEADER_TYPE]! |= 0x80;
  }

  /** Reads configuration space at any alignment. */
  readConfig(at: number, size: number): number {
    let value = 0;
    for (let i = 0; i < size; i++) value = (value | (this.configByte(at + i) << (8 * i))) >>> 0;
    return value;
  }

  protected configByte(at: number): number {
    if (at >= CONFIG_BYTES) return 0;
    const byte = this.#fixed[at]! ^ (this.pci.delta[at]! & this.#mask[at]!);
    return at === PCI.STATUS && this.pci.intx ? byte | STATUS.INTERRUPT : byte;
  }

  writeConfig(at: number, size: number, value: number): void {
    let changed = 0;
    for (let i = 0; i < size && at + i < CONFIG_BYTES; i++) {
      const delta = ((value >>> (8 * i)) ^ this.#fixed[at + i]!) & this.#mask[at + i]!;
      if (this.pci.delta[at + i] === delta) continue;
      this.pci.delta[at + i] = delta;
      const where = at + i;
      if ((where & ~1) === PCI.COMMAND) changed |= 3;
      else if (where >= PCI.BAR0 && where < PCI.BAR0 + 4 * BARS) changed |= 1;
      else if (where >= PCI.EXPANSION_ROM && where < PCI.EXPANSION_ROM + 4) changed |= 1;
    }
    if (changed & 1) this.#parent?.decodeChanged(this.devfn ^ (at << 8) ^ value);
    if (changed & 2) this.#parent?.intxChanged(this);
    this.configWritten(at, size);
  }

  /** Called after bytes of configuration space were written. */
  protected configWritten(_at: number, _size: number): void {}

  get command(): number {
    return this.configByte(PCI.COMMAND) | (this.configByte(PCI.COMMAND + 1) << 8);
  }

  /** Whether the guest lets the function read and write memory by itself. */
  get busMaster(): boolean {
    return (this.configByte(PCI.COMMAND) & COMMAND.BUS_MASTER) !== 0;
  }

  /** Where BAR `i` is, or -1 if the function does not decode it now. */
  barBase(i: number): number {
    const bar = this.bars[i];
    if (!bar) return -1;
    const io = bar.kind === "io";
    if (!(this.command & (io ? COMMAND.IO_SPACE : COMMAND.MEMORY_SPACE))) return -1;
    const lo = this.readConfig(PCI.BAR0 + 4 * i, 4);
    if (io) return (lo & ~3) >>> 0;
    const hi = bar.kind === "memory64" ? this.readConfig(PCI.BAR0 + 4 * i + 4, 4) : 0;
    return ((lo & ~0xf) >>> 0) + hi * 0x1_0000_0000;
  }

  /** Of the expansion ROM, 0 if there is none. */
  get romBytes(): number {
    return this.#rom.length;
  }

  /** The access lies inside the ROM; `size` is 1, 2 or 4. */
  romRead(offset: number, size: number): number {
    let value = 0;
    for (let i = 0; i < size; i++) value = (value | (this.#rom[offset + i]! << (8 * i))) >>> 0;
    return value;
  }

  /** Where the expansion ROM is, or -1 if it is not decoded now. */
  romBase(): number {
    const rom = this.romBytes > 0 ? this.readConfig(PCI.EXPANSION_ROM, 4) : 0;
    return rom & ROM_ENABLE && this.command & COMMAND.MEMORY_SPACE ? (rom & -this.romBytes) >>> 0 : -1;
  }

  /** The access lies inside the BAR; `size` is 1, 2 or 4. */
  barRead(_bar: number, _offset: number, size: number): number {
    return size === 4 ? 0xffffffff : size === 2 ? 0xffff : 0xff;
  }

  barWrite(_bar: number, _offset: number, _size: number, _value: number): void {}

  /** Drives the interrupt pin. */
  setIntx(level: boolean): void {
    const wanted = level ? 1 : 0;
    if (this.pci.intx === wanted) return;
    this.pci.intx = wanted;
    this.#parent?.intxChanged(this);
  }

  /** Whether the pin is asserted on the bus. */
  get intxLevel(): boolean {
    return this.interruptPin !== 0 && this.pci.intx !== 0 && !(this.command & COMMAND.INTERRUPT_DISABLE);
  }
}
