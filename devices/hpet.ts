/**
 * The high precision event timers: a counter of 64 bits at 100 MHz and three comparators.
 *
 * Spec: [hpet §2.3] registers, [hpet §2.4] theory of operation.
 * Emulated: the counter, started, stopped and set; one-shot timers of 32 or 64 bits, a periodic one; edge and level; routing
 * to the I/O APIC's inputs 20 to 23, or in place of PIT and RTC.
 * Absent: delivery as messages (FSB): the capability bit is 0.
 */
import { type Region, registerBank } from "../src/base/bus.ts";
import type { Clock } from "../src/base/clock.ts";
import type { IrqLine } from "../src/base/irq.ts";
import { record, type View } from "../src/base/record.ts";
import type { Timer } from "../src/base/timers.ts";

export const HPET_BASE = 0xfed0_0000;
export const HPET_BYTES = 0x400;
export const HPET_TIMERS = 3;
/** The I/O APIC's inputs that timers can be led to. */
export const HPET_FIRST_GSI = 20, HPET_GSIS = 4;

/** Halves of registers of 64 bits. */
export const HPET = {
  GCAP_ID: { at: 0x000, width: 4, access: "ro" },
  COUNTER_CLK_PER: { at: 0x004, width: 4, access: "ro" },
  GEN_CONF: { at: 0x010, width: 4, access: "rw" },
  GINTR_STA: { at: 0x020, width: 4, access: "w1c" },
  MAIN_CNT_LO: { at: 0x0f0, width: 4, access: "rw" },
  MAIN_CNT_HI: { at: 0x0f4, width: 4, access: "rw" },
  TIM0_CONF_LO: { at: 0x100, width: 4, access: "rw" },
  TIM0_CONF_HI: { at: 0x104, width: 4, access: "ro" },
  TIM0_COMP_LO: { at: 0x108, width: 4, access: "rw" },
  TIM0_COMP_HI: { at: 0x10c, width: 4, access: "rw" },
  TIM1_CONF_LO: { at: 0x120, width: 4, access: "rw" },
  TIM1_CONF_HI: { at: 0x124, width: 4, access: "ro" },
  TIM1_COMP_LO: { at: 0x128, width: 4, access: "rw" },
  TIM1_COMP_HI: { at: 0x12c, width: 4, access: "rw" },
  TIM2_CONF_LO: { at: 0x140, width: 4, access: "rw" },
  TIM2_CONF_HI: { at: 0x144, width: 4, access: "ro" },
  TIM2_COMP_LO: { at: 0x148, width: 4, access: "rw" },
  TIM2_COMP_HI: { at: 0x14c, width: 4, access: "rw" },
} as const;
type Name = keyof typeof HPET;

const REVISION = 1, VENDOR = 0x8086;
const GCAP = { COUNT_SIZE: 1 << 13, LEG_RT: 1 << 15 } as const;
/** What the ACPI table repeats. */
export const HPET_ID = (REVISION | ((HPET_TIMERS - 1) << 8) | GCAP.COUNT_SIZE | GCAP.LEG_RT | (VENDOR << 16)) >>> 0;
const PERIOD_FS = 10_000_000, NS_PER_TICK = 10;
const GEN = { ENABLE: 1 << 0, LEG_RT: 1 << 1 } as const;
const CONF = {
  LEVEL: 1 << 1,
  INT_ENB: 1 << 2,
  PERIODIC: 1 << 3,
  PER_INT_CAP: 1 << 4,
  SIZE_CAP: 1 << 5,
  VAL_SET: 1 << 6,
  MODE32: 1 << 8,
  ROUTE: 0x1f << 9,
} as const;
export const HPET_CONF = CONF;
const CONF_WRITABLE = CONF.LEVEL | CONF.INT_ENB | CONF.PERIODIC | CONF.VAL_SET | CONF.MODE32 | CONF.ROUTE;
const ROUTES = ((1 << HPET_GSIS) - 1) << HPET_FIRST_GSI;
const MASK32 = 0xffff_ffffn, MASK64 = 0xffff_ffff_ffff_ffffn;
/** A deadline farther than this, a century, is none. */
const FAR_TICKS = 2 ** 52;

