/**
 * The engine of Linux hosts: guest code runs on the processor itself, by KVM.
 *
 * KVM may be the interrupt controllers and the PIT (IrqChip): then only ports and memory-mapped registers of other devices
 * bring a vCPU back to us. Where the board is, so do HLT, the local APIC's registers, and the guest that can take an interrupt
 * we have for it. Time is the host's: the guest's time-stamp counter runs at its own rate.
 */
import * as K from "../../../ffi/kvm.ts";
import { EAGAIN, EINTR, errnoName, MAP_FAILED, MAP_SHARED, PROT_READ, PROT_WRITE } from "../../../ffi/libc.ts";
import { IO_APIC, IO_APIC_BASE, IO_APIC_BYTES } from "../../../devices/io_apic.ts";
import { HostError, messageOf } from "../../base/errors.ts";
import { MsrFile } from "../../cpu/x86/system/msr.ts";
import {
  type Engine,
  type ExitReason,
  type InitialState,
  type IrqChip,
  type Vcpu,
  VcpuEvent,
  type VcpuParts,
  type VcpuStats,
} from "../engine.ts";
import { restoreEvents, saveEvents } from "../soft/saved_events.ts";
import { Activity, setU64, u64, type VcpuState } from "../vcpu_state.ts";
import { Alarm } from "./alarm.ts";
import { KvmChips } from "./chips.ts";
import { CoalescedRing } from "./coalesced.ts";
import { guestCpuid, signatureOf, writeCpuid } from "./cpuid.ts";
import { deadlineReachesUs } from "./deadline.ts";
import { KvmDirtyLog } from "./dirty_log.ts";
import { BellAddresses } from "./doorbell.ts";
import { complaint, failedAtVector } from "./failure.ts";
import type { Bytes, Host } from "./host.ts";
import { MemorySlots } from "./memory_slots.ts";
import { IA32_TSC, IA32_TSC_DEADLINE } from "./msr_access.ts";
import { KvmRegisters } from "./registers.ts";
import { KvmState, type VcpuSituation } from "./saved_state.ts";
import { Threads } from "./threads.ts";
import { Stepper, type StepResult } from "./stepper.ts";
import { TscDeadline } from "./tsc_deadline.ts";
import { closeSharedVm, Kvm, sharedVm } from "./vm.ts";
import { STOPPED_TSCS_END, vcpuWord, WORD } from "./words.ts";

/** The rate of guest time in kHz: a time-stamp counter of this rate needs no conversion. */
const GUEST_KHZ = 1_000_000;
/** Between two looks at the events of a vCPU that never exits by itself, where nobody signals it. */
const TICK_NS = 250_000;
/** For how long a write may stay in the ring. */
const RING_TICK_NS = 20e6;
const EOIR = IO_APIC_BASE + IO_APIC.EOIR.at;
const RFLAGS_IF = 1 << 9;
const TWO32 = 0x1_0000_0000;

export const kvmEngine: Engine = {
  name: "kvm",
  openVcpu: (parts) => new KvmVcpu(parts),
  dirtyLog: (parts) => new KvmDirtyLog(parts),
};

export class KvmVcpu implements Vcpu {
  lastError: Error | null = null;
  readonly registers: KvmRegisters;
  readonly #parts: VcpuParts;
  readonly #host: Host;
  readonly #fd: number;
  readonly #alarm: Alarm;
  readonly #threads: Threads;
  readonly #msrs: MsrFile;
  readonly #mapped: bigint;
  readonly #runBytes: number;
  /** struct kvm_run, which KVM and we both write. */
  readonly #run: DataView;
  readonly #irq: Bytes = new Uint8Array(K.kvm_interrupt.SIZEOF);
  readonly #tscKhz: number;
  readonly #stepper: Stepper;
  readonly #irqChip: IrqChip;
  readonly #deadline: TscDeadline;
  readonly #ring: CoalescedRing | null;
  readonly #slots: MemorySlots;
  readonly #bells: BellAddresses | null;
  readonly #state: KvmState;
  readonly #words: Int32Array;
  readonly #qwords: BigUint64Array;
  /** Split: who tells KVM where the I/O APIC's messages go. */
  readonly #routes: KvmChips | null;
  /** KVM would take an interrupt now. */
  #ready = false;
  #halted = false;
  /** After INIT: nothing but a start-up IPI makes it run. */
  #waitsForSipi = false;
  /** The last exit asked for something that KVM completes when it is entered again. */
  #unfinished = false;
  #counts = { entries: 0, io: 0, mmio: 0, msr: 0, hlt: 0, window: 0, alarms: 0, interrupts: 0, nmis: 0, steps: 0 };

