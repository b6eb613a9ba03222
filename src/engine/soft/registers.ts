/** The vCPU's registers from outside: the architectural reset state [sdm3 table 9-1], and what a loader asks for. */
import { CR0, CS, DS, ES, FS, GS, LDTR, reg, S, SS, TR, VCPU_BYTES } from "../../cpu/x86/state.ts";
import { GPR_NAMES, type GprName, type InitialState, type SegmentState } from "../engine.ts";
import type { SoftVcpu } from "./soft.ts";

const SEGMENTS = { es: ES, cs: CS, ss: SS, ds: DS, fs: FS, gs: GS, ldtr: LDTR, tr: TR } as const;
/** Present, writable, accessed data; code; busy 32-bit TSS; LDT. */
const DATA = 0x93, CODE = 0x9b, TSS_BUSY = 0x8b, LDT = 0x82;
const PAT_RESET = 0x0007_0406_0007_0406n;

function setSegment(v: SoftVcpu, n: number, s: SegmentState): void {
  v.put("segSelector", s.selector, n);
  v.put("segRights", s.rights, n);
  v.put("segLimit", s.limit, n);
  v.put64("segBase", s.base, n);
}

export function resetState(v: SoftVcpu): void {
  new Uint8Array(v.dv.buffer as ArrayBuffer, v.base, VCPU_BYTES).fill(0);
  for (const n of [ES, SS, DS, FS, GS]) setSegment(v, n, { selector: 0, base: 0, limit: 0xffff, rights: DATA });
  setSegment(v, CS, { selector: 0xf000, base: 0xffff_0000, limit: 0xffff, rights: CODE });
  setSegment(v, LDTR, { selector: 0, base: 0, limit: 0xffff, rights: LDT });
  setSegment(v, TR, { selector: 0, base: 0, limit: 0xffff, rights: TSS_BUSY });
  v.put("gdtrLimit", 0xffff);
  v.put("idtrLimit", 0xffff);
  v.put64("rip", 0xfff0);
  v.put64("gpr", 0x000906ea, 2); // RDX: the family, model and stepping that CPUID reports
  v.put("eflags", 2);
  v.put64("fRes", 1);
  v.put64("cr0", 0x6000_0010);
  v.put64("xcr0", 1);
  v.put64("dr", 0xffff_0ff0, 6);
  v.put64("dr", 0x400, 7);
  v.put64("pat", PAT_RESET);
  v.put("mxcsr", 0x1f80);
  v.dv.setUint16(v.base + S.fcw, 0x40, true);
  v.put("excError", -1);
}

export function setInitialState(v: SoftVcpu, state: InitialState): void {
  v.put64("rip", state.rip);
  v.exports.setRflags(v.base, state.rflags);
  v.put64("cr0", state.cr0);
  v.put64("cr3", state.cr3);
  v.put64("cr4", state.cr4);
  v.put64("efer", state.efer);
  for (const [name, value] of Object.entries(state.gpr)) {
    v.dv.setBigUint64(v.base + reg(GPR_NAMES.indexOf(name as GprName)), BigInt(value), true);
  }
  for (const [name, segment] of Object.entries(state.segments)) {
    setSegment(v, SEGMENTS[name as keyof typeof SEGMENTS], segment);
  }
  v.put64("gdtrBase", state.gdtr.base);
  v.put("gdtrLimit", state.gdtr.limit);
  v.put64("idtrBase", state.idtr.base);
  v.put("idtrLimit", state.idtr.limit);
  // CPL is the stack segment's DPL.
  v.put("cpl", (v.get("segRights", SS) >> 5) & 3);
}

/** What INIT leaves as it was: the units' registers, time, and MSRs: [sdm3 table 10-1]. */
const KEPT: readonly [from: number, to: number][] = [
  [S.xmm, S.fRes],
  [S.retired, S.retired + 8],
  [S.xcr0, S.xcr0 + 8],
  [S.star, S.answer],
  [S.tlbMisses, S.events],
];
/** CR0.CD and CR0.NW stay; ET is always set. */
const CR0_KEPT = CR0.CD | CR0.NW, CR0_INIT = CR0.ET;

/** INIT: as a reset, but for what it keeps. */
export function initState(v: SoftVcpu): void {
  const bytes = new Uint8Array(v.dv.buffer as ArrayBuffer, v.base, VCPU_BYTES);
  const kept = KEPT.map(([from, to]) => bytes.slice(from, to));
  const cr0 = v.get("cr0") & CR0_KEPT;
  const codeEpoch = v.get("codeEpoch");
  resetState(v);
  KEPT.forEach(([from], i) => bytes.set(kept[i]!, from));
  v.put("cr0", cr0 | CR0_INIT);
  v.put("codeEpoch", codeEpoch);
}

/** A start-up IPI: real mode at `vector` × 4 KiB: [sdm3 §10.4.4]. */
export function startState(v: SoftVcpu, vector: number): void {
  setSegment(v, CS, { selector: vector << 8, base: vector << 12, limit: 0xffff, rights: CODE });
  v.put64("rip", 0);
}

/** A few lines for a person: where it is, and the registers. */
export function describeRegisters(v: SoftVcpu): string {
  const hex = (v: bigint) => v.toString(16).padStart(16, "0");
  const flags = v.exports.rflags(v.base) >>> 0;
  const lines = [
    `rip ${hex(v.get64("rip"))}, cpl ${v.get("cpl")}, last exception ${v.get("faultVector")} (error ${
      (v.get("faultError") >>> 0).toString(16)
    }, cr2 ${hex(v.get64("cr2"))})`,
  ];
  for (let i = 0; i < 16; i += 4) {
    lines.push(GPR_NAMES.slice(i, i + 4).map((n, k) => `${n.padStart(3)} ${hex(v.get64("gpr", i + k))}`).join("  "));
  }
  lines.push(
    `rflags ${flags.toString(16).padStart(8, "0")}  cs ${v.get("segSelector", 1).toString(16)}  mode ${v.get("mode")}`,
  );
  lines.push(
    `cr0 ${hex(v.get64("cr0"))}  cr3 ${hex(v.get64("cr3"))}  cr4 ${hex(v.get64("cr4"))}  efer ${hex(v.get64("efer"))}`,
  );
  return lines.join("\n");
}
