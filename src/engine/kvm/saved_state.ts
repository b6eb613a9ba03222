/**
 * A vCPU of KVM's as engine-neutral data, both ways.
 *
 * An event whose delivery KVM was in the middle of is told with its vector; the length of an instruction that raised one KVM
 * keeps to itself, so that a software exception is taken for INT3 or INTO, of one byte.
 */
import * as K from "../../../ffi/kvm.ts";
import { RestoreError } from "../../base/errors.ts";
import type { GuestRam } from "../../base/ram.ts";
import { GPR_NAMES } from "../engine.ts";
import {
  Activity,
  checkVcpuState,
  EventType,
  SEGMENT_NAMES,
  setU64,
  Shadow,
  u64,
  VCPU_MSRS,
  VcpuRecord,
  type VcpuState,
  XSAVE,
} from "../vcpu_state.ts";
import type { Bytes, Host } from "./host.ts";
import { IA32_TSC_ADJUST, MSR_KVM_SYSTEM_TIME_NEW, MsrAccess } from "./msr_access.ts";
import { RIGHTS } from "./rights.ts";

/** A structure of KVM's, to be read and written as a whole. */
class Block {
  readonly bytes: Bytes;
  readonly dv: DataView;

  constructor(readonly name: string, readonly get: number, readonly set: number, size: number) {
    this.bytes = new Uint8Array(size);
    this.dv = new DataView(this.bytes.buffer);
  }
}

const SEGMENT_AT = SEGMENT_NAMES.map((name) => K.kvm_sregs[name === "ldtr" ? "ldt" : name]);
const CONTROLS = ["cr0", "cr2", "cr3", "cr4", "efer"] as const;
const X87_SSE_AVX = 7n;
const BREAKPOINT = 3, OVERFLOW = 4, NMI_VECTOR = 2;
const CR0_PG = 0x8000_0000, CR4_PAE = 0x20, EFER_LMA = 0x400;
const E = K.kvm_vcpu_events;

/** What of a vCPU is not in its registers. */
export interface VcpuSituation {
  activity: number;
  /** KVM has the local APIC: INIT and start-up IPIs wait there. */
  readonly kernelApic: boolean;
}

export class KvmState {
  readonly #regs = new Block("REGS", K.KVM_GET_REGS, K.KVM_SET_REGS, K.kvm_regs.SIZEOF);
  readonly #sregs = new Block("SREGS", K.KVM_GET_SREGS, K.KVM_SET_SREGS, K.kvm_sregs.SIZEOF);
  readonly #xcrs = new Block("XCRS", K.KVM_GET_XCRS, K.KVM_SET_XCRS, K.kvm_xcrs.SIZEOF);
  readonly #xsave = new Block("XSAVE", K.KVM_GET_XSAVE, K.KVM_SET_XSAVE, K.kvm_xsave.SIZEOF);
  readonly #debug = new Block("DEBUGREGS", K.KVM_GET_DEBUGREGS, K.KVM_SET_DEBUGREGS, K.kvm_debugregs.SIZEOF);
  readonly #events = new Block("VCPU_EVENTS", K.KVM_GET_VCPU_EVENTS, K.KVM_SET_VCPU_EVENTS, E.SIZEOF);
  readonly #mp = new Block("MP_STATE", K.KVM_GET_MP_STATE, K.KVM_SET_MP_STATE, K.kvm_mp_state.SIZEOF);
  readonly #msrs: MsrAccess;

  constructor(private readonly host: Host, private readonly fd: number, private readonly ram: GuestRam) {
    this.#msrs = new MsrAccess(host, fd);
  }

  /** In the order in which KVM can take them. */
  get #blocks(): readonly Block[] {
    return [this.#sregs, this.#regs, this.#xcrs, this.#xsave, this.#debug, this.#events];
  }

