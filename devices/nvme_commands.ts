/**
 * The commands of the NVMe controller.
 *
 * Spec: [nvme §5] admin commands, [nvme §6] NVM commands, [nvme §4.3] PRPs.
 */
import type { GuestRam } from "../src/base/ram.ts";
import type { View } from "../src/base/record.ts";
import { type BlockBackend, SECTOR_BYTES } from "./block_backend.ts";
import {
  activeNamespaces,
  CNS,
  identifyController,
  identifyNamespace,
  logPage,
  namespaceDescriptors,
  type NvmeIdentity,
} from "./nvme_data.ts";
import {
  ADMIN,
  FEATURE,
  IO_QUEUES,
  MAX_ENTRIES,
  MAX_EVENTS,
  MDTS,
  NVM,
  type NvmeRecord,
  PAGE_BYTES,
  QUEUES,
  SC,
  SQ_ENTRY_BYTES,
} from "./nvme_registers.ts";
import { Scatter } from "./scatter.ts";

const ALL_NAMESPACES = 0xffff_ffff;
const MAX_BYTES: number = PAGE_BYTES << MDTS;
/** What an event request is answered with, later. */
export const NO_ANSWER = -1;

export const FEATURE_DEFAULTS: Readonly<Record<number, number>> = {
  [FEATURE.TEMPERATURE]: 353,
  [FEATURE.WRITE_CACHE]: 1,
};

const NVM_OPCODES: ReadonlySet<number> = new Set(Object.values(NVM));

/** A submission queue entry, copied: what the driver does to it afterwards is of no meaning. */
export class Command {
  readonly #bytes = new Uint8Array(SQ_ENTRY_BYTES);
  readonly #view = new DataView(this.#bytes.buffer);

  read(bytes: Uint8Array): void {
    this.#bytes.set(bytes);
  }

  get opcode(): number {
    return this.#bytes[0]!;
  }
  /** Fused operations, and whether SGLs are used in place of PRPs. */
  get flags(): number {
    return this.#bytes[1]!;
  }
  get cid(): number {
    return this.#view.getUint16(2, true);
  }
  get nsid(): number {
    return this.dw(1);
  }
  /** Command doubleword `n`. */
  dw(n: number): number {
    return this.#view.getUint32(4 * n, true);
  }
  /** A 64-bit field that begins at doubleword `n`. */
  qw(n: number): number {
    return this.dw(n) + this.dw(n + 1) * 0x1_0000_0000;
  }
}

export interface NvmeCommandParts {
  readonly s: View<typeof NvmeRecord>;
  readonly ram: GuestRam;
  readonly id: NvmeIdentity;
  /** Runs `body` under the machine lock. */
  readonly locked: (body: () => void) => void;
}

export class NvmeCommands {
  /** Doubleword 0 of the completion. */
  result = 0;
  readonly #data: Scatter;

  constructor(private readonly p: NvmeCommandParts) {
    this.#data = new Scatter(p.ram);
  }

  // I/O commands.

