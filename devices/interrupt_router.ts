/**
 * The interrupt router: the wires of the board, and the bus between its APICs.
 *
 * Spec: [sdm3 §11.6.2] destinations, [sdm3 §11.11] message-signalled interrupts, [acpi §5.2.12.5] interrupt source overrides.
 * Emulated: wires 0 to 23 as the I/O APIC numbers them, each the wired OR of its sources; the first 16 also reach the 8259A
 * pair, the timer's as input 0 there and 2 here; the pair's INTR reaches LINT0 of every processor and input 0.
 * Absent: destinations beyond 8 bits in messages from devices (they need interrupt remapping).
 */
import { Bug } from "../src/base/errors.ts";
import type { IrqLine, MsiSink } from "../src/base/irq.ts";
import { record, type View } from "../src/base/record.ts";
import type { ApicBus, LocalApic } from "./local_apic.ts";
import { type InterruptMessage, wide } from "./local_apic_message.ts";
import { DeliveryMode, Shorthand } from "./local_apic_registers.ts";

/** Wires the board can have, of all I/O APICs together. */
export const MAX_WIRES = 64;
const MAX_SOURCES = 32;

/** The I/O APIC input of ISA interrupt 0, told to the guest by the MADT. */
export const ISA_TIMER_WIRE = 2;
/** The I/O APIC input that the 8259A pair's INTR is tied to. */
const PIC_WIRE = 0;

const MSI_ADDRESS = { PREFIX: 0xfee, REDIRECTION_HINT: 1 << 3, LOGICAL: 1 << 2 } as const;
const MSI_DATA = { ASSERT: 1 << 14, LEVEL: 1 << 15 } as const;

export const InterruptRouterRecord = record("interrupt-router", 1, {
  /** For each wire, a bit a source: asserted. */
  sources: { array: "u32", length: MAX_WIRES },
});

/** What the router needs of an I/O APIC. */
export interface WireInputs {
  /** Input n; undefined if it has no such input. */
  line(n: number): IrqLine | undefined;
  eoi(vector: number): void;
}

/** Chips that are not the board's, asked first: whether they have taken it. */
export interface OtherChips {
  wire(gsi: number, level: boolean): boolean;
  message(addressLo: number, addressHi: number, data: number): boolean;
}

export class InterruptRouter implements ApicBus, MsiSink {
  others: OtherChips | null = null;
  readonly #apics: LocalApic[] = [];
  readonly #ioApics: WireInputs[] = [];
  /** Per wire, the inputs it is tied to. */
  readonly #inputs: IrqLine[][] = Array.from({ length: MAX_WIRES }, () => []);
  readonly #sourceCount = new Uint8Array(MAX_WIRES);

