/**
 * The local APIC's timer: one-shot, periodic, TSC-deadline.
 *
 * Spec: [sdm3 §11.5.4] the counter, [sdm3 §11.5.4.1] TSC-deadline mode.
 * Emulated: a bus clock of 1 GHz, so that the counter steps every DCR nanoseconds; a TSC of 1 GHz.
 * The counter itself has no state but the time at which it reaches zero.
 */
import type { Clock } from "../src/base/clock.ts";
import type { View } from "../src/base/record.ts";
import type { Timer } from "../src/base/timers.ts";
import { type LocalApicRecord, LVT, TimerMode } from "./local_apic_registers.ts";

/** A period shorter than this is honoured by the counter but not by the interrupts, of which the IRR would hold one anyway. */
const SHORTEST_PERIOD_NS = 20_000;
const TWO32 = 0x1_0000_0000;

export class LocalApicTimer {
  constructor(
    private readonly s: View<typeof LocalApicRecord>,
    private readonly parts: { readonly clock: Clock; readonly timer: Timer },
    /** The count has run out. */
    private readonly expired: () => void,
  ) {}

  /** Tells an expiry that has passed, be the host late or not, and asks to be called for the next one. */
  settle(): void {
    if (this.#mode === TimerMode.TSC_DEADLINE) this.#settleDeadline();
    else this.#settleCounter();
  }

  /** CURRENT_COUNT. */
  count(): number {
    this.settle();
    if (this.#mode === TimerMode.TSC_DEADLINE || this.s.counting === 0) return 0;
    return this.#remaining();
  }

  /** INITIAL_COUNT: starts the counter; zero stops it. */
  start(count: number): void {
    if (this.#mode === TimerMode.TSC_DEADLINE) return;
    this.settle();
    this.s.initialCount = count;
    this.s.counting = count === 0 ? 0 : 1;
    this.s.zeroNs = this.parts.clock.nowNs() + count * this.#divider;
    this.settle();
  }

  /** DCR: the count stays, what it counts changes. */
  divide(dcr: number): void {
    const left = this.count();
    this.s.dcr = dcr & 0xb;
    if (this.s.counting !== 0) this.s.zeroNs = this.parts.clock.nowNs() + left * this.#divider;
    this.settle();
  }

  /** The timer's LVT entry. To and from TSC-deadline mode, whatever was armed is disarmed. */
  writeLvt(value: number): void {
    this.settle();
    const before = this.#mode;
    this.s.lvtTimer = value;
    if ((before === TimerMode.TSC_DEADLINE) !== (this.#mode === TimerMode.TSC_DEADLINE)) this.stop();
    this.settle();
  }

  /** IA32_TSC_DEADLINE; ignored in the other modes. */
  writeDeadline(lo: number, hi: number): void {
    if (this.#mode !== TimerMode.TSC_DEADLINE) return;
    this.s.deadlineLo = lo;
    this.s.deadlineHi = hi;
    this.settle();
  }

  setTscOffset(lo: number, hi: number): void {
    this.s.tscOffsetLo = lo;
    this.s.tscOffsetHi = hi;
    this.settle();
  }

  stop(): void {
    const s = this.s;
    s.initialCount =
      s.counting =
      s.zeroNs =
      s.deadlineLo =
      s.deadlineHi =
        0;
    this.parts.timer.disarm();
  }

  #settleDeadline(): void {
    const s = this.s;
    if (s.deadlineLo === 0 && s.deadlineHi === 0) return this.parts.timer.disarm();
    const now = this.parts.clock.nowNs();
    const left = this.#untilDeadline(now);
    if (left > 0) return this.parts.timer.arm(now + left);
    s.deadlineLo = s.deadlineHi = 0;
    this.parts.timer.disarm();
    this.expired();
  }

  #settleCounter(): void {
    const s = this.s;
    if (s.counting === 0) return this.parts.timer.disarm();
    const now = this.parts.clock.nowNs();
    const due = now >= s.zeroNs;
    const periodNs = s.initialCount * this.#divider;
    if (due && this.#mode === TimerMode.PERIODIC && periodNs > 0) {
      s.zeroNs += (Math.floor((now - s.zeroNs) / periodNs) + 1) * periodNs;
    } else if (due) {
      s.counting = 0;
    }
    if (s.counting === 0) this.parts.timer.disarm();
    else if (this.#mode === TimerMode.PERIODIC && periodNs < SHORTEST_PERIOD_NS) {
      this.parts.timer.arm(now + SHORTEST_PERIOD_NS);
    } else this.parts.timer.arm(s.zeroNs);
    if (due) this.expired();
  }

  /** Ticks until zero, of a counter that runs. */
  #remaining(): number {
    const ticks = Math.ceil((this.s.zeroNs - this.parts.clock.nowNs()) / this.#divider);
    return Math.min(0xffffffff, Math.max(0, ticks));
  }

  /** Nanoseconds until the TSC reaches the deadline, both unsigned 64-bit numbers; 0 if it has. */
  #untilDeadline(now: number): number {
    const s = this.s;
    const lo = now % TWO32 + s.tscOffsetLo;
    const tscLo = lo % TWO32;
    const tscHi = (Math.floor(now / TWO32) + s.tscOffsetHi + (lo >= TWO32 ? 1 : 0)) % TWO32;
    return Math.max(0, (s.deadlineHi - tscHi) * TWO32 + (s.deadlineLo - tscLo));
  }

  get #mode(): number {
    return (this.s.lvtTimer >>> LVT.TIMER_MODE_SHIFT) & 3;
  }

  /** 2, 4, 8 … 128, and 1 for 7: bits 0, 1 and 3 of DCR make the number. */
  get #divider(): number {
    const n = (this.s.dcr & 3) | ((this.s.dcr & 8) >>> 1);
    return n === 7 ? 1 : 2 << n;
  }
}
