/**
 * An I/O APIC: wires in, messages to local APICs out.
 *
 * Spec: [ioapic §3.1, §3.2] the window and the registers behind it; [ich9 §13.5] the EOI register of version 20h.
 * Emulated: 24 inputs (or as many as asked for), edge and level, remote IRR, delivery to physical and logical destinations.
 * Absent: SMI (accepted and dropped). Wires carry "asserted"; the polarity bits are kept and change nothing.
 * An edge on a masked input is lost, as in the chip; a level is not.
 */
import { type Region, registerBank, type RegisterDevice, type RegisterTable } from "../src/base/bus.ts";
import type { IrqLine } from "../src/base/irq.ts";
import { record, type View } from "../src/base/record.ts";
import { type InterruptMessage, wide } from "./local_apic_message.ts";
import { DeliveryMode } from "./local_apic_registers.ts";

export const IO_APIC_BASE = 0xfec00000;
export const IO_APIC_BYTES = 4096;
export const IO_APIC_PINS = 24;
const MAX_PINS = 64;

export const IO_APIC = {
  IOREGSEL: { at: 0x00, width: 4, access: "rw" },
  IOWIN: { at: 0x10, width: 4, access: "rw" },
  EOIR: { at: 0x40, width: 4, access: "wo" },
} as const satisfies RegisterTable;

/** Behind the window. */
const INDEX = { IOAPICID: 0, IOAPICVER: 1, IOAPICARB: 2, IOREDTBL: 0x10 } as const;
const VERSION = 0x20;

/** A redirection entry's lower half. */
const RTE = {
  LOGICAL: 1 << 11,
  REMOTE_IRR: 1 << 14,
  LEVEL: 1 << 15,
  MASKED: 1 << 16,
  /** The delivery status (bit 12) is always idle: a message arrives at once. */
  WRITABLE: 0x0001_afff,
} as const;

export const IoApicRecord = record("io-apic", 1, {
  select: "u8",
  id: { type: "u8", max: 0xf },
  lines: { array: "u8", length: MAX_PINS, max: 1 },
  rteLo: { array: "u32", length: MAX_PINS, reset: RTE.MASKED },
  rteHi: { array: "u32", length: MAX_PINS },
});

export interface IoApicParts {
  /** Inputs, at most 64. */
  readonly pins: number;
  /** Carries a message to the local APICs; whether one accepted it. */
  readonly bus: { deliver(message: InterruptMessage): boolean };
}

export class IoApic implements RegisterDevice<typeof IO_APIC> {
  readonly registers = IO_APIC;
  readonly mmio: Region = registerBank<typeof IO_APIC>(this);
  readonly #lines: IrqLine[];
  readonly #pins: number;

  constructor(private readonly s: View<typeof IoApicRecord>, private readonly parts: IoApicParts) {
    this.#pins = Math.min(parts.pins, MAX_PINS);
    this.#lines = Array.from({ length: this.#pins }, (_, n) => ({ set: (level) => this.#input(n, level) }));
  }

  /** Input n; undefined past the last. */
  line(n: number): IrqLine | undefined {
    return this.#lines[n];
  }

  readRegister(name: keyof typeof IO_APIC): number {
    switch (name) {
      case "IOREGSEL":
        return this.s.select;
      case "IOWIN":
        return this.#readIndexed(this.s.select);
      case "EOIR":
        return 0;
    }
  }

  writeRegister(name: keyof typeof IO_APIC, value: number): void {
    switch (name) {
      case "IOREGSEL":
        this.s.select = value & 0xff;
        return;
      case "IOWIN":
        return this.#writeIndexed(this.s.select, value);
      case "EOIR":
        return this.eoi(value & 0xff);
    }
  }

  /** The interrupt of `vector` is over: its level-triggered inputs may ask again. */
  eoi(vector: number): void {
    const { rteLo } = this.s;
    for (let n = 0; n < this.#pins; n++) {
      const entry = rteLo[n]!;
      if ((entry & RTE.REMOTE_IRR) === 0 || (entry & 0xff) !== vector) continue;
      rteLo[n] = entry & ~RTE.REMOTE_IRR;
      this.#serveLevel(n);
    }
  }

  /** Sends what asserted levels ask for and nobody has been told. */
  settle(): void {
    for (let n = 0; n < this.#pins; n++) this.#serveLevel(n);
  }

  #input(n: number, level: boolean): void {
    const rises = level && this.s.lines[n] === 0;
    this.s.lines[n] = level ? 1 : 0;
    const entry = this.s.rteLo[n]!;
    if (isLevel(entry)) this.#serveLevel(n);
    else if (rises && (entry & RTE.MASKED) === 0) this.#send(n);
  }

  #serveLevel(n: number): void {
    const { lines, rteLo } = this.s;
    const entry = rteLo[n]!;
    if (lines[n] === 0 || !isLevel(entry) || (entry & (RTE.MASKED | RTE.REMOTE_IRR)) !== 0) return;
    // Before it is sent, since the acceptance may already lead to an EOI.
    rteLo[n] = entry | RTE.REMOTE_IRR;
    if (!this.#send(n)) rteLo[n]! &= ~RTE.REMOTE_IRR;
  }

  #send(n: number): boolean {
    const entry = this.s.rteLo[n]!;
    return this.parts.bus.deliver({
      mode: (entry >>> 8) & 7,
      vector: entry & 0xff,
      level: isLevel(entry),
      logical: (entry & RTE.LOGICAL) !== 0,
      destination: wide(this.s.rteHi[n]! >>> 24),
    });
  }

  #readIndexed(index: number): number {
    const n = (index - INDEX.IOREDTBL) >> 1;
    if (n >= 0 && n < this.#pins) return (index & 1) === 0 ? this.s.rteLo[n]! : this.s.rteHi[n]!;
    switch (index) {
      case INDEX.IOAPICID:
      case INDEX.IOAPICARB: // loaded with the ID whenever that is written
        return this.s.id << 24;
      case INDEX.IOAPICVER:
        return ((this.#pins - 1) << 16) | VERSION;
    }
    return 0;
  }

  #writeIndexed(index: number, value: number): void {
    const s = this.s;
    if (index === INDEX.IOAPICID) s.id = (value >>> 24) & 0xf;
    const n = (index - INDEX.IOREDTBL) >> 1;
    if (n < 0 || n >= this.#pins) return;
    if ((index & 1) === 1) {
      s.rteHi[n] = value & 0xff000000;
      return;
    }
    // Remote IRR belongs to level-triggered entries: to make one edge-triggered for a moment clears it.
    const kept = (value & RTE.LEVEL) !== 0 ? s.rteLo[n]! & RTE.REMOTE_IRR : 0;
    s.rteLo[n] = (value & RTE.WRITABLE) | kept;
    this.#serveLevel(n);
  }
}

/** Level-triggered: what is neither fixed nor lowest-priority is an edge whatever the entry says. [ioapic §3.2.4] */
function isLevel(entry: number): boolean {
  const mode = (entry >>> 8) & 7;
  return (entry & RTE.LEVEL) !== 0 && (mode === DeliveryMode.FIXED || mode === DeliveryMode.LOWEST);
}
