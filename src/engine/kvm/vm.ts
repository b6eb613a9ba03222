/**
 * A virtual machine of KVM's over the machine's memory: opened by the first vCPU's thread, known to the others by its number,
 * which stands in the shared memory.
 */
import { O_CLOEXEC, O_RDWR } from "../../../ffi/libc.ts";
import * as K from "../../../ffi/kvm.ts";
import { HostError } from "../../base/errors.ts";
import { VCPU_BASE, VCPU_STRIDE } from "../../machine/memory.ts";
import type { VcpuParts } from "../engine.ts";
import { cpuidBuffer, type CpuidEntry, readCpuid } from "./cpuid.ts";
import { type Bytes, Host } from "./host.ts";

/** Where Intel processors without unrestricted guests keep a page table and a task segment (three pages): below the BIOS ROM. */
const IDENTITY_MAP = 0xfffb_c000, TSS = 0xfffb_d000;
/** A word at the end of vCPU 0's state, which the software CPU does not use: */
const VM_WORD = VCPU_BASE + VCPU_STRIDE - 64;
/** nobody has opened the VM; somebody is about to; else the VM's number + 1. */
const NONE = 0, OPENING = -1;
const IA32_APIC_BASE = 0x1b, IA32_TSC_DEADLINE = 0x6e0;
const MAX_CPUID_ENTRIES = 256, MAX_MSRS = 4096;

/** KVM itself, as opposed to one machine. */
export class Kvm {
  readonly fd: number;

  constructor(readonly host: Host = new Host()) {
    this.fd = host.open(K.KVM_PATH, O_RDWR | O_CLOEXEC);
    const version = host.ioctl("KVM_GET_API_VERSION", this.fd, K.KVM_GET_API_VERSION);
    if (version !== K.KVM_API_VERSION) {
      this.close();
      throw new HostError(`Cannot use ${K.KVM_PATH}: expected API version ${K.KVM_API_VERSION}, found ${version}`);
    }
  }

  close(): void {
    this.host.close(this.fd);
  }

  has(cap: number): boolean {
    return this.host.tryIoctl(this.fd, K.KVM_CHECK_EXTENSION, cap) > 0;
  }

  get runBytes(): number {
    return this.host.ioctl("KVM_GET_VCPU_MMAP_SIZE", this.fd, K.KVM_GET_VCPU_MMAP_SIZE);
  }

  supportedCpuid(): CpuidEntry[] {
    const bytes = cpuidBuffer(MAX_CPUID_ENTRIES);
    this.host.ioctlWith("KVM_GET_SUPPORTED_CPUID", this.fd, K.KVM_GET_SUPPORTED_CPUID, bytes);
    return readCpuid(bytes);
  }

  /** The MSRs that make up a vCPU's state. */
  msrList(): number[] {
    const words = new Uint32Array(1 + MAX_MSRS);
    words[0] = MAX_MSRS;
    const bytes = new Uint8Array(words.buffer);
    this.host.ioctlWith("KVM_GET_MSR_INDEX_LIST", this.fd, K.KVM_GET_MSR_INDEX_LIST, bytes);
    return [...words.subarray(1, 1 + words[0])];
  }

  /** What some processors need before a VM has memory or a vCPU. */
  prepare(vm: number): void {
    const { host } = this;
    if (this.has(K.KVM_CAP.SET_IDENTITY_MAP_ADDR)) {
      const address = new Uint8Array(new BigUint64Array([BigInt(IDENTITY_MAP)]).buffer);
      host.ioctlWith("KVM_SET_IDENTITY_MAP_ADDR", vm, K.KVM_SET_IDENTITY_MAP_ADDR, address);
    }
    if (this.has(K.KVM_CAP.SET_TSS_ADDR)) host.ioctl("KVM_SET_TSS_ADDR", vm, K.KVM_SET_TSS_ADDR, TSS);
  }

  /** Accesses to MSRs that KVM does not know, and to the local APIC's, can come to us. */
  get canPassMsrs(): boolean {
    return this.has(K.KVM_CAP.X86_USER_SPACE_MSR) && this.has(K.KVM_CAP.X86_MSR_FILTER);
  }
}

