/** What a soak's guest has said, beside what was expected of it, and what follows from that. No clock, no file. */

/** What is looked at once a minute. Sums over all vCPUs; bytes are bytes, times seconds since the guest's first line. */
export interface Sample {
  readonly seconds: number;
  readonly rssBytes: number;
  /** JavaScript heaps of the vCPUs' threads. */
  readonly heapBytes: number;
  readonly codeBytes: number;
  readonly stats: Readonly<Record<string, number>>;
}

/** The guest's clocks and memory, and the host's and the machine's clock when the line came. */
export interface ClockLine {
  readonly hostSeconds: number;
  readonly machineSeconds: number;
  readonly monotonicSeconds: number;
  readonly jiffies: number;
  readonly freeKib: number;
  readonly availableKib: number;
  readonly slabKib: number;
}

export interface Verdict {
  readonly ok: boolean;
  /** A sentence each, the good and the bad. */
  readonly sentences: readonly string[];
}

/** Debian's kernels for x86-64. */
const HZ = 250;
/** A line takes its time through a busy guest and a serial port: the quickest of so many counts. */
const LATENCY_SECONDS = 2, LINES = 10;
const TICKS_BETWEEN_FILES = 50;
const MIB = 1 << 20;
/** What may come and go with the host's own housekeeping. */
const GROWTH_MIB = 48;
const COMPLAINT =
  /BUG:|WARNING:|Oops|segfault|general protection|lockup|blocked for more than|rcu.*(stall|detected)|unstable|Kernel panic|traps: |invalid opcode|[Bb]ad page|Call Trace|corrupt|SOAK-FAIL/;
const MAX_COMPLAINTS = 200;

export class Ledger {
  readonly clocks: ClockLine[] = [];
  readonly samples: Sample[] = [];
  readonly complaints: string[] = [];
  results = 0;
  differences = 0;
  readonly #first = new Map<string, string>();
  readonly #rounds = new Map<string, number>();
  #compared = 0;

  /** `expected`: what another processor has computed. The first value of any other name is what the later ones must be. */
  constructor(private readonly expected: ReadonlyMap<string, string>) {}

  get rounds(): number {
    return [...this.#rounds.values()].reduce((sum, n) => sum + n + 1, 0);
  }

  /** Takes a line of the console; says what is wrong with it, or null. */
  line(text: string, hostSeconds: number, machineSeconds: number): string | null {
    const clock = /SOAK-CLOCK (\d+) (\d+) (\d+) (\d+) (\d+)/.exec(text);
    if (clock) {
      const [monotonic, jiffies, freeKib, availableKib, slabKib] = clock.slice(1).map(Number) as number[];
      const monotonicSeconds = monotonic! / 1e9;
      const memory = { freeKib: freeKib!, availableKib: availableKib!, slabKib: slabKib! };
      this.clocks.push({ hostSeconds, machineSeconds, monotonicSeconds, jiffies: jiffies!, ...memory });
      return null;
    }
    const result = /SOAK (\d+) (\d+) ([\w.]+) ([0-9a-f]*)\s*$/.exec(text);
    if (result) return this.#result(result[1]!, Number(result[2]), result[3]!, result[4]!, text);
    if (!COMPLAINT.test(text)) return null;
    if (this.complaints.length < MAX_COMPLAINTS) this.complaints.push(text);
    return text;
  }

  #result(worker: string, round: number, name: string, value: string, text: string): string | null {
    this.results++;
    this.#rounds.set(worker, round);
    const known = this.expected.get(name) ?? this.#first.get(name);
    if (this.expected.has(name)) this.#compared++;
    if (known === undefined) this.#first.set(name, value);
    if (known === value || (known === undefined && value !== "")) return null;
    this.differences++;
    const trouble = `${text.trim()}: expected ${known ?? "a sum"}`;
    if (this.complaints.length < MAX_COMPLAINTS) this.complaints.push(trouble);
    return trouble;
  }

  verdict(): Verdict {
    const parts = [this.#results(), this.#kernel(), this.#time(), this.#ticks(), this.#memory()];
    return { ok: parts.every(([ok]) => ok), sentences: parts.map(([ok, text]) => `${ok ? "ok" : "NOT OK"}: ${text}`) };
  }

  #results(): [boolean, string] {
    const { results, differences } = this;
    const text =
      `${results} results of ${this.rounds} rounds, ${this.#compared} of them beside the host's; ${differences} differ`;
    return [differences === 0 && results > 0 && this.#compared > 0, text];
  }

  #kernel(): [boolean, string] {
    const n = this.complaints.length;
    return [
      n === 0,
      n === 0 ? "neither the kernel nor a program complained" : `${n} complaints: ${this.complaints[0]}`,
    ];
  }

  /** Guest time against the host's: by how much more it lags at the end than at the start. */
  #time(): [boolean, string] {
    const first = this.clocks[0], last = this.clocks.at(-1);
    if (!first || !last || first === last) return [false, "the guest never told its clocks twice"];
    const host = last.hostSeconds - first.hostSeconds, machine = last.machineSeconds - first.machineSeconds - host;
    // A line that was late makes the guest's clock look slow.
    const ahead = (lines: readonly ClockLine[]) => Math.max(...lines.map((c) => c.monotonicSeconds - c.hostSeconds));
    const guest = ahead(this.clocks.slice(-LINES)) - ahead(this.clocks.slice(0, LINES));
    const ok = Math.abs(guest) < LATENCY_SECONDS && Math.abs(machine) < LATENCY_SECONDS;
    const off = (seconds: number) => `${seconds >= 0 ? "+" : ""}${seconds.toFixed(3)} s`;
    return [
      ok,
      `in ${host.toFixed(1)} s of the host CLOCK_MONOTONIC is off by ${off(guest)}, the machine's clock by ${
        off(machine)
      }`,
    ];
  }

  #ticks(): [boolean, string] {
    const first = this.clocks[0], last = this.clocks.at(-1);
    if (!first || !last || first === last) return [false, "the guest never told its ticks twice"];
    const due = (last.monotonicSeconds - first.monotonicSeconds) * HZ, seen = last.jiffies - first.jiffies;
    const ok = Math.abs(seen - due) < TICKS_BETWEEN_FILES;
    return [ok, `${seen} ticks of ${due.toFixed(0)} that CLOCK_MONOTONIC makes due at ${HZ} Hz`];
  }

  /** Resident memory but decoded code, which has its own bound: the last quarter beside the second. */
  #memory(): [boolean, string] {
    const { samples } = this;
    if (samples.length < 8) return [true, `${samples.length} looks at memory are too few to say whether it grows`];
    const quarter = (n: number) => {
      const part = samples.slice(Math.floor(samples.length * n / 4), Math.floor(samples.length * (n + 1) / 4));
      return part.reduce((sum, s) => sum + s.rssBytes - s.codeBytes, 0) / part.length / MIB;
    };
    const before = quarter(1), after = quarter(3), grown = after - before;
    const regions = (samples.at(-1)!.stats.regions ?? 0) -
      (samples[Math.floor(samples.length / 4)]!.stats.regions ?? 0);
    const text =
      `${before.toFixed(0)} MiB without decoded code in the second quarter, ${after.toFixed(0)} MiB in the last ` +
      `(${grown >= 0 ? "+" : ""}${grown.toFixed(0)}), with ${regions} regions more compiled`;
    return [grown < GROWTH_MIB, text];
  }
}
