/**
 * The virtio block device.
 *
 * Spec: [virtio §5.2].
 * Emulated: read, write, flush, get ID, discard, write zeroes; several request queues; a read-only medium.
 * Absent: secure erase, zoned devices, device lifetime, a write cache the driver can switch (a driver without
 * VIRTIO_BLK_F_FLUSH gets each write on disk before it completes).
 *
 * A doorbell calls the part `notify`. Whoever owns the back end then calls `processQueue`, in any thread: data moves between the
 * back end and guest RAM without a copy, and without the machine lock.
 */
import type { Arena } from "../../src/base/arena.ts";
import type { RegisterDevice } from "../../src/base/bus.ts";
import { AHEAD, type BlockBackend, SECTOR_BYTES } from "../block_backend.ts";
import { Scatter } from "../scatter.ts";
import { type VirtioParts, VirtioPci } from "./pci_transport.ts";
import { Chain, type Virtqueue } from "./queue.ts";

export { type BlockBackend, SECTOR_BYTES };

export const BLOCK_FEATURE = {
  SIZE_MAX: 1,
  SEG_MAX: 2,
  RO: 5,
  BLK_SIZE: 6,
  FLUSH: 9,
  MQ: 12,
  DISCARD: 13,
  WRITE_ZEROES: 14,
} as const;

export const BLOCK_REQUEST = { IN: 0, OUT: 1, FLUSH: 4, GET_ID: 8, DISCARD: 11, WRITE_ZEROES: 13 } as const;
export const BLOCK_STATUS = { OK: 0, IOERR: 1, UNSUPP: 2 } as const;

const HEADER_BYTES = 16;
const ID_BYTES = 20;
const SEGMENT_BYTES = 16; // of discard and write zeroes
const UNMAP = 1 << 0; // in a segment's flags
const SEG_MAX = 510; // with header and status, a queue of 512: 1 MiB in pages is one request
const SIZE_MAX = 1 << 20;
/** More than SEG_MAX buffers of SIZE_MAX: what no driver asks for at once, and the most that one request may keep a thread. */
const MAX_DATA_BYTES = 256 << 20;
const MAX_ERASE_SECTORS = 1 << 15;
const MAX_ERASE_SEGMENTS = 16;
/** Requests, and bytes of them, of whose end the driver is told at once. */
const BATCH_REQUESTS = 8;
const BATCH_BYTES = 128 * 1024;

/** The device configuration structure [virtio §5.2.4]. */
export const VIRTIO_BLK_CONFIG = {
  capacity_lo: { at: 0, width: 4, access: "ro" },
  capacity_hi: { at: 4, width: 4, access: "ro" },
  size_max: { at: 8, width: 4, access: "ro" },
  seg_max: { at: 12, width: 4, access: "ro" },
  geometry: { at: 16, width: 4, access: "ro" },
  blk_size: { at: 20, width: 4, access: "ro" },
  topology_exponents: { at: 24, width: 4, access: "ro" },
  opt_io_size: { at: 28, width: 4, access: "ro" },
  writeback: { at: 32, width: 2, access: "ro" },
  num_queues: { at: 34, width: 2, access: "ro" },
  max_discard_sectors: { at: 36, width: 4, access: "ro" },
  max_discard_seg: { at: 40, width: 4, access: "ro" },
  discard_sector_alignment: { at: 44, width: 4, access: "ro" },
  max_write_zeroes_sectors: { at: 48, width: 4, access: "ro" },
  max_write_zeroes_seg: { at: 52, width: 4, access: "ro" },
  write_zeroes_may_unmap: { at: 56, width: 4, access: "ro" },
} as const;

export interface VirtioBlockParts extends VirtioParts {
  /** Queue `index` has requests: wake whoever calls `processQueue`, or call it. */
  readonly notify: (index: number) => void;
}

export interface VirtioBlockOptions {
  readonly capacitySectors: number;
  readonly readonly?: boolean;
  /** Offer VIRTIO_BLK_F_DISCARD: where the back end gains by it. */
  readonly discard?: boolean;
  /** At most 20 ASCII characters. */
  readonly serial?: string;
  readonly queues?: number;
}

export class VirtioBlock extends VirtioPci {
  readonly #header = new Uint8Array(HEADER_BYTES);
  readonly #headerView = new DataView(this.#header.buffer);
  readonly #segment = new Uint8Array(SEGMENT_BYTES);
  readonly #segmentView = new DataView(this.#segment.buffer);
  readonly #status = new Uint8Array(1);
  readonly #id = new Uint8Array(ID_BYTES);
  /** Bytes of the device-writable part, from its start, that the last request wrote. */
  #written = 0;
  /** Bytes of data moved since the driver was last told. */
  #moved = 0;
  readonly #data: Scatter;
  /** A request that is looked at before its turn. */
  readonly #ahead: Chain;

