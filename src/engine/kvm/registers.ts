/** A vCPU's registers through KVM: what a loader asks for, and the power-on values to come back to at each reset. */
import * as K from "../../../ffi/kvm.ts";
import type { GprName, InitialState, SegmentState } from "../engine.ts";
import type { Bytes, Host } from "./host.ts";

const SEGMENTS = {
  cs: K.kvm_sregs.cs,
  ds: K.kvm_sregs.ds,
  es: K.kvm_sregs.es,
  fs: K.kvm_sregs.fs,
  gs: K.kvm_sregs.gs,
  ss: K.kvm_sregs.ss,
  tr: K.kvm_sregs.tr,
  ldtr: K.kvm_sregs.ldt,
} as const;

/** The time-stamp counter is set to guest time and not restored; its adjustment would move it. */
const IA32_TSC = 0x10, IA32_TSC_ADJUST = 0x3b, IA32_TSC_DEADLINE = 0x6e0;
const IA32_MTRR_DEF_TYPE = 0x2ff;
/** MTRRs on, all memory write-back, as firmware leaves them. */
const ALL_WRITE_BACK = 0x806n;

/** A structure of KVM's, to be read and written as a whole. */
class Block {
  readonly bytes: Bytes;
  readonly dv: DataView;
  constructor(readonly size: number) {
    this.bytes = new Uint8Array(size);
    this.dv = new DataView(this.bytes.buffer);
  }
}

export class KvmRegisters {
  readonly #regs = new Block(K.kvm_regs.SIZEOF);
  readonly #sregs = new Block(K.kvm_sregs.SIZEOF);
  readonly #msr = new Block(K.kvm_msrs.SIZEOF + K.kvm_msr_entry.SIZEOF);
  readonly #powerOn: { name: string; set: number; bytes: Bytes }[] = [];
  readonly #powerOnMsrs: { msr: number; value: bigint }[] = [];

  constructor(private readonly host: Host, private readonly fd: number, msrs: readonly number[]) {
    const { sregs, regs, fpu, xcrs, debugregs, vcpuEvents } = BLOCKS;
    for (const { name, get, set, size, optional } of [sregs, regs, fpu, xcrs, debugregs, vcpuEvents]) {
      const bytes = new Uint8Array(size);
      if (host.tryIoctlWith(fd, get, bytes) >= 0) this.#powerOn.push({ name: `KVM_SET_${name}`, set, bytes });
      else if (!optional) throw host.refusal(`KVM_GET_${name}`);
    }
    for (const msr of msrs) {
      if (msr === IA32_TSC || msr === IA32_TSC_ADJUST || msr === IA32_TSC_DEADLINE) continue;
      const value = this.readMsr(msr);
      if (value !== null) this.#powerOnMsrs.push({ msr, value });
    }
  }

