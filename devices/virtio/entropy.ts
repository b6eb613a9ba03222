/**
 * The virtio entropy device.
 *
 * Spec: [virtio §5.4]. One queue; each chain of device-writable buffers comes back with random bytes, at most 64 KiB of them.
 * It works under the machine lock: the source answers at once.
 */
import type { Arena } from "../../src/base/arena.ts";
import type { Clock } from "../../src/base/clock.ts";
import { record, type View } from "../../src/base/record.ts";
import type { Timer } from "../../src/base/timers.ts";
import { type VirtioParts, VirtioPci } from "./pci_transport.ts";

/** A well of random bytes. */
export interface EntropySource {
  fill(into: Uint8Array): void;
}

const MAX_BYTES = 64 * 1024;

export interface VirtioEntropyParts extends VirtioParts {
  readonly source: EntropySource;
  readonly clock: Clock;
  /** Calls `process` when due. */
  readonly timer: Timer;
}

export class VirtioEntropy extends VirtioPci {
  readonly #bytes = new Uint8Array(MAX_BYTES);

  constructor(arena: Arena, id: string, private readonly entropyParts: VirtioEntropyParts) {
    super(arena, id, entropyParts, { type: 4, classCode: 0x00ff00, features: [], queues: 1, queueSize: 64 });
  }

  protected override notified(): void {
    this.process();
  }

  /** Serves the queue. Under the machine lock. */
  process(): void {
    const q = this.acquire(0);
    if (!q) return;
    while (q.pop()) {
      const bytes = this.#bytes.subarray(0, Math.min(MAX_BYTES, q.chain.writableBytes));
      if (bytes.length > 0) this.entropyParts.source.fill(bytes);
      q.push(q.chain.head, q.chain.write(0, bytes));
    }
    this.signalUsed(0);
    // A driver that keeps adding must not keep the lock from everybody else.
    if (this.release(0)) this.entropyParts.timer.arm(this.entropyParts.clock.nowNs());
    else this.entropyParts.timer.disarm();
  }
}

export const SeededEntropyRecord = record("seeded-entropy", 1, {
  state: { array: "u32", length: 4, reset: 0x9e3779b9 },
});

/**
 * A source for machines that must run the same way twice: xoshiro128** over a record, so that a restored machine goes on where
 * the saved one was. Not for secrets.
 */
export class SeededEntropy implements EntropySource {
  constructor(private readonly s: View<typeof SeededEntropyRecord>) {}

  fill(into: Uint8Array): void {
    for (let i = 0; i < into.length; i += 4) {
      const word = this.#next();
      for (let k = 0; k < 4 && i + k < into.length; k++) into[i + k] = word >>> (8 * k);
    }
  }

  #next(): number {
    const s = this.s.state;
    if ((s[0]! | s[1]! | s[2]! | s[3]!) === 0) s[0] = 1; // the one state that has no successor
    const result = Math.imul(rotl(Math.imul(s[1]!, 5), 7), 9) >>> 0;
    const t = s[1]! << 9;
    s[2]! ^= s[0]!;
    s[3]! ^= s[1]!;
    s[1]! ^= s[2]!;
    s[0]! ^= s[3]!;
    s[2]! ^= t;
    s[3] = rotl(s[3]!, 11);
    return result;
  }
}

function rotl(x: number, k: number): number {
  return (x << k) | (x >>> (32 - k));
}
