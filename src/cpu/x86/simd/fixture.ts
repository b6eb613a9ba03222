/** For tests: rows as functions over the state of one vCPU. */
import { Bug } from "../../../base/errors.ts";
import type { Module } from "../../../wasm/module.ts";
import { parseArgs, rowSizes } from "../arg.ts";
import { emitVariant, Variants } from "../handlers.ts";
import type { Imports } from "../imports.ts";
import { defineLinear } from "../linear.ts";
import { type CpuFuncs, deepFunc, STATUS } from "../ops.ts";
import type { Row } from "../row.ts";
import { DTLB, DTLB_BYTES, MODE_64, OP, S, SCRATCH_OPS } from "../state.ts";
import { CPU, type Fixture, fixture } from "../system/fixture.ts";

/** Bytes of the operation record. */
export interface Fields {
  readonly d?: number;
  readonly s?: number;
  readonly x?: number;
  readonly b?: number;
  readonly imm?: number;
}

export interface RowFixture extends Fixture {
  readonly rows: readonly Row[];
  /** A row by its mnemonic and the start of its `op`. */
  row(name: string, op?: string): Row;
  /** Runs a row in a form and an operand size; `fields` go into the record. The result is its status. */
  run(row: Row, form: number, fields: Fields, ea?: bigint | number, size?: number): number;
  xmm(n: number): bigint;
  setXmm(n: number, value: bigint): void;
  mm(n: number): bigint;
  setMm(n: number, value: bigint): void;
}

const M64 = (1n << 64n) - 1n;

/** `rows` with the functions that `define` makes; the unit traps leave with status HALT. */
export function rowFixture(
  rows: readonly Row[],
  define: (m: Module, f: CpuFuncs, imports: Imports) => void,
  ramPages = 16,
): RowFixture {
  const variants = new Variants(rows, 0);
  const names = variants.all.map((_, i) => `row.${i}`);
  const fix = fixture(ramPages, names, (m, f, imports) => {
    defineLinear(m, f);
    deepFunc(m, f, "unitTrap", ["i32"], [], (o) => o.leave(STATUS.HALT));
    deepFunc(m, f, "x87Pending", [], [], (o) => o.leave(STATUS.HALT));
    define(m, f, imports);
    variants.all.forEach((v, i) => {
      const func = m.func(v.name, ["i32", "i32", "i64"], ["i32"], (c) => {
        const host = { leave: (status: Parameters<typeof c.return>[0]) => c.return(status), beforeSlow: () => {} };
        emitVariant(v, c, f, host, c.param(0), c.param(1), c.paramVar(2));
        c.return(STATUS.NEXT);
      });
      f.more.set(`row.${i}`, func);
    });
  });
  const record = CPU + SCRATCH_OPS;
  const { view } = fix;
  const get128 = (at: number) => view.getBigUint64(at, true) | (view.getBigUint64(at + 8, true) << 64n);
  // Empty TLBs.
  new Uint8Array(view.buffer, CPU + DTLB, 3 * DTLB_BYTES).fill(0xff);
  fix.set("mode", MODE_64);
  fix.set("dtlb", CPU + DTLB);
  fix.set("mxcsr", 0x1f80);
  return {
    ...fix,
    rows,
    row(name, op = "") {
      const found = rows.find((r) => r.name === name && r.op.startsWith(op));
      if (!found) throw new Bug(`No row ${name} ${op}`);
      return found;
    },
    run(row, form, fields, ea = 0n, size) {
      for (const [name, value] of Object.entries(fields)) {
        const at = OP[name as keyof typeof OP];
        if (name === "imm") view.setInt32(record + at, value, true);
        else view.setUint8(record + at, value);
      }
      const bits = size ?? rowSizes(row, parseArgs(row), true)[0]!;
      const number = variants.find(rows.indexOf(row), bits, form, true, fix.get("mode") === MODE_64);
      if (number < 0) throw new Bug(`No variant of ${row.name} for ${bits} bits in form ${form}`);
      return fix.call(`row.${number}`, record, BigInt(ea));
    },
    xmm: (n) => get128(CPU + S.xmm + 16 * n),
    setXmm(n, value) {
      view.setBigUint64(CPU + S.xmm + 16 * n, value & M64, true);
      view.setBigUint64(CPU + S.xmm + 16 * n + 8, (value >> 64n) & M64, true);
    },
    mm: (n) => view.getBigUint64(CPU + S.fpr + 16 * n, true),
    setMm: (n, value) => view.setBigUint64(CPU + S.fpr + 16 * n, value, true),
  };
}
