/** FXSAVE, FXRSTOR, XSAVE, XSAVEC, XSAVEOPT, XRSTOR: [sdm1 §10.5, §13], [sdm2]. */
import type { Module } from "../../../wasm/module.ts";
import { select, type Value } from "../../../wasm/value.ts";
import { type CpuFuncs, deepFunc, type Ops, STATUS } from "../ops.ts";
import type { Row } from "../row.ts";
import { CR4, EXC, MODE_64, S } from "../state.ts";

/** Bytes from the area's start. */
const AREA = {
  FCW: 0,
  FSW: 2,
  FTW: 4,
  FOP: 6,
  FIP: 8,
  FCS: 12,
  FDP: 16,
  FDS: 20,
  MXCSR: 24,
  MXCSR_MASK: 28,
  ST0: 32,
  XMM0: 160,
  /** Of FXSAVE's image; XSAVE's header follows. */
  LEGACY: 512,
  XSTATE_BV: 512,
  XCOMP_BV: 520,
  HEADER_REST: 528,
  /** The upper halves of the YMM registers, in both formats. */
  YMM: 576,
  END: 832,
} as const;
/** State components. */
const X87 = 1, SSE = 2, AVX = 4;
const MXCSR_BITS = 0xffff, MXCSR_RESET = 0x1f80, FCW_RESET = 0x37f;

/** Copies between the state and an image: the vector registers of the mode. `at` and offsets in bytes. */
function vectors(o: Ops, long: Value, copy: (n: number) => void): void {
  for (let n = 0; n < 8; n++) copy(n);
  o.c.if(long, () => {
    for (let n = 8; n < 16; n++) copy(n);
  });
}

/** `wide`: instruction and data pointers as 64-bit offsets, without selectors. */
function saveX87(o: Ops, at: Value, wide: Value): void {
  const c = o.c, top = o.ld32("ftop");
  c.st16(at, c.ld16u(o.cpu, S.fcw), AREA.FCW);
  c.st16(at, c.ld16u(o.cpu, S.fsw).or(top.shl(11)), AREA.FSW);
  // One bit a register, 1 if it holds something; the top bytes of the eight gather in one.
  const full = o.ld64("fempty").xor(0x0101_0101_0101_0101n);
  c.st16(at, full.mul(0x0102_0408_1020_4080n).shrU(56).lo(), AREA.FTW);
  c.st16(at, c.ld16u(o.cpu, S.fop), AREA.FOP);
  c.if(wide, () => {
    c.st64(at, o.ld64("fip"), AREA.FIP);
    c.st64(at, o.ld64("fdp"), AREA.FDP);
  }, () => {
    c.st32(at, o.ld64("fip").lo(), AREA.FIP);
    c.st32(at, c.ld16u(o.cpu, S.fcs), AREA.FCS);
    c.st32(at, o.ld64("fdp").lo(), AREA.FDP);
    c.st32(at, c.ld16u(o.cpu, S.fds), AREA.FDS);
  });
  for (let n = 0; n < 8; n++) {
    const r = c.let(o.cpu.add(top.add(n).and(7).shl(4)));
    c.st64(at, c.ld64(r, S.fpr), AREA.ST0 + 16 * n);
    c.st64(at, c.ld16u(r, S.fpr + 8).zx(), AREA.ST0 + 16 * n + 8);
  }
}
function loadX87(o: Ops, at: Value, wide: Value): void {
  const c = o.c;
  const fsw = c.let(c.ld16u(at, AREA.FSW)), fcw = c.ld16u(at, AREA.FCW);
  const top = c.let(fsw.shrU(11).and(7));
  c.st32(o.cpu, top, S.ftop);
  // Bit 6 of the control word is always set.
  c.st16(o.cpu, fcw.and(0x1f7f).or(0x40), S.fcw);
  // ES and B tell whether an exception is unmasked, whatever the image says.
  const pending = c.let(fsw.and(fcw.not()).and(0x3f).bool());
  c.st16(o.cpu, fsw.and(0x477f).or(select(pending, c.let(pending.mul(0x8080)), 0)), S.fsw);
  const empty = c.let(c.ld8u(at, AREA.FTW).not());
  for (let n = 0; n < 8; n++) c.st8(o.cpu, empty.shrU(n).and(1), S.fempty + n);
  c.st16(o.cpu, c.ld16u(at, AREA.FOP).and(0x7ff), S.fop);
  c.if(wide, () => {
    o.st64("fip", c.ld64(at, AREA.FIP));
    o.st64("fdp", c.ld64(at, AREA.FDP));
    c.st16(o.cpu, 0, S.fcs);
    c.st16(o.cpu, 0, S.fds);
  }, () => {
    o.st64("fip", c.ld32(at, AREA.FIP).zx());
    o.st64("fdp", c.ld32(at, AREA.FDP).zx());
    c.st16(o.cpu, c.ld16u(at, AREA.FCS), S.fcs);
    c.st16(o.cpu, c.ld16u(at, AREA.FDS), S.fds);
  });
  for (let n = 0; n < 8; n++) {
    const r = c.let(o.cpu.add(top.add(n).and(7).shl(4)));
    c.st64(r, c.ld64(at, AREA.ST0 + 16 * n), S.fpr);
    c.st16(r, c.ld16u(at, AREA.ST0 + 16 * n + 8), S.fpr + 8);
  }
}
function resetX87(o: Ops): void {
  const c = o.c;
  c.fill(o.cpu.add(S.fpr), 0, 128);
  c.st16(o.cpu, FCW_RESET, S.fcw);
  for (const f of ["fsw", "fop", "fcs", "fds"] as const) c.st16(o.cpu, 0, S[f]);
  o.st32("ftop", 0);
  o.st64("fempty", 0x0101_0101_0101_0101n);
  o.st64("fip", 0);
  o.st64("fdp", 0);
}

