/**
 * A software vCPU's registers as engine-neutral data, both ways.
 *
 * PAE's page-directory-pointer entries are read from memory at each walk: they are told, and not taken.
 */
import { RestoreError } from "../../base/errors.ts";
import { CR0, CR4, EFER, S } from "../../cpu/x86/state.ts";
import { CR4_FLAGS } from "../../cpu/x86/system/cr.ts";
import { MsrFile } from "../../cpu/x86/system/msr.ts";
import { MAXPHYADDR } from "../../cpu/x86/system/walk.ts";
import type { VcpuParts } from "../engine.ts";
import {
  checkVcpuState,
  type QwordField,
  SEGMENT_NAMES,
  setU64,
  u64,
  VCPU_MSRS,
  VcpuRecord,
  type VcpuState,
  XSAVE,
} from "../vcpu_state.ts";
import { restoreEvents, saveEvents } from "./saved_events.ts";
import type { SoftVcpu } from "./soft.ts";

/** Registers of both that have the same name. */
const SAME = ["rip", "gdtrBase", "idtrBase", "cr0", "cr2", "cr3", "cr4", "efer", "xcr0", "tscAdjust"] as const;
/** MSRs that are fields of the vCPU's state; the others are the MSR file's. The second: how many bits may be set. */
const STATE_MSRS = {
  star: 64,
  lstar: 64,
  cstar: 64,
  fmask: 32,
  kernelGsBase: 64,
  sysenterCs: 32,
  sysenterEsp: 64,
  sysenterEip: 64,
  pat: 64,
  tscAux: 32,
} as const;
type StateMsr = keyof typeof STATE_MSRS;
const isStateMsr = (field: QwordField): field is StateMsr => field in STATE_MSRS;

const EFER_FLAGS = BigInt(EFER.SCE | EFER.LME | EFER.LMA | EFER.NXE);
const CR0_FLAGS = BigInt(Object.values(CR0).reduce((all, bit) => all | bit, 0) >>> 0);
const XCR0_FLAGS = 7n, X87_SSE = 3n, AVX = 4n;
const MXCSR_MASK = 0xffff;
/** What MOV to DR6 and DR7 leaves of a value: [sdm3 §18.2]. */
const DR_WRITABLE = { 6: 0x0000_e00fn, 7: 0xffff_23ffn } as const, DR_ONES = { 6: 0xffff_0ff0n, 7: 0x400n } as const;
/** In the legacy region. */
const FX = { FCW: 0, FSW: 2, FTW: 4, FOP: 6, FIP: 8, FDP: 16, MXCSR: 24, MXCSR_MASK: 28, ST0: 32, XMM0: 160 } as const;

/** Copies out what is in the vCPU's memory, its MSRs and its event word. */
export function saveVcpu(v: SoftVcpu, parts: VcpuParts, msrs: MsrFile, s: VcpuState): void {
  const { ram, clock, events, eventsIndex } = parts;
  VcpuRecord.reset(s);
  saveEvents(Atomics.load(events, eventsIndex), s);
  for (let n = 0; n < 16; n++) setU64(s.gpr, v.get64("gpr", n), n);
  for (const name of SAME) setU64(s[name], v.get64(name));
  s.rflags = v.exports.rflags(v.base) >>> 0;
  for (let n = 0; n < SEGMENT_NAMES.length; n++) {
    s.segSelector[n] = v.get("segSelector", n);
    s.segRights[n] = v.get("segRights", n);
    s.segLimit[n] = v.get("segLimit", n);
    setU64(s.segBase, v.get64("segBase", n), n);
  }
  s.cpl = v.get("cpl");
  s.gdtrLimit = v.get("gdtrLimit");
  s.idtrLimit = v.get("idtrLimit");
  for (let n = 0; n < 8; n++) setU64(s.dr, v.get64("dr", n), n);
  const table = v.get("cr3") & ~31;
  const pae = (v.get("cr0") & CR0.PG) !== 0 && (v.get("cr4") & CR4.PAE) !== 0 && (v.get("efer") & EFER.LMA) === 0;
  for (let i = 0; i < 8; i++) s.pdpte[i] = pae ? ram.read((table >>> 0) + 4 * i, 4) : 0;
  saveUnits(v, s);
  for (const { msr, field, index } of VCPU_MSRS) {
    if (isStateMsr(field)) setU64(s[field], v.get64(field));
    else setU64(s[field], msrs.read(msr) ? BigInt(msrs.lo >>> 0) | BigInt(msrs.hi >>> 0) << 32n : 0n, index);
  }
  setU64(s.tsc, BigInt(Math.floor(clock.nowNs())) + v.get64("tscOffset"));
  s.shadow = v.get("inhibit");
  s.nmiBlocked = v.get("nmiBlocked");
}

