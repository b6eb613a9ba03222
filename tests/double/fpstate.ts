/** The area of XSAVE in its standard form, from and into the software CPU: [sdm1 §13.4]. */
import { S } from "../../src/cpu/x86/state.ts";
import type { Cpu } from "./cpu.ts";

const AT = {
  FCW: 0,
  FSW: 2,
  FTW: 4,
  FOP: 6,
  FIP: 8,
  FDP: 16,
  MXCSR: 24,
  MXCSR_MASK: 28,
  ST: 32,
  XMM: 160,
  XSTATE_BV: 512,
};
const XCOMP_BV = 520, YMM = 576, XMM_BYTES = 256;
const TOP = 0x3800, X87 = 1n, SSE = 2n, AVX = 4n;
const MXCSR_RESERVED = 0xffff_0000;

/** How large a buffer must be for what XCR0 names. */
export function fpStateBytes(xcr0: bigint): number {
  return xcr0 & AVX ? YMM + XMM_BYTES : YMM;
}

export function readFpState(cpu: Cpu, into: DataView): void {
  const xcr0 = cpu.get64("xcr0"), u8 = new Uint8Array(into.buffer, into.byteOffset, into.byteLength);
  u8.fill(0);
  const top = cpu.get("ftop") & 7;
  let tags = 0;
  for (let n = 0; n < 8; n++) {
    if (cpu.u8[cpu.base + S.fempty + n] === 0) tags |= 1 << n;
    const from = cpu.base + S.fpr + 16 * n;
    u8.set(cpu.u8.subarray(from, from + 10), AT.ST + 16 * ((n - top) & 7));
  }
  into.setUint16(AT.FCW, cpu.dv.getUint16(cpu.base + S.fcw, true), true);
  into.setUint16(AT.FSW, (cpu.dv.getUint16(cpu.base + S.fsw, true) & ~TOP) | (top << 11), true);
  into.setUint8(AT.FTW, tags);
  into.setUint16(AT.FOP, cpu.dv.getUint16(cpu.base + S.fop, true), true);
  into.setBigUint64(AT.FIP, cpu.get64("fip"), true);
  into.setBigUint64(AT.FDP, cpu.get64("fdp"), true);
  into.setInt32(AT.MXCSR, cpu.get("mxcsr"), true);
  into.setUint32(AT.MXCSR_MASK, 0xffff, true);
  u8.set(cpu.u8.subarray(cpu.base + S.xmm, cpu.base + S.xmm + XMM_BYTES), AT.XMM);
  if (xcr0 & AVX) u8.set(cpu.u8.subarray(cpu.base + S.ymmHigh, cpu.base + S.ymmHigh + XMM_BYTES), YMM);
  into.setBigUint64(AT.XSTATE_BV, xcr0 & (X87 | SSE | AVX), true);
}

/** False, and nothing changed, if XRSTOR would refuse it. A component that XSTATE_BV does not name gets its initial value. */
export function writeFpState(cpu: Cpu, from: DataView): boolean {
  const xcr0 = cpu.get64("xcr0"), present = from.getBigUint64(AT.XSTATE_BV, true);
  if (present & ~xcr0 || from.getBigUint64(XCOMP_BV, true) !== 0n) return false;
  if (from.getUint32(AT.MXCSR, true) & MXCSR_RESERVED) return false;
  const u8 = new Uint8Array(from.buffer, from.byteOffset, from.byteLength);
  const x87 = (present & X87) !== 0n, fsw = x87 ? from.getUint16(AT.FSW, true) : 0;
  const top = (fsw >> 11) & 7, tags = x87 ? from.getUint8(AT.FTW) : 0;
  cpu.dv.setUint16(cpu.base + S.fcw, x87 ? from.getUint16(AT.FCW, true) : 0x37f, true);
  cpu.dv.setUint16(cpu.base + S.fsw, fsw & ~TOP, true);
  cpu.put("ftop", top);
  for (let n = 0; n < 8; n++) {
    cpu.u8[cpu.base + S.fempty + n] = (tags >> n) & 1 ? 0 : 1;
    const at = AT.ST + 16 * ((n - top) & 7), to = cpu.base + S.fpr + 16 * n;
    if (x87) cpu.u8.set(u8.subarray(at, at + 10), to);
    else cpu.u8.fill(0, to, to + 10);
  }
  cpu.dv.setUint16(cpu.base + S.fop, x87 ? from.getUint16(AT.FOP, true) : 0, true);
  cpu.put64("fip", x87 ? from.getBigUint64(AT.FIP, true) : 0n);
  cpu.put64("fdp", x87 ? from.getBigUint64(AT.FDP, true) : 0n);
  cpu.put("mxcsr", from.getInt32(AT.MXCSR, true));
  const vector = (at: number, bit: bigint, to: number) => {
    if (present & bit) cpu.u8.set(u8.subarray(at, at + XMM_BYTES), to);
    else cpu.u8.fill(0, to, to + XMM_BYTES);
  };
  vector(AT.XMM, SSE, cpu.base + S.xmm);
  if (xcr0 & AVX) vector(YMM, AVX, cpu.base + S.ymmHigh);
  cpu.exports.updateMode(cpu.base);
  return true;
}
