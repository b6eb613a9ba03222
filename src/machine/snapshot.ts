/**
 * A machine into a file, and out of it again.
 *
 * | section | holds |
 * |---|---|
 * | machine | what it is made of and when it was saved, in JSON (snapshot_spec.ts) |
 * | records | every record of the arena: devices, timers, vCPUs |
 * | input | bytes that were typed and not yet read, by serial port, then those of the virtio console |
 * | ram-map | a bit for each page of 4 KiB: whether it holds anything |
 * | ram | such pages, in order; as often as it takes |
 *
 * Output that the guest has sent is the business of the process that was saved, and so are its open connections.
 */
import type { SavedRecord } from "../base/arena.ts";
import { HostError, messageOf, RestoreError } from "../base/errors.ts";
import type { ByteRing } from "../base/ring.ts";
import type { SavedShare } from "../host/share/saved.ts";
import { checkVcpuState } from "../engine/vcpu_state.ts";
import { PAGE_BYTES } from "./memory.ts";
import type { Pc } from "./pc.ts";
import { MAX_SECTION_BYTES, SnapshotReader, SnapshotWriter } from "./snapshot_file.ts";
import { type DiskIdentity, identify, parseMachine, type SavedMachine } from "./snapshot_spec.ts";
import type { MachineSpec, NetSpec } from "./spec.ts";

/** Pages in a section of RAM: 4 MiB. */
const CHUNK_PAGES = 1024;
const VERSION = "0.1.0";

export interface SnapshotFacts {
  readonly path: string;
  /** Of the file. */
  readonly bytes: number;
  /** Of guest RAM in it. */
  readonly ramBytes: number;
}

/** All that writing needs of a machine that stands still, its vCPUs' states in their records. */
export type Saved = Pick<Pc, "arena" | "ram" | "clock" | "lock" | "serial" | "console">;

/** Writes a machine that stands still. Throws HostError, and leaves the file of that name as it was. */
export function writeSnapshot(
  path: string,
  pc: Saved,
  spec: MachineSpec,
  options: {
    readonly compress: boolean;
    readonly disks?: readonly DiskIdentity[];
    readonly shares?: readonly SavedShare[];
  },
): SnapshotFacts {
  const writer = new SnapshotWriter(path, options.compress);
  try {
    const machine: SavedMachine = {
      version: VERSION,
      savedAtMs: Date.now(),
      timeNs: pc.clock.nowNs(),
      ramBytes: pc.ram.backedBytes,
      spec: specToSave(spec),
      disks: options.disks ?? identify(spec.disks),
      ...options.shares?.length ? { shares: options.shares } : {},
    };
    const json = new TextEncoder().encode(JSON.stringify(machine));
    if (json.length > MAX_SECTION_BYTES) {
      throw new HostError(`Cannot write the snapshot "${path}": the guest knows too many files of its --share folders`);
    }
    writer.section("machine", json);
    const { records, input } = pc.lock.with(() => ({ records: pc.arena.save(), input: inputsOf(pc).map(peek) }));
    writer.section("records", encodeRecords(records));
    writer.section("input", encodeInput(input));
    const ramBytes = writeRam(writer, new Uint8Array(pc.ram.buffer, pc.ram.base, pc.ram.backedBytes));
    writer.finish();
    return { path, bytes: writer.bytes, ramBytes };
  } catch (error) {
    writer.abandon();
    throw error;
  }
}

/** Without what belongs to this process: a library, native code, a folder that is given away. */
function specToSave({ hypervisor: _, native: __, net, ...spec }: MachineSpec): MachineSpec {
  return { ...spec, ...(net ? { net: netToSave(net) } : {}), trace: null };
}

function netToSave(net: NetSpec): NetSpec {
  if (net.kind !== "user") return net;
  const { tftp: _, ...rest } = net;
  return rest;
}

function inputsOf(pc: Saved): ByteRing[] {
  return [...pc.serial.map(({ rx }) => rx), pc.console.rx];
}

