/**
 * Virtio over PCI: the modern interface, as every virtio device here presents itself.
 *
 * Spec: [virtio §2.1] device status, [virtio §2.2] features, [virtio §3.1] initialization, [virtio §4.1] PCI transport.
 * Emulated: common configuration, notifications, ISR status, device configuration, PCI configuration access; MSI-X and INTx.
 * Absent: the legacy interface, shared memory regions, packed rings, queue reset, notification data.
 *
 * Everything here runs under the machine lock, except `service` and what it calls, which hold one virtqueue each. A reset while
 * a back end's thread has a queue is complete, and device_status reads as 0, once that thread has let go of it.
 */
import type { Arena } from "../../src/base/arena.ts";
import { ones, type Region, registerBank, type RegisterDevice, type RegisterTable } from "../../src/base/bus.ts";
import type { MsiSink } from "../../src/base/irq.ts";
import type { GuestRam } from "../../src/base/ram.ts";
import { record, type View } from "../../src/base/record.ts";
import { CAPABILITY, PCI, PciFunction, PciFunctionRecord } from "../pci/function.ts";
import { MESSAGE_CONTROL, Msix, msixRecord } from "../pci/msix.ts";
import { NO_VECTOR, Virtqueue, VirtqueueRecord } from "./queue.ts";
import {
  CAPABILITY_BYTES,
  CFG_TYPE,
  DEVICE_STATUS,
  FEATURE,
  ISR,
  LAYOUT,
  MSIX_BAR,
  NOTIFY_MULTIPLIER,
  STRUCTURES_BAR,
  VIRTIO_COMMON,
} from "./registers.ts";

export const VirtioPciRecord = record("virtio-pci", 1, {
  deviceFeatureSelect: "u32",
  driverFeatureSelect: "u32",
  driverFeatures: { array: "u32", length: 2 },
  configVector: { type: "u16", reset: NO_VECTOR },
  status: "u8",
  /** A reset waits for back ends to let go of their queues. */
  resetting: { type: "u8", max: 1 },
  configGeneration: "u8",
  queueSelect: "u16",
  isr: { type: "u8", max: ISR.QUEUE | ISR.CONFIG },
});

export interface VirtioParts {
  readonly ram: GuestRam;
  readonly msi: MsiSink;
  /**
   * Runs `body` under the machine lock. In a thread that calls `service` without the lock it takes it; where every caller holds
   * it already, it only calls.
   */
  readonly locked?: (body: () => void) => void;
}

export interface VirtioSpec {
  /** The virtio device type: 2 for a block device. */
  readonly type: number;
  readonly classCode: number;
  /** Feature numbers offered beside those of every device. */
  readonly features: readonly number[];
  readonly queues: number;
  readonly queueSize: number;
  /** An expansion ROM, a power of two long. */
  readonly rom?: Uint8Array;
}

/** A device-specific configuration structure with nothing in it. */
const NO_CONFIG: RegisterDevice = { registers: {}, readRegister: () => 0, writeRegister: () => {} };

export abstract class VirtioPci extends PciFunction implements RegisterDevice<typeof VIRTIO_COMMON> {
  readonly registers = VIRTIO_COMMON;
  readonly queues: readonly Virtqueue[];
  readonly #s: View<typeof VirtioPciRecord>;
  readonly #msix: Msix;
  readonly #offered: readonly [number, number];
  readonly #common: Region = registerBank<typeof VIRTIO_COMMON>(this);
  readonly #locked: (body: () => void) => void;
  readonly #msixAt: number;
  readonly #pciCfgAt: number;
  #device: Region = registerBank(NO_CONFIG);
  // One closure a queue, so that a completion allocates nothing.
  readonly #signals: readonly (() => void)[];
  readonly #fail = () => this.#needsReset();

