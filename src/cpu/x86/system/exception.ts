/**
 * Delivery of exceptions and interrupts through the interrupt descriptor table: [sdm3 6].
 *
 * Emulated: long mode (IST, stack switch and alignment), protected mode (interrupt, trap and task gates, stack switch, out of
 * VM86 mode), real mode, double and triple faults. Absent: CR4.VME's interrupt redirection.
 *
 * Functions for others: "deliver" () (what S.excVector and S.excError describe), "interrupt" (vector), "nmi" (), "trapDb" (bits
 * of DR6: a trap behind an instruction) → NEXT with RIP at the handler, or SHUTDOWN; "softInt" (vector, RIP to return to) → JUMP, FAULT or SHUTDOWN;
 * "afterSwitch" (status of something that may have switched tasks) → what the instruction ends with.
 */
import type { Module } from "../../../wasm/module.ts";
import { i32, i64, select, type Value } from "../../../wasm/value.ts";
import { VIOLATION } from "../exits.ts";
import { type CpuFuncs, declareDeep, deepFunc, defineDeep, type Ops, STATUS } from "../ops.ts";
import { AC, CS, DR6, DR7, DS, ES, EXC, FS, GS, IF, NT, RF, RSP, SS, TF, VM } from "../state.ts";
import { loadedFlags } from "./attention.ts";
import { WATCHED } from "./breakpoints.ts";
import { Frame, nullStack } from "./frame.ts";
import { desc, isLong, isNull, raiseIf, RIGHTS, selectorError } from "./segments.ts";

/** What an event is: decides on EXT, RF and the check of the gate's DPL. */
export const EVENT = { FAULT: 0, EXTERNAL: 1, SOFTWARE: 2, TRAP: 3 } as const;

/** The error code that names a gate of the IDT. */
const gateError = (vector: Value): Value => vector.shl(3).or(2);

/** RFLAGS to push: RF set for faults, and clear behind an instruction that has ended: [sdm3 §18.3.1.1]. */
function pushedFlags(o: Ops, kind: Value): Value {
  const flags = o.rflags();
  return o.let(select(kind.eq(EVENT.FAULT), flags.or(RF), select(kind.eq(EVENT.SOFTWARE), flags.and(~RF), flags)));
}

/** Clears the flags that entering a handler clears; IF only for interrupt gates. */
function enterFlags(o: Ops, isInterruptGate: Value): void {
  const gone = select(isInterruptGate, i32(TF | NT | RF | VM | IF), i32(TF | NT | RF | VM));
  o.st32("eflags", o.ld32("eflags").and(gone.not()));
}

