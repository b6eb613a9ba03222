/**
 * A driver of the modern PCI transport, for tests, fuzzing and benches: it knows a device only by its configuration space and
 * its BARs, as a guest does. Spec: [virtio §3.1.1] initialization, [virtio §4.1].
 */
import type { Region } from "../../src/base/bus.ts";
import type { GuestRam } from "../../src/base/ram.ts";
import { CAPABILITY, COMMAND, PCI } from "../pci/function.ts";
import { QueueDriver } from "./driver.ts";
import { CFG_TYPE, DEVICE_STATUS, VIRTIO_COMMON } from "./registers.ts";

const RING_ROOM = 0x10000;

export interface PciDriverParts {
  /** Enhanced configuration space of bus 0. */
  readonly ecam: Region;
  /** Memory from guest-physical 0 upwards, as a region. */
  readonly memory: Region;
  readonly ram: GuestRam;
  /** Device × 8 + function. */
  readonly devfn: number;
  /** Where in RAM the rings may be: 64 KiB for each. */
  readonly ringsAt: number;
}

export class PciDriver {
  readonly queues: QueueDriver[] = [];
  /** Guest-physical addresses of the structures, by cfg_type. */
  readonly structures = new Map<number, number>();
  readonly capabilities = new Map<number, number>();
  #notifyMultiplier = 0;

  constructor(private readonly p: PciDriverParts) {
    this.config(PCI.COMMAND, 2, COMMAND.MEMORY_SPACE | COMMAND.BUS_MASTER);
    for (let at = this.config(PCI.CAPABILITIES, 1), n = 0; at !== 0 && n < 48; at = this.config(at + 1, 1), n++) {
      const id = this.config(at, 1);
      if (id !== CAPABILITY.VENDOR_SPECIFIC) {
        this.capabilities.set(id, at);
        continue;
      }
      const type = this.config(at + 3, 1), bar = this.config(at + 4, 1);
      if (type === CFG_TYPE.PCI) this.capabilities.set(CAPABILITY.VENDOR_SPECIFIC, at);
      const base = (this.config(PCI.BAR0 + 4 * bar, 4) & ~0xf) >>> 0;
      this.structures.set(type, base + this.config(at + 8, 4));
      if (type === CFG_TYPE.NOTIFY) this.#notifyMultiplier = this.config(at + 16, 4);
    }
  }

  /** Reads configuration space, or writes it if given a value. */
  config(at: number, size: number, value?: number): number {
    const offset = this.p.devfn * 4096 + at;
    if (value === undefined) return this.p.ecam.read(offset, size);
    this.p.ecam.write(offset, size, value);
    return value;
  }

  /** Reads a register of the common configuration, or writes it if given a value. */
  common(reg: keyof typeof VIRTIO_COMMON, value?: number): number {
    const { at, width } = VIRTIO_COMMON[reg];
    return this.structure(CFG_TYPE.COMMON, at, width, value);
  }

  /** Reads a structure, or writes it if given a value. */
  structure(type: number, at: number, size: number, value?: number): number {
    const gpa = this.structures.get(type)! + at;
    if (value === undefined) return this.p.memory.read(gpa, size);
    this.p.memory.write(gpa, size, value);
    return value;
  }

  /** What the device offers, as [bits 0 to 31, bits 32 to 63]. */
  offered(): [number, number] {
    return [0, 1].map((half) => {
      this.common("device_feature_select", half);
      return this.common("device_feature");
    }) as [number, number];
  }

  /** Accepts these features, by number; whether the device agreed. */
  negotiate(features: readonly number[]): boolean {
    this.common("device_status", 0);
    this.common("device_status", DEVICE_STATUS.ACKNOWLEDGE);
    this.common("device_status", DEVICE_STATUS.ACKNOWLEDGE | DEVICE_STATUS.DRIVER);
    for (const half of [0, 1]) {
      this.common("driver_feature_select", half);
      let bits = 0;
      for (const f of features) if (f >> 5 === half) bits |= 1 << (f & 31);
      this.common("driver_feature", bits >>> 0);
    }
    this.common("device_status", this.common("device_status") | DEVICE_STATUS.FEATURES_OK);
    return (this.common("device_status") & DEVICE_STATUS.FEATURES_OK) !== 0;
  }

  /** Sets up every queue, of at most `size` entries, and lets the device go. */
  start(size = 16, vector?: (queue: number) => number): void {
    const count = this.common("num_queues");
    for (let i = 0; i < count; i++) {
      this.common("queue_select", i);
      const entries = Math.min(size, this.common("queue_size"));
      this.common("queue_size", entries);
      const at = this.p.ringsAt + i * RING_ROOM;
      this.p.ram.bytes(at, RING_ROOM)!.fill(0);
      const q = new QueueDriver(this.p.ram, { size: entries, at, room: RING_ROOM });
      this.common("queue_desc_lo", q.desc);
      this.common("queue_driver_lo", q.avail);
      this.common("queue_device_lo", q.used);
      if (vector) this.common("queue_msix_vector", vector(i));
      this.common("queue_enable", 1);
      this.queues[i] = q;
    }
    this.common("device_status", this.common("device_status") | DEVICE_STATUS.DRIVER_OK);
  }

  notify(queue: number): void {
    this.common("queue_select", queue);
    const at = this.common("queue_notify_off") * this.#notifyMultiplier;
    this.structure(CFG_TYPE.NOTIFY, at, 2, queue);
  }

  isr(): number {
    return this.structure(CFG_TYPE.ISR, 0, 1);
  }

  /** Turns MSI-X on, vector v sending data `base` + v, and unmasks every vector. */
  enableMsix(base: number): void {
    const at = this.capabilities.get(CAPABILITY.MSIX)!;
    const control = this.config(at + 2, 2), table = this.config(at + 4, 4);
    const bar = (this.config(PCI.BAR0 + 4 * (table & 7), 4) & ~0xf) >>> 0;
    this.config(at + 2, 2, control | 0x8000);
    for (let v = 0; v <= (control & 0x7ff); v++) {
      const entry = bar + (table & ~7) + 16 * v;
      this.p.memory.write(entry, 4, 0xfee00000);
      this.p.memory.write(entry + 4, 4, 0);
      this.p.memory.write(entry + 8, 4, base + v);
      this.p.memory.write(entry + 12, 4, 0);
    }
  }
}
