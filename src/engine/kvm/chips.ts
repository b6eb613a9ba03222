/**
 * The interrupt controllers and the PIT that KVM is in the board's place, from any thread of a machine.
 *
 * While no vCPU runs, the board's records are the truth and its models are in charge; `load` hands over before vCPUs run, and
 * `store` takes back once they do not: so a snapshot never knows who it was. See docs/decisions/0014-chips-in-the-kernel.md.
 */
import * as K from "../../../ffi/kvm.ts";
import { CLOCK_MONOTONIC, SYS_clock_gettime } from "../../../ffi/libc.ts";
import type { Clock } from "../../base/clock.ts";
import type { ChipRecords, HostChips, IrqChip } from "../engine.ts";
import { ioApicFromKvm, ioApicToKvm, picFromKvm, picToKvm } from "./chip_records.ts";
import { Host } from "./host.ts";
import { gsiOf, setRouting } from "./irq_chip.ts";
import { lapicFromKvm, type LapicMsrs, type LapicTime, lapicToKvm } from "./lapic_record.ts";
import { IA32_TSC, IA32_TSC_DEADLINE, MsrAccess } from "./msr_access.ts";
import { pitFromKvm, pitToKvm } from "./pit_record.ts";
import { Threads } from "./threads.ts";
import { IRQ_CHIPS, STOPPED_TSCS_END, vcpuWord, WORD } from "./words.ts";

export interface KvmChipsParts {
  readonly memory: WebAssembly.Memory;
  readonly clock: Clock;
  readonly records: ChipRecords;
}

const RTE = { VECTOR_AND_MODE: 0x7ff, LOGICAL: 1 << 11, LEVEL: 1 << 15, MASKED: 1 << 16 } as const;
const MSI = { ADDRESS: 0xfee0_0000, LOGICAL: 1 << 2, ASSERT: 1 << 14, LEVEL: 1 << 15 } as const;
const EXTINT = 7 << 8, APIC_ENABLED = 0x1ff;
/** The kHz of guest time, whose unit is the nanosecond. */
const GUEST_KHZ = 1_000_000n;
const FIXED = 0, LOWEST = 1;
/** More than KVM's clock and guest time come apart in a run. */
const CLOCK_DRIFT_NS = 1_000_000_000n;

export class KvmChips implements HostChips {
  readonly #host = new Host();
  readonly #words: Int32Array;
  readonly #qwords: BigUint64Array;
  readonly #threads: Threads;
  readonly #line = new Uint8Array(K.kvm_irq_level.SIZEOF);
  readonly #lineWords = new Uint32Array(this.#line.buffer);
  readonly #msi = new Uint8Array(K.kvm_msi.SIZEOF);
  readonly #msiWords = new Uint32Array(this.#msi.buffer);
  /** KVM's clock when the vCPUs were stopped; null if it is to be left alone. */
  #stoppedClock: bigint | null = null;

  constructor(private readonly parts: KvmChipsParts) {
    this.#words = new Int32Array(parts.memory.buffer);
    this.#qwords = new BigUint64Array(parts.memory.buffer, 0, STOPPED_TSCS_END / 8);
    this.#threads = new Threads(this.#host, parts.memory);
  }

  /** What the machine's VM has; `user` before there is one. */
  get irqChip(): IrqChip {
    return this.#vm < 0 ? "user" : IRQ_CHIPS[Atomics.load(this.#words, WORD.IRQ_CHIP / 4)] ?? "user";
  }

