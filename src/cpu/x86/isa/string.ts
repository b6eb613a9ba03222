/**
 * MOVS, STOS, LODS, CMPS, SCAS with their repeat prefixes: [sdm2 REP].
 *
 * Repeated moves and stores of plain RAM go by whole runs within a page (memory.copy, memory.fill); everything else goes element
 * by element. Registers follow each step, so a fault or an interrupt in the middle leaves a state that resumes.
 */
import type { Module } from "../../../wasm/module.ts";
import { i32, i64, select, type Value } from "../../../wasm/value.ts";
import { ACCESS_WRITE } from "../linear.ts";
import { type CpuFuncs, deepFunc, type Ops, STATUS } from "../ops.ts";
import type { Row } from "../row.ts";
import { DF, DTLB_ENTRIES, ES, RCX, RDI, RSI, S, TLB_ADDEND, TLB_TAG_R, TLB_TAG_W } from "../state.ts";

export function defineString(m: Module, f: CpuFuncs): void {
  // (linear, write) → where the byte lies if its page is plain RAM that runs may touch, else 0. Faults as the access would.
  deepFunc(m, f, "runAddr", ["i64", "i32"], ["i32"], (o, address, write) => {
    const c = o.c;
    const low = c.let(address.lo());
    const entry = c.let(c.ld32(o.cpu, S.dtlb).add(low.shrU(7).and((DTLB_ENTRIES - 1) << 5)));
    const page = c.let(address.and(-4096));
    const hit = () => {
      const tag = c.choose(write, () => c.ld64(entry, TLB_TAG_W), () => c.ld64(entry, TLB_TAG_R), "i64");
      c.if(tag.eq(page), () => c.return(0, low.add(c.ld32(entry, TLB_ADDEND))));
    };
    hit();
    const at = c.choose(
      write,
      () => c.call1(f.writeAddr, o.cpu, address, 1),
      () => c.call1(f.readAddr, o.cpu, address, 1),
      "i32",
    );
    c.if(at.eqz(), () => o.leave(STATUS.FAULT));
    hit();
    c.return(0, 0);
  });
}

/** The index registers under the address size of the record's x. */
export class Index {
  readonly mask: Value;
  readonly is16: Value;
  constructor(private readonly o: Ops) {
    const x = o.field("x");
    this.mask = o.let(select(x.eq(8), i64(-1), select(x.eq(4), i64(0xffff_ffff), 0xffff)));
    this.is16 = o.let(x.eq(2));
  }
  get(n: number): Value {
    return this.o.let(this.o.gpr(n).and(this.mask));
  }
  /** A 16-bit index keeps the rest of the register, a 32-bit one clears the upper half. */
  set(n: number, value: Value): void {
    const o = this.o, v = o.let(value.and(this.mask));
    o.setGpr(n, select(this.is16, o.let(o.gpr(n).and(-0x10000).or(v)), v));
  }
}

/** The linear address of an element. */
export function at(o: Ops, segment: Value, offset: Value, bytes: number, access: number): Value {
  if (o.is64) {
    // Only FS and GS (numbers 4 and 5) have a base here.
    return o.let(select(segment.geU(4), o.let(offset.add(o.c.ld64(o.cpu.add(segment.shl(3)), S.segBase))), offset));
  }
  return o.callF(o.deep("segLinear"), o.cpu, segment, offset, bytes, access)[0]!;
}

/** Runs `step` once, or under a repeat prefix while RCX lasts; `step` returns the condition for going on, if it has one. */
export function repeat(o: Ops, index: Index, step: () => Value | void, run?: (count: Value) => void): void {
  const c = o.c, kind = o.let(o.imm());
  c.if(kind.eqz(), () => void step(), () => {
    c.block((done) => {
      c.loop((again) => {
        const count = index.get(RCX);
        c.brIf(done, count.eqz());
        // Between iterations an interrupt may come in: rip stays at this instruction.
        const before = c.let(o.ld32("budget").sub(1));
        o.st32("budget", before);
        run?.(count);
        const left = index.get(RCX);
        c.brIf(done, left.eqz());
        const goOn = step();
        index.set(RCX, left.sub(1));
        if (goOn) {
          // REPE (1) goes on while equal, REPNE (2) while not.
          c.brIf(done, o.let(goOn.bool()).ne(kind.eq(1)));
        }
        c.if(o.let(before.ltS(0).or(c.atomicLd32(c.ld32(o.cpu, S.events)).bool())), () => {
          c.if(index.get(RCX).eqz(), () => c.br(done));
          o.st64("rip", o.is64 ? o.thisLinear() : o.thisLinear().sub(c.ld64(o.cpu, S.segBase + 8)).and(0xffff_ffff));
          o.leave(STATUS.RESYNC);
        });
        c.br(again);
      });
    });
  });
}

/** +bytes or -bytes by the direction flag. */
export function delta(o: Ops, bytes: number): Value {
  return o.let(select(o.ld32("eflags").and(DF), i64(-bytes), i64(bytes)));
}

/** How many whole elements fit from here to the end of both pages, at most `count`. */
function runLength(o: Ops, count: Value, bytes: number, ...addresses: Value[]): Value {
  const c = o.c, n = c.variable("i64", count);
  for (const a of addresses) {
    const room = c.let(i64(4096).sub(a.and(4095)).shrU(Math.log2(bytes)));
    n.set(select(room.ltU(n.get()), room, n.get()));
  }
  return n.get();
}