  /** Returns the status. */
  io(c: Command, backend: BlockBackend): number {
    this.result = 0;
    if (c.flags !== 0) return SC.INVALID_FIELD;
    const { id, s } = this.p;
    if (c.opcode === NVM.FLUSH) {
      if (c.nsid !== 1 && c.nsid !== ALL_NAMESPACES) return SC.INVALID_NAMESPACE;
      return backend.flush() ? SC.SUCCESS : SC.WRITE_FAULT;
    }
    if (!NVM_OPCODES.has(c.opcode)) return SC.INVALID_OPCODE;
    if (c.nsid !== 1) return SC.INVALID_NAMESPACE;
    const out = c.opcode !== NVM.READ;
    if (out && id.readonly) return SC.READ_ONLY;
    if (c.opcode === NVM.DATASET_MANAGEMENT) return this.#deallocate(c, backend);
    const sectors = (c.dw(12) & 0xffff) + 1, first = c.qw(10);
    if (first + sectors > id.sectors) return SC.LBA_OUT_OF_RANGE;
    const at = first * SECTOR_BYTES, bytes = sectors * SECTOR_BYTES;
    const through = out && ((c.dw(12) & (1 << 30)) !== 0 || !(s.features[FEATURE.WRITE_CACHE]! & 1));
    if (c.opcode === NVM.WRITE_ZEROES) {
      if (!backend.writeZeroes(at, bytes, (c.dw(12) & (1 << 25)) !== 0)) return SC.WRITE_FAULT;
    } else {
      if (bytes > MAX_BYTES) return SC.INVALID_FIELD;
      const wrong = this.#gather(c, bytes);
      if (wrong) return wrong;
      if (!this.#data.transfer(backend, !out, at, bytes)) return out ? SC.WRITE_FAULT : SC.UNRECOVERED_READ;
      if (out) {
        s.sectorsWritten += sectors;
        s.writes++;
      } else {
        s.sectorsRead += sectors;
        s.reads++;
      }
    }
    return through && !backend.flush() ? SC.WRITE_FAULT : SC.SUCCESS;
  }

  /** Tells the host of what a command will read, if it is a read. */
  announce(c: Command, backend: BlockBackend): void {
    if (c.opcode === NVM.READ) backend.announce?.(c.qw(10) * SECTOR_BYTES, ((c.dw(12) & 0xffff) + 1) * SECTOR_BYTES);
  }

  /** Every range is judged before the first is given up. */
  #deallocate(c: Command, backend: BlockBackend): number {
    const { id } = this.p;
    const ranges = (c.dw(10) & 0xff) + 1;
    const bytes = new Uint8Array(16 * ranges), view = new DataView(bytes.buffer);
    const wrong = this.#gather(c, bytes.length);
    if (wrong) return wrong;
    this.#data.take(bytes);
    if (!(c.dw(11) & (1 << 2))) return SC.SUCCESS; // hints of other kinds
    for (const act of [false, true]) {
      for (let at = 0; at < bytes.length; at += 16) {
        const sectors = view.getUint32(at + 4, true);
        const first = view.getUint32(at + 8, true) + view.getUint32(at + 12, true) * 0x1_0000_0000;
        if (first + sectors > id.sectors) return SC.LBA_OUT_OF_RANGE;
        if (act && sectors > 0 && id.discard && !backend.discard(first * SECTOR_BYTES, sectors * SECTOR_BYTES)) {
          return SC.WRITE_FAULT;
        }
      }
    }
    return SC.SUCCESS;
  }

