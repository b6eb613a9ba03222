/**
 * The software CPU in the processor's place: for instructions whose memory is the board's, string I/O, task switches, writes of
 * control registers, and events whose delivery meets such memory. The vCPU's registers move into a software vCPU over the same
 * memory, it executes the one instruction, and what has changed moves back.
 *
 * An access to memory needs the general registers, the segments and what paging is made of; only instructions of the x87 and
 * vector units and those that touch the system's registers need the rest. The software vCPU is made before the guest runs, to
 * which it would be a long pause, and keeps no translations between two steps: the guest's page tables may have changed.
 */
import { hv_x86_reg_t as R } from "../../../ffi/hypervisor_x86_64.ts";
import { INTERRUPTIBILITY, VMCS } from "../../../ffi/vmx.ts";
import { STATUS } from "../../cpu/x86/ops.ts";
import { DTLB, DTLB_BYTES, DTLB_ENTRY, EFER, reg, S, TLB_ADDEND, TLB_TAG_W } from "../../cpu/x86/state.ts";
import { MAX_CPU } from "../../cpu/x86/system/cpu_model.ts";
import { MSR } from "../../cpu/x86/system/msr.ts";
import { RAM_BASE } from "../../machine/memory.ts";
import type { VcpuParts } from "../engine.ts";
import { restoreUnits, saveUnits, type UnitState } from "../soft/saved_state.ts";
import { SoftVcpu } from "../soft/soft.ts";
import { EventType, XSAVE } from "../vcpu_state.ts";
import { Info } from "./exits.ts";
import type { GuestMemory } from "./guest_memory.ts";
import { areaBytes, type VcpuHandle } from "./handle.ts";
import { usesUnits } from "./prefixes.ts";
import { DR_REGISTERS, GPR_REGISTERS, type HvfRegisters, SEGMENT } from "./registers.ts";

export type StepResult = "done" | "halt" | "shutdown";

const Source = { VMCS: 0, REGISTER: 1, MSR: 2 } as const;
type Source = typeof Source[keyof typeof Source];

/** Fields that are the same in the software vCPU and the framework: [offset in its state, words, where from, number there]. */
type Row = readonly [offset: number, words: 1 | 2, source: Source, id: number];

const CORE: readonly Row[] = [
  ...GPR_REGISTERS.map((id, n): Row => [reg(n), 2, Source.REGISTER, id]),
  [S.rip, 2, Source.VMCS, VMCS.GUEST_RIP],
  ...Array.from({ length: 8 }, (_, n): Row[] => [
    [S.segSelector + 4 * n, 1, Source.VMCS, SEGMENT.selector(n)],
    [S.segRights + 4 * n, 1, Source.VMCS, SEGMENT.rights(n)],
    [S.segLimit + 4 * n, 1, Source.VMCS, SEGMENT.limit(n)],
    [S.segBase + 8 * n, 2, Source.VMCS, SEGMENT.base(n)],
  ]).flat(),
  [S.gdtrBase, 2, Source.VMCS, VMCS.GUEST_GDTR_BASE],
  [S.gdtrLimit, 1, Source.VMCS, VMCS.GUEST_GDTR_LIMIT],
  [S.idtrBase, 2, Source.VMCS, VMCS.GUEST_IDTR_BASE],
  [S.idtrLimit, 1, Source.VMCS, VMCS.GUEST_IDTR_LIMIT],
  [S.cr2, 2, Source.REGISTER, R.HV_X86_CR2],
  [S.cr3, 2, Source.VMCS, VMCS.GUEST_CR3],
];
const SYSTEM: readonly Row[] = [
  ...DR_REGISTERS.map(([n, id]): Row => [S.dr + 8 * n, 2, Source.REGISTER, id]),
  [S.dr + 8 * 7, 2, Source.VMCS, VMCS.GUEST_DR7],
  [S.xcr0, 2, Source.REGISTER, R.HV_X86_XCR0],
  [S.sysenterCs, 1, Source.VMCS, VMCS.GUEST_IA32_SYSENTER_CS],
  [S.sysenterEsp, 2, Source.VMCS, VMCS.GUEST_SYSENTER_ESP],
  [S.sysenterEip, 2, Source.VMCS, VMCS.GUEST_SYSENTER_EIP],
  ...([
    [S.star, MSR.STAR],
    [S.lstar, MSR.LSTAR],
    [S.cstar, MSR.CSTAR],
    [S.fmask, MSR.FMASK],
    [S.kernelGsBase, MSR.KERNEL_GS_BASE],
  ] as const).map(([offset, msr]): Row => [offset, 2, Source.MSR, msr]),
];
const ROWS: readonly Row[] = [...CORE, ...SYSTEM];
const CR3_ROW = CORE.length - 1;

