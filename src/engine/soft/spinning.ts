/**
 * A vCPU that does little but PAUSE waits for another one, whose thread may well be waiting for the processor that this one
 * keeps busy: so it gives it away for a moment.
 */
import type { VcpuParts } from "../engine.ts";
import type { CodeNotices } from "./code_notices.ts";
import type { CpuView } from "./cpu_view.ts";

/** PAUSEs in a slice, of 20,000 instructions, that are spinning: Linux's loops have one among three to eight instructions. */
const MANY = 1000;
/** How long a rest is at first, and after many in a row: a lock is mostly held for less than the slice has taken already. */
const FIRST_MS = 0.02, LONGEST_MS = 0.2;

export class Spinning {
  rests = 0;
  #ms = FIRST_MS;
  /** Events that had risen when the vCPU looked at them. */
  #rises = 0;
  readonly #sleeper: NonNullable<VcpuParts["sleeper"]>;

  constructor(private readonly cpu: CpuView, private readonly parts: VcpuParts, private readonly code: CodeNotices) {
    this.#sleeper = parts.sleeper!;
  }

  /** Alone, a vCPU waits for nobody. */
  static of(cpu: CpuView, parts: VcpuParts, code: CodeNotices): Spinning | null {
    return (parts.vcpus ?? 1) > 1 && parts.sleeper ? new Spinning(cpu, parts, code) : null;
  }

  /** Before it looks at events: whatever rises from then on ends a rest. */
  look(): void {
    this.#rises = this.#sleeper.rises();
  }

  /** A slice has ended; `untilNs` is when the vCPU is wanted elsewhere. Events and notices are to be looked at afterwards. */
  rest(untilNs: number): void {
    const pauses = this.cpu.get("pauses");
    if (pauses !== 0) this.cpu.put("pauses", 0);
    if (pauses < MANY) {
      this.#ms = FIRST_MS;
      return;
    }
    const ms = Math.min(this.#ms, (untilNs - this.parts.clock.nowNs()) / 1e6);
    if (ms <= 0) return;
    this.#ms = Math.min(2 * ms, LONGEST_MS);
    this.rests++;
    // Nobody need wait for what it does not run.
    this.code.report(false);
    this.#sleeper.wait(this.#rises, ms);
    this.code.report(true);
    this.cpu.put("tscKnown", 0);
  }
}
