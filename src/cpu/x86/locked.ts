/**
 * LOCKed instructions where a machine has several vCPUs: [sdm3 §9.1].
 *
 * Rows with `lock` have a second form here, which the decoder picks for a LOCK prefix and for XCHG with memory. What it promises:
 *
 * | operand | means | seen by other vCPUs |
 * |---|---|---|
 * | aligned, 1 to 8 bytes | compare-and-exchange of the operand | one step |
 * | within 8 aligned bytes | compare-and-exchange of those bytes | one step |
 * | across them: a line, a page | two such exchanges under the split lock, the first undone if the second fails | one step to all of these and to CMPXCHG16B; no store of another vCPU beside it is lost; a plain or aligned access to the operand's own bytes may see the first half before the second |
 * | CMPXCHG16B | the same, of its two halves | the same |
 * | device memory | a read and a write | two steps |
 *
 * Every form is a full barrier. With one vCPU none of this is generated.
 */
import type { Code } from "../../wasm/code.ts";
import type { Func, Module } from "../../wasm/module.ts";
import { i32, i64, select, type Value } from "../../wasm/value.ts";
import { isMemoryLetter, parseArgs } from "./arg.ts";
import type { CpuFuncs, Ops } from "./ops.ts";
import type { Row } from "./row.ts";
import { BOUNCE, S } from "./state.ts";

/** The locked forms of `rows`. */
export function lockedRows(rows: readonly Row[]): Row[] {
  return rows.filter((r) => r.lock && parseArgs(r).some((a) => isMemoryLetter(a.letter))).map((r) => {
    const { hot: _, ...row } = r;
    return { ...row, locked: true };
  });
}

/** For each row the number of its locked form, or -1. */
export function lockedTwins(rows: readonly Row[]): Int16Array {
  const key = (r: Row) => `${r.op} ${r.only}`;
  const locked = new Map(rows.flatMap((r, i): [string, number][] => r.locked ? [[key(r), i]] : []));
  return Int16Array.from(rows, (r) => r.locked ? -1 : locked.get(key(r)) ?? -1);
}

/** Fields of S.locked, in order: the two words' addresses, what they held, the operand's first bit, and its kind. */
const AT0 = 0, AT1 = 1, WAS0 = 2, WAS1 = 3, SHIFT = 4, KIND = 5;
/** Kinds: one word, two words (1), neither. */
const ONE = 0, DEVICE = 2;

/** An operand's bits: all ones below 8 × `bytes` (an i32). */
function operandMask(bytes: Value): Value {
  return i64(-1).shrU(i32(64).sub(bytes.shl(3)).zx());
}

function defineSplitLock(m: Module): { acquire: Func; release: Func } {
  // 0 free, 1 held, 2 held with waiters.
  const acquire = m.func("locked.acquire", ["i32"], [], (c) => {
    const word = c.ld32(c.param(0), S.splitLock);
    c.if(c.cmpxchg(32, word, i32(0), i32(1)).eqz(), () => c.return());
    c.loop((again) => {
      c.if(c.xchg32(word, i32(2)).eqz(), () => c.return());
      c.wait32(word, i32(2));
      c.br(again);
    });
  });
  const release = m.func("locked.release", ["i32"], [], (c) => {
    const word = c.ld32(c.param(0), S.splitLock);
    c.if(c.xchg32(word, i32(0)).eq(2), () => c.notify(word, 1));
  });
  return { acquire, release };
}

