/**
 * The software CPU as KVM's instruction emulator: when KVM meets an instruction that it has to emulate and does not know, the
 * vCPU's registers move into a software vCPU over the same memory, that executes the one instruction, and they move back.
 *
 * The software vCPU is made when it is first needed. It keeps no translations between two steps: the guest's page tables may
 * have changed meanwhile.
 */
import * as K from "../../../ffi/kvm.ts";
import { STATUS } from "../../cpu/x86/ops.ts";
import { CS, DS, ES, FS, GS, LDTR, S, SS, TR } from "../../cpu/x86/state.ts";
import { GPR_NAMES, type VcpuParts } from "../engine.ts";
import { SoftVcpu } from "../soft/soft.ts";
import type { Bytes, Host } from "./host.ts";
import { RIGHTS } from "./rights.ts";

/** `unknown`: the software CPU does not know the instruction either, and the guest is as it was but for its memory. */
export type StepResult = "done" | "halt" | "shutdown" | "unknown";

const SEGMENTS = [["es", ES], ["cs", CS], ["ss", SS], ["ds", DS], ["fs", FS], ["gs", GS], ["ldt", LDTR], [
  "tr",
  TR,
]] as const;
const CONTROLS = ["cr0", "cr2", "cr3", "cr4", "efer"] as const;
const MSRS = [
  [0x174, "sysenterCs"],
  [0x175, "sysenterEsp"],
  [0x176, "sysenterEip"],
  [0xc000_0081, "star"],
  [0xc000_0082, "lstar"],
  [0xc000_0083, "cstar"],
  [0xc000_0084, "fmask"],
  [0xc000_0102, "kernelGsBase"],
] as const;
/** The area of XSAVE: [sdm1 §13.4]. */
const X = {
  FCW: 0,
  FSW: 2,
  FTW: 4,
  FOP: 6,
  FIP: 8,
  FDP: 16,
  MXCSR: 24,
  ST: 32,
  XMM: 160,
  XSTATE_BV: 512,
  YMM: 576,
} as const;
const XSTATE_X87_SSE = 3, XSTATE_AVX = 4;
const UD = 6;
const SHADOW_IS_VALID = 4;

/** A structure of KVM's, written back only if it has changed. */
class Block {
  readonly bytes: Bytes;
  readonly dv: DataView;
  readonly #before: Bytes;

  constructor(private readonly name: string, private readonly get: number, private readonly set: number, size: number) {
    this.bytes = new Uint8Array(size);
    this.dv = new DataView(this.bytes.buffer);
    this.#before = new Uint8Array(size);
  }

  load(host: Host, fd: number): void {
    host.ioctlWith(`KVM_GET_${this.name}`, fd, this.get, this.bytes);
    this.#before.set(this.bytes);
  }

