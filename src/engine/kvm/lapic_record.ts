/**
 * A local APIC between the board's record and KVM's register page, both ways. IA32_APIC_BASE and IA32_TSC_DEADLINE, which are
 * no part of the page, stand beside it: [sdm3 §11.4.1, §11.5.4.1].
 */
import {
  APIC_BASE,
  ApicMode,
  LOCAL_APIC as R,
  LVT,
  LVT_NAMES,
  TimerMode,
} from "../../../devices/local_apic_registers.ts";
import type { ChipRecords } from "../engine.ts";

type Apic = ChipRecords["apics"][number];

export interface LapicTime {
  readonly nowNs: number;
  /** Guest time at which the time-stamp counter has the value, and the other way round. */
  nsOfTsc(tsc: bigint): number;
  tscOfNs(ns: number): bigint;
}

/** What is beside the page. */
export interface LapicMsrs {
  apicBase: bigint;
  /** Of the processor's own time-stamp counter; 0: none. */
  deadline: bigint;
}

const WORDS = [["isr", R.ISR.at], ["tmr", R.TMR.at], ["irr", R.IRR.at]] as const;
const TWO64 = 1n << 64n;

function mode(apic: Apic): number {
  return (apic.lvtTimer >>> LVT.TIMER_MODE_SHIFT) & 3;
}

/** Nanoseconds a step of the counter: [sdm3 figure 11-10]. */
function stepNs(apic: Apic): number {
  const n = (apic.dcr & 3) | ((apic.dcr & 8) >>> 1);
  return n === 7 ? 1 : 2 << n;
}

export function lapicToKvm(apic: Apic, id: number, page: DataView, time: LapicTime): LapicMsrs {
  const put = (at: number, value: number) => page.setUint32(at, value >>> 0, true);
  put(R.ID.at, id << 24);
  put(R.TPR.at, apic.tpr);
  put(R.LDR.at, apic.ldr);
  put(R.DFR.at, apic.dfr);
  put(R.SVR.at, apic.svr);
  for (const [name, at] of WORDS) for (let i = 0; i < 8; i++) put(at + 16 * i, apic[name][i]!);
  put(R.ESR.at, apic.esr);
  put(R.ICR_LO.at, apic.icrLo);
  put(R.ICR_HI.at, apic.icrHi);
  LVT_NAMES.forEach((name, i) => put(R.LVT_TIMER.at + 16 * i, apic[name]));
  put(R.DCR.at, apic.dcr);
  // KVM starts a counter that has an initial count: one that has run out would run out again.
  put(R.INITIAL_COUNT.at, apic.counting ? apic.initialCount : 0);
  const left = Math.ceil((apic.zeroNs - time.nowNs) / stepNs(apic));
  put(R.CURRENT_COUNT.at, apic.counting ? Math.min(0xffff_ffff, Math.max(1, left)) : 0);
  const flags = apic.mode === ApicMode.DISABLED
    ? 0
    : apic.mode === ApicMode.XAPIC
    ? APIC_BASE.EN
    : APIC_BASE.EN | APIC_BASE.EXTD;
  const low = apic.baseLo + flags + (id === 0 ? APIC_BASE.BSP : 0);
  const deadline = BigInt(apic.deadlineLo) | (BigInt(apic.deadlineHi) << 32n);
  const offset = BigInt(apic.tscOffsetLo) | (BigInt(apic.tscOffsetHi) << 32n);
  return {
    apicBase: BigInt(low) | (BigInt(apic.baseHi) << 32n),
    deadline: deadline === 0n ? 0n : atLeastOne(time.tscOfNs(Number(BigInt.asUintN(64, deadline - offset)))),
  };
}

export function lapicFromKvm(apic: Apic, page: DataView, msrs: LapicMsrs, time: LapicTime): void {
  const get = (at: number) => page.getUint32(at, true);
  const base = msrs.apicBase, low = Number(base & 0xffff_ffffn);
  apic.baseLo = (low & 0xffff_f000) >>> 0;
  apic.baseHi = Number((base >> 32n) & 0xffff_ffffn);
  apic.mode = !(low & APIC_BASE.EN) ? ApicMode.DISABLED : low & APIC_BASE.EXTD ? ApicMode.X2APIC : ApicMode.XAPIC;
  apic.tpr = get(R.TPR.at);
  if (apic.mode !== ApicMode.X2APIC) apic.ldr = get(R.LDR.at);
  apic.dfr = get(R.DFR.at);
  apic.svr = get(R.SVR.at);
  for (const [name, at] of WORDS) for (let i = 0; i < 8; i++) apic[name][i] = get(at + 16 * i);
  apic.esr = get(R.ESR.at);
  apic.errors = 0;
  apic.icrLo = get(R.ICR_LO.at) & 0x000c_cfff;
  apic.icrHi = get(R.ICR_HI.at);
  LVT_NAMES.forEach((name, i) => apic[name] = get(R.LVT_TIMER.at + 16 * i) & ~LVT.DELIVERY_STATUS);
  apic.dcr = get(R.DCR.at) & 0xb;
  apic.extInt = 0;
  apic.initialCount = get(R.INITIAL_COUNT.at);
  const left = get(R.CURRENT_COUNT.at), deadlineMode = mode(apic) === TimerMode.TSC_DEADLINE;
  apic.counting = !deadlineMode && left > 0 && apic.initialCount > 0 ? 1 : 0;
  apic.zeroNs = apic.counting ? time.nowNs + left * stepNs(apic) : 0;
  const ns = msrs.deadline === 0n || !deadlineMode ? 0 : Math.max(1, time.nsOfTsc(msrs.deadline));
  const offset = BigInt(apic.tscOffsetLo) | (BigInt(apic.tscOffsetHi) << 32n);
  const deadline = ns === 0 ? 0n : (BigInt(Math.min(ns, Number.MAX_SAFE_INTEGER)) + offset) % TWO64;
  apic.deadlineLo = Number(deadline & 0xffff_ffffn);
  apic.deadlineHi = Number(deadline >> 32n);
}

function atLeastOne(n: bigint): bigint {
  return n > 0n ? n : 1n;
}
