/**
 * Entering the guest, and what is done about each exit: [sdm3 appendix C], [sdm3 §28.2].
 *
 * Instructions that exit have not been executed: either all of their work is done here and RIP moves on, or the software CPU
 * executes them, or the guest is entered again and they exit once more. The last is what happens to an exit that may be an old
 * one: a call that a poke or its deadline ends before the guest was entered need not tell a new reason.
 */
import { hv_return_t, hv_x86_reg_t as R } from "../../../ffi/hypervisor_x86_64.ts";
import { CPU_BASED, INTERRUPTIBILITY, VMCS, VMX_REASON as X } from "../../../ffi/vmx.ts";
import { HostError } from "../../base/errors.ts";
import { CS, EXC, TF } from "../../cpu/x86/state.ts";
import { MSR } from "../../cpu/x86/system/msr.ts";
import { type ExitReason, VcpuEvent, type VcpuParts } from "../engine.ts";
import { EventType } from "../vcpu_state.ts";
import { Page } from "./guest_memory.ts";
import { DirectAccess } from "./direct.ts";
import { HvfEvents } from "./events.ts";
import { ApicAccess, basicReason, Cr, ENTRY_FAILED, EptViolation, Info, Io, isSoftware, Task } from "./exits.ts";
import type { Guest } from "./guest.ts";
import { refusal, SUCCESS } from "./library.ts";
import { GPR_REGISTERS, SEGMENT } from "./registers.ts";
import { Stepper, type StepResult } from "./stepper.ts";
import { Deadline } from "./time.ts";

const SHADOW = INTERRUPTIBILITY.STI | INTERRUPTIBILITY.MOV_SS;
const APIC_ENABLED = 1 << 11;
/** DR6.BS: a single step has ended. */
const SINGLE_STEP = 1 << 14;
const X87 = 1, SSE = 2, AVX = 4;
const LOCAL_APIC = 0xfee0_0000;
const L = 1 << 13;
const NO_REASON = -1;

export class HvfExits {
  lastError: Error | null = null;
  halted = false;
  readonly counts = {
    entries: 0,
    io: 0,
    mmio: 0,
    direct: 0,
    ram: 0,
    msr: 0,
    cpuid: 0,
    hlt: 0,
    control: 0,
    window: 0,
    host: 0,
    steps: 0,
    interrupts: 0,
    nmis: 0,
    refused: 0,
    doubtful: 0,
  };
  readonly #guest: Guest;
  readonly #parts: VcpuParts;
  readonly events: HvfEvents;
  readonly #stepper: Stepper;
  readonly #accesses: DirectAccess;
  readonly #deadline: Deadline;
  /** hv_vcpu_run_until knows deadlines here. */
  #timed = true;
  /** The last exit that was acted on, and where the guest was left. */
  #acted = NO_REASON;
  #leftLo = 0;
  #leftHi = 0;
  /** The exit before was doubted; what the guest had run by then, in ns. */
  #doubted = false;
  #ranNs = 0;
  readonly #now = { cr4: 0, xcr0: 0, apic: true };

  constructor(guest: Guest, parts: VcpuParts) {
    this.#guest = guest;
    this.#parts = parts;
    this.events = new HvfEvents(guest.handle, guest.controls.cpu);
    this.#stepper = new Stepper(guest.handle, guest.registers, guest.vm.pages, parts);
    this.#accesses = new DirectAccess(guest.handle, parts);
    this.#deadline = new Deadline(guest.hv, guest.tsc.hz);
  }

  /** Nothing is under way. */
  reset(): void {
    this.halted = false;
    this.#acted = NO_REASON;
    this.#doubted = false;
    this.events.reset();
  }