/** What is in a ring. Its reader stands still, and its writer is this thread. */
function peek(ring: ByteRing): Uint8Array {
  const bytes = ring.read();
  ring.write(bytes);
  return bytes;
}

function writeRam(writer: SnapshotWriter, ram: Uint8Array): number {
  const pages = Math.floor(ram.length / PAGE_BYTES);
  const map = new Uint8Array(Math.ceil(pages / 8));
  const words = new Int32Array(ram.buffer, ram.byteOffset, ram.length >> 2);
  let held = 0;
  for (let page = 0; page < pages; page++) {
    if (isZero(words, page * (PAGE_BYTES / 4))) continue;
    map[page >> 3]! |= 1 << (page & 7);
    held++;
  }
  writer.section("ram-map", map);
  const chunk = new Uint8Array(CHUNK_PAGES * PAGE_BYTES);
  let n = 0;
  const flush = () => {
    if (n > 0) writer.section("ram", chunk.subarray(0, n));
    n = 0;
  };
  for (const { from, to } of runs(map, pages)) {
    for (let page = from; page < to;) {
      const count = Math.min(to - page, (chunk.length - n) / PAGE_BYTES);
      chunk.set(ram.subarray(page * PAGE_BYTES, (page + count) * PAGE_BYTES), n);
      n += count * PAGE_BYTES;
      page += count;
      if (n === chunk.length) flush();
    }
  }
  flush();
  return held * PAGE_BYTES;
}

function isZero(words: Int32Array, from: number): boolean {
  for (let at = from, end = from + PAGE_BYTES / 4; at < end; at += 4) {
    if ((words[at]! | words[at + 1]! | words[at + 2]! | words[at + 3]!) !== 0) return false;
  }
  return true;
}

/** Stretches of pages whose bits are set, ascending. */
function* runs(map: Uint8Array, pages: number): Generator<{ from: number; to: number }> {
  let from = -1;
  for (let page = 0; page < pages; page++) {
    const set = (map[page >> 3]! >> (page & 7) & 1) !== 0;
    if (set && from < 0) from = page;
    if (!set && from >= 0) {
      yield { from, to: page };
      from = -1;
    }
  }
  if (from >= 0) yield { from, to: pages };
}

/** A snapshot whose machine is known, and whose rest waits in the file. */
export class Snapshot {
  readonly machine: SavedMachine;
  readonly #reader: SnapshotReader;

  /** Throws RestoreError or HostError. */
  constructor(readonly path: string) {
    this.#reader = new SnapshotReader(path);
    try {
      this.#reader.expect("machine");
      const json = this.#reader.contents();
      this.machine = this.#in("machine", () => parseMachine(json));
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /**
   * Gives a machine that was just made what the file holds; nothing of it runs yet. Throws RestoreError: what the machine is
   * then is nobody's guess, and it must not run.
   */
  load(pc: Pc): void {
    const reader = this.#reader, { machine } = this;
    if (pc.ram.backedBytes !== machine.ramBytes) {
      throw this.#wrong("machine", `found ${machine.ramBytes} bytes of RAM, expected ${pc.ram.backedBytes}`);
    }
    reader.expect("records");
    const records = this.#in("records", () => decodeRecords(reader.contents()));
    reader.expect("input");
    const rings = inputsOf(pc);
    const input = this.#in("input", () => decodeInput(reader.contents(), rings.length));
    this.#loadRam(new Uint8Array(pc.ram.buffer, pc.ram.base, pc.ram.backedBytes));
    this.#in("records", () => {
      pc.arena.restore(records);
      for (const record of pc.vcpuRecords) checkVcpuState(record);
    });
    for (const [i, ring] of rings.entries()) ring.write(input[i]!);
    pc.lock.with(() => {
      pc.clock.set(machine.timeNs);
      pc.settle();
      if (!machine.spec.icount) {
        pc.skipWallTime(Date.now() - machine.savedAtMs);
        pc.renewGeneration();
      }
      for (const { uart } of pc.serial) uart.receive();
    });
  }

