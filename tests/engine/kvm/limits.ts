/**
 * What this host's KVM cannot do, whoever asks: bare guests tell, of a few bytes each, that no engine has a part in.
 *
 * Some KVMs are emulators themselves, and lack modes that every processor has.
 */
import * as K from "../../../ffi/kvm.ts";
import { MAP_SHARED, PROT_READ, PROT_WRITE } from "../../../ffi/libc.ts";
import { guestCpuid, writeCpuid } from "../../../src/engine/kvm/cpuid.ts";
import { deadlineReachesUs } from "../../../src/engine/kvm/deadline.ts";
import type { Bytes } from "../../../src/engine/kvm/host.ts";
import { Kvm, setMemory } from "../../../src/engine/kvm/vm.ts";
import { code } from "../law_rig.ts";

const RAM_BYTES = 1 << 20, CODE = 0x1000, TABLES = 0x6000, TASK = 0xb000, IDT = 0xa000;

interface Bare {
  readonly program: Uint8Array;
  readonly cr0?: number;
  readonly cr3?: number;
  readonly cr4?: number;
  readonly rflags?: number;
  prepare?(memory: DataView, sregs: DataView): void;
}

/** Runs a guest in flat 32-bit protected mode and answers its exit reason. */
function exitOf(kvm: Kvm, { program, cr0 = 0x11, cr3 = 0, cr4 = 0, rflags = 2, prepare }: Bare): number {
  const { host } = kvm;
  const memory = new WebAssembly.Memory({ initial: RAM_BYTES >> 16, maximum: RAM_BYTES >> 16 });
  const bytes: Bytes = new Uint8Array(memory.buffer as ArrayBuffer);
  bytes.set(program, CODE);
  const vm = host.ioctl("KVM_CREATE_VM", kvm.fd, K.KVM_CREATE_VM);
  kvm.prepare(vm);
  setMemory(host, vm, bytes);
  const vcpu = host.ioctl("KVM_CREATE_VCPU", vm, K.KVM_CREATE_VCPU);
  host.ioctlWith("KVM_SET_CPUID2", vcpu, K.KVM_SET_CPUID2, writeCpuid(kvm.supportedCpuid()));
  const sregs: Bytes = new Uint8Array(K.kvm_sregs.SIZEOF), dv = new DataView(sregs.buffer);
  host.ioctlWith("KVM_GET_SREGS", vcpu, K.KVM_GET_SREGS, sregs);
  for (const [name, type, selector] of [["cs", 11, 8], ["ds", 3, 16], ["es", 3, 16], ["ss", 3, 16]] as const) {
    const at = K.kvm_sregs[name], S = K.kvm_segment;
    sregs.fill(0, at, at + S.SIZEOF);
    dv.setUint32(at + S.limit, 0xffff_ffff, true);
    dv.setUint16(at + S.selector, selector, true);
    for (const [field, value] of [[S.type, type], [S.present, 1], [S.db, 1], [S.s, 1], [S.g, 1]] as const) {
      dv.setUint8(at + field, value);
    }
  }
  for (const [name, value] of [["cr0", cr0], ["cr3", cr3], ["cr4", cr4]] as const) {
    dv.setBigUint64(K.kvm_sregs[name], BigInt(value), true);
  }
  prepare?.(new DataView(memory.buffer), dv);
  host.ioctlWith("KVM_SET_SREGS", vcpu, K.KVM_SET_SREGS, sregs);
  const regs = new DataView(new ArrayBuffer(K.kvm_regs.SIZEOF));
  regs.setBigUint64(K.kvm_regs.rip, BigInt(rflags & VM ? 0 : CODE), true);
  regs.setBigUint64(K.kvm_regs.rflags, BigInt(rflags), true);
  regs.setBigUint64(K.kvm_regs.rsp, 0x900n, true);
  host.ioctlWith("KVM_SET_REGS", vcpu, K.KVM_SET_REGS, new Uint8Array(regs.buffer));
  const size = kvm.runBytes;
  const mapped = host.libc.mmap(0n, BigInt(size), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0n);
  // SAFETY: used before it is unmapped below.
  const run = new DataView(Deno.UnsafePointerView.getArrayBuffer(Deno.UnsafePointer.create(mapped)!, size));
  const reason = host.tryIoctlWith(vcpu, K.KVM_RUN, null) < 0 ? -1 : run.getUint32(K.kvm_run.exit_reason, true);
  host.libc.munmap(mapped, BigInt(size));
  host.close(vcpu);
  host.close(vm);
  bytes.fill(0); // the guest's memory has to outlive the guest
  return reason;
}

