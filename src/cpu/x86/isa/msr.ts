/**
 * RDMSR, WRMSR, RDTSC, RDTSCP, RDPMC, RDPID: [sdm2], [sdm4].
 *
 * MSRs that are fields of the state are read and written here; the others go through the imports (system/msr.ts and the local
 * APIC). The time-stamp counter is guest nanoseconds plus an offset, which the deadline that the APIC is given does not have.
 */
import type { Module } from "../../../wasm/module.ts";
import { select, type Value } from "../../../wasm/value.ts";
import type { Imports } from "../imports.ts";
import type { Operand } from "../operand.ts";
import { type CpuFuncs, deepFunc, type Ops } from "../ops.ts";
import type { Row } from "../row.ts";
import { CR0, CR4, EFER, EXC, FS, GS, RAX, RCX, RDX, S } from "../state.ts";
import { attend, callPlain, notCanonical } from "../system/attention.ts";
import { MSR } from "../system/msr.ts";

const EFER_WRITABLE = EFER.SCE | EFER.LME | EFER.NXE;

/** What a value must be before WRMSR takes it: [sdm4 table 2-2]. */
type Legal = "any" | "32" | "canonical" | "pat";

/** MSRs that are 64-bit fields of the state. Commonest first. */
const FIELDS: readonly (readonly [msr: number, offset: number, legal: Legal])[] = [
  [MSR.FS_BASE, S.segBase + 8 * FS, "canonical"],
  [MSR.GS_BASE, S.segBase + 8 * GS, "canonical"],
  [MSR.KERNEL_GS_BASE, S.kernelGsBase, "canonical"],
  [MSR.TSC_AUX, S.tscAux, "32"],
  [MSR.STAR, S.star, "any"],
  [MSR.LSTAR, S.lstar, "canonical"],
  [MSR.CSTAR, S.cstar, "canonical"],
  [MSR.FMASK, S.fmask, "32"],
  [MSR.SYSENTER_CS, S.sysenterCs, "32"],
  [MSR.SYSENTER_ESP, S.sysenterEsp, "canonical"],
  [MSR.SYSENTER_EIP, S.sysenterEip, "canonical"],
  [MSR.PAT, S.pat, "pat"],
];

/** x2APIC registers, the most frequent of all, are asked for before anything is compared. */
const isX2apic = (msr: Value) => msr.shrU(8).eq(MSR.X2APIC >> 8);

