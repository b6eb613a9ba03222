/**
 * MOVS, STOS, LODS, CMPS, SCAS with their repeat prefixes: [sdm2 REP].
 *
 * Repeated moves and stores of plain RAM go by whole runs within a page (memory.copy, memory.fill), upwards and downwards;
 * everything else goes element by element. Registers follow each step, so a fault or an interrupt in the middle leaves a state that resumes.
 */
import type { Module } from "../../../wasm/module.ts";
import { i32, i64, select, type Value } from "../../../wasm/value.ts";
import { ACCESS_WRITE } from "../linear.ts";
import { type CpuFuncs, deepFunc, type Ops, STATUS, WRITE_ONLY } from "../ops.ts";
import type { Row } from "../row.ts";
import { DF, DTLB_ENTRIES, ES, IF, RCX, RDI, RSI, S, TLB_ADDEND, TLB_TAG_R, TLB_TAG_W } from "../state.ts";

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
      () => c.call1(f.writeAddr, o.cpu, address, 1 | WRITE_ONLY),
      () => c.call1(f.readAddr, o.cpu, address, 0), // a device is not read
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

/**
 * Runs `step` once, or under a repeat prefix while RCX lasts; `step` returns the condition for going on, if it has one, and
 * `run` may do many steps before it. With `devices`, `step` may itself stop the machine: every event is looked at after it.
 */
export function repeat(
  o: Ops,
  index: Index,
  step: () => Value | void,
  { run, devices }: { readonly run?: (count: Value) => void; readonly devices?: boolean } = {},
): void {
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
        const event = c.atomicLd32(c.ld32(o.cpu, S.events)).bool();
        // With IF clear the next slice is soon enough: a waiting interrupt would make every iteration leave.
        const attend = devices ? event : event.and(o.ld32("eflags").and(IF).bool());
        c.if(o.let(before.ltS(0).or(attend)), () => {
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

/** Where a run of elements may go: the limits of its segments and wrapping indices are no concern within a page. */
class Run {
  readonly #down: Value;
  readonly #n: Value;

  /**
   * At most `count` elements. `offsets` are the first one's indices in `segments`; the others lie above, or below with DF set,
   * in the same pages.
   */
  constructor(
    private readonly o: Ops,
    index: Index,
    private readonly bytes: number,
    count: Value,
    segments: readonly Value[],
    offsets: readonly Value[],
  ) {
    const c = o.c, n = c.variable("i64", count);
    this.#down = o.let(o.ld32("eflags").and(DF).bool());
    for (const [i, segment] of segments.entries()) {
      const offset = offsets[i]!;
      this.#fit(n, this.#linear(segment, offset));
      if (o.is64) continue;
      // Beyond the page of the index there may be its end; below that, a segment of this limit has none.
      this.#fit(n, offset);
      const limit = c.ld32(o.cpu.add(segment.shl(2)), S.segLimit).zx();
      c.if(limit.ltU(index.mask), () => n.set(0));
    }
    this.#n = n.get();
  }

  /** Elements. */
  get length(): Value {
    return this.#n;
  }
  get down(): Value {
    return this.#down;
  }
  get sizeBytes(): Value {
    return this.o.let(this.#n.lo().mul(this.bytes));
  }
  /** Where the run's lowest byte lies in the host's memory, given that of the first element; 0 stays 0. */
  lowest(first: Value): Value {
    const o = this.o, below = o.let(this.#n.lo().sub(1).mul(this.bytes));
    return o.let(select(this.#down.and(first.bool()), o.let(first.sub(below)), first));
  }
  /** The index after the run. */
  after(offset: Value): Value {
    const far = this.sizeBytes.zx();
    return select(this.#down, this.o.let(offset.sub(far)), this.o.let(offset.add(far)));
  }

  /** Unchecked. */
  #linear(segment: Value, offset: Value): Value {
    const o = this.o, base = () => o.c.ld64(o.cpu.add(segment.shl(3)), S.segBase);
    if (o.is64) return at(o, segment, offset, this.bytes, 0);
    return o.let(base().add(offset).and(0xffff_ffff));
  }

  /** At most as many elements as lie between `address` and the end of its page that the run goes to. */
  #fit(n: { get(): Value; set(value: Value): void }, address: Value): void {
    const o = this.o, shift = Math.log2(this.bytes), within = o.let(address.and(4095));
    const above = o.let(i64(4096).sub(within).shrU(shift));
    const below = o.let(select(above.eqz(), i64(0), o.let(within.shrU(shift).add(1))));
    const room = o.let(select(this.#down, below, above));
    n.set(select(room.ltU(n.get()), room, n.get()));
  }
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
  repeat(o, index, element, {
    run: (count) => {
      const c = o.c, from = index.get(RSI), to = index.get(RDI);
      const run = new Run(o, index, bytes, count, [segment, i32(ES)], [from, to]);
      c.if(run.length.gtU(1), () => {
        // Each faults as the first element's access would.
        const source = o.callF(o.deep("runAddr"), o.cpu, at(o, segment, from, bytes, 0), 0)[0]!;
        const target = o.callF(o.deep("runAddr"), o.cpu, at(o, i32(ES), to, bytes, ACCESS_WRITE), 1)[0]!;
        const a = run.lowest(source), b = run.lowest(target), length = run.sizeBytes;
        // A source that is written over before it is read: element by element does that.
        const ahead = o.let(select(run.down, o.let(a.sub(b)), o.let(b.sub(a))));
        c.if(a.bool().and(b.bool()).and(ahead.geU(length)), () => {
          c.copy(b, a, length);
          index.set(RSI, run.after(from));
          index.set(RDI, run.after(to));
          index.set(RCX, count.sub(run.length));
        });
      });
    },
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
  // A run is one fill if all bytes of the value are the same.
  const byte = o.let(value.lo().and(0xff));
  const pattern = o.size === 64
    ? byte.zx().mul(0x0101_0101_0101_0101n)
    : byte.mul(o.size === 32 ? 0x01010101 : o.size === 16 ? 0x0101 : 1);
  const uniform = o.let(pattern.eq(value));
  repeat(o, index, element, {
    run: (count) => {
      const c = o.c;
      c.if(uniform, () => {
        const to = index.get(RDI);
        const run = new Run(o, index, bytes, count, [i32(ES)], [to]);
        c.if(run.length.gtU(1), () => {
          const first = o.callF(o.deep("runAddr"), o.cpu, at(o, i32(ES), to, bytes, ACCESS_WRITE), 1)[0]!;
          c.if(first, () => {
            c.fill(run.lowest(first), byte, run.sizeBytes);
            index.set(RDI, run.after(to));
            index.set(RCX, count.sub(run.length));
          });
        });
      });
    },
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
