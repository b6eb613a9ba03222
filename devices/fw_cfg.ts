/**
 * The firmware configuration device: items by number and files by name that firmware reads to learn about the machine.
 *
 * Spec: [fw-cfg] "Register Locations", "Firmware Configuration Items", "Guest-side DMA Interface".
 * Emulated: selector and data ports, the file directory, the DMA interface with READ, SKIP and SELECT.
 * Absent: items a guest may write; a WRITE is answered with ERROR.
 *
 * An item is made when somebody reads it, from the records as they are then: tables may tell what firmware has set up before.
 */
import { ones, type Region } from "../src/base/bus.ts";
import type { GuestRam } from "../src/base/ram.ts";
import { record, type View } from "../src/base/record.ts";

export const FW_CFG_PORT = 0x510;
export const FW_CFG_BYTES = 12;

/** Offsets from 510h. The DMA address is big-endian; writing its low half starts the transfer. */
export const FW_CFG_PORTS = {
  SELECTOR: { at: 0, width: 2, access: "wo" },
  DATA: { at: 1, width: 1, access: "ro" },
  DMA_ADDRESS_HIGH: { at: 4, width: 4, access: "rw" },
  DMA_ADDRESS_LOW: { at: 8, width: 4, access: "rw" },
} as const;

/** Items that have a number of their own. */
export const FwCfgItem = {
  SIGNATURE: 0x00,
  ID: 0x01,
  UUID: 0x02,
  RAM_SIZE: 0x03,
  NOGRAPHIC: 0x04,
  NB_CPUS: 0x05,
  BOOT_MENU: 0x0e,
  MAX_CPUS: 0x0f,
  FILE_DIR: 0x19,
} as const;

const FILE_FIRST = 0x20;
const ID = { TRADITIONAL: 1 << 0, DMA: 1 << 1 } as const;
const DMA = { ERROR: 1 << 0, READ: 1 << 1, SKIP: 1 << 2, SELECT: 1 << 3, WRITE: 1 << 4 } as const;
const SIGNATURE = Uint8Array.of(0x51, 0x45, 0x4d, 0x55);
/** "QEMU CFG", read from the DMA address register. */
const DMA_SIGNATURE = [0x51454d55, 0x20434647] as const;
const NAME_BYTES = 56;
const ENTRY_BYTES = 64;

export const FwCfgRecord = record("fw-cfg", 1, {
  selector: "u16",
  offset: "u32",
  dmaHigh: "u32",
});

/** What there is to read: by number, and by name. */
export interface FwCfgContents {
  readonly items: Readonly<Record<number, () => Uint8Array>>;
  /** Names of at most 55 bytes. */
  readonly files: Readonly<Record<string, () => Uint8Array>>;
}

export class FwCfg {
  /** Ports 510h to 51Bh. */
  readonly region: Region;
  readonly #items = new Map<number, () => Uint8Array>();
  readonly #names: string[];
  /** What this thread has made of the item selected. */
  #cached: { readonly selector: number; readonly bytes: Uint8Array } | null = null;

  constructor(private readonly s: View<typeof FwCfgRecord>, private readonly ram: GuestRam, contents: FwCfgContents) {
    this.#items.set(FwCfgItem.SIGNATURE, () => SIGNATURE);
    this.#items.set(FwCfgItem.ID, () => Uint8Array.of(ID.TRADITIONAL | ID.DMA, 0, 0, 0));
    this.#items.set(FwCfgItem.FILE_DIR, () => this.#directory(contents));
    for (const [key, make] of Object.entries(contents.items)) this.#items.set(Number(key), make);
    this.#names = Object.keys(contents.files).sort();
    this.#names.forEach((name, i) => this.#items.set(FILE_FIRST + i, contents.files[name]!));
    this.region = {
      read: (offset, size) => this.#read(offset, size),
      write: (offset, size, value) => this.#write(offset, size, value),
    };
  }