  /** Collects the memory that the PRPs of a command describe; 0, or the status that says what is wrong. */
  #gather(c: Command, bytes: number): number {
    const { ram } = this.p, data = this.#data;
    data.start();
    const prp1 = c.qw(6), prp2 = c.qw(8);
    if (prp1 % 4 !== 0) return SC.PRP_OFFSET_INVALID;
    const first = Math.min(bytes, PAGE_BYTES - prp1 % PAGE_BYTES);
    if (!data.add(prp1, first)) return SC.DATA_TRANSFER_ERROR;
    let left = bytes - first;
    if (left === 0) return 0;
    if (left <= PAGE_BYTES) {
      if (prp2 % PAGE_BYTES !== 0) return SC.PRP_OFFSET_INVALID;
      return data.add(prp2, left) ? 0 : SC.DATA_TRANSFER_ERROR;
    }
    if (prp2 % 8 !== 0) return SC.PRP_OFFSET_INVALID;
    for (let at = prp2; left > 0;) {
      if (!ram.contains(at, 8)) return SC.DATA_TRANSFER_ERROR;
      const entry = ram.read64(at);
      if (entry % PAGE_BYTES !== 0) return SC.PRP_OFFSET_INVALID;
      // The last entry of a page leads to the next page of the list, if there is more than that entry's page to come.
      if (at % PAGE_BYTES === PAGE_BYTES - 8 && left > PAGE_BYTES) {
        at = entry;
        continue;
      }
      const n = Math.min(left, PAGE_BYTES);
      if (!data.add(entry, n)) return SC.DATA_TRANSFER_ERROR;
      left -= n;
      at += 8;
    }
    return 0;
  }

  // Admin commands.

  /** Returns the status, or NO_ANSWER for an event request that is kept. */
  admin(c: Command): number {
    this.result = 0;
    if (c.flags !== 0) return SC.INVALID_FIELD;
    let status: number = SC.SUCCESS;
    switch (c.opcode) {
      case ADMIN.CREATE_CQ:
        this.p.locked(() => status = this.#createCq(c));
        return status;
      case ADMIN.CREATE_SQ:
        this.p.locked(() => status = this.#createSq(c));
        return status;
      case ADMIN.DELETE_CQ:
        this.p.locked(() => status = this.#deleteCq(c.dw(10) & 0xffff));
        return status;
      case ADMIN.DELETE_SQ:
        this.p.locked(() => status = this.#deleteSq(c.dw(10) & 0xffff));
        return status;
      case ADMIN.IDENTIFY:
        return this.#identify(c);
      case ADMIN.GET_LOG_PAGE:
        return this.#getLog(c);
      case ADMIN.SET_FEATURES:
        return this.#setFeatures(c);
      case ADMIN.GET_FEATURES:
        return this.#getFeatures(c);
      case ADMIN.ABORT:
        this.result = 1; // commands are carried out in order: there is none to abort
        return SC.SUCCESS;
      case ADMIN.ASYNC_EVENT: {
        const { s } = this.p;
        if (s.eventCount >= MAX_EVENTS) return SC.EVENT_LIMIT_EXCEEDED;
        this.p.locked(() => s.events[s.eventCount++] = c.cid);
        return NO_ANSWER;
      }
      default:
        return SC.INVALID_OPCODE;
    }
  }

  #queueOf(c: Command): { id: number; entries: number; at: number; wrong: number } {
    const id = c.dw(10) & 0xffff, entries = (c.dw(10) >>> 16) + 1, at = c.qw(6);
    const live = c.opcode === ADMIN.CREATE_CQ ? this.p.s.cqLive : this.p.s.sqLive;
    const wrong = id === 0 || id > IO_QUEUES || live[id]
      ? SC.INVALID_QUEUE_ID
      : entries < 2 || entries > MAX_ENTRIES
      ? SC.INVALID_QUEUE_SIZE
      : !(c.dw(11) & 1) || at === 0 // physically contiguous is all there is
      ? SC.INVALID_FIELD
      : at % PAGE_BYTES !== 0
      ? SC.PRP_OFFSET_INVALID
      : 0;
    return { id, entries, at, wrong };
  }

  #createCq(c: Command): number {
    const { s } = this.p, { id, entries, wrong } = this.#queueOf(c);
    if (wrong) return wrong;
    const vector = c.dw(11) >>> 16;
    if (vector >= QUEUES) return SC.INVALID_VECTOR;
    s.cqLo[id] = c.dw(6);
    s.cqHi[id] = c.dw(7);
    s.cqSize[id] = entries;
    s.cqHead[id] = s.cqTail[id] = 0;
    s.cqPhase[id] = 1;
    s.cqVector[id] = vector;
    s.cqInterrupts[id] = (c.dw(11) >> 1) & 1;
    s.cqLive[id] = 1;
    return SC.SUCCESS;
  }

  #createSq(c: Command): number {
    const { s } = this.p, cq = c.dw(11) >>> 16;
    if (cq === 0 || cq > IO_QUEUES) return SC.INVALID_QUEUE_ID;
    if (!s.cqLive[cq]) return SC.CQ_INVALID;
    const { id, entries, wrong } = this.#queueOf(c);
    if (wrong) return wrong;
    s.sqLo[id] = c.dw(6);
    s.sqHi[id] = c.dw(7);
    s.sqSize[id] = entries;
    s.sqHead[id] = s.sqTail[id] = 0;
    s.sqCq[id] = cq;
    s.sqLive[id] = 1;
    return SC.SUCCESS;
  }

  #deleteSq(id: number): number {
    const { s } = this.p;
    if (id === 0 || id > IO_QUEUES || !s.sqLive[id]) return SC.INVALID_QUEUE_ID;
    s.sqLive[id] = 0;
    return SC.SUCCESS;
  }

  #deleteCq(id: number): number {
    const { s } = this.p;
    if (id === 0 || id > IO_QUEUES || !s.cqLive[id]) return SC.INVALID_QUEUE_ID;
    for (let q = 1; q < QUEUES; q++) if (s.sqLive[q] && s.sqCq[q] === id) return SC.INVALID_QUEUE_DELETION;
    s.cqLive[id] = 0;
    return SC.SUCCESS;
  }

  /** Gives the driver data, cut to `bytes`. */
  #give(c: Command, data: Uint8Array, bytes = data.length): number {
    const wrong = this.#gather(c, bytes);
    if (wrong) return wrong;
    this.#data.put(bytes <= data.length ? data.subarray(0, bytes) : padded(data, bytes));
    return SC.SUCCESS;
  }

  #identify(c: Command): number {
    const { id } = this.p;
    const nsid = c.nsid;
    switch (c.dw(10) & 0xff) {
      case CNS.CONTROLLER:
        return this.#give(c, identifyController(id));
      case CNS.NAMESPACE:
        // A number that is allowed and not in use has no data; all namespaces together have no common data.
        return nsid === 1 ? this.#give(c, identifyNamespace(id)) : SC.INVALID_NAMESPACE;
      case CNS.ACTIVE_NAMESPACES:
        return nsid >= 0xffff_fffe ? SC.INVALID_NAMESPACE : this.#give(c, activeNamespaces(nsid));
      case CNS.DESCRIPTORS:
        return nsid === 1 ? this.#give(c, namespaceDescriptors(id)) : SC.INVALID_NAMESPACE;
      default:
        return SC.INVALID_FIELD;
    }
  }

  #getLog(c: Command): number {
    const { s } = this.p, id = c.dw(10) & 0xff;
    const bytes = 4 * ((c.dw(10) >>> 16) + (c.dw(11) & 0xffff) * 0x1_0000 + 1), from = c.qw(12);
    const page = logPage(id, s);
    if (!page) return SC.INVALID_LOG_PAGE;
    if (from % 4 !== 0 || from > page.length || bytes > MAX_BYTES) return SC.INVALID_FIELD;
    // Reading the page lets the next event of its kind be told, unless the driver asks for that to wait.
    if (!(c.dw(10) & (1 << 15)) && id === 1) this.p.locked(() => s.eventHeld = 0);
    return this.#give(c, page.subarray(from), bytes);
  }

  #setFeatures(c: Command): number {
    const { s } = this.p, id = c.dw(10) & 0xff, value = c.dw(11);
    if (c.dw(10) & (1 << 31)) return SC.FEATURE_NOT_SAVEABLE;
    switch (id) {
      case FEATURE.QUEUES:
        if ((value & 0xffff) === 0xffff || value >>> 16 === 0xffff) return SC.INVALID_FIELD;
        this.result = (IO_QUEUES - 1) * 0x1_0001;
        return SC.SUCCESS;
      case FEATURE.POWER:
        if (value & 0x1f) return SC.INVALID_FIELD; // there is one power state
        return SC.SUCCESS;
      case FEATURE.WRITE_CACHE:
        s.features[id] = value & 1;
        return SC.SUCCESS;
      case FEATURE.ARBITRATION:
      case FEATURE.TEMPERATURE:
      case FEATURE.ERROR_RECOVERY:
      case FEATURE.COALESCING:
      case FEATURE.ATOMICITY:
      case FEATURE.EVENTS:
        s.features[id] = value;
        return SC.SUCCESS;
      case FEATURE.VECTOR:
        return (value & 0xffff) < QUEUES ? SC.SUCCESS : SC.INVALID_FIELD;
      default:
        return SC.INVALID_FIELD;
    }
  }

  #getFeatures(c: Command): number {
    const { s } = this.p, id = c.dw(10) & 0xff, select = (c.dw(10) >> 8) & 7;
    if (!(Object.values(FEATURE) as number[]).includes(id) || select > 3) return SC.INVALID_FIELD;
    if (select === 3) this.result = 1 << 2; // changeable
    else if (id === FEATURE.QUEUES) this.result = (IO_QUEUES - 1) * 0x1_0001;
    else if (id === FEATURE.VECTOR) this.result = c.dw(11) & 0xffff;
    else this.result = select === 0 ? s.features[id]! : FEATURE_DEFAULTS[id] ?? 0;
    return SC.SUCCESS;
  }
}

function padded(data: Uint8Array, bytes: number): Uint8Array {
  const all = new Uint8Array(bytes);
  all.set(data);
  return all;
}