/** Where the units' registers are kept outside of a vCPU. */
export type UnitState = Pick<VcpuState, "xsave" | "fcs" | "fds">;

/** x87, MXCSR and the vector registers, as XSAVE64 lays them out. */
export function saveUnits(v: SoftVcpu, s: UnitState): void {
  const { dv, base } = v, area = new DataView(s.xsave.buffer, s.xsave.byteOffset, XSAVE.BYTES);
  const top = v.get("ftop");
  s.xsave.fill(0);
  area.setUint16(FX.FCW, dv.getUint16(base + S.fcw, true), true);
  area.setUint16(FX.FSW, dv.getUint16(base + S.fsw, true) | top << 11, true);
  let full = 0;
  for (let n = 0; n < 8; n++) if (dv.getUint8(base + S.fempty + n) === 0) full |= 1 << n;
  area.setUint8(FX.FTW, full);
  area.setUint16(FX.FOP, dv.getUint16(base + S.fop, true), true);
  area.setBigUint64(FX.FIP, v.get64("fip"), true);
  area.setBigUint64(FX.FDP, v.get64("fdp"), true);
  area.setUint32(FX.MXCSR, v.get("mxcsr"), true);
  area.setUint32(FX.MXCSR_MASK, MXCSR_MASK, true);
  s.fcs = dv.getUint16(base + S.fcs, true);
  s.fds = dv.getUint16(base + S.fds, true);
  const state = new Uint8Array(dv.buffer, base, S.END);
  for (let n = 0; n < 8; n++) {
    const at = S.fpr + 16 * ((top + n) & 7);
    s.xsave.set(state.subarray(at, at + 10), FX.ST0 + 16 * n);
  }
  s.xsave.set(state.subarray(S.xmm, S.xmm + 256), FX.XMM0);
  const high = state.subarray(S.ymmHigh, S.ymmHigh + 256);
  s.xsave.set(high, XSAVE.YMM);
  area.setBigUint64(XSAVE.XSTATE_BV, X87_SSE | (high.some((byte) => byte !== 0) ? AVX : 0n), true);
}

/** Doubts a state, before anything changes: what the architecture forbids, and what this processor does not have. */
export function checkState(s: VcpuState): void {
  checkVcpuState(s);
  const only = (name: string, found: bigint, allowed: bigint) => {
    if (found & ~allowed) {
      throw new RestoreError(
        `Cannot restore vCPU.${name}: found ${found.toString(16)}h, which the software CPU does not have`,
      );
    }
  };
  only("cr0", u64(s.cr0), CR0_FLAGS);
  only("cr3", u64(s.cr3), (1n << BigInt(MAXPHYADDR)) - 1n);
  only("cr4", u64(s.cr4), BigInt(CR4_FLAGS));
  only("efer", u64(s.efer), EFER_FLAGS);
  only("xcr0", u64(s.xcr0), XCR0_FLAGS);
  only("xss", u64(s.xss), 0n);
  only("kvmSystemTime", u64(s.kvmSystemTime), 0n);
  const area = new DataView(s.xsave.buffer, s.xsave.byteOffset, XSAVE.BYTES);
  only("xsave.XSTATE_BV", area.getBigUint64(XSAVE.XSTATE_BV, true), XCR0_FLAGS);
  for (const [name, bits] of Object.entries(STATE_MSRS)) {
    only(name, u64(s[name as StateMsr]), (1n << BigInt(bits)) - 1n);
  }
  for (let at = 0n; at < 64n; at += 8n) {
    const type = u64(s.pat) >> at & 0xffn;
    if (type > 7n || type === 2n || type === 3n) only("pat", u64(s.pat), 0n);
  }
  const file = new MsrFile({ msrLo: 0, msrHi: 0, readMsr: () => false, writeMsr: () => false }, 0);
  restoreMsrs(file, s);
}

