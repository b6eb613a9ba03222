/**
 * Lazy status flags.
 *
 * An instruction leaves its result and operands, sign-extended to 64 bits, and a kind; flags are worked out when somebody asks.
 * Sign extension keeps unsigned order, so no formula depends on the operand size.
 *
 * | kind | CF | OF | AF | ZF | SF | PF |
 * |---|---|---|---|---|---|---|
 * | RES | bits of fB | bits of fB | bits of fB | fRes = 0 | fRes < 0 | low byte of fRes |
 * | EXPLICIT | bits of fB | … | … | fRes = 0 | bits of fB | bits of fB |
 * | ADD | fRes <u fA | sign((fA^fRes) & (fB^fRes)) | bit 4 of fA^fB^fRes | as RES | | |
 * | SUB | fA <u fB | sign((fA^fB) & (fA^fRes)) | as ADD | as RES | | |
 * | LOGIC | 0 | 0 | 0 | as RES | | |
 */
import type { Code } from "../../wasm/code.ts";
import type { Func, Module } from "../../wasm/module.ts";
import { select, type Value } from "../../wasm/value.ts";
import { AF, CF, OF, PF, S, SF, ZF } from "./state.ts";

export const KIND = { RES: 0, EXPLICIT: 1, ADD: 2, SUB: 3, LOGIC: 4 } as const;

/** Functions over the lazy flags; each takes the vCPU's base. */
export interface FlagFuncs {
  /** 0 or 1. */
  readonly cf: Func;
  readonly of: Func;
  readonly sf: Func;
  readonly pf: Func;
  readonly af: Func;
  /** All six at their RFLAGS positions. */
  readonly all: Func;
}

export function flagFuncs(m: Module): FlagFuncs {
  const one = (name: string, body: (c: Code, cpu: Value) => void) =>
    m.func(`flag.${name}`, ["i32"], ["i32"], (c) => body(c, c.param(0)));
  const signOf = (v: Value) => v.shrU(63).lo();

  const cf = one("cf", (c, cpu) => {
    const kind = c.ld32(cpu, S.fKind);
    c.if(kind.eq(KIND.SUB), () => c.return(c.ld64(cpu, S.fA).ltU(c.ld64(cpu, S.fB))));
    c.if(kind.eq(KIND.ADD), () => c.return(c.ld64(cpu, S.fRes).ltU(c.ld64(cpu, S.fA))));
    c.if(kind.eq(KIND.LOGIC), () => c.return(0));
    c.return(c.ld32(cpu, S.fB).and(CF));
  });
  const of = one("of", (c, cpu) => {
    const kind = c.ld32(cpu, S.fKind);
    c.if(kind.leU(KIND.EXPLICIT), () => c.return(c.ld32(cpu, S.fB).shrU(11).and(1)));
    c.if(kind.eq(KIND.LOGIC), () => c.return(0));
    const a = c.ld64(cpu, S.fA), b = c.ld64(cpu, S.fB), r = c.ld64(cpu, S.fRes);
    c.if(kind.eq(KIND.SUB), () => c.return(signOf(a.xor(b).and(a.xor(r)))));
    c.return(signOf(a.xor(r).and(b.xor(r))));
  });
  const sf = one("sf", (c, cpu) => {
    c.if(c.ld32(cpu, S.fKind).eq(KIND.EXPLICIT), () => c.return(c.ld32(cpu, S.fB).shrU(7).and(1)));
    c.return(signOf(c.ld64(cpu, S.fRes)));
  });
  const pf = one("pf", (c, cpu) => {
    c.if(c.ld32(cpu, S.fKind).eq(KIND.EXPLICIT), () => c.return(c.ld32(cpu, S.fB).shrU(2).and(1)));
    c.return(c.ld8u(cpu, S.fRes).popcnt().and(1).xor(1));
  });
  const af = one("af", (c, cpu) => {
    const kind = c.ld32(cpu, S.fKind);
    c.if(kind.leU(KIND.EXPLICIT), () => c.return(c.ld32(cpu, S.fB).shrU(4).and(1)));
    c.if(kind.eq(KIND.LOGIC), () => c.return(0));
    c.return(c.ld32(cpu, S.fA).xor(c.ld32(cpu, S.fB)).xor(c.ld32(cpu, S.fRes)).shrU(4).and(1));
  });
  // PUSHF and interrupts ask for all of them, often: one look at the kind, and each formula in place.
  const all = one("all", (c, cpu) => {
    const kind = c.ld32(cpu, S.fKind), r = c.ld64(cpu, S.fRes);
    const z = c.let(r.eqz().shl(Math.log2(ZF)));
    const b = c.ld64(cpu, S.fB);
    c.if(kind.eq(KIND.EXPLICIT), () => c.return(b.lo().and(CF | PF | AF | SF | OF).or(z)));
    const parity = r.lo().and(0xff).popcnt().and(1).xor(1).shl(Math.log2(PF));
    const fromResult = c.let(z.or(signOf(r).shl(Math.log2(SF))).or(parity));
    c.if(kind.eq(KIND.LOGIC), () => c.return(fromResult));
    c.if(kind.eq(KIND.RES), () => c.return(fromResult.or(b.lo().and(CF | AF | OF))));
    const a = c.ld64(cpu, S.fA);
    const carryOut = c.choose(kind.eq(KIND.SUB), () => a.ltU(b), () => r.ltU(a), "i32");
    const overflow = c.choose(kind.eq(KIND.SUB), () => a.xor(b).and(a.xor(r)), () => a.xor(r).and(b.xor(r)), "i64");
    const half = a.xor(b).xor(r).lo().and(AF);
    c.return(fromResult.or(carryOut).or(half).or(signOf(overflow).shl(Math.log2(OF))));
  });
  return { cf, of, sf, pf, af, all };
}

/** Whether condition `cc` (0..15 as in Jcc: O NO B AE Z NZ BE A S NS P NP L GE LE G) holds: 0 or not 0. */
export function condition(c: Code, f: FlagFuncs, cpu: Value, cc: number): Value {
  const call = (x: Func) => c.call1(x, cpu);
  const zero = () => c.ld64(cpu, S.fRes).eqz();
  const base = (): Value => {
    switch (cc >> 1) {
      case 0:
        return call(f.of);
      case 1:
        return call(f.cf);
      case 2:
        return zero();
      case 3:
        return call(f.cf).or(zero());
      case 4:
        return call(f.sf);
      case 5:
        return call(f.pf);
      case 6:
        return call(f.sf).xor(call(f.of));
      default:
        return call(f.sf).xor(call(f.of)).or(zero());
    }
  };
  return cc & 1 ? base().eqz() : base();
}

/** What CF, PF, AF, ZF, SF and OF become when all of them are given: see setExplicit in ops.ts. */
export function resultForZero(flags: Value): Value {
  return select(flags.and(ZF), flags.xor(flags), 1);
}