  reset(): void {
    for (const { name, set, bytes } of this.#powerOn) this.host.ioctlWith(name, this.fd, set, bytes);
    // Some refuse even the value they have shown, and keep it.
    for (const { msr, value } of this.#powerOnMsrs) this.writeMsr(msr, value);
    this.writeMsr(IA32_MTRR_DEF_TYPE, ALL_WRITE_BACK);
  }

  set(state: InitialState): void {
    const s = this.#sregs, r = this.#regs;
    this.host.ioctlWith("KVM_GET_SREGS", this.fd, K.KVM_GET_SREGS, s.bytes);
    for (const [name, segment] of Object.entries(state.segments)) {
      putSegment(s.dv, SEGMENTS[name as keyof typeof SEGMENTS], segment);
    }
    for (const [at, { base, limit }] of [[K.kvm_sregs.gdt, state.gdtr], [K.kvm_sregs.idt, state.idtr]] as const) {
      s.dv.setBigUint64(at + K.kvm_dtable.base, BigInt(base), true);
      s.dv.setUint16(at + K.kvm_dtable.limit, limit, true);
    }
    for (const name of ["cr0", "cr3", "cr4", "efer"] as const) {
      s.dv.setBigUint64(K.kvm_sregs[name], BigInt(state[name]), true);
    }
    this.host.ioctlWith("KVM_SET_SREGS", this.fd, K.KVM_SET_SREGS, s.bytes);
    this.host.ioctlWith("KVM_GET_REGS", this.fd, K.KVM_GET_REGS, r.bytes);
    for (const [name, value] of Object.entries(state.gpr)) {
      r.dv.setBigUint64(K.kvm_regs[name as GprName], BigInt(value), true);
    }
    r.dv.setBigUint64(K.kvm_regs.rip, BigInt(state.rip), true);
    r.dv.setBigUint64(K.kvm_regs.rflags, BigInt(state.rflags | 2), true);
    this.host.ioctlWith("KVM_SET_REGS", this.fd, K.KVM_SET_REGS, r.bytes);
  }

  /** Null if there is no such register. */
  readMsr(msr: number): bigint | null {
    const { dv, bytes } = this.#msr;
    dv.setUint32(K.kvm_msrs.nmsrs, 1, true);
    dv.setUint32(K.kvm_msrs.entries + K.kvm_msr_entry.index, msr, true);
    if (this.host.tryIoctlWith(this.fd, K.KVM_GET_MSRS, bytes) !== 1) return null;
    return dv.getBigUint64(K.kvm_msrs.entries + K.kvm_msr_entry.data, true);
  }

  /** False if it was refused. */
  writeMsr(msr: number, value: bigint): boolean {
    const { dv, bytes } = this.#msr;
    dv.setUint32(K.kvm_msrs.nmsrs, 1, true);
    dv.setUint32(K.kvm_msrs.entries + K.kvm_msr_entry.index, msr, true);
    dv.setBigUint64(K.kvm_msrs.entries + K.kvm_msr_entry.data, BigInt.asUintN(64, value), true);
    return this.host.tryIoctlWith(this.fd, K.KVM_SET_MSRS, bytes) === 1;
  }

  get tsc(): number {
    return Number(this.readMsr(IA32_TSC) ?? 0n);
  }
  set tsc(value: number) {
    this.writeMsr(IA32_TSC, BigInt(Math.floor(value)));
  }

  /** A register as it is now: for messages and tests. */
  get(name: keyof typeof K.kvm_regs & (GprName | "rip" | "rflags")): bigint {
    this.host.ioctlWith("KVM_GET_REGS", this.fd, K.KVM_GET_REGS, this.#regs.bytes);
    return this.#regs.dv.getBigUint64(K.kvm_regs[name], true);
  }

  describe(): string {
    const r = this.#regs, s = this.#sregs;
    this.host.ioctlWith("KVM_GET_REGS", this.fd, K.KVM_GET_REGS, r.bytes);
    this.host.ioctlWith("KVM_GET_SREGS", this.fd, K.KVM_GET_SREGS, s.bytes);
    const hex = (v: bigint) => v.toString(16).padStart(16, "0");
    const gpr = (name: keyof typeof K.kvm_regs) => hex(r.dv.getBigUint64(K.kvm_regs[name], true));
    const control = (name: "cr0" | "cr2" | "cr3" | "cr4" | "efer") => hex(s.dv.getBigUint64(K.kvm_sregs[name], true));
    const cs = s.dv.getUint16(K.kvm_sregs.cs + K.kvm_segment.selector, true);
    const cpl = s.dv.getUint8(K.kvm_sregs.ss + K.kvm_segment.dpl);
    const lines = [`rip ${gpr("rip")}, cpl ${cpl}, cr2 ${control("cr2")}`];
    const names = ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"] as const;
    const more = ["r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"] as const;
    const all = [...names, ...more];
    for (let i = 0; i < 16; i += 4) {
      lines.push(all.slice(i, i + 4).map((name) => `${name.padStart(3)} ${gpr(name)}`).join("  "));
    }
    lines.push(`rflags ${gpr("rflags").slice(8)}  cs ${cs.toString(16)}`);
    lines.push(`cr0 ${control("cr0")}  cr3 ${control("cr3")}  cr4 ${control("cr4")}  efer ${control("efer")}`);
    return lines.join("\n");
  }
}

const BLOCKS = {
  sregs: block("SREGS", K.KVM_GET_SREGS, K.KVM_SET_SREGS, K.kvm_sregs.SIZEOF),
  regs: block("REGS", K.KVM_GET_REGS, K.KVM_SET_REGS, K.kvm_regs.SIZEOF),
  fpu: block("FPU", K.KVM_GET_FPU, K.KVM_SET_FPU, K.kvm_fpu.SIZEOF),
  xcrs: block("XCRS", K.KVM_GET_XCRS, K.KVM_SET_XCRS, K.kvm_xcrs.SIZEOF, true),
  debugregs: block("DEBUGREGS", K.KVM_GET_DEBUGREGS, K.KVM_SET_DEBUGREGS, K.kvm_debugregs.SIZEOF, true),
  vcpuEvents: block("VCPU_EVENTS", K.KVM_GET_VCPU_EVENTS, K.KVM_SET_VCPU_EVENTS, K.kvm_vcpu_events.SIZEOF, true),
} as const;

function block(name: string, get: number, set: number, size: number, optional = false) {
  return { name, get, set, size, optional };
}

function putSegment(dv: DataView, at: number, { selector, base, limit, rights }: SegmentState): void {
  const S = K.kvm_segment;
  dv.setBigUint64(at + S.base, BigInt(base), true);
  dv.setUint32(at + S.limit, limit, true);
  dv.setUint16(at + S.selector, selector, true);
  const fields = [
    [S.type, rights & 15],
    [S.s, (rights >> 4) & 1],
    [S.dpl, (rights >> 5) & 3],
    [S.present, (rights >> 7) & 1],
    [S.avl, (rights >> 12) & 1],
    [S.l, (rights >> 13) & 1],
    [S.db, (rights >> 14) & 1],
    [S.g, (rights >> 15) & 1],
    [S.unusable, (rights >> 7) & 1 ? 0 : 1],
  ] as const;
  for (const [field, value] of fields) dv.setUint8(at + field, value);
}
