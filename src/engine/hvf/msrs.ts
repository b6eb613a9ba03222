/**
 * Model-specific registers under Hypervisor.framework: which ones the guest reaches without an exit, and what the others are.
 *
 * Those of system calls, segment bases and, where the host has them, of speculation are the processor's; EFER goes with the
 * control registers, the time-stamp counter with time; the rest are emulated (MsrFile), the local APIC's by the board.
 */
import { hv_vmx_msr_info_t } from "../../../ffi/hypervisor_x86_64.ts";
import { VMCS } from "../../../ffi/vmx.ts";
import { HostError } from "../../base/errors.ts";
import { MSR, MsrFile } from "../../cpu/x86/system/msr.ts";
import type { Board, VcpuParts } from "../engine.ts";
import type { VcpuHandle } from "./handle.ts";
import { type Hypervisor, SUCCESS } from "./library.ts";
import type { GuestTsc } from "./time.ts";

/** Without these there is no guest. */
export const NATIVE_MSRS: readonly number[] = [
  MSR.STAR,
  MSR.LSTAR,
  MSR.CSTAR,
  MSR.FMASK,
  MSR.FS_BASE,
  MSR.GS_BASE,
  MSR.KERNEL_GS_BASE,
  MSR.SYSENTER_CS,
  MSR.SYSENTER_ESP,
  MSR.SYSENTER_EIP,
];
/** With RDTSCP; of speculation. */
const SPECULATION_MSRS: readonly number[] = [MSR.SPEC_CTRL, MSR.PRED_CMD];
/** IBRS, STIBP or SSBD, in EDX of leaf 7. */
const SPECULATION = (1 << 26) | (1 << 27) | (1 << 31);

/** What of a vCPU's MSRs the host has agreed to. */
export interface MsrPolicy {
  readonly tscAux: boolean;
  readonly speculation: boolean;
  /** IA32_ARCH_CAPABILITIES as the host shows it to guests, or null. */
  readonly archCapabilities: bigint | null;
}

/** Asks the framework for native MSRs. `edx7`: the host's, of leaf 7; `rdtscp`: the guest may use it. */
export function agreeOnMsrs(handle: VcpuHandle, edx7: number, rdtscp: boolean): MsrPolicy {
  for (const msr of NATIVE_MSRS) {
    if (!handle.enableNativeMsr(msr)) {
      throw new HostError(`hv_vcpu_enable_native_msr failed: expected MSR 0x${msr.toString(16)} to be the guest's own`);
    }
  }
  return {
    tscAux: rdtscp && handle.enableNativeMsr(MSR.TSC_AUX),
    speculation: (edx7 & SPECULATION) !== 0 && SPECULATION_MSRS.every((msr) => handle.enableNativeMsr(msr)),
    archCapabilities: edx7 & (1 << 29) ? archCapabilities(handle.hv) : null,
  };
}

function archCapabilities(hv: Hypervisor): bigint | null {
  const out = new BigUint64Array(1);
  const { HV_VMX_INFO_MSR_IA32_ARCH_CAPABILITIES } = hv_vmx_msr_info_t;
  const code = hv.hv_vmx_get_msr_info(BigInt(HV_VMX_INFO_MSR_IA32_ARCH_CAPABILITIES), new Uint8Array(out.buffer));
  return code === SUCCESS ? out[0]! : null;
}

const CANONICAL: readonly number[] = [
  MSR.LSTAR,
  MSR.CSTAR,
  MSR.FS_BASE,
  MSR.GS_BASE,
  MSR.KERNEL_GS_BASE,
  MSR.SYSENTER_ESP,
  MSR.SYSENTER_EIP,
];
/** Segment bases and those of SYSENTER are fields of the VMCS. */
const VMCS_MSRS = new Map<number, number>([
  [MSR.FS_BASE, VMCS.GUEST_FS_BASE],
  [MSR.GS_BASE, VMCS.GUEST_GS_BASE],
  [MSR.SYSENTER_CS, VMCS.GUEST_IA32_SYSENTER_CS],
  [MSR.SYSENTER_ESP, VMCS.GUEST_SYSENTER_ESP],
  [MSR.SYSENTER_EIP, VMCS.GUEST_SYSENTER_EIP],
]);

export const PAT_RESET = [0x0007_0406, 0x0007_0406] as const;
/** The rate of guest time in kHz. */
const GUEST_KHZ = 1_000_000;

/** Whether the upper 17 bits are equal: 48-bit linear addresses. */
export function isCanonical(hi: number): boolean {
  const top = hi >> 15;
  return top === 0 || top === -1;
}

/** Memory types that a byte of the PAT may hold: [sdm3 §12.12.4]. */
function arePatTypes(word: number): boolean {
  for (let shift = 0; shift < 32; shift += 8) {
    const type = (word >>> shift) & 0xff;
    if (type > 7 || type === 2 || type === 3) return false;
  }
  return true;
}

export interface HvfMsrParts {
  readonly handle: VcpuHandle;
  readonly parts: Pick<VcpuParts, "board" | "clock" | "index">;
  readonly policy: MsrPolicy;
  readonly tsc: GuestTsc;
  /** IA32_EFER: false if the value is refused. */
  readonly efer: { read(): number; write(lo: number, hi: number): boolean };
}

