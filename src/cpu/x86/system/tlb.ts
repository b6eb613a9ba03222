/**
 * The TLBs as a whole: what was filled, flushing, INVLPG, and taking write tags away.
 *
 * A flush clears what was filled since the last one: the log names up to TLB_LOG_ENTRIES entries, beyond that everything is
 * cleared (128 KiB). An empty entry has tags of all ones, which no page address equals. Global pages are not in the log: what
 * leaves them alone (a load of CR3: [sdm3 §4.10.4.1]) clears what is, and what does not clears everything.
 */
import type { Code } from "../../../wasm/code.ts";
import type { Func, Module } from "../../../wasm/module.ts";
import { i32, select, type Value } from "../../../wasm/value.ts";
import type { CpuFuncs } from "../ops.ts";
import {
  DTLB,
  DTLB_BYTES,
  DTLB_ENTRIES,
  DTLB_ENTRY,
  ITLB,
  ITLB_BYTES,
  ITLB_ENTRIES,
  ITLB_ENTRY,
  MICRO,
  MICRO_EMPTY,
  MICRO_HOSTS,
  S,
  TLB_ADDEND,
  TLB_LOG,
  TLB_LOG_ENTRIES,
  TLB_TAG_W,
} from "../state.ts";
import { WALK } from "./walk.ts";

const DTLBS = 3, ITLBS = 2;

/** The entry for `address` in the data TLB (instruction TLB) at `tlb`. */
export function dtlbEntry(tlb: Value, address: Value): Value {
  return tlb.add(address.shrU(12).lo().and(DTLB_ENTRIES - 1).shl(Math.log2(DTLB_ENTRY)));
}
export function itlbEntry(tlb: Value, address: Value): Value {
  return tlb.add(address.shrU(12).lo().and(ITLB_ENTRIES - 1).shl(Math.log2(ITLB_ENTRY)));
}

/**
 * Of the maps of large pages: the byte (less S.largeMap) and the bit for `address`. The upper half of the addresses counts
 * backwards: where a kernel maps all of RAM there are large pages, and programs lie at the same distance from 0.
 */
const MAP_BYTES = 256;
const distance = (address: Value): Value => address.xor(address.shrS(63));
function mapByte(c: Code, map: Value, address: Value): Value {
  return c.let(map.add(distance(address).shrU(25).lo().and(MAP_BYTES - 1)));
}
function mapBit(address: Value): Value {
  return i32(1).shl(distance(address).shrU(22).lo().and(7));
}

function emptyMicro(c: Code, cpu: Value): void {
  c.fill(cpu.add(MICRO), MICRO_EMPTY, MICRO_HOSTS);
  c.fill(cpu.add(MICRO + MICRO_HOSTS), 0, MICRO_HOSTS);
}