function saveMxcsr(o: Ops, at: Value): void {
  o.c.st32(at, o.ld32("mxcsr"), AREA.MXCSR);
  o.c.st32(at, MXCSR_BITS, AREA.MXCSR_MASK);
}
const saveXmm = (o: Ops, at: Value) => (n: number) => o.c.stV(at, o.c.ldV(o.cpu, S.xmm + 16 * n), AREA.XMM0 + 16 * n);
const loadXmm = (o: Ops, at: Value) => (n: number) => o.c.stV(o.cpu, o.c.ldV(at, AREA.XMM0 + 16 * n), S.xmm + 16 * n);

const isLong = (o: Ops): Value => o.let(o.ld32("mode").and(3).eq(MODE_64));

/** The offset in memory of `size` bytes at a linear address; the size is known only at run time. */
function reach(o: Ops, address: Value, size: Value | number, write: boolean): Value {
  const at = o.c.call1(write ? o.f.writeAddr : o.f.readAddr, o.cpu, address, size);
  o.c.if(at.eqz(), () => o.leave(STATUS.FAULT));
  return at;
}

/** Which components an XSAVE or XRSTOR is asked for: XCR0 AND EDX:EAX. All defined ones lie in the low half. */
function requested(o: Ops): Value {
  o.faultIf(o.ld32("cr4").and(CR4.OSXSAVE).eqz(), EXC.UD);
  return o.let(o.ld32("xcr0").and(o.gpr(0).lo()).and(X87 | SSE | AVX));
}

