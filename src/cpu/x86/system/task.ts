/**
 * Task switches by hardware, outside of long mode: [sdm3 8.2, 8.3].
 *
 * What can be checked before the switch is; faults found in the new task's registers are raised in the new task, with
 * S.taskSwitched set.
 *
 * Functions for others: "task.switch" (selector, HOW, RIP to save), "task.byGate" (selector, error code or -1, RIP to save).
 */
import type { Var } from "../../../wasm/code.ts";
import type { Module } from "../../../wasm/module.ts";
import { i32, i64, select, type Value } from "../../../wasm/value.ts";
import { type CpuFuncs, deepFunc, type Ops } from "../ops.ts";
import { CR0, CS, DS, ES, EXC, FS, GS, LDTR, NT, SS, STATUS_FLAGS, TR, VM } from "../state.ts";
import { Frame } from "./frame.ts";
import { desc, isNull, raiseIf, RIGHTS, selectorError } from "./segments.ts";

export const HOW = { JMP: 0, CALL: 1, IRET: 2 } as const;

/** Offsets in a task state segment, and the sizes of its items. */
const TSS = {
  wide: { bytes: 4, min: 0x67, cr3: 0x1c, ip: 0x20, flags: 0x24, gpr: 0x28, seg: 0x48, segs: 6, ldt: 0x60 },
  narrow: { bytes: 2, min: 0x2b, cr3: -1, ip: 0x0e, flags: 0x10, gpr: 0x12, seg: 0x22, segs: 4, ldt: 0x2a },
} as const;
/** As they lie there. */
const SEGMENTS = [ES, CS, SS, DS, FS, GS];
/** RFLAGS that a task switch loads. */
const FLAGS = 0x003f_7fd5;
const BUSY = 2;
const DR6_BT = 1 << 15;

