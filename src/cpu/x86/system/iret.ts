/** IRET in every mode: [sdm2 IRET]. "iret" (operand bytes, RIP of the next instruction) ends with JUMP, or FAULT. */
import type { Module } from "../../../wasm/module.ts";
import { i32, select, type Value } from "../../../wasm/value.ts";
import { type CpuFuncs, deepFunc, type Ops } from "../ops.ts";
import {
  AC,
  CS,
  DF,
  DS,
  ES,
  FS,
  GS,
  ID,
  IF,
  IOPL,
  MODE_64,
  NT,
  RF,
  SS,
  STATUS_FLAGS,
  TF,
  TR,
  VIF,
  VIP,
  VM,
} from "../state.ts";
import { loadedFlags } from "./attention.ts";
import { checkOuterStack, is64Code, loadOuterStack, realTarget } from "./far.ts";
import { Frame } from "./frame.ts";
import { isLong, isReal } from "./segments.ts";
import { HOW } from "./task.ts";

/** Loads the flags of `mask` (RFLAGS bits without the six status flags, which are always loaded). */
function loadFlags(o: Ops, value: Value, mask: Value): void {
  o.setFlags(value);
  o.st32("eflags", o.ld32("eflags").and(mask.not()).or(value.and(mask)).and(~STATUS_FLAGS).or(2));
}

export function defineIret(m: Module, f: CpuFuncs): void {
  const wide = AC | ID | RF;

  deepFunc(m, f, "iret.real", ["i32"], [], (o, bytes) => {
    const c = o.c, old = o.ld32("eflags"), vm = c.let(old.and(VM));
    // VM86: with IOPL below 3 the monitor does it.
    o.gpIf(vm.bool().and(old.and(IOPL).ne(IOPL)));
    const frame = new Frame(o);
    frame.current();
    const ip = frame.pop(bytes!), selector = c.let(frame.pop(bytes!).lo().and(0xffff));
    const flags = c.let(frame.pop(bytes!).lo());
    const base = select(vm, i32(TF | IF | DF | NT), i32(TF | IF | DF | NT | IOPL));
    realTarget(o, selector, ip, () => {});
    frame.commit();
    loadFlags(o, flags, c.let(base.or(select(bytes!.eq(4), i32(wide), 0))));
    c.call(o.deep("updateMode"), o.cpu);
    o.leave(loadedFlags(o));
  });

  // (frame's stack pointer after EFLAGS, EIP, CS selector, EFLAGS): into VM86 mode from level 0.
  deepFunc(m, f, "iret.toVm86", ["i64", "i32", "i32"], [], (o, ip, selector, flags) => {
    const c = o.c, frame = new Frame(o);
    frame.current();
    frame.sp.set(frame.sp.get().add(12));
    const sp = frame.pop(4);
    const selectors = [SS, ES, DS, FS, GS].map((seg) => [seg, frame.pop(4)] as const);
    o.gpIf(ip!.gtU(0xffff));
    o.setFlags(flags!);
    o.st32("eflags", flags!.and(0x003f_7fd5 & ~STATUS_FLAGS).or(VM | 2));
    o.st32("cpl", 3);
    for (const [seg, v] of [...selectors, [CS, selector!.zx()] as const]) {
      c.call(o.deep("loadReal"), o.cpu, seg, v.lo().and(0xffff));
    }
    o.setGpr(4, sp);
    o.st64("rip", ip!);
    c.call(o.deep("updateMode"), o.cpu);
    o.leave(loadedFlags(o));
  });

  deepFunc(m, f, "iret", ["i32", "i64"], [], (o, bytes, next) => {
    // Even if it faults: [sdm3 §25.3].
    o.st32("nmiBlocked", 0);
    const c = o.c, cpl = o.ld32("cpl"), old = o.ld32("eflags");
    c.if(isReal(o), () => {
      o.callF(o.deep("iret.real"), o.cpu, bytes!);
    });
    const long = isLong(o);
    c.if(old.and(NT), () => {
      o.gpIf(long);
      const [link] = o.callF(o.deep("supRead16"), o.cpu, o.ld64("segBase", TR)) as [Value];
      const status = c.call1(o.deep("task.switch"), o.cpu, link, HOW.IRET, next!);
      o.leave(c.call1(o.deep("afterSwitch"), o.cpu, status));
    });
    const from64 = c.let(o.ld32("mode").and(3).eq(MODE_64));
    const frame = new Frame(o);
    frame.current();
    const ip = frame.pop(bytes!), selector = c.let(frame.pop(bytes!).lo().and(0xffff));
    const flags = c.let(frame.pop(bytes!).lo());
    c.if(flags.and(VM).bool().and(cpl.eqz()).and(long.eqz()).and(bytes!.eq(4)), () => {
      o.callF(o.deep("iret.toVm86"), o.cpu, ip, selector, flags);
    });
    const [d] = o.callF(o.deep("far.returnCode"), o.cpu, selector) as [Value];
    const level = c.let(selector.and(3)), outward = c.let(level.gtU(cpl));
    o.callF(o.deep("checkCode"), o.cpu, selector, d, ip);

    const privileged = select(cpl, i32(0), i32(IOPL | VIF | VIP));
    const interrupt = select(cpl.leU(old.shrU(12).and(3)), i32(IF), 0);
    const narrow = select(bytes!.eq(2), i32(0xffff), i32(-1));
    const mask = c.let(privileged.or(interrupt).or(TF | DF | NT | wide).and(narrow));
    const land = () => {
      c.call(o.deep("setCode"), o.cpu, selector, d, level, ip);
      loadFlags(o, flags, mask);
      c.call(o.deep("updateLevel"), o.cpu);
    };
    c.if(from64.or(outward), () => {
      const sp = frame.pop(bytes!), ss = c.let(frame.pop(bytes!).lo().and(0xffff));
      const outer = checkOuterStack(o, ss, level, is64Code(o, d));
      loadOuterStack(o, outer, level);
      land();
      const landed = new Frame(o);
      landed.current();
      landed.sp.set(sp);
      landed.commit();
      c.if(outward, () => {
        c.call(o.deep("far.dropInner"), o.cpu);
      });
    }, () => {
      frame.commit();
      land();
    });
    o.leave(loadedFlags(o));
  });
}