/** Steps in a row over one string instruction, between two looks at events and time. */
const MAX_LAPS = 256;
const MAX_INSTRUCTION = 15, PAGE = 4096;
const XSTATE_AVX = 4;
const SS = 2, SHADOW = INTERRUPTIBILITY.STI | INTERRUPTIBILITY.MOV_SS;

export class Stepper {
  readonly #soft: SoftVcpu;
  /** What was loaded, two words a row. */
  readonly #before = new Int32Array(2 * ROWS.length);
  #rows: readonly Row[] = CORE;
  #units = false;
  #rflags = 0;
  #cr0 = 0;
  #cr4 = 0;
  #efer = 0;
  #interruptibility = 0;
  readonly #area: UnitState & { xsave: Uint8Array<ArrayBuffer> } = { xsave: areaBytes(), fcs: 0, fds: 0 };
  readonly #areaBefore = new Uint8Array(XSAVE.BYTES);

  constructor(
    private readonly handle: VcpuHandle,
    private readonly registers: HvfRegisters,
    private readonly pages: GuestMemory,
    private readonly parts: VcpuParts,
  ) {
    // It knows what the processor knows: an instruction that comes here has passed the processor's own decoder.
    this.#soft = new SoftVcpu((handle.components & XSTATE_AVX) !== 0 ? { ...parts, cpu: MAX_CPU } : parts);
  }

  /** Executes the instruction at RIP, or delivers its exception. `system`: it is about registers beside the general ones. */
  step(system: boolean): StepResult {
    const v = this.#soft;
    this.#load(v, system);
    const { events, eventsIndex } = this.parts;
    const rip = (v.base + S.rip) >> 2, lo = v.i32[rip], hi = v.i32[rip + 1];
    let status: number, laps = 0;
    do {
      status = v.step();
    } while (
      status === STATUS.RESYNC && v.i32[rip] === lo && v.i32[rip + 1] === hi && ++laps < MAX_LAPS &&
      Atomics.load(events, eventsIndex) === 0
    );
    return this.#finish(v, status);
  }

  /** Delivers an event, not one that an instruction raises. `info` as entries have it. */
  deliver(info: number, error: number): StepResult {
    const v = this.#soft;
    this.#load(v, true);
    const vector = Info.vector(info);
    switch (Info.type(info)) {
      case EventType.INTERRUPT:
        return this.#finish(v, v.exports.interrupt(v.base, vector));
      case EventType.NMI:
        this.#interruptibility |= INTERRUPTIBILITY.NMI;
        this.handle.setVmcs(VMCS.GUEST_INTERRUPTIBILITY, this.#interruptibility);
        return this.#finish(v, v.exports.nmi(v.base));
      default:
        v.put("excVector", vector);
        v.put("excError", Info.hasError(info) ? error : -1);
        return this.#finish(v, v.exports.deliver(v.base));
    }
  }

  #finish(v: SoftVcpu, status: number): StepResult {
    if (status === STATUS.SHUTDOWN) return "shutdown";
    if (this.pages.logging) this.#logWritten(v);
    this.#store(v);
    return status === STATUS.HALT ? "halt" : "done";
  }