export function defineMsr(m: Module, f: CpuFuncs, imports: Imports): void {
  /**
   * The counter without its offset. Within a slice the host is asked once, and time moves with the instructions that have run
   * since, slower than it can in truth: a guest that reads the counter at every system call pays for it.
   */
  const nanoseconds = (o: Ops): Value =>
    o.c.choose(
      o.ld32("tscKnown"),
      () => o.ld64("tscRead").add(o.ld32("tscBudget").sub(o.ld32("budget")).shrS(3).sx()),
      () => {
        o.c.call(imports.readTsc);
        return o.ld64("answer");
      },
      "i64",
    );
  const outside = (o: Ops, msr: Value): Value => {
    o.gpIf(o.c.call1(imports.readMsr, msr).eqz());
    return o.ld64("answer");
  };
  const setOutside = (o: Ops, msr: Value | number, value: Value): void => {
    o.gpIf(o.c.call1(imports.writeMsr, msr, value.lo(), value.shrU(32).lo()).eqz());
  };

  const readDeadline = deepFunc(m, f, "readDeadline", [], ["i64"], (o) => {
    const c = o.c;
    o.gpIf(c.call1(imports.readMsr, MSR.TSC_DEADLINE).eqz());
    const v = o.ld64("answer");
    c.return(0, select(v.eqz(), v, c.let(v.add(o.ld64("tscOffset")))));
  });
  // (value). 0 disarms; a time before or beyond what nanoseconds can tell is the first or the last of them.
  const writeDeadline = deepFunc(m, f, "writeDeadline", ["i64"], [], (o, value) => {
    const c = o.c, offset = o.ld64("tscOffset");
    const ns = c.variable("i64", value!);
    c.if(value!.bool(), () => {
      const v = c.let(value!.sub(offset));
      c.if(
        offset.geS(0),
        () => ns.set(select(value!.gtU(offset), v, 1)),
        () => ns.set(select(v.geU(value!), v, -1)),
      );
    });
    setOutside(o, MSR.TSC_DEADLINE, ns.get());
  });
  // (offset): an armed deadline stays where it is in the counter's terms.
  const setTscOffset = deepFunc(m, f, "setTscOffset", ["i64"], [], (o, offset) => {
    const c = o.c;
    const [status, armed] = c.call(readDeadline, o.cpu) as [Value, Value];
    o.st64("tscOffset", offset!);
    c.if(status.eqz().and(armed.bool()), () => void o.callF(writeDeadline, o.cpu, armed));
  });

  deepFunc(m, f, "rdtsc", [], ["i64"], (o) => {
    const c = o.c;
    o.gpIf(o.ld32("cpl").bool().and(o.ld32("cr4").and(CR4.TSD).bool()));
    c.return(0, nanoseconds(o).add(o.ld64("tscOffset")));
  });

  deepFunc(m, f, "rdmsr", ["i32"], ["i64"], (o, msr) => {
    const c = o.c;
    c.if(isX2apic(msr!), () => c.return(0, outside(o, msr!)));
    for (const [number, offset] of FIELDS) c.if(msr!.eq(number), () => c.return(0, c.ld64(o.cpu, offset)));
    c.if(msr!.eq(MSR.TSC_DEADLINE), () => {
      c.return(0, o.callF(readDeadline, o.cpu)[0]!);
    });
    c.if(msr!.eq(MSR.TSC), () => c.return(0, nanoseconds(o).add(o.ld64("tscOffset"))));
    c.if(msr!.eq(MSR.TSC_ADJUST), () => c.return(0, o.ld64("tscAdjust")));
    c.if(msr!.eq(MSR.EFER), () => c.return(0, o.ld64("efer")));
    c.return(0, outside(o, msr!));
  });

  const checkPat = (o: Ops, v: Value) => {
    // Types are 0, 1, 4, 5, 6, 7: bits 7..3 clear, and not 2 or 3 (bit 1 without bit 2).
    o.gpIf(v.and(0xf8f8_f8f8_f8f8_f8f8n).bool());
    o.gpIf(v.and(o.let(v.shrU(1).not())).and(0x0202_0202_0202_0202n).bool());
  };
  const checkLegal = (o: Ops, v: Value, legal: Legal) => {
    if (legal === "32") o.gpIf(v.shrU(32).bool());
    else if (legal === "canonical") o.gpIf(notCanonical(v));
    else if (legal === "pat") checkPat(o, v);
  };

  const writeEfer = deepFunc(m, f, "writeEfer", ["i64"], [], (o, value) => {
    const c = o.c, old = o.ld32("efer");
    o.gpIf(value!.and(~BigInt(EFER_WRITABLE | EFER.LMA)).bool());
    // LMA is the processor's own.
    const efer = c.let(value!.lo().and(EFER_WRITABLE).or(old.and(EFER.LMA)));
    const changed = c.let(efer.xor(old));
    o.gpIf(changed.and(EFER.LME).bool().and(o.ld32("cr0").and(CR0.PG).bool()));
    o.st64("efer", efer.zx());
    c.if(changed.and(EFER.NXE), () => callPlain(o, "flushTlb"));
  });

  deepFunc(m, f, "wrmsr", ["i32", "i64"], [], (o, msr, value) => {
    const c = o.c, v = value!;
    c.if(isX2apic(msr!), () => {
      setOutside(o, msr!, v);
      c.return(0);
    });
    c.if(msr!.eq(MSR.TSC_DEADLINE), () => {
      o.callF(writeDeadline, o.cpu, v);
      c.return(0);
    });
    for (const [number, offset, legal] of FIELDS) {
      c.if(msr!.eq(number), () => {
        checkLegal(o, v, legal);
        c.st64(o.cpu, v, offset);
        c.return(0);
      });
    }
    const adjust = (delta: Value) => {
      const d = c.let(delta);
      o.callF(setTscOffset, o.cpu, o.ld64("tscOffset").add(d));
      o.st64("tscAdjust", o.ld64("tscAdjust").add(d));
      c.return(0);
    };
    c.if(msr!.eq(MSR.TSC), () => adjust(v.sub(nanoseconds(o)).sub(o.ld64("tscOffset"))));
    c.if(msr!.eq(MSR.TSC_ADJUST), () => adjust(v.sub(o.ld64("tscAdjust"))));
    c.if(msr!.eq(MSR.EFER), () => {
      o.callF(writeEfer, o.cpu, v);
      c.return(0);
    });
    setOutside(o, msr!, v);
  });
}

/** EDX:EAX. */
function setPair(o: Ops, v: Value): void {
  o.setGpr(RAX, v.and(0xffff_ffff));
  o.setGpr(RDX, v.shrU(32));
}

function rdmsr(o: Ops): void {
  const [v] = o.callF(o.deep("rdmsr"), o.cpu, o.gprAt(RCX, 32));
  setPair(o, v!);
}
function wrmsr(o: Ops): void {
  const value = o.let(o.gprAt(RAX, 32).zx().or(o.gprAt(RDX, 32).zx().shl(32)));
  o.callF(o.deep("wrmsr"), o.cpu, o.gprAt(RCX, 32), value);
  // The end of an interrupt, an interrupt to oneself, a deadline that has passed.
  attend(o);
}
function rdtsc(o: Ops): void {
  const [v] = o.callF(o.deep("rdtsc"), o.cpu);
  setPair(o, v!);
}
function rdtscp(o: Ops): void {
  rdtsc(o);
  o.setGpr(RCX, o.ld32("tscAux").zx());
}
/** There are no performance counters, so whatever ECX names does not exist. */
function rdpmc(o: Ops): void {
  o.fault(EXC.GP, 0);
}
function rdpid(o: Ops, a: Operand): void {
  const v = o.ld32("tscAux");
  a.set(a.bits === 64 ? v.zx() : v);
}

export const ROWS: readonly Row[] = [
  { op: "0F 32", name: "RDMSR", cpl0: true, sem: rdmsr },
  { op: "0F 30", name: "WRMSR", cpl0: true, modes: true, sem: wrmsr },
  { op: "0F 31", name: "RDTSC", noHost: "time", sem: rdtsc },
  { op: "0F 01 F9", name: "RDTSCP", feature: "RDTSCP", noHost: "time", sem: rdtscp },
  { op: "0F 33", name: "RDPMC", ends: true, noHost: "no counters", sem: rdpmc },
  {
    op: "F3 0F C7 /7",
    name: "RDPID",
    args: "Rq=",
    only: "64",
    feature: "RDPID",
    noHost: "processor number",
    sem: rdpid,
  },
  {
    op: "F3 0F C7 /7",
    name: "RDPID",
    args: "Rd=",
    only: "legacy",
    feature: "RDPID",
    noHost: "processor number",
    sem: rdpid,
  },
];