  constructor(parts: VcpuParts) {
    if (parts.icount) throw new HostError("The engine kvm cannot count instructions: expected --engine soft");
    this.#parts = parts;
    this.#words = new Int32Array(parts.memory.buffer);
    const kvm = new Kvm();
    const host = this.#host = kvm.host;
    try {
      const vm = sharedVm(kvm, parts);
      this.#irqChip = vm.irqChip;
      this.#fd = host.ioctl("KVM_CREATE_VCPU", vm.fd, K.KVM_CREATE_VCPU, parts.index);
      this.#runBytes = kvm.runBytes;
      const flags = PROT_READ | PROT_WRITE;
      this.#mapped = host.libc.mmap(0n, BigInt(this.#runBytes), flags, MAP_SHARED, this.#fd, 0n);
      if (this.#mapped === MAP_FAILED) throw host.refusal("mmap of a vCPU");
      // SAFETY: mapped until `close`, after which nobody uses it.
      const pointer = Deno.UnsafePointer.create(this.#mapped)!;
      const mapping = Deno.UnsafePointerView.getArrayBuffer(pointer, this.#runBytes);
      this.#run = new DataView(mapping);
      this.#tscKhz = this.#setTscRate(kvm);
      const cpuid = this.#guestCpuid(kvm);
      host.ioctlWith("KVM_SET_CPUID2", this.#fd, K.KVM_SET_CPUID2, writeCpuid(cpuid));
      this.#ring = vm.coalesces ? new CoalescedRing(mapping, parts.memory, parts.board) : null;
      this.#alarm = new Alarm(host, !parts.poked ? TICK_NS : this.#ring ? RING_TICK_NS : 0);
      this.#threads = new Threads(host, parts.memory);
      this.#setSignalMask();
      this.registers = new KvmRegisters(host, this.#fd, kvm.msrList(), signatureOf(cpuid));
      this.#msrs = new MsrFile(parts.board, parts.index);
      this.#deadline = new TscDeadline(this.#run, parts, this.registers, this.#tscKhz);
      this.#stepper = new Stepper(host, this.#fd, parts);
      this.#slots = new MemorySlots(host, vm.fd, parts);
      this.#bells = parts.doorbells && kvm.has(K.KVM_CAP.IOEVENTFD)
        ? new BellAddresses(host, vm.fd, parts.memory, parts.doorbells, kvm.has(K.KVM_CAP.IOEVENTFD_NO_LENGTH))
        : null;
      this.#state = new KvmState(host, this.#fd, parts.ram);
      this.#qwords = new BigUint64Array(parts.memory.buffer, 0, STOPPED_TSCS_END / 8);
      const { memory, clock, chips: records } = parts;
      this.#routes = vm.irqChip === "split" && records ? new KvmChips({ memory, clock, records }) : null;
      Atomics.store(this.#words, vcpuWord(WORD.VCPU, parts.index), this.#fd + 1);
    } finally {
      kvm.close();
    }
    this.reset();
  }

  #guestCpuid(kvm: Kvm) {
    const { index: vcpu, vcpus = 1 } = this.#parts, kernel = this.#irqChip !== "user";
    const told = { vcpu, vcpus, tscKhz: this.#tscKhz, apicMsrs: kernel || kvm.canPassMsrs };
    const supported = kvm.supportedCpuid(), cpuid = guestCpuid(supported, { ...told, deadline: true });
    const deadline = kernel ? kvm.has(K.KVM_CAP.TSC_DEADLINE_TIMER) : told.apicMsrs && deadlineReachesUs(kvm, cpuid);
    return deadline ? cpuid : guestCpuid(supported, { ...told, deadline });
  }

  /** In kHz, 0 if it cannot be known. */
  #setTscRate(kvm: Kvm): number {
    if (kvm.has(K.KVM_CAP.TSC_CONTROL)) this.#host.tryIoctl(this.#fd, K.KVM_SET_TSC_KHZ, GUEST_KHZ);
    if (!kvm.has(K.KVM_CAP.GET_TSC_KHZ)) return 0;
    return Math.max(0, this.#host.tryIoctl(this.#fd, K.KVM_GET_TSC_KHZ));
  }

  save(state: VcpuState): void {
    this.#finish();
    this.#state.save(state, this.#situation);
    const tsc = this.#qwords[vcpuWord(WORD.STOPPED_TSC, this.#parts.index) / 2]!;
    setU64(state.tsc, tsc !== 0n ? tsc : this.registers.readMsr(IA32_TSC) ?? 0n);
    const { nmiPending, initPending, sipiPending, sipiVector } = state;
    saveEvents(Atomics.load(this.#parts.events, this.#parts.eventsIndex), state);
    // What waits in KVM waits beside what waits in the word.
    if (nmiPending) state.nmiPending = 1;
    if (initPending) state.initPending = 1;
    if (sipiPending) [state.sipiPending, state.sipiVector] = [1, sipiVector];
  }

  restore(state: VcpuState): void {
    this.#finish();
    const situation = this.#situation, { events, eventsIndex, index } = this.#parts;
    this.#state.restore(state, situation);
    this.#halted = !situation.kernelApic && situation.activity === Activity.HALTED;
    // KVM tells at an exit; a processor that sleeps makes none.
    this.#ready = this.#halted && (state.rflags & RFLAGS_IF) !== 0 && state.eventValid === 0;
    this.#waitsForSipi = !situation.kernelApic && situation.activity === Activity.WAIT_FOR_SIPI;
    const word = vcpuWord(WORD.STOPPED_TSC, index) / 2;
    if (this.#qwords[word] !== 0n) this.#qwords[word] = u64(state.tsc);
    this.registers.writeMsr(IA32_TSC, u64(state.tsc));
    restoreEvents(state, events, eventsIndex);
    if (situation.kernelApic) Atomics.and(events, eventsIndex, ~VcpuEvent.NMI);
  }

  get #situation(): VcpuSituation {
    const activity = this.#waitsForSipi ? Activity.WAIT_FOR_SIPI : this.#halted ? Activity.HALTED : Activity.RUNNING;
    return { activity, kernelApic: this.#irqChip !== "user" };
  }

  #setSignalMask(): void {
    const mask = new DataView(new ArrayBuffer(K.kvm_signal_mask.sigset + 8));
    mask.setUint32(K.kvm_signal_mask.len, 8, true);
    mask.setBigUint64(K.kvm_signal_mask.sigset, this.#alarm.maskInRun, true);
    this.#host.ioctlWith("KVM_SET_SIGNAL_MASK", this.#fd, K.KVM_SET_SIGNAL_MASK, new Uint8Array(mask.buffer));
  }

  /** Gives back what the host lent: for tests, since a Worker that is terminated gives it back with its process. */
  close(): void {
    this.#alarm.close();
    this.#host.libc.munmap(this.#mapped, BigInt(this.#runBytes));
    this.#host.close(this.#fd);
    Atomics.store(this.#words, vcpuWord(WORD.VCPU, this.#parts.index), 0);
    closeSharedVm(this.#host, this.#parts.memory);
  }

  reset(): void {
    this.#finish();
    this.registers.reset(this.#irqChip !== "user");
    this.#msrs.reset();
    this.registers.tsc = this.#parts.clock.nowNs() / GUEST_KHZ * this.#tscKhz;
    this.#fresh();
  }

  /** Completes the access under way without running anything. */
  #finish(): void {
    if (!this.#unfinished) return;
    this.#run.setUint8(K.kvm_run.immediate_exit, 1);
    this.#host.tryIoctlWith(this.#fd, K.KVM_RUN, null);
    this.#run.setUint8(K.kvm_run.immediate_exit, 0);
    this.#unfinished = false;
  }

  /** After a reset or INIT the bootstrap processor runs, the others wait for a start-up IPI. */
  #fresh(): void {
    this.#ready = false;
    this.#halted = false;
    this.#waitsForSipi = false;
    const waits = this.#parts.index !== 0;
    if (this.#irqChip === "user") this.#waitsForSipi = waits;
    else this.#setMpState(waits ? K.KVM_MP_STATE_UNINITIALIZED : K.KVM_MP_STATE_RUNNABLE);
  }

  /** Where KVM has the local APIC, it knows what the vCPU waits for. */
  #setMpState(state: number): void {
    const bytes: Bytes = new Uint8Array(K.kvm_mp_state.SIZEOF);
    bytes[0] = state;
    this.#host.ioctlWith("KVM_SET_MP_STATE", this.#fd, K.KVM_SET_MP_STATE, bytes);
  }

  setState(state: InitialState): void {
    this.reset();
    this.registers.set(state);
    this.#waitsForSipi = false;
    if (this.#irqChip !== "user") this.#setMpState(K.KVM_MP_STATE_RUNNABLE);
  }

  run(untilNs: number): ExitReason {
    try {
      return this.#loop(untilNs);
    } catch (error) {
      this.lastError = error instanceof HostError
        ? error
        : new HostError(`KVM failed: ${messageOf(error)}`, { cause: error });
      return "error";
    } finally {
      this.#threads.leave(this.#parts.index);
    }
  }

  #loop(untilNs: number): ExitReason {
    const { events, eventsIndex, board, clock, index } = this.#parts;
    const run = this.#run, host = this.#host, irqChip = this.#irqChip;
    const heeded = irqChip === "kernel" ? ~(VcpuEvent.INTR | VcpuEvent.INIT | VcpuEvent.SIPI) : ~0;
    this.#threads.enter(index);
    for (;;) {
      let pending = Atomics.load(events, eventsIndex) & heeded;
      if (pending & VcpuEvent.KICK) {
        Atomics.and(events, eventsIndex, ~VcpuEvent.KICK);
        return "kick";
      }
      if (pending & (VcpuEvent.INIT | VcpuEvent.SIPI)) {
        this.#startUp(pending);
        continue;
      }
      if (this.#waitsForSipi) {
        this.#alarm.disarm();
        return "halt";
      }
      if (pending & VcpuEvent.NMI) {
        Atomics.and(events, eventsIndex, ~VcpuEvent.NMI);
        host.ioctl("KVM_NMI", this.#fd, K.KVM_NMI);
        this.#counts.nmis++;
        this.#halted = false;
      }
      if (pending & VcpuEvent.INTR && this.#ready) {
        const vector = board.acknowledge(index);
        if (vector >= 0) this.#inject(vector);
        pending = Atomics.load(events, eventsIndex);
      }
      if (this.#halted) {
        this.#alarm.disarm();
        return "halt";
      }
      const now = clock.nowNs();
      if (now >= untilNs) return "slice";
      run.setUint8(K.kvm_run.request_interrupt_window, pending & VcpuEvent.INTR ? 1 : 0);
      if (this.#slots.stale) this.#slots.update();
      if (this.#bells?.stale) this.#bells.update();
      const tpr = irqChip === "user" ? board.readTpr(index) : -1;
      if (tpr >= 0) run.setUint8(K.kvm_run.cr8, tpr);
      this.#alarm.arm(now, untilNs);
      this.#counts.entries++;
      this.#unfinished = false;
      if (host.tryIoctlWith(this.#fd, K.KVM_RUN, null) < 0) {
        const errno = host.errno;
        if (errno !== EINTR && errno !== EAGAIN) throw new HostError(`KVM_RUN failed: ${errnoName(errno)}`);
        this.#counts.alarms++;
        this.#alarm.take();
        this.#ring?.empty();
        this.#settle(tpr);
        continue;
      }
      this.#ring?.empty();
      this.#settle(tpr);
      const ended = this.#exit(run.getUint32(K.kvm_run.exit_reason, true));
      if (ended !== null) return ended;
    }
  }

  /** INIT, or a start-up IPI; INIT first if both have come. */
  #startUp(pending: number): void {
    const { events, eventsIndex } = this.#parts;
    if (pending & VcpuEvent.INIT) {
      Atomics.and(events, eventsIndex, ~VcpuEvent.INIT);
      this.#finish();
      this.registers.initialize();
      this.#fresh();
      return;
    }
    Atomics.and(events, eventsIndex, ~(VcpuEvent.SIPI | VcpuEvent.SIPI_VECTOR));
    // Whoever does not wait for one takes no notice.
    if (!this.#waitsForSipi) return;
    this.#waitsForSipi = false;
    this.registers.start((pending >>> 8) & 0xff);
  }

  /** Takes over what the guest changed without an exit. */
  #settle(tpr: number): void {
    this.#ready = this.#run.getUint8(K.kvm_run.ready_for_interrupt_injection) !== 0;
    const now = this.#run.getUint8(K.kvm_run.cr8);
    if (tpr >= 0 && now !== tpr) this.#parts.board.writeTpr(this.#parts.index, now);
  }

  #inject(vector: number): void {
    this.#irq[0] = vector;
    this.#host.ioctlWith("KVM_INTERRUPT", this.#fd, K.KVM_INTERRUPT, this.#irq);
    this.#counts.interrupts++;
    this.#ready = false;
    this.#halted = false;
  }

  /** Acts on an exit; null if the guest goes on. */
  #exit(reason: number): ExitReason | null {
    switch (reason) {
      case K.KVM_EXIT.IO:
        this.#counts.io++;
        this.#io();
        return null;
      case K.KVM_EXIT.MMIO:
        this.#counts.mmio++;
        this.#mmio();
        return null;
      case K.KVM_EXIT.X86_RDMSR:
      case K.KVM_EXIT.X86_WRMSR:
        this.#counts.msr++;
        this.#msr(reason === K.KVM_EXIT.X86_WRMSR);
        return null;
      case K.KVM_EXIT.HLT:
        this.#counts.hlt++;
        this.#halted = true;
        return null;
      case K.KVM_EXIT.IRQ_WINDOW_OPEN:
        this.#counts.window++;
        return null;
      case K.KVM_EXIT.INTR:
      case K.KVM_EXIT.SET_TPR:
        return null;
      case K.KVM_EXIT.IOAPIC_EOI:
        this.#parts.board.mmioWrite(EOIR, 4, this.#run.getUint8(K.kvm_run.eoi_vector));
        return null;
      case K.KVM_EXIT.SHUTDOWN:
        return "shutdown";
      case K.KVM_EXIT.INTERNAL_ERROR:
        if (this.#run.getUint32(K.kvm_run.internal_suberror, true) === K.KVM_INTERNAL_ERROR_EMULATION) {
          return this.#emulate(reason);
        }
        return this.#fail(reason);
      default:
        return this.#fail(reason);
    }
  }

  #fail(reason: number): ExitReason {
    const where = `at rip ${this.registers.get("rip").toString(16)}`;
    this.lastError = new HostError(complaint(this.#run, reason, where));
    return "error";
  }

  /** KVM does not know the instruction: the software CPU executes it. */
  #emulate(reason: number): ExitReason | null {
    switch (this.step(failedAtVector(this.#run))) {
      case "done":
        return null;
      case "halt":
        if (this.#irqChip === "user") this.#halted = true;
        else this.#setMpState(K.KVM_MP_STATE_HALTED);
        return null;
      case "shutdown":
        return "shutdown";
      case "unknown":
        return this.#fail(reason);
    }
  }

  /** One instruction on the software CPU; nothing that KVM is to complete may be under way. */
  step(vector = false): StepResult {
    this.#counts.steps++;
    Atomics.store(this.#words, WORD.STEPPED / 4, 1);
    return this.#stepper.step(vector);
  }

  /** One access or, for INS and OUTS, as many as KVM has gathered. */
  #io(): void {
    const run = this.#run, { board } = this.#parts;
    const size = run.getUint8(K.kvm_run.io_size), port = run.getUint16(K.kvm_run.io_port, true);
    const count = run.getInt32(K.kvm_run.io_count, true);
    let at = run.getInt32(K.kvm_run.io_data_offset, true); // within the mapping
    const out = run.getUint8(K.kvm_run.io_direction) === K.KVM_EXIT_IO_OUT;
    this.#unfinished = true;
    for (let i = 0; i < count; i++, at += size) {
      if (out) board.ioWrite(port, size, this.#load(at, size));
      else this.#store(at, size, board.ioRead(port, size));
    }
  }

  /** Up to 8 bytes, which the bus sees in pieces of 4, 2 and 1, low first. */
  #mmio(): void {
    const run = this.#run, { board } = this.#parts;
    const address = run.getUint32(K.kvm_run.mmio_phys_addr, true) +
      run.getUint32(K.kvm_run.mmio_phys_addr + 4, true) * TWO32;
    const length = Math.min(8, run.getUint32(K.kvm_run.mmio_len, true));
    const write = run.getUint8(K.kvm_run.mmio_is_write) !== 0;
    this.#unfinished = true;
    for (let done = 0; done < length;) {
      const left = length - done, size = left >= 4 ? 4 : left >= 2 ? 2 : 1;
      const at = K.kvm_run.mmio_data + done;
      if (write) board.mmioWrite(address + done, size, this.#load(at, size));
      else this.#store(at, size, board.mmioRead(address + done, size));
      done += size;
    }
    if (this.#routes && write && address >= IO_APIC_BASE && address < IO_APIC_BASE + IO_APIC_BYTES) {
      this.#routes.routeIoApic();
    }
  }

  #load(at: number, size: number): number {
    const run = this.#run;
    return size === 4 ? run.getUint32(at, true) : size === 2 ? run.getUint16(at, true) : run.getUint8(at);
  }

  #store(at: number, size: number, value: number): void {
    const run = this.#run;
    if (size === 4) run.setUint32(at, value, true);
    else if (size === 2) run.setUint16(at, value, true);
    else run.setUint8(at, value);
  }

  #msr(write: boolean): void {
    const run = this.#run, msrs = this.#msrs, msr = run.getUint32(K.kvm_run.msr_index, true);
    this.#unfinished = true;
    let ok: boolean;
    if (msr === IA32_TSC_DEADLINE) ok = write ? this.#deadline.write() : this.#deadline.read();
    else if (write) {
      ok = msrs.write(msr, run.getUint32(K.kvm_run.msr_data, true), run.getUint32(K.kvm_run.msr_data + 4, true));
    } else {
      ok = msrs.read(msr);
      run.setUint32(K.kvm_run.msr_data, ok ? msrs.lo : 0, true);
      run.setUint32(K.kvm_run.msr_data + 4, ok ? msrs.hi : 0, true);
    }
    run.setUint8(K.kvm_run.msr_error, ok ? 0 : 1);
  }

  poke(vcpu: number): void {
    this.#threads.poke(vcpu);
  }

  stats(): VcpuStats {
    return { ...this.#counts, posted: this.#ring?.taken ?? 0 };
  }

  describe(): string {
    return this.registers.describe();
  }
}
