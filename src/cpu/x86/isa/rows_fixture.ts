/** For tests: rows as functions, run on records made by hand. */
import type { Module } from "../../../wasm/module.ts";
import { emitVariant, FORM, Variants } from "../handlers.ts";
import type { ImportImpls, Imports } from "../imports.ts";
import { defineLinear } from "../linear.ts";
import { type CpuFuncs, type Host, STATUS } from "../ops.ts";
import type { Row } from "../row.ts";
import { OP, reg, VBASE } from "../state.ts";
import { CPU, type Fixture, fixture } from "../system/fixture.ts";
import { defineSegments } from "../system/segments.ts";
import { defineStack } from "./stack.ts";
import { defineString } from "./string.ts";

/** Where the record lies, and the event word: in the fixture's memory below the vCPU. */
const RECORD = 0x100, EVENTS = 0x200;
/** Linear address of the instruction, and its length. */
export const AT = 0x1010, LENGTH = 3, NEXT = AT + LENGTH;

export interface RowFixture extends Fixture {
  /** Runs the row of that name, size, form and mode. */
  run(name: string, fields?: Partial<Record<"d" | "s" | "b" | "x" | "imm", number>>, ea?: bigint): number;
  /** General register `n`. */
  reg(n: number): bigint;
  setReg(n: number, value: bigint | number): void;
  setEvents(value: number): void;
  /** "next", "jump", …, or the exception as "#13(0)". */
  outcome(status: number): string;
}

const STATUS_NAMES = Object.fromEntries(Object.entries(STATUS).map(([name, n]) => [n, name.toLowerCase()]));

export function rowFixture(
  rows: readonly Row[],
  define: (m: Module, f: CpuFuncs, imports: Imports) => void,
  deepNames: readonly string[] = [],
  impls: Partial<ImportImpls> = {},
): RowFixture {
  const variants = new Variants(rows.map(({ hot: _, ...row }) => row), 0);
  const handlers = labelled(rows, variants);
  const fix = fixture(
    64,
    [...new Set(["updateMode", "flushTlb", ...deepNames, ...variants.all.map((_, i) => `handler ${i}`)])],
    (m, f, imports) => {
      defineLinear(m, f);
      defineSegments(m, f);
      defineStack(m, f);
      defineString(m, f);
      define(m, f, imports);
      variants.all.forEach((v, i) => {
        f.more.set(
          `handler ${i}`,
          m.func(`handler ${i}`, ["i32", "i32", "i64"], ["i32"], (c) => {
            const host: Host = { leave: (s) => c.return(s), beforeSlow: () => {} };
            emitVariant(v, c, f, host, c.param(0), c.param(1), c.paramVar(2));
            c.return(STATUS.NEXT);
          }),
        );
      });
    },
    impls,
  );
  const { view } = fix;
  fix.set("events", EVENTS);
  view.setBigUint64(CPU + reg(VBASE), BigInt(AT & ~0xfff), true);
  view.setUint16(RECORD + OP.ip, (AT & 0xfff) | (LENGTH << 12), true);
  fix.set("eflags", 2);
  fix.set("budget", 1000);
  fix.call("flushTlb");
  fix.call("updateMode");
  return {
    ...fix,
    run(name, fields = {}, ea = 0n) {
      const handler = handlers.get(name);
      if (handler === undefined) throw new Error(`No row ${name}, only ${[...handlers.keys()].join(", ")}`);
      for (const k of ["d", "s", "b", "x"] as const) view.setUint8(RECORD + OP[k], fields[k] ?? 0);
      view.setInt32(RECORD + OP.imm, fields.imm ?? 0, true);
      return fix.call(`handler ${handler}`, RECORD, ea);
    },
    reg: (n) => view.getBigUint64(CPU + reg(n), true),
    setReg: (n, value) => view.setBigUint64(CPU + reg(n), BigInt.asUintN(64, BigInt(value)), true),
    setEvents: (value) => view.setUint32(EVENTS, value, true),
    outcome(status) {
      if (status !== STATUS.FAULT) return STATUS_NAMES[status]!;
      const error = fix.get("excError") | 0;
      return `#${fix.get("excVector")}${error === -1 ? "" : `(${error})`}`;
    },
  };
}

/** Handlers by names such as "0F 22 MOV.64r": opcode, mnemonic, size, form, and ".legacy" outside 64-bit mode. */
function labelled(rows: readonly Row[], variants: Variants): Map<string, number> {
  const labels = new Map<string, number>();
  rows.forEach((row, i) => {
    for (const size of [8, 16, 32, 64]) {
      for (const form of [FORM.REG, FORM.EA]) {
        for (const is64 of [true, false]) {
          const handler = variants.find(i, size, form, true, is64);
          const opcode = row.op.replace(/ \/r| \+r/, "");
          const name = `${opcode} ${row.name}.${size}${form === FORM.EA ? "m" : "r"}${is64 ? "" : ".legacy"}`;
          if (handler >= 0) labels.set(name, handler);
        }
      }
    }
  });
  return labels;
}
