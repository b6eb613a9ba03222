/** Masked moves, which touch only the elements they are asked for, and gathers, which can stop in between: [sdm2]. */
import type { Module } from "../../../wasm/module.ts";
import { i32, i64, select, type Value } from "../../../wasm/value.ts";
import { ELEMENT } from "../decode.ts";
import { type CpuFuncs, deepFunc, type Ops, STATUS } from "../ops.ts";
import type { Row } from "../row.ts";
import { FS, MODE_64, S } from "../state.ts";
import { low, qword, zeros } from "../simd/vector.ts";
import { AVX, AVX2, type Length, lengths, register, setRegister } from "../simd/wide.ts";

type Bits = 32 | 64;
const shape = (bits: Bits) => bits === 64 ? "i64x2" : "i32x4";
const get = (v: Value, bits: Bits, lane: number): Value => v.lane(`${shape(bits)}.extract_lane`, lane);
const put = (v: Value, bits: Bits, lane: number, x: Value): Value => v.lane(`${shape(bits)}.replace_lane`, lane, x);

/** The elements of a vector that are asked for, one bit each. */
function maskBits(o: Ops, halves: readonly Value[], bits: Bits): Value {
  const [low, high] = halves.map((v) => v.op(`${shape(bits)}.bitmask`));
  return o.let(high ? low!.or(high.shl(128 / bits)) : low!);
}

/** The linear address of element i of what lies at `address`. */
const elementOf = (o: Ops, address: Value, info: Value, bits: Bits) => (i: number): Value =>
  o.callF(o.deep("avx.element"), o.cpu, address, i * bits / 8, info, bits / 8)[0]!;

/** (address, immediate, mask) → vectors; and (address, immediate, mask, vectors): one element after the other. */
function defineMasked(m: Module, f: CpuFuncs, bits: Bits, length: Length): void {
  const lanes = 128 / bits, count = lanes * length, vectors = new Array(length).fill("v128");
  deepFunc(m, f, `avx.load${bits}.${length}`, ["i64", "i32", "i32"], vectors, (o, address, info, mask) => {
    const element = elementOf(o, address!, info!, bits);
    const c = o.c, result = vectors.map(() => c.variable("v128", zeros()));
    for (let i = 0; i < count; i++) {
      const r = result[Math.floor(i / lanes)]!;
      c.if(mask!.and(1 << i), () => {
        const x = o.read(element(i), bits);
        r.set(put(r.get(), bits, i % lanes, x));
      });
    }
    c.return(STATUS.NEXT, ...result.map((r) => r.get()));
  });
  deepFunc(
    m,
    f,
    `avx.store${bits}.${length}`,
    ["i64", "i32", "i32", ...vectors],
    [],
    (o, address, info, mask, ...v) => {
      const element = elementOf(o, address!, info!, bits);
      const c = o.c;
      // Nothing is written unless everything can be.
      for (let i = 0; i < count; i++) {
        c.if(mask!.and(1 << i), () => {
          o.callF(o.deep("probeWrite"), o.cpu, element(i), bits / 8);
        });
      }
      for (let i = 0; i < count; i++) {
        c.if(mask!.and(1 << i), () => {
          const x = o.let(get(v[Math.floor(i / lanes)]!, bits, i % lanes));
          o.write(element(i), bits, x);
        });
      }
    },
  );
}
const maskedLoad = (bits: Bits) => (length: Length) => (o: Ops) => {
  const mask = maskBits(o, register(o, 1, length), bits);
  setRegister(o, o.callF(o.deep(`avx.load${bits}.${length}`), o.cpu, o.ea.get(), o.imm(), mask));
};
const maskedStore = (bits: Bits) => (length: Length) => (o: Ops) => {
  const mask = maskBits(o, register(o, 1, length), bits);
  o.callF(o.deep(`avx.store${bits}.${length}`), o.cpu, o.ea.get(), o.imm(), mask, ...register(o, 2, length));
};

/**
 * Defines "avx.element" (address without the index, index, immediate, bytes) → linear address: the index is scaled, the sum
 * cut to the address size, and the segment's base and limit come last.
 */
function defineElement(m: Module, f: CpuFuncs): void {
  deepFunc(m, f, "avx.element", ["i64", "i64", "i32", "i32"], ["i64"], (o, address, index, info, bytes) => {
    const c = o.c, segment = c.let(info!.shrU(ELEMENT.SEGMENT).and(7));
    const base = c.variable("i64", 0);
    // In 64-bit mode the address has the segment's base in it.
    c.if(o.ld32("mode").and(3).eq(MODE_64).and(segment.geU(FS)), () => {
      base.set(c.ld64(o.cpu.add(segment.shl(3)), S.segBase));
    });
    const scaled = index!.shl(info!.shrU(ELEMENT.SCALE).and(3).zx());
    const sum = c.let(address!.sub(base.get()).add(scaled));
    const short = c.let(select(info!.and(ELEMENT.ADDRESS16), c.let(sum.and(0xffff)), sum));
    const cut = c.let(select(info!.and(ELEMENT.ADDRESS32), c.let(sum.and(0xffff_ffff)), short));
    const [linear] = o.callF(o.deep("segLinear"), o.cpu, segment, cut, bytes!, info!.and(ELEMENT.WRITE).bool());
    c.return(STATUS.NEXT, linear!);
  });
}

