/** For tests: the x87 rows as functions, run on a register file that TypeScript fills and reads. */
import { Bug } from "../../../base/errors.ts";
import { emitVariant, FORM, type Variant, Variants } from "../handlers.ts";
import { defineX87, ROWS } from "../isa/x87.ts";
import { deepFunc, type Host } from "../ops.ts";
import { CR0, EXC, OP, reg, S, VBASE } from "../state.ts";
import { CPU, type Fixture, fixture, RAM } from "../system/fixture.ts";

/** Where the instruction, its record and its memory operand lie. */
const OP_AT = 0xf000, CODE = 0x1000, DATA = 0x2000;
const RAM_PAGES = 16;

export interface Real {
  readonly sig: bigint;
  /** Sign and biased exponent. */
  readonly se: number;
}

export interface X87State {
  fcw: number;
  fsw: number;
  top: number;
  /** By physical number; undefined: empty. */
  regs: (Real | undefined)[];
}

export interface X87Fixture extends Fixture {
  /** Sets the state; ST(0) is physical register `top`. */
  load(s: X87State): void;
  state(): X87State;
  /** The memory operand: 128 bytes. */
  readonly operand: DataView<SharedArrayBuffer>;
  /** Runs the row of "D8 C0+" or "D9 /4" (ST(i) and operand size as given) and returns the status. */
  run(op: string, i?: number, size?: number): number;
}

export function x87Fixture(): X87Fixture {
  const variants = new Variants(ROWS, 0);
  const name = (v: Variant) => `${v.row.op} ${v.size}`;
  const fix = fixture(RAM_PAGES, variants.all.map(name), (m, f) => {
    deepFunc(m, f, "unitTrap", ["i32"], [], (o) => o.fault(EXC.NM));
    defineX87(m, f);
    for (const v of variants.all) {
      const func = m.func(name(v), ["i32", "i32", "i64"], ["i32"], (c) => {
        const host: Host = { leave: (s) => c.return(s), beforeSlow: () => {} };
        emitVariant(v, c, f, host, c.param(0), c.param(1), c.paramVar(2));
        c.return(0);
      });
      f.more.set(name(v), func);
    }
  });
  const { view } = fix;
  const operand = new DataView(view.buffer, RAM + DATA, 128);
  // Paging is off: linear is physical. Protected mode, 32-bit code at 0.
  fix.set("cr0", CR0.PE | CR0.NE);
  fix.set("mode", 1);
  fix.set("curOp", OP_AT);
  fix.set("segSelector", 8, 1);
  fix.set("fKind", 1);
  fix.set64("fRes", 1);
  view.setBigUint64(CPU + reg(VBASE), BigInt(CODE), true);
  fix.set("dtlb", CPU + 0x2000);
  for (let at = CPU + 0x2000; at < CPU + 0x2000 + 1024 * 32; at += 32) {
    view.setBigUint64(at, 0xffff_ffff_ffff_ffffn, true);
    view.setBigUint64(at + 8, 0xffff_ffff_ffff_ffffn, true);
  }

  return Object.assign(fix, {
    operand,
    load(s: X87State): void {
      view.setUint16(CPU + S.fcw, s.fcw, true);
      view.setUint16(CPU + S.fsw, s.fsw & 0xc7ff, true);
      view.setUint32(CPU + S.ftop, s.top, true);
      for (let p = 0; p < 8; p++) {
        const r = s.regs[p];
        view.setUint8(CPU + S.fempty + p, r ? 0 : 1);
        view.setBigUint64(CPU + S.fpr + 16 * p, r?.sig ?? 0n, true);
        view.setUint16(CPU + S.fpr + 16 * p + 8, r?.se ?? 0, true);
      }
    },
    state(): X87State {
      return {
        fcw: view.getUint16(CPU + S.fcw, true),
        fsw: view.getUint16(CPU + S.fsw, true),
        top: view.getUint32(CPU + S.ftop, true),
        regs: Array.from(
          { length: 8 },
          (_, p) =>
            view.getUint8(CPU + S.fempty + p) ? undefined : {
              sig: view.getBigUint64(CPU + S.fpr + 16 * p, true),
              se: view.getUint16(CPU + S.fpr + 16 * p + 8, true),
            },
        ),
      };
    },
    run(op: string, i = 0, size?: number): number {
      const v = variants.all.find((v) => v.row.op === op && (size === undefined || v.size === size));
      if (!v) throw new Bug(`No row ${op}`);
      const [first, second = ""] = op.split(" ");
      const modrm = second.startsWith("/") ? Number(second[1]) << 3 | 6 : (parseInt(second, 16) || 0) + i;
      view.setUint8(RAM + CODE, parseInt(first!, 16));
      view.setUint8(RAM + CODE + 1, modrm);
      view.setUint8(OP_AT + OP.d, i);
      view.setUint16(OP_AT + OP.ip, 2 << 12, true);
      return fix.call(name(v), OP_AT, BigInt(v.form === FORM.REG ? 0 : DATA));
    },
  });
}