  constructor(
    arena: Arena,
    id: string,
    private readonly blockParts: VirtioBlockParts,
    private readonly options: VirtioBlockOptions,
  ) {
    const { SIZE_MAX, SEG_MAX, RO, BLK_SIZE, FLUSH, MQ, DISCARD, WRITE_ZEROES } = BLOCK_FEATURE;
    const features: number[] = [SIZE_MAX, SEG_MAX, BLK_SIZE, FLUSH];
    if (options.readonly) features.push(RO);
    else features.push(WRITE_ZEROES, ...(options.discard ? [DISCARD] : []));
    if ((options.queues ?? 1) > 1) features.push(MQ);
    super(arena, id, blockParts, {
      type: 2,
      classCode: 0x010000,
      features,
      queues: options.queues ?? 1,
      queueSize: 512,
    });
    this.#data = new Scatter(blockParts.ram);
    this.#ahead = new Chain(blockParts.ram);
    this.#id.set(new TextEncoder().encode(options.serial ?? id).subarray(0, ID_BYTES));
    const config: RegisterDevice<typeof VIRTIO_BLK_CONFIG> = {
      registers: VIRTIO_BLK_CONFIG,
      readRegister: (reg) => this.#config(reg),
      writeRegister: () => {},
    };
    this.showConfig(config);
  }