  store(host: Host, fd: number): void {
    if (this.bytes.every((byte, i) => byte === this.#before[i])) return;
    host.ioctlWith(`KVM_SET_${this.name}`, fd, this.set, this.bytes);
  }
}

export class Stepper {
  #soft: SoftVcpu | null = null;
  readonly #regs = new Block("REGS", K.KVM_GET_REGS, K.KVM_SET_REGS, K.kvm_regs.SIZEOF);
  readonly #sregs = new Block("SREGS", K.KVM_GET_SREGS, K.KVM_SET_SREGS, K.kvm_sregs.SIZEOF);
  readonly #xsave = new Block("XSAVE", K.KVM_GET_XSAVE, K.KVM_SET_XSAVE, K.kvm_xsave.SIZEOF);
  readonly #xcrs = new Block("XCRS", K.KVM_GET_XCRS, K.KVM_SET_XCRS, K.kvm_xcrs.SIZEOF);
  readonly #debug = new Block("DEBUGREGS", K.KVM_GET_DEBUGREGS, K.KVM_SET_DEBUGREGS, K.kvm_debugregs.SIZEOF);
  readonly #events = new Block("VCPU_EVENTS", K.KVM_GET_VCPU_EVENTS, K.KVM_SET_VCPU_EVENTS, K.kvm_vcpu_events.SIZEOF);
  readonly #msrs = new Block(
    "MSRS",
    K.KVM_GET_MSRS,
    K.KVM_SET_MSRS,
    K.kvm_msrs.SIZEOF + MSRS.length * K.kvm_msr_entry.SIZEOF,
  );

  constructor(private readonly host: Host, private readonly fd: number, private readonly parts: VcpuParts) {
    const { dv } = this.#msrs;
    dv.setUint32(K.kvm_msrs.nmsrs, MSRS.length, true);
    MSRS.forEach(([msr], i) => dv.setUint32(msrAt(i) + K.kvm_msr_entry.index, msr, true));
  }

  get #blocks(): readonly Block[] {
    return [this.#regs, this.#sregs, this.#xcrs, this.#xsave, this.#debug, this.#events, this.#msrs];
  }

  /**
   * Executes the instruction at the vCPU's instruction pointer, or delivers its exception. `vector`: it has a VEX or an EVEX
   * prefix, so that the software CPU's #UD says nothing of the processor's.
   */
  step(vector: boolean): StepResult {
    const v = this.#soft ??= new SoftVcpu(this.parts);
    for (const block of this.#blocks) block.load(this.host, this.fd);
    this.#load(v);
    const exceptions = v.get("exceptions");
    const status = v.step();
    if (vector && v.get("exceptions") !== exceptions && v.get("faultVector") === UD) return "unknown";
    if (status === STATUS.SHUTDOWN) return "shutdown";
    this.#store(v);
    for (const block of this.#blocks) block.store(this.host, this.fd);
    return status === STATUS.HALT ? "halt" : "done";
  }

  #load(v: SoftVcpu): void {
    const regs = this.#regs.dv, sregs = this.#sregs.dv, events = this.#events.dv;
    GPR_NAMES.forEach((name, n) => v.put64("gpr", regs.getBigUint64(K.kvm_regs[name], true), n));
    v.put64("rip", regs.getBigUint64(K.kvm_regs.rip, true));
    v.exports.setRflags(v.base, regs.getInt32(K.kvm_regs.rflags, true));
    for (const [name, n] of SEGMENTS) loadSegment(v, n, sregs, K.kvm_sregs[name]);
    v.put("cpl", sregs.getUint8(K.kvm_sregs.ss + K.kvm_segment.dpl));
    for (const table of ["gdt", "idt"] as const) {
      v.put64(`${table}rBase`, sregs.getBigUint64(K.kvm_sregs[table] + K.kvm_dtable.base, true));
      v.put(`${table}rLimit`, sregs.getUint16(K.kvm_sregs[table] + K.kvm_dtable.limit, true));
    }
    for (const name of CONTROLS) v.put64(name, sregs.getBigUint64(K.kvm_sregs[name], true));
    v.put64("xcr0", this.#xcrs.dv.getBigUint64(K.kvm_xcrs.xcrs + K.kvm_xcr.value, true));
    DEBUG.forEach(([n, at]) => v.put64("dr", this.#debug.dv.getBigUint64(at, true), n));
    MSRS.forEach(([, name], i) => v.put64(name, this.#msrs.dv.getBigUint64(msrAt(i) + K.kvm_msr_entry.data, true)));
    v.put("inhibit", events.getUint8(K.kvm_vcpu_events.interrupt_shadow) !== 0 ? 1 : 0);
    this.#loadVectors(v);
    v.exports.updateMode(v.base);
    v.exports.updateBreakpoints(v.base);
    v.exports.flushTlb(v.base);
  }

  #store(v: SoftVcpu): void {
    const regs = this.#regs.dv, sregs = this.#sregs.dv, events = this.#events.dv;
    GPR_NAMES.forEach((name, n) => regs.setBigUint64(K.kvm_regs[name], v.get64("gpr", n), true));
    regs.setBigUint64(K.kvm_regs.rip, v.get64("rip"), true);
    regs.setUint32(K.kvm_regs.rflags, v.exports.rflags(v.base), true);
    for (const [name, n] of SEGMENTS) storeSegment(v, n, sregs, K.kvm_sregs[name]);
    for (const table of ["gdt", "idt"] as const) {
      sregs.setBigUint64(K.kvm_sregs[table] + K.kvm_dtable.base, v.get64(`${table}rBase`), true);
      sregs.setUint16(K.kvm_sregs[table] + K.kvm_dtable.limit, v.get(`${table}rLimit`), true);
    }
    for (const name of CONTROLS) sregs.setBigUint64(K.kvm_sregs[name], v.get64(name), true);
    this.#xcrs.dv.setBigUint64(K.kvm_xcrs.xcrs + K.kvm_xcr.value, v.get64("xcr0"), true);
    DEBUG.forEach(([n, at]) => this.#debug.dv.setBigUint64(at, v.get64("dr", n), true));
    MSRS.forEach(([, name], i) => this.#msrs.dv.setBigUint64(msrAt(i) + K.kvm_msr_entry.data, v.get64(name), true));
    // What is pending stays; only the shadow of STI and MOV SS is ours to change.
    const shadow = v.get("inhibit") !== 0 ? 1 : 0;
    if (shadow !== (events.getUint8(K.kvm_vcpu_events.interrupt_shadow) !== 0 ? 1 : 0)) {
      events.setUint8(K.kvm_vcpu_events.interrupt_shadow, shadow);
      events.setUint32(K.kvm_vcpu_events.flags, SHADOW_IS_VALID, true);
    }
    this.#storeVectors(v);
  }

  /** The floating-point and vector registers, from the area of XSAVE in its standard form. */
  #loadVectors(v: SoftVcpu): void {
    const { dv, bytes } = this.#xsave, u8 = new Uint8Array(v.dv.buffer as ArrayBuffer);
    const fsw = dv.getUint16(X.FSW, true), top = (fsw >> 11) & 7, tags = dv.getUint8(X.FTW);
    v.dv.setUint16(v.base + S.fcw, dv.getUint16(X.FCW, true), true);
    v.dv.setUint16(v.base + S.fsw, fsw & ~0x3800, true);
    v.put("ftop", top);
    for (let n = 0; n < 8; n++) {
      u8[v.base + S.fempty + n] = (tags >> n) & 1 ? 0 : 1;
      const from = X.ST + 16 * ((n - top) & 7), to = v.base + S.fpr + 16 * n;
      u8.set(bytes.subarray(from, from + 10), to);
    }
    v.dv.setUint16(v.base + S.fop, dv.getUint16(X.FOP, true), true);
    v.put64("fip", dv.getBigUint64(X.FIP, true));
    v.put64("fdp", dv.getBigUint64(X.FDP, true));
    v.put("mxcsr", dv.getInt32(X.MXCSR, true));
    u8.set(bytes.subarray(X.XMM, X.XMM + 256), v.base + S.xmm);
    u8.set(bytes.subarray(X.YMM, X.YMM + 256), v.base + S.ymmHigh);
  }

  #storeVectors(v: SoftVcpu): void {
    const { dv, bytes } = this.#xsave, u8 = new Uint8Array(v.dv.buffer as ArrayBuffer);
    const before = bytes.slice(0, X.YMM + 256), top = v.get("ftop") & 7;
    let tags = 0;
    dv.setUint16(X.FCW, v.dv.getUint16(v.base + S.fcw, true), true);
    dv.setUint16(X.FSW, (v.dv.getUint16(v.base + S.fsw, true) & ~0x3800) | (top << 11), true);
    for (let n = 0; n < 8; n++) {
      if (u8[v.base + S.fempty + n] === 0) tags |= 1 << n;
      const from = v.base + S.fpr + 16 * n;
      bytes.set(u8.subarray(from, from + 10), X.ST + 16 * ((n - top) & 7));
    }
    dv.setUint8(X.FTW, tags);
    dv.setUint16(X.FOP, v.dv.getUint16(v.base + S.fop, true), true);
    dv.setBigUint64(X.FIP, v.get64("fip"), true);
    dv.setBigUint64(X.FDP, v.get64("fdp"), true);
    dv.setInt32(X.MXCSR, v.get("mxcsr"), true);
    bytes.set(u8.subarray(v.base + S.xmm, v.base + S.xmm + 256), X.XMM);
    const avx = (v.get("xcr0") & XSTATE_AVX) !== 0;
    if (avx) bytes.set(u8.subarray(v.base + S.ymmHigh, v.base + S.ymmHigh + 256), X.YMM);
    if (before.every((byte, i) => byte === bytes[i])) return;
    dv.setUint32(X.XSTATE_BV, dv.getUint32(X.XSTATE_BV, true) | XSTATE_X87_SSE | (avx ? XSTATE_AVX : 0), true);
  }
}

const DEBUG: readonly (readonly [n: number, at: number])[] = [
  [0, K.kvm_debugregs.db],
  [1, K.kvm_debugregs.db + 8],
  [2, K.kvm_debugregs.db + 16],
  [3, K.kvm_debugregs.db + 24],
  [6, K.kvm_debugregs.dr6],
  [7, K.kvm_debugregs.dr7],
];

function msrAt(i: number): number {
  return K.kvm_msrs.entries + i * K.kvm_msr_entry.SIZEOF;
}

function loadSegment(v: SoftVcpu, n: number, dv: DataView, at: number): void {
  let rights = 0;
  for (const [shift, mask, field] of RIGHTS) rights |= (dv.getUint8(at + field) & mask) << shift;
  v.put("segSelector", dv.getUint16(at + K.kvm_segment.selector, true), n);
  v.put("segRights", rights, n);
  v.put("segLimit", dv.getInt32(at + K.kvm_segment.limit, true), n);
  v.put64("segBase", dv.getBigUint64(at + K.kvm_segment.base, true), n);
}

function storeSegment(v: SoftVcpu, n: number, dv: DataView, at: number): void {
  const rights = v.get("segRights", n);
  for (const [shift, mask, field] of RIGHTS) dv.setUint8(at + field, (rights >> shift) & mask);
  dv.setUint16(at + K.kvm_segment.selector, v.get("segSelector", n), true);
  dv.setInt32(at + K.kvm_segment.limit, v.get("segLimit", n), true);
  dv.setBigUint64(at + K.kvm_segment.base, v.get64("segBase", n), true);
}
