/**
 * The MC146818 real-time clock of a PC and its 128 + 128 bytes of battery-backed memory, at ports 70h to 73h.
 *
 * Spec: [mc146818 §Register descriptions]; [ich9 §13.6] ports and the second bank; [acpi §5.2.9] the century byte.
 * Emulated: time in BCD or binary, 12 or 24 hours, with the century; UIP; periodic, alarm and update-ended interrupts; SET
 * and the divider's reset; VRT; the NMI mask of port 70h.
 * Absent: daylight saving (DSE reads back, does nothing), square wave, alarms by date.
 *
 * The time registers are the clock: like the chip, each settle adds the seconds that have passed to what they hold, so that
 * whatever was written is read back until the next update.
 */
import { type Region, registerBank } from "../src/base/bus.ts";
import { type Clock, nsOfTick, ticksAt } from "../src/base/clock.ts";
import type { IrqLine } from "../src/base/irq.ts";
import { record, type View } from "../src/base/record.ts";
import type { Timer } from "../src/base/timers.ts";
import { dateOf, daysOf, weekdayOf } from "./calendar.ts";

export const RTC_PORT = 0x70;

export const RTC_PORTS = {
  INDEX: { at: 0, width: 1, access: "wo" },
  DATA: { at: 1, width: 1, access: "rw" },
  EXTENDED_INDEX: { at: 2, width: 1, access: "rw" },
  EXTENDED_DATA: { at: 3, width: 1, access: "rw" },
} as const;

/** Bytes of the first bank that mean something here. */
export const CMOS = {
  SECONDS: 0x00,
  SECONDS_ALARM: 0x01,
  MINUTES: 0x02,
  MINUTES_ALARM: 0x03,
  HOURS: 0x04,
  HOURS_ALARM: 0x05,
  DAY_OF_WEEK: 0x06,
  DATE: 0x07,
  MONTH: 0x08,
  YEAR: 0x09,
  REGISTER_A: 0x0a,
  REGISTER_B: 0x0b,
  REGISTER_C: 0x0c,
  REGISTER_D: 0x0d,
  /** The FADT names this byte. */
  CENTURY: 0x32,
} as const;

const A = { RS: 0x0f, DV: 0x70, DV_RESET: 0x60, UIP: 0x80 } as const;
const B = { H24: 1 << 1, DM: 1 << 2, UIE: 1 << 4, AIE: 1 << 5, PIE: 1 << 6, SET: 1 << 7 } as const;
const C = { UF: 1 << 4, AF: 1 << 5, PF: 1 << 6, IRQF: 1 << 7 } as const;
const D = { VRT: 1 << 7 } as const;
const NMI_DISABLE = 0x80;
const PM = 0x80; // in the hours, when they run from 1 to 12
const ALARM_ANY = 0xc0;

const HZ = 32_768;
/** UIP rises 244 µs before an update cycle, which takes 1984 µs: in ticks of the oscillator, to the end of the cycle. */
const UIP_TICKS = Math.ceil(((244 + 1984) * HZ) / 1e6);
const DAY_SECONDS = 86_400;

export const CmosRtcRecord = record("cmos-rtc", 1, {
  bytes: { array: "u8", length: 128 },
  extended: { array: "u8", length: 128 },
  /** With the NMI mask in bit 7. */
  index: "u8",
  extendedIndex: { type: "u8", max: 127 },
  /** Wall time at guest time 0, in ms since 1970, as it was told at power-on. */
  wallMs: { type: "f64", max: 2 ** 53 },
  /** How far the divider chain was into a second at guest time 0. */
  phaseNs: { type: "f64", max: 1e9 },
  /** Ticks of the chain up to the last settle. */
  seenTick: { type: "f64", max: 2 ** 53 },
});

interface Parts {
  readonly clock: Clock;
  readonly timer: Timer;
  readonly irq: IrqLine;
  /** IRQ 8 has risen: what ACPI's fixed hardware makes an event of. */
  readonly onInterrupt?: () => void;
  /** Wall time at guest time 0, in ms since 1970: asked at power-on only. */
  readonly wallTimeAtPowerOnMs: () => number;
}

