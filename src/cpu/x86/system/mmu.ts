/**
 * The memory management unit: the TLBs' miss paths, the bounce buffer, and accesses with the rights of the supervisor.
 *
 * A TLB entry maps 4 KiB of RAM. Its write tag is set only if a store needs nothing else: the right to write, the dirty flag
 * already set, and no decoded code in the page. Device memory never enters a TLB, nor does a page with a breakpoint.
 *
 * An access that has no single place in RAM (it crosses into a page that is elsewhere, or touches device memory) goes through
 * the bounce buffer: both pages are translated first, reads gather, and `commit` scatters what was written.
 */
import { LEGACY_PAGES, MAPPING, MEMORY_MAP } from "../../../base/memory_map.ts";
import type { Code } from "../../../wasm/code.ts";
import type { Func, Module } from "../../../wasm/module.ts";
import { i32, i64, select, type Value } from "../../../wasm/value.ts";
import { FINAL, guardMapped, RIGHT } from "../exits.ts";
import type { FlagFuncs } from "../flags.ts";
import type { Imports } from "../imports.ts";
import { type CpuFuncs, deepFunc, type Ops, STATUS, WRITE_ONLY } from "../ops.ts";
import { BOUNCE, CODE_INFO, DTLB, DTLB_BYTES, EXC, S, TLB_ADDEND, TLB_TAG_R, TLB_TAG_W } from "../state.ts";
import { defineBreakpoints, defineNoBreakpoints } from "./breakpoints.ts";
import { defineTlb, dtlbEntry, itlbEntry } from "./tlb.ts";
import { ACCESS, defineWalk, MAXPHYADDR, WALK } from "./walk.ts";

/** Set in the address of what a device answers for, though its page number is one of the backing's. */
const DEVICE_BIT = 1n << BigInt(MAXPHYADDR);

/** The access bits of the data TLB at `tlb`: supervisor, user, supervisor with EFLAGS.AC. */
function accessOf(cpu: Value, tlb: Value): Value {
  // 0, 1, 2 → 0, USER, AC.
  const which = () => tlb.sub(cpu).sub(DTLB).shrU(Math.log2(DTLB_BYTES));
  return which().and(1).shl(1).or(which().and(2).shl(3));
}