/** Defines "flushTlb" (everything), "flushSpace" (all but global pages), "invlpg" and "dropWriteTags"; gives (cpu, entry, address, WALK flags), to call for each entry filled. */
export function defineTlb(m: Module, f: CpuFuncs): Func {
  const noteFill = m.func("tlb.noteFill", ["i32", "i32", "i64", "i32"], [], (c) => {
    const cpu = c.param(0), a = c.param(2), info = c.param(3);
    const left = c.ld32(cpu, S.tlbLogLeft), isGlobal = c.let(info.and(WALK.GLOBAL).bool());
    c.if(isGlobal, () => c.st32(cpu, 1, S.tlbGlobals), () => {
      c.if(left, () => {
        const next = c.let(left.sub(1));
        c.st32(cpu, next, S.tlbLogLeft);
        c.st32(cpu.add(next.shl(2)), c.param(1), TLB_LOG);
      });
    });
    c.if(info.and(WALK.LARGE), () => {
      c.if(info.and(WALK.HUGE), () => {
        const range = c.let(cpu.add(isGlobal.shl(3)));
        const lo = c.let(a.and(-(1n << 30n))), hi = c.let(a.or((1n << 30n) - 1n));
        const oldLo = c.ld64(range, S.largeLo), oldHi = c.ld64(range, S.largeHi);
        c.st64(range, select(lo.ltU(oldLo), lo, oldLo), S.largeLo);
        c.st64(range, select(hi.gtU(oldHi), hi, oldHi), S.largeHi);
      }, () => {
        const byte = mapByte(c, cpu.add(isGlobal.mul(MAP_BYTES)), a);
        c.st8(byte, c.ld8u(byte, S.largeMap).or(mapBit(a)), S.largeMap);
      });
    });
  });

  /** No large page of this kind (0: not global, 1: global) is in the TLBs. */
  const noLarge = (c: Code, cpu: Value, kind: 0 | 1) => {
    c.st64(cpu, -1, S.largeLo + 8 * kind);
    c.st64(cpu, 0, S.largeHi + 8 * kind);
    c.fill(cpu.add(S.largeMap + MAP_BYTES * kind), 0, MAP_BYTES);
  };
  const everything = m.func("tlb.everything", ["i32"], [], (c) => {
    const cpu = c.param(0);
    emptyMicro(c, cpu);
    c.fill(cpu.add(DTLB), 0xff, MICRO - DTLB);
    c.st32(cpu, TLB_LOG_ENTRIES, S.tlbLogLeft);
    c.st32(cpu, 0, S.tlbGlobals);
    noLarge(c, cpu, 0);
    noLarge(c, cpu, 1);
  });
  const flushSpace = m.func("flushSpace", ["i32"], [], (c) => {
    const cpu = c.param(0), left = c.ld32(cpu, S.tlbLogLeft);
    c.if(left.eqz(), () => {
      c.call(everything, cpu);
      c.return();
    });
    emptyMicro(c, cpu);
    const at = c.variable("i32", left);
    c.block((end) =>
      c.loop((again) => {
        c.brIf(end, at.get().geU(TLB_LOG_ENTRIES));
        const entry = c.ld32(cpu.add(at.get().shl(2)), TLB_LOG);
        c.st64(entry, -1);
        c.st64(entry, -1, 8);
        at.set(at.get().add(1));
        c.br(again);
      })
    );
    c.st32(cpu, TLB_LOG_ENTRIES, S.tlbLogLeft);
    noLarge(c, cpu, 0);
  });
  f.more.set("flushSpace", flushSpace);
  f.more.set(
    "flushTlb",
    m.func("flushTlb", ["i32"], [], (c) => {
      const cpu = c.param(0);
      c.if(c.ld32(cpu, S.tlbGlobals), () => {
        c.call(everything, cpu);
      }, () => {
        c.call(flushSpace, cpu);
      });
    }),
  );

  /** Empties the entries between two offsets whose (read) tag equals `address` under `mask`. */
  const sweep = m.func("tlb.sweep", ["i32", "i32", "i32", "i64", "i64"], [], (c) => {
    const at = c.paramVar(0), address = c.param(3), mask = c.param(4);
    c.loop((again) => {
      c.if(c.ld64(at.get()).xor(address).and(mask).eqz(), () => {
        c.st64(at.get(), -1);
        c.st64(at.get(), -1, 8);
      });
      at.set(at.get().add(c.param(2)));
      c.brIf(again, at.get().ltU(c.param(1)));
    });
  });

  f.more.set(
    "invlpg",
    m.func("invlpg", ["i32", "i64"], [], (c) => {
      const cpu = c.param(0), a = c.param(1);
      emptyMicro(c, cpu);
      const sweepAll = (mask: bigint) => {
        c.call(sweep, cpu.add(DTLB), cpu.add(DTLB + DTLBS * DTLB_BYTES), DTLB_ENTRY, a, mask);
        c.call(sweep, cpu.add(ITLB), cpu.add(ITLB + ITLBS * ITLB_BYTES), ITLB_ENTRY, a, mask);
        c.return();
      };
      // The page may be part of a large one: whatever lies in the same 1 GiB, or 4 MiB, goes.
      for (const kind of [0, 1]) {
        const within = a.geU(c.ld64(cpu, S.largeLo + 8 * kind)).and(a.leU(c.ld64(cpu, S.largeHi + 8 * kind)));
        c.if(within, () => sweepAll(-(1n << 30n)));
      }
      const byte = mapByte(c, cpu, a);
      const mapped = c.ld8u(byte, S.largeMap).or(c.ld8u(byte, S.largeMap + MAP_BYTES));
      c.if(mapped.and(mapBit(a)), () => sweepAll(-(1n << 22n)));
      const drop = (entry: Value) =>
        c.if(c.ld64(entry).eq(a.and(-4096)), () => {
          c.st64(entry, -1);
          c.st64(entry, -1, 8);
        });
      for (let i = 0; i < DTLBS; i++) drop(c.let(dtlbEntry(cpu.add(DTLB + i * DTLB_BYTES), a)));
      for (let i = 0; i < ITLBS; i++) drop(c.let(itlbEntry(cpu.add(ITLB + i * ITLB_BYTES), a)));
    }),
  );

  f.more.set(
    "dropWriteTags",
    m.func("dropWriteTags", ["i32", "i32"], [], (c) => {
      const cpu = c.param(0);
      emptyMicro(c, cpu);
      const host = c.let(c.ld32(cpu, S.ramBase).add(c.param(1).shl(12)));
      const at = c.variable("i32", cpu.add(DTLB)), end = c.let(cpu.add(DTLB + DTLBS * DTLB_BYTES));
      c.loop((again) => {
        const tag = c.ld64(at.get(), TLB_TAG_W);
        c.if(tag.lo().add(c.ld32(at.get(), TLB_ADDEND)).eq(host), () => c.st64(at.get(), -1, TLB_TAG_W));
        at.set(at.get().add(DTLB_ENTRY));
        c.brIf(again, at.get().ltU(end));
      });
    }),
  );
  return noteFill;
}