export function defineFxsave(m: Module, f: CpuFuncs): void {
  deepFunc(m, f, "fxsave", ["i64", "i32"], [], (o, address, wide) => {
    o.gpIf(address!.and(15).lo());
    const at = reach(o, address!, AREA.LEGACY, true);
    saveX87(o, at, wide!);
    saveMxcsr(o, at);
    vectors(o, isLong(o), saveXmm(o, at));
    o.commit(at);
  });
  deepFunc(m, f, "fxrstor", ["i64", "i32"], [], (o, address, wide) => {
    o.gpIf(address!.and(15).lo());
    const at = reach(o, address!, AREA.LEGACY, false);
    const mxcsr = o.c.ld32(at, AREA.MXCSR);
    o.gpIf(mxcsr.and(~MXCSR_BITS));
    loadX87(o, at, wide!);
    o.st32("mxcsr", mxcsr);
    vectors(o, isLong(o), loadXmm(o, at));
  });

  // (address, pointers 64 bits wide, 0 XSAVE, 1 XSAVEOPT, 2 XSAVEC)
  deepFunc(m, f, "xsave", ["i64", "i32", "i32"], [], (o, address, wide, kind) => {
    const c = o.c, wanted = requested(o), long = isLong(o);
    o.gpIf(address!.and(63).lo());
    const size = c.let(select(wanted.and(AVX), c.let(long.shl(7).add(AREA.YMM + 128)), AREA.YMM));
    const at = reach(o, address!, size, true);
    // x87 and SSE state count as in use always; the YMM halves when one of them is not zero.
    const inUse = c.variable("i32", X87 | SSE);
    c.if(wanted.and(AVX), () => {
      const any = c.variable("v128", c.ldV(o.cpu, S.ymmHigh));
      for (let n = 1; n < 16; n++) any.set(any.get().or(c.ldV(o.cpu, S.ymmHigh + 16 * n)));
      c.if(any.get().op("v128.any_true"), () => inUse.set(X87 | SSE | AVX));
    });
    const saved = c.let(select(kind!.bool(), wanted.and(inUse.get()), wanted));
    c.if(saved.and(X87), () => saveX87(o, at, wide!));
    c.if(select(kind!.eq(2), saved.and(SSE), wanted.and(SSE | AVX)), () => saveMxcsr(o, at));
    c.if(saved.and(SSE), () => vectors(o, long, saveXmm(o, at)));
    c.if(saved.and(AVX), () => {
      vectors(o, long, (n) => c.stV(at, c.ldV(o.cpu, S.ymmHigh + 16 * n), AREA.YMM + 16 * n));
    });
    c.if(kind!.eq(2), () => {
      c.st64(at, saved.zx(), AREA.XSTATE_BV);
      c.st64(at, wanted.zx().or(1n << 63n), AREA.XCOMP_BV);
    }, () => {
      const kept = c.ld64(at, AREA.XSTATE_BV).and(wanted.zx().not());
      c.st64(at, kept.or(wanted.and(inUse.get()).zx()), AREA.XSTATE_BV);
    });
    o.commit(at);
  });

  // (address, pointers 64 bits wide). Every check comes before the first change.
  deepFunc(m, f, "xrstor", ["i64", "i32"], [], (o, address, wide) => {
    const c = o.c, wanted = requested(o), long = isLong(o), xcr0 = o.ld64("xcr0");
    o.gpIf(address!.and(63).lo());
    // The header decides how much more is read; the whole fits the bounce buffer.
    const header = reach(o, address!, AREA.YMM, false);
    const present = c.ld64(header, AREA.XSTATE_BV), layout = c.ld64(header, AREA.XCOMP_BV);
    const compact = c.let(layout.shrU(63).lo());
    const rest = c.variable("i64", c.ld64(header, AREA.HEADER_REST));
    c.if(compact, () => {
      for (let i = 8; i < 48; i += 8) rest.set(rest.get().or(c.ld64(header, AREA.HEADER_REST + i)));
      const named = c.let(layout.and((1n << 63n) - 1n));
      o.gpIf(named.and(xcr0.not()).or(present.and(named.not())).bool());
    }, () => o.gpIf(layout.or(present.and(xcr0.not())).bool()));
    o.gpIf(rest.get().bool());
    const loads = c.let(present.lo().and(wanted));
    const size = select(loads.and(AVX), c.let(long.shl(7).add(AREA.YMM + 128)), AREA.YMM);
    const at = reach(o, address!, c.let(size), false);
    const mxcsr = c.variable("i32", o.ld32("mxcsr"));
    c.if(compact, () => {
      c.if(wanted.and(SSE), () => mxcsr.set(select(loads.and(SSE), c.ld32(at, AREA.MXCSR), MXCSR_RESET)));
    }, () => {
      c.if(wanted.and(SSE | AVX), () => mxcsr.set(c.ld32(at, AREA.MXCSR)));
    });
    o.gpIf(mxcsr.get().and(~MXCSR_BITS));
    o.st32("mxcsr", mxcsr.get());
    c.if(wanted.and(X87), () => c.if(loads.and(X87), () => loadX87(o, at, wide!), () => resetX87(o)));
    const clear = (field: number) => {
      c.fill(o.cpu.add(field), 0, 128);
      c.if(long, () => c.fill(o.cpu.add(field + 128), 0, 128));
    };
    c.if(wanted.and(SSE), () => {
      c.if(loads.and(SSE), () => vectors(o, long, loadXmm(o, at)), () => clear(S.xmm));
    });
    c.if(wanted.and(AVX), () => {
      c.if(loads.and(AVX), () => {
        vectors(o, long, (n) => c.stV(o.cpu, c.ldV(at, AREA.YMM + 16 * n), S.ymmHigh + 16 * n));
      }, () => clear(S.ymmHigh));
    });
  });
}

const call = (name: string, wide: 0 | 1, ...more: number[]) => (o: Ops, address: Value) => {
  o.callF(o.deep(name), o.cpu, o.let(address), wide, ...more);
};
/** CR0.TS is #NM for all of them, CR0.EM only for FXSAVE and FXRSTOR. */
const xcall = (name: string, wide: 0 | 1, ...more: number[]) => (o: Ops, address: Value) => {
  o.c.if(o.ld32("cr0").and(8), () => {
    // Without CR4.OSXSAVE the instruction does not exist, and that comes first.
    o.faultIf(o.ld32("cr4").and(CR4.OSXSAVE), EXC.NM);
  });
  call(name, wide, ...more)(o, address);
};

/** A row for each width of the pointers. */
function rows(op: string, name: string, sem: (wide: 0 | 1) => Row["sem"], more: Partial<Row>): Row[] {
  const args = name.endsWith("RSTOR") ? "M" : "M=";
  return [
    { op: op.replace("0F", "W0 0F"), name, args, ...more, sem: sem(0) },
    { op: op.replace("0F", "W1 0F"), name: `${name}64`, args, only: "64", ...more, sem: sem(1) },
  ];
}
const noHost = "the image holds what a process cannot choose";

export const ROWS: readonly Row[] = [
  ...rows("NP 0F AE /0", "FXSAVE", (w) => call("fxsave", w), { unit: "x87", nowait: true, noHost }),
  ...rows("NP 0F AE /1", "FXRSTOR", (w) => call("fxrstor", w), { unit: "x87", nowait: true, noHost }),
  ...rows("NP 0F AE /4", "XSAVE", (w) => xcall("xsave", w, 0), { feature: "XSAVE", noHost }),
  ...rows("NP 0F AE /5", "XRSTOR", (w) => xcall("xrstor", w), { feature: "XSAVE", noHost }),
  ...rows("NP 0F AE /6", "XSAVEOPT", (w) => xcall("xsave", w, 1), { feature: "XSAVEOPT", noHost }),
  ...rows("NP 0F C7 /4", "XSAVEC", (w) => xcall("xsave", w, 2), { feature: "XSAVEC", noHost }),
];
