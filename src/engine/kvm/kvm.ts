/**
 * The engine of Linux hosts: guest code runs on the processor itself, by KVM.
 *
 * The board has the interrupt controllers and timers, so KVM is asked for none: it returns to us for ports, memory-mapped
 * registers, HLT, and when the guest can take an interrupt we have for it. Time is the host's: the guest's time-stamp counter
 * runs at its own rate, and deadlines are told to the board in guest nanoseconds.
 */
import * as K from "../../../ffi/kvm.ts";
import { EAGAIN, EINTR, errnoName, MAP_FAILED, MAP_SHARED, PROT_READ, PROT_WRITE } from "../../../ffi/libc.ts";
import { HostError, messageOf } from "../../base/errors.ts";
import { MsrFile } from "../../cpu/x86/system/msr.ts";
import {
  type Engine,
  type ExitReason,
  type InitialState,
  type Vcpu,
  VcpuEvent,
  type VcpuParts,
  type VcpuStats,
} from "../engine.ts";
import { Alarm } from "./alarm.ts";
import { guestCpuid, signatureOf, writeCpuid } from "./cpuid.ts";
import { deadlineReachesUs } from "./deadline.ts";
import type { Bytes, Host } from "./host.ts";
import { KvmRegisters } from "./registers.ts";
import { Threads } from "./threads.ts";
import { Stepper, type StepResult } from "./stepper.ts";
import { closeSharedVm, Kvm, sharedVm } from "./vm.ts";

/** The rate of guest time in kHz: a time-stamp counter of this rate needs no conversion. */
const GUEST_KHZ = 1_000_000;
const IA32_TSC_DEADLINE = 0x6e0;

