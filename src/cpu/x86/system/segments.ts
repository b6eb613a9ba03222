/**
 * Segment registers, descriptors and the mode they put the processor in: [sdm3 3.4, 3.5, 5].
 *
 * Functions for others: "descriptor", "descriptorHigh", "markAccessed", "cacheSegment", "loadSegment", "enterCode", "loadLdtr",
 * "loadTr", "updateMode", "updateLevel".
 */
import type { Code } from "../../../wasm/code.ts";
import type { Module } from "../../../wasm/module.ts";
import { i32, i64, type Operand as Num, select, type Value } from "../../../wasm/value.ts";
import { type CpuFuncs, deepFunc, type Ops, STATUS } from "../ops.ts";
import {
  AC,
  CR0,
  CR4,
  CS,
  DTLB,
  DTLB_BYTES,
  EFER,
  EXC,
  ITLB,
  ITLB_BYTES,
  LDTR,
  MICRO,
  MICRO_BYTES,
  MMU_SUPERVISOR_AC,
  MODE_32,
  MODE_64,
  MODE_STACK32,
  S,
  SS,
  TR,
  VM,
} from "../state.ts";

/** Bits of a descriptor, all i32 but the base: [sdm3 3.4.5]. */
export const desc = {
  type: (d: Value) => d.shrU(40).lo().and(15),
  /** Code or data, not a system descriptor. */
  isSegment: (d: Value) => d.bit(44),
  dpl: (d: Value) => d.shrU(45).lo().and(3),
  present: (d: Value) => d.bit(47),
  isCode: (d: Value) => d.shrU(43).lo().and(3).eq(3),
  conforming: (d: Value) => d.bit(42),
  long: (d: Value) => d.bit(53),
  big: (d: Value) => d.bit(54),
  base: (d: Value) => d.shrU(16).and(0xff_ffff).or(d.shrU(32).and(0xff00_0000)),
};

/** Bits of the rights kept with a segment register. */
export const RIGHTS = {
  CONFORMING: 4,
  CODE: 8,
  DPL: 5,
  PRESENT: 128,
  L: 1 << 13,
  DB: 1 << 14,
  UNUSABLE: 1 << 16,
} as const;
/** Of a register loaded in real mode or VM86 mode. */
export const REAL_RIGHTS = 0x93, VM86_RIGHTS = 0xf3;

/** Real mode or VM86: bit of S.mode. */
export const MODE_REAL = 8;

/** Describes an exception whose vector may depend on run time, and leaves. */
export function raise(o: Ops, vector: Num, error: Num): void {
  o.st32("excError", error);
  o.st32("excVector", vector);
  o.leave(STATUS.FAULT);
}
export function raiseIf(o: Ops, condition: Value, vector: Num, error: Num): void {
  o.c.if(condition, () => raise(o, vector, error));
}
export const isReal = (o: Ops): Value => o.ld32("mode").and(MODE_REAL);
export const isLong = (o: Ops): Value => o.ld32("efer").and(EFER.LMA);
/** Whether an address is not canonical. */
export const notCanonical = (a: Value): Value => a.shl(16).shrS(16).ne(a);
/** The error code that names a selector. */
export const selectorError = (selector: Value): Value => selector.and(0xfffc);
export const isNull = (selector: Value): Value => selector.and(0xfffc).eqz();

/** The field of segment register `seg` (an i32 value): base of the state plus 4 × seg. */
const at4 = (o: Ops, seg: Value) => o.let(o.cpu.add(seg.shl(2)));

