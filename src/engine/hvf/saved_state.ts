/**
 * A vCPU's state under Hypervisor.framework as engine-neutral data, both ways.
 *
 * The processor's own checks of a guest's state [sdm3 §27.3.1] are left to it: what passes here and fails there ends in an error
 * of the first run, and harms nobody.
 */
import { hv_x86_reg_t as R } from "../../../ffi/hypervisor_x86_64.ts";
import { INTERRUPTIBILITY, VMCS } from "../../../ffi/vmx.ts";
import { RestoreError } from "../../base/errors.ts";
import { CR0, CR4, EFER, SS, VM } from "../../cpu/x86/state.ts";
import { MSR, MsrFile } from "../../cpu/x86/system/msr.ts";
import type { VcpuParts } from "../engine.ts";
import { restoreEvents, saveEvents } from "../soft/saved_events.ts";
import {
  checkVcpuState,
  EventType,
  SEGMENT_NAMES,
  setU64,
  Shadow,
  u64,
  VCPU_MSRS,
  VcpuRecord,
  type VcpuState,
  XSAVE,
} from "../vcpu_state.ts";
import type { HvfEvents } from "./events.ts";
import { Info } from "./exits.ts";
import type { Guest } from "./guest.ts";
import { areaBytes } from "./handle.ts";
import { DR_REGISTERS, GPR_REGISTERS, SEGMENT } from "./registers.ts";

/** Fields of the VMCS that the record has under a name of its own: [name, field]. */
const FIELDS = [
  ["rip", VMCS.GUEST_RIP],
  ["gdtrBase", VMCS.GUEST_GDTR_BASE],
  ["idtrBase", VMCS.GUEST_IDTR_BASE],
  ["cr3", VMCS.GUEST_CR3],
] as const;
const PDPTES = 4, PDPTE_PRESENT = 1n;
/** What must be 0 in a present page-directory-pointer entry, below the physical address's end: [sdm3 §4.4.1 table 4-8]. */
const PDPTE_RESERVED = 0x1e6n;
/** Segments in virtual-8086 mode: [sdm3 §27.3.1.2]. */
const VM86_RIGHTS = 0xf3, VM86_LIMIT = 0xffff;
const COMPONENTS = 7;

/** Copies out everything but what the vCPU waits for. */
export function saveHvf(guest: Guest, events: HvfEvents, parts: VcpuParts, s: VcpuState): void {
  const { handle, registers, msrs, tsc, vm } = guest;
  VcpuRecord.reset(s);
  saveEvents(Atomics.load(parts.events, parts.eventsIndex), s);
  const put = (words: Uint32Array, n: number, lo: number) => {
    words[2 * n] = lo;
    words[2 * n + 1] = handle.hi;
  };
  GPR_REGISTERS.forEach((register, n) => put(s.gpr, n, handle.register(register)));
  for (const [name, field] of FIELDS) put(s[name], 0, handle.vmcs(field));
  s.rflags = handle.vmcs(VMCS.GUEST_RFLAGS);
  for (let n = 0; n < SEGMENT_NAMES.length; n++) {
    s.segSelector[n] = handle.vmcs(SEGMENT.selector(n));
    s.segRights[n] = handle.vmcs(SEGMENT.rights(n)) & 0x1_f0ff;
    s.segLimit[n] = handle.vmcs(SEGMENT.limit(n));
    put(s.segBase, n, handle.vmcs(SEGMENT.base(n)));
  }
  s.cpl = (s.segRights[SS]! >> 5) & 3;
  s.gdtrLimit = handle.vmcs(VMCS.GUEST_GDTR_LIMIT);
  s.idtrLimit = handle.vmcs(VMCS.GUEST_IDTR_LIMIT);
  setU64(s.cr0, registers.cr0);
  setU64(s.cr4, registers.cr4);
  setU64(s.efer, registers.efer);
  put(s.cr2, 0, handle.register(R.HV_X86_CR2));
  put(s.xcr0, 0, handle.register(R.HV_X86_XCR0));
  for (const [n, register] of DR_REGISTERS) put(s.dr, n, handle.register(register));
  put(s.dr, 7, handle.vmcs(VMCS.GUEST_DR7));
  if (isPae(s)) { for (let n = 0; n < PDPTES; n++) put(s.pdpte, n, handle.vmcs(VMCS.GUEST_PDPTE0 + 2 * n)); }
  saveArea(guest, s);
  for (const { msr, field, index } of VCPU_MSRS) {
    // A 64-bit register that does not exist here is 0 everywhere.
    if (!msrs.read(msr)) continue;
    s[field][2 * index] = msrs.lo;
    s[field][2 * index + 1] = msrs.hi;
  }
  setU64(s.tsc, tsc.ticksAt(vm.moment(parts.clock.nowNs())));
  const blocked = handle.vmcs(VMCS.GUEST_INTERRUPTIBILITY);
  s.shadow = blocked & INTERRUPTIBILITY.MOV_SS
    ? Shadow.MOV_SS
    : blocked & INTERRUPTIBILITY.STI
    ? Shadow.STI
    : Shadow.NONE;
  s.nmiBlocked = blocked & INTERRUPTIBILITY.NMI ? 1 : 0;
  if (!events.pending) return;
  const info = handle.vmcs(VMCS.CTRL_VMENTRY_IRQ_INFO);
  s.eventValid = 1;
  s.eventType = Info.type(info);
  s.eventVector = Info.vector(info);
  s.eventHasError = Info.hasError(info) ? 1 : 0;
  if (s.eventHasError) s.eventError = handle.vmcs(VMCS.CTRL_VMENTRY_EXC_ERROR);
  if (s.eventType >= EventType.SOFTWARE_INTERRUPT) s.eventLength = handle.vmcs(VMCS.CTRL_VMENTRY_INSTR_LEN) & 15;
}

