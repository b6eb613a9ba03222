/** Guest time. Devices see nothing else: it starts at 0 when the machine does and stands still while the machine is paused. */
export interface Clock {
  /** Nanoseconds of guest time since power-on; never decreases. */
  nowNs(): number;
}

/** A clock that moves only when told: for tests. */
export class ManualClock implements Clock {
  #now = 0;
  nowNs(): number {
    return this.#now;
  }
  /** Moves time without running any timer, as a host that stalls does. */
  jump(ns: number): void {
    this.#now += ns;
  }
}

/** The number of whole ticks of a counter of `hz` at guest time `ns`. Exact for 2^53 ns (104 days). */
export function ticksAt(ns: number, hz: number): number {
  // Split so that no product passes 2^53.
  const seconds = Math.floor(ns / 1e9);
  return seconds * hz + Math.floor(((ns - seconds * 1e9) * hz) / 1e9);
}

/** The first guest time, in ns, at which a counter of `hz` shows `tick`. */
export function nsOfTick(tick: number, hz: number): number {
  const seconds = Math.floor(tick / hz);
  let ns = seconds * 1e9 + Math.ceil(((tick - seconds * hz) * 1e9) / hz);
  if (ticksAt(ns, hz) < tick) ns++;
  return ns;
}
