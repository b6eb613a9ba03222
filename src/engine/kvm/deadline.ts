/**
 * Whether a guest's writes of IA32_TSC_DEADLINE come to us: a guest of three instructions tries.
 *
 * Some versions of KVM have a short way for this register that asks no filter, and without KVM's own local APIC the write is
 * then lost. A guest that is told of no deadline timer uses the other modes of the APIC's timer.
 */
import * as K from "../../../ffi/kvm.ts";
import { MAP_FAILED, MAP_SHARED, PROT_READ, PROT_WRITE } from "../../../ffi/libc.ts";
import { type CpuidEntry, writeCpuid } from "./cpuid.ts";
import type { Bytes } from "./host.ts";
import { type Kvm, LOCAL_APIC_MSRS, passMsrs, setMemory } from "./vm.ts";

const PAGE_BYTES = 4096;
/** In real mode: mov ecx, 6E0h; wrmsr; hlt */
const PROGRAM = [0x66, 0xb9, 0xe0, 0x06, 0, 0, 0x0f, 0x30, 0xf4];

let known: boolean | undefined;

/** `cpuid` is what the guest is to be told, the deadline timer among it. */
export function deadlineReachesUs(kvm: Kvm, cpuid: readonly CpuidEntry[]): boolean {
  return known ??= attempt(kvm, cpuid);
}

function attempt(kvm: Kvm, cpuid: readonly CpuidEntry[]): boolean {
  const { host } = kvm;
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1 });
  const page = new Uint8Array(memory.buffer as ArrayBuffer, 0, PAGE_BYTES);
  page.set(PROGRAM);
  const vm = host.ioctl("KVM_CREATE_VM", kvm.fd, K.KVM_CREATE_VM);
  let vcpu = -1;
  try {
    kvm.prepare(vm);
    passMsrs(host, vm, LOCAL_APIC_MSRS);
    setMemory(host, vm, page);
    vcpu = host.ioctl("KVM_CREATE_VCPU", vm, K.KVM_CREATE_VCPU);
    host.ioctlWith("KVM_SET_CPUID2", vcpu, K.KVM_SET_CPUID2, writeCpuid(cpuid));
    const sregs: Bytes = new Uint8Array(K.kvm_sregs.SIZEOF), regs: Bytes = new Uint8Array(K.kvm_regs.SIZEOF);
    host.ioctlWith("KVM_GET_SREGS", vcpu, K.KVM_GET_SREGS, sregs);
    const cs = new DataView(sregs.buffer, K.kvm_sregs.cs);
    cs.setBigUint64(K.kvm_segment.base, 0n, true);
    cs.setUint16(K.kvm_segment.selector, 0, true);
    host.ioctlWith("KVM_SET_SREGS", vcpu, K.KVM_SET_SREGS, sregs);
    new DataView(regs.buffer).setBigUint64(K.kvm_regs.rax, 1n, true);
    new DataView(regs.buffer).setBigUint64(K.kvm_regs.rflags, 2n, true);
    host.ioctlWith("KVM_SET_REGS", vcpu, K.KVM_SET_REGS, regs);
    return runTo(kvm, vcpu) === K.KVM_EXIT.X86_WRMSR;
  } finally {
    if (vcpu >= 0) host.close(vcpu);
    host.close(vm);
    // The guest's memory has to outlive the guest.
    page.fill(0);
  }
}

/** Runs the guest once and answers the reason of its exit; -1 if it cannot run. */
function runTo(kvm: Kvm, vcpu: number): number {
  const { host } = kvm, size = kvm.runBytes;
  const mapped = host.libc.mmap(0n, BigInt(size), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0n);
  if (mapped === MAP_FAILED) throw host.refusal("mmap of a vCPU");
  try {
    // SAFETY: used before it is unmapped below.
    const run = new DataView(Deno.UnsafePointerView.getArrayBuffer(Deno.UnsafePointer.create(mapped)!, size));
    return host.tryIoctlWith(vcpu, K.KVM_RUN, null) < 0 ? -1 : run.getUint32(K.kvm_run.exit_reason, true);
  } finally {
    host.libc.munmap(mapped, BigInt(size));
  }
}
