/**
 * A vCPU's registers through Hypervisor.framework: reset and start-up values, what a loader asks for, and the control registers
 * with the bits of them that are not the guest's.
 *
 * Bits of CR0 and CR4 that the engine owns read as the guest last wrote them (the shadow) and exit when it changes them:
 * [sdm3 §25.6.6]. Paging is switched on by the engine, which then keeps EFER.LMA, the entry's mode and the PDPTEs right.
 */
import { hv_x86_reg_t as R } from "../../../ffi/hypervisor_x86_64.ts";
import { VMCS, VMENTRY } from "../../../ffi/vmx.ts";
import type { GuestRam } from "../../base/ram.ts";
import { CR0, CR4, CS, DS, EFER, ES, FS, GS, LDTR, SS, TR } from "../../cpu/x86/state.ts";
import { GPR_NAMES, type GprName, type InitialState, type SegmentState } from "../engine.ts";
import { XSAVE } from "../vcpu_state.ts";
import type { FixedBits } from "./controls.ts";
import type { GuestCpuid } from "./cpuid.ts";
import { areaBytes, type VcpuHandle } from "./handle.ts";
import { NATIVE_MSRS } from "./msrs.ts";
import { MSR } from "../../cpu/x86/system/msr.ts";

/** The framework's numbers of general registers, by number as instructions have them. */
export const GPR_REGISTERS: readonly number[] = [
  R.HV_X86_RAX,
  R.HV_X86_RCX,
  R.HV_X86_RDX,
  R.HV_X86_RBX,
  R.HV_X86_RSP,
  R.HV_X86_RBP,
  R.HV_X86_RSI,
  R.HV_X86_RDI,
  ...Array.from({ length: 8 }, (_, i) => R.HV_X86_R8 + i),
];
/** Debug registers, by number: 4 and 5 are no registers, 7 is a field of the VMCS. */
export const DR_REGISTERS = [
  [0, R.HV_X86_DR0],
  [1, R.HV_X86_DR1],
  [2, R.HV_X86_DR2],
  [3, R.HV_X86_DR3],
  [6, R.HV_X86_DR6],
] as const;

/** Fields of segment `n`, as the software CPU counts them. */
export const SEGMENT = {
  selector: (n: number): number => VMCS.GUEST_ES + 2 * n,
  limit: (n: number): number => VMCS.GUEST_ES_LIMIT + 2 * n,
  rights: (n: number): number => VMCS.GUEST_ES_AR + 2 * n,
  base: (n: number): number => VMCS.GUEST_ES_BASE + 2 * n,
} as const;
const SEGMENT_NUMBERS = { es: ES, cs: CS, ss: SS, ds: DS, fs: FS, gs: GS, ldtr: LDTR, tr: TR } as const;
const PRESENT = 1 << 7, UNUSABLE = 1 << 16;
/** Present, writable, accessed data; code; busy 32-bit TSS, which is also the 64-bit one; LDT. */
const DATA = 0x93, CODE = 0x9b, TSS_BUSY = 0x8b, LDT = 0x82;

const CR0_RESET = CR0.CD | CR0.NW | CR0.ET, CR0_CACHES = CR0.CD | CR0.NW;
const DR6_RESET = 0xffff_0ff0, DR7_RESET = 0x400;
/** In the legacy region of the XSAVE area, and their values after a reset: [sdm3 table 10-1]. */
const FCW = 0, FTW = 4, FCW_RESET = 0x40, ALL_FULL = 0xff, MXCSR_RESET = 0x1f80, X87_SSE = 3;

export class HvfRegisters {
  /** Bits of CR0 and CR4 that the engine owns. */
  readonly #cr0Mask: number;
  readonly #cr4Mask: number;
  /** VM-entry controls as they were last written. */
  #entry: number;