/**
 * Elements of `bits` bits by indices of `indexBits`, as many as both have room for. An element that is there is taken out of
 * the mask; one that faults leaves those before it done: [sdm2 VPGATHERDD].
 */
const gather = (bits: Bits, indexBits: Bits) => (length: Length) => (o: Ops) => {
  const c = o.c, lanes = 128 / bits, indexLanes = 128 / indexBits;
  const count = Math.min(lanes, indexLanes) * length;
  const info = o.let(o.imm()), address = o.ea.get();
  const at = o.let(o.cpu.add(info.and(15).shl(4)));
  const index = [c.ldV(at, S.xmm), c.ldV(at, S.ymmHigh)];
  const mask = register(o, 1, count > lanes ? 2 : 1);
  const place = (slot: "d" | "s", i: number) => {
    const { base, offset } = o.place(slot);
    const lane = i % lanes, half = i < lanes ? S.xmm : S.ymmHigh;
    return { base, offset: offset + half + lane * bits / 8 };
  };
  const sign = (i: number) => mask[Math.floor(i / lanes)]!.lane(`${shape(bits)}.extract_lane`, i % lanes);
  for (let i = 0; i < count; i++) {
    c.if(sign(i).ltS(0), () => {
      const n = get(index[Math.floor(i / indexLanes)]!, indexBits, i % indexLanes).sx();
      const [linear] = o.callF(o.deep("avx.element"), o.cpu, address, o.let(n), info, bits / 8);
      const x = o.read(linear!, bits);
      const d = place("d", i);
      o.storeAt(d.base, bits, x, d.offset);
    });
    const s = place("s", i);
    o.storeAt(s.base, bits, bits === 64 ? i64(0) : i32(0), s.offset);
  }
  // Elements that were not asked for stay; what has no index becomes zero, as the mask does.
  const done = register(o, 0, count > lanes ? 2 : 1);
  setRegister(o, count * bits === 64 ? [low(qword(done[0]!, 0))] : done);
  setRegister(o, [zeros()], 1);
};

export function defineAvxMemory(m: Module, f: CpuFuncs): void {
  defineElement(m, f);
  for (const bits of [32, 64] as const) for (const length of [1, 2] as const) defineMasked(m, f, bits, length);
}

/** Without a size: each element is looked at by itself. */
function rows(kind: "mask" | "index", code: string, name: string, args: string, sem: (n: Length) => Row["sem"]): Row[] {
  return lengths(code, name, args, name.startsWith("VMASKMOV") ? AVX : AVX2, sem)
    .map((row) => ({ ...row, args: row.args!.replace(/M[uq]+/, "M"), elements: kind, inState: kind === "index" }));
}
const loads = (code: string, name: string, bits: Bits) =>
  rows("mask", `W${name === "VPMASKMOVQ" ? 1 : 0} 66 0F 38 ${code} /r`, name, "V=,H,M", maskedLoad(bits));
const stores = (code: string, name: string, bits: Bits) =>
  rows("mask", `W${name === "VPMASKMOVQ" ? 1 : 0} 66 0F 38 ${code} /r`, name, "M=,H,V", maskedStore(bits));
const gathers = (code: string, name: string, w: 0 | 1, indexBits: Bits) =>
  rows("index", `W${w} 66 0F 38 ${code} /r`, name, "V+,H+,M", gather(w ? 64 : 32, indexBits));

export const ROWS: readonly Row[] = [
  ...loads("2C", "VMASKMOVPS", 32),
  ...loads("2D", "VMASKMOVPD", 64),
  ...stores("2E", "VMASKMOVPS", 32),
  ...stores("2F", "VMASKMOVPD", 64),
  ...loads("8C", "VPMASKMOVD", 32),
  ...loads("8C", "VPMASKMOVQ", 64),
  ...stores("8E", "VPMASKMOVD", 32),
  ...stores("8E", "VPMASKMOVQ", 64),
  ...gathers("90", "VPGATHERDD", 0, 32),
  ...gathers("90", "VPGATHERDQ", 1, 32),
  ...gathers("91", "VPGATHERQD", 0, 64),
  ...gathers("91", "VPGATHERQQ", 1, 64),
  ...gathers("92", "VGATHERDPS", 0, 32),
  ...gathers("92", "VGATHERDPD", 1, 32),
  ...gathers("93", "VGATHERQPS", 0, 64),
  ...gathers("93", "VGATHERQPD", 1, 64),
];
