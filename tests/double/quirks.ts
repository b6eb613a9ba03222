/** How the double behaves where the reference leaves room, for all threads of the process. */
export interface Quirks {
  /** hv_vcpu_run returns for reasons that are not the guest's: the first touch of a page, interrupts of the host. */
  readonly spurious: boolean;
  /** A control field takes a value that its masks forbid, and the entry then fails; else the write is refused. */
  readonly lateChecks: boolean;
  /** hv_vcpu_interrupt on a vCPU that is not in the guest is forgotten; else the next entry returns at once. */
  readonly losesInterrupts: boolean;
  /** There is no preemption timer, so that hv_vcpu_run_until takes no deadline but FOREVER. */
  readonly noTimer: boolean;
  /** For what is random. */
  readonly seed: number;
}

const BITS = { spurious: 1, lateChecks: 2, losesInterrupts: 4, noTimer: 8 } as const;

export function packQuirks(quirks: Partial<Quirks>): number {
  let word = ((quirks.seed ?? 1) & 0xffff) << 8;
  for (const [name, bit] of Object.entries(BITS)) {
    if (quirks[name as keyof typeof BITS] ?? name === "spurious") word |= bit;
  }
  return word;
}

export function unpackQuirks(word: number): Quirks {
  const has = (name: keyof typeof BITS) => (word & BITS[name]) !== 0;
  return {
    spurious: has("spurious"),
    lateChecks: has("lateChecks"),
    losesInterrupts: has("losesInterrupts"),
    noTimer: has("noTimer"),
    seed: word >>> 8,
  };
}
