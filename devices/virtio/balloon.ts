/**
 * The virtio memory balloon: pages that the guest does without, and tells of.
 *
 * Spec: [virtio §5.5].
 * Emulated: inflateq, deflateq, statsq, free page reporting, VIRTIO_BALLOON_F_DEFLATE_ON_OOM.
 * Absent: free page hinting, page poisoning, VIRTIO_BALLOON_F_MUST_TELL_HOST (a page that is used again is just there again).
 *
 * Queues are served in the thread that gives pages back to the host, without the machine lock.
 */
import type { Arena } from "../../src/base/arena.ts";
import type { RegisterDevice } from "../../src/base/bus.ts";
import { record, type View } from "../../src/base/record.ts";
import { type VirtioParts, VirtioPci } from "./pci_transport.ts";

/**
 * The reporting queue is the fourth where there is no free page hinting, as every driver and device numbers them; the
 * specification's table has it fifth. Either serves.
 */
const QUEUE = { INFLATE: 0, DEFLATE: 1, STATS: 2, REPORTING: 3, REPORTING_5TH: 4 } as const;
const QUEUES = 5;
const QUEUE_SIZE = 128;
export const BALLOON_FEATURE = { STATS_VQ: 1, DEFLATE_ON_OOM: 2, REPORTING: 5 } as const;

export const BALLOON_PAGE_BYTES = 4096;
const STAT_BYTES = 10;
/** A name for each tag of the statistics [virtio §5.5.6.3.2], in bytes or in events. */
export const BALLOON_STATS = [
  "swapInBytes",
  "swapOutBytes",
  "majorFaults",
  "minorFaults",
  "freeBytes",
  "totalBytes",
  "availableBytes",
  "diskCacheBytes",
  "hugePageAllocations",
  "hugePageFailures",
] as const;
/** Page numbers read at once. */
const PFNS = 1024;
/** In one chain, what is more is not looked at: Linux sends 256. */
const MAX_PFN_BYTES = 256 * 1024;

/** The device configuration structure [virtio §5.5.4]. */
export const VIRTIO_BALLOON_CONFIG = {
  num_pages: { at: 0, width: 4, access: "ro" },
  actual: { at: 4, width: 4, access: "rw" },
  free_page_hint_cmd_id: { at: 8, width: 4, access: "ro" },
  poison_val: { at: 12, width: 4, access: "ro" },
} as const;

export const VirtioBalloonRecord = record("virtio-balloon", 1, {
  /** Pages wanted of the guest, and 1; 0 stands for what the machine was started with. */
  wanted: { type: "f64", max: 2 ** 32 },
  /** What the driver says that it has given. */
  actual: "u32",
  /** By tag; -1 and below: never told. */
  stats: { array: "f64", length: BALLOON_STATS.length, reset: -1 },
  /** How often the driver has told its statistics. */
  told: { array: "i32", length: 1 },
  /** Bytes that went back to the host, ever. */
  returnedBytes: { type: "f64", max: Number.MAX_SAFE_INTEGER },
});

/** Takes memory back: `sizeBytes` of RAM at `gpa` hold nothing any more. */
export type ReturnMemory = (gpa: number, sizeBytes: number) => void;

export interface VirtioBalloonParts extends VirtioParts {
  /** There are requests: wake whoever serves them. */
  readonly notify: () => void;
}

export class VirtioBalloon extends VirtioPci {
  readonly #b: View<typeof VirtioBalloonRecord>;
  readonly #bytes = new Uint8Array(PFNS * 4);
  readonly #pfns = new DataView(this.#bytes.buffer);

  constructor(
    arena: Arena,
    id: string,
    private readonly balloonParts: VirtioBalloonParts,
    private readonly initialPages: number,
  ) {
    super(arena, id, balloonParts, {
      type: 5,
      classCode: 0x00ff00,
      features: Object.values(BALLOON_FEATURE),
      queues: QUEUES,
      queueSize: QUEUE_SIZE,
    });
    this.#b = arena.place(`${id}.balloon`, VirtioBalloonRecord);
    const config: RegisterDevice<typeof VIRTIO_BALLOON_CONFIG> = {
      registers: VIRTIO_BALLOON_CONFIG,
      readRegister: (reg) => reg === "num_pages" ? this.wantedPages : reg === "actual" ? this.#b.actual : 0,
      writeRegister: (_, value) => this.#b.actual = value,
    };
    this.showConfig(config);
  }

  protected override notified(): void {
    this.balloonParts.notify();
  }

