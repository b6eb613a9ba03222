/**
 * The 8254 interval timer, and port 61h, which gates its channel 2.
 *
 * Spec: [i8254 §Operational Description]; [ich9 §13.7.1] NMI_SC, the chipset's name for port 61h.
 * Emulated: three channels, modes 0 to 5, BCD, counter latch, read-back, the gate of channel 2, OUT2 and the refresh toggle.
 * Absent: the NMI sources of port 61h, which never fire; the speaker. Periods of channel 0 that pass while nobody runs the
 * machine's timers make one edge, as they do for a processor with interrupts off.
 *
 * Counts have no state: they follow from the tick at which they were loaded and the tick it is.
 */
import { type Region, registerBank } from "../src/base/bus.ts";
import { type Clock, nsOfTick, ticksAt } from "../src/base/clock.ts";
import type { IrqLine } from "../src/base/irq.ts";
import { record, type View } from "../src/base/record.ts";
import type { Timer } from "../src/base/timers.ts";

export const I8254_PORT = 0x40;
export const PORT61 = 0x61;
export const I8254_HZ = 1_193_182;

export const I8254_REGISTERS = {
  COUNTER0: { at: 0, width: 1, access: "rw" },
  COUNTER1: { at: 1, width: 1, access: "rw" },
  COUNTER2: { at: 2, width: 1, access: "rw" },
  CONTROL: { at: 3, width: 1, access: "wo" },
} as const;

export const PORT61_REGISTERS = { NMI_SC: { at: 0, width: 1, access: "rw" } } as const;

const CONTROL = { BCD: 1 << 0, RW_LSB: 1 << 4, RW_MSB: 1 << 5 } as const;
const READ_BACK = { NO_STATUS: 1 << 4, NO_COUNT: 1 << 5 } as const;
const STATUS = { NULL_COUNT: 1 << 6, OUT: 1 << 7 } as const;
const NMI_SC = { TIM_CNT2_EN: 1 << 0, WRITABLE: 0x0f, REF_TOGGLE: 1 << 4, TMR2_OUT_STS: 1 << 5 } as const;

/** Ticks in the record start here, so that the start of a cycle that began before power-on is not negative. */
const TICK_BIAS = 2 ** 20;
const REFRESH_NS = 15_085;

/** What a channel does. IDLE: no count since the control word. WAITING: for its gate. HELD: by its gate, amid a count. */
const IDLE = 0, WAITING = 1, COUNTING = 2, HELD = 3;

export const I8254Record = record("i8254", 1, {
  /** RW, M and BCD bits of the control word. */
  control: { array: "u8", length: 3, max: 0x3f, reset: 0x30 },
  phase: { array: "u8", length: 3, max: 3 },
  /** The count register, and its first byte while the second is awaited. */
  cr: { array: "u16", length: 3 },
  crLow: { array: "u8", length: 3 },
  writeHigh: { array: "u8", length: 3, max: 1 },
  readHigh: { array: "u8", length: 3, max: 1 },
  /** A count register written but not yet loaded into the counting element. */
  fresh: { array: "u8", length: 3, max: 1 },
  /** The count in force, 1 to 65536. */
  initial: { array: "u32", length: 3, max: 65536, reset: 65536 },
  startTick: { array: "f64", length: 3, max: 2 ** 53 },
  /** Modes 2 and 3: when a fresh count register takes over. */
  switchTick: { array: "f64", length: 3, max: 2 ** 53 },
  /** Ticks counted when the gate stopped them. */
  held: { array: "f64", length: 3, max: 2 ** 53 },
  /** The counting element while nothing counts. */
  ce: { array: "u32", length: 3, max: 65536 },
  latch: { array: "u16", length: 3 },
  latched: { array: "u8", length: 3, max: 1 },
  status: { array: "u8", length: 3 },
  statusLatched: { array: "u8", length: 3, max: 1 },
  /** Channel 0: up to where edges of OUT were passed on. */
  seenTick: { type: "f64", max: 2 ** 53, reset: TICK_BIAS },
  port61: { type: "u8", max: 0x0f },
});

export class I8254 {
  /** Ports 40h to 43h. */
  readonly region: Region;
  readonly port61: Region;