  /** Everything but the time-stamp counter and what waits in the event word. */
  save(s: VcpuState, situation: VcpuSituation): void {
    VcpuRecord.reset(s);
    for (const block of this.#blocks) this.#load(block);
    const regs = this.#regs.dv, sregs = this.#sregs.dv;
    GPR_NAMES.forEach((name, n) => setU64(s.gpr, regs.getBigUint64(K.kvm_regs[name], true), n));
    setU64(s.rip, regs.getBigUint64(K.kvm_regs.rip, true));
    s.rflags = regs.getUint32(K.kvm_regs.rflags, true) | 2;
    SEGMENT_AT.forEach((at, n) => {
      let rights = 0;
      for (const [shift, mask, field] of RIGHTS) rights |= (sregs.getUint8(at + field) & mask) << shift;
      s.segSelector[n] = sregs.getUint16(at + K.kvm_segment.selector, true);
      s.segRights[n] = rights;
      s.segLimit[n] = sregs.getUint32(at + K.kvm_segment.limit, true);
      setU64(s.segBase, sregs.getBigUint64(at + K.kvm_segment.base, true), n);
    });
    s.cpl = sregs.getUint8(K.kvm_sregs.ss + K.kvm_segment.dpl) & 3;
    for (const table of ["gdt", "idt"] as const) {
      setU64(s[`${table}rBase`], sregs.getBigUint64(K.kvm_sregs[table] + K.kvm_dtable.base, true));
      s[`${table}rLimit`] = sregs.getUint16(K.kvm_sregs[table] + K.kvm_dtable.limit, true);
    }
    for (const name of CONTROLS) setU64(s[name], sregs.getBigUint64(K.kvm_sregs[name], true));
    s.cr8 = sregs.getUint8(K.kvm_sregs.cr8) & 15;
    this.#savePdptes(s);
    setU64(s.xcr0, this.#xcrs.dv.getBigUint64(K.kvm_xcrs.xcrs + K.kvm_xcr.value, true));
    for (let n = 0; n < 4; n++) setU64(s.dr, this.#debug.dv.getBigUint64(K.kvm_debugregs.db + 8 * n, true), n);
    setU64(s.dr, this.#debug.dv.getBigUint64(K.kvm_debugregs.dr6, true), 6);
    setU64(s.dr, this.#debug.dv.getBigUint64(K.kvm_debugregs.dr7, true), 7);
    this.#saveUnits(s);
    for (const { msr, field, index } of VCPU_MSRS) setU64(s[field], this.#msrs.read(msr) ?? 0n, index);
    setU64(s.tscAdjust, this.#msrs.read(IA32_TSC_ADJUST) ?? 0n);
    setU64(s.kvmSystemTime, this.#msrs.read(MSR_KVM_SYSTEM_TIME_NEW) ?? 0n);
    this.#saveEvents(s, situation);
  }

  /**
   * Throws RestoreError, and the vCPU is as it was. `situation.activity` tells what it is to do afterwards where KVM does not
   * know.
   */
  restore(s: VcpuState, situation: VcpuSituation): void {
    checkVcpuState(s);
    for (const block of this.#blocks) this.#load(block);
    const before = this.#blocks.map(({ bytes }) => bytes.slice());
    const msrsBefore = VCPU_MSRS.map(({ msr }) => this.#msrs.read(msr));
    this.#fill(s, situation);
    try {
      for (const block of this.#blocks) this.#store(block);
      this.#restoreMsrs(s);
    } catch (error) {
      this.#blocks.forEach((block, i) => {
        block.bytes.set(before[i]!);
        this.host.tryIoctlWith(this.fd, block.set, block.bytes);
      });
      VCPU_MSRS.forEach(({ msr }, i) => msrsBefore[i] === null || this.#msrs.write(msr, msrsBefore[i]!));
      throw error;
    }
    situation.activity = s.activity;
    if (!situation.kernelApic) return;
    const waits = s.sipiPending ? K.KVM_MP_STATE_SIPI_RECEIVED : K.KVM_MP_STATE_INIT_RECEIVED;
    this.#mp.dv.setUint32(
      0,
      s.activity === Activity.WAIT_FOR_SIPI
        ? waits
        : s.activity === Activity.HALTED
        ? K.KVM_MP_STATE_HALTED
        : K.KVM_MP_STATE_RUNNABLE,
      true,
    );
    this.host.ioctlWith("KVM_SET_MP_STATE", this.fd, this.#mp.set, this.#mp.bytes);
  }

  #fill(s: VcpuState, { kernelApic }: VcpuSituation): void {
    const regs = this.#regs.dv, sregs = this.#sregs.dv;
    GPR_NAMES.forEach((name, n) => regs.setBigUint64(K.kvm_regs[name], u64(s.gpr, n), true));
    regs.setBigUint64(K.kvm_regs.rip, u64(s.rip), true);
    regs.setBigUint64(K.kvm_regs.rflags, BigInt(s.rflags), true);
    SEGMENT_AT.forEach((at, n) => {
      for (const [shift, mask, field] of RIGHTS) sregs.setUint8(at + field, (s.segRights[n]! >>> shift) & mask);
      sregs.setUint16(at + K.kvm_segment.selector, s.segSelector[n]!, true);
      sregs.setUint32(at + K.kvm_segment.limit, s.segLimit[n]!, true);
      sregs.setBigUint64(at + K.kvm_segment.base, u64(s.segBase, n), true);
    });
    for (const table of ["gdt", "idt"] as const) {
      sregs.setBigUint64(K.kvm_sregs[table] + K.kvm_dtable.base, u64(s[`${table}rBase`]), true);
      sregs.setUint16(K.kvm_sregs[table] + K.kvm_dtable.limit, s[`${table}rLimit`], true);
    }
    for (const name of CONTROLS) sregs.setBigUint64(K.kvm_sregs[name], u64(s[name]), true);
    // Where KVM has the local APIC, its registers come with that.
    if (!kernelApic) sregs.setBigUint64(K.kvm_sregs.cr8, BigInt(s.cr8), true);
    this.#sregs.bytes.fill(0, K.kvm_sregs.interrupt_bitmap);
    this.#xcrs.dv.setUint32(K.kvm_xcrs.nr_xcrs, 1, true);
    this.#xcrs.dv.setBigUint64(K.kvm_xcrs.xcrs + K.kvm_xcr.value, u64(s.xcr0), true);
    for (let n = 0; n < 4; n++) this.#debug.dv.setBigUint64(K.kvm_debugregs.db + 8 * n, u64(s.dr, n), true);
    this.#debug.dv.setBigUint64(K.kvm_debugregs.dr6, u64(s.dr, 6), true);
    this.#debug.dv.setBigUint64(K.kvm_debugregs.dr7, u64(s.dr, 7), true);
    this.#xsave.bytes.set(s.xsave);
    this.#fillEvents(s, kernelApic);
  }

  /** PAE paging's page-directory-pointer entries, which are in memory as well. */
  #savePdptes(s: VcpuState): void {
    const pae = s.cr0[0]! & CR0_PG && s.cr4[0]! & CR4_PAE && !(s.efer[0]! & EFER_LMA);
    const table = (s.cr3[0]! & ~31) >>> 0;
    for (let i = 0; i < 8; i++) s.pdpte[i] = pae ? this.ram.read(table + 4 * i, 4) : 0;
  }

  /** Components that XCR0 has not: KVM tells of some all the same. */
  #saveUnits(s: VcpuState): void {
    const { bytes, dv } = this.#xsave;
    const present = dv.getBigUint64(XSAVE.XSTATE_BV, true) & (u64(s.xcr0) | X87_SSE_AVX);
    s.xsave.set(bytes);
    s.xsave.fill(0, XSAVE.XCOMP_BV, XSAVE.HEADER_END);
    new DataView(s.xsave.buffer, s.xsave.byteOffset).setBigUint64(XSAVE.XSTATE_BV, present, true);
  }

  #saveEvents(s: VcpuState, situation: VcpuSituation): void {
    const { dv } = this.#events, flag = (at: number) => dv.getUint8(at) !== 0;
    const shadow = dv.getUint8(E.interrupt_shadow);
    s.shadow = shadow & K.KVM_X86_SHADOW_INT_MOV_SS ? Shadow.MOV_SS : shadow ? Shadow.STI : Shadow.NONE;
    s.nmiBlocked = flag(E.nmi_masked) ? 1 : 0;
    s.nmiPending = flag(E.nmi_pending) ? 1 : 0;
    if (flag(E.exception_injected)) {
      const vector = dv.getUint8(E.exception_nr);
      const soft = vector === BREAKPOINT || vector === OVERFLOW;
      s.eventType = soft ? EventType.SOFTWARE_EXCEPTION : EventType.EXCEPTION;
      s.eventVector = vector;
      s.eventLength = soft ? 1 : 0;
      s.eventHasError = flag(E.exception_has_error_code) ? 1 : 0;
      s.eventError = s.eventHasError ? dv.getUint32(E.exception_error_code, true) : 0;
      s.eventValid = 1;
    } else if (flag(E.nmi_injected)) {
      [s.eventType, s.eventVector, s.eventValid] = [EventType.NMI, NMI_VECTOR, 1];
    } else if (flag(E.interrupt_injected)) {
      s.eventType = flag(E.interrupt_soft) ? EventType.SOFTWARE_INTERRUPT : EventType.INTERRUPT;
      s.eventLength = flag(E.interrupt_soft) ? 2 : 0;
      s.eventVector = dv.getUint8(E.interrupt_nr);
      s.eventValid = 1;
    }
    s.activity = situation.activity;
    // HLT has run, and with it the instruction that a shadow lasts for.
    if (s.activity === Activity.HALTED) s.shadow = Shadow.NONE;
    if (!situation.kernelApic) return;
    this.#load(this.#mp);
    s.initPending = flag(E.smi_latched_init) ? 1 : 0;
    switch (this.#mp.dv.getUint32(0, true)) {
      case K.KVM_MP_STATE_HALTED:
        s.activity = Activity.HALTED;
        s.shadow = Shadow.NONE;
        break;
      case K.KVM_MP_STATE_SIPI_RECEIVED:
        s.sipiPending = 1;
        s.sipiVector = dv.getUint8(E.sipi_vector);
        s.activity = Activity.WAIT_FOR_SIPI;
        break;
      case K.KVM_MP_STATE_UNINITIALIZED:
      case K.KVM_MP_STATE_INIT_RECEIVED:
        s.activity = Activity.WAIT_FOR_SIPI;
        break;
      default:
        s.activity = Activity.RUNNING;
    }
  }

  #fillEvents(s: VcpuState, kernelApic: boolean): void {
    const { bytes, dv } = this.#events, is = (type: number) => s.eventValid && s.eventType === type;
    bytes.fill(0);
    let flags = K.KVM_VCPUEVENT_VALID_NMI_PENDING | K.KVM_VCPUEVENT_VALID_SHADOW;
    dv.setUint8(
      E.interrupt_shadow,
      s.shadow === Shadow.MOV_SS ? K.KVM_X86_SHADOW_INT_MOV_SS : s.shadow ? K.KVM_X86_SHADOW_INT_STI : 0,
    );
    dv.setUint8(E.nmi_masked, s.nmiBlocked);
    if (is(EventType.EXCEPTION)) {
      dv.setUint8(E.exception_injected, 1);
      dv.setUint8(E.exception_nr, s.eventVector);
      dv.setUint8(E.exception_has_error_code, s.eventHasError);
      dv.setUint32(E.exception_error_code, s.eventError, true);
    } else if (is(EventType.NMI)) dv.setUint8(E.nmi_injected, 1);
    else if (is(EventType.INTERRUPT)) {
      dv.setUint8(E.interrupt_injected, 1);
      dv.setUint8(E.interrupt_nr, s.eventVector);
    }
    // What software raised it raises again: RIP is at its instruction.
    if (kernelApic) {
      // The event word is not looked at for these.
      dv.setUint8(E.nmi_pending, s.nmiPending);
      dv.setUint8(E.smi_latched_init, s.initPending);
      flags |= K.KVM_VCPUEVENT_VALID_SMM;
      if (s.sipiPending) {
        dv.setUint32(E.sipi_vector, s.sipiVector, true);
        flags |= K.KVM_VCPUEVENT_VALID_SIPI_VECTOR;
      }
    }
    dv.setUint32(E.flags, flags, true);
  }

  /** A register that KVM does not have may be 0, and no other. */
  #restoreMsrs(s: VcpuState): void {
    for (const { msr, field, index } of VCPU_MSRS) {
      const wanted = u64(s[field], index);
      if (this.#msrs.write(msr, wanted) || (this.#msrs.read(msr) ?? 0n) === wanted) continue;
      throw new RestoreError(
        `Cannot restore vCPU.${field}: found ${wanted.toString(16)}h, which KVM refuses for MSR ${msr.toString(16)}h`,
      );
    }
    this.#msrs.write(IA32_TSC_ADJUST, u64(s.tscAdjust));
    const clock = u64(s.kvmSystemTime);
    if (!this.#msrs.write(MSR_KVM_SYSTEM_TIME_NEW, clock) && clock !== 0n) {
      throw new RestoreError(
        `Cannot restore vCPU.kvmSystemTime: found ${clock.toString(16)}h, and this KVM has no clock`,
      );
    }
  }

  #load(block: Block): void {
    this.host.ioctlWith(`KVM_GET_${block.name}`, this.fd, block.get, block.bytes);
  }

  #store(block: Block): void {
    if (this.host.tryIoctlWith(this.fd, block.set, block.bytes) >= 0) return;
    const { message } = this.host.refusal(`KVM_SET_${block.name}`);
    throw new RestoreError(`Cannot restore vCPU: found a state that this host's KVM refuses: ${message}`);
  }
}