  #loadRam(ram: Uint8Array): void {
    const reader = this.#reader, pages = Math.floor(ram.length / PAGE_BYTES);
    reader.expect("ram-map");
    const map = reader.contents();
    if (map.length !== Math.ceil(pages / 8) || (pages % 8 !== 0 && map.at(-1)! >> (pages % 8) !== 0)) {
      throw this.#wrong("ram-map", `expected a bit for each of ${pages} pages`);
    }
    let chunk: Uint8Array = new Uint8Array(0), at = 0;
    for (const { from, to } of runs(map, pages)) {
      for (let page = from; page < to;) {
        if (at === chunk.length) {
          reader.expect("ram");
          chunk = reader.contents(true);
          at = 0;
          if (chunk.length === 0 || chunk.length % PAGE_BYTES !== 0) {
            throw this.#wrong("ram", `found ${chunk.length} bytes, expected whole pages`);
          }
        }
        const bytes = Math.min((to - page) * PAGE_BYTES, chunk.length - at);
        ram.set(chunk.subarray(at, at + bytes), page * PAGE_BYTES);
        at += bytes;
        page += bytes / PAGE_BYTES;
      }
    }
    if (at !== chunk.length) throw this.#wrong("ram", `found pages that the map does not name`);
    const more = reader.next();
    if (more !== null) throw this.#wrong(more.name, "found more than the map names");
  }

  close(): void {
    this.#reader.close();
  }

  /** Names the section in what `body` throws. */
  #in<T>(section: string, body: () => T): T {
    try {
      return body();
    } catch (error) {
      if (!(error instanceof RestoreError) || error.message.startsWith("Cannot resume")) throw error;
      throw this.#wrong(section, messageOf(error), error);
    }
  }

  #wrong(section: string, why: string, cause?: unknown): RestoreError {
    return new RestoreError(`Cannot resume "${this.path}": section "${section}": ${why}`, { cause });
  }
}

/** For each: lengths of id and kind (a byte each), version (2), bytes (4); id, kind, bytes. */
export function encodeRecords(records: readonly SavedRecord[]): Uint8Array {
  const HEAD = 8, utf8 = new TextEncoder();
  const parts = records.flatMap(({ id, kind, version, bytes }) => {
    const head = new Uint8Array(HEAD), dv = new DataView(head.buffer);
    const name = utf8.encode(id), type = utf8.encode(kind);
    head[0] = name.length;
    head[1] = type.length;
    dv.setUint16(2, version, true);
    dv.setUint32(4, bytes.length, true);
    return [head, name, type, bytes];
  });
  return join(parts);
}

export function decodeRecords(bytes: Uint8Array): SavedRecord[] {
  const text = new TextDecoder(), from = new Cursor(bytes);
  const records: SavedRecord[] = [];
  while (!from.atEnd) {
    const head = from.take(8), dv = new DataView(head.buffer, head.byteOffset, 8);
    const id = text.decode(from.take(head[0]!)), kind = text.decode(from.take(head[1]!));
    records.push({ id, kind, version: dv.getUint16(2, true), bytes: from.take(dv.getUint32(4, true)) });
  }
  return records;
}

/** For each: bytes (4), then they. */
function encodeInput(input: readonly Uint8Array[]): Uint8Array {
  return join(input.flatMap((bytes) => [new Uint8Array(Uint32Array.of(bytes.length).buffer), bytes]));
}

function decodeInput(bytes: Uint8Array, count: number): Uint8Array[] {
  const from = new Cursor(bytes);
  const input = Array.from({ length: count }, () => {
    const length = from.take(4);
    return from.take(new DataView(length.buffer, length.byteOffset, 4).getUint32(0, true));
  });
  if (!from.atEnd) throw new RestoreError(`expected input for ${count} ports`);
  return input;
}

class Cursor {
  #at = 0;
  constructor(private readonly bytes: Uint8Array) {}
  get atEnd(): boolean {
    return this.#at === this.bytes.length;
  }
  take(n: number): Uint8Array {
    if (n > this.bytes.length - this.#at) throw new RestoreError("it ends too early");
    return this.bytes.subarray(this.#at, this.#at += n);
  }
}

function join(parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