/** Defines "locked.read" and "locked.write" for operands that are not aligned, and "locked.pair" for CMPXCHG16B. */
export function defineLocked(m: Module, f: CpuFuncs): void {
  const { acquire, release } = defineSplitLock(m);
  const field = (c: Code, i: number) => c.ld64(c.param(0), S.locked + i * 8);
  const word = (c: Code, i: number) => c.ld32(c.param(0), S.locked + i * 8);
  const put = (c: Code, i: number, v: Value | number) =>
    c.st64(c.param(0), typeof v === "number" ? v : v.zx(), S.locked + i * 8);

  // (cpu, offset that writeAt gave, bytes) → the operand.
  f.more.set(
    "locked.read",
    m.func("locked.read", ["i32", "i32", "i32"], ["i64"], (c) => {
      const cpu = c.param(0), at = c.param(1), bytes = c.param(2);
      const first = c.variable("i32", at), second = c.variable("i32");
      const bytesMask = c.let(operandMask(bytes));
      c.if(at.eq(cpu.add(BOUNCE)), () => {
        const ramBytes = c.let(c.ld32(cpu, S.ramPages).zx().shl(12));
        const p0 = c.ld64(cpu, S.bouncePhys), p1 = c.ld64(cpu, S.bouncePhys + 8);
        const crosses = bytes.gtU(c.ld32(cpu, S.bounceSplit));
        c.if(crosses.and(p0.ltU(ramBytes)).and(p1.ltU(ramBytes)).eqz(), () => {
          put(c, KIND, DEVICE);
          c.return(c.ld64(at).and(bytesMask));
        });
        const ram = c.ld32(cpu, S.ramBase);
        first.set(ram.add(p0.lo()));
        second.set(ram.add(p1.lo()));
      }, () => second.set(at.and(-8).add(8)));
      const within = c.let(first.get().and(7));
      const shift = c.let(within.shl(3).zx());
      const two = c.let(within.add(bytes).gtU(8));
      const w0 = c.let(first.get().and(-8));
      put(c, AT0, w0);
      put(c, AT1, second.get());
      put(c, SHIFT, shift);
      put(c, KIND, two);
      const was0 = c.atomicLd64(w0);
      put(c, WAS0, was0);
      const value = c.variable("i64", was0.shrU(shift));
      c.if(two, () => {
        const was1 = c.atomicLd64(second.get());
        put(c, WAS1, was1);
        value.set(value.get().or(was1.shl(i64(64).sub(shift))));
      });
      c.return(value.get().and(bytesMask));
    }),
  );

  // (cpu, offset, bytes, value) → 1 if it was written, 0 if the operand is no longer what "locked.read" gave.
  f.more.set(
    "locked.write",
    m.func("locked.write", ["i32", "i32", "i32", "i64"], ["i32"], (c) => {
      const cpu = c.param(0), at = c.param(1);
      const kind = word(c, KIND);
      c.if(kind.eq(DEVICE), () => {
        c.st64(at, c.param(3));
        c.call(f.commit, cpu);
        c.return(1);
      });
      const bytesMask = c.let(operandMask(c.param(2)));
      const value = c.let(c.param(3).and(bytesMask));
      const w0 = word(c, AT0), w1 = word(c, AT1), shift = field(c, SHIFT), was0 = field(c, WAS0), was1 = field(c, WAS1);
      const mask0 = c.let(bytesMask.shl(shift));
      const new0 = c.let(was0.and(mask0.not()).or(value.shl(shift)));
      c.if(kind.eq(ONE), () => c.return(c.cmpxchg(64, w0, was0, new0).eq(was0)));
      const rest = c.let(i64(64).sub(shift));
      const new1 = c.let(was1.and(bytesMask.shrU(rest).not()).or(value.shrU(rest)));
      c.call(acquire, cpu);
      const done = c.variable("i32", 0);
      c.if(c.cmpxchg(64, w0, was0, new0).eq(was0), () => {
        done.set(c.cmpxchg(64, w1, was1, new1).eq(was1));
        c.if(done.get().eqz(), () => undo(c, w0, was0, new0, mask0));
      });
      c.call(release, cpu);
      c.return(done.get());
    }),
  );

  // (cpu, offset, expected low, high, new low, high) → whether it was as expected, and what was there.
  f.more.set(
    "locked.pair",
    m.func("locked.pair", ["i32", "i32", "i64", "i64", "i64", "i64"], ["i32", "i64", "i64"], (c) => {
      const cpu = c.param(0), at = c.param(1);
      const [, , old0, old1, new0, new1] = [0, 1, 2, 3, 4, 5].map((i) => c.param(i)) as [
        Value,
        Value,
        Value,
        Value,
        Value,
        Value,
      ];
      c.if(at.eq(cpu.add(BOUNCE)), () => {
        const lo = c.ld64(at), hi = c.ld64(at, 8);
        const equal = c.let(lo.eq(old0).and(hi.eq(old1)));
        c.st64(at, select(equal, new0, lo));
        c.st64(at, select(equal, new1, hi), 8);
        c.call(f.commit, cpu);
        c.return(equal, lo, hi);
      });
      c.call(acquire, cpu);
      c.loop((again) => {
        const lo = c.atomicLd64(at), hi = c.atomicLd64(at, 8);
        c.brIf(again, c.atomicLd64(at).ne(lo));
        c.if(lo.ne(old0).or(hi.ne(old1)), () => {
          c.call(release, cpu);
          c.return(0, lo, hi);
        });
        c.brIf(again, c.cmpxchg(64, at, old0, new0).ne(old0));
        c.if(c.cmpxchg(64, at.add(8), old1, new1).eq(old1), () => {
          c.call(release, cpu);
          c.return(1, lo, hi);
        });
        undo(c, at, old0, new0, i64(-1));
        c.br(again);
      });
      c.unreachable();
    }),
  );
}

/** Takes a first half back, unless somebody has written to its bytes since: what was stored beside them stays. */
function undo(c: Code, at: Value, was: Value, wrote: Value, mask: Value): void {
  const change = c.let(was.xor(wrote).and(mask));
  c.block((end) =>
    c.loop((again) => {
      const now = c.atomicLd64(at);
      c.brIf(end, now.xor(wrote).and(mask).bool());
      c.brIf(again, c.cmpxchg(64, at, now, now.xor(change)).ne(now));
    })
  );
}

/**
 * Reads, computes and writes `bits` at a linear address in one step. `change` is emitted twice: within a loop, where it leaves flags
 * alone and may run several times, and behind it for the flags.
 */
export function lockedUpdate(o: Ops, address: Value, bits: 8 | 16 | 32 | 64, change: (old: Value) => Value): void {
  const c = o.c, bytes = bits / 8;
  const at = o.writeAt(address, bytes);
  const odd = c.let(at.and(bytes - 1).bool().or(at.eq(o.cpu.add(BOUNCE))));
  const old = c.variable(bits === 64 ? "i64" : "i32");
  const done = c.variable("i32");
  const { flagsLive } = o;
  o.flagsLive = false;
  c.loop((again) => {
    c.rarely(odd, () => {
      const v = c.call1(o.deep("locked.read"), o.cpu, at, bytes);
      old.set(bits === 64 ? v : v.lo());
    }, () => old.set(o.loadAt(at, bits)));
    const value = c.let(change(old.get()));
    c.rarely(
      odd,
      () => done.set(c.call1(o.deep("locked.write"), o.cpu, at, bytes, value.zx())),
      () => done.set(c.cmpxchg(bits, at, old.get(), value).eq(old.get())),
    );
    c.brIf(again, done.get().eqz(), false);
  });
  o.flagsLive = flagsLive;
  if (flagsLive) c.let(change(old.get()));
}
