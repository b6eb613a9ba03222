/** IN, OUT, INS, OUTS: [sdm2], [sdm1 §19.5] for who may. */
import type { Module } from "../../../wasm/module.ts";
import { i32, type Value } from "../../../wasm/value.ts";
import type { Imports } from "../imports.ts";
import { ACCESS_WRITE } from "../linear.ts";
import type { Operand } from "../operand.ts";
import { type CpuFuncs, deepFunc, type Ops } from "../ops.ts";
import type { Row } from "../row.ts";
import { CR0, ES, RDI, RDX, RSI, TR, VM } from "../state.ts";
import { attend } from "../system/attention.ts";
import { at, delta, Index, repeat } from "./string.ts";

/** Where a 32-bit or 64-bit task state keeps the offset of its I/O permission bitmap: [sdm3 §8.2.1, §8.7]. */
const TSS_IO_MAP = 0x66;
/** Types of task states that have one: 9 and 11, as the rights of TR with the busy flag and what is not the type left out. */
const TSS32 = 0x09, TSS_TYPE_MASK = 0x1d;

export function defineIo(m: Module, f: CpuFuncs, imports: Imports): void {
  // (port, bytes): #GP(0) unless IOPL or the task's bitmap allows it; also where breakpoints at ports are looked for.
  const check = deepFunc(m, f, "ioCheck", ["i32", "i32"], [], (o, port, bytes) => {
    const c = o.c, flags = o.ld32("eflags"), watch = f.more.get("watchIo");
    if (watch) o.callF(watch, o.cpu, port!, bytes!);
    c.if(o.ld32("cr0").and(CR0.PE).eqz(), () => c.return(0));
    const level = c.let(flags.shrU(12).and(3));
    // Virtual-8086 mode asks the bitmap whatever IOPL is.
    c.if(flags.and(VM).eqz().and(o.ld32("cpl").leU(level)), () => c.return(0));
    const limit = o.ld32("segLimit", TR), base = o.ld64("segBase", TR);
    o.gpIf(o.ld32("segRights", TR).and(TSS_TYPE_MASK).ne(TSS32));
    o.gpIf(limit.ltU(TSS_IO_MAP + 1));
    const [map] = o.callF(o.deep("supRead16"), o.cpu, base.add(TSS_IO_MAP)) as [Value];
    // Two bytes are always read, so the byte after the port's must exist as well.
    const offset = c.let(map.add(port!.shrU(3)));
    o.gpIf(offset.add(1).gtU(limit));
    const [bits] = o.callF(o.deep("supRead16"), o.cpu, base.add(offset.zx())) as [Value];
    const wanted = i32(1).shl(bytes!).sub(1).shl(port!.and(7));
    o.gpIf(bits.and(wanted).bool());
  });
  // (port, bytes) → value.
  deepFunc(m, f, "in", ["i32", "i32"], ["i32"], (o, port, bytes) => {
    o.callF(check, o.cpu, port!, bytes!);
    o.c.return(0, o.c.call1(imports.ioRead, port!, bytes!));
  });
  deepFunc(m, f, "out", ["i32", "i32", "i32"], [], (o, port, bytes, value) => {
    o.callF(check, o.cpu, port!, bytes!);
    o.c.call(imports.ioWrite, port!, bytes!, value!);
  });
  // After a check of its own: INS must know that it can store before the device sees the read.
  f.more.set(
    "ioRead",
    m.func("ioRead", ["i32", "i32", "i32"], ["i32"], (c) => c.return(c.call1(imports.ioRead, c.param(1), c.param(2)))),
  );
}

/** REX.W does not widen a port access. */
const portBits = (o: Ops): number => Math.min(o.size, 32);
const dx = (o: Ops): Value => o.gprAt(RDX, 16);

function input(o: Ops, a: Operand, port: Value): void {
  const bits = portBits(o);
  const [v] = o.callF(o.deep("in"), o.cpu, port, bits / 8);
  const value = o.zext(v!, bits);
  a.set(a.bits === 64 ? value.zx() : value);
}
function output(o: Ops, a: Operand, port: Value): void {
  const bits = portBits(o);
  const value = o.let(o.zext(a.get().lo(), bits));
  o.callF(o.deep("out"), o.cpu, port, bits / 8, value);
  attend(o);
}

function ins(o: Ops): void {
  const bits = portBits(o), bytes = bits / 8, index = new Index(o), step = delta(o, bytes), port = dx(o);
  repeat(o, index, () => {
    o.callF(o.deep("ioCheck"), o.cpu, port, bytes);
    const to = index.get(RDI);
    const place = o.writeAt(at(o, i32(ES), to, bytes, ACCESS_WRITE), bytes, false);
    o.host.beforeSlow();
    o.storeAt(place, bits, o.c.call1(o.deep("ioRead"), o.cpu, port, bytes));
    o.commit(place);
    index.set(RDI, to.add(step));
  }, { devices: true });
}
function outs(o: Ops): void {
  const bits = portBits(o), bytes = bits / 8, index = new Index(o), step = delta(o, bytes), port = dx(o);
  const segment = o.field("b");
  repeat(o, index, () => {
    o.callF(o.deep("ioCheck"), o.cpu, port, bytes);
    const from = index.get(RSI);
    const v = o.read(at(o, segment, from, bytes, 0), bits);
    o.callF(o.deep("out"), o.cpu, port, bytes, v);
    index.set(RSI, from.add(step));
  }, { devices: true });
  attend(o);
}

const string = { string: true, modes: true, noHost: "ports" } as const;
const noHost = "ports";

export const ROWS: readonly Row[] = [
  { op: "E4", name: "IN", args: "Ab=,Iub", noHost, sem: (o, a: Operand, p: Operand) => input(o, a, p.get()) },
  { op: "E5", name: "IN", args: "Av=,Iub", noHost, sem: (o, a: Operand, p: Operand) => input(o, a, p.get()) },
  { op: "EC", name: "IN", args: "Ab=", noHost, sem: (o, a: Operand) => input(o, a, dx(o)) },
  { op: "ED", name: "IN", args: "Av=", noHost, sem: (o, a: Operand) => input(o, a, dx(o)) },
  {
    op: "E6",
    name: "OUT",
    args: "Ab,Iub",
    noHost,
    modes: true,
    sem: (o, a: Operand, p: Operand) => output(o, a, p.get()),
  },
  {
    op: "E7",
    name: "OUT",
    args: "Av,Iub",
    noHost,
    modes: true,
    sem: (o, a: Operand, p: Operand) => output(o, a, p.get()),
  },
  { op: "EE", name: "OUT", args: "Ab", noHost, modes: true, sem: (o, a: Operand) => output(o, a, dx(o)) },
  { op: "EF", name: "OUT", args: "Av", noHost, modes: true, sem: (o, a: Operand) => output(o, a, dx(o)) },
  { op: "6C", name: "INSB", args: "Ab", ...string, sem: (o) => ins(o) },
  { op: "6D", name: "INS", sizes: "v", ...string, sem: (o) => ins(o) },
  { op: "6E", name: "OUTSB", args: "Ab", ...string, sem: (o) => outs(o) },
  { op: "6F", name: "OUTS", sizes: "v", ...string, sem: (o) => outs(o) },
];
