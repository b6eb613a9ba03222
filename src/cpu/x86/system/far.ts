/**
 * Far transfers: JMP, CALL, RET through code segments, call gates, task gates and task states: [sdm3 5.8], [sdm2 JMP, CALL, RET].
 *
 * "far.jump" and "far.call" (selector, offset, operand bytes, RIP of the next instruction), "far.ret" (operand bytes, bytes to
 * release). They end with JUMP, or FAULT with nothing changed.
 */
import type { Module } from "../../../wasm/module.ts";
import { i32, select, type Value } from "../../../wasm/value.ts";
import { type CpuFuncs, deepFunc, type Ops, STATUS } from "../ops.ts";
import { CS, DS, ES, EXC, FS, GS, S, SS } from "../state.ts";
import { Frame, nullStack } from "./frame.ts";
import { desc, isLong, isNull, isReal, raiseIf, RIGHTS, selectorError } from "./segments.ts";
import { HOW } from "./task.ts";

/** Goes to `selector:offset` in real mode or VM86 mode, after what `before` does (it may fault). */
export function realTarget(o: Ops, selector: Value, offset: Value, before: () => void): void {
  o.gpIf(offset.gtU(o.ld32("segLimit", CS).zx()));
  before();
  o.c.call(o.deep("loadReal"), o.cpu, CS, selector);
  o.st64("rip", offset);
  o.c.call(o.deep("updateMode"), o.cpu);
}

/** Ends with the result of a task switch. */
function switchTask(o: Ops, selector: Value, how: number, next: Value): void {
  const status = o.c.call1(o.deep("task.switch"), o.cpu, selector, how, next);
  o.leave(o.c.call1(o.deep("afterSwitch"), o.cpu, status));
}

/** The new SS and stack pointer of a return to an outer level (or of 64-bit IRET), checked but not yet loaded. */
export interface OuterStack {
  readonly selector: Value;
  readonly descriptor: Value;
  readonly isNull: Value;
}
export function checkOuterStack(o: Ops, selector: Value, level: Value, to64: Value): OuterStack {
  const c = o.c, none = c.let(isNull(selector)), descriptor = c.variable("i64", 0);
  c.if(none, () => {
    // A null SS is for levels 0 to 2 of 64-bit code.
    o.gpIf(to64.eqz().or(level.eq(3)).or(selector.and(3).ne(level)));
  }, () => {
    const [d] = o.callF(o.deep("checkStack"), o.cpu, selector, level, EXC.GP) as [Value];
    descriptor.set(d);
  });
  return { selector, descriptor: descriptor.get(), isNull: none };
}
export function loadOuterStack(o: Ops, s: OuterStack, level: Value): void {
  const load = () => void o.c.call(o.deep("cacheSegment"), o.cpu, SS, s.selector, s.descriptor);
  o.c.if(s.isNull, () => nullStack(o, s.selector, level), load);
}

/** Whether a descriptor names 64-bit code. */
export const is64Code = (o: Ops, d: Value): Value => o.let(isLong(o).bool().and(desc.long(d)));