function saveArea({ handle }: Guest, s: VcpuState): void {
  const area = areaBytes();
  handle.readArea(area);
  const dv = new DataView(area.buffer, area.byteOffset, XSAVE.BYTES), components = dv.getUint32(XSAVE.XSTATE_BV, true);
  s.xsave.set(area.subarray(0, XSAVE.LEGACY_BYTES));
  const out = new DataView(s.xsave.buffer, s.xsave.byteOffset, XSAVE.BYTES);
  out.setUint32(XSAVE.XSTATE_BV, components & COMPONENTS, true);
  if (components & 4) s.xsave.set(area.subarray(XSAVE.YMM, XSAVE.YMM_END), XSAVE.YMM);
}

function isPae(s: VcpuState): boolean {
  return (s.cr0[0]! & CR0.PG) !== 0 && (s.cr4[0]! & CR4.PAE) !== 0 && (s.efer[0]! & EFER.LMA) === 0;
}

/** Doubts a state, before anything changes: what the architecture forbids, and what this vCPU does not have. */
export function checkHvf({ cpuid, msrs }: Guest, s: VcpuState): void {
  checkVcpuState(s);
  const only = (name: string, found: bigint, allowed: bigint) => {
    if ((found & ~allowed) === 0n) return;
    throw new RestoreError(
      `Cannot restore vCPU.${name}: found ${found.toString(16)}h, which this processor does not have`,
    );
  };
  const physical = (1n << BigInt(cpuid.physicalBits)) - 1n;
  only("cr3", u64(s.cr3), physical);
  only("cr4", u64(s.cr4), BigInt(cpuid.cr4 >>> 0));
  only("efer", u64(s.efer), BigInt(EFER.SCE | EFER.LME | EFER.LMA | (cpuid.noExecute ? EFER.NXE : 0)));
  only("xcr0", u64(s.xcr0), BigInt(cpuid.xcr0 | 1));
  only("xss", u64(s.xss), 0n);
  only("kvmSystemTime", u64(s.kvmSystemTime), 0n);
  const area = new DataView(s.xsave.buffer, s.xsave.byteOffset, XSAVE.BYTES);
  only("xsave.XSTATE_BV", area.getBigUint64(XSAVE.XSTATE_BV, true), BigInt(cpuid.xcr0 | 3));
  if (isPae(s)) {
    for (let n = 0; n < PDPTES; n++) {
      const entry = u64(s.pdpte, n);
      if (entry & PDPTE_PRESENT) only(`pdpte[${n}]`, entry, physical & ~PDPTE_RESERVED);
    }
  }
  const file = new MsrFile({ msrLo: 0, msrHi: 0, readMsr: () => false, writeMsr: () => false }, 0);
  for (const { msr, field, index } of VCPU_MSRS) {
    const lo = s[field][2 * index]!, hi = s[field][2 * index + 1]!;
    const fits = msrs.isNative(msr)
      ? msrs.takes(msr, lo, hi)
      : msr === MSR.PAT
      ? msrs.takes(msr, lo, hi)
      : lo === 0 && hi === 0 || file.write(msr, lo, hi);
    if (fits) continue;
    const name = `${field}${s[field].length > 2 ? `[${index}]` : ""}`;
    throw new RestoreError(
      `Cannot restore vCPU.${name}: found ${u64(s[field], index).toString(16)}h, a value it refuses`,
    );
  }
}