  constructor(
    private readonly handle: VcpuHandle,
    private readonly ram: GuestRam,
    private readonly cpuid: GuestCpuid,
    private readonly fixed: { readonly cr0: FixedBits; readonly cr4: FixedBits },
    entryControls: number,
  ) {
    this.#entry = entryControls;
    this.#cr0Mask = (CR0.PG | CR0_CACHES | CR0.NE | CR0.ET | fixed.cr0.ones) >>> 0;
    this.#cr4Mask = (~(cpuid.cr4 & fixed.cr4.maybe) | fixed.cr4.ones) >>> 0;
    handle.setVmcs(VMCS.CTRL_CR0_MASK, this.#cr0Mask);
    handle.setVmcs(VMCS.CTRL_CR4_MASK, this.#cr4Mask);
  }

  /** As the guest sees it. */
  get cr0(): number {
    return this.#merge(VMCS.GUEST_CR0, VMCS.CTRL_CR0_SHADOW, this.#cr0Mask);
  }
  set cr0(value: number) {
    const { ones, maybe } = this.fixed.cr0;
    this.handle.setVmcs(VMCS.GUEST_CR0, (((value & ~CR0_CACHES) | CR0.ET | ones) & maybe) >>> 0);
    this.handle.setVmcs(VMCS.CTRL_CR0_SHADOW, value >>> 0);
  }

  get cr4(): number {
    return this.#merge(VMCS.GUEST_CR4, VMCS.CTRL_CR4_SHADOW, this.#cr4Mask);
  }
  set cr4(value: number) {
    const { ones, maybe } = this.fixed.cr4;
    this.handle.setVmcs(VMCS.GUEST_CR4, ((value | ones) & maybe) >>> 0);
    this.handle.setVmcs(VMCS.CTRL_CR4_SHADOW, value >>> 0);
  }

  /** Whether the guest may write a low half of CR4. */
  takesCr4(lo: number): boolean {
    return (lo & ~(this.cpuid.cr4 & this.fixed.cr4.maybe)) === 0;
  }

  #merge(field: number, shadow: number, mask: number): number {
    const real = this.handle.vmcs(field);
    return ((real & ~mask) | (this.handle.vmcs(shadow) & mask)) >>> 0;
  }

  get efer(): number {
    return this.handle.vmcs(VMCS.GUEST_IA32_EFER);
  }
  /** The entry's mode goes with LMA. */
  set efer(value: number) {
    this.handle.setVmcs(VMCS.GUEST_IA32_EFER, value >>> 0);
    const entry = value & EFER.LMA ? this.#entry | VMENTRY.GUEST_IA32E : this.#entry & ~VMENTRY.GUEST_IA32E;
    if (entry === this.#entry) return;
    this.#entry = entry;
    this.handle.setVmcs(VMCS.CTRL_VMENTRY_CONTROLS, entry >>> 0);
  }

  /** WRMSR of IA32_EFER: false if the value is refused. LMA ignores writes: [sdm4 table 2-2]. */
  writeEfer(lo: number, hi: number): boolean {
    const flags = EFER.SCE | EFER.LME | EFER.LMA | (this.cpuid.noExecute ? EFER.NXE : 0);
    if (hi !== 0 || (lo & ~flags) !== 0) return false;
    const old = this.efer;
    if (((lo ^ old) & EFER.LME) !== 0 && (this.cr0 & CR0.PG) !== 0) return false;
    this.efer = (lo & ~EFER.LMA) | (old & EFER.LMA);
    return true;
  }

  /** After a change of CR0, CR3, CR4 or EFER from outside: what the processor would have done by itself. */
  pagingChanged(): void {
    if ((this.cr0 & CR0.PG) !== 0 && (this.cr4 & CR4.PAE) !== 0 && (this.efer & EFER.LMA) === 0) this.#loadPdptes();
    this.handle.invalidateTlb();
  }

  /** Whoever set CR3 has checked the entries; what is outside of RAM is not present. */
  #loadPdptes(): void {
    const table = (this.handle.vmcs(VMCS.GUEST_CR3) & ~31) >>> 0;
    for (let i = 0; i < 4; i++) {
      const inside = this.ram.contains(table + 8 * i, 8);
      const lo = inside ? this.ram.read(table + 8 * i, 4) : 0, hi = inside ? this.ram.read(table + 8 * i + 4, 4) : 0;
      this.handle.setVmcs(VMCS.GUEST_PDPTE0 + 2 * i, lo, hi);
    }
  }

  /** All of it: [sdm3 table 10-1]. */
  reset(): void {
    const h = this.handle;
    const area = areaBytes(), dv = new DataView(area.buffer);
    dv.setUint16(FCW, FCW_RESET, true);
    dv.setUint8(FTW, ALL_FULL);
    dv.setUint32(XSAVE.MXCSR, MXCSR_RESET, true);
    dv.setUint8(XSAVE.XSTATE_BV, X87_SSE);
    h.setRegister(R.HV_X86_XCR0, 1);
    h.writeArea(area);
    for (const msr of NATIVE_MSRS) if (msr !== MSR.FS_BASE && msr !== MSR.GS_BASE) this.#resetMsr(msr);
    this.#resetCore(CR0_RESET);
  }

  #resetMsr(msr: number): void {
    switch (msr) {
      case MSR.SYSENTER_CS:
        return this.handle.setVmcs(VMCS.GUEST_IA32_SYSENTER_CS, 0);
      case MSR.SYSENTER_ESP:
        return this.handle.setVmcs(VMCS.GUEST_SYSENTER_ESP, 0);
      case MSR.SYSENTER_EIP:
        return this.handle.setVmcs(VMCS.GUEST_SYSENTER_EIP, 0);
      default:
        return this.handle.setMsr(msr, 0);
    }
  }

  /** INIT: the caches' switches in CR0, the floating-point registers and the MSRs stay: [sdm3 §10.4, table 10-1]. */
  initialize(): void {
    this.#resetCore((this.cr0 & CR0_CACHES) | CR0.ET);
  }