/** The number of the machine's VM, which is opened now if it is not open yet. */
export function sharedVm(kvm: Kvm, parts: Pick<VcpuParts, "memory" | "ram">): number {
  const word = new Int32Array(parts.memory.buffer, VM_WORD, 1);
  for (;;) {
    const found = Atomics.compareExchange(word, 0, NONE, OPENING);
    if (found === NONE) break;
    if (found !== OPENING) return found - 1;
    Atomics.wait(word, 0, OPENING);
  }
  let made = NONE;
  try {
    const vm = openVm(kvm, parts);
    made = vm + 1;
    return vm;
  } finally {
    Atomics.store(word, 0, made);
    Atomics.notify(word, 0);
  }
}

/** Closes the VM of a machine whose vCPUs are closed. */
export function closeSharedVm(host: Host, memory: WebAssembly.Memory): void {
  const vm = Atomics.exchange(new Int32Array(memory.buffer, VM_WORD, 1), 0, NONE);
  if (vm > 0) host.close(vm - 1);
}

function openVm(kvm: Kvm, { memory, ram }: Pick<VcpuParts, "memory" | "ram">): number {
  const { host } = kvm;
  const vm = host.ioctl("KVM_CREATE_VM", kvm.fd, K.KVM_CREATE_VM);
  try {
    kvm.prepare(vm);
    if (kvm.canPassMsrs) passMsrs(host, vm);
    setMemory(host, vm, new Uint8Array(memory.buffer as unknown as ArrayBuffer, ram.base, ram.sizeBytes));
    return vm;
  } catch (error) {
    host.close(vm);
    throw error;
  }
}

/** The VM's memory, from guest-physical 0 on. The bytes are a WebAssembly.Memory's. */
export function setMemory(host: Host, vm: number, bytes: Bytes): void {
  const region = new DataView(new ArrayBuffer(K.kvm_userspace_memory_region.SIZEOF));
  region.setBigUint64(K.kvm_userspace_memory_region.memory_size, BigInt(bytes.byteLength), true);
  // SAFETY: a WebAssembly.Memory is never moved, and the process ends with the machine or closes the VM before it goes.
  const address = Deno.UnsafePointer.value(Deno.UnsafePointer.of(bytes));
  region.setBigUint64(K.kvm_userspace_memory_region.userspace_addr, BigInt(address), true);
  host.ioctlWith("KVM_SET_USER_MEMORY_REGION", vm, K.KVM_SET_USER_MEMORY_REGION, new Uint8Array(region.buffer));
}

/** MSRs of the local APIC are the board's, and what KVM refuses is looked at here before it faults. */
export function passMsrs(host: Host, vm: number): void {
  const cap = new DataView(new ArrayBuffer(K.kvm_enable_cap.SIZEOF));
  cap.setUint32(K.kvm_enable_cap.cap, K.KVM_CAP.X86_USER_SPACE_MSR, true);
  const reasons = K.KVM_MSR_EXIT_REASON_INVAL | K.KVM_MSR_EXIT_REASON_UNKNOWN | K.KVM_MSR_EXIT_REASON_FILTER;
  cap.setBigUint64(K.kvm_enable_cap.args, BigInt(reasons), true);
  host.ioctlWith("KVM_ENABLE_CAP", vm, K.KVM_ENABLE_CAP, new Uint8Array(cap.buffer));

  // A range whose bits are 0 comes to us; all others are allowed. The x2APIC's need no range: KVM refuses them without its own APIC.
  const none = new Uint8Array(8);
  const bitmap = BigInt(Deno.UnsafePointer.value(Deno.UnsafePointer.of(none)));
  const filter = new DataView(new ArrayBuffer(K.kvm_msr_filter.SIZEOF));
  [IA32_APIC_BASE, IA32_TSC_DEADLINE].forEach((msr, i) => {
    const R = K.kvm_msr_filter_range, at = K.kvm_msr_filter.ranges + i * R.SIZEOF;
    filter.setUint32(at + R.flags, K.KVM_MSR_FILTER_READ | K.KVM_MSR_FILTER_WRITE, true);
    filter.setUint32(at + R.nmsrs, 1, true);
    filter.setUint32(at + R.base, msr, true);
    // SAFETY: KVM copies the bitmap during the call; `none` is used after it.
    filter.setBigUint64(at + R.bitmap, bitmap, true);
  });
  host.ioctlWith("KVM_X86_SET_MSR_FILTER", vm, K.KVM_X86_SET_MSR_FILTER, new Uint8Array(filter.buffer));
  none.fill(0);
}
