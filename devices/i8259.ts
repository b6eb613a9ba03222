/**
 * The pair of 8259A interrupt controllers of a PC, the second cascaded on input 2 of the first, with the ELCR of the chipset.
 *
 * Spec: [i8259 §Programming] ICWs and OCWs; [ich9 §13.4] ELCR.
 * Emulated: ICW1 to ICW4, fully nested and special fully nested mode, rotation, special mask, automatic EOI, poll, spurious
 * IRQ 7 and 15, edge and level inputs. A request that drops before it is acknowledged is gone, as in the chip.
 * Absent: MCS-80 mode and buffered mode (stored nowhere: no PC has them); ICW3 is read and ignored, the cascade is wired.
 */
import { type Region, registerBank, type RegisterDevice } from "../src/base/bus.ts";
import type { IrqLine } from "../src/base/irq.ts";
import { record, type View } from "../src/base/record.ts";

export const I8259_MASTER_PORT = 0x20;
export const I8259_SLAVE_PORT = 0xa0;
export const ELCR_PORT = 0x4d0;

/** One controller: the port with A0 low, and the one with A0 high. */
export const I8259_REGISTERS = {
  /** Writes ICW1, OCW2 or OCW3; reads IRR, ISR or the poll word. */
  COMMAND: { at: 0, width: 1, access: "rw" },
  /** Writes ICW2 to ICW4 or OCW1; reads IMR. */
  DATA: { at: 1, width: 1, access: "rw" },
} as const;

export const ELCR_REGISTERS = {
  ELCR1: { at: 0, width: 1, access: "rw" },
  ELCR2: { at: 1, width: 1, access: "rw" },
} as const;

/** Inputs that can be level-triggered: not the timer, the keyboard, the cascade, the clock and the coprocessor. */
const ELCR_WRITABLE = [0xf8, 0xde] as const;

const ICW1 = { IC4: 1 << 0, SNGL: 1 << 1, LTIM: 1 << 3, IS_ICW1: 1 << 4 } as const;
const ICW4 = { AEOI: 1 << 1, SFNM: 1 << 4 } as const;
const OCW2 = { EOI: 1 << 5, SL: 1 << 6, R: 1 << 7 } as const;
const OCW3 = { RIS: 1 << 0, RR: 1 << 1, P: 1 << 2, IS_OCW3: 1 << 3, SMM: 1 << 5, ESMM: 1 << 6 } as const;

const MASTER = 0, SLAVE = 1;
const CASCADE = 2;
const SPURIOUS = 7;
type Chip = typeof MASTER | typeof SLAVE;

/** Each array has the master's value, then the slave's. */
export const I8259Record = record("i8259", 1, {
  /** Levels of the inputs. */
  lines: { array: "u8", length: 2 },
  /** Requests latched by an edge; level-triggered requests are the lines themselves. */
  latched: { array: "u8", length: 2 },
  isr: { array: "u8", length: 2 },
  imr: { array: "u8", length: 2, reset: 0xff },
  elcr: { array: "u8", length: 2 },
  icw1: { array: "u8", length: 2 },
  vectorBase: { array: "u8", length: 2, max: 0xf8 },
  icw4: { array: "u8", length: 2 },
  /** The ICW that the next write with A0 high is (2, 3 or 4), or 0 when operating. */
  awaited: { array: "u8", length: 2, max: 4 },
  lowest: { array: "u8", length: 2, max: 7, reset: 7 },
  readIsr: { array: "u8", length: 2, max: 1 },
  poll: { array: "u8", length: 2, max: 1 },
  specialMask: { array: "u8", length: 2, max: 1 },
  rotateOnAeoi: { array: "u8", length: 2, max: 1 },
});

export class I8259 {
  readonly master: Region;
  readonly slave: Region;
  readonly elcr: Region;
  readonly #lines: IrqLine[];