export class CmosRtc {
  /** Ports 70h to 73h. */
  readonly region: Region;

  constructor(private readonly s: View<typeof CmosRtcRecord>, private readonly parts: Parts) {
    this.region = registerBank<typeof RTC_PORTS>({
      registers: RTC_PORTS,
      readRegister: (name) => {
        if (name === "DATA") return this.#read(s.index & 0x7f);
        return name === "EXTENDED_INDEX" ? s.extendedIndex : s.extended[s.extendedIndex]!;
      },
      writeRegister: (name, value) => {
        if (name === "INDEX") s.index = value;
        else if (name === "DATA") this.#write(s.index & 0x7f, value);
        else if (name === "EXTENDED_INDEX") s.extendedIndex = value & 0x7f;
        else s.extended[s.extendedIndex] = value;
      },
    });
  }

  /** Port 70h bit 7: NMIs are not to reach the processor. */
  get nmiDisabled(): boolean {
    return (this.s.index & NMI_DISABLE) !== 0;
  }

  /** Sets the clock. The assembly calls it once the records hold their power-on values. */
  powerOn(): void {
    const s = this.s;
    const wall = this.parts.wallTimeAtPowerOnMs();
    s.wallMs = wall >= 0 && wall <= 2 ** 52 ? Math.floor(wall) : 0;
    s.bytes[CMOS.REGISTER_A] = 0x26; // 32768 Hz, 1024 Hz periodic rate
    s.bytes[CMOS.REGISTER_B] = B.H24;
    const ms = s.wallMs + Math.floor(this.parts.clock.nowNs() / 1e6);
    this.#setPhase((ms % 1000) * 1e6);
    s.seenTick = this.#tick();
    const seconds = Math.floor(ms / 1000);
    const days = Math.floor(seconds / DAY_SECONDS);
    s.bytes[CMOS.DAY_OF_WEEK] = weekdayOf(days) + 1;
    this.#setTime(seconds - days * DAY_SECONDS);
    this.#setDate(days);
    this.settle();
  }

  /** Sets the time of day forward by `ms`, as if somebody had set the clock: no flag is raised and no alarm is found. */
  skip(ms: number): void {
    this.settle();
    if (!(ms > 0) || !this.#running() || this.#b & B.SET) return;
    const s = this.s, intoSecond = (this.parts.clock.nowNs() + s.phaseNs) % 1e9 + (ms % 1e3) * 1e6;
    this.#setPhase(intoSecond % 1e9);
    s.seenTick = this.#tick();
    this.#addSeconds(Math.floor(ms / 1e3) + Math.floor(intoSecond / 1e9));
    this.settle();
  }

  /** A byte of the first bank that is plain memory; the assembly leaves notes for firmware there. */
  setByte(index: number, value: number): void {
    if (index > CMOS.REGISTER_D && index < 128) this.s.bytes[index] = value;
  }

  /** Tells firmware how much RAM there is below and above 4 GiB. */
  setMemorySize(belowBytes: number, aboveBytes = 0): void {
    const word = (at: number, value: number) => {
      this.setByte(at, value & 0xff);
      this.setByte(at + 1, (value >> 8) & 0xff);
    };
    const extendedKib = Math.min(0xffff, Math.max(0, Math.floor(belowBytes / 1024) - 1024));
    word(0x15, 640);
    word(0x17, extendedKib);
    word(0x30, extendedKib);
    word(0x34, Math.min(0xffff, Math.max(0, Math.floor(belowBytes / 65_536) - 256))); // above 16 MiB
    const high = Math.min(0xffffff, Math.floor(aboveBytes / 65_536));
    word(0x5b, high & 0xffff);
    this.setByte(0x5d, high >> 16);
  }

  /** Does the updates that are due, raises the flags they raise, drives IRQ 8. Also the timer's callback. */
  settle(): void {
    const s = this.s, tick = this.#tick(), seen = Math.min(tick, s.seenTick);
    s.seenTick = tick;
    if (this.#running()) {
      const period = this.#periodTicks();
      if (period && Math.floor(tick / period) !== Math.floor(seen / period)) s.bytes[CMOS.REGISTER_C]! |= C.PF;
      const updates = Math.floor(tick / HZ) - Math.floor(seen / HZ);
      if (updates > 0 && !(this.#b & B.SET)) {
        s.bytes[CMOS.REGISTER_C]! |= C.UF;
        if (this.#secondsToAlarm() <= updates) s.bytes[CMOS.REGISTER_C]! |= C.AF;
        this.#addSeconds(updates);
      }
    }
    this.#drive(tick);
  }

  get #b(): number {
    return this.s.bytes[CMOS.REGISTER_B]!;
  }

  /** Ticks of the divider chain; a second ends at each multiple of 32768. */
  #tick(): number {
    return ticksAt(this.parts.clock.nowNs() + this.s.phaseNs, HZ);
  }

  /** Makes now `ns` into a second. */
  #setPhase(ns: number): void {
    const phase = (ns - this.parts.clock.nowNs()) % 1e9;
    this.s.phaseNs = phase < 0 ? phase + 1e9 : phase;
  }

