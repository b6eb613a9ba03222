/**
 * Byte-range locks of the guest's processes on files of a share. They hold among those; programs of the host know nothing of
 * them, as they would not of a file server's.
 */

import { MAX_LOCKS, type SavedLock } from "./saved.ts";

export const LOCK_TYPE = { READ: 0, WRITE: 1, UNLOCK: 2 } as const;

export interface Lock {
  readonly type: number;
  /** [start, end), of which `end` may be Infinity. */
  readonly start: number;
  readonly end: number;
  readonly owner: string;
  readonly process: number;
  readonly client: string;
  /** The fid it was taken through. */
  readonly fid: number;
}

export class Locks {
  readonly #files = new Map<string, Lock[]>();
  #count = 0;

  /** A lock of somebody else that stands in the way. */
  conflict(file: string, wanted: Lock): Lock | null {
    if (wanted.type === LOCK_TYPE.UNLOCK) return null;
    return this.#files.get(file)?.find((held) =>
      held.owner !== wanted.owner && held.start < wanted.end && wanted.start < held.end &&
      (held.type === LOCK_TYPE.WRITE || wanted.type === LOCK_TYPE.WRITE)
    ) ?? null;
  }

  /** Takes a lock, changes one, or lets go of what it covers. False: there are too many. */
  set(file: string, wanted: Lock): boolean {
    const kept: Lock[] = [];
    for (const held of this.#files.get(file) ?? []) {
      if (held.owner !== wanted.owner || held.end <= wanted.start || wanted.end <= held.start) kept.push(held);
      else {
        if (held.start < wanted.start) kept.push({ ...held, end: wanted.start });
        if (held.end > wanted.end) kept.push({ ...held, start: wanted.end });
      }
    }
    if (wanted.type !== LOCK_TYPE.UNLOCK) kept.push(wanted);
    return this.#put(file, kept);
  }

  /** Lets go of all that was taken through a fid. */
  release(fid: number): void {
    for (const [file, locks] of this.#files) {
      if (locks.some((held) => held.fid === fid)) this.#put(file, locks.filter((held) => held.fid !== fid));
    }
  }

  save(): SavedLock[] {
    return [...this.#files.values()].flat().map(({ fid, type, start, end, process, client }) => ({
      fid,
      type,
      start,
      end: end === Infinity ? null : end,
      process,
      client,
    }));
  }

  clear(): void {
    this.#files.clear();
    this.#count = 0;
  }

  #put(file: string, locks: Lock[]): boolean {
    const count = this.#count + locks.length - (this.#files.get(file)?.length ?? 0);
    if (count > MAX_LOCKS && count > this.#count) return false;
    this.#count = count;
    if (locks.length > 0) this.#files.set(file, locks);
    else this.#files.delete(file);
    return true;
  }
}
