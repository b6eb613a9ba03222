/**
 * The life of a machine, and its state as data.
 *
 * | from | by | to | who may call, and when |
 * |---|---|---|---|
 * | created | start | running | once, when every Worker is ready |
 * | running | pause | paused | vCPUs are parked, back ends are drained, time stands still |
 * | paused | resume | running | |
 * | running, paused | reset | running | vCPUs have left, back ends are drained |
 * | any but ended | halt | ended | vCPUs have left or will be terminated |
 *
 * A paused machine makes no work of its own but accepts input.
 */
import type { Arena, SavedRecord } from "../base/arena.ts";
import { Bug, RestoreError } from "../base/errors.ts";
import type { GuestRam } from "../base/ram.ts";
import type { MachineClock } from "../host/host_clock.ts";

export type LifeState = "created" | "running" | "paused" | "resetting" | "ended";

const LEGAL: Readonly<Record<LifeState, readonly LifeState[]>> = {
  created: ["running", "ended"],
  running: ["paused", "resetting", "ended"],
  paused: ["running", "resetting", "ended"],
  resetting: ["running", "ended"],
  ended: [],
};

export class Lifecycle {
  #state: LifeState = "created";

  get state(): LifeState {
    return this.#state;
  }

  may(next: LifeState): boolean {
    return LEGAL[this.#state].includes(next);
  }

  to(next: LifeState): void {
    if (!this.may(next)) throw new Bug(`A machine that is ${this.#state} cannot become ${next}`);
    this.#state = next;
  }
}

const SNAPSHOT_VERSION = 1;
const CHUNK = 64 * 1024;

/** A machine's devices and memory at one moment of guest time. The vCPUs' own state is the engine's to save. */
export interface MachineSnapshot {
  readonly version: number;
  readonly ramBytes: number;
  readonly timeNs: number;
  readonly records: readonly SavedRecord[];
  /** Stretches of RAM that are not zero, ascending, in chunks of 64 KiB. */
  readonly ram: readonly { readonly gpa: number; readonly bytes: Uint8Array }[];
}

/** What saving and restoring touch of an assembled machine. */
export interface SnapshotParts {
  readonly arena: Arena;
  readonly ram: GuestRam;
  readonly clock: MachineClock;
  /** Recomputes outputs and timers from the records. */
  settle(): void;
}

/** Copies a paused machine out. Under the machine lock. */
export function saveMachine(m: SnapshotParts): MachineSnapshot {
  const ram: { gpa: number; bytes: Uint8Array }[] = [];
  for (let gpa = 0; gpa < m.ram.sizeBytes; gpa += CHUNK) {
    const bytes = m.ram.bytes(gpa, Math.min(CHUNK, m.ram.sizeBytes - gpa))!;
    if (!isZero(bytes)) ram.push({ gpa, bytes: bytes.slice() });
  }
  return {
    version: SNAPSHOT_VERSION,
    ramBytes: m.ram.sizeBytes,
    timeNs: m.clock.nowNs(),
    records: m.arena.save(),
    ram,
  };
}

/** Makes a paused machine what the snapshot says. Throws RestoreError, and changes nothing, if it cannot be trusted. */
export function restoreMachine(m: SnapshotParts, saved: MachineSnapshot): void {
  if (saved.version !== SNAPSHOT_VERSION) {
    throw new RestoreError(`Cannot restore snapshot: found version ${saved.version}, expected ${SNAPSHOT_VERSION}`);
  }
  if (saved.ramBytes !== m.ram.sizeBytes) {
    throw new RestoreError(`Cannot restore RAM: found ${saved.ramBytes} bytes, expected ${m.ram.sizeBytes}`);
  }
  if (!(saved.timeNs >= 0 && saved.timeNs <= Number.MAX_SAFE_INTEGER)) {
    throw new RestoreError(`Cannot restore time: found ${saved.timeNs}, expected 0 to ${Number.MAX_SAFE_INTEGER} ns`);
  }
  let next = 0;
  for (const { gpa, bytes } of saved.ram) {
    const whole = gpa >= next && gpa % CHUNK === 0 && bytes.length === Math.min(CHUNK, m.ram.sizeBytes - gpa);
    if (!whole) {
      throw new RestoreError(
        `Cannot restore RAM: found ${bytes.length} bytes at ${gpa}, expected a chunk from ${next} up`,
      );
    }
    next = gpa + CHUNK;
  }
  m.arena.restore(saved.records);

  let at = 0;
  for (const { gpa, bytes } of saved.ram) {
    clear(m.ram, at, gpa);
    m.ram.copyIn(gpa, bytes);
    at = gpa + bytes.length;
  }
  clear(m.ram, at, m.ram.sizeBytes);
  m.clock.set(saved.timeNs);
  m.settle();
}

/** Writes zeroes where there are none yet, so that untouched memory stays untouched. */
function clear(ram: GuestRam, from: number, to: number): void {
  while (from < to) {
    const size = Math.min(CHUNK - (from % CHUNK), to - from);
    const bytes = ram.bytes(from, size)!;
    if (!isZero(bytes)) {
      bytes.fill(0);
      ram.wrote(from, size);
    }
    from += size;
  }
}

function isZero(bytes: Uint8Array): boolean {
  const whole = bytes.length & ~7;
  for (const word of new Float64Array(bytes.buffer, bytes.byteOffset, whole >> 3)) {
    // -0 is not all zeroes, and NaN is not 0.
    if (word !== 0 || Object.is(word, -0)) return false;
  }
  for (let i = whole; i < bytes.length; i++) if (bytes[i] !== 0) return false;
  return true;
}