  #resetCore(cr0: number): void {
    const h = this.handle;
    for (const register of GPR_REGISTERS) h.setRegister(register, 0);
    h.setRegister(R.HV_X86_RDX, this.cpuid.signature);
    for (const n of [ES, SS, DS, FS, GS]) this.#segment(n, { selector: 0, base: 0, limit: 0xffff, rights: DATA });
    this.#segment(CS, { selector: 0xf000, base: 0xffff_0000, limit: 0xffff, rights: CODE });
    this.#segment(LDTR, { selector: 0, base: 0, limit: 0xffff, rights: LDT });
    this.#segment(TR, { selector: 0, base: 0, limit: 0xffff, rights: TSS_BUSY });
    for (const field of [VMCS.GUEST_GDTR_LIMIT, VMCS.GUEST_IDTR_LIMIT]) h.setVmcs(field, 0xffff);
    for (const field of [VMCS.GUEST_GDTR_BASE, VMCS.GUEST_IDTR_BASE, VMCS.GUEST_CR3]) h.setVmcs(field, 0);
    h.setVmcs(VMCS.GUEST_RIP, 0xfff0);
    h.setVmcs(VMCS.GUEST_RFLAGS, 2);
    h.setRegister(R.HV_X86_CR2, 0);
    for (const [n, register] of DR_REGISTERS) h.setRegister(register, n === 6 ? DR6_RESET : 0);
    h.setVmcs(VMCS.GUEST_DR7, DR7_RESET);
    h.setVmcs(VMCS.GUEST_INTERRUPTIBILITY, 0);
    // No known hypervisor writes these two, which are 0 at an exit but for a guest that is single-stepped.
    for (const field of [VMCS.GUEST_ACTIVITY_STATE, VMCS.GUEST_DEBUG_EXC]) h.trySetVmcs(field, 0);
    h.setVmcs(VMCS.CTRL_VMENTRY_IRQ_INFO, 0);
    this.cr0 = cr0;
    this.cr4 = 0;
    this.efer = 0;
    h.invalidateTlb();
  }

  /** A start-up IPI: real mode at `vector` × 4 KiB: [sdm3 §10.4.4]. */
  start(vector: number): void {
    this.#segment(CS, { selector: vector << 8, base: vector << 12, limit: 0xffff, rights: CODE });
    this.handle.setVmcs(VMCS.GUEST_RIP, 0);
  }

  set(state: InitialState): void {
    const h = this.handle;
    for (const [name, segment] of Object.entries(state.segments)) {
      this.#segment(SEGMENT_NUMBERS[name as keyof typeof SEGMENT_NUMBERS], segment);
    }
    this.#put(VMCS.GUEST_GDTR_BASE, state.gdtr.base);
    this.#put(VMCS.GUEST_IDTR_BASE, state.idtr.base);
    h.setVmcs(VMCS.GUEST_GDTR_LIMIT, state.gdtr.limit);
    h.setVmcs(VMCS.GUEST_IDTR_LIMIT, state.idtr.limit);
    for (const [name, value] of Object.entries(state.gpr)) {
      const register = GPR_REGISTERS[GPR_NAMES.indexOf(name as GprName)]!;
      h.setRegister(register, value % 0x1_0000_0000, Math.floor(value / 0x1_0000_0000));
    }
    this.#put(VMCS.GUEST_RIP, state.rip);
    h.setVmcs(VMCS.GUEST_RFLAGS, state.rflags | 2);
    this.#put(VMCS.GUEST_CR3, state.cr3);
    this.cr0 = state.cr0;
    this.cr4 = state.cr4;
    this.efer = state.efer;
    this.pagingChanged();
  }

  #put(field: number, value: number): void {
    this.handle.setVmcs(field, value % 0x1_0000_0000, Math.floor(value / 0x1_0000_0000));
  }

  #segment(n: number, { selector, base, limit, rights }: SegmentState): void {
    this.handle.setVmcs(SEGMENT.selector(n), selector);
    this.#put(SEGMENT.base(n), base);
    this.handle.setVmcs(SEGMENT.limit(n), limit);
    this.handle.setVmcs(SEGMENT.rights(n), rights & PRESENT ? rights : rights | UNUSABLE);
  }

  describe(): string {
    const h = this.handle;
    const word = (n: number) => (n >>> 0).toString(16).padStart(8, "0");
    const field = (id: number) => {
      const lo = h.vmcs(id);
      return word(h.hi) + word(lo);
    };
    const register = (id: number) => {
      const lo = h.register(id);
      return word(h.hi) + word(lo);
    };
    const cpl = (h.vmcs(SEGMENT.rights(SS)) >> 5) & 3;
    const lines = [`rip ${field(VMCS.GUEST_RIP)}, cpl ${cpl}, cr2 ${register(R.HV_X86_CR2)}`];
    for (let i = 0; i < 16; i += 4) {
      const names = GPR_NAMES.slice(i, i + 4);
      lines.push(names.map((name, k) => `${name.padStart(3)} ${register(GPR_REGISTERS[i + k]!)}`).join("  "));
    }
    lines.push(`rflags ${word(h.vmcs(VMCS.GUEST_RFLAGS))}  cs ${h.vmcs(SEGMENT.selector(CS)).toString(16)}`);
    lines.push(`cr0 ${word(this.cr0)}  cr3 ${field(VMCS.GUEST_CR3)}  cr4 ${word(this.cr4)}  efer ${word(this.efer)}`);
    return lines.join("\n");
  }
}