  /** Places its records in `arena` under names that start with `id`. */
  constructor(arena: Arena, readonly id: string, protected readonly parts: VirtioParts, spec: VirtioSpec) {
    super(arena.place(`${id}.pci`, PciFunctionRecord), {
      vendor: 0x1af4,
      device: 0x1040 + spec.type,
      revision: 1,
      classCode: spec.classCode,
      subsystemVendor: 0x1af4,
      subsystem: 0x1100,
      interruptPin: 1,
      bars: {
        [STRUCTURES_BAR]: { kind: "memory32", sizeBytes: 0x4000 },
        [MSIX_BAR]: { kind: "memory32", sizeBytes: 0x1000 },
      },
      ...(spec.rom ? { rom: spec.rom } : {}),
    });
    this.#s = arena.place(`${id}.virtio`, VirtioPciRecord);
    this.queues = Array.from(
      { length: spec.queues },
      (_, i) => new Virtqueue(arena.place(`${id}.queue${i}`, VirtqueueRecord), parts.ram, spec.queueSize),
    );
    this.#signals = this.queues.map((_, i) => () => this.#signal(i));
    this.#locked = parts.locked ?? ((body) => body());
    const offered: [number, number] = [0, 0];
    for (const bit of [...spec.features, ...Object.values(FEATURE)]) offered[bit >> 5]! |= 1 << (bit & 31);
    this.#offered = [offered[0] >>> 0, offered[1] >>> 0];

    const vectors = spec.queues + 1;
    this.#msix = new Msix(
      arena.place(`${id}.msix`, msixRecord(vectors)),
      { vectors, bar: MSIX_BAR, tableAt: 0, pbaAt: 0x800 },
      parts.msi,
      () => this.#messageControl(),
    );
    this.#addStructure(CFG_TYPE.COMMON, LAYOUT.COMMON, 0x1000);
    this.#addStructure(CFG_TYPE.ISR, LAYOUT.ISR, 0x1000);
    this.#addStructure(CFG_TYPE.DEVICE, LAYOUT.DEVICE, 0x1000);
    const multiplier = new Uint8Array([NOTIFY_MULTIPLIER, 0, 0, 0]);
    this.#addStructure(CFG_TYPE.NOTIFY, LAYOUT.NOTIFY, 0x1000, multiplier);
    const window = new Uint8Array(18); // bar, offset, length and pci_cfg_data are the driver's
    window.fill(0xff, 2, 3);
    window.fill(0xff, 6);
    this.#pciCfgAt = this.#addStructure(CFG_TYPE.PCI, 0, 0, new Uint8Array(4), window);
    this.#msixAt = this.addCapability(CAPABILITY.MSIX, this.#msix.capabilityBody, this.#msix.capabilityMask);
  }

  /** A virtio capability [virtio §4.1.4]. */
  #addStructure(type: number, offset: number, length: number, more = new Uint8Array(0), writable?: Uint8Array): number {
    const body = new DataView(new ArrayBuffer(CAPABILITY_BYTES - 2 + more.length));
    body.setUint8(0, CAPABILITY_BYTES + more.length);
    body.setUint8(1, type);
    body.setUint8(2, STRUCTURES_BAR);
    body.setUint32(6, offset, true);
    body.setUint32(10, length, true);
    const bytes = new Uint8Array(body.buffer);
    bytes.set(more, CAPABILITY_BYTES - 2);
    return this.addCapability(CAPABILITY.VENDOR_SPECIFIC, bytes, writable);
  }

  /** Shows `device` as the device-specific configuration structure. For constructors. */
  protected showConfig<T extends RegisterTable>(device: RegisterDevice<T>): void {
    this.#device = registerBank(device);
  }

  /** The driver added buffers to queue `index`, or it came alive with some. Under the machine lock. */
  protected abstract notified(index: number): void;

  /** The device was reset; its queues are idle. */
  protected wasReset(): void {}

  /** Whether the driver accepted feature `bit`. Does not change while a queue is live. */
  negotiated(bit: number): boolean {
    return ((this.#s.driverFeatures[bit >> 5]! & this.#offered[bit >> 5]! & (1 << (bit & 31))) >>> 0) !== 0;
  }

  get status(): number {
    this.#finishReset();
    return this.#s.status;
  }

  /** Calls `notified` for every live queue: when a notification may have been lost, as after a restore. */
  renotify(): void {
    for (let i = 0; i < this.queues.length; i++) if (this.queues[i]!.live) this.notified(i);
  }

  /** The device-specific configuration changed. */
  protected configChanged(): void {
    this.#s.configGeneration++;
    if (this.#s.status & DEVICE_STATUS.DRIVER_OK) this.#interrupt(this.#s.configVector, ISR.CONFIG);
  }

  // What follows is for whoever serves a queue, with the machine lock or without.

  /** Takes queue `index` for serving; null if it is not to be had. Ends with `release`. */
  protected acquire(index: number): Virtqueue | null {
    const q = this.queues[index];
    return q && this.busMaster && q.begin() ? q : null;
  }

  /** Tells the driver of what was pushed to queue `index`, if it wants to know. */
  protected signalUsed(index: number): void {
    if (this.queues[index]!.needsInterrupt()) this.#locked(this.#signals[index]!);
  }

  /** Lets go of a queue, see Virtqueue.end; true if buffers wait on it. A ring that turned out broken asks for a reset. */
  protected release(index: number, wish: "any" | "more" | "none" = "any"): boolean {
    const q = this.queues[index]!;
    const more = q.end(wish);
    if (q.broken) this.#locked(this.#fail);
    return more;
  }

  // Registers.

  readRegister(reg: keyof typeof VIRTIO_COMMON): number {
    const s = this.#s, q = this.queues[s.queueSelect]?.s;
    switch (reg) {
      case "device_feature_select":
        return s.deviceFeatureSelect;
      case "device_feature":
        return this.#offered[s.deviceFeatureSelect] ?? 0;
      case "driver_feature_select":
        return s.driverFeatureSelect;
      case "driver_feature":
        return s.driverFeatures[s.driverFeatureSelect] ?? 0;
      case "config_msix_vector":
        return s.configVector;
      case "num_queues":
        return this.queues.length;
      case "device_status":
        return this.status;
      case "config_generation":
        return s.configGeneration;
      case "queue_select":
        return s.queueSelect;
      // A queue that does not exist has size 0 [virtio §4.1.4.3.1].
      case "queue_size":
        return this.queues[s.queueSelect]?.size ?? 0;
      case "queue_msix_vector":
        return q?.vector ?? NO_VECTOR;
      case "queue_enable":
        return q?.enable ?? 0;
      case "queue_notify_off":
        return q ? s.queueSelect : 0;
      case "queue_desc_lo":
        return q?.descLo ?? 0;
      case "queue_desc_hi":
        return q?.descHi ?? 0;
      case "queue_driver_lo":
        return q?.driverLo ?? 0;
      case "queue_driver_hi":
        return q?.driverHi ?? 0;
      case "queue_device_lo":
        return q?.deviceLo ?? 0;
      case "queue_device_hi":
        return q?.deviceHi ?? 0;
    }
  }

  writeRegister(reg: keyof typeof VIRTIO_COMMON, value: number): void {
    const s = this.#s;
    switch (reg) {
      case "device_feature_select":
        s.deviceFeatureSelect = value;
        return;
      case "driver_feature_select":
        s.driverFeatureSelect = value;
        return;
      case "driver_feature":
        // Negotiation is over once FEATURES_OK is set [virtio §2.2.1].
        if (s.driverFeatureSelect < 2 && !(this.status & DEVICE_STATUS.FEATURES_OK)) {
          s.driverFeatures[s.driverFeatureSelect] = value;
        }
        return;
      case "config_msix_vector":
        s.configVector = this.#vector(value);
        return;
      case "device_status":
        return this.#writeStatus(value);
      case "queue_select":
        s.queueSelect = value;
        return;
      default:
        this.#writeQueue(reg, value);
    }
  }

  #writeQueue(reg: keyof typeof VIRTIO_COMMON, value: number): void {
    const queue = this.queues[this.#s.queueSelect];
    if (!queue) return;
    const q = queue.s;
    if (reg === "queue_msix_vector") {
      q.vector = this.#vector(value);
      return;
    }
    // Whoever serves the queue relies on these standing still.
    if (q.enable || this.#s.resetting) return;
    switch (reg) {
      case "queue_size":
        if (value > 0 && value <= queue.maxSize && (value & (value - 1)) === 0) q.size = value;
        return;
      case "queue_enable":
        if (value !== 1) return;
        q.enable = 1;
        if (this.#running) this.#start(this.#s.queueSelect);
        return;
      case "queue_desc_lo":
        q.descLo = value;
        return;
      case "queue_desc_hi":
        q.descHi = value;
        return;
      case "queue_driver_lo":
        q.driverLo = value;
        return;
      case "queue_driver_hi":
        q.driverHi = value;
        return;
      case "queue_device_lo":
        q.deviceLo = value;
        return;
      case "queue_device_hi":
        q.deviceHi = value;
    }
  }

  /** A vector the table does not have reads back as none [virtio §4.1.5.1.2.1]. */
  #vector(value: number): number {
    return value < this.#msix.layout.vectors ? value : NO_VECTOR;
  }

  get #running(): boolean {
    return (this.status & (DEVICE_STATUS.DRIVER_OK | DEVICE_STATUS.DEVICE_NEEDS_RESET)) === DEVICE_STATUS.DRIVER_OK;
  }

  #writeStatus(value: number): void {
    const s = this.#s;
    if (value === 0) {
      s.resetting = 1;
      for (const q of this.queues) q.live = false;
      this.#finishReset();
      return;
    }
    // Not every driver waits to read 0.
    this.#finishReset();
    if (s.resetting) return;
    const before = s.status;
    // The driver sets bits and never clears them [virtio §2.1.1].
    let after = before | (value & ~DEVICE_STATUS.DEVICE_NEEDS_RESET);
    const fresh = after & ~before;
    if (fresh & DEVICE_STATUS.FEATURES_OK && !this.#acceptable()) after &= ~DEVICE_STATUS.FEATURES_OK;
    if (!(after & DEVICE_STATUS.FEATURES_OK)) after &= ~DEVICE_STATUS.DRIVER_OK;
    s.status = after;
    if (fresh & after & DEVICE_STATUS.DRIVER_OK && this.#running) {
      for (let i = 0; i < this.queues.length; i++) if (this.queues[i]!.s.enable) this.#start(i);
    }
  }

  /** Whether the driver took only what was offered, and VERSION_1 among it [virtio §6.1]. */
  #acceptable(): boolean {
    const [lo = 0, hi = 0] = this.#s.driverFeatures;
    return (lo & ~this.#offered[0]) === 0 && (hi & ~this.#offered[1]) === 0 && this.negotiated(FEATURE.VERSION_1);
  }

  #start(index: number): void {
    const q = this.queues[index]!;
    q.s.indirect = this.negotiated(FEATURE.RING_INDIRECT_DESC) ? 1 : 0;
    q.s.eventIdx = this.negotiated(FEATURE.RING_EVENT_IDX) ? 1 : 0;
    q.live = true;
    this.notified(index);
  }

  #finishReset(): void {
    const s = this.#s;
    if (!s.resetting || !this.queues.every((q) => q.reset())) return;
    const generation = s.configGeneration;
    VirtioPciRecord.reset(s);
    s.configGeneration = generation;
    this.setIntx(false);
    this.wasReset();
  }

  #needsReset(): void {
    const s = this.#s;
    if (s.status & DEVICE_STATUS.DEVICE_NEEDS_RESET || s.resetting || s.status === 0) return;
    s.status |= DEVICE_STATUS.DEVICE_NEEDS_RESET;
    for (const q of this.queues) q.live = false;
    if (s.status & DEVICE_STATUS.DRIVER_OK) this.#interrupt(s.configVector, ISR.CONFIG);
  }

  // Interrupts.

  #messageControl(): number {
    const control = this.readConfig(this.#msixAt + 2, 2);
    // A message is a memory write; without leave to make one it waits.
    return this.busMaster ? control : control | MESSAGE_CONTROL.FUNCTION_MASK;
  }

  #signal(index: number): void {
    const q = this.queues[index]!;
    if (q.s.enable && !this.#s.resetting) this.#interrupt(q.s.vector, ISR.QUEUE);
  }

  #interrupt(vector: number, cause: number): void {
    if (this.#msix.enabled) {
      this.#msix.fire(vector);
      return;
    }
    this.#s.isr |= cause;
    this.setIntx(true);
  }

  /** Reading the ISR status clears it and the interrupt [virtio §4.1.4.5]. */
  #readIsr(): number {
    const isr = this.#s.isr;
    this.#s.isr = 0;
    this.setIntx(false);
    return isr;
  }

  // Base addresses.

  override barRead(bar: number, offset: number, size: number): number {
    if (bar === MSIX_BAR) return this.#msix.read(offset, size);
    switch (offset & ~0xfff) {
      case LAYOUT.COMMON:
        return this.#common.read(offset, size);
      case LAYOUT.ISR:
        return offset === LAYOUT.ISR ? this.#readIsr() : 0;
      case LAYOUT.DEVICE:
        return this.#device.read(offset - LAYOUT.DEVICE, size);
      default:
        return ones(size);
    }
  }

  override barWrite(bar: number, offset: number, size: number, value: number): void {
    if (bar === MSIX_BAR) return this.#msix.write(offset, size, value);
    switch (offset & ~0xfff) {
      case LAYOUT.COMMON:
        return this.#common.write(offset, size, value);
      case LAYOUT.DEVICE:
        return this.#device.write(offset - LAYOUT.DEVICE, size, value);
      case LAYOUT.NOTIFY: {
        const index = (offset - LAYOUT.NOTIFY) / NOTIFY_MULTIPLIER;
        if (this.queues[index]?.live) this.notified(index);
      }
    }
  }

  // PCI configuration access: a window of up to 4 bytes into a BAR [virtio §4.1.4.9].

  override readConfig(at: number, size: number): number {
    const data = this.#pciCfgAt + CAPABILITY_BYTES;
    if (at === data) {
      const w = this.#window();
      if (w && size <= w.length) return (this.barRead(w.bar, w.offset, w.length) & ones(size)) >>> 0;
    }
    return super.readConfig(at, size);
  }

  protected override configWritten(at: number, size: number): void {
    if (at === this.#pciCfgAt + CAPABILITY_BYTES) {
      const w = this.#window();
      if (w && size >= w.length) {
        this.barWrite(w.bar, w.offset, w.length, (super.readConfig(at, 4) & ones(w.length)) >>> 0);
      }
    }
    if (this.#msix.enabled) this.setIntx(false);
    // Message Control and the command register both decide what may be sent.
    this.#msix.deliver();
    // Queues left alone for want of bus mastering may be served now.
    if (at < PCI.COMMAND + 2 && at + size > PCI.COMMAND) this.renotify();
  }

  #window(): { bar: number; offset: number; length: number } | null {
    const bar = super.readConfig(this.#pciCfgAt + 4, 1);
    const offset = super.readConfig(this.#pciCfgAt + 8, 4);
    const length = super.readConfig(this.#pciCfgAt + 12, 4);
    const size = this.bars[bar]?.sizeBytes ?? 0;
    const valid = (length === 1 || length === 2 || length === 4) && offset % length === 0 && offset + length <= size;
    return valid ? { bar, offset, length } : null;
  }
}