  wire(gsi: number, level: boolean): boolean {
    if (!this.#inCharge || this.irqChip !== "kernel") return false;
    this.#lineWords[0] = gsiOf(gsi);
    this.#lineWords[1] = level ? 1 : 0;
    this.#host.tryIoctlWith(this.#vm, K.KVM_IRQ_LINE, this.#line);
    return true;
  }

  message(addressLo: number, addressHi: number, data: number): boolean {
    if (!this.#inCharge) return false;
    const mode = (data >>> 8) & 7;
    // What KVM would not know how to deliver goes nowhere; it tells nobody who sends.
    if (addressHi !== 0 || addressLo >>> 20 !== MSI.ADDRESS >>> 20) return true;
    if ((data & 0xff) < 16 && (mode === FIXED || mode === LOWEST)) return true;
    this.#msiWords[K.kvm_msi.address_lo / 4] = addressLo;
    this.#msiWords[K.kvm_msi.data / 4] = data;
    this.#host.tryIoctlWith(this.#vm, K.KVM_SIGNAL_MSI, this.#msi);
    return true;
  }

  poke(vcpu: number): void {
    this.#threads.poke(vcpu);
  }

  load(): void {
    this.#startClocks();
    if (this.irqChip === "user") return;
    const { records } = this.parts;
    for (let i = 0; i < records.apics.length; i++) this.#loadApic(i);
    if (this.irqChip === "kernel") {
      this.#loadIrqChip(K.KVM_IRQCHIP_PIC_MASTER, (dv) => picToKvm(records.pic, 0, dv));
      this.#loadIrqChip(K.KVM_IRQCHIP_PIC_SLAVE, (dv) => picToKvm(records.pic, 1, dv));
      this.#loadIrqChip(K.KVM_IRQCHIP_IOAPIC, (dv) => ioApicToKvm(records.ioApic, dv));
      const pit = new Uint8Array(K.kvm_pit_state2.SIZEOF);
      pitToKvm(records.pit, new DataView(pit.buffer));
      this.#host.ioctlWith("KVM_SET_PIT2", this.#vm, K.KVM_SET_PIT2, pit);
      records.disarm();
    } else {
      this.#passExternalInterrupts();
      this.routeIoApic();
    }
    Atomics.store(this.#words, WORD.IN_CHARGE / 4, 1);
  }

  store(): void {
    this.#stopClocks();
    if (!this.#inCharge) return;
    Atomics.store(this.#words, WORD.IN_CHARGE / 4, 0);
    const { records, clock } = this.parts;
    if (this.irqChip === "kernel") {
      this.#storeIrqChip(K.KVM_IRQCHIP_PIC_MASTER, (dv) => picFromKvm(records.pic, 0, dv));
      this.#storeIrqChip(K.KVM_IRQCHIP_PIC_SLAVE, (dv) => picFromKvm(records.pic, 1, dv));
      this.#storeIrqChip(K.KVM_IRQCHIP_IOAPIC, (dv) => ioApicFromKvm(records.ioApic, records.pic, dv));
      const pit = new Uint8Array(K.kvm_pit_state2.SIZEOF);
      this.#host.ioctlWith("KVM_GET_PIT2", this.#vm, K.KVM_GET_PIT2, pit);
      pitFromKvm(records.pit, new DataView(pit.buffer), clock.nowNs(), this.#hostNs());
    }
    for (let i = 0; i < records.apics.length; i++) this.#storeApic(i);
  }

  /** Split: tells KVM where the I/O APIC's messages go, so that the ends of level-triggered interrupts come to it. */
  routeIoApic(): void {
    const { rteLo, rteHi } = this.parts.records.ioApic;
    const routes = [];
    for (let gsi = 0; gsi < K.KVM_IOAPIC_NUM_PINS; gsi++) {
      const entry = rteLo[gsi]!;
      if (entry & RTE.MASKED) continue;
      const address = MSI.ADDRESS + ((rteHi[gsi]! >>> 24) << 12) + (entry & RTE.LOGICAL ? MSI.LOGICAL : 0);
      const data = (entry & RTE.VECTOR_AND_MODE) | (entry & RTE.LEVEL ? MSI.LEVEL | MSI.ASSERT : 0);
      routes.push({ gsi, to: { address, data } });
    }
    setRouting(this.#host, this.#vm, routes);
  }

  get #vm(): number {
    return Atomics.load(this.#words, WORD.VM / 4) - 1;
  }

  get #inCharge(): boolean {
    return Atomics.load(this.#words, WORD.IN_CHARGE / 4) === 1;
  }

  #vcpu(i: number): number {
    return Atomics.load(this.#words, vcpuWord(WORD.VCPU, i)) - 1;
  }

  #loadApic(i: number): void {
    const fd = this.#vcpu(i), page = new Uint8Array(K.kvm_lapic_state.SIZEOF);
    if (fd < 0) return;
    const msrs = lapicToKvm(this.parts.records.apics[i]!, i, new DataView(page.buffer), this.#time(fd));
    const sregs = new Uint8Array(K.kvm_sregs.SIZEOF), dv = new DataView(sregs.buffer);
    this.#host.ioctlWith("KVM_GET_SREGS", fd, K.KVM_GET_SREGS, sregs);
    dv.setBigUint64(K.kvm_sregs.apic_base, msrs.apicBase, true);
    dv.setBigUint64(K.kvm_sregs.cr8, BigInt(this.parts.records.apics[i]!.tpr >> 4), true);
    this.#host.ioctlWith("KVM_SET_SREGS", fd, K.KVM_SET_SREGS, sregs);
    this.#host.ioctlWith("KVM_SET_LAPIC", fd, K.KVM_SET_LAPIC, page);
    new MsrAccess(this.#host, fd).write(IA32_TSC_DEADLINE, msrs.deadline);
  }

  #storeApic(i: number): void {
    const fd = this.#vcpu(i), page = new Uint8Array(K.kvm_lapic_state.SIZEOF);
    if (fd < 0) return;
    const sregs = new Uint8Array(K.kvm_sregs.SIZEOF);
    this.#host.ioctlWith("KVM_GET_SREGS", fd, K.KVM_GET_SREGS, sregs);
    this.#host.ioctlWith("KVM_GET_LAPIC", fd, K.KVM_GET_LAPIC, page);
    const msrs: LapicMsrs = {
      apicBase: new DataView(sregs.buffer).getBigUint64(K.kvm_sregs.apic_base, true),
      deadline: new MsrAccess(this.#host, fd).read(IA32_TSC_DEADLINE) ?? 0n,
    };
    lapicFromKvm(this.parts.records.apics[i]!, new DataView(page.buffer), msrs, this.#time(fd));
  }

  /** Split: the model of the first local APIC does nothing but pass the 8259A's request on, as virtual wire mode does. */
  #passExternalInterrupts(): void {
    const apic = this.parts.records.apics[0]!;
    apic.svr = APIC_ENABLED;
    apic.lvtLint0 = EXTINT;
    apic.tpr =
      apic.counting =
      apic.deadlineLo =
      apic.deadlineHi =
        0;
    for (const words of [apic.irr, apic.isr]) words.fill(0);
  }

  #loadIrqChip(id: number, fill: (dv: DataView) => void): void {
    const bytes = new Uint8Array(K.kvm_irqchip.SIZEOF);
    new DataView(bytes.buffer).setUint32(K.kvm_irqchip.chip_id, id, true);
    fill(new DataView(bytes.buffer, K.kvm_irqchip.chip));
    this.#host.ioctlWith("KVM_SET_IRQCHIP", this.#vm, K.KVM_SET_IRQCHIP, bytes);
  }

  #storeIrqChip(id: number, take: (dv: DataView) => void): void {
    const bytes = new Uint8Array(K.kvm_irqchip.SIZEOF);
    new DataView(bytes.buffer).setUint32(K.kvm_irqchip.chip_id, id, true);
    this.#host.ioctlWith("KVM_GET_IRQCHIP", this.#vm, K.KVM_GET_IRQCHIP, bytes);
    take(new DataView(bytes.buffer, K.kvm_irqchip.chip));
  }

  /** Guest time and the vCPU's time-stamp counter meet at this moment. */
  #time(fd: number): LapicTime {
    const nowNs = this.parts.clock.nowNs(), tsc = new MsrAccess(this.#host, fd).read(IA32_TSC) ?? 0n;
    const khz = BigInt(Math.max(1, this.#host.tryIoctl(fd, K.KVM_GET_TSC_KHZ)));
    const now = BigInt(Math.floor(nowNs));
    return {
      nowNs,
      nsOfTsc: (at) => Number(now + (at - tsc) * GUEST_KHZ / khz),
      tscOfNs: (ns) => tsc + (BigInt(Math.floor(ns)) - now) * khz / GUEST_KHZ,
    };
  }

  #hostNs(): number {
    const time = new BigInt64Array(2);
    this.#host.libc.syscall_ibb(SYS_clock_gettime, CLOCK_MONOTONIC, time, null);
    return Number(time[0]! * 1_000_000_000n + time[1]!);
  }

  #stopClocks(): void {
    const data = new Uint8Array(K.kvm_clock_data.SIZEOF);
    this.parts.records.apics.forEach((_, i) => {
      const tsc = new MsrAccess(this.#host, this.#vcpu(i)).read(IA32_TSC);
      this.#qwords[vcpuWord(WORD.STOPPED_TSC, i) / 2] = tsc ?? 0n;
    });
    const known = this.#host.tryIoctlWith(this.#vm, K.KVM_GET_CLOCK, data) === 0;
    this.#stoppedClock = known ? new DataView(data.buffer).getBigUint64(K.kvm_clock_data.clock, true) : null;
  }

  /** Guest time has stood still, and so have the guest's other clocks. */
  #startClocks(): void {
    const data = new Uint8Array(K.kvm_clock_data.SIZEOF), clock = this.#stoppedClock;
    this.#stoppedClock = null;
    this.parts.records.apics.forEach((_, i) => {
      const at = vcpuWord(WORD.STOPPED_TSC, i) / 2, tsc = this.#qwords[at]!;
      this.#qwords[at] = 0n;
      if (tsc !== 0n) new MsrAccess(this.#host, this.#vcpu(i)).write(IA32_TSC, tsc);
    });
    // KVM's clock is guest time, to what the two differ by in a run; after a restore or a reset it is set to it.
    const now = BigInt(Math.floor(this.parts.clock.nowNs()));
    const stands = clock !== null && clock > now - CLOCK_DRIFT_NS && clock < now + CLOCK_DRIFT_NS ? clock : now;
    new DataView(data.buffer).setBigUint64(K.kvm_clock_data.clock, stands, true);
    this.#host.tryIoctlWith(this.#vm, K.KVM_SET_CLOCK, data);
  }
}