  /** Gives the guest what of its pending events it can take now, and waits for a chance for the others. */
  offer(pending: number): void {
    const events = this.events;
    let windows = 0;
    if (pending & VcpuEvent.NMI) {
      if (events.canNmi) {
        Atomics.and(this.#parts.events, this.#parts.eventsIndex, ~VcpuEvent.NMI);
        events.nmi();
        this.counts.nmis++;
        this.halted = false;
      } else windows |= CPU_BASED.VIRTUAL_NMI_WND;
    }
    if (pending & VcpuEvent.INTR) {
      if (events.canInterrupt) {
        const vector = this.#parts.board.acknowledge(this.#parts.index);
        if (vector >= 0) {
          events.interrupt(vector);
          this.counts.interrupts++;
          this.halted = false;
          if (Atomics.load(this.#parts.events, this.#parts.eventsIndex) & VcpuEvent.INTR) windows |= CPU_BASED.IRQ_WND;
        }
      } else windows |= CPU_BASED.IRQ_WND;
    }
    events.awaitWindows(windows);
  }

  /** Runs the guest once, from guest time `nowNs` to `untilNs` at the latest. Null if it goes on. */
  enter(nowNs: number, untilNs: number): ExitReason | null {
    const { hv, handle, vm } = this.#guest, { index } = this.#parts, deadline = this.#deadline;
    deadline.arm(nowNs, untilNs);
    vm.pages.follow();
    const pokes = vm.pokes(index);
    this.counts.entries++;
    const code = this.#timed ? hv.hv_vcpu_run_until(handle.id, deadline.mach) : hv.hv_vcpu_run(handle.id);
    if (code !== SUCCESS) return this.#refused(code);
    this.events.settle();
    const reason = handle.vmcs(VMCS.RO_EXIT_REASON);
    if (reason === this.#acted && this.#maybeOld(pokes)) return null;
    this.#acted = NO_REASON;
    this.#doubted = false;
    return (reason & ENTRY_FAILED) !== 0 ? this.#entryFailed(reason) : this.#exit(reason);
  }

  /** Whether the exit may be the one that was acted on before: the call was cut short, and the guest is where it was left. */
  #maybeOld(pokes: number): boolean {
    const { handle, vm } = this.#guest, { clock, index } = this.#parts;
    if (vm.pokes(index) === pokes && !this.#deadline.passed(clock.nowNs())) return false;
    if (handle.vmcs(VMCS.GUEST_RIP) !== this.#leftLo || handle.hi !== this.#leftHi) return false;
    // The second time the guest's own time tells: whoever has not run cannot have exited.
    const ranNs = handle.execNs;
    if (this.#doubted && ranNs !== this.#ranNs) return false;
    this.#doubted = true;
    this.#ranNs = ranNs;
    this.counts.doubtful++;
    return true;
  }

  #refused(code: number): ExitReason | null {
    if (code === hv_return_t.HV_UNSUPPORTED && this.#timed) {
      // Without deadlines the host's own interrupts end the runs, which are frequent.
      this.#timed = false;
      return null;
    }
    const { hv, handle } = this.#guest, call = this.#timed ? "hv_vcpu_run_until" : "hv_vcpu_run";
    let why = "";
    if (code === hv_return_t.HV_ERROR) {
      const flags = new Uint32Array(1);
      const status = hv.hv_vcpu_vmx_status?.(handle.id, new Uint8Array(flags.buffer));
      if (status === SUCCESS) why = `, VMX status 0x${flags[0]!.toString(16)}`;
      why += `, VM-instruction error ${handle.vmcs(VMCS.RO_INSTR_ERROR)}`;
    }
    return this.#fail(`${refusal(call, code).message}${why}`);
  }

  #entryFailed(reason: number): ExitReason {
    const qualification = this.#guest.handle.vmcs(VMCS.RO_EXIT_QUALIFIC);
    return this.#fail(
      `The processor refused to enter the guest: reason ${basicReason(reason)}, qualification ${qualification}`,
    );
  }

  #fail(message: string): ExitReason {
    this.lastError = new HostError(`${message}, ${this.#guest.registers.describe().split("\n")[0]}`);
    return "error";
  }

  #exit(reason: number): ExitReason | null {
    const events = this.events, counts = this.counts;
    switch (basicReason(reason)) {
      case X.EXC_NMI:
        return this.#exception();
      case X.IRQ:
      case X.VMX_TIMER_EXPIRED:
      case X.INIT:
      case X.SIPI:
      case X.IO_SMI:
      case X.OTHER_SMI:
      case X.TPR_THRESHOLD:
        counts.host++;
        return null;
      case X.IRQ_WND:
      case X.VIRTUAL_NMI_WND:
        counts.window++;
        return null;
      case X.TRIPLE_FAULT:
        return "shutdown";
      case X.IO:
        counts.io++;
        return this.#io(reason);
      case X.EPT_VIOLATION:
        return this.#eptViolation(reason);
      case X.APIC_ACCESS:
        counts.mmio++;
        return this.#apicAccess(reason);
      case X.RDMSR:
        counts.msr++;
        return this.#readMsr(reason);
      case X.WRMSR:
        counts.msr++;
        return this.#writeMsr(reason);
      case X.CPUID:
        counts.cpuid++;
        return this.#cpuid(reason);
      case X.HLT:
        counts.hlt++;
        this.halted = true;
        return this.#skip(reason);
      case X.MOV_CR:
        counts.control++;
        return this.#controlRegister(reason);
      case X.XSETBV:
        counts.control++;
        return this.#xsetbv(reason);
      case X.TASK:
        return this.#task(reason);
      case X.MOV_DR:
      case X.INVLPG:
      case X.GDTR_IDTR:
      case X.LDTR_TR:
      case X.RDTSC:
      case X.RDTSCP:
      case X.RDRAND:
      case X.RDSEED:
      case X.INVPCID:
        return this.#step(reason, true);
      case X.INVD:
      case X.WBINVD:
      case X.PAUSE:
        // Caches are the host's; their contents are never lost.
        return this.#skip(reason);
      case X.RDPMC:
        events.exception(EXC.GP, 0);
        return null;
      case X.GETSEC:
      case X.VMCALL:
      case X.VMCLEAR:
      case X.VMLAUNCH:
      case X.VMPTRLD:
      case X.VMPTRST:
      case X.VMREAD:
      case X.VMRESUME:
      case X.VMWRITE:
      case X.VMOFF:
      case X.VMON:
      case X.EPT_INVEPT:
      case X.INVVPID:
      case X.VMFUNC:
      case X.ENCLS:
      case X.XSAVES:
      case X.XRSTORS:
      case X.UMWAIT:
      case X.TPAUSE:
      case X.RSM:
      case X.MWAIT:
      case X.MONITOR:
        // Instructions that CPUID does not announce.
        counts.refused++;
        events.exception(EXC.UD);
        return null;
      default:
        return this.#fail(`The guest was left for a reason that is not known: ${basicReason(reason)}`);
    }
  }

  /** The instruction is done: RIP behind it, its shadow over, its single step told. */
  #skip(reason: number, length = this.#guest.handle.vmcs(VMCS.RO_VMEXIT_INSTR_LEN)): null {
    const { handle } = this.#guest, rip = handle.vmcs(VMCS.GUEST_RIP);
    let hi = handle.hi;
    const lo = (rip + length) >>> 0;
    // Past 4 GiB only 64-bit code goes on.
    if (lo < rip && (hi !== 0 || (handle.vmcs(SEGMENT.rights(CS)) & L) !== 0)) hi = (hi + 1) >>> 0;
    handle.setVmcs(VMCS.GUEST_RIP, lo, hi);
    const blocked = handle.vmcs(VMCS.GUEST_INTERRUPTIBILITY);
    if (blocked & SHADOW) handle.setVmcs(VMCS.GUEST_INTERRUPTIBILITY, blocked & ~SHADOW);
    if (handle.vmcs(VMCS.GUEST_RFLAGS) & TF) this.#singleStep();
    this.#left(reason, lo, hi);
    return null;
  }

