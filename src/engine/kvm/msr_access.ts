/** One MSR at a time of a vCPU, from any thread while the vCPU does not run. */
import * as K from "../../../ffi/kvm.ts";
import type { Host } from "./host.ts";

/** Where a guest wants KVM's clock, and that it runs (bit 0). */
export const MSR_KVM_SYSTEM_TIME_NEW = 0x4b56_4d01;
export const IA32_TSC = 0x10, IA32_TSC_ADJUST = 0x3b, IA32_TSC_DEADLINE = 0x6e0;

export class MsrAccess {
  readonly #bytes = new Uint8Array(K.kvm_msrs.SIZEOF + K.kvm_msr_entry.SIZEOF);
  readonly #dv = new DataView(this.#bytes.buffer);

  constructor(private readonly host: Host, private readonly fd: number) {
    this.#dv.setUint32(K.kvm_msrs.nmsrs, 1, true);
  }

  /** Null if there is no such register. */
  read(msr: number): bigint | null {
    this.#dv.setUint32(K.kvm_msrs.entries + K.kvm_msr_entry.index, msr, true);
    if (this.host.tryIoctlWith(this.fd, K.KVM_GET_MSRS, this.#bytes) !== 1) return null;
    return this.#dv.getBigUint64(K.kvm_msrs.entries + K.kvm_msr_entry.data, true);
  }

  /** False if it was refused. */
  write(msr: number, value: bigint): boolean {
    this.#dv.setUint32(K.kvm_msrs.entries + K.kvm_msr_entry.index, msr, true);
    this.#dv.setBigUint64(K.kvm_msrs.entries + K.kvm_msr_entry.data, BigInt.asUintN(64, value), true);
    return this.host.tryIoctlWith(this.fd, K.KVM_SET_MSRS, this.#bytes) === 1;
  }
}
