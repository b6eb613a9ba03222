/**
 * The host bridge's way into PCI bus 0: both configuration mechanisms, and the windows through which BARs are reached.
 *
 * Spec: [pci §3.2.2.3.2] CONFIG_ADDRESS and CONFIG_DATA, [pcie §7.2.2] enhanced configuration access.
 * Emulated: 32 devices of 8 functions on bus 0; what is absent reads as all ones.
 * Absent: bridges, other buses, special cycles.
 *
 * Which BAR answers at an address is read from the functions' configuration records. Each thread keeps the outcome in a list
 * of its own, good for one value of `generation` in the shared record.
 */
import { ones, type Region } from "../../src/base/bus.ts";
import { Bug } from "../../src/base/errors.ts";
import { record, type View } from "../../src/base/record.ts";
import { COMMAND, PCI, type PciFunction, type PciParent } from "./function.ts";

/** I/O ports of configuration mechanism #1, from CF8h. */
export const PCI_CONFIG_PORTS = {
  CONFIG_ADDRESS: { at: 0x0, width: 4, access: "rw" },
  CONFIG_DATA: { at: 0x4, width: 4, access: "rw" },
} as const;

const ENABLE = 0x80000000;
const DEVFNS = 256;
/** Stands for the expansion ROM where others have the number of a BAR. */
const ROM = -1;

export const PciHostRecord = record("pci-host", 1, {
  configAddress: "u32",
  /**
   * Changes whenever a BAR or a command register does. It is a hash of those writes, not a count, so that a machine restored
   * to another past does not come upon a number some thread has already seen.
   */
  generation: "u32",
});

interface Decoded {
  readonly base: number;
  readonly end: number;
  readonly fn: PciFunction;
  readonly bar: number;
}

export interface AddressRange {
  readonly base: number;
  readonly end: number;
}

export class PciHost implements PciParent {
  readonly #slots: (PciFunction | undefined)[] = new Array(DEVFNS).fill(undefined);
  #memory: Decoded[] = [];
  #io: Decoded[] = [];
  #seenGeneration = -1;
  /** Called when a function's interrupt pin may have changed. */
  onIntx: (fn: PciFunction) => void = () => {};
  /** Called after a BAR or a command register has changed. */
  onDecode: () => void = () => {};

  /** The ports CF8h to CFFh. CF9h belongs to reset control where the parts have one. */
  readonly configPorts: Region;
  /** Bus 0's mebibyte of enhanced configuration space. */
  readonly ecam: Region;

  constructor(private readonly s: View<typeof PciHostRecord>, parts: { readonly resetControl?: Region } = {}) {
    const reset = parts.resetControl;
    this.configPorts = {
      read: (offset, size) => {
        if (offset === 1 && size === 1 && reset) return reset.read(0, 1);
        if (offset >= 4) return this.#readData(offset - 4, size);
        return offset === 0 && size === 4 ? this.s.configAddress : ones(size);
      },
      write: (offset, size, value) => {
        if (offset === 1 && size === 1 && reset) reset.write(0, 1, value);
        else if (offset >= 4) this.#writeData(offset - 4, size, value);
        // Bits 30..24 and 1..0 are reserved; only a whole doubleword reaches CONFIG_ADDRESS.
        else if (offset === 0 && size === 4) this.s.configAddress = (value & 0x80fffffc) >>> 0;
      },
    };
    this.ecam = {
      read: (offset, size) => this.#slots[offset >>> 12]?.readConfig(offset & 0xfff, size) ?? ones(size),
      write: (offset, size, value) => this.#slots[offset >>> 12]?.writeConfig(offset & 0xfff, size, value),
    };
  }

