/**
 * What a vCPU's exits reach: ports, memory-mapped registers, its local APIC. One board per vCPU, in the vCPU's own thread.
 *
 * Each call holds the machine lock and counts itself; nothing here knows a device.
 */
import type { LocalApic } from "../../devices/local_apic.ts";
import type { Bus } from "../base/bus.ts";
import type { MachineLock } from "../base/lock.ts";
import type { Board } from "../engine/engine.ts";
import { Counters, Exit } from "./counters.ts";

const APIC_PAGE_BYTES = 4096;

export class PcBoard implements Board {
  msrLo = 0;
  msrHi = 0;

  /** `counters`: see Counters.of. */
  constructor(
    private readonly lock: MachineLock,
    private readonly ports: Bus,
    private readonly mmio: Bus,
    private readonly apics: readonly LocalApic[],
    private readonly vcpu: number,
    private readonly counters: Float64Array,
    /** Disk requests that this thread completes itself, once the lock is free. */
    private readonly inline: { run(): void } | null,
  ) {}

  ioRead(port: number, size: number): number {
    this.counters[Exit.pioRead]!++;
    this.lock.acquire();
    try {
      return this.ports.read(port, size);
    } finally {
      this.lock.release();
    }
  }

  ioWrite(port: number, size: number, value: number): void {
    this.counters[Exit.pioWrite]!++;
    this.lock.acquire();
    try {
      this.ports.write(port, size, value);
    } finally {
      this.lock.release();
    }
    this.inline?.run();
  }

  mmioRead(gpa: number, size: number): number {
    this.lock.acquire();
    try {
      const apic = this.apics[this.vcpu]!;
      const base = apic.pageAt();
      if (gpa >= base && gpa < base + APIC_PAGE_BYTES && base >= 0) {
        this.counters[Exit.apicRead]!++;
        return apic.read(gpa - base, size);
      }
      this.counters[Exit.mmioRead]!++;
      return this.mmio.read(gpa, size);
    } finally {
      this.lock.release();
    }
  }

  mmioWrite(gpa: number, size: number, value: number): void {
    this.lock.acquire();
    try {
      const apic = this.apics[this.vcpu]!;
      const base = apic.pageAt();
      if (gpa >= base && gpa < base + APIC_PAGE_BYTES && base >= 0) {
        this.counters[Exit.apicWrite]!++;
        apic.write(gpa - base, size, value);
        return;
      }
      this.counters[Exit.mmioWrite]!++;
      this.mmio.write(gpa, size, value);
    } finally {
      this.lock.release();
    }
    this.inline?.run();
  }

  acknowledge(vcpu: number): number {
    this.lock.acquire();
    try {
      const vector = this.apics[vcpu]!.acknowledge();
      if (vector >= 0) this.counters[Counters.vectorSlot(vector)]!++;
      return vector;
    } finally {
      this.lock.release();
    }
  }

  readTpr(vcpu: number): number {
    this.lock.acquire();
    try {
      return this.apics[vcpu]!.readTpr();
    } finally {
      this.lock.release();
    }
  }

  writeTpr(vcpu: number, value: number): void {
    this.lock.acquire();
    try {
      this.apics[vcpu]!.writeTpr(value);
    } finally {
      this.lock.release();
    }
  }

  readMsr(vcpu: number, msr: number): boolean {
    this.counters[Exit.msrRead]!++;
    this.lock.acquire();
    try {
      const apic = this.apics[vcpu]!;
      const ok = apic.readMsr(msr);
      this.msrLo = apic.msrLo;
      this.msrHi = apic.msrHi;
      return ok;
    } finally {
      this.lock.release();
    }
  }

  writeMsr(vcpu: number, msr: number, lo: number, hi: number): boolean {
    this.counters[Exit.msrWrite]!++;
    this.lock.acquire();
    try {
      return this.apics[vcpu]!.writeMsr(msr, lo, hi);
    } finally {
      this.lock.release();
    }
  }
}
