/**
 * The arena: one stretch of shared memory that holds every record of a machine.
 *
 * Each thread assembles the same machine from the same parts list over the same memory, in the same order, and so finds every
 * record at the same place. The thread that creates the machine calls `powerOn`, once; the others only attach.
 */
import { Bug, RestoreError } from "./errors.ts";
import type { Fields, RecordType, ViewOf } from "./record.ts";

interface Entry {
  readonly id: string;
  readonly at: number;
  // deno-lint-ignore no-explicit-any
  readonly type: RecordType<any>;
  // deno-lint-ignore no-explicit-any
  readonly view: any;
}

/** A saved record: everything a restore needs to find and to doubt it. */
export interface SavedRecord {
  readonly id: string;
  readonly kind: string;
  readonly version: number;
  readonly bytes: Uint8Array;
}

export class Arena {
  readonly #entries = new Map<string, Entry>();
  #next: number;

  constructor(readonly buffer: ArrayBufferLike, readonly base: number, readonly sizeBytes: number) {
    this.#next = base;
  }

  /** An arena of its own memory: for tests. */
  static private(sizeBytes = 1 << 20): Arena {
    return new Arena(new SharedArrayBuffer(sizeBytes), 0, sizeBytes);
  }

  /** Places a record under a name of its own. */
  place<F extends Fields>(id: string, type: RecordType<F>): ViewOf<F> {
    if (this.#entries.has(id)) throw new Bug(`Record ${id} placed twice`);
    const at = this.raw(type.sizeBytes);
    const view = type.view(this.buffer, at);
    this.#entries.set(id, { id, at, type, view });
    return view;
  }

  /** Places bytes that no snapshot holds (rings, wait words); returns their offset in the buffer, a multiple of 64. */
  raw(sizeBytes: number): number {
    const at = Math.ceil(this.#next / 64) * 64;
    if (at + sizeBytes > this.base + this.sizeBytes) throw new Bug(`Arena full: ${sizeBytes} bytes asked`);
    this.#next = at + sizeBytes;
    return at;
  }

  /** Writes the power-on values of every record. */
  powerOn(): void {
    for (const e of this.#entries.values()) e.type.reset(e.view);
  }

  /** What was placed, in order. */
  // deno-lint-ignore no-explicit-any
  types(): RecordType<any>[] {
    return [...this.#entries.values()].map(({ type }) => type);
  }

  /** Copies every record out. */
  save(): SavedRecord[] {
    return [...this.#entries.values()].map((e) => ({
      id: e.id,
      kind: e.type.kind,
      version: e.type.version,
      bytes: new Uint8Array(this.buffer, e.at, e.type.sizeBytes).slice(),
    }));
  }

  /** Copies records in, after checking all of them; throws RestoreError and changes nothing if one is wrong. */
  restore(saved: readonly SavedRecord[]): void {
    const seen = new Set<string>();
    for (const s of saved) {
      const e = this.#entries.get(s.id);
      if (!e) throw new RestoreError(`Cannot restore ${s.id}: this machine has no such part`);
      if (seen.has(s.id)) throw new RestoreError(`Cannot restore ${s.id}: it is there twice`);
      seen.add(s.id);
      if (s.kind !== e.type.kind || s.version !== e.type.version || s.bytes.length !== e.type.sizeBytes) {
        throw new RestoreError(
          `Cannot restore ${s.id}: found ${s.kind} version ${s.version} of ${s.bytes.length} bytes, expected ${e.type.kind} version ${e.type.version} of ${e.type.sizeBytes}`,
        );
      }
      const copy = new ArrayBuffer(s.bytes.length);
      new Uint8Array(copy).set(s.bytes);
      e.type.validate(e.type.view(copy, 0));
    }
    for (const id of this.#entries.keys()) {
      if (!seen.has(id)) throw new RestoreError(`Cannot restore ${id}: the snapshot does not hold it`);
    }
    for (const s of saved) {
      const e = this.#entries.get(s.id)!;
      new Uint8Array(this.buffer, e.at, e.type.sizeBytes).set(s.bytes);
    }
  }
}