export function defineSegments(m: Module, f: CpuFuncs): void {
  /** Which TLBs are in force. */
  const chooseTlbs = (c: Code, cpu: Value) => {
    const user = c.let(c.ld32(cpu, S.cpl).eq(3));
    const open = c.ld32(cpu, S.eflags).and(AC).bool().and(c.ld32(cpu, S.cr4).and(CR4.SMAP).bool());
    const tlb = c.let(select(user, i32(1), select(open, i32(MMU_SUPERVISOR_AC), 0)));
    c.st32(cpu, cpu.add(DTLB).add(tlb.mul(DTLB_BYTES)), S.dtlb);
    c.st32(cpu, cpu.add(MICRO).add(tlb.mul(MICRO_BYTES)), S.micro);
    c.st32(cpu, cpu.add(ITLB).add(user.mul(ITLB_BYTES)), S.itlb);
  };
  const updateMode = m.func("updateMode", ["i32"], [], (c) => {
    const cpu = c.param(0);
    const cr0 = c.ld32(cpu, S.cr0), cr4 = c.ld32(cpu, S.cr4), flags = c.ld32(cpu, S.eflags);
    const cs = c.ld32(cpu, S.segRights + 4 * CS), ss = c.ld32(cpu, S.segRights + 4 * SS);
    const old = c.ld32(cpu, S.mode);
    const long = c.let(c.ld32(cpu, S.efer).and(EFER.LMA).bool().and(cs.shrU(13)).and(1));
    const width = select(long, i32(MODE_64), select(cs.and(RIGHTS.DB), i32(MODE_32), 0));
    const stack = select(long.eqz().and(ss.shrU(14)).and(1), i32(MODE_STACK32), 0);
    const real = select(cr0.and(CR0.PE).eqz().or(flags.and(VM).bool()), i32(MODE_REAL), 0);
    const mode = c.let(width.or(stack).or(real));
    c.st32(cpu, mode, S.mode);
    chooseTlbs(c, cpu);
    // What the instruction TLBs point to was decoded for the old mode.
    c.if(mode.ne(old), () => c.fill(cpu.add(ITLB), 0xff, MICRO - ITLB));

    const emTs = c.let(cr0.and(CR0.EM | CR0.TS).bool());
    const sse = emTs.or(cr4.and(CR4.OSFXSR).eqz());
    const xcr0 = c.ld32(cpu, S.xcr0);
    const avx = cr0.and(CR0.TS).bool().or(cr4.and(CR4.OSXSAVE).eqz()).or(xcr0.and(6).ne(6))
      .or(mode.and(MODE_REAL).bool());
    c.st32(cpu, sse.or(emTs.mul(6)).or(avx.shl(3)), S.unitTraps);
  });
  f.more.set("updateMode", updateMode);
  // The same where no control register has changed: from 64-bit code to 64-bit code only the level may be another.
  f.more.set(
    "updateLevel",
    m.func("updateLevel", ["i32"], [], (c) => {
      const cpu = c.param(0), to64 = c.ld32(cpu, S.segRights + 4 * CS).and(RIGHTS.L);
      const stays = c.ld32(cpu, S.mode).eq(MODE_64).and(to64.bool());
      c.mostly(stays, () => chooseTlbs(c, cpu), () => void c.call(updateMode, cpu));
    }),
  );

  /** (selector) → its table's base and the table's limit. An LDT that is not there has no room for anything. */
  const table = (o: Ops, selector: Value): { base: Value; limit: Value } => {
    const c = o.c;
    const base = c.variable("i64", o.ld64("gdtrBase")), limit = c.variable("i32", o.ld32("gdtrLimit"));
    c.if(selector.and(4), () => {
      base.set(o.ld64("segBase", LDTR));
      limit.set(select(o.ld32("segRights", LDTR).and(RIGHTS.UNUSABLE), i32(0), o.ld32("segLimit", LDTR)));
    });
    return { base: base.get(), limit: limit.get() };
  };

  // (selector, vector) → the descriptor. Outside of its table: exception `vector` with the selector as error code.
  deepFunc(m, f, "descriptor", ["i32", "i32"], ["i64"], (o, selector, vector) => {
    const { base, limit } = table(o, selector!);
    raiseIf(o, selector!.or(7).and(0xffff).gtU(limit), vector!, selectorError(selector!));
    const [d] = o.callF(o.deep("supRead64"), o.cpu, base.add(selector!.and(0xfff8).zx()));
    o.c.return(STATUS.NEXT, d!);
  });
  // The upper half of a 16-byte descriptor: [sdm3 5.8.3.1, 7.2.3].
  deepFunc(m, f, "descriptorHigh", ["i32", "i32"], ["i64"], (o, selector, vector) => {
    const { base, limit } = table(o, selector!);
    raiseIf(o, selector!.and(0xfff8).add(15).gtU(limit), vector!, selectorError(selector!));
    const [d] = o.callF(o.deep("supRead64"), o.cpu, base.add(selector!.and(0xfff8).zx()).add(8));
    raiseIf(o, d!.shrU(40).lo().and(31).bool(), vector!, selectorError(selector!));
    o.c.return(STATUS.NEXT, d!);
  });

  // (selector, descriptor, type bits to change): writes the descriptor's type byte with them flipped.
  deepFunc(m, f, "changeType", ["i32", "i64", "i32"], [], (o, selector, d, flip) => {
    const { base } = table(o, selector!);
    const byte = d!.shrU(40).lo().and(0xff).xor(flip!);
    o.callF(o.deep("supWrite8"), o.cpu, base.add(selector!.and(0xfff8).zx()).add(5), byte);
  });
  deepFunc(m, f, "markAccessed", ["i32", "i64"], [], (o, selector, d) => {
    o.c.if(d!.bit(40).eqz(), () => {
      o.callF(o.deep("changeType"), o.cpu, selector!, d!, 1);
    });
  });

  // (register, selector, descriptor): fills in a segment register; no checks.
  f.more.set(
    "cacheSegment",
    m.func("cacheSegment", ["i32", "i32", "i32", "i64"], [], (c) => {
      const cpu = c.param(0), seg = c.param(1), d = c.param(3);
      const four = c.let(cpu.add(seg.shl(2)));
      c.st32(four, c.param(2), S.segSelector);
      // The accessed flag is on, in memory and here.
      const accessed = desc.isSegment(d);
      const rights = d.shrU(40).lo().and(0xff).or(d.shrU(52).lo().and(15).shl(12)).or(accessed);
      c.st32(four, rights, S.segRights);
      const limit = c.let(d.lo().and(0xffff).or(d.shrU(32).lo().and(0xf_0000)));
      c.st32(four, select(d.bit(55), limit.shl(12).or(0xfff), limit), S.segLimit);
      c.st64(cpu.add(seg.shl(3)), desc.base(d), S.segBase);
    }),
  );

  // (register, selector): as real mode and VM86 mode do it.
  f.more.set(
    "loadReal",
    m.func("loadReal", ["i32", "i32", "i32"], [], (c) => {
      const cpu = c.param(0), seg = c.param(1), selector = c.param(2);
      const four = c.let(cpu.add(seg.shl(2)));
      c.st32(four, selector, S.segSelector);
      c.st64(cpu.add(seg.shl(3)), selector.and(0xffff).shl(4).zx(), S.segBase);
      c.if(c.ld32(cpu, S.eflags).and(VM), () => {
        c.st32(four, 0xffff, S.segLimit);
        c.st32(four, VM86_RIGHTS, S.segRights);
      }, () => {
        // Limits and sizes that protected mode has set stay.
        c.if(c.ld32(four, S.segRights).and(RIGHTS.UNUSABLE), () => {
          c.st32(four, 0xffff, S.segLimit);
          c.st32(four, REAL_RIGHTS, S.segRights);
        });
      });
    }),
  );

  // (register, selector): ES, SS, DS, FS, GS by an instruction, with all checks: [sdm2 MOV], [sdm3 5.5-5.7].
  deepFunc(m, f, "loadSegment", ["i32", "i32"], [], (o, seg, selector) => {
    const c = o.c;
    c.if(isReal(o), () => {
      c.call(o.deep("loadReal"), o.cpu, seg!, selector!);
      c.return(STATUS.NEXT);
    });
    const cpl = o.ld32("cpl"), rpl = c.let(selector!.and(3)), error = c.let(selectorError(selector!));
    const isStack = c.let(seg!.eq(SS));
    c.if(isNull(selector!), () => {
      // A null stack segment is for the inner levels of 64-bit mode only.
      const allowed = o.ld32("mode").and(3).eq(MODE_64).and(cpl.ne(3)).and(rpl.eq(cpl));
      o.gpIf(isStack.and(allowed.eqz()));
      const four = at4(o, seg!);
      c.st32(four, selector!, S.segSelector);
      c.st32(four, cpl.shl(RIGHTS.DPL).or(RIGHTS.UNUSABLE), S.segRights);
      c.st32(four, 0, S.segLimit);
      c.st64(o.cpu.add(seg!.shl(3)), 0, S.segBase);
      c.return(STATUS.NEXT);
    });
    const [d] = o.callF(o.deep("descriptor"), o.cpu, selector!, EXC.GP) as [Value];
    const type = c.let(desc.type(d)), dpl = c.let(desc.dpl(d));
    raiseIf(o, desc.isSegment(d).eqz(), EXC.GP, error);
    c.if(isStack, () => {
      // Writable data.
      raiseIf(o, type.and(10).ne(2).or(rpl.ne(cpl)).or(dpl.ne(cpl)), EXC.GP, error);
      raiseIf(o, desc.present(d).eqz(), EXC.SS, error);
    }, () => {
      // Data, or code that can be read.
      raiseIf(o, type.and(10).eq(8), EXC.GP, error);
      const free = type.and(12).eq(12);
      raiseIf(o, free.eqz().and(rpl.gtU(dpl).or(cpl.gtU(dpl))), EXC.GP, error);
      raiseIf(o, desc.present(d).eqz(), EXC.NP, error);
    });
    o.callF(o.deep("markAccessed"), o.cpu, selector!, d);
    c.call(o.deep("cacheSegment"), o.cpu, seg!, selector!, d);
    c.if(isStack, () => {
      c.call(updateMode, o.cpu);
    });
  });

  // (selector, descriptor, CPL, offset): the last steps of a transfer to code that has passed its checks: present, the size
  // rules of long mode, the limit or canonical form of the target, the accessed flag; then CS, CPL, RIP.
  deepFunc(m, f, "checkCode", ["i32", "i64", "i64"], [], (o, selector, d, offset) => {
    const c = o.c, error = c.let(selectorError(selector!));
    raiseIf(o, desc.present(d!).eqz(), EXC.NP, error);
    const long = c.let(isLong(o).bool().and(desc.long(d!)));
    c.if(long, () => {
      raiseIf(o, desc.big(d!), EXC.GP, error);
      o.gpIf(notCanonical(offset!));
    }, () => {
      const limit = c.let(d!.lo().and(0xffff).or(d!.shrU(32).lo().and(0xf_0000)));
      o.gpIf(offset!.gtU(select(d!.bit(55), limit.shl(12).or(0xfff), limit).zx()));
    });
    o.callF(o.deep("markAccessed"), o.cpu, selector!, d!);
  });
  f.more.set(
    "setCode",
    m.func("setCode", ["i32", "i32", "i64", "i32", "i64"], [], (c) => {
      const cpu = c.param(0), cpl = c.param(3);
      c.call(f.more.get("cacheSegment")!, cpu, CS, c.param(1).and(0xfffc).or(cpl), c.param(2));
      c.st32(cpu, cpl, S.cpl);
      c.st64(cpu, c.param(4), S.rip);
    }),
  );
  deepFunc(m, f, "enterCode", ["i32", "i64", "i32", "i64"], [], (o, selector, d, cpl, offset) => {
    o.callF(o.deep("checkCode"), o.cpu, selector!, d!, offset!);
    o.c.call(o.deep("setCode"), o.cpu, selector!, d!, cpl!, offset!);
    o.c.call(updateMode, o.cpu);
  });

  // LLDT and LTR: [sdm2 LLDT, LTR].
  for (const [name, seg] of [["loadLdtr", LDTR], ["loadTr", TR]] as const) {
    deepFunc(m, f, name, ["i32"], [], (o, selector) => {
      const c = o.c, error = c.let(selectorError(selector!));
      c.if(isNull(selector!), () => {
        if (seg === TR) return o.fault(EXC.GP, 0);
        o.st32("segSelector", selector!, LDTR);
        o.st32("segRights", RIGHTS.UNUSABLE, LDTR);
        o.st32("segLimit", 0, LDTR);
        o.st64("segBase", 0, LDTR);
        c.return(STATUS.NEXT);
      });
      raiseIf(o, selector!.and(4).bool(), EXC.GP, error);
      const [d] = o.callF(o.deep("descriptor"), o.cpu, selector!, EXC.GP) as [Value];
      const long = isLong(o);
      // 2: LDT; 9: available TSS; 1: available 16-bit TSS.
      const type = c.let(d.shrU(40).lo().and(31));
      const right = seg === LDTR ? type.eq(2) : type.eq(9).or(type.eq(1).and(long.eqz()));
      raiseIf(o, right.eqz(), EXC.GP, error);
      raiseIf(o, desc.present(d).eqz(), EXC.NP, error);
      const base = c.variable("i64", desc.base(d));
      c.if(long, () => {
        const [high] = o.callF(o.deep("descriptorHigh"), o.cpu, selector!, EXC.GP) as [Value];
        base.set(base.get().or(high.shl(32)));
        o.gpIf(notCanonical(base.get()));
      });
      const loaded = seg === TR ? c.let(d.or(i64(1n << 41n))) : d;
      if (seg === TR) o.callF(o.deep("changeType"), o.cpu, selector!, d, 2);
      c.call(o.deep("cacheSegment"), o.cpu, seg, selector!, loaded);
      o.st64("segBase", base.get(), seg);
    });
  }
}
