/**
 * A virtual machine of KVM's over the machine's memory: opened by the first vCPU's thread, known to the others by its number,
 * which stands in the shared memory.
 */
import { O_CLOEXEC, O_RDWR } from "../../../ffi/libc.ts";
import * as K from "../../../ffi/kvm.ts";
import { HostError } from "../../base/errors.ts";
import type { IrqChip, VcpuParts } from "../engine.ts";
import { coalesce } from "./coalesced.ts";
import { cpuidBuffer, type CpuidEntry, readCpuid } from "./cpuid.ts";
import { type Bytes, Host } from "./host.ts";
import { chooseIrqChip, createIrqChip } from "./irq_chip.ts";
import { MemorySlots } from "./memory_slots.ts";
import { IRQ_CHIPS, MAX_BELLS, WORD } from "./words.ts";

/** Where Intel processors without unrestricted guests keep a page table and a task segment (three pages): below the largest ROM. */
const IDENTITY_MAP = 0xfeff_c000, TSS = 0xfeff_d000;
/** Of WORD.VM: nobody has opened the VM; somebody is about to; else the VM's number + 1. */
const NONE = 0, OPENING = -1;
/** IA32_APIC_BASE and IA32_TSC_DEADLINE: the board's, where it has the local APIC. */
export const LOCAL_APIC_MSRS = [0x1b, 0x6e0] as const;
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

/** A machine's VM. */
export interface SharedVm {
  readonly fd: number;
  readonly irqChip: IrqChip;
  /** Writes to posted ports are in the ring. */
  readonly coalesces: boolean;
}

type VmParts = Pick<VcpuParts, "memory" | "ram" | "memoryMap" | "chips" | "irqchip" | "posted">;

/** The machine's VM, which is opened now if it is not open yet. */
export function sharedVm(kvm: Kvm, parts: VmParts): SharedVm {
  const words = new Int32Array(parts.memory.buffer), at = WORD.VM / 4;
  for (;;) {
    const found = Atomics.compareExchange(words, at, NONE, OPENING);
    if (found === NONE) break;
    if (found !== OPENING) {
      const irqChip = IRQ_CHIPS[Atomics.load(words, WORD.IRQ_CHIP / 4)]!;
      return { fd: found - 1, irqChip, coalesces: canCoalesce(kvm, parts) };
    }
    Atomics.wait(words, at, OPENING);
  }
  let made = NONE;
  try {
    const vm = openVm(kvm, parts);
    Atomics.store(words, WORD.IRQ_CHIP / 4, IRQ_CHIPS.indexOf(vm.irqChip));
    Atomics.store(words, WORD.IN_CHARGE / 4, 0);
    made = vm.fd + 1;
    return vm;
  } finally {
    Atomics.store(words, at, made);
    Atomics.notify(words, at);
  }
}

/** Closes the VM of a machine whose vCPUs are closed. */
export function closeSharedVm(host: Host, memory: WebAssembly.Memory): void {
  const vm = Atomics.exchange(new Int32Array(memory.buffer), WORD.VM / 4, NONE);
  if (vm > 0) host.close(vm - 1);
}

function canCoalesce(kvm: Kvm, { posted = [] }: VmParts): boolean {
  return posted.length > 0 && kvm.has(K.KVM_CAP.COALESCED_PIO);
}

function openVm(kvm: Kvm, parts: VmParts): SharedVm {
  const { chips, irqchip, posted = [] } = parts;
  const { host } = kvm;
  // Without the board's records there is nothing to give KVM's chips.
  const irqChip = chips ? chooseIrqChip(kvm, irqchip) : "user";
  const fd = host.ioctl("KVM_CREATE_VM", kvm.fd, K.KVM_CREATE_VM);
  try {
    kvm.prepare(fd);
    createIrqChip(host, fd, irqChip);
    if (kvm.canPassMsrs) passMsrs(host, fd, irqChip === "user" ? LOCAL_APIC_MSRS : []);
    // Words of an earlier VM of the same memory say nothing of this one.
    const words = new Int32Array(parts.memory.buffer);
    words.fill(0, WORD.SLOTS / 4, WORD.SLOTS / 4 + 256);
    words.fill(0, WORD.BELLS / 4, WORD.BELLS / 4 + MAX_BELLS);
    words[WORD.BELLS_MADE / 4] = 0;
    new MemorySlots(host, fd, parts).update();
    const coalesces = canCoalesce(kvm, parts);
    if (coalesces) coalesce(host, fd, posted);
    return { fd, irqChip, coalesces };
  } catch (error) {
    host.close(fd);
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

/** `ours` are asked here, and so is what KVM refuses, before it faults. */
export function passMsrs(host: Host, vm: number, ours: readonly number[]): void {
  const cap = new DataView(new ArrayBuffer(K.kvm_enable_cap.SIZEOF));
  cap.setUint32(K.kvm_enable_cap.cap, K.KVM_CAP.X86_USER_SPACE_MSR, true);
  const reasons = K.KVM_MSR_EXIT_REASON_INVAL | K.KVM_MSR_EXIT_REASON_UNKNOWN | K.KVM_MSR_EXIT_REASON_FILTER;
  cap.setBigUint64(K.kvm_enable_cap.args, BigInt(reasons), true);
  host.ioctlWith("KVM_ENABLE_CAP", vm, K.KVM_ENABLE_CAP, new Uint8Array(cap.buffer));

  if (ours.length === 0) return;
  // A range whose bits are 0 comes to us; all others are allowed. The x2APIC's need no range: KVM refuses them without its own APIC.
  const none = new Uint8Array(8);
  const bitmap = BigInt(Deno.UnsafePointer.value(Deno.UnsafePointer.of(none)));
  const filter = new DataView(new ArrayBuffer(K.kvm_msr_filter.SIZEOF));
  ours.forEach((msr, i) => {
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