  protected override wasReset(): void {
    const { wanted, returnedBytes } = this.#b;
    VirtioBalloonRecord.reset(this.#b);
    this.#b.wanted = wanted;
    this.#b.returnedBytes = returnedBytes;
  }

  get wantedPages(): number {
    return this.#b.wanted ? this.#b.wanted - 1 : this.initialPages;
  }

  /** Asks the guest to do without so many pages. Under the machine lock. */
  want(pages: number): void {
    this.#b.wanted = pages + 1;
    this.configChanged();
  }

  get actualPages(): number {
    return this.#b.actual;
  }
  get returnedBytes(): number {
    return this.#b.returnedBytes;
  }

  /** The statistics that the driver told last, by their names. */
  get stats(): Partial<Record<typeof BALLOON_STATS[number], number>> {
    return Object.fromEntries(
      BALLOON_STATS.flatMap((name, tag) => this.#b.stats[tag]! >= 0 ? [[name, this.#b.stats[tag]!]] : []),
    );
  }

  /** A word that changes, and is notified, whenever there are new statistics. */
  get told(): Int32Array {
    return this.#b.told;
  }

  // What follows is for the thread that serves the queues.

  /** Serves every queue; `returnMemory` is called before the driver hears of it. True: call again, more is waiting. */
  process(returnMemory: ReturnMemory): boolean {
    const give = (gpa: number, sizeBytes: number) => {
      returnMemory(gpa, sizeBytes);
      this.#b.returnedBytes += sizeBytes;
    };
    const inflated = this.#inflate(give);
    const deflated = this.#deflate();
    const third = this.#report(QUEUE.REPORTING, give), fifth = this.#report(QUEUE.REPORTING_5TH, give);
    this.#readStats();
    return inflated || deflated || third || fifth;
  }

  #inflate(give: ReturnMemory): boolean {
    const q = this.acquire(QUEUE.INFLATE);
    if (!q) return false;
    while (q.pop()) {
      const { chain } = q;
      // Runs of pages, whichever way they run, go back together.
      let from = 0, to = 0;
      for (let at = 0; at < MAX_PFN_BYTES; at += this.#bytes.length) {
        const n = Math.floor(chain.read(at, this.#bytes) / 4);
        for (let i = 0; i < n; i++) {
          const gpa = this.#pfns.getUint32(4 * i, true) * BALLOON_PAGE_BYTES;
          if (!this.parts.ram.contains(gpa, BALLOON_PAGE_BYTES)) continue;
          if (gpa === to) to += BALLOON_PAGE_BYTES;
          else if (gpa === from - BALLOON_PAGE_BYTES) from = gpa;
          else {
            if (to > from) give(from, to - from);
            from = gpa;
            to = gpa + BALLOON_PAGE_BYTES;
          }
        }
        if (n < PFNS) break;
      }
      if (to > from) give(from, to - from);
      q.push(chain.head, 0);
    }
    this.signalUsed(QUEUE.INFLATE);
    return this.release(QUEUE.INFLATE);
  }

  /** The host provides pages when they are touched: there is nothing to do. */
  #deflate(): boolean {
    const q = this.acquire(QUEUE.DEFLATE);
    if (!q) return false;
    while (q.pop()) q.push(q.chain.head, 0);
    this.signalUsed(QUEUE.DEFLATE);
    return this.release(QUEUE.DEFLATE);
  }

  /** Each device-writable buffer is a stretch of memory that is free until it comes back [virtio §5.5.6.7]. */
  #report(index: number, give: ReturnMemory): boolean {
    const q = this.acquire(index);
    if (!q) return false;
    while (q.pop()) {
      const { chain } = q;
      // A chain cannot tell of more memory than there is, unless it tells of some twice.
      let rest = this.parts.ram.sizeBytes;
      for (let i = chain.readableCount; i < chain.count && rest > 0; i++) {
        rest -= chain.sizeBytes[i]!;
        const from = Math.ceil(chain.gpa[i]! / BALLOON_PAGE_BYTES) * BALLOON_PAGE_BYTES;
        const end = chain.gpa[i]! + chain.sizeBytes[i]!;
        const to = end - (end % BALLOON_PAGE_BYTES);
        if (to > from) give(from, to - from);
      }
      q.push(chain.head, 0);
    }
    this.signalUsed(index);
    return this.release(index);
  }

  /** The buffer with the statistics stays on the queue until others are asked for. */
  #readStats(): void {
    const q = this.acquire(QUEUE.STATS);
    if (!q) return;
    if (q.peek()) {
      const n = q.chain.read(0, this.#bytes);
      for (let at = 0; at + STAT_BYTES <= n; at += STAT_BYTES) {
        const tag = this.#pfns.getUint16(at, true);
        const value = this.#pfns.getUint32(at + 2, true) + this.#pfns.getUint32(at + 6, true) * 0x1_0000_0000;
        if (tag < BALLOON_STATS.length) this.#b.stats[tag] = value;
      }
      Atomics.add(this.#b.told, 0, 1);
      Atomics.notify(this.#b.told, 0);
    }
    this.release(QUEUE.STATS, "more");
  }

  /** Asks the driver for its statistics as they are now. */
  askStats(): void {
    const q = this.acquire(QUEUE.STATS);
    if (!q) return;
    if (q.pop()) q.push(q.chain.head, 0);
    this.signalUsed(QUEUE.STATS);
    this.release(QUEUE.STATS);
  }
}