function movs(o: Ops): void {
  const bytes = o.size / 8, index = new Index(o), step = delta(o, bytes), segment = o.field("b");
  const element = () => {
    const from = index.get(RSI), to = index.get(RDI);
    const v = o.read(at(o, segment, from, bytes, 0), o.size);
    o.write(at(o, i32(ES), to, bytes, ACCESS_WRITE), o.size, v);
    index.set(RSI, from.add(step));
    index.set(RDI, to.add(step));
  };
  if (!o.is64) return repeat(o, index, element);
  repeat(o, index, element, (count) => {
    const c = o.c;
    c.if(step.gtS(0), () => {
      const from = index.get(RSI), to = index.get(RDI);
      const source = at(o, segment, from, bytes, 0);
      const n = o.let(runLength(o, count, bytes, source, to));
      c.if(n.gtU(1), () => {
        const [a] = o.callF(o.deep("runAddr"), o.cpu, source, 0);
        const [b] = o.callF(o.deep("runAddr"), o.cpu, to, 1);
        const length = o.let(n.lo().mul(bytes));
        // A destination that starts inside the source is written over while it is read: element by element does that.
        c.if(a!.bool().and(b!.bool()).and(b!.sub(a!).geU(length)), () => {
          c.copy(b!, a!, length);
          index.set(RSI, from.add(length.zx()));
          index.set(RDI, to.add(length.zx()));
          index.set(RCX, count.sub(n));
        });
      });
    });
  });
}

function stos(o: Ops): void {
  const bytes = o.size / 8, index = new Index(o), step = delta(o, bytes);
  const value = o.gprAt(0, o.size);
  const element = () => {
    const to = index.get(RDI);
    o.write(at(o, i32(ES), to, bytes, ACCESS_WRITE), o.size, value);
    index.set(RDI, to.add(step));
  };
  if (!o.is64) return repeat(o, index, element);
  // A run is one fill if all bytes of the value are the same.
  const byte = o.let(value.lo().and(0xff));
  const pattern = o.size === 64
    ? byte.zx().mul(0x0101_0101_0101_0101n)
    : byte.mul(o.size === 32 ? 0x01010101 : o.size === 16 ? 0x0101 : 1);
  const uniform = o.let(pattern.eq(value));
  repeat(o, index, element, (count) => {
    const c = o.c;
    c.if(step.gtS(0).and(uniform), () => {
      const to = index.get(RDI);
      const n = o.let(runLength(o, count, bytes, to));
      c.if(n.gtU(1), () => {
        const [b] = o.callF(o.deep("runAddr"), o.cpu, to, 1);
        c.if(b!, () => {
          const length = o.let(n.lo().mul(bytes));
          c.fill(b!, byte, length);
          index.set(RDI, to.add(length.zx()));
          index.set(RCX, count.sub(n));
        });
      });
    });
  });
}

function lods(o: Ops): void {
  const bytes = o.size / 8, index = new Index(o), step = delta(o, bytes), segment = o.field("b");
  repeat(o, index, () => {
    const from = index.get(RSI);
    const v = o.read(at(o, segment, from, bytes, 0), o.size);
    o.setGprAt(0, o.size, v);
    index.set(RSI, from.add(step));
  });
}

function cmps(o: Ops): void {
  const bytes = o.size / 8, index = new Index(o), step = delta(o, bytes), segment = o.field("b");
  repeat(o, index, () => {
    const from = index.get(RSI), to = index.get(RDI);
    const a = o.read(at(o, segment, from, bytes, 0), o.size);
    const b = o.read(at(o, i32(ES), to, bytes, 0), o.size);
    o.flagsSub(a, b, o.let(a.sub(b)));
    index.set(RSI, from.add(step));
    index.set(RDI, to.add(step));
    return a.eq(b);
  });
}

function scas(o: Ops): void {
  const bytes = o.size / 8, index = new Index(o), step = delta(o, bytes);
  repeat(o, index, () => {
    const to = index.get(RDI);
    const a = o.gprAt(0, o.size);
    const b = o.read(at(o, i32(ES), to, bytes, 0), o.size);
    o.flagsSub(a, b, o.let(a.sub(b)));
    index.set(RDI, to.add(step));
    return a.eq(b);
  });
}

function both(byteOp: string, name: string, sem: Row["sem"], extra: Partial<Row> = {}): Row[] {
  const wide = (parseInt(byteOp, 16) + 1).toString(16).toUpperCase();
  return [
    { op: byteOp, name: `${name}B`, args: "Ab", string: true, modes: true, ...extra, sem: (o) => sem(o) },
    { op: wide, name, sizes: "v", string: true, modes: true, ...extra, sem: (o) => sem(o) },
  ];
}

export const ROWS: readonly Row[] = [
  ...both("A4", "MOVS", movs),
  ...both("AA", "STOS", stos),
  ...both("AC", "LODS", lods),
  ...both("A6", "CMPS", cmps, { flags: "OSZAPC" }),
  ...both("AE", "SCAS", scas, { flags: "OSZAPC" }),
];
