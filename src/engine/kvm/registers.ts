/** A vCPU's registers through KVM: what a loader asks for, and the power-on values to come back to at each reset. */
import * as K from "../../../ffi/kvm.ts";
import type { GprName, InitialState, SegmentState } from "../engine.ts";
import type { Bytes, Host } from "./host.ts";
import { IA32_TSC, IA32_TSC_ADJUST, IA32_TSC_DEADLINE, MsrAccess } from "./msr_access.ts";

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

const IA32_MTRR_DEF_TYPE = 0x2ff;
/** MTRRs on, all memory write-back, as firmware leaves them. */
const ALL_WRITE_BACK = 0x806n;
const CR0_CD_NW = 0x6000_0000n;

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
  readonly #access: MsrAccess;
  readonly #powerOn: { name: string; set: number; bytes: Bytes; init: boolean }[] = [];
  readonly #powerOnMsrs: { msr: number; value: bigint }[] = [];

  /** Of a new vCPU. `signature`: the family, model and stepping that CPUID reports. */
  constructor(private readonly host: Host, private readonly fd: number, msrs: readonly number[], signature: number) {
    this.#access = new MsrAccess(host, fd);
    for (const { name, get, set, size, optional, init } of BLOCKS) {
      const bytes = new Uint8Array(size);
      if (host.tryIoctlWith(fd, get, bytes) >= 0) this.#powerOn.push({ name: `KVM_SET_${name}`, set, bytes, init });
      else if (!optional) throw host.refusal(`KVM_GET_${name}`);
      // SMM is none of ours, and to set its state would take a pending INIT back.
      if (set === K.KVM_SET_VCPU_EVENTS) bytes[K.kvm_vcpu_events.flags]! &= ~K.KVM_VCPUEVENT_VALID_SMM;
      if (set === K.KVM_SET_REGS) new DataView(bytes.buffer).setBigUint64(K.kvm_regs.rdx, BigInt(signature), true);
    }
    for (const msr of msrs) {
      // The time-stamp counter is set to guest time and not restored; its adjustment would move it.
      if (msr === IA32_TSC || msr === IA32_TSC_ADJUST || msr === IA32_TSC_DEADLINE) continue;
      const value = this.readMsr(msr);
      if (value !== null) this.#powerOnMsrs.push({ msr, value });
    }
  }

  /** `keepsApic`: IA32_APIC_BASE stays as it is, for whoever has set it with the local APIC. */
  reset(keepsApic: boolean): void {
    if (keepsApic) this.#keepApicBase();
    for (const { name, set, bytes } of this.#powerOn) this.host.ioctlWith(name, this.fd, set, bytes);
    // Some refuse even the value they have shown, and keep it.
    for (const { msr, value } of this.#powerOnMsrs) this.writeMsr(msr, value);
    this.writeMsr(IA32_MTRR_DEF_TYPE, ALL_WRITE_BACK);
  }

  #keepApicBase(): void {
    const { bytes } = this.#sregs;
    this.host.ioctlWith("KVM_GET_SREGS", this.fd, K.KVM_GET_SREGS, bytes);
    const powerOn = this.#powerOn.find(({ set }) => set === K.KVM_SET_SREGS)!.bytes;
    for (const at of [K.kvm_sregs.apic_base, K.kvm_sregs.cr8]) powerOn.set(bytes.subarray(at, at + 8), at);
  }

  /** INIT: the caches' switches in CR0, the floating-point registers and the MSRs stay: [sdm3 §10.4, table 10-1]. */
  initialize(): void {
    const { bytes, dv } = this.#sregs;
    this.host.ioctlWith("KVM_GET_SREGS", this.fd, K.KVM_GET_SREGS, bytes);
    const kept = dv.getBigUint64(K.kvm_sregs.cr0, true) & CR0_CD_NW;
    for (const { name, set, bytes, init } of this.#powerOn) if (init) this.host.ioctlWith(name, this.fd, set, bytes);
    this.host.ioctlWith("KVM_GET_SREGS", this.fd, K.KVM_GET_SREGS, bytes);
    dv.setBigUint64(K.kvm_sregs.cr0, (dv.getBigUint64(K.kvm_sregs.cr0, true) & ~CR0_CD_NW) | kept, true);
    this.host.ioctlWith("KVM_SET_SREGS", this.fd, K.KVM_SET_SREGS, bytes);
  }

  /** A start-up IPI: real mode at `vector` × 4 KiB: [sdm3 §10.4.4]. */
  start(vector: number): void {
    const { bytes, dv } = this.#sregs, regs = this.#regs;
    this.host.ioctlWith("KVM_GET_SREGS", this.fd, K.KVM_GET_SREGS, bytes);
    dv.setUint16(K.kvm_sregs.cs + K.kvm_segment.selector, vector << 8, true);
    dv.setBigUint64(K.kvm_sregs.cs + K.kvm_segment.base, BigInt(vector << 12), true);
    this.host.ioctlWith("KVM_SET_SREGS", this.fd, K.KVM_SET_SREGS, bytes);
    this.host.ioctlWith("KVM_GET_REGS", this.fd, K.KVM_GET_REGS, regs.bytes);
    regs.dv.setBigUint64(K.kvm_regs.rip, 0n, true);
    this.host.ioctlWith("KVM_SET_REGS", this.fd, K.KVM_SET_REGS, regs.bytes);
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
    return this.#access.read(msr);
  }

  /** False if it was refused. */
  writeMsr(msr: number, value: bigint): boolean {
    return this.#access.write(msr, value);
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

/** What KVM keeps of a vCPU beside its MSRs; `init`: INIT resets it as well. */
const BLOCKS = [
  { name: "SREGS", get: K.KVM_GET_SREGS, set: K.KVM_SET_SREGS, size: K.kvm_sregs.SIZEOF, optional: false, init: true },
  { name: "REGS", get: K.KVM_GET_REGS, set: K.KVM_SET_REGS, size: K.kvm_regs.SIZEOF, optional: false, init: true },
  { name: "FPU", get: K.KVM_GET_FPU, set: K.KVM_SET_FPU, size: K.kvm_fpu.SIZEOF, optional: false, init: false },
  { name: "XCRS", get: K.KVM_GET_XCRS, set: K.KVM_SET_XCRS, size: K.kvm_xcrs.SIZEOF, optional: true, init: false },
  {
    name: "DEBUGREGS",
    get: K.KVM_GET_DEBUGREGS,
    set: K.KVM_SET_DEBUGREGS,
    size: K.kvm_debugregs.SIZEOF,
    optional: true,
    init: true,
  },
  {
    name: "VCPU_EVENTS",
    get: K.KVM_GET_VCPU_EVENTS,
    set: K.KVM_SET_VCPU_EVENTS,
    size: K.kvm_vcpu_events.SIZEOF,
    optional: true,
    init: true,
  },
] as const;

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