  constructor(
    private readonly s: View<typeof I8254Record>,
    private readonly parts: { clock: Clock; timer: Timer; irq: IrqLine },
  ) {
    this.region = registerBank<typeof I8254_REGISTERS>({
      registers: I8254_REGISTERS,
      readRegister: (name) => this.#readCounter(I8254_REGISTERS[name].at),
      writeRegister: (name, value) => {
        this.settle();
        if (name === "CONTROL") this.#writeControl(value);
        else this.#writeCounter(I8254_REGISTERS[name].at, value);
        this.settle();
      },
    });
    this.port61 = registerBank<typeof PORT61_REGISTERS>({
      registers: PORT61_REGISTERS,
      readRegister: () => this.#readPort61(),
      writeRegister: (_name, value) => this.#writePort61(value),
    });
  }

  /** Passes edges of channel 0 on and arms the timer for the next. Also the timer's callback. */
  settle(): void {
    const s = this.s, tick = this.#tick();
    let rises = 0;
    if (this.#switchDue(0, tick)) {
      rises += this.#risesUpTo(s.switchTick[0]!) - this.#risesUpTo(s.seenTick);
      s.seenTick = s.switchTick[0]!;
      this.#switch(0);
    }
    this.#switchIfDue(2, tick);
    rises += this.#risesUpTo(tick) - this.#risesUpTo(s.seenTick);
    s.seenTick = tick;

    // The wire stays up through the low part of a periodic cycle: what matters to who listens is the rise at its end.
    const periodic = this.#mode(0) > 1;
    const level = periodic || this.#out(0, tick);
    if (rises > 0 && level) this.parts.irq.set(false);
    this.parts.irq.set(level);

    const next = this.#nextEvent(tick);
    if (next < Infinity) this.parts.timer.arm(nsOfTick(Math.max(0, next - TICK_BIAS), I8254_HZ));
    else this.parts.timer.disarm();
  }

