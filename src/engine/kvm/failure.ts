/** What is wrong when KVM cannot run the guest on, and the bytes that it could not emulate. */
import * as K from "../../../ffi/kvm.ts";

/** In a sentence; `where` tells the instruction pointer. */
export function complaint(run: DataView, reason: number, where: string): string {
  switch (reason) {
    case K.KVM_EXIT.FAIL_ENTRY: {
      const why = run.getBigUint64(K.kvm_run.fail_entry_hardware_entry_failure_reason, true);
      return `The processor refused to enter the guest ${where}: hardware reason 0x${why.toString(16)}`;
    }
    case K.KVM_EXIT.INTERNAL_ERROR: {
      const suberror = run.getUint32(K.kvm_run.internal_suberror, true);
      if (suberror !== K.KVM_INTERNAL_ERROR_EMULATION) return `KVM gave up ${where}: internal error ${suberror}`;
      const bytes = failedBytes(run).map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
      return `KVM cannot emulate the instruction ${where}${bytes === "" ? "" : `: ${bytes}`}`;
    }
    default:
      return `KVM left the guest ${where} for a reason that is not known: ${reason}`;
  }
}

/** The bytes from the instruction on that KVM could not emulate, as many as it tells. */
function failedBytes(run: DataView): number[] {
  if (run.getUint32(K.kvm_run.internal_ndata, true) < 3) return [];
  const flags = run.getBigUint64(K.kvm_run.emulation_failure_flags, true);
  if (!(flags & BigInt(K.KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES))) return [];
  const size = Math.min(15, run.getUint8(K.kvm_run.emulation_failure_insn_size));
  return Array.from({ length: size }, (_, i) => run.getUint8(K.kvm_run.emulation_failure_insn_bytes + i));
}

const LEGACY_PREFIXES = [0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3];
const VECTOR_PREFIXES = [0x62, 0xc4, 0xc5];

/** Whether the instruction that KVM could not emulate has a VEX or an EVEX prefix. */
export function failedAtVector(run: DataView): boolean {
  return VECTOR_PREFIXES.includes(failedBytes(run).find((byte) => !LEGACY_PREFIXES.includes(byte)) ?? 0);
}