  /** Tells the log which pages the step may have written to: those that its TLBs, which were empty before, let it write to. */
  #logWritten(v: SoftVcpu): void {
    const { i32, base } = v;
    for (let at = base + DTLB; at < base + DTLB + 3 * DTLB_BYTES; at += DTLB_ENTRY) {
      const lo = i32[(at + TLB_TAG_W) >> 2]!, hi = i32[((at + TLB_TAG_W) >> 2) + 1]!;
      if (lo === -1 && hi === -1) continue;
      this.pages.wrote(((lo + i32[(at + TLB_ADDEND) >> 2]! - RAM_BASE) >>> 0) >>> 12);
    }
    // An access across two pages goes by way of the bounce buffer.
    for (let n = 0; n < 2; n++) this.pages.wrote(v.get("bouncePhys", 2 * n) >>> 12);
  }

  #load(v: SoftVcpu, system: boolean): void {
    const { registers, handle } = this;
    this.#rows = system ? ROWS : CORE;
    this.#loadRows(v, 0, this.#rows.length);
    this.#rflags = handle.vmcs(VMCS.GUEST_RFLAGS);
    v.exports.setRflags(v.base, this.#rflags | 0);
    v.put("cr0", this.#cr0 = registers.cr0);
    v.put("cr4", this.#cr4 = registers.cr4);
    v.put("efer", this.#efer = registers.efer);
    v.put("cpl", (v.get("segRights", SS) >> 5) & 3);
    this.#interruptibility = handle.vmcs(VMCS.GUEST_INTERRUPTIBILITY);
    v.put("inhibit", this.#interruptibility & SHADOW ? 1 : 0);
    // The processor looks at its breakpoints itself.
    v.put("breakpoints", 0);
    v.exports.flushTlb(v.base);
    v.exports.updateMode(v.base);
    this.#units = system || this.#needsUnits(v);
    if (!this.#units) return;
    if (!system) {
      this.#rows = ROWS;
      this.#loadRows(v, CORE.length, ROWS.length);
    }
    handle.readArea(this.#area.xsave);
    this.#areaBefore.set(this.#area.xsave);
    restoreUnits(v, this.#area);
    v.exports.updateMode(v.base);
  }

  #loadRows(v: SoftVcpu, from: number, to: number): void {
    const { handle } = this, before = this.#before, state = v.i32;
    for (let i = from; i < to; i++) {
      const [offset, words, source, id] = ROWS[i]!, at = (v.base + offset) >> 2;
      const lo = source === Source.VMCS
        ? handle.vmcs(id)
        : source === Source.REGISTER
        ? handle.register(id)
        : handle.msr(id);
      state[at] = before[2 * i] = lo;
      if (words === 2) state[at + 1] = before[2 * i + 1] = handle.hi;
    }
  }

  /** Whether the instruction at RIP is one of the x87 or vector units, as far as its first bytes tell. */
  #needsUnits(v: SoftVcpu): boolean {
    const { lo, hi } = v.linearRip();
    // A fetch that faults needs none: the exception is delivered.
    if (v.exports.fetchAt(v.base, lo, hi) !== 0) return false;
    const phys = v.get("physLo") >>> 0,
      bytes = this.parts.ram.bytes(phys, Math.min(MAX_INSTRUCTION, PAGE - (phys % PAGE)));
    return bytes === undefined || usesUnits(bytes, (v.get("mode") & 3) === 2);
  }

  #store(v: SoftVcpu): void {
    const { registers, handle } = this, before = this.#before, state = v.i32, rows = this.#rows;
    // The processor takes the stack segment's DPL for the current privilege level.
    v.put("segRights", (v.get("segRights", SS) & ~0x60) | (v.get("cpl") << 5), SS);
    let paging = false;
    for (let i = 0; i < rows.length; i++) {
      const [offset, words, source, id] = rows[i]!, at = (v.base + offset) >> 2;
      const lo = state[at]!, hi = words === 2 ? state[at + 1]! : 0;
      if (lo === before[2 * i] && (words === 1 || hi === before[2 * i + 1])) continue;
      if (source === Source.VMCS) handle.setVmcs(id, lo, hi);
      else if (source === Source.REGISTER) handle.setRegister(id, lo, hi);
      else handle.setMsr(id, lo, hi);
      paging ||= i === CR3_ROW;
    }
    const rflags = v.exports.rflags(v.base) >>> 0;
    if (rflags !== this.#rflags) handle.setVmcs(VMCS.GUEST_RFLAGS, rflags);
    const cr0 = v.get("cr0") >>> 0, cr4 = v.get("cr4") >>> 0, efer = v.get("efer") >>> 0;
    if (cr0 !== this.#cr0) registers.cr0 = cr0;
    if (cr4 !== this.#cr4) registers.cr4 = cr4;
    if (((efer ^ this.#efer) & EFER.LMA) !== 0) registers.efer = efer;
    if (paging || cr0 !== this.#cr0 || cr4 !== this.#cr4) registers.pagingChanged();
    const shadow = v.get("inhibit") !== 0 ? INTERRUPTIBILITY.MOV_SS : 0;
    const interruptibility = (this.#interruptibility & ~SHADOW) | shadow;
    if (interruptibility !== this.#interruptibility) handle.setVmcs(VMCS.GUEST_INTERRUPTIBILITY, interruptibility);
    if (this.#units) this.#storeUnits(v);
  }

  #storeUnits(v: SoftVcpu): void {
    const { xsave } = this.#area;
    saveUnits(v, this.#area);
    if (!sameUnits(xsave, this.#areaBefore)) this.handle.writeArea(xsave);
  }
}

/** Registers of the x87, SSE and AVX: what the header and the reserved bytes say may differ for the same registers. */
function sameUnits(a: Uint8Array, b: Uint8Array): boolean {
  for (let i = 0; i < XSAVE.YMM_END; i++) {
    if (i >= XSAVE.MXCSR + 4 && i < XSAVE.MXCSR + 8) continue;
    if (a[i] !== b[i]) return false;
  }
  return true;
}