  #tick(): number {
    return ticksAt(this.parts.clock.nowNs(), I8254_HZ) + TICK_BIAS;
  }

  /** M2..M0; M2 does not count in modes 2 and 3. */
  #mode(ch: number): number {
    const m = (this.s.control[ch]! >> 1) & 7;
    return m > 5 ? m - 4 : m;
  }

  #gate(ch: number): boolean {
    return ch !== 2 || (this.s.port61 & NMI_SC.TIM_CNT2_EN) !== 0;
  }

  /** The count in force. 1 is illegal in modes 2 and 3 and counts as 2 there. */
  #initial(ch: number): number {
    const mode = this.#mode(ch);
    return Math.max(mode === 2 || mode === 3 ? 2 : 1, this.s.initial[ch]!);
  }

  /** Ticks counted; -1 in the tick before the count is loaded. */
  #elapsed(ch: number, tick: number): number {
    return this.s.phase[ch] === HELD ? this.s.held[ch]! : tick - this.s.startTick[ch]!;
  }

  /** The counting element as a binary number, 0 standing for the modulus. */
  #count(ch: number, tick: number): number {
    const s = this.s;
    if (s.phase[ch] === IDLE || s.phase[ch] === WAITING) return s.ce[ch]!;
    const modulus = s.control[ch]! & CONTROL.BCD ? 10_000 : 65_536;
    const n = this.#initial(ch), e = Math.max(0, this.#elapsed(ch, tick));
    switch (this.#mode(ch)) {
      case 2:
        return (n - (e % n)) % modulus;
      case 3: { // counts by two, from an even number, once for each half
        const high = Math.ceil(n / 2), at = e % n;
        return ((n - (n % 2)) - 2 * (at < high ? at : at - high)) % modulus;
      }
      default:
        return (((n - e) % modulus) + modulus) % modulus;
    }
  }

  #out(ch: number, tick: number): boolean {
    const mode = this.#mode(ch);
    if (this.s.phase[ch] === IDLE) return mode !== 0;
    if (this.s.phase[ch] === WAITING) return true;
    const n = this.#initial(ch), e = this.#elapsed(ch, tick);
    switch (mode) {
      case 0:
        return e >= n;
      case 1:
        return e < 0 || e >= n;
      case 2:
        return e < 0 || e % n !== n - 1;
      case 3:
        return e < 0 || e % n < Math.ceil(n / 2);
      default:
        return e !== n;
    }
  }

  /** Rises of channel 0's OUT from the start of its count up to `tick`. */
  #risesUpTo(tick: number): number {
    if (this.s.phase[0] !== COUNTING) return 0;
    const n = this.#initial(0), e = Math.max(0, tick - this.s.startTick[0]!);
    switch (this.#mode(0)) {
      case 0:
      case 1:
        return e >= n ? 1 : 0;
      case 2:
      case 3:
        return Math.floor(e / n);
      default:
        return e > n ? 1 : 0;
    }
  }

  /** The tick of channel 0's next rise or change of count, or Infinity. */
  #nextEvent(tick: number): number {
    const s = this.s;
    if (s.phase[0] !== COUNTING) return Infinity;
    const n = this.#initial(0), start = s.startTick[0]!, e = Math.max(0, tick - start);
    switch (this.#mode(0)) {
      case 0:
      case 1:
        return e < n ? start + n : Infinity;
      case 2:
      case 3: {
        const rise = start + (Math.floor(e / n) + 1) * n;
        return s.fresh[0] ? Math.min(rise, Math.max(tick + 1, s.switchTick[0]!)) : rise;
      }
      default:
        return e <= n ? start + n + 1 : Infinity;
    }
  }

  #switchDue(ch: number, tick: number): boolean {
    const s = this.s, mode = this.#mode(ch);
    return (mode === 2 || mode === 3) && s.phase[ch] === COUNTING && s.fresh[ch] === 1 && tick >= s.switchTick[ch]!;
  }

  /** Takes a fresh count over at the end of a cycle, or in mode 3 of a half. */
  #switch(ch: number): void {
    const s = this.s, at = s.switchTick[ch]!;
    const amid = this.#mode(ch) === 3 && (at - s.startTick[ch]!) % this.#initial(ch) !== 0;
    s.initial[ch] = this.#countWritten(ch);
    s.startTick[ch] = Math.max(0, at - (amid ? Math.ceil(this.#initial(ch) / 2) : 0));
    s.fresh[ch] = 0;
  }

  #switchIfDue(ch: number, tick: number): void {
    if (this.#switchDue(ch, tick)) this.#switch(ch);
  }

  /** The count register as a number, 1 to 65536. */
  #countWritten(ch: number): number {
    const cr = this.s.cr[ch]!;
    if (!(this.s.control[ch]! & CONTROL.BCD)) return cr || 65_536;
    return ((cr >> 12) * 1000 + ((cr >> 8) & 15) * 100 + ((cr >> 4) & 15) * 10 + (cr & 15)) || 10_000;
  }

  /** Loads the count register; the counting element has it one tick later. */
  #load(ch: number, tick: number): void {
    const s = this.s;
    s.initial[ch] = this.#countWritten(ch);
    s.startTick[ch] = tick + 1;
    s.phase[ch] = COUNTING;
    s.fresh[ch] = 0;
    if (ch === 0) s.seenTick = tick;
  }

  #hold(ch: number, tick: number): void {
    this.s.held[ch] = Math.max(0, this.#elapsed(ch, tick));
    this.s.phase[ch] = HELD;
  }

  #writeControl(value: number): void {
    const ch = value >> 6;
    if (ch === 3) {
      for (let i = 0; i < 3; i++) {
        if (!(value & (2 << i))) continue;
        if (!(value & READ_BACK.NO_COUNT)) this.#latchCount(i);
        if (!(value & READ_BACK.NO_STATUS)) this.#latchStatus(i);
      }
      return;
    }
    if (!(value & (CONTROL.RW_LSB | CONTROL.RW_MSB))) return this.#latchCount(ch);
    const s = this.s;
    s.ce[ch] = this.#count(ch, this.#tick());
    s.control[ch] = value & 0x3f;
    s.phase[ch] = IDLE;
    s.fresh[ch] = 1;
    s.writeHigh[ch] = 0;
    s.readHigh[ch] = 0;
    s.latched[ch] = 0;
    s.statusLatched[ch] = 0;
  }

  #writeCounter(ch: number, value: number): void {
    const s = this.s, tick = this.#tick();
    const access = s.control[ch]! & (CONTROL.RW_LSB | CONTROL.RW_MSB);
    if (access === CONTROL.RW_LSB) s.cr[ch] = value;
    else if (access === CONTROL.RW_MSB) s.cr[ch] = value << 8;
    else if (!s.writeHigh[ch]) {
      s.crLow[ch] = value;
      s.writeHigh[ch] = 1;
      if (this.#mode(ch) === 0) { // the first byte stops the count and clears OUT
        s.ce[ch] = this.#count(ch, tick);
        s.phase[ch] = IDLE;
      }
      return;
    } else {
      s.cr[ch] = s.crLow[ch]! | (value << 8);
      s.writeHigh[ch] = 0;
    }

    switch (this.#mode(ch)) {
      case 0:
      case 4:
        this.#load(ch, tick);
        if (!this.#gate(ch)) this.#hold(ch, tick);
        return;
      case 2:
      case 3:
        if (s.phase[ch] === COUNTING && tick >= s.startTick[ch]!) {
          s.fresh[ch] = 1;
          s.switchTick[ch] = this.#endOfPart(ch, tick);
        } else if (this.#gate(ch)) this.#load(ch, tick);
        else {
          s.fresh[ch] = 1;
          s.phase[ch] = WAITING;
        }
        return;
      default: // 1 and 5 load at the next rise of the gate
        s.fresh[ch] = 1;
        if (s.phase[ch] === IDLE) s.phase[ch] = WAITING;
    }
  }

  /** The end of the cycle, in mode 3 of the half, that `tick` is in. */
  #endOfPart(ch: number, tick: number): number {
    const n = this.#initial(ch), e = tick - this.s.startTick[ch]!;
    const high = Math.ceil(n / 2), at = e % n;
    return tick - at + (this.#mode(ch) === 3 && at < high ? high : n);
  }

  #latchCount(ch: number): void {
    const s = this.s;
    if (s.latched[ch]) return;
    s.latched[ch] = 1;
    s.latch[ch] = this.#display(ch);
  }

  #latchStatus(ch: number): void {
    const s = this.s, tick = this.#tick();
    if (s.statusLatched[ch]) return;
    const isNull = s.fresh[ch] === 1 || (s.phase[ch] === COUNTING && tick < s.startTick[ch]!);
    s.statusLatched[ch] = 1;
    s.status[ch] = s.control[ch]! | (this.#out(ch, tick) ? STATUS.OUT : 0) | (isNull ? STATUS.NULL_COUNT : 0);
  }

  /** The counting element as it is read: in BCD when so programmed. */
  #display(ch: number): number {
    const count = this.#count(ch, this.#tick());
    if (!(this.s.control[ch]! & CONTROL.BCD)) return count & 0xffff;
    const digit = (unit: number) => Math.floor(count / unit) % 10;
    return (digit(1000) << 12) | (digit(100) << 8) | (digit(10) << 4) | digit(1);
  }

  #readCounter(ch: number): number {
    this.settle();
    const s = this.s;
    if (s.statusLatched[ch]) {
      s.statusLatched[ch] = 0;
      return s.status[ch]!;
    }
    const value = s.latched[ch] ? s.latch[ch]! : this.#display(ch);
    const access = s.control[ch]! & (CONTROL.RW_LSB | CONTROL.RW_MSB);
    const both = access !== CONTROL.RW_LSB && access !== CONTROL.RW_MSB;
    const high = both ? s.readHigh[ch] === 1 : access === CONTROL.RW_MSB;
    if (both) s.readHigh[ch] = high ? 0 : 1;
    if (!both || high) s.latched[ch] = 0;
    return high ? value >> 8 : value & 0xff;
  }

  #readPort61(): number {
    this.settle();
    const refresh = Math.floor(this.parts.clock.nowNs() / REFRESH_NS) % 2 === 1 ? NMI_SC.REF_TOGGLE : 0;
    return this.s.port61 | refresh | (this.#out(2, this.#tick()) ? NMI_SC.TMR2_OUT_STS : 0);
  }

  #writePort61(value: number): void {
    this.settle();
    const s = this.s, ch = 2, tick = this.#tick();
    const before = this.#gate(ch), mode = this.#mode(ch);
    const count = this.#count(ch, tick);
    s.port61 = value & NMI_SC.WRITABLE;
    const rose = this.#gate(ch) && !before, fell = before && !this.#gate(ch);
    switch (mode) {
      case 0:
      case 4:
        if (fell && s.phase[ch] === COUNTING) this.#hold(ch, tick);
        if (rose && s.phase[ch] === HELD) {
          s.startTick[ch] = Math.max(0, tick - s.held[ch]!);
          s.phase[ch] = COUNTING;
        }
        return;
      case 2:
      case 3:
        if (fell && s.phase[ch] === COUNTING) {
          s.ce[ch] = count;
          s.phase[ch] = WAITING;
        }
        if (rose && s.phase[ch] === WAITING) this.#load(ch, tick);
        return;
      default:
        if (rose && s.phase[ch] !== IDLE) this.#load(ch, tick);
    }
  }
}