  #running(): boolean {
    return (this.s.bytes[CMOS.REGISTER_A]! & A.DV_RESET) !== A.DV_RESET;
  }

  /** Ticks of one periodic interrupt, or 0. Rates 1 and 2 are those of 8 and 9. */
  #periodTicks(): number {
    const rs = this.s.bytes[CMOS.REGISTER_A]! & A.RS;
    return rs === 0 ? 0 : 1 << ((rs < 3 ? rs + 7 : rs) - 1);
  }

  #drive(tick: number): void {
    const { timer, irq, clock } = this.parts;
    const c = this.s.bytes[CMOS.REGISTER_C]! & (C.PF | C.AF | C.UF);
    const raised = (c & this.#b & (C.PF | C.AF | C.UF)) !== 0; // PIE, AIE and UIE stand where PF, AF and UF do
    const rises = raised && (this.s.bytes[CMOS.REGISTER_C]! & C.IRQF) === 0;
    this.s.bytes[CMOS.REGISTER_C] = c | (raised ? C.IRQF : 0);
    irq.set(raised);
    if (rises) this.parts.onInterrupt?.();
    // While IRQ 8 is up nothing more can be seen of it, and flags are found when register C is read.
    let next = Infinity;
    if (!raised && this.#running()) {
      const period = this.#periodTicks();
      if (this.#b & B.PIE && period) next = (Math.floor(tick / period) + 1) * period;
      if (!(this.#b & B.SET)) {
        const second = Math.floor(tick / HZ);
        if (this.#b & B.UIE) next = Math.min(next, (second + 1) * HZ);
        if (this.#b & B.AIE) next = Math.min(next, (second + this.#secondsToAlarm()) * HZ);
      }
    }
    if (next === Infinity) timer.disarm();
    else timer.arm(Math.max(clock.nowNs(), nsOfTick(next, HZ) - this.s.phaseNs));
  }

  #read(index: number): number {
    this.settle();
    const s = this.s;
    switch (index) {
      case CMOS.REGISTER_A:
        return s.bytes[index]! | (this.#updateInProgress() ? A.UIP : 0);
      case CMOS.REGISTER_C: {
        const c = s.bytes[index]!;
        s.bytes[index] = 0;
        this.settle();
        return c;
      }
      case CMOS.REGISTER_D:
        return D.VRT;
      default:
        return s.bytes[index]!;
    }
  }

  #updateInProgress(): boolean {
    return this.#running() && !(this.#b & B.SET) && this.s.seenTick % HZ >= HZ - UIP_TICKS;
  }

  #write(index: number, value: number): void {
    this.settle();
    const s = this.s;
    switch (index) {
      case CMOS.REGISTER_A: {
        const ran = this.#running();
        s.bytes[index] = value & (A.RS | A.DV);
        if (!ran && this.#running()) {
          // Out of reset the chain is half full: the first update comes half a second later.
          this.#setPhase(5e8);
          s.seenTick = this.#tick();
        }
        break;
      }
      case CMOS.REGISTER_B:
        s.bytes[index] = value & B.SET ? value & ~B.UIE : value;
        break;
      case CMOS.REGISTER_C:
      case CMOS.REGISTER_D:
        break;
      default:
        s.bytes[index] = value;
    }
    this.settle();
  }

  /** A register's byte as a number, in the mode in force. */
  #decode(byte: number): number {
    return this.#b & B.DM ? byte : (byte >> 4) * 10 + (byte & 0x0f);
  }

  #encode(value: number): number {
    return this.#b & B.DM ? value : (Math.floor(value / 10) << 4) | (value % 10);
  }

  #decodeHours(byte: number): number {
    if (this.#b & B.H24) return this.#decode(byte);
    return (this.#decode(byte & ~PM) % 12) + (byte & PM ? 12 : 0);
  }

  #encodeHours(hours: number): number {
    if (this.#b & B.H24) return this.#encode(hours);
    return this.#encode((hours + 11) % 12 + 1) | (hours >= 12 ? PM : 0);
  }

  #setTime(secondOfDay: number): void {
    const bytes = this.s.bytes;
    bytes[CMOS.SECONDS] = this.#encode(secondOfDay % 60);
    bytes[CMOS.MINUTES] = this.#encode(Math.floor(secondOfDay / 60) % 60);
    bytes[CMOS.HOURS] = this.#encodeHours(Math.floor(secondOfDay / 3600));
  }

  #setDate(days: number): void {
    const bytes = this.s.bytes;
    const { year, month, day } = dateOf(days);
    bytes[CMOS.DATE] = this.#encode(day);
    bytes[CMOS.MONTH] = this.#encode(month);
    bytes[CMOS.YEAR] = this.#encode(year % 100);
    bytes[CMOS.CENTURY] = this.#encode(Math.floor(year / 100) % 100);
  }

  #addSeconds(n: number): void {
    const bytes = this.s.bytes;
    const now = this.#decode(bytes[CMOS.SECONDS]!) + 60 * this.#decode(bytes[CMOS.MINUTES]!) +
      3600 * this.#decodeHours(bytes[CMOS.HOURS]!) + n;
    const days = Math.floor(now / DAY_SECONDS);
    this.#setTime(now - days * DAY_SECONDS);
    if (days === 0) return;
    bytes[CMOS.DAY_OF_WEEK] = (bytes[CMOS.DAY_OF_WEEK]! - 1 + days + 7) % 7 + 1;
    const date = {
      year: 100 * Math.min(99, this.#decode(bytes[CMOS.CENTURY]!)) + Math.min(99, this.#decode(bytes[CMOS.YEAR]!)),
      month: Math.min(12, Math.max(1, this.#decode(bytes[CMOS.MONTH]!))),
      day: Math.min(31, Math.max(1, this.#decode(bytes[CMOS.DATE]!))),
    };
    this.#setDate(daysOf(date) + days);
  }

  /** Seconds from the time in the registers to the next that the alarm matches, 1 to a day; Infinity if none ever does. */
  #secondsToAlarm(): number {
    const bytes = this.s.bytes;
    const alarm = (at: number, decode: (byte: number) => number) =>
      bytes[at]! >= ALARM_ANY ? -1 : decode.call(this, bytes[at]!);
    const s = alarm(CMOS.SECONDS_ALARM, this.#decode);
    const m = alarm(CMOS.MINUTES_ALARM, this.#decode);
    const h = alarm(CMOS.HOURS_ALARM, this.#decodeHours);
    if (s > 59 || m > 59 || h > 23) return Infinity;
    const now = this.#decode(bytes[CMOS.SECONDS]!) + 60 * this.#decode(bytes[CMOS.MINUTES]!) +
      3600 * this.#decodeHours(bytes[CMOS.HOURS]!);
    // From the next second on, skip to the start of the next hour or minute as long as theirs does not match.
    for (let t = now + 1; t <= now + DAY_SECONDS;) {
      if (h >= 0 && Math.floor(t / 3600) % 24 !== h) t = (Math.floor(t / 3600) + 1) * 3600;
      else if (m >= 0 && Math.floor(t / 60) % 60 !== m) t = (Math.floor(t / 60) + 1) * 60;
      else if (s >= 0 && t % 60 !== s) t++;
      else return t - now;
    }
    return Infinity;
  }
}