export function defineFar(m: Module, f: CpuFuncs): void {
  // (selector) → descriptor of the code a RET or IRET goes back to, with all checks but those of the offset.
  deepFunc(m, f, "far.returnCode", ["i32"], ["i64"], (o, selector) => {
    const c = o.c, rpl = c.let(selector!.and(3)), error = c.let(selectorError(selector!));
    o.gpIf(isNull(selector!));
    const [d] = o.callF(o.deep("descriptor"), o.cpu, selector!, EXC.GP) as [Value];
    const dpl = c.let(desc.dpl(d));
    const fits = select(desc.conforming(d), dpl.leU(rpl), dpl.eq(rpl));
    raiseIf(o, rpl.ltU(o.ld32("cpl")).or(desc.isCode(d).eqz()).or(fits.eqz()), EXC.GP, error);
    c.return(STATUS.NEXT, d);
  });

  // After a return to an outer level: data segments that level must not see become null.
  f.more.set(
    "far.dropInner",
    m.func("far.dropInner", ["i32"], [], (c) => {
      const cpu = c.param(0), cpl = c.ld32(cpu, S.cpl);
      for (const seg of [ES, DS, FS, GS]) {
        const rights = c.ld32(cpu, S.segRights + 4 * seg);
        const guarded = rights.and(RIGHTS.CODE | RIGHTS.CONFORMING).ne(RIGHTS.CODE | RIGHTS.CONFORMING);
        c.if(rights.shrU(RIGHTS.DPL).and(3).ltU(cpl).and(guarded).and(rights.and(RIGHTS.UNUSABLE).eqz()), () => {
          c.st32(cpu, 0, S.segSelector + 4 * seg);
          c.st32(cpu, RIGHTS.UNUSABLE, S.segRights + 4 * seg);
          c.st32(cpu, 0, S.segLimit + 4 * seg);
        });
      }
    }),
  );

  // (selector, descriptor): rights to jump to or call a code segment directly.
  deepFunc(m, f, "far.direct", ["i32", "i64"], [], (o, selector, d) => {
    const cpl = o.ld32("cpl"), dpl = o.let(desc.dpl(d!));
    const open = dpl.leU(cpl), same = dpl.eq(cpl).and(selector!.and(3).leU(cpl));
    const allowed = select(desc.conforming(d!), open, same);
    raiseIf(o, desc.isCode(d!).eqz().or(allowed.eqz()), EXC.GP, selectorError(selector!));
  });

  /**
   * A system descriptor: leaves for task states and task gates; gives the target of a call gate, whose code descriptor is
   * checked but for its level.
   */
  const gate = (o: Ops, selector: Value, d: Value, how: number, next: Value) => {
    const c = o.c, error = c.let(selectorError(selector)), cpl = o.ld32("cpl"), long = isLong(o);
    const type = c.let(desc.type(d)), dpl = c.let(desc.dpl(d));
    const isCall = c.let(select(long, type.eq(12), type.and(7).eq(4)));
    const isTss = c.let(type.and(7).eq(1).and(long.eqz())), isTask = c.let(type.eq(5).and(long.eqz()));
    raiseIf(o, isCall.or(isTss).or(isTask).eqz(), EXC.GP, error);
    raiseIf(o, dpl.ltU(cpl).or(dpl.ltU(selector.and(3))), EXC.GP, error);
    raiseIf(o, desc.present(d).eqz(), EXC.NP, error);
    c.if(isTss, () => switchTask(o, selector, how, next));
    const target = c.let(d.shrU(16).lo().and(0xffff));
    c.if(isTask, () => switchTask(o, target, how, next));
    const offset = c.variable("i64", d.and(0xffff));
    c.if(type.and(8), () => offset.set(offset.get().or(d.shrU(32).and(0xffff_0000))));
    c.if(long, () => {
      const [high] = o.callF(o.deep("descriptorHigh"), o.cpu, selector, EXC.GP) as [Value];
      offset.set(offset.get().or(high.shl(32)));
    });
    o.gpIf(isNull(target));
    const [code] = o.callF(o.deep("descriptor"), o.cpu, target, EXC.GP) as [Value];
    const wrongSize = long.bool().and(desc.long(code).eqz());
    raiseIf(o, desc.isCode(code).eqz().or(wrongSize).or(desc.dpl(code).gtU(cpl)), EXC.GP, selectorError(target));
    const bytes = c.let(select(long, i32(8), type.and(8).bool().add(1).shl(1)));
    return { target, code, offset: c.let(offset.get()), bytes, long };
  };

  const params = ["i32", "i64", "i32", "i64"] as const;
  deepFunc(m, f, "far.jump", params, [], (o, selector, offset, _bytes, next) => {
    const c = o.c, cpl = o.ld32("cpl");
    c.if(isReal(o), () => {
      realTarget(o, selector!, offset!, () => {});
      o.leave(STATUS.JUMP);
    });
    o.gpIf(isNull(selector!));
    const [d] = o.callF(o.deep("descriptor"), o.cpu, selector!, EXC.GP) as [Value];
    c.if(desc.isSegment(d), () => {
      o.callF(o.deep("far.direct"), o.cpu, selector!, d);
      o.callF(o.deep("enterCode"), o.cpu, selector!, d, cpl, offset!);
    }, () => {
      const g = gate(o, selector!, d, HOW.JMP, next!);
      // A jump does not change the level.
      const denied = desc.conforming(g.code).eqz().and(desc.dpl(g.code).ne(cpl));
      raiseIf(o, denied, EXC.GP, selectorError(g.target));
      o.callF(o.deep("enterCode"), o.cpu, g.target, g.code, cpl, g.offset);
    });
    o.leave(STATUS.JUMP);
  });

  deepFunc(m, f, "far.call", params, [], (o, selector, offset, bytes, next) => {
    const c = o.c, cpl = o.ld32("cpl"), oldCs = o.ld32("segSelector", CS);
    const frame = new Frame(o);
    frame.current();
    const pushReturn = (n: Value) => {
      frame.push(oldCs, n);
      frame.push(next!, n);
    };
    c.if(isReal(o), () => {
      realTarget(o, selector!, offset!, () => pushReturn(bytes!));
      frame.commit();
      o.leave(STATUS.JUMP);
    });
    o.gpIf(isNull(selector!));
    const [d] = o.callF(o.deep("descriptor"), o.cpu, selector!, EXC.GP) as [Value];
    c.if(desc.isSegment(d), () => {
      o.callF(o.deep("far.direct"), o.cpu, selector!, d);
      o.callF(o.deep("checkCode"), o.cpu, selector!, d, offset!);
      pushReturn(bytes!);
      frame.commit();
      c.call(o.deep("setCode"), o.cpu, selector!, d, cpl, offset!);
      c.call(o.deep("updateMode"), o.cpu);
      o.leave(STATUS.JUMP);
    });
    const g = gate(o, selector!, d, HOW.CALL, next!);
    const level = c.let(select(desc.conforming(g.code), cpl, desc.dpl(g.code)));
    o.callF(o.deep("checkCode"), o.cpu, g.target, g.code, g.offset);
    const inner = c.let(level.ltU(cpl));
    const ss = c.variable("i32", level), ssDesc = c.variable("i64", 0);
    c.if(inner, () => {
      const oldSs = o.ld32("segSelector", SS), oldSp = o.gpr(4);
      c.if(g.long, () => {
        const [sp] = o.callF(o.deep("tss.rsp"), o.cpu, level.shl(3).add(4)) as [Value];
        frame.flat(level, sp);
        frame.push(oldSs, 8);
        frame.push(oldSp, 8);
      }, () => {
        const [s, sp, sd] = o.callF(o.deep("tss.stack"), o.cpu, level) as [Value, Value, Value];
        ss.set(s);
        ssDesc.set(sd);
        const old = new Frame(o);
        old.current();
        frame.segment(s, sd, level, sp);
        frame.push(oldSs, g.bytes);
        frame.push(oldSp, g.bytes);
        // Parameters, the deepest first.
        const left = c.variable("i32", d.shrU(32).lo().and(31)), top = c.let(old.sp.get());
        c.block((end) =>
          c.loop((again) => {
            c.brIf(end, left.get().eqz());
            left.set(left.get().sub(1));
            old.sp.set(top.add(left.get().mul(g.bytes).zx()));
            frame.push(old.pop(g.bytes), g.bytes);
            c.br(again);
          })
        );
      });
    });
    pushReturn(g.bytes);
    frame.commit();
    c.if(inner, () => {
      const load = () => void c.call(o.deep("cacheSegment"), o.cpu, SS, ss.get(), ssDesc.get());
      c.if(g.long, () => nullStack(o, level, level), load);
    });
    c.call(o.deep("setCode"), o.cpu, g.target, g.code, level, g.offset);
    c.call(o.deep("updateMode"), o.cpu);
    o.leave(STATUS.JUMP);
  });

  deepFunc(m, f, "far.ret", ["i32", "i32"], [], (o, bytes, release) => {
    const c = o.c, cpl = o.ld32("cpl"), frame = new Frame(o);
    frame.current();
    const ip = frame.pop(bytes!), selector = c.let(frame.pop(bytes!).lo().and(0xffff));
    frame.sp.set(frame.sp.get().add(release!.zx()));
    c.if(isReal(o), () => {
      realTarget(o, selector, ip, () => {});
      frame.commit();
      o.leave(STATUS.JUMP);
    });
    const [d] = o.callF(o.deep("far.returnCode"), o.cpu, selector) as [Value];
    const level = c.let(selector.and(3));
    o.callF(o.deep("checkCode"), o.cpu, selector, d, ip);
    c.if(level.eq(cpl), () => {
      frame.commit();
      c.call(o.deep("setCode"), o.cpu, selector, d, level, ip);
      c.call(o.deep("updateMode"), o.cpu);
      o.leave(STATUS.JUMP);
    });
    const sp = frame.pop(bytes!), ss = c.let(frame.pop(bytes!).lo().and(0xffff));
    const outer = checkOuterStack(o, ss, level, is64Code(o, d));
    loadOuterStack(o, outer, level);
    c.call(o.deep("setCode"), o.cpu, selector, d, level, ip);
    c.call(o.deep("updateMode"), o.cpu);
    // At the width of the new stack.
    const landed = new Frame(o);
    landed.current();
    landed.sp.set(sp.add(release!.zx()));
    landed.commit();
    c.call(o.deep("far.dropInner"), o.cpu);
    o.leave(STATUS.JUMP);
  });
}
