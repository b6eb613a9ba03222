/**
 * The time of day after the host slept. Guest time stands still with the host's monotonic clock, so the guest goes on as if
 * nothing had been; but its clock with a battery (RTC) is to be right, as a real one is. Whatever the host's time of day gained
 * on its monotonic clock, be it by sleep or because somebody set it, the RTC gains as well.
 */

/** What is less is left to whoever disciplines the guest's clock. */
const LEAST_MS = 2000;
const LOOK_MS = 5000;

export interface WallWatchParts {
  /** The host's time of day, in ms since 1970. */
  wallMs(): number;
  /** The clock that stands still while the host sleeps. */
  monotonicMs(): number;
  /** Moves the guest's RTC. */
  skip(ms: number): void;
}

export class WallWatch {
  #offsetMs: number;
  readonly #timer: ReturnType<typeof setInterval>;

  constructor(private readonly p: WallWatchParts) {
    this.#offsetMs = p.wallMs() - p.monotonicMs();
    this.#timer = setInterval(() => this.look(), LOOK_MS);
    Deno.unrefTimer(this.#timer);
  }

  look(): void {
    const offsetMs = this.p.wallMs() - this.p.monotonicMs(), gained = offsetMs - this.#offsetMs;
    if (Math.abs(gained) < LEAST_MS) return;
    this.#offsetMs = offsetMs;
    // A clock that was set back is nothing to repeat: what was written later would be earlier.
    if (gained > 0) this.p.skip(gained);
  }

  close(): void {
    clearInterval(this.#timer);
  }
}