  constructor(
    private readonly s: View<typeof I8259Record>,
    private readonly parts: { intr: IrqLine },
  ) {
    this.master = registerBank(this.#ports(MASTER));
    this.slave = registerBank(this.#ports(SLAVE));
    this.elcr = registerBank<typeof ELCR_REGISTERS>({
      registers: ELCR_REGISTERS,
      readRegister: (name) => this.s.elcr[name === "ELCR1" ? MASTER : SLAVE]!,
      writeRegister: (name, value) => {
        const chip = name === "ELCR1" ? MASTER : SLAVE;
        this.s.elcr[chip] = value & ELCR_WRITABLE[chip];
        this.settle();
      },
    });
    this.#lines = Array.from({ length: 16 }, (_, n) => ({
      set: (level) => {
        if (n === CASCADE) return;
        this.#input(n < 8 ? MASTER : SLAVE, n & 7, level);
        this.settle();
      },
    }));
  }

  /** Input `n`, 0 to 15. Input 2 is the cascade: a wire tied to it does nothing. */
  line(n: number): IrqLine {
    return this.#lines[n]!;
  }

  /** Whether the pair asks the processor for an interrupt. */
  pending(): boolean {
    return this.#request(MASTER) >= 0;
  }

  /** The INTA cycles: the vector to take. With nothing to serve, the spurious vector, and nothing is in service. */
  acknowledge(): number {
    const n = this.#request(MASTER);
    let vector = this.s.vectorBase[MASTER]! + (n < 0 ? SPURIOUS : n);
    if (n >= 0) this.#serve(MASTER, n);
    if (n === CASCADE) {
      const m = this.#request(SLAVE);
      if (m >= 0) this.#serve(SLAVE, m);
      vector = this.s.vectorBase[SLAVE]! + (m < 0 ? SPURIOUS : m);
    }
    this.settle();
    return vector;
  }

  /** Drives the cascade and the output from the record. */
  settle(): void {
    this.#input(MASTER, CASCADE, this.#request(SLAVE) >= 0);
    this.parts.intr.set(this.#request(MASTER) >= 0);
  }

  #ports(chip: Chip): RegisterDevice<typeof I8259_REGISTERS> {
    return {
      registers: I8259_REGISTERS,
      readRegister: (name) => this.#read(chip, name),
      writeRegister: (name, value) => {
        if (name === "DATA") this.#writeData(chip, value);
        else if (value & ICW1.IS_ICW1) this.#writeIcw1(chip, value);
        else if (value & OCW3.IS_OCW3) this.#writeOcw3(chip, value);
        else this.#writeOcw2(chip, value);
        this.settle();
      },
    };
  }

  #read(chip: Chip, name: keyof typeof I8259_REGISTERS): number {
    const s = this.s;
    if (s.poll[chip]) {
      s.poll[chip] = 0;
      const n = this.#request(chip);
      if (n < 0) return 0;
      this.#serve(chip, n);
      this.settle();
      return 0x80 | n;
    }
    if (name === "DATA") return s.imr[chip]!;
    return s.readIsr[chip] ? s.isr[chip]! : this.#irr(chip);
  }

  #writeIcw1(chip: Chip, value: number): void {
    const s = this.s;
    s.icw1[chip] = value;
    s.awaited[chip] = 2;
    s.latched[chip] = 0; // an input must fall and rise again to be seen
    s.isr[chip] = 0;
    s.imr[chip] = 0;
    s.lowest[chip] = 7;
    s.specialMask[chip] = 0;
    s.readIsr[chip] = 0;
    s.poll[chip] = 0;
    if (!(value & ICW1.IC4)) s.icw4[chip] = 0;
  }

  #writeData(chip: Chip, value: number): void {
    const s = this.s;
    const icw1 = s.icw1[chip]!;
    switch (s.awaited[chip]) {
      case 2:
        s.vectorBase[chip] = value & 0xf8;
        s.awaited[chip] = !(icw1 & ICW1.SNGL) ? 3 : icw1 & ICW1.IC4 ? 4 : 0;
        return;
      case 3:
        s.awaited[chip] = icw1 & ICW1.IC4 ? 4 : 0;
        return;
      case 4:
        s.icw4[chip] = value;
        s.awaited[chip] = 0;
        return;
      default:
        s.imr[chip] = value; // OCW1
    }
  }

  #writeOcw2(chip: Chip, value: number): void {
    const s = this.s;
    const rotate = (value & OCW2.R) !== 0;
    if (value & OCW2.EOI) {
      const n = value & OCW2.SL ? value & 7 : this.#highestInService(chip);
      if (n < 0) return;
      s.isr[chip] = s.isr[chip]! & ~(1 << n);
      if (rotate) s.lowest[chip] = n;
    } else if (!(value & OCW2.SL)) s.rotateOnAeoi[chip] = rotate ? 1 : 0;
    else if (rotate) s.lowest[chip] = value & 7; // set priority; without R this is the chip's no-operation
  }

  #writeOcw3(chip: Chip, value: number): void {
    const s = this.s;
    if (value & OCW3.ESMM) s.specialMask[chip] = value & OCW3.SMM ? 1 : 0;
    if (value & OCW3.P) s.poll[chip] = 1;
    else if (value & OCW3.RR) s.readIsr[chip] = value & OCW3.RIS;
  }

  /** What a non-specific EOI ends: in special mask mode a masked level is passed over. */
  #highestInService(chip: Chip): number {
    const isr = this.#blocking(chip);
    for (let k = 1; k <= 8; k++) {
      const n = (this.s.lowest[chip]! + k) & 7;
      if (isr & (1 << n)) return n;
    }
    return -1;
  }

  /** The in-service levels that take part in priority. */
  #blocking(chip: Chip): number {
    const isr = this.s.isr[chip]!;
    return this.s.specialMask[chip] ? isr & ~this.s.imr[chip]! : isr;
  }

  #irr(chip: Chip): number {
    const s = this.s;
    const level = s.icw1[chip]! & ICW1.LTIM ? 0xff : s.elcr[chip]!;
    return (s.latched[chip]! & ~level) | (s.lines[chip]! & level);
  }

  #input(chip: Chip, n: number, level: boolean): void {
    const s = this.s, bit = 1 << n;
    if (!level) {
      s.lines[chip] = s.lines[chip]! & ~bit;
      s.latched[chip] = s.latched[chip]! & ~bit;
    } else if (!(s.lines[chip]! & bit)) {
      s.lines[chip] = s.lines[chip]! | bit;
      s.latched[chip] = s.latched[chip]! | bit;
    }
  }

  /** The input to serve next, or -1. */
  #request(chip: Chip): number {
    const s = this.s;
    const requests = this.#irr(chip) & ~s.imr[chip]!;
    if (requests === 0 || s.awaited[chip] !== 0) return -1;
    const blocking = this.#blocking(chip);
    for (let k = 1; k <= 8; k++) {
      const n = (s.lowest[chip]! + k) & 7, bit = 1 << n;
      if (blocking & bit) {
        // Special fully nested: the slave in service may ask again, for something more urgent of its own.
        const again = chip === MASTER && n === CASCADE && (s.icw4[chip]! & ICW4.SFNM) !== 0;
        return again && requests & bit ? n : -1;
      }
      if (requests & bit) return n;
    }
    return -1;
  }

  #serve(chip: Chip, n: number): void {
    const s = this.s, bit = 1 << n;
    s.latched[chip] = s.latched[chip]! & ~bit;
    if (!(s.icw4[chip]! & ICW4.AEOI)) s.isr[chip] = s.isr[chip]! | bit;
    else if (s.rotateOnAeoi[chip]) s.lowest[chip] = n;
    // The slave's INT falls during its INTA, so that a request still waiting makes a new edge at the master.
    if (chip === SLAVE) this.#input(MASTER, CASCADE, false);
  }
}
