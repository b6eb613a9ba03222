/**
 * Timer slots in shared memory. A device arms a slot with a guest time; whichever thread runs the machine's timers calls the
 * device's callback, under the machine lock, once the time has come (late, perhaps, but never early).
 */
import type { Arena } from "./arena.ts";
import { ManualClock } from "./clock.ts";
import { record } from "./record.ts";

/** One slot. */
export interface Timer {
  /** Asks for one call at guest time `deadlineNs`, replacing an earlier wish. A time that has passed means as soon as possible. */
  arm(deadlineNs: number): void;
  disarm(): void;
}

export const TimerSlotRecord = record("timer", 1, { deadlineNs: { type: "f64", reset: Infinity } });

export class Timers {
  readonly #slots: { slot: { deadlineNs: number }; run: () => void }[] = [];
  /** Called when a deadline earlier than all others is armed, so that a sleeper can be woken. */
  onEarlier: (deadlineNs: number) => void = () => {};

  constructor(private readonly arena: Arena) {}

  /** A slot that calls `run` when due. `id` is unique in the machine. */
  timer(id: string, run: () => void): Timer {
    const slot = this.arena.place(`timer:${id}`, TimerSlotRecord);
    slot.deadlineNs = slot.deadlineNs || Infinity;
    this.#slots.push({ slot, run });
    return {
      arm: (deadlineNs) => {
        const earlier = deadlineNs < this.nextDeadlineNs();
        slot.deadlineNs = deadlineNs;
        if (earlier) this.onEarlier(deadlineNs);
      },
      disarm: () => {
        slot.deadlineNs = Infinity;
      },
    };
  }

  /** The earliest deadline armed, or Infinity. */
  nextDeadlineNs(): number {
    let next = Infinity;
    for (const s of this.#slots) if (s.slot.deadlineNs < next) next = s.slot.deadlineNs;
    return next;
  }

  /** Runs every timer due at `nowNs`, in the order of their deadlines. */
  runDue(nowNs: number): void {
    // A callback may arm its own slot again at a time that has passed; each slot runs at most once a call, so a call ends.
    const ran = new Set<number>();
    for (;;) {
      let first = -1;
      for (let i = 0; i < this.#slots.length; i++) {
        const at = this.#slots[i]!.slot.deadlineNs;
        if (at <= nowNs && !ran.has(i) && (first < 0 || at < this.#slots[first]!.slot.deadlineNs)) first = i;
      }
      if (first < 0) return;
      ran.add(first);
      this.#slots[first]!.slot.deadlineNs = Infinity;
      this.#slots[first]!.run();
    }
  }
}

/** A manual clock whose `advance` also runs the timers that fall due on the way, each at its own time: for tests. */
export class TestTime extends ManualClock {
  constructor(readonly timers: Timers) {
    super();
  }
  advance(ns: number): void {
    const end = this.nowNs() + ns;
    for (let i = 0; i < 1_000_000; i++) {
      const next = this.timers.nextDeadlineNs();
      if (next > end) break;
      this.jump(Math.max(0, next - this.nowNs()));
      this.timers.runDue(this.nowNs());
    }
    this.jump(end - this.nowNs());
  }
}