/** The MSRs whose accesses exit. Answers in `lo` and `hi`. */
export class HvfMsrs {
  lo = 0;
  hi = 0;
  readonly file: MsrFile;
  readonly #p: HvfMsrParts;
  readonly #board: Board;
  readonly pat = new Uint32Array(2);

  constructor(p: HvfMsrParts) {
    this.#p = p;
    this.#board = p.parts.board;
    this.file = new MsrFile(p.parts.board, p.parts.index);
    this.reset();
  }

  reset(): void {
    this.file.reset();
    this.pat.set(PAT_RESET);
  }

  /** Whether an MSR is the processor's and not kept here. */
  isNative(msr: number): boolean {
    const { policy } = this.#p;
    if (msr === MSR.TSC_AUX) return policy.tscAux;
    if (SPECULATION_MSRS.includes(msr)) return policy.speculation;
    return NATIVE_MSRS.includes(msr);
  }

  /** Whether a native MSR, or the PAT, takes a value. */
  takes(msr: number, lo: number, hi: number): boolean {
    if (msr === MSR.PAT) return arePatTypes(lo) && arePatTypes(hi);
    if (CANONICAL.includes(msr)) return isCanonical(hi | 0);
    return (msr !== MSR.TSC_AUX && msr !== MSR.FMASK && msr !== MSR.SYSENTER_CS) || hi === 0;
  }

  /** False: there is no such register. */
  read(msr: number): boolean {
    msr >>>= 0;
    const { handle, policy, tsc, efer } = this.#p;
    switch (msr) {
      case MSR.EFER:
        return this.#answer(efer.read(), 0);
      case MSR.PAT:
        return this.#answer(this.pat[0]!, this.pat[1]!);
      case MSR.TSC:
        return this.#answer64(tsc.ticks);
      case MSR.TSC_DEADLINE:
        return this.#readDeadline();
      case MSR.ARCH_CAPABILITIES:
        return policy.archCapabilities !== null && this.#answer64(policy.archCapabilities);
    }
    if (this.isNative(msr)) {
      const field = VMCS_MSRS.get(msr);
      const lo = field === undefined ? handle.msr(msr) : handle.vmcs(field);
      return this.#answer(lo, handle.hi);
    }
    if (SPECULATION_MSRS.includes(msr) || !this.file.read(msr)) return false;
    return this.#answer(this.file.lo, this.file.hi);
  }

  /** False: there is no such register, or it does not take this value. */
  write(msr: number, lo: number, hi: number): boolean {
    msr >>>= 0, lo >>>= 0, hi >>>= 0;
    const { handle, tsc, efer } = this.#p;
    switch (msr) {
      case MSR.EFER:
        return efer.write(lo, hi);
      case MSR.PAT:
        if (!this.takes(msr, lo, hi)) return false;
        this.pat[0] = lo;
        this.pat[1] = hi;
        return true;
      case MSR.TSC:
        tsc.ticks = (BigInt(hi) << 32n) | BigInt(lo);
        return true;
      case MSR.TSC_DEADLINE:
        return this.#setDeadline((BigInt(hi) << 32n) | BigInt(lo));
    }
    if (this.isNative(msr)) {
      if (!this.takes(msr, lo, hi)) return false;
      const field = VMCS_MSRS.get(msr);
      if (field === undefined) handle.setMsr(msr, lo, hi);
      else handle.setVmcs(field, lo, hi);
      return true;
    }
    return !SPECULATION_MSRS.includes(msr) && this.file.write(msr, lo, hi);
  }

  /** The guest counts by its time-stamp counter, the board by guest time: they meet at this moment. 0 is no deadline to both. */
  #setDeadline(ticks: bigint): boolean {
    const { parts: { clock, index }, tsc } = this.#p;
    let ns = 0;
    if (ticks !== 0n) {
      const ahead = Number(BigInt.asIntN(64, ticks - tsc.ticks));
      ns = Math.max(1, Math.ceil(clock.nowNs() + ahead * GUEST_KHZ / tsc.khz));
      ns = Math.min(ns, Number.MAX_SAFE_INTEGER);
    }
    return this.#board.writeMsr(index, MSR.TSC_DEADLINE, ns >>> 0, Math.floor(ns / 0x1_0000_0000));
  }

  #readDeadline(): boolean {
    const { parts: { clock, index }, tsc } = this.#p, board = this.#board;
    if (!board.readMsr(index, MSR.TSC_DEADLINE)) return false;
    const ns = board.msrLo + board.msrHi * 0x1_0000_0000;
    if (ns === 0) return this.#answer(0, 0);
    const ahead = BigInt(Math.floor((ns - clock.nowNs()) * tsc.khz / GUEST_KHZ));
    return this.#answer64(BigInt.asUintN(64, tsc.ticks + ahead));
  }

  #answer(lo: number, hi: number): true {
    this.lo = lo >>> 0;
    this.hi = hi >>> 0;
    return true;
  }
  #answer64(value: bigint): true {
    return this.#answer(Number(value & 0xffff_ffffn), Number(value >> 32n));
  }
}