export function defineTasks(m: Module, f: CpuFuncs): void {
  /** The types are 1 and 9 (available), 3 and 11 (busy): bit 3 tells 32 bits. */
  const byWidth = (o: Ops, wide: Value, body: (t: typeof TSS.wide | typeof TSS.narrow) => void) =>
    o.c.if(wide, () => body(TSS.wide), () => body(TSS.narrow));

  const get = (o: Ops, base: Value, at: number, bytes: number): Value => {
    const [v] = o.callF(o.deep(`supRead${bytes * 8}`), o.cpu, base.add(at)) as [Value];
    return v;
  };

  // Segment registers of the new task, checked as its privilege level demands; what is wrong is #TS.
  deepFunc(m, f, "task.code", ["i32"], [], (o, selector) => {
    const error = o.let(selectorError(selector!)), rpl = o.let(selector!.and(3));
    raiseIf(o, isNull(selector!), EXC.TS, 0);
    const [d] = o.callF(o.deep("descriptor"), o.cpu, selector!, EXC.TS) as [Value];
    const dpl = o.let(desc.dpl(d));
    const fits = select(desc.conforming(d), dpl.leU(rpl), dpl.eq(rpl));
    raiseIf(o, desc.isCode(d).eqz().or(fits.eqz()), EXC.TS, error);
    raiseIf(o, desc.present(d).eqz(), EXC.NP, error);
    o.callF(o.deep("markAccessed"), o.cpu, selector!, d);
    o.c.call(o.deep("cacheSegment"), o.cpu, CS, selector!, d);
  });
  deepFunc(m, f, "task.stack", ["i32"], [], (o, selector) => {
    raiseIf(o, isNull(selector!), EXC.TS, 0);
    const [d] = o.callF(o.deep("checkStack"), o.cpu, selector!, o.ld32("cpl"), EXC.TS) as [Value];
    o.c.call(o.deep("cacheSegment"), o.cpu, SS, selector!, d);
  });
  deepFunc(m, f, "task.data", ["i32", "i32"], [], (o, seg, selector) => {
    const c = o.c, error = c.let(selectorError(selector!)), rpl = selector!.and(3);
    c.if(isNull(selector!), () => c.return(0));
    const [d] = o.callF(o.deep("descriptor"), o.cpu, selector!, EXC.TS) as [Value];
    const type = c.let(desc.type(d)), dpl = c.let(desc.dpl(d));
    const unreadable = type.and(10).eq(8);
    const guarded = type.and(12).ne(12);
    const denied = guarded.and(rpl.gtU(dpl).or(o.ld32("cpl").gtU(dpl)));
    raiseIf(o, desc.isSegment(d).eqz().or(unreadable).or(denied), EXC.TS, error);
    raiseIf(o, desc.present(d).eqz(), EXC.NP, error);
    o.callF(o.deep("markAccessed"), o.cpu, selector!, d);
    c.call(o.deep("cacheSegment"), o.cpu, seg!, selector!, d);
  });
  deepFunc(m, f, "task.ldt", ["i32"], [], (o, selector) => {
    const c = o.c, error = c.let(selectorError(selector!));
    c.if(isNull(selector!), () => c.return(0));
    raiseIf(o, selector!.and(4).bool(), EXC.TS, error);
    const [d] = o.callF(o.deep("descriptor"), o.cpu, selector!, EXC.TS) as [Value];
    raiseIf(o, d.shrU(40).lo().and(31).ne(2).or(desc.present(d).eqz()), EXC.TS, error);
    c.call(o.deep("cacheSegment"), o.cpu, LDTR, selector!, d);
  });

  // Writes the registers into the current task's state.
  deepFunc(m, f, "task.save", ["i64", "i32"], [], (o, rip, flags) => {
    const base = o.ld64("segBase", TR), selector = o.ld32("segSelector", TR);
    byWidth(o, o.let(o.ld32("segRights", TR).and(8)), (t) => {
      raiseIf(o, o.ld32("segLimit", TR).ltU(t.min), EXC.TS, selectorError(selector));
      const put = (at: number, v: Value) => o.callF(o.deep(`supWrite${t.bytes * 8}`), o.cpu, base.add(at), v);
      put(t.ip, rip!.lo());
      put(t.flags, flags!);
      for (let i = 0; i < 8; i++) put(t.gpr + i * t.bytes, o.gprAt(i, 32));
      for (let i = 0; i < t.segs; i++) {
        o.callF(o.deep("supWrite16"), o.cpu, base.add(t.seg + i * t.bytes), o.ld32("segSelector", SEGMENTS[i]));
      }
    });
  });

  deepFunc(m, f, "task.switch", ["i32", "i32", "i64"], [], (o, selector, how, rip) => {
    const c = o.c, error = c.let(selectorError(selector!));
    o.st32("taskSwitched", 0);
    const returning = c.let(how!.eq(HOW.IRET)), nesting = c.let(how!.eq(HOW.CALL));
    const wrong = c.let(select(returning, i32(EXC.TS), EXC.GP));
    raiseIf(o, selector!.and(4).bool().or(isNull(selector!)), wrong, error);
    const [d] = o.callF(o.deep("descriptor"), o.cpu, selector!, wrong) as [Value];
    const type = c.let(d.shrU(40).lo().and(31));
    raiseIf(o, type.and(~8).ne(select(returning, i32(3), 1)), wrong, error);
    raiseIf(o, desc.present(d).eqz(), EXC.NP, error);
    const limit = c.let(select(d.bit(55), i32(0xfff), 0).or(d.lo().and(0xffff)).or(d.shrU(32).lo().and(0xf_0000)));
    const wide = c.let(type.and(8)), base = c.let(desc.base(d));
    raiseIf(o, limit.ltU(select(wide, i32(TSS.wide.min), TSS.narrow.min)), EXC.TS, error);

    // The new state is read before anything is written.
    const vars = (n: number): Var[] => Array.from({ length: n }, () => c.variable("i32", 0));
    const gpr = vars(8), seg = vars(6);
    const [ip, flags, ldt, cr3, trap] = vars(5) as [Var, Var, Var, Var, Var];
    byWidth(o, wide, (t) => {
      ip.set(get(o, base, t.ip, t.bytes));
      flags.set(get(o, base, t.flags, t.bytes));
      gpr.forEach((v, i) =>
        v.set(t.bytes === 2 ? get(o, base, t.gpr + 2 * i, 2).or(-0x1_0000) : get(o, base, t.gpr + 4 * i, 4))
      );
      for (let i = 0; i < t.segs; i++) seg[i]!.set(get(o, base, t.seg + i * t.bytes, 2));
      ldt.set(get(o, base, t.ldt, 2));
      if (t.cr3 >= 0) {
        cr3.set(get(o, base, t.cr3, 4));
        trap.set(get(o, base, 0x64, 2).and(1));
      }
    });

    const old = o.ld32("segSelector", TR);
    const saved = c.let(select(returning, o.rflags().and(~NT), o.rflags()));
    o.callF(o.deep("task.save"), o.cpu, rip!, saved);
    c.if(nesting, () => {
      o.callF(o.deep("supWrite16"), o.cpu, base, old);
      flags.set(flags.get().or(NT));
    }, () => {
      // The old task is no longer busy.
      const [oldDesc] = o.callF(o.deep("descriptor"), o.cpu, old, EXC.TS) as [Value];
      const busy = c.let(oldDesc.shrU(40).lo().and(BUSY));
      o.callF(o.deep("changeType"), o.cpu, old, oldDesc, busy);
    });
    c.if(returning.eqz(), () => {
      o.callF(o.deep("changeType"), o.cpu, selector!, d, BUSY);
    });

    // From here on it is the new task that runs.
    o.st32("taskSwitched", 1);
    c.call(o.deep("cacheSegment"), o.cpu, TR, selector!, d.or(i64(1n << 41n)));
    o.st64("cr0", o.ld64("cr0").or(CR0.TS));
    c.if(wide.bool().and(o.ld32("cr0").ltS(0)), () => {
      o.st64("cr3", cr3.get().zx());
      c.call(o.deep("flushTlb"), o.cpu);
    });
    o.st64("rip", ip.get().zx());
    const value = c.let(flags.get().and(FLAGS));
    o.setFlags(value);
    o.st32("eflags", value.and(~STATUS_FLAGS).or(2));
    gpr.forEach((v, i) => o.setGpr(i, v.get().zx()));
    o.st64("dr", o.ld64("dr", 7).and(~0x55), 7);
    // Until they have passed their checks the segment registers map nothing.
    for (const [i, n] of [...SEGMENTS, LDTR].entries()) {
      o.st32("segSelector", i < 6 ? seg[i]!.get() : ldt.get(), n);
      o.st32("segRights", RIGHTS.UNUSABLE, n);
      o.st32("segLimit", 0, n);
      o.st64("segBase", 0, n);
    }
    const vm = c.let(value.and(VM));
    o.st32("cpl", select(vm, i32(3), seg[1]!.get().and(3)));
    c.call(o.deep("updateMode"), o.cpu);
    o.callF(o.deep("task.ldt"), o.cpu, ldt.get());
    c.if(vm, () => {
      SEGMENTS.forEach((n, i) => c.call(o.deep("loadReal"), o.cpu, n, seg[i]!.get()));
    }, () => {
      o.callF(o.deep("task.code"), o.cpu, seg[1]!.get());
      c.call(o.deep("updateMode"), o.cpu);
      o.callF(o.deep("task.stack"), o.cpu, seg[2]!.get());
      for (const i of [0, 3, 4, 5]) o.callF(o.deep("task.data"), o.cpu, SEGMENTS[i]!, seg[i]!.get());
    });
    c.call(o.deep("updateMode"), o.cpu);
    o.gpIf(ip.get().gtU(o.ld32("segLimit", CS)));
    c.if(trap.get(), () => {
      o.st64("dr", o.ld64("dr", 6).or(DR6_BT), 6);
      o.fault(EXC.DB);
    });
  });

  // An exception or interrupt through a task gate: the error code goes onto the new task's stack.
  deepFunc(m, f, "task.byGate", ["i32", "i32", "i64"], [], (o, selector, error, rip) => {
    o.callF(o.deep("task.switch"), o.cpu, selector!, HOW.CALL, rip!);
    o.c.if(error!.geS(0), () => {
      const frame = new Frame(o);
      frame.current();
      frame.push(error!, select(o.ld32("segRights", TR).and(8), i32(4), 2));
      frame.commit();
    });
  });
}