  /** Plugs a function in. The same order in every thread. */
  add<F extends PciFunction>(device: number, fn: number, f: F): F {
    const devfn = device * 8 + fn;
    if (this.#slots[devfn]) throw new Bug(`PCI function ${device}.${fn} added twice`);
    this.#slots[devfn] = f;
    f.attach(this, devfn);
    const first = this.#slots[device * 8];
    if (first && this.#slots.some((other, at) => other && at >> 3 === device && (at & 7) !== 0)) {
      first.markMultifunction();
    }
    this.#seenGeneration = -1;
    return f;
  }

  /** The functions there are, by device and function number. */
  get functions(): readonly PciFunction[] {
    return this.#slots.filter((f) => f !== undefined);
  }

  /** See PciHostRecord. */
  get generation(): number {
    return this.s.generation;
  }

  /** Where a function's memory BAR answers; -1 if it does not. */
  memoryAt(fn: PciFunction, bar: number): number {
    if (this.#seenGeneration !== this.s.generation) this.#rebuild();
    return this.#memory.find((d) => d.fn === fn && d.bar === bar)?.base ?? -1;
  }

  decodeChanged(salt: number): void {
    this.s.generation = (Math.imul(this.s.generation ^ salt, 0x01000193) + 0x9e3779b9) >>> 0;
    this.onDecode();
  }

  intxChanged(fn: PciFunction): void {
    this.onIntx(fn);
  }

  /** Memory BARs that lie at `base` and above, as a region that starts there. */
  memoryWindow(base: number): Region {
    return {
      read: (offset, size) => {
        const d = this.#decode(false, base + offset, size);
        if (!d) return ones(size);
        return d.bar === ROM
          ? d.fn.romRead(base + offset - d.base, size)
          : d.fn.barRead(d.bar, base + offset - d.base, size);
      },
      write: (offset, size, value) => {
        const d = this.#decode(false, base + offset, size);
        if (d && d.bar !== ROM) d.fn.barWrite(d.bar, base + offset - d.base, size, value);
      },
    };
  }

  /** I/O BARs that lie at `base` and above, as a region that starts there. */
  ioWindow(base: number): Region {
    return {
      read: (offset, size) => {
        const d = this.#decode(true, base + offset, size);
        return d ? d.fn.barRead(d.bar, base + offset - d.base, size) : ones(size);
      },
      write: (offset, size, value) => {
        const d = this.#decode(true, base + offset, size);
        if (d) d.fn.barWrite(d.bar, base + offset - d.base, size, value);
      },
    };
  }

  #decode(io: boolean, address: number, size: number): Decoded | undefined {
    if (this.#seenGeneration !== this.s.generation) this.#rebuild();
    const list = io ? this.#io : this.#memory;
    for (let i = 0; i < list.length; i++) {
      const d = list[i]!;
      if (address >= d.base && address + size <= d.end) return d;
    }
    return undefined;
  }

  #rebuild(): void {
    this.#seenGeneration = this.s.generation;
    this.#memory = [];
    this.#io = [];
    for (const fn of this.#slots) {
      if (!fn) continue;
      for (let bar = 0; bar < fn.bars.length; bar++) {
        const base = fn.barBase(bar);
        if (base < 0) continue;
        const spec = fn.bars[bar]!;
        const list = spec.kind === "io" ? this.#io : this.#memory;
        const end = base + spec.sizeBytes;
        // Two BARs at one address: real buses break in ways of their own; here the lower device number has it.
        if (!list.some((d) => base < d.end && d.base < end)) list.push({ base, end, fn, bar });
      }
      const rom = fn.romBase(), romEnd = rom + fn.romBytes;
      if (rom >= 0 && !this.#memory.some((d) => rom < d.end && d.base < romEnd)) {
        this.#memory.push({ base: rom, end: romEnd, fn, bar: ROM });
      }
    }
  }

  #selected(): PciFunction | undefined {
    const a = this.s.configAddress;
    if (!(a & ENABLE) || a & 0x00ff0000) return undefined;
    return this.#slots[(a >>> 8) & 0xff];
  }

  #readData(offset: number, size: number): number {
    return this.#selected()?.readConfig((this.s.configAddress & 0xfc) + offset, size) ?? ones(size);
  }

  #writeData(offset: number, size: number, value: number): void {
    this.#selected()?.writeConfig((this.s.configAddress & 0xfc) + offset, size, value);
  }

  /**
   * Does what firmware does before an operating system starts: gives every BAR an address, largest first, and enables it.
   * For machines that boot without firmware; called once, after power-on. Throws a Bug if the ranges are too small.
   */
  assignResources(memory: AddressRange, io: AddressRange): void {
    const wanted = this.functions.flatMap((fn) =>
      fn.bars.flatMap((spec, bar) => spec ? [{ fn, spec, bar, io: spec.kind === "io" }] : [])
    ).sort((a, b) => b.spec.sizeBytes - a.spec.sizeBytes);
    const next = { memory: memory.base, io: io.base };
    for (const w of wanted) {
      const kind = w.io ? "io" : "memory";
      const at = Math.ceil(next[kind] / w.spec.sizeBytes) * w.spec.sizeBytes;
      next[kind] = at + w.spec.sizeBytes;
      if (next[kind] > (w.io ? io : memory).end) throw new Bug(`PCI ${kind} window too small`);
      w.fn.writeConfig(PCI.BAR0 + 4 * w.bar, 4, at % 0x1_0000_0000);
      if (w.spec.kind === "memory64") w.fn.writeConfig(PCI.BAR0 + 4 * w.bar + 4, 4, Math.floor(at / 0x1_0000_0000));
      w.fn.writeConfig(PCI.COMMAND, 2, w.fn.command | (w.io ? COMMAND.IO_SPACE : COMMAND.MEMORY_SPACE));
    }
  }
}