  /** The output of the 8259A pair. */
  readonly picIntr: IrqLine = {
    set: (level) => {
      for (const apic of this.#apics) apic.lint0.set(level);
      for (const input of this.#inputs[PIC_WIRE]!) input.set(level);
    },
  };
  /** The board's NMI button, SERR# and the like: LINT1 of every processor. */
  readonly nmi: IrqLine = {
    set: (level) => {
      for (const apic of this.#apics) apic.lint1.set(level);
    },
  };

  constructor(private readonly s: View<typeof InterruptRouterRecord>) {}

  addLocalApic(apic: LocalApic): void {
    this.#apics.push(apic);
  }

  /** `firstWire` is the wire of its input 0: its global system interrupt base. */
  addIoApic(ioApic: WireInputs, firstWire = 0): void {
    this.#ioApics.push(ioApic);
    for (let n = 0; firstWire + n < MAX_WIRES; n++) {
      const input = ioApic.line(n);
      if (!input) break;
      this.#inputs[firstWire + n]!.push(input);
    }
  }

  /** Ties ISA interrupts to the 8259A pair. */
  addPic(pic: { line(n: number): IrqLine }): void {
    for (let irq = 0; irq < 16; irq++) {
      if (irq !== 2) this.#inputs[wireOfIsa(irq)]!.push(pic.line(irq)); // input 2 is the cascade
    }
  }

  /** A new source of wire `gsi` (its global system interrupt): each device holds its own, and the wire is their OR. */
  line(gsi: number): IrqLine {
    const index = this.#sourceCount[gsi];
    if (index === undefined || index >= MAX_SOURCES) throw new Bug(`Wire ${gsi} cannot have one more source`);
    this.#sourceCount[gsi] = index + 1;
    const bit = 1 << index;
    return { set: (level) => this.#drive(gsi, bit, level) };
  }

  /** A new source of ISA interrupt `irq`, 0 to 15. */
  isaLine(irq: number): IrqLine {
    return this.line(wireOfIsa(irq));
  }

  /** Drives every wire as the record says: after a restore, before the devices settle. */
  settle(): void {
    const { sources } = this.s;
    for (let gsi = 0; gsi < MAX_WIRES; gsi++) {
      if (this.#sourceCount[gsi] !== 0) { for (const input of this.#inputs[gsi]!) input.set(sources[gsi] !== 0); }
    }
  }

  /** A message-signalled interrupt. What is not one goes nowhere. [sdm3 §11.11.1, §11.11.2] */
  send(addressLo: number, addressHi: number, data: number): void {
    if (this.others?.message(addressLo, addressHi, data)) return;
    if (addressHi !== 0 || addressLo >>> 20 !== MSI_ADDRESS.PREFIX) return;
    const level = (data & MSI_DATA.LEVEL) !== 0;
    if (level && (data & MSI_DATA.ASSERT) === 0) return;
    const logical = (addressLo & MSI_ADDRESS.LOGICAL) !== 0;
    let mode = (data >>> 8) & 7;
    // The hint asks for the readiest of a logical destination's processors.
    if (mode === DeliveryMode.FIXED && logical && (addressLo & MSI_ADDRESS.REDIRECTION_HINT) !== 0) {
      mode = DeliveryMode.LOWEST;
    }
    this.deliver({ mode, vector: data & 0xff, level, logical, destination: wide((addressLo >>> 12) & 0xff) });
  }

  /** Delivers a message to the local APICs it names; whether one of them accepted it. */
  deliver(message: InterruptMessage): boolean {
    if (this.others?.message(...encoded(message))) return true;
    return this.#deliver(message, Shorthand.NONE, null);
  }

  sendIpi(message: InterruptMessage, shorthand: number, from: LocalApic): void {
    this.#deliver(message, shorthand, from);
  }

  eoi(vector: number): void {
    for (const ioApic of this.#ioApics) ioApic.eoi(vector);
  }

  #deliver(message: InterruptMessage, shorthand: number, from: LocalApic | null): boolean {
    const { mode, vector, level, destination, logical } = message;
    let accepted = false;
    let readiest: LocalApic | null = null;
    let priority = Infinity;
    for (const apic of this.#apics) {
      if (shorthand === Shorthand.OTHERS && apic === from) continue;
      if (shorthand === Shorthand.NONE && !apic.isDestination(destination, logical)) continue;
      if (mode !== DeliveryMode.LOWEST) {
        if (apic.receive(mode, vector, level)) accepted = true;
      } else if (apic.acceptsFixed && apic.vectors.arbitrationPriority() < priority) {
        readiest = apic;
        priority = apic.vectors.arbitrationPriority();
      }
    }
    return readiest ? readiest.receive(mode, vector, level) : accepted;
  }

  #drive(gsi: number, bit: number, level: boolean): void {
    const { sources } = this.s;
    const before = sources[gsi]!;
    sources[gsi] = level ? before | bit : before & ~bit;
    const after = sources[gsi]!;
    if ((before === 0) === (after === 0)) return;
    if (this.others?.wire(gsi, after !== 0)) return;
    for (const input of this.#inputs[gsi]!) input.set(after !== 0);
  }
}

/** A message as the write that would send it. */
function encoded({ mode, vector, level, logical, destination }: InterruptMessage): [number, number, number] {
  const address = MSI_ADDRESS.PREFIX * 0x10_0000 + ((destination & 0xff) << 12) + (logical ? MSI_ADDRESS.LOGICAL : 0);
  return [address, 0, vector | (mode << 8) | (level ? MSI_DATA.LEVEL | MSI_DATA.ASSERT : 0)];
}

/** Which wire ISA interrupt `irq` is. */
export function wireOfIsa(irq: number): number {
  return irq === 0 ? ISA_TIMER_WIRE : irq;
}