export const HpetRecord = record("hpet", 1, {
  config: { type: "u32", max: GEN.ENABLE | GEN.LEG_RT },
  status: { type: "u32", max: (1 << HPET_TIMERS) - 1 },
  /** The counter at `baseTick`; while it stands still, the counter. */
  baseLo: "u32",
  baseHi: "u32",
  /** Ticks of guest time. */
  baseTick: { type: "f64", max: 2 ** 53 },
  /** Up to which matches have been looked for. */
  seenTick: { type: "f64", max: 2 ** 53 },
  timerConfig: { array: "u32", length: HPET_TIMERS },
  comparatorLo: { array: "u32", length: HPET_TIMERS, reset: 0xffffffff },
  comparatorHi: { array: "u32", length: HPET_TIMERS, reset: 0xffffffff },
  periodLo: { array: "u32", length: HPET_TIMERS },
  periodHi: { array: "u32", length: HPET_TIMERS },
  /** The low half of a comparator was set by VAL_SET: so is the high half that follows. */
  setHigh: { array: "u8", length: HPET_TIMERS, max: 1 },
});

export interface HpetParts {
  readonly clock: Clock;
  readonly timer: Timer;
  /** By timer, then by input from HPET_FIRST_GSI on. */
  readonly gsi: readonly (readonly IrqLine[])[];
  /** IRQ 0 and IRQ 8, of which PIT and RTC let go while `legacy` is true. */
  readonly legacy: readonly [IrqLine, IrqLine];
  /** `legacy` has changed. */
  readonly onLegacy: () => void;
}

export class Hpet {
  readonly mmio: Region;

  constructor(private readonly s: View<typeof HpetRecord>, private readonly parts: HpetParts) {
    this.mmio = registerBank<typeof HPET>({
      registers: HPET,
      readRegister: (name) => this.#read(name),
      writeRegister: (name, value) => this.#write(name, value),
    });
  }

  /** Timers 0 and 1 stand in for PIT and RTC. */
  get legacy(): boolean {
    return (this.s.config & GEN.LEG_RT) !== 0;
  }