  /** The trap behind an instruction, before any interrupt; it ends HLT too. [sdm3 §17.2.3, table 6-2] */
  #singleStep(): void {
    const { handle } = this.#guest;
    const status = handle.register(R.HV_X86_DR6);
    handle.setRegister(R.HV_X86_DR6, status | SINGLE_STEP, handle.hi);
    this.events.exception(EXC.DB);
    this.halted = false;
  }

  #left(reason: number, lo: number, hi: number): void {
    this.#acted = reason;
    this.#leftLo = lo;
    this.#leftHi = hi;
  }

  #step(reason: number, system: boolean): ExitReason | null {
    return this.#stepped(reason, this.#stepper.step(system));
  }

  #stepped(reason: number, result: StepResult): ExitReason | null {
    this.counts.steps++;
    const { handle } = this.#guest, lo = handle.vmcs(VMCS.GUEST_RIP);
    this.#left(reason, lo, handle.hi);
    if (result === "shutdown") return "shutdown";
    if (result === "halt") this.halted = true;
    return null;
  }

  #exception(): ExitReason | null {
    const { handle } = this.#guest, info = handle.vmcs(VMCS.RO_VMEXIT_IRQ_INFO);
    if (!Info.isValid(info) || Info.type(info) === EventType.NMI) {
      this.counts.host++;
      return null;
    }
    const vector = Info.vector(info);
    if (vector === EXC.MC) return this.#fail("The processor reported a machine check while the guest ran");
    const error = Info.hasError(info) ? handle.vmcs(VMCS.RO_VMEXIT_IRQ_ERROR) : -1;
    if (vector === EXC.PF) {
      const address = handle.vmcs(VMCS.RO_EXIT_QUALIFIC);
      handle.setRegister(R.HV_X86_CR2, address, handle.hi);
    }
    if (isSoftware(info)) this.events.repeat(Info.of(Info.type(info), vector, false));
    else this.events.exception(vector, error);
    return null;
  }

  #io(reason: number): ExitReason | null {
    const { handle } = this.#guest, { board } = this.#parts;
    const q = handle.vmcs(VMCS.RO_EXIT_QUALIFIC);
    if (Io.isString(q)) return this.#step(reason, false);
    const port = Io.port(q), size = Io.size(q);
    const rax = handle.register(R.HV_X86_RAX), hi = handle.hi;
    if (!Io.isIn(q)) {
      const value = size === 4 ? rax : size === 2 ? rax & 0xffff : rax & 0xff;
      this.#skip(reason);
      board.ioWrite(port, size, value);
      return null;
    }
    const value = board.ioRead(port, size);
    if (size === 4) handle.setRegister(R.HV_X86_RAX, value);
    else {
      const mask = size === 2 ? 0xffff : 0xff;
      handle.setRegister(R.HV_X86_RAX, (rax & ~mask) | (value & mask), hi);
    }
    return this.#skip(reason);
  }

  #eptViolation(reason: number): ExitReason | null {
    const { handle, vm } = this.#guest, events = this.events;
    const q = handle.vmcs(VMCS.RO_EXIT_QUALIFIC);
    const lo = handle.vmcs(VMCS.GUEST_PHYSICAL_ADDRESS);
    const write = EptViolation.isWrite(q);
    if (handle.hi === 0 && vm.pages.answers(lo >>> 12, write) === Page.MEMORY) {
      // Memory that the host had not given yet.
      this.counts.ram++;
      if (write && vm.pages.logging) vm.pages.letWrite(lo >>> 12);
      const broken = events.broken;
      if (broken !== 0) events.repeat(broken);
      else if (EptViolation.nmiUnblocked(q)) events.setNmiBlocking(true);
      return null;
    }
    this.counts.mmio++;
    const plain = handle.hi === 0 && EptViolation.isDataAccess(q);
    return plain && this.#direct(reason, lo, write) ? null : this.#access(reason);
  }

  /** A move of an instruction, not of an event's delivery, is done without the software CPU. */
  #direct(reason: number, gpa: number, write: boolean): boolean {
    if (this.events.broken !== 0 || !this.#accesses.begin(gpa, write)) return false;
    this.counts.direct++;
    this.#skip(reason, this.#accesses.length);
    if (write) this.#accesses.store(gpa);
    return true;
  }

  /** The page of the local APIC's registers, where the processor watches it. */
  #apicAccess(reason: number): ExitReason | null {
    const q = this.#guest.handle.vmcs(VMCS.RO_EXIT_QUALIFIC), kind = ApicAccess.kind(q);
    if (kind === ApicAccess.READ || kind === ApicAccess.WRITE) {
      if (this.#direct(reason, LOCAL_APIC + ApicAccess.offset(q), kind === ApicAccess.WRITE)) return null;
    }
    return this.#access(reason);
  }

  /** An instruction, or the delivery of an event, has met memory that is the board's. */
  #access(reason: number): ExitReason | null {
    const broken = this.events.broken;
    if (broken === 0 || isSoftware(broken)) return this.#step(reason, broken !== 0);
    return this.#stepped(reason, this.#stepper.deliver(broken, this.events.brokenError));
  }

  #task(reason: number): ExitReason | null {
    const source = Task.source(this.#guest.handle.vmcs(VMCS.RO_EXIT_QUALIFIC));
    if (source === Task.GATE) return this.#access(reason);
    if (source === Task.IRET) this.events.setNmiBlocking(false);
    return this.#step(reason, true);
  }

  #readMsr(reason: number): ExitReason | null {
    const { handle, msrs } = this.#guest;
    if (!msrs.read(handle.register(R.HV_X86_RCX))) return this.#fault();
    handle.setRegister(R.HV_X86_RAX, msrs.lo);
    handle.setRegister(R.HV_X86_RDX, msrs.hi);
    return this.#skip(reason);
  }

  #writeMsr(reason: number): ExitReason | null {
    const { handle, msrs } = this.#guest;
    const msr = handle.register(R.HV_X86_RCX), lo = handle.register(R.HV_X86_RAX), hi = handle.register(R.HV_X86_RDX);
    return msrs.write(msr, lo, hi) ? this.#skip(reason) : this.#fault();
  }

  #fault(): null {
    this.counts.refused++;
    this.events.exception(EXC.GP, 0);
    return null;
  }

  #cpuid(reason: number): null {
    const { handle, cpuid, registers } = this.#guest, { board, index } = this.#parts, now = this.#now;
    const leaf = handle.register(R.HV_X86_RAX), subleaf = handle.register(R.HV_X86_RCX);
    if (leaf === 1) {
      now.cr4 = registers.cr4;
      now.apic = !board.readMsr(index, MSR.APIC_BASE) || (board.msrLo & APIC_ENABLED) !== 0;
    } else if (leaf === 0xd) now.xcr0 = handle.register(R.HV_X86_XCR0);
    cpuid.look(leaf, subleaf, now);
    const { words } = cpuid;
    handle.setRegister(R.HV_X86_RAX, words[0]!);
    handle.setRegister(R.HV_X86_RBX, words[1]!);
    handle.setRegister(R.HV_X86_RCX, words[2]!);
    handle.setRegister(R.HV_X86_RDX, words[3]!);
    return this.#skip(reason);
  }

  #controlRegister(reason: number): ExitReason | null {
    const { handle, registers } = this.#guest, { board, index } = this.#parts;
    const q = handle.vmcs(VMCS.RO_EXIT_QUALIFIC), kind = Cr.kind(q), register = GPR_REGISTERS[Cr.gpr(q)]!;
    switch (Cr.number(q)) {
      case 8: {
        if (kind === Cr.FROM) {
          handle.setRegister(register, board.readTpr(index));
          return this.#skip(reason);
        }
        const value = handle.register(register);
        if (handle.hi !== 0 || value > 15) return this.#fault();
        this.#skip(reason);
        board.writeTpr(index, value);
        return null;
      }
      case 4:
        // A flag that is not announced, or one beyond the register.
        if (kind === Cr.TO && (!registers.takesCr4(handle.register(register)) || handle.hi !== 0)) return this.#fault();
        return this.#step(reason, true);
      default:
        return this.#step(reason, true);
    }
  }

  /** XCR0 is all there is: [sdm2 XSETBV]. */
  #xsetbv(reason: number): ExitReason | null {
    const { handle, cpuid } = this.#guest;
    const number = handle.register(R.HV_X86_RCX);
    const lo = handle.register(R.HV_X86_RAX), hi = handle.register(R.HV_X86_RDX);
    const legal = number === 0 && hi === 0 && (lo & X87) !== 0 && (lo & ~cpuid.xcr0) === 0 &&
      ((lo & AVX) === 0 || (lo & SSE) !== 0);
    if (!legal) return this.#fault();
    handle.setRegister(R.HV_X86_XCR0, lo);
    return this.#skip(reason);
  }
}