const VM = 1 << 17;
const HLT = code("f4");
const PAGING: Bare = {
  program: HLT,
  cr0: 0x8000_0011,
  cr3: TABLES,
  cr4: 0x10,
  prepare: (memory) => memory.setUint32(TABLES, 0x83, true),
};
const PAE: Bare = {
  ...PAGING,
  cr4: 0x20,
  prepare(memory) {
    memory.setUint32(TABLES, 0x7001, true);
    memory.setUint32(0x7000, 0x83, true);
  },
};
/** int 40h, whose handler is the HLT. */
const VIRTUAL_8086: Bare = {
  program: code("cd40"),
  rflags: VM | 0x3002,
  prepare(memory, sregs) {
    const S = K.kvm_segment;
    for (
      const [name, paragraph] of [["cs", CODE >> 4], ["ds", 0], ["es", 0], ["ss", 0], ["fs", 0], ["gs", 0]] as const
    ) {
      const at = K.kvm_sregs[name];
      sregs.setBigUint64(at, BigInt(paragraph << 4), true);
      sregs.setUint32(at + S.limit, 0xffff, true);
      sregs.setUint16(at + S.selector, paragraph, true);
      const fields = [[S.type, 3], [S.present, 1], [S.dpl, 3], [S.db, 0], [S.s, 1], [S.g, 0]] as const;
      for (const [field, value] of fields) sregs.setUint8(at + field, value);
    }
    const tr = K.kvm_sregs.tr;
    sregs.setBigUint64(tr, BigInt(TASK), true);
    sregs.setUint32(tr + S.limit, 0x67, true);
    sregs.setUint16(tr + S.selector, 0x18, true);
    sregs.setUint8(tr + S.type, 11);
    sregs.setUint8(tr + S.present, 1);
    memory.setUint32(TASK + 4, 0x900, true);
    memory.setUint16(TASK + 8, 0x10, true);
    memory.setUint8(CODE + 0x100, HLT[0]!);
    memory.setUint32(IDT + 8 * 0x40, (8 << 16) | (CODE + 0x100), true);
    memory.setUint32(IDT + 8 * 0x40 + 4, 0xee00, true);
    sregs.setBigUint64(K.kvm_sregs.idt + K.kvm_dtable.base, BigInt(IDT), true);
    sregs.setUint16(K.kvm_sregs.idt + K.kvm_dtable.limit, 0x207, true);
    sregs.setBigUint64(K.kvm_sregs.gdt + K.kvm_dtable.base, 0xc000n, true);
    sregs.setUint16(K.kvm_sregs.gdt + K.kvm_dtable.limit, 31, true);
    memory.setBigUint64(0xc008, 0x00cf9b000000ffffn, true);
    memory.setBigUint64(0xc010, 0x00cf93000000ffffn, true);
  },
};

/** Laws that cannot be kept here, by name, and why. */
export function missingOfKvm(irqchip: string): Record<string, string> {
  const kvm = new Kvm(), missing: Record<string, string> = {};
  const lack = (bare: Bare, why: string, ...laws: string[]) => {
    if (exitOf(kvm, bare) !== K.KVM_EXIT.HLT) { for (const law of laws) missing[law] = `this KVM has no ${why}`; }
  };
  const moved = (law: string) => ["from", "to"].map((way) => `${way} the software CPU and back: ${law}`);
  const pages = "protected mode moves, without paging and with pages of 4 MiB";
  if (irqchip === "user") {
    lack(
      PAGING,
      "32-bit paging",
      "32-bit paging maps 4-KiB pages, and tells what an access to another met",
      ...moved(pages),
    );
    lack(PAE, "PAE paging", ...moved("PAE paging moves"));
    const leaves = "a virtual-8086 task reaches ports its bitmap allows, and leaves by an interrupt";
    lack(VIRTUAL_8086, "interrupts that leave virtual-8086 mode", leaves);
    const told = { vcpu: 0, vcpus: 1, tscKhz: 1, apicMsrs: true, deadline: true };
    if (!kvm.canPassMsrs || !deadlineReachesUs(kvm, guestCpuid(kvm.supportedCpuid(), told))) {
      const why = "this KVM keeps IA32_TSC_DEADLINE to itself";
      missing["a deadline of the time-stamp counter wakes HLT when it has passed"] = why;
    }
  }
  kvm.close();
  return missing;
}