  /** Looks for matches since the last time, drives the lines, arms the timer. Also the timer's callback. */
  settle(): void {
    const s = this.s, tick = this.#tick();
    const elapsed = Math.max(0, tick - s.seenTick);
    if (this.#enabled && elapsed > 0) {
      const before = this.#counterAt(s.seenTick);
      for (let n = 0; n < HPET_TIMERS; n++) if (this.#pass(n, before, BigInt(elapsed))) this.#fire(n);
    }
    s.seenTick = tick;
    for (let n = 0; n < HPET_TIMERS; n++) this.#drive(n);
    this.#arm(tick);
  }

  get #enabled(): boolean {
    return (this.s.config & GEN.ENABLE) !== 0;
  }
  #tick(): number {
    return Math.floor(this.parts.clock.nowNs() / NS_PER_TICK);
  }
  #counterAt(tick: number): bigint {
    const base = pair(this.s.baseLo, this.s.baseHi);
    return this.#enabled ? (base + BigInt(Math.max(0, tick - this.s.baseTick))) & MASK64 : base;
  }

  #is32(n: number): boolean {
    return (this.s.timerConfig[n]! & CONF.MODE32) !== 0;
  }
  #periodic(n: number): boolean {
    return n === 0 && (this.s.timerConfig[n]! & CONF.PERIODIC) !== 0;
  }

  /** Ticks from `counter` to the next match, at least 1. */
  #distance(n: number, counter: bigint): bigint {
    const mask = this.#is32(n) ? MASK32 : MASK64;
    const d = (pair(this.s.comparatorLo[n]!, this.s.comparatorHi[n]!) - counter) & mask;
    return d === 0n ? mask + 1n : d;
  }

  /** Whether timer `n` matched within `elapsed` ticks from `before`; a periodic one gets its next comparator. */
  #pass(n: number, before: bigint, elapsed: bigint): boolean {
    const distance = this.#distance(n, before);
    if (distance > elapsed) return false;
    if (!this.#periodic(n)) return true;
    const s = this.s, mask = this.#is32(n) ? MASK32 : MASK64;
    const period = pair(s.periodLo[n]!, s.periodHi[n]!) & mask;
    if (period === 0n) return true;
    const times = (elapsed - distance) / period + 1n;
    const next = (pair(s.comparatorLo[n]!, s.comparatorHi[n]!) + times * period) & mask;
    s.comparatorLo[n] = Number(next & MASK32);
    s.comparatorHi[n] = Number(next >> 32n);
    return true;
  }

  /** An edge, or a status bit that holds its line. */
  #fire(n: number): void {
    const config = this.s.timerConfig[n]!;
    if (config & CONF.LEVEL) this.s.status |= 1 << n;
    else if (config & CONF.INT_ENB) {
      const line = this.#line(n);
      line?.set(true);
      line?.set(false);
    }
  }

  #line(n: number): IrqLine | undefined {
    if (this.legacy && n < 2) return this.parts.legacy[n];
    return this.parts.gsi[n]?.[((this.s.timerConfig[n]! & CONF.ROUTE) >> 9) - HPET_FIRST_GSI];
  }

  #drive(n: number): void {
    const config = this.s.timerConfig[n]!;
    const level = (config & CONF.LEVEL) !== 0 && (config & CONF.INT_ENB) !== 0 && ((this.s.status >> n) & 1) !== 0;
    const line = this.#line(n);
    for (const other of this.parts.gsi[n]!) if (other !== line) other.set(false);
    if (n < 2 && this.parts.legacy[n] !== line) this.parts.legacy[n as 0 | 1].set(false);
    line?.set(level);
  }

  #arm(tick: number): void {
    let next = Infinity;
    const counter = this.#counterAt(tick);
    for (let n = 0; n < HPET_TIMERS && this.#enabled; n++) {
      if (!(this.s.timerConfig[n]! & CONF.INT_ENB)) continue;
      const distance = this.#distance(n, counter);
      if (distance < FAR_TICKS) next = Math.min(next, tick + Number(distance));
    }
    if (next === Infinity) this.parts.timer.disarm();
    else this.parts.timer.arm(next * NS_PER_TICK);
  }

  #read(name: Name): number {
    const s = this.s;
    this.settle();
    switch (name) {
      case "GCAP_ID":
        return HPET_ID;
      case "COUNTER_CLK_PER":
        return PERIOD_FS;
      case "GEN_CONF":
        return s.config;
      case "GINTR_STA":
        return s.status;
      case "MAIN_CNT_LO":
        return Number(this.#counterAt(s.seenTick) & MASK32);
      case "MAIN_CNT_HI":
        return Number(this.#counterAt(s.seenTick) >> 32n);
    }
    const n = Number(name[3]);
    if (name.endsWith("CONF_LO")) return s.timerConfig[n]! | CONF.SIZE_CAP | (n === 0 ? CONF.PER_INT_CAP : 0);
    if (name.endsWith("CONF_HI")) return ROUTES >>> 0;
    return name.endsWith("LO") ? s.comparatorLo[n]! : s.comparatorHi[n]!;
  }

  #write(name: Name, value: number): void {
    const s = this.s;
    this.settle();
    switch (name) {
      case "GEN_CONF":
        this.#configure(value & (GEN.ENABLE | GEN.LEG_RT));
        break;
      case "GINTR_STA":
        s.status &= ~value;
        break;
      case "MAIN_CNT_LO":
      case "MAIN_CNT_HI":
        // Only while it stands still: [hpet §2.3.7].
        if (this.#enabled) break;
        if (name === "MAIN_CNT_LO") s.baseLo = value;
        else s.baseHi = value;
        break;
      default:
        if (name.includes("CONF")) {
          const n = Number(name[3]);
          s.timerConfig[n] = value & CONF_WRITABLE & (n === 0 ? -1 : ~(CONF.PERIODIC | CONF.VAL_SET));
          if (!(value & CONF.LEVEL)) s.status &= ~(1 << n);
        } else this.#writeComparator(Number(name[3]), name.endsWith("LO"), value);
    }
    this.settle();
  }

  #configure(config: number): void {
    const s = this.s, changed = s.config ^ config;
    if (changed & GEN.ENABLE) {
      const counter = this.#counterAt(s.seenTick);
      s.baseLo = Number(counter & MASK32);
      s.baseHi = Number(counter >> 32n);
      s.baseTick = s.seenTick;
    }
    s.config = config;
    if (changed & GEN.LEG_RT) this.parts.onLegacy();
  }

  /** Of a periodic timer a write is the period, unless VAL_SET has asked for the comparator. [hpet §2.3.9.2.2] */
  #writeComparator(n: number, low: boolean, value: number): void {
    const s = this.s;
    const set = low ? (s.timerConfig[n]! & CONF.VAL_SET) !== 0 : s.setHigh[n] === 1;
    if (!this.#periodic(n) || set) {
      if (low) s.comparatorLo[n] = value;
      else s.comparatorHi[n] = value;
    }
    if (this.#periodic(n) && !set) {
      if (low) s.periodLo[n] = value;
      else s.periodHi[n] = value;
    }
    s.setHigh[n] = low && set ? 1 : 0;
    if (low) s.timerConfig[n]! &= ~CONF.VAL_SET;
  }
}

function pair(lo: number, hi: number): bigint {
  return BigInt(lo) | (BigInt(hi) << 32n);
}