  #config(reg: keyof typeof VIRTIO_BLK_CONFIG): number {
    const { capacitySectors, queues, discard, readonly } = this.options;
    switch (reg) {
      case "capacity_lo":
        return capacitySectors % 0x1_0000_0000;
      case "capacity_hi":
        return Math.floor(capacitySectors / 0x1_0000_0000);
      case "size_max":
        return SIZE_MAX;
      case "seg_max":
        return SEG_MAX;
      case "blk_size":
        return SECTOR_BYTES;
      case "num_queues":
        return queues ?? 1;
      case "max_discard_sectors":
        return discard ? MAX_ERASE_SECTORS : 0;
      case "max_discard_seg":
        return discard ? MAX_ERASE_SEGMENTS : 0;
      case "discard_sector_alignment":
        return discard ? 1 : 0;
      case "max_write_zeroes_sectors":
        return readonly ? 0 : MAX_ERASE_SECTORS;
      case "max_write_zeroes_seg":
        return readonly ? 0 : MAX_ERASE_SEGMENTS;
      case "write_zeroes_may_unmap":
        return readonly ? 0 : 1;
      case "geometry":
      case "topology_exponents":
      case "opt_io_size":
      case "writeback":
        return 0;
    }
  }

  protected override notified(index: number): void {
    this.blockParts.notify(index);
  }

  /** Serves the requests waiting on queue `index`, at most as many as it has entries. True: call again, more are waiting. */
  processQueue(index: number, backend: BlockBackend): boolean {
    const q = this.acquire(index);
    if (!q) return false;
    let finished = this.#moved = 0, announced = 0;
    while (q.pop()) {
      const chain = q.chain;
      announced = Math.max(0, announced - 1);
      if (backend.waits) announced = this.#announce(q, announced, backend);
      // Without a header or a place for the status there is nobody to answer [virtio §5.2.6].
      if (chain.readableBytes < HEADER_BYTES || chain.writableBytes < 1) {
        q.fail();
        break;
      }
      chain.read(0, this.#header);
      // What may take long does not keep the driver from what is done.
      if (finished > 0 && this.#headerView.getUint32(0, true) > BLOCK_REQUEST.OUT) this.signalUsed(index);
      this.#status[0] = this.#perform(chain, backend);
      const statusAt = chain.writableBytes - 1;
      chain.write(statusAt, this.#status);
      q.push(chain.head, this.#written + (this.#written === statusAt ? 1 : 0));
      // An interrupt costs a guest more than a short request does; none waits for much that comes after it.
      if (++finished < BATCH_REQUESTS && this.#moved < BATCH_BYTES) continue;
      this.signalUsed(index);
      finished = this.#moved = 0;
    }
    this.signalUsed(index);
    return this.release(index);
  }

  /** Tells the host of the reads that wait, but for the first `known`; returns how many requests it knows of now. */
  #announce(q: Virtqueue, known: number, backend: BlockBackend): number {
    const chain = this.#ahead, header = this.#headerView;
    for (; known < AHEAD && q.glance(known, chain); known++) {
      if (chain.read(0, this.#header) < HEADER_BYTES || header.getUint32(0, true) !== BLOCK_REQUEST.IN) continue;
      const sector = header.getUint32(8, true) + header.getUint32(12, true) * 0x1_0000_0000;
      backend.announce?.(sector * SECTOR_BYTES, chain.writableBytes - 1);
    }
    return known;
  }

  #perform(chain: Chain, backend: BlockBackend): number {
    this.#written = 0;
    const type = this.#headerView.getUint32(0, true);
    const sector = this.#headerView.getUint32(8, true) + this.#headerView.getUint32(12, true) * 0x1_0000_0000;
    try {
      switch (type) {
        case BLOCK_REQUEST.IN:
          return this.#transfer(chain, backend, false, sector);
        case BLOCK_REQUEST.OUT: {
          const status = this.#transfer(chain, backend, true, sector);
          const through = !this.negotiated(BLOCK_FEATURE.FLUSH);
          return status === BLOCK_STATUS.OK && through && !backend.flush() ? BLOCK_STATUS.IOERR : status;
        }
        case BLOCK_REQUEST.FLUSH:
          return backend.flush() ? BLOCK_STATUS.OK : BLOCK_STATUS.IOERR;
        case BLOCK_REQUEST.GET_ID:
          this.#written = chain.write(0, this.#id.subarray(0, Math.min(ID_BYTES, chain.writableBytes - 1)));
          return BLOCK_STATUS.OK;
        case BLOCK_REQUEST.DISCARD:
          return this.negotiated(BLOCK_FEATURE.DISCARD) ? this.#erase(chain, backend, true) : BLOCK_STATUS.UNSUPP;
        case BLOCK_REQUEST.WRITE_ZEROES:
          return this.negotiated(BLOCK_FEATURE.WRITE_ZEROES) ? this.#erase(chain, backend, false) : BLOCK_STATUS.UNSUPP;
        default:
          return BLOCK_STATUS.UNSUPP;
      }
    } catch {
      return BLOCK_STATUS.IOERR;
    }
  }

  /** Moves data between the disk and the chain's buffers. */
  #transfer(chain: Chain, backend: BlockBackend, out: boolean, sector: number): number {
    const total = out ? chain.readableBytes - HEADER_BYTES : chain.writableBytes - 1;
    const sectors = total / SECTOR_BYTES;
    const { capacitySectors, readonly } = this.options;
    if (
      total % SECTOR_BYTES !== 0 || total > MAX_DATA_BYTES || sector + sectors > capacitySectors || (out && readonly)
    ) {
      return BLOCK_STATUS.IOERR;
    }
    const data = this.#data;
    data.start();
    let skip = out ? HEADER_BYTES : 0; // what comes before the data
    for (let i = out ? 0 : chain.readableCount; i < (out ? chain.readableCount : chain.count); i++) {
      const size = chain.sizeBytes[i]!;
      if (skip < size && !data.add(chain.gpa[i]! + skip, size - skip)) return BLOCK_STATUS.IOERR;
      skip = Math.max(0, skip - size);
    }
    if (!data.transfer(backend, !out, sector * SECTOR_BYTES, total)) return BLOCK_STATUS.IOERR;
    if (!out) this.#written = total;
    this.#moved += total;
    return BLOCK_STATUS.OK;
  }

  /** Discard and write zeroes [virtio §5.2.6.2]. Every segment is judged before the first is carried out. */
  #erase(chain: Chain, backend: BlockBackend, discard: boolean): number {
    if (this.options.readonly) return BLOCK_STATUS.IOERR;
    const segments = (chain.readableBytes - HEADER_BYTES) / SEGMENT_BYTES;
    if (!Number.isInteger(segments) || segments < 1 || segments > MAX_ERASE_SEGMENTS) return BLOCK_STATUS.IOERR;
    for (const act of [false, true]) {
      for (let i = 0; i < segments; i++) {
        chain.read(HEADER_BYTES + i * SEGMENT_BYTES, this.#segment);
        const v = this.#segmentView;
        const sector = v.getUint32(0, true) + v.getUint32(4, true) * 0x1_0000_0000;
        const count = v.getUint32(8, true), flags = v.getUint32(12, true);
        if (flags & ~UNMAP || (discard && flags & UNMAP)) return BLOCK_STATUS.UNSUPP;
        if (count > MAX_ERASE_SECTORS || sector + count > this.options.capacitySectors) return BLOCK_STATUS.IOERR;
        if (!act || count === 0) continue;
        const at = sector * SECTOR_BYTES, size = count * SECTOR_BYTES;
        const done = discard ? backend.discard(at, size) : backend.writeZeroes(at, size, (flags & UNMAP) !== 0);
        if (!done) return BLOCK_STATUS.IOERR;
      }
    }
    return BLOCK_STATUS.OK;
  }
}