  #directory({ files }: FwCfgContents): Uint8Array {
    const bytes = new Uint8Array(4 + ENTRY_BYTES * this.#names.length);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, this.#names.length);
    this.#names.forEach((name, i) => {
      const at = 4 + ENTRY_BYTES * i;
      view.setUint32(at, files[name]!().length);
      view.setUint16(at + 4, FILE_FIRST + i);
      bytes.set(new TextEncoder().encode(name).subarray(0, NAME_BYTES - 1), at + 8);
    });
    return bytes;
  }

  #read(offset: number, size: number): number {
    const { DATA, DMA_ADDRESS_HIGH, DMA_ADDRESS_LOW } = FW_CFG_PORTS;
    if (offset === DATA.at && size === 1) return this.#next();
    if (size === 4 && offset === DMA_ADDRESS_HIGH.at) return swap(DMA_SIGNATURE[0]);
    if (size === 4 && offset === DMA_ADDRESS_LOW.at) return swap(DMA_SIGNATURE[1]);
    return ones(size);
  }

  #write(offset: number, size: number, value: number): void {
    const { SELECTOR, DMA_ADDRESS_HIGH, DMA_ADDRESS_LOW } = FW_CFG_PORTS;
    if (offset === SELECTOR.at && size === 2) this.#select(value);
    else if (size === 4 && offset === DMA_ADDRESS_HIGH.at) this.s.dmaHigh = swap(value);
    else if (size === 4 && offset === DMA_ADDRESS_LOW.at) {
      const gpa = this.s.dmaHigh * 0x1_0000_0000 + swap(value);
      this.s.dmaHigh = 0;
      this.#transfer(gpa);
    }
  }

  #select(selector: number): void {
    this.s.selector = selector;
    this.s.offset = 0;
    this.#cached = null;
  }

  /** The selected item; empty if there is none. */
  #bytes(): Uint8Array {
    const { selector } = this.s;
    if (this.#cached?.selector !== selector || this.s.offset === 0) {
      this.#cached = { selector, bytes: this.#items.get(selector)?.() ?? new Uint8Array() };
    }
    return this.#cached.bytes;
  }

  /** Beyond its end an item reads as zeroes. */
  #next(): number {
    const byte = this.#bytes()[this.s.offset] ?? 0;
    this.#advance(1);
    return byte;
  }

  #advance(bytes: number): void {
    this.s.offset = Math.min(0xffffffff, this.s.offset + bytes);
  }

  /** Carries out the FWCfgDmaAccess structure at `gpa`: control, length, address, all big-endian. */
  #transfer(gpa: number): void {
    if (!this.ram.contains(gpa, 16)) return;
    const control = swap(this.ram.read(gpa, 4)), length = swap(this.ram.read(gpa + 4, 4));
    const address = swap(this.ram.read(gpa + 8, 4)) * 0x1_0000_0000 + swap(this.ram.read(gpa + 12, 4));
    if (control & DMA.SELECT) this.#select(control >>> 16);
    let failed = false;
    if (control & DMA.READ) failed = !this.#copyTo(address, length);
    else if (control & DMA.WRITE) failed = true;
    else if (control & DMA.SKIP) this.#advance(length);
    this.ram.write(gpa, 4, swap(failed ? DMA.ERROR : 0));
  }

  #copyTo(gpa: number, length: number): boolean {
    if (!this.ram.contains(gpa, length)) return false;
    const bytes = this.#bytes().subarray(this.s.offset, this.s.offset + length);
    this.ram.copyIn(gpa, bytes);
    this.ram.bytes(gpa + bytes.length, length - bytes.length)!.fill(0);
    this.ram.wrote(gpa, length);
    this.#advance(length);
    return true;
  }
}

function swap(value: number): number {
  return ((value << 24) | ((value & 0xff00) << 8) | ((value >>> 8) & 0xff00) | (value >>> 24)) >>> 0;
}