export function defineExceptions(m: Module, f: CpuFuncs): void {
  const params = ["i32", "i32", "i32", "i64"] as const;

  const long = deepFunc(m, f, "event.long", params, [], (o, vector, error, kind, rip) => {
    const c = o.c, cpl = o.ld32("cpl"), gate = c.let(gateError(vector!));
    raiseIf(o, vector!.shl(4).or(15).gtU(o.ld32("idtrLimit")), EXC.GP, gate);
    const at = c.let(o.ld64("idtrBase").add(vector!.shl(4).zx()));
    const [low] = o.callF(o.deep("supRead64"), o.cpu, at) as [Value];
    const [high] = o.callF(o.deep("supRead64"), o.cpu, at.add(8)) as [Value];
    const type = c.let(low.shrU(40).lo().and(31));
    raiseIf(o, type.and(30).ne(14), EXC.GP, gate);
    raiseIf(o, kind!.eq(EVENT.SOFTWARE).and(cpl.gtU(desc.dpl(low))), EXC.GP, gate);
    raiseIf(o, desc.present(low).eqz(), EXC.NP, gate);
    const target = c.let(low.and(0xffff).or(low.shrU(32).and(0xffff_0000)).or(high.shl(32)));
    const selector = c.let(low.shrU(16).lo().and(0xffff));
    raiseIf(o, isNull(selector), EXC.GP, 0);
    const [d] = o.callF(o.deep("descriptor"), o.cpu, selector, EXC.GP) as [Value];
    const dpl = c.let(desc.dpl(d));
    raiseIf(o, desc.isCode(d).eqz().or(dpl.gtU(cpl)), EXC.GP, selectorError(selector));
    // Handlers are 64-bit code.
    raiseIf(o, desc.long(d).eqz(), EXC.GP, selectorError(selector));
    o.callF(o.deep("checkCode"), o.cpu, selector, d, target);
    const level = c.let(select(desc.conforming(d), cpl, dpl));
    const inner = c.let(level.ltU(cpl));
    const ist = c.let(low.shrU(32).lo().and(7));
    const sp = c.variable("i64");
    c.if(ist.or(inner), () => {
      // RSP0..RSP2 at 4, IST1..IST7 at 24h.
      const [v] = o.callF(o.deep("tss.rsp"), o.cpu, select(ist, ist.shl(3).add(0x1c), level.shl(3).add(4))) as [Value];
      sp.set(v);
    }, () => sp.set(o.gpr(RSP)));
    const frame = new Frame(o);
    frame.flat(level, sp.get().and(-16));
    frame.push(o.ld32("segSelector", SS), 8);
    frame.push(o.gpr(RSP), 8);
    frame.push(pushedFlags(o, kind!), 8);
    frame.push(o.ld32("segSelector", CS), 8);
    frame.push(rip!, 8);
    c.if(error!.geS(0), () => frame.push(error!, 8));
    frame.commit();
    c.if(inner, () => nullStack(o, level, level));
    enterFlags(o, type.eq(14));
    c.call(o.deep("setCode"), o.cpu, selector, d, level, target);
    c.call(o.deep("updateLevel"), o.cpu);
  });

  const legacy = deepFunc(m, f, "event.legacy", params, [], (o, vector, error, kind, rip) => {
    const c = o.c, cpl = o.ld32("cpl"), gate = c.let(gateError(vector!));
    raiseIf(o, vector!.shl(3).or(7).gtU(o.ld32("idtrLimit")), EXC.GP, gate);
    const [g] = o.callF(o.deep("supRead64"), o.cpu, o.ld64("idtrBase").add(vector!.shl(3).zx())) as [Value];
    // 5: task; 6, 7: 16-bit interrupt and trap; 14, 15: 32-bit.
    const type = c.let(g.shrU(40).lo().and(31));
    const isTask = c.let(type.eq(5));
    raiseIf(o, isTask.or(type.and(22).eq(6)).eqz(), EXC.GP, gate);
    raiseIf(o, kind!.eq(EVENT.SOFTWARE).and(cpl.gtU(desc.dpl(g))), EXC.GP, gate);
    raiseIf(o, desc.present(g).eqz(), EXC.NP, gate);
    const selector = c.let(g.shrU(16).lo().and(0xffff));
    c.if(isTask, () => {
      o.callF(o.deep("task.byGate"), o.cpu, selector, error!, rip!);
      c.return(STATUS.NEXT);
    });
    const wide = c.let(type.and(8).bool());
    const bytes = c.let(wide.add(1).shl(1));
    const target = c.let(g.and(0xffff).or(select(wide, g.shrU(32).and(0xffff_0000), i64(0))));
    raiseIf(o, isNull(selector), EXC.GP, 0);
    const [d] = o.callF(o.deep("descriptor"), o.cpu, selector, EXC.GP) as [Value];
    const dpl = c.let(desc.dpl(d)), name = c.let(selectorError(selector));
    raiseIf(o, desc.isCode(d).eqz().or(dpl.gtU(cpl)), EXC.GP, name);
    const level = c.let(select(desc.conforming(d), cpl, dpl));
    const vm = c.let(o.ld32("eflags").and(VM));
    // From VM86 mode only level 0 can be entered.
    raiseIf(o, vm.bool().and(level.bool()), EXC.GP, name);
    o.callF(o.deep("checkCode"), o.cpu, selector, d, target);
    const flags = pushedFlags(o, kind!);
    const frame = new Frame(o);
    const ss = c.variable("i32"), ssDesc = c.variable("i64");
    const inner = c.let(level.ltU(cpl));
    c.if(inner, () => {
      const [s, sp, sd] = o.callF(o.deep("tss.stack"), o.cpu, level) as [Value, Value, Value];
      ss.set(s);
      ssDesc.set(sd);
      frame.segment(s, sd, level, sp);
      c.if(vm, () => {
        for (const seg of [GS, FS, DS, ES]) frame.push(o.ld32("segSelector", seg), bytes);
      });
      frame.push(o.ld32("segSelector", SS), bytes);
      frame.push(o.gpr(RSP), bytes);
    }, () => frame.current());
    frame.push(flags, bytes);
    frame.push(o.ld32("segSelector", CS), bytes);
    frame.push(rip!, bytes);
    c.if(error!.geS(0), () => frame.push(error!, bytes));
    frame.commit();
    c.if(inner, () => {
      c.call(o.deep("cacheSegment"), o.cpu, SS, ss.get(), ssDesc.get());
      c.if(vm, () => {
        for (const seg of [GS, FS, DS, ES]) {
          o.st32("segSelector", 0, seg);
          o.st32("segRights", RIGHTS.UNUSABLE, seg);
          o.st32("segLimit", 0, seg);
          o.st64("segBase", 0, seg);
        }
      });
    });
    enterFlags(o, type.and(1).eqz());
    c.call(o.deep("setCode"), o.cpu, selector, d, level, target);
    c.call(o.deep("updateMode"), o.cpu);
  });

  const real = deepFunc(m, f, "event.real", params, [], (o, vector, _error, _kind, rip) => {
    const c = o.c;
    raiseIf(o, vector!.shl(2).or(3).gtU(o.ld32("idtrLimit")), EXC.GP, 0);
    const [v] = o.callF(o.deep("supRead32"), o.cpu, o.ld64("idtrBase").add(vector!.shl(2).zx())) as [Value];
    const frame = new Frame(o);
    frame.current();
    frame.push(o.rflags(), 2);
    frame.push(o.ld32("segSelector", CS), 2);
    frame.push(rip!, 2);
    frame.commit();
    o.st32("eflags", o.ld32("eflags").and(~(IF | TF | AC | RF)));
    c.call(o.deep("loadReal"), o.cpu, CS, v.shrU(16));
    o.st64("rip", v.and(0xffff).zx());
    c.call(o.deep("updateMode"), o.cpu);
  });

  // (vector, error code or -1, kind, RIP to push) → NEXT, or FAULT with nothing changed.
  const event = deepFunc(m, f, "event", params, [], (o, vector, error, kind, rip) => {
    const c = o.c, status = c.variable("i32");
    o.st32("excExt", kind!.ne(EVENT.SOFTWARE));
    o.st32("taskSwitched", 0);
    const to = (how: typeof long) => () => status.set(c.call1(how, o.cpu, vector!, error!, kind!, rip!));
    const unprotected = c.let(o.ld32("cr0").and(1).eqz());
    c.if(unprotected, to(real), () => c.if(isLong(o), to(long), to(legacy)));
    c.if(status.get().bool(), () => {
      // Selector error codes tell whether an event from outside the program was being delivered.
      const vector = o.ld32("excVector");
      c.if(
        vector.geU(EXC.TS).and(vector.leU(EXC.GP)),
        () => o.st32("excError", o.ld32("excError").or(o.ld32("excExt"))),
      );
    });
    o.st32("excExt", 0);
    c.return(status.get());
  });

  const deliver = declareDeep(m, f, "deliver", [], []);
  defineDeep(m, f, deliver, (o) => {
    const c = o.c;
    const contributory = (v: Value) => v.eqz().or(v.geU(EXC.TS).and(v.leU(EXC.GP)));
    o.st32("exceptions", o.ld32("exceptions").add(1));
    // What the instruction itself has met it will meet again.
    o.st32("watchHits", 0);
    // At most four rounds: each nested fault is contributory or #PF, so the second pair makes #DF and the third ends it.
    c.loop((again) => {
      const first = o.ld32("excVector");
      // The instruction is to be run by itself, or its exception to come then: nothing has changed.
      c.if(first.eq(WATCHED), () => c.return(STATUS.RESYNC));
      const status = c.call1(event, o.cpu, first, o.ld32("excError"), EVENT.FAULT, o.ld64("rip"));
      c.if(status.eqz(), () => c.return(STATUS.NEXT));
      c.if(o.ld32("excVector").eq(WATCHED), () => c.return(STATUS.RESYNC));
      // What a hypervisor has not mapped is no exception: it ends the delivery, and nothing has changed.
      c.if(o.ld32("excVector").geU(VIOLATION), () => c.return(STATUS.FAULT));
      c.if(first.eq(EXC.DF), () => c.return(STATUS.SHUTDOWN));
      const second = o.ld32("excVector");
      const both = contributory(first).and(contributory(second));
      const inPage = first.eq(EXC.PF).and(contributory(second).or(second.eq(EXC.PF)));
      c.if(both.or(inPage), () => {
        o.st32("excVector", EXC.DF);
        o.st32("excError", 0);
      });
      c.br(again);
    });
    c.unreachable();
  });

  const benign = (
    name: string,
    kind: number,
    prepare: (o: Ops, v: Value | undefined) => void,
    vector: (v: Value | undefined) => Value,
    p: "i32"[],
  ) =>
    deepFunc(m, f, name, p, [], (o, v) => {
      prepare(o, v);
      const status = o.c.call1(event, o.cpu, vector(v), -1, kind, o.ld64("rip"));
      o.c.if(status, () => o.c.return(o.c.call1(deliver, o.cpu)));
    });
  benign("interrupt", EVENT.EXTERNAL, (o) => o.st32("interrupts", o.ld32("interrupts").add(1)), (v) => v!, ["i32"]);
  benign(
    "nmi",
    EVENT.EXTERNAL,
    (o) => {
      o.st32("interrupts", o.ld32("interrupts").add(1));
      o.st32("nmiBlocked", 1);
    },
    () => i32(EXC.NMI),
    [],
  );
  // What DR6 is to tell, B0 to B3 of this trap alone: [sdm3 §18.2.3]. DR7.GD lets its handler use the registers.
  benign(
    "trapDb",
    EVENT.TRAP,
    (o, bits) => {
      o.st64("dr", o.ld64("dr", 6).and(~BigInt(DR6.B)).or(bits!.zx()), 6);
      o.st64("dr", o.ld64("dr", 7).and(~BigInt(DR7.GD)), 7);
    },
    () => i32(EXC.DB),
    ["i32"],
  );

  // INT1, with RIP at the next instruction: [sdm2 INT n/INTO/INT3/INT1].
  benign("int1", EVENT.TRAP, (o) => o.st32("eflags", o.ld32("eflags").and(~RF)), () => i32(EXC.DB), []);

  // (status of something that may have switched tasks) → what the instruction ends with. A fault after the switch is delivered
  // at once, to the new task; one before it is the instruction's.
  const afterSwitch = deepFunc(m, f, "afterSwitch", ["i32"], [], (o, status) => {
    const c = o.c;
    c.if(status!.eqz(), () => c.return(loadedFlags(o)));
    c.if(o.ld32("taskSwitched").eqz(), () => c.return(status!));
    const delivered = c.call1(deliver, o.cpu);
    c.return(select(delivered, delivered, STATUS.JUMP));
  });
  deepFunc(m, f, "softInt", ["i32", "i64"], [], (o, vector, rip) => {
    const status = o.c.call1(event, o.cpu, vector!, -1, EVENT.SOFTWARE, rip!);
    o.leave(o.c.call1(afterSwitch, o.cpu, status));
  });
}