export const kvmEngine: Engine = {
  name: "kvm",
  openVcpu: (parts) => new KvmVcpu(parts),
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
    const kvm = new Kvm();
    const host = this.#host = kvm.host;
    try {
      const vm = sharedVm(kvm, parts);
      this.#fd = host.ioctl("KVM_CREATE_VCPU", vm, K.KVM_CREATE_VCPU, parts.index);
      this.#runBytes = kvm.runBytes;
      const flags = PROT_READ | PROT_WRITE;
      this.#mapped = host.libc.mmap(0n, BigInt(this.#runBytes), flags, MAP_SHARED, this.#fd, 0n);
      if (this.#mapped === MAP_FAILED) throw host.refusal("mmap of a vCPU");
      // SAFETY: mapped until `close`, after which nobody uses it.
      const pointer = Deno.UnsafePointer.create(this.#mapped)!;
      this.#run = new DataView(Deno.UnsafePointerView.getArrayBuffer(pointer, this.#runBytes));
      this.#tscKhz = this.#setTscRate(kvm);
      const apicMsrs = kvm.canPassMsrs;
      const vcpus = parts.vcpus ?? 1;
      const supported = kvm.supportedCpuid(), told = { vcpu: parts.index, vcpus, tscKhz: this.#tscKhz, apicMsrs };
      let cpuid = guestCpuid(supported, { ...told, deadline: true });
      if (!apicMsrs || !deadlineReachesUs(kvm, cpuid)) cpuid = guestCpuid(supported, { ...told, deadline: false });
      host.ioctlWith("KVM_SET_CPUID2", this.#fd, K.KVM_SET_CPUID2, writeCpuid(cpuid));
      this.#alarm = new Alarm(host);
      this.#threads = new Threads(host, parts.memory);
      this.#setSignalMask();
      this.registers = new KvmRegisters(host, this.#fd, kvm.msrList(), signatureOf(cpuid));
      this.#msrs = new MsrFile(parts.board, parts.index);
      this.#stepper = new Stepper(host, this.#fd, parts);
    } finally {
      kvm.close();
    }
    this.reset();
  }

  /** In kHz, 0 if it cannot be known. */
  #setTscRate(kvm: Kvm): number {
    if (kvm.has(K.KVM_CAP.TSC_CONTROL)) this.#host.tryIoctl(this.#fd, K.KVM_SET_TSC_KHZ, GUEST_KHZ);
    if (!kvm.has(K.KVM_CAP.GET_TSC_KHZ)) return 0;
    return Math.max(0, this.#host.tryIoctl(this.#fd, K.KVM_GET_TSC_KHZ));
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
    closeSharedVm(this.#host, this.#parts.memory);
  }

  reset(): void {
    this.#finish();
    this.registers.reset();
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
    this.#waitsForSipi = this.#parts.index !== 0;
  }

  setState(state: InitialState): void {
    this.reset();
    this.registers.set(state);
    this.#waitsForSipi = false;
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
    const run = this.#run, host = this.#host;
    this.#threads.enter(index);
    for (;;) {
      let pending = Atomics.load(events, eventsIndex);
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
      const tpr = board.readTpr(index);
      run.setUint8(K.kvm_run.cr8, tpr);
      this.#alarm.arm(now, untilNs);
      this.#counts.entries++;
      this.#unfinished = false;
      if (host.tryIoctlWith(this.#fd, K.KVM_RUN, null) < 0) {
        const errno = host.errno;
        if (errno !== EINTR && errno !== EAGAIN) throw new HostError(`KVM_RUN failed: ${errnoName(errno)}`);
        this.#counts.alarms++;
        this.#alarm.take();
        this.#settle(tpr);
        continue;
      }
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
    Atomics.and(events, eventsIndex, ~VcpuEvent.SIPI);
    // Whoever does not wait for one takes no notice.
    if (!this.#waitsForSipi) return;
    this.#waitsForSipi = false;
    this.registers.start((pending >>> 8) & 0xff);
  }

  /** Takes over what the guest changed without an exit. */
  #settle(tpr: number): void {
    this.#ready = this.#run.getUint8(K.kvm_run.ready_for_interrupt_injection) !== 0;
    const now = this.#run.getUint8(K.kvm_run.cr8);
    if (now !== tpr) this.#parts.board.writeTpr(this.#parts.index, now);
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
    this.lastError = new HostError(this.#complaint(reason));
    return "error";
  }

  /** KVM does not know the instruction: the software CPU executes it. */
  #emulate(reason: number): ExitReason | null {
    switch (this.step(hasVectorPrefix(this.#failedBytes()))) {
      case "done":
        return null;
      case "halt":
        this.#halted = true;
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
    return this.#stepper.step(vector);
  }

  /** One access or, for INS and OUTS, as many as KVM has gathered. */
  #io(): void {
    const run = this.#run, { board } = this.#parts;
    const size = run.getUint8(K.kvm_run.io_size), port = run.getUint16(K.kvm_run.io_port, true);
    const count = run.getUint32(K.kvm_run.io_count, true);
    let at = Number(run.getBigUint64(K.kvm_run.io_data_offset, true));
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
    const address = Number(run.getBigUint64(K.kvm_run.mmio_phys_addr, true));
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
    if (msr === IA32_TSC_DEADLINE) ok = write ? this.#setDeadline() : this.#readDeadline();
    else if (write) {
      ok = msrs.write(msr, run.getUint32(K.kvm_run.msr_data, true), run.getUint32(K.kvm_run.msr_data + 4, true));
    } else {
      ok = msrs.read(msr);
      run.setUint32(K.kvm_run.msr_data, ok ? msrs.lo : 0, true);
      run.setUint32(K.kvm_run.msr_data + 4, ok ? msrs.hi : 0, true);
    }
    run.setUint8(K.kvm_run.msr_error, ok ? 0 : 1);
  }

  /** The guest counts by its time-stamp counter, the board by guest time: they meet at this moment. 0 is no deadline to both. */
  #setDeadline(): boolean {
    const { board, clock, index } = this.#parts;
    const tsc = Number(this.#run.getBigUint64(K.kvm_run.msr_data, true));
    let ns = 0;
    if (tsc !== 0) {
      ns = Math.max(1, Math.ceil(clock.nowNs() + (tsc - this.registers.tsc) * GUEST_KHZ / this.#tscKhz));
      ns = Math.min(ns, Number.MAX_SAFE_INTEGER);
    }
    return board.writeMsr(index, IA32_TSC_DEADLINE, ns >>> 0, Math.floor(ns / 0x1_0000_0000));
  }

  #readDeadline(): boolean {
    const { board, clock, index } = this.#parts;
    if (!board.readMsr(index, IA32_TSC_DEADLINE)) return false;
    const ns = board.msrLo + board.msrHi * 0x1_0000_0000;
    const tsc = ns === 0 ? 0 : this.registers.tsc + (ns - clock.nowNs()) * this.#tscKhz / GUEST_KHZ;
    this.#run.setBigUint64(K.kvm_run.msr_data, BigInt(Math.max(0, Math.floor(tsc))), true);
    return true;
  }

  /** What is wrong when KVM cannot run the guest on. */
  #complaint(reason: number): string {
    const run = this.#run, where = `at rip ${this.registers.get("rip").toString(16)}`;
    switch (reason) {
      case K.KVM_EXIT.FAIL_ENTRY: {
        const why = run.getBigUint64(K.kvm_run.fail_entry_hardware_entry_failure_reason, true);
        return `The processor refused to enter the guest ${where}: hardware reason 0x${why.toString(16)}`;
      }
      case K.KVM_EXIT.INTERNAL_ERROR: {
        const suberror = run.getUint32(K.kvm_run.internal_suberror, true);
        if (suberror !== K.KVM_INTERNAL_ERROR_EMULATION) return `KVM gave up ${where}: internal error ${suberror}`;
        const bytes = this.#failedBytes().map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
        return `KVM cannot emulate the instruction ${where}${bytes === "" ? "" : `: ${bytes}`}`;
      }
      default:
        return `KVM left the guest ${where} for a reason that is not known: ${reason}`;
    }
  }

  /** The bytes from the instruction on that KVM could not emulate, as many as it tells. */
  #failedBytes(): number[] {
    const run = this.#run;
    if (run.getUint32(K.kvm_run.internal_ndata, true) < 3) return [];
    const flags = run.getBigUint64(K.kvm_run.emulation_failure_flags, true);
    if (!(flags & BigInt(K.KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES))) return [];
    const size = Math.min(15, run.getUint8(K.kvm_run.emulation_failure_insn_size));
    return Array.from({ length: size }, (_, i) => run.getUint8(K.kvm_run.emulation_failure_insn_bytes + i));
  }

  poke(vcpu: number): void {
    this.#threads.poke(vcpu);
  }

  stats(): VcpuStats {
    return { ...this.#counts };
  }

  describe(): string {
    return this.registers.describe();
  }
}

const LEGACY_PREFIXES = [0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3];
const VECTOR_PREFIXES = [0x62, 0xc4, 0xc5];

function hasVectorPrefix(bytes: readonly number[]): boolean {
  return VECTOR_PREFIXES.includes(bytes.find((byte) => !LEGACY_PREFIXES.includes(byte)) ?? 0);
}
