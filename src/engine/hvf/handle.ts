/**
 * One vCPU of the framework's: its registers, VMCS fields and MSRs, 64 bits as two words. Only for the thread that made it.
 *
 * What is read goes through one buffer that lives as long as the vCPU; nothing is allocated but the bigint that carries a value
 * of 64 bits into a call.
 */
import { hv_x86_reg_t } from "../../../ffi/hypervisor_x86_64.ts";
import { VMCS } from "../../../ffi/vmx.ts";
import { XSAVE } from "../vcpu_state.ts";
import { type Hypervisor, refusal, SUCCESS } from "./library.ts";

const WORD = 0x1_0000_0000;

/** Bytes for an XSAVE area, on a page's boundary as processors would have it. */
export function areaBytes(): Uint8Array<ArrayBuffer> {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1 });
  return new Uint8Array(memory.buffer as ArrayBuffer, 0, XSAVE.BYTES);
}

export class VcpuHandle {
  /** The high word of what was read last. */
  hi = 0;
  /** Components of the XSAVE area that the vCPU has: x87, SSE, AVX. */
  components = 3;
  readonly #out = new Uint8Array(8);
  readonly #words = new Uint32Array(this.#out.buffer);
  readonly #in = new BigUint64Array(1);
  readonly #inWords = new Uint32Array(this.#in.buffer);

  constructor(readonly hv: Hypervisor, readonly id: number) {}

  /** Makes a vCPU that belongs to the calling thread. */
  static create(hv: Hypervisor, options: number): VcpuHandle | number {
    const id = new Uint32Array(1);
    const code = hv.hv_vcpu_create(id, BigInt(options));
    return code === SUCCESS ? new VcpuHandle(hv, id[0]!) : code;
  }

  /** The low word; the high one is in `hi`. */
  vmcs(field: number): number {
    const code = this.hv.hv_vmx_vcpu_read_vmcs(this.id, field, this.#out);
    if (code !== SUCCESS) throw refusal(`hv_vmx_vcpu_read_vmcs (${fieldName(field)})`, code);
    this.hi = this.#words[1]!;
    return this.#words[0]!;
  }

  setVmcs(field: number, lo: number, hi = 0): void {
    const code = this.hv.hv_vmx_vcpu_write_vmcs(this.id, field, this.#value(lo, hi));
    if (code !== SUCCESS) throw refusal(`hv_vmx_vcpu_write_vmcs (${fieldName(field)})`, code);
  }

  /** The same for fields that a framework may keep to itself: false if it does. */
  trySetVmcs(field: number, lo: number): boolean {
    return this.hv.hv_vmx_vcpu_write_vmcs(this.id, field, this.#value(lo, 0)) === SUCCESS;
  }

  register(number: number): number {
    const code = this.hv.hv_vcpu_read_register(this.id, number, this.#out);
    if (code !== SUCCESS) throw refusal(`hv_vcpu_read_register (${number})`, code);
    this.hi = this.#words[1]!;
    return this.#words[0]!;
  }

  setRegister(number: number, lo: number, hi = 0): void {
    const code = this.hv.hv_vcpu_write_register(this.id, number, this.#value(lo, hi));
    if (code !== SUCCESS) throw refusal(`hv_vcpu_write_register (${number})`, code);
  }

  msr(msr: number): number {
    const code = this.hv.hv_vcpu_read_msr(this.id, msr, this.#out);
    if (code !== SUCCESS) throw refusal(`hv_vcpu_read_msr (0x${msr.toString(16)})`, code);
    this.hi = this.#words[1]!;
    return this.#words[0]!;
  }

  setMsr(msr: number, lo: number, hi = 0): void {
    const code = this.hv.hv_vcpu_write_msr(this.id, msr, this.#value(lo, hi));
    if (code !== SUCCESS) throw refusal(`hv_vcpu_write_msr (0x${msr.toString(16)})`, code);
  }

  /** Whether the guest may now use an MSR without an exit. */
  enableNativeMsr(msr: number): boolean {
    return this.hv.hv_vcpu_enable_native_msr(this.id, msr, true) === SUCCESS;
  }

  /**
   * The XSAVE area, in its standard format, with all components that the vCPU has: guests use the SSE registers without naming
   * them in XCR0, and the area is made and taken by XCR0.
   */
  readArea(bytes: Uint8Array<ArrayBuffer>): void {
    const own = this.#widen();
    const code = this.hv.hv_vcpu_read_fpstate(this.id, bytes, BigInt(bytes.length));
    this.#narrow(own);
    if (code !== SUCCESS) throw refusal("hv_vcpu_read_fpstate", code);
  }
  writeArea(bytes: Uint8Array<ArrayBuffer>): void {
    const own = this.#widen();
    const code = this.hv.hv_vcpu_write_fpstate(this.id, bytes, BigInt(bytes.length));
    this.#narrow(own);
    if (code !== SUCCESS) throw refusal("hv_vcpu_write_fpstate", code);
  }

  #widen(): number {
    const own = this.register(hv_x86_reg_t.HV_X86_XCR0);
    if (own !== this.components) this.setRegister(hv_x86_reg_t.HV_X86_XCR0, this.components);
    return own;
  }
  #narrow(own: number): void {
    if (own !== this.components) this.setRegister(hv_x86_reg_t.HV_X86_XCR0, own);
  }

  invalidateTlb(): void {
    const code = this.hv.hv_vcpu_invalidate_tlb(this.id);
    if (code !== SUCCESS) throw refusal("hv_vcpu_invalidate_tlb", code);
  }

  /** What of a control's bits the framework takes: those that must be 1 and those that may. Null if it does not tell. */
  writable(field: number): { must: number; may: number } | null {
    const zeros = new Uint8Array(8), ones = new Uint8Array(8);
    if (this.hv.hv_vmx_vcpu_get_cap_write_vmcs(this.id, field, zeros, ones) !== SUCCESS) return null;
    return { must: new Uint32Array(zeros.buffer)[0]!, may: new Uint32Array(ones.buffer)[0]! };
  }

  /** Nanoseconds that guest code has run; 0 if the framework does not tell. */
  get execNs(): number {
    if (this.hv.hv_vcpu_get_exec_time(this.id, this.#out) !== SUCCESS) return 0;
    return this.#words[0]! + this.#words[1]! * WORD;
  }

  destroy(): void {
    this.hv.hv_vcpu_destroy(this.id);
  }

  #value(lo: number, hi: number): bigint {
    this.#inWords[0] = lo;
    this.#inWords[1] = hi;
    return this.#in[0]!;
  }
}

function fieldName(field: number): string {
  return Object.entries(VMCS).find(([, value]) => value === field)?.[0] ?? `0x${field.toString(16)}`;
}