/** Writes what `checkHvf` has passed; the vCPU has just been reset. */
export function restoreHvf(guest: Guest, events: HvfEvents, parts: VcpuParts, s: VcpuState): void {
  const { handle, registers, msrs, tsc, vm } = guest;
  restoreEvents(s, parts.events, parts.eventsIndex);
  const pair = (words: Uint32Array, n = 0) => [words[2 * n]!, words[2 * n + 1]!] as const;
  GPR_REGISTERS.forEach((register, n) => handle.setRegister(register, ...pair(s.gpr, n)));
  for (const [name, field] of FIELDS) handle.setVmcs(field, ...pair(s[name]));
  handle.setVmcs(VMCS.GUEST_RFLAGS, s.rflags);
  const vm86 = (s.rflags & VM) !== 0;
  for (let n = 0; n < SEGMENT_NAMES.length; n++) {
    const fixed = vm86 && n < 6;
    handle.setVmcs(SEGMENT.selector(n), s.segSelector[n]!);
    handle.setVmcs(SEGMENT.limit(n), fixed ? VM86_LIMIT : s.segLimit[n]!);
    handle.setVmcs(SEGMENT.base(n), ...pair(s.segBase, n));
    // The processor takes the stack segment's DPL for the current privilege level.
    const rights = n === SS ? (s.segRights[n]! & ~0x60) | (s.cpl << 5) : s.segRights[n]!;
    handle.setVmcs(SEGMENT.rights(n), fixed ? VM86_RIGHTS : rights);
  }
  handle.setVmcs(VMCS.GUEST_GDTR_LIMIT, s.gdtrLimit);
  handle.setVmcs(VMCS.GUEST_IDTR_LIMIT, s.idtrLimit);
  handle.setRegister(R.HV_X86_CR2, ...pair(s.cr2));
  for (const [n, register] of DR_REGISTERS) handle.setRegister(register, ...pair(s.dr, n));
  handle.setVmcs(VMCS.GUEST_DR7, s.dr[14]!);
  registers.cr0 = (s.cr0[0]! | CR0.ET) >>> 0;
  registers.cr4 = s.cr4[0]!;
  registers.efer = s.efer[0]!;
  registers.pagingChanged();
  if (isPae(s)) { for (let n = 0; n < PDPTES; n++) handle.setVmcs(VMCS.GUEST_PDPTE0 + 2 * n, ...pair(s.pdpte, n)); }
  handle.setRegister(R.HV_X86_XCR0, ...pair(s.xcr0));
  const area = areaBytes();
  area.set(s.xsave);
  handle.writeArea(area);
  for (const { msr, field, index } of VCPU_MSRS) msrs.write(msr, ...pair(s[field], index));
  tsc.setTicksAt(vm.moment(parts.clock.nowNs()), u64(s.tsc));
  const shadow = s.shadow === Shadow.MOV_SS
    ? INTERRUPTIBILITY.MOV_SS
    : s.shadow === Shadow.STI
    ? INTERRUPTIBILITY.STI
    : 0;
  handle.setVmcs(VMCS.GUEST_INTERRUPTIBILITY, shadow | (s.nmiBlocked ? INTERRUPTIBILITY.NMI : 0));
  if (s.eventValid) events.restore(s);
}