function restoreMsrs(file: MsrFile, s: VcpuState): void {
  for (const { msr, field, index } of VCPU_MSRS) {
    if (isStateMsr(field) || field === "xss") continue;
    const lo = s[field][2 * index]!, hi = s[field][2 * index + 1]!;
    if (!file.write(msr, lo, hi)) {
      const name = `${field}${s[field].length > 2 ? `[${index}]` : ""}`;
      throw new RestoreError(
        `Cannot restore vCPU.${name}: found ${u64(s[field], index).toString(16)}h, a value it refuses`,
      );
    }
  }
}

/** Writes what `checkState` has passed; the vCPU has just been reset. */
export function restoreVcpu(v: SoftVcpu, parts: VcpuParts, msrs: MsrFile, s: VcpuState): void {
  restoreEvents(s, parts.events, parts.eventsIndex);
  for (let n = 0; n < 16; n++) v.put64("gpr", u64(s.gpr, n), n);
  for (const name of SAME) v.put64(name, u64(s[name]));
  v.put("cr0", v.get("cr0") | CR0.ET);
  v.exports.setRflags(v.base, s.rflags);
  for (let n = 0; n < SEGMENT_NAMES.length; n++) {
    v.put("segSelector", s.segSelector[n]!, n);
    v.put("segRights", s.segRights[n]!, n);
    v.put("segLimit", s.segLimit[n]!, n);
    v.put64("segBase", u64(s.segBase, n), n);
  }
  v.put("cpl", s.cpl);
  v.put("gdtrLimit", s.gdtrLimit);
  v.put("idtrLimit", s.idtrLimit);
  for (let n = 0; n < 4; n++) v.put64("dr", u64(s.dr, n), n);
  for (const n of [6, 7] as const) v.put64("dr", (u64(s.dr, n) & DR_WRITABLE[n]) | DR_ONES[n], n);
  restoreUnits(v, s);
  for (const name of Object.keys(STATE_MSRS) as StateMsr[]) v.put64(name, u64(s[name]));
  msrs.reset();
  restoreMsrs(msrs, s);
  v.put64("tscOffset", u64(s.tsc) - BigInt(Math.floor(parts.clock.nowNs())));
  v.put("inhibit", s.shadow);
  v.put("nmiBlocked", s.nmiBlocked);
  v.put64("inhibitRip", u64(s.rip));
  v.exports.flushTlb(v.base);
  v.exports.updateMode(v.base);
  v.exports.updateBreakpoints(v.base);
}

/** Components that the header does not name are as after a reset: [sdm1 §13.6]. */
export function restoreUnits(v: SoftVcpu, s: UnitState): void {
  const { dv, base } = v, area = new DataView(s.xsave.buffer, s.xsave.byteOffset, XSAVE.BYTES);
  const state = new Uint8Array(dv.buffer as ArrayBuffer, base, S.END), present = area.getUint8(XSAVE.XSTATE_BV);
  const fcw = present & 1 ? area.getUint16(FX.FCW, true) : 0x37f, fsw = present & 1 ? area.getUint16(FX.FSW, true) : 0;
  const top = fsw >> 11 & 7, full = present & 1 ? area.getUint8(FX.FTW) : 0;
  dv.setUint16(base + S.fcw, (fcw & 0x1f7f) | 0x40, true);
  // ES and B tell whether an exception is unmasked, whatever the image says.
  dv.setUint16(base + S.fsw, (fsw & 0x477f) | (fsw & ~fcw & 0x3f ? 0x8080 : 0), true);
  v.put("ftop", top);
  for (let n = 0; n < 8; n++) dv.setUint8(base + S.fempty + n, full >> n & 1 ^ 1);
  if (present & 1) {
    dv.setUint16(base + S.fop, area.getUint16(FX.FOP, true) & 0x7ff, true);
    v.put64("fip", area.getBigUint64(FX.FIP, true));
    v.put64("fdp", area.getBigUint64(FX.FDP, true));
    dv.setUint16(base + S.fcs, s.fcs, true);
    dv.setUint16(base + S.fds, s.fds, true);
    for (let n = 0; n < 8; n++) {
      const at = FX.ST0 + 16 * n;
      state.set(s.xsave.subarray(at, at + 10), S.fpr + 16 * ((top + n) & 7));
    }
  }
  v.put("mxcsr", area.getUint32(FX.MXCSR, true));
  if (present & 2) state.set(s.xsave.subarray(FX.XMM0, FX.XMM0 + 256), S.xmm);
  if (present & 4) state.set(s.xsave.subarray(XSAVE.YMM, XSAVE.YMM_END), S.ymmHigh);
}