/** With `exits`, what the hypervisor maps and allows is looked at, and nothing but RAM is mapped: see exits.ts. */
export function defineMmu(m: Module, imports: Imports, flags: FlagFuncs, exits = false): CpuFuncs {
  const more = new Map<string, Func>();
  const readAddr = m.declare("readAddr", ["i32", "i64", "i32"], ["i32"]);
  const writeAddr = m.declare("writeAddr", ["i32", "i64", "i32"], ["i32"]);
  const commit = m.declare("commit", ["i32"], []);
  const f: CpuFuncs = { flags, readAddr, writeAddr, commit, more };
  const walk = defineWalk(m, f, exits);
  const noteFill = defineTlb(m, f);
  const watch = (exits ? defineNoBreakpoints : defineBreakpoints)(m, f);

  /** Whether a physical address (an i64) is in RAM. */
  const inRam = (c: Code, cpu: Value, physical: Value) => physical.shrU(12).ltU(c.ld32(cpu, S.ramPages).zx());
  /**
   * (cpu, physical address, WALK flags, 1 for a write) → where it is in the backing, WALK flags; beyond all backing if a device
   * answers. See base/memory_map.ts.
   */
  const lookUp = m.func("mmu.lookUp", ["i32", "i64", "i32", "i32"], ["i64", "i32"], (c) => {
    const physical = c.param(1), flags = c.param(2);
    const map = c.let(c.ld32(c.param(0), S.memoryMap));
    const page = c.let(physical.shrU(12).lo());
    const inRam = c.let(page.ltU(c.ld32(map, MEMORY_MAP.RAM_PAGES)));
    const legacy = page.sub(LEGACY_PAGES.first).ltU(LEGACY_PAGES.end - LEGACY_PAGES.first);
    c.if(inRam.gtU(legacy), () => c.return(physical, flags));
    const at = c.variable("i32", map.add(MEMORY_MAP.MAPPINGS));
    const end = c.let(at.get().add(c.ld32(map, MEMORY_MAP.COUNT).shl(Math.log2(MEMORY_MAP.MAPPING_BYTES))));
    c.block((none) =>
      c.loop((next) => {
        c.brIf(none, at.get().geU(end));
        const first = c.let(c.ld32(at.get(), MAPPING.FIRST));
        c.if(page.sub(first).ltU(c.ld32(at.get(), MAPPING.PAGES)), () => {
          const backing = c.let(c.ld32(at.get(), MAPPING.BACKING)),
            writable = c.let(c.ld32(at.get(), MAPPING.WRITABLE));
          c.if(backing.ltS(0).or(c.param(3).gtU(writable)), () => c.return(physical.or(DEVICE_BIT), flags));
          const there = page.sub(first).add(backing).zx().shl(12).or(physical.and(0xfff));
          c.return(there, select(writable, flags, flags.and(~WALK.WRITABLE)));
        });
        at.set(at.get().add(MEMORY_MAP.MAPPING_BYTES));
        c.br(next);
      })
    );
    c.return(select(inRam, physical, physical.or(DEVICE_BIT)), flags);
  });
  /** What a walk has found, as the memory map has it. */
  const place = (c: Code, cpu: Value, physical: Value, info: Value, write: 0 | 1): [Value, Value] => {
    const at = c.variable("i64", physical), flags = c.variable("i32", info);
    c.if(c.ld32(cpu, S.memoryMap), () => {
      const [there, rest] = c.call(lookUp, cpu, physical, info, write) as [Value, Value];
      at.set(there);
      flags.set(rest);
    });
    return [c.let(at.get()), c.let(flags.get())];
  };

  /** Calls part(cpu, physical, buffer, bytes) for the parts of the bounced access. */
  const forParts = (c: Code, cpu: Value, size: Value, part: Func) => {
    const split = c.ld32(cpu, S.bounceSplit);
    c.call(part, cpu, c.ld64(cpu, S.bouncePhys), cpu.add(BOUNCE), split);
    c.if(size.gtU(split), () => {
      c.call(part, cpu, c.ld64(cpu, S.bouncePhys + 8), cpu.add(BOUNCE).add(split), size.sub(split));
    });
  };

  /** Runs `piece(bytes)` over naturally aligned pieces of at most 4 bytes. */
  const pieces = (
    c: Code,
    physical: Value,
    bytes: Value,
    piece: (at: Value, done: Value, bytes: 1 | 2 | 4) => void,
  ) => {
    const done = c.variable("i32", 0), at = c.variable("i64");
    c.loop((again) => {
      at.set(physical.add(done.get().zx()));
      const left = c.let(bytes.sub(done.get()));
      const fits = (n: number) => left.geU(n).and(at.get().lo().and(n - 1).eqz());
      const take = (n: 1 | 2 | 4) => () => {
        piece(at.get(), done.get(), n);
        done.set(done.get().add(n));
      };
      c.if(fits(4), take(4), () => c.if(fits(2), take(2), take(1)));
      c.brIf(again, done.get().ltU(bytes));
    });
  };
  const high = (v: Value) => v.shrU(32).lo();

  const gather = m.func("mmu.gather", ["i32", "i64", "i32", "i32"], [], (c) => {
    const cpu = c.param(0), physical = c.param(1), to = c.param(2), bytes = c.param(3);
    c.if(inRam(c, cpu, physical), () => {
      c.copy(to, c.ld32(cpu, S.ramBase).add(physical.lo()), bytes);
    }, () => {
      pieces(c, physical, bytes, (at, done, n) => {
        const v = c.call1(imports.mmioRead, at.lo(), high(at), n);
        if (n === 4) c.st32(to.add(done), v);
        else if (n === 2) c.st16(to.add(done), v);
        else c.st8(to.add(done), v);
      });
    });
  });
  const scatter = m.func("mmu.scatter", ["i32", "i64", "i32", "i32"], [], (c) => {
    const cpu = c.param(0), physical = c.param(1), from = c.param(2), bytes = c.param(3);
    c.if(inRam(c, cpu, physical), () => {
      c.copy(c.ld32(cpu, S.ramBase).add(physical.lo()), from, bytes);
    }, () => {
      pieces(c, physical, bytes, (at, done, n) => {
        const v = n === 4 ? c.ld32(from.add(done)) : n === 2 ? c.ld16u(from.add(done)) : c.ld8u(from.add(done));
        c.call(imports.mmioWrite, at.lo(), high(at), n, v);
      });
    });
  });
  /** The RAM parts only: what a write that asks for no old bytes may still see through its neighbours. */
  const gatherRam = m.func("mmu.gatherRam", ["i32", "i64", "i32", "i32"], [], (c) => {
    c.if(inRam(c, c.param(0), c.param(1)), () => {
      c.call(gather, ...[0, 1, 2, 3].map((i) => c.param(i)));
    });
  });

  m.define(commit, (c) => {
    const cpu = c.param(0);
    forParts(c, cpu, c.ld32(cpu, S.bounceSize), scatter);
  });

  /**
   * (cpu, physical, bytes): before a write to RAM within one page. 0: nobody has decoded code there; 2: other vCPUs have, and
   * "codeEvict" must follow; 1: only this one, and what it had decoded of those lines is forgotten.
   */
  const noteWrite = m.func("mmu.noteWrite", ["i32", "i64", "i32"], ["i32"], (c) => {
    const cpu = c.param(0), physical = c.param(1).lo(), bytes = c.param(2);
    const page = c.let(physical.shrU(12));
    const holders = c.ld8u(c.ld32(cpu, S.codePages).add(page));
    c.if(holders.eqz(), () => c.return(0));
    const lines = c.ld32(c.ld32(cpu, S.codeDir).add(page.shl(2)));
    const own = c.variable("i32", 0);
    c.if(lines, () => {
      own.set(c.ld32(lines, CODE_INFO.HELD));
      const first = c.let(physical.shrU(6).and(63));
      const last = c.let(physical.and(0xfff).add(bytes).sub(1).shrU(6));
      // 2 << 63 is 0, and 0 - 1 is all lines.
      const written = i64(2).shl(last.sub(first).zx()).sub(1).shl(first.zx());
      c.if(c.ld64(lines).and(written).bool(), () => {
        c.call(imports.codeWrite, page);
      });
    });
    c.return(holders.gtU(own.get()).add(1));
  });
  const evict = (c: Code, code: Value, first: Value, second: Value) =>
    c.if(code.gtU(1), () => {
      c.call(imports.codeEvict, first.shrU(12).lo(), second.shrU(12).lo());
    });

  /** (cpu, tlb, address, physical, WALK flags, 1 to keep the write tag out) → the page's offset in memory. */
  const fill = m.func("mmu.fill", ["i32", "i32", "i64", "i64", "i32", "i32"], ["i32"], (c) => {
    const cpu = c.param(0), a = c.param(2), info = c.param(4);
    const entry = c.let(dtlbEntry(c.param(1), a));
    const page = c.let(a.and(-4096));
    const host = c.let(c.ld32(cpu, S.ramBase).add(c.param(3).lo().and(-4096)));
    const readOnly = info.and(WALK.WRITABLE).eqz().or(c.param(5));
    const watched = watch.hasData(c, cpu, a);
    c.st64(entry, select(watched, i64(-1), page), TLB_TAG_R);
    c.st64(entry, select(readOnly.or(watched), i64(-1), page), TLB_TAG_W);
    c.st32(entry, host.sub(page.lo()), TLB_ADDEND);
    c.call(noteFill, cpu, entry, a, info);
    c.return(host);
  });

  /** The page after the one `address` is in, as an access that crosses into it sees it. */
  const nextPage = (c: Code, cpu: Value, address: Value): Value => {
    const next = c.let(address.or(4095).add(1));
    // Outside of 64-bit mode linear addresses wrap at 4 GiB.
    const wraps = next.eq(0x1_0000_0000n).and(c.ld32(cpu, S.mode).and(3).ne(2));
    return c.let(select(wraps, i64(0), next));
  };

  /** Gives 0 if the hypervisor does not allow it. */
  const guard = (c: Code, cpu: Value, address: Value, physical: Value, wanted: Value | number) => {
    if (exits) guardMapped(c, cpu, address, physical, wanted, FINAL, () => c.return(0));
  };
  /** 1 if writes to the page are to be noticed: by who decoded it, or by the hypervisor. */
  const noticed = (c: Code, cpu: Value, physical: Value, code: Value): Value => {
    if (!exits) return code;
    const rights = c.ld8u(c.ld32(cpu, S.rights).add(physical.shrU(12).lo()));
    return c.let(code.or(rights.and(RIGHT.WRITE).eqz()));
  };

  /** (cpu, tlb, address, bytes) → offset or 0: the miss path of reads. No bytes: only where they are, and a device is left alone. */
  const readSlow = m.func("mmu.read", ["i32", "i32", "i64", "i32"], ["i32"], (c) => {
    const cpu = c.param(0), tlb = c.param(1), a = c.param(2), bytes = c.param(3);
    watch.access(c, cpu, a, bytes, false);
    const offset = c.let(a.lo().and(4095));
    const access = c.let(accessOf(cpu, tlb));
    c.st32(cpu, c.ld32(cpu, S.tlbMisses).add(1), S.tlbMisses);
    const [status, walked, flags] = c.call(walk, cpu, a, access) as [Value, Value, Value];
    c.if(status, () => c.return(0));
    guard(c, cpu, a, walked, RIGHT.READ);
    const [physical, info] = place(c, cpu, walked, flags, 0);
    const ram = c.let(inRam(c, cpu, physical));
    const host = c.variable("i32", 0);
    c.if(ram, () => {
      const code = noticed(c, cpu, walked, c.ld8u(c.ld32(cpu, S.codePages).add(physical.shrU(12).lo())));
      host.set(c.call1(fill, cpu, tlb, a, physical, info, code).add(offset));
    });
    const split = c.let(i32(4096).sub(offset));
    c.if(bytes.leU(split), () => {
      c.if(ram, () => c.return(host.get()));
      c.st32(cpu, bytes, S.bounceSplit);
    }, () => {
      const next = nextPage(c, cpu, a);
      const [status2, walked2, flags2] = c.call(walk, cpu, next, access) as [Value, Value, Value];
      c.if(status2, () => c.return(0));
      guard(c, cpu, next, walked2, RIGHT.READ);
      const [physical2, info2] = place(c, cpu, walked2, flags2, 0);
      c.if(inRam(c, cpu, physical2), () => {
        const code = noticed(c, cpu, walked2, c.ld8u(c.ld32(cpu, S.codePages).add(physical2.shrU(12).lo())));
        const host2 = c.call1(fill, cpu, tlb, next, physical2, info2, code);
        c.if(ram.and(host2.eq(host.get().add(split))), () => c.return(host.get()));
      });
      c.st64(cpu, physical2, S.bouncePhys + 8);
      c.st32(cpu, split, S.bounceSplit);
    });
    c.st64(cpu, physical, S.bouncePhys);
    c.if(bytes, () => forParts(c, cpu, bytes, gather));
    c.return(cpu.add(BOUNCE));
  });

  /** The same for writes; bytes may carry WRITE_ONLY. */
  const writeSlow = m.func("mmu.write", ["i32", "i32", "i64", "i32"], ["i32"], (c) => {
    const cpu = c.param(0), tlb = c.param(1), a = c.param(2);
    const bytes = c.let(c.param(3).and(WRITE_ONLY - 1));
    watch.access(c, cpu, a, bytes, true);
    const offset = c.let(a.lo().and(4095));
    const access = c.let(accessOf(cpu, tlb).or(ACCESS.WRITE));
    const split = c.let(i32(4096).sub(offset));
    c.st32(cpu, c.ld32(cpu, S.tlbMisses).add(1), S.tlbMisses);
    const [status, walked, flags] = c.call(walk, cpu, a, access) as [Value, Value, Value];
    c.if(status, () => c.return(0));
    const wanted = c.let(select(c.param(3).eq(bytes), i32(RIGHT.READ | RIGHT.WRITE), RIGHT.WRITE));
    guard(c, cpu, a, walked, wanted);
    const [physical, info] = place(c, cpu, walked, flags, 1);
    const ram = c.let(inRam(c, cpu, physical));
    c.if(bytes.leU(split), () => {
      c.if(ram, () => {
        const code = c.call1(noteWrite, cpu, physical, bytes);
        evict(c, code, physical, physical);
        c.return(c.call1(fill, cpu, tlb, a, physical, info, code).add(offset));
      });
      c.st32(cpu, bytes, S.bounceSplit);
    }, () => {
      const next = nextPage(c, cpu, a);
      const [status2, walked2, flags2] = c.call(walk, cpu, next, access) as [Value, Value, Value];
      c.if(status2, () => c.return(0));
      guard(c, cpu, next, walked2, wanted);
      const [physical2, info2] = place(c, cpu, walked2, flags2, 1);
      const ram2 = c.let(inRam(c, cpu, physical2));
      const host = c.variable("i32", 0), host2 = c.variable("i32", 0);
      const code = c.variable("i32", 0), code2 = c.variable("i32", 0);
      c.if(ram, () => code.set(c.call1(noteWrite, cpu, physical, split)));
      c.if(ram2, () => code2.set(c.call1(noteWrite, cpu, physical2, bytes.sub(split))));
      // Both together: while it waits to evict one page, this vCPU lets others decode any.
      const worst = code.get().or(code2.get());
      evict(c, worst, select(ram, physical, physical2), select(ram2, physical2, physical));
      c.if(ram, () => {
        host.set(c.call1(fill, cpu, tlb, a, physical, info, code.get()).add(offset));
      });
      c.if(ram2, () => {
        host2.set(c.call1(fill, cpu, tlb, next, physical2, info2, code2.get()));
      });
      c.if(ram.and(ram2).and(host2.get().eq(host.get().add(split))), () => c.return(host.get()));
      c.st64(cpu, physical2, S.bouncePhys + 8);
      c.st32(cpu, split, S.bounceSplit);
    });
    c.st64(cpu, physical, S.bouncePhys);
    c.st32(cpu, bytes, S.bounceSize);
    c.if(
      c.param(3).eq(bytes),
      () => forParts(c, cpu, bytes, gather),
      () => forParts(c, cpu, bytes, gatherRam),
    );
    c.return(cpu.add(BOUNCE));
  });

  m.define(readAddr, (c) => {
    const cpu = c.param(0);
    c.return(c.call1(readSlow, cpu, c.ld32(cpu, S.dtlb), c.param(1), c.param(2)));
  });
  m.define(writeAddr, (c) => {
    const cpu = c.param(0);
    c.return(c.call1(writeSlow, cpu, c.ld32(cpu, S.dtlb), c.param(1), c.param(2)));
  });

  // "sup…": implicit supervisor accesses (descriptor tables, task states), whatever CPL is; SMAP applies.
  // "priv…": the same for the stack of a privilege level that is about to be entered, the last argument.
  for (const bits of [8, 16, 32, 64] as const) {
    const type = bits === 64 ? "i64" : "i32";
    const bytes = bits >> 3;
    const find = (o: Ops, tlb: Value, a: Value, tag: number, slow: Func, size: number): Value => {
      const c = o.c;
      const entry = c.let(dtlbEntry(tlb, a));
      const at = c.variable("i32");
      const hit = a.add(bytes - 1).and(-4096).eq(c.ld64(entry, tag));
      c.if(hit, () => at.set(a.lo().add(c.ld32(entry, TLB_ADDEND))), () => {
        at.set(c.call1(slow, o.cpu, tlb, a, size));
        c.if(at.get().eqz(), () => o.leave(STATUS.FAULT));
      });
      return at.get();
    };
    const read = (o: Ops, tlb: Value, a: Value) => {
      o.c.return(STATUS.NEXT, o.loadAt(find(o, tlb, a, TLB_TAG_R, readSlow, bytes), bits));
    };
    const write = (o: Ops, tlb: Value, a: Value, v: Value) => {
      const at = find(o, tlb, a, TLB_TAG_W, writeSlow, bytes | WRITE_ONLY);
      o.storeAt(at, bits, v);
      o.commit(at);
    };
    const supervisor = (o: Ops) => o.let(o.cpu.add(DTLB));
    const ofLevel = (o: Ops, cpl: Value) => o.let(o.cpu.add(DTLB).add(cpl.eq(3).shl(Math.log2(DTLB_BYTES))));
    deepFunc(m, f, `supRead${bits}`, ["i64"], [type], (o, a) => read(o, supervisor(o), a!));
    deepFunc(m, f, `supWrite${bits}`, ["i64", type], [], (o, a, v) => write(o, supervisor(o), a!, v!));
    deepFunc(m, f, `privRead${bits}`, ["i64", "i32"], [type], (o, a, cpl) => read(o, ofLevel(o, cpl!), a!));
    deepFunc(m, f, `privWrite${bits}`, ["i64", type, "i32"], [], (o, a, v, cpl) => write(o, ofLevel(o, cpl!), a!, v!));
  }

  // Checks of one or two pages that change nothing but accessed and dirty flags.
  for (const [name, tag, kind] of [["probeRead", TLB_TAG_R, 0], ["probeWrite", TLB_TAG_W, ACCESS.WRITE]] as const) {
    deepFunc(m, f, name, ["i64", "i32"], [], (o, a, bytes) => {
      const c = o.c, tlb = o.ld32("dtlb"), at = c.variable("i64", a!);
      c.loop((again) => {
        c.if(at.get().and(-4096).ne(c.ld64(dtlbEntry(tlb, at.get()), tag)), () => {
          const [walked] = o.callF(walk, o.cpu, at.get(), accessOf(o.cpu, tlb).or(kind)) as [Value, Value];
          const right = kind === 0 ? RIGHT.READ : RIGHT.WRITE;
          if (exits) guardMapped(c, o.cpu, at.get(), walked, right, FINAL, () => o.leave(STATUS.FAULT));
        });
        const next = nextPage(c, o.cpu, at.get());
        at.set(next);
        c.brIf(again, next.sub(a!).ltU(bytes!.zx()));
      });
    });
  }

  /**
   * (cpu, address): where to fetch instructions from, into physLo/physHi, with the rights of CPL; fills the instruction TLB.
   * Outside of RAM there is nothing to run: #GP(0).
   */
  deepFunc(m, f, "fetch", ["i64"], [], (o, a) => {
    const c = o.c, watched = watch.hasInstruction(c, o.cpu, a!);
    c.if(watched.gtU(o.ld32("watching")), () => {
      watch.ask(c, o.cpu);
      o.leave(STATUS.FAULT);
    });
    const user = o.ld32("cpl").eq(3).shl(1);
    const [walked, flags] = o.callF(walk, o.cpu, a!, user.or(ACCESS.FETCH)) as [Value, Value];
    if (exits) guardMapped(c, o.cpu, a!, walked, RIGHT.EXEC, FINAL, () => o.leave(STATUS.FAULT));
    const [physical, info] = place(c, o.cpu, walked, flags, 0);
    o.st32("physLo", physical.lo());
    o.st32("physHi", high(physical));
    c.if(inRam(c, o.cpu, physical).eqz(), () => o.fault(EXC.GP, 0));
    c.if(watched, () => c.return(STATUS.NEXT));
    const entry = c.let(itlbEntry(o.ld32("itlb"), a!));
    c.st64(entry, a!.and(-4096));
    c.st32(entry, 0, 8);
    c.st32(entry, physical.shrU(12).lo(), 12);
    c.call(noteFill, o.cpu, entry, a!, info);
  });

  return f;
}
