/**
 * The interpreter's loop: a table of cases over the handler number of the record at `pc`. Specials (specials.ts) and hot rows
 * have their code here; every other handler is a call.
 */
import type { Code, Label, Var } from "../../wasm/code.ts";
import type { Func } from "../../wasm/module.ts";
import { i64, select, type Type, type Value } from "../../wasm/value.ts";
import type { Exits } from "./exits.ts";
import { condition, KIND } from "./flags.ts";
import { baseAddress, emitVariant, FORM, type Variants } from "./handlers.ts";
import { type CpuFuncs, type Host, Ops, STATUS } from "./ops.ts";
import { FUSED, type Fused, FUSED_START, SPECIAL, SPECIAL_JCC, SPECIALS } from "./specials.ts";
import {
  CS,
  ENTRY_TABLE,
  EXC,
  ITLB_ENTRIES,
  JUMPS,
  JUMPS_FACTOR,
  JUMPS_SHIFT,
  MODE_64,
  OP,
  OP_BYTES,
  reg,
  RSP,
  S,
  VBASE,
} from "./state.ts";

export class Loop {
  readonly pc: Var;
  readonly budget: Var;
  readonly ea: Var;
  readonly status: Var;
  readonly target: Var;
  /** What is looked up is the target of a jump through a register or memory. */
  readonly indirect: Var;
  /**
   * What is looked up is the target of a transfer that the guest made: only there is the budget looked at. Where else a lookup
   * is needed depends on what is decoded and compiled already, and no guest may see that.
   */
  readonly jumped: Var;
  /** What is looked up is where a region was left for. */
  readonly left: Var;
  #outer!: Label;
  #dispatch!: Label;
  #leave!: Label;

  constructor(
    readonly c: Code,
    readonly f: CpuFuncs,
    readonly cpu: Value,
    readonly variants: Variants,
    readonly inLoop: number,
    /** Handlers from this number on are compiled regions. */
    readonly firstRegion: number,
    readonly signature: { params: readonly Type[]; results: readonly Type[]; typeIndex: number },
    readonly hot: Func,
    readonly exits: Exits | null = null,
  ) {
    this.pc = c.paramVar(1);
    this.budget = c.paramVar(2);
    this.ea = c.variable("i64");
    this.status = c.variable("i32");
    this.target = c.variable("i64");
    this.indirect = c.variable("i32");
    this.jumped = c.variable("i32");
    this.left = c.variable("i32");
  }

  emit(): void {
    const c = this.c;
    c.if(this.pc.get().eqz(), () => this.#targetFromRip());
    c.loop((outer) => {
      this.#outer = outer;
      c.block((leave) => {
        this.#leave = leave;
        c.if(this.pc.get().eqz(), () => this.#lookup());
        c.loop((dispatch) => {
          this.#dispatch = dispatch;
          this.budget.set(this.budget.get().sub(1));
          this.#cases(this.inLoop);
        });
      });
      this.#left();
    });
    c.return(this.status.get());
  }

  /** The nest of blocks: case k's code follows the end of block k. */
  #cases(k: number): void {
    const c = this.c;
    if (k < 0) {
      c.table(c.ld16u(this.pc.get(), OP.h), this.inLoop + 1);
      return;
    }
    c.block(() => this.#cases(k - 1));
    c.scope(() => {
      if (k === this.inLoop) this.#cold();
      else if (k < SPECIALS) this.#special(k);
      else {
        const v = this.variants.all[k - SPECIALS]!;
        emitVariant(v, c, this.f, this.#host(), this.cpu, this.pc.get(), this.ea, this.exits);
        this.#next();
      }
    });
  }

  #next(): void {
    this.pc.set(this.pc.get().add(OP_BYTES));
    this.c.br(this.#dispatch);
  }

  #host(): Host {
    return {
      leave: (status) => {
        this.#spill();
        this.status.set(status);
        this.c.br(this.#leave);
      },
      beforeSlow: () => this.#spill(),
    };
  }
  #spill(): void {
    this.c.st32(this.cpu, this.pc.get(), S.curOp);
    this.c.st32(this.cpu, this.budget.get(), S.budget);
  }

  #cold(): void {
    const c = this.c, h = c.ld16u(this.pc.get(), OP.h);
    this.#spill();
    const [status] = c.callIndirect(this.signature, h.sub(this.inLoop), this.cpu, this.pc.get(), this.ea.get());
    this.budget.set(c.ld32(this.cpu, S.budget));
    c.rarely(status!, () => {
      c.if(status!.eq(STATUS.RESUME), () => {
        this.pc.set(c.ld32(this.cpu, S.resumeOp));
        c.br(this.#dispatch);
      });
      this.status.set(status!);
      this.left.set(h.geU(this.firstRegion));
      c.br(this.#leave);
    });
    this.#next();
  }

  /** After leaving: deliver a fault, follow a jump, or return. */
  #left(): void {
    const c = this.c, cpu = this.cpu;
    c.rarely(this.status.get().eq(STATUS.FAULT), () => {
      c.st32(cpu, c.ld32(cpu, S.excVector), S.faultVector);
      c.st32(cpu, c.ld32(cpu, S.excError), S.faultError);
      // The faulting instruction has not retired.
      const op = c.ld32(cpu, S.curOp);
      c.if(op, () => {
        const linear = c.ld64(cpu, reg(VBASE)).add(c.ld16u(op, OP.ip).and(0xfff).zx());
        const at = c.let(linear);
        c.if(c.ld32(cpu, S.mode).and(3).eq(MODE_64), () => c.st64(cpu, at, S.rip), () => {
          c.st64(cpu, at.sub(c.ld64(cpu, S.segBase + CS * 8)).and(0xffff_ffff), S.rip);
        });
        this.budget.set(this.budget.get().add(1));
      });
      if (!this.exits) this.status.set(c.call1(this.f.more.get("deliver")!, cpu));
      else {
        // Whether the guest gets the exception is for the hypervisor to say.
        c.st32(cpu, this.budget.get(), S.budget);
        c.return(STATUS.FAULT);
      }
    });
    c.if(this.status.get().leU(STATUS.JUMP).or(this.status.get().eq(STATUS.FALL)), () => {
      this.jumped.set(this.status.get().ne(STATUS.FALL));
      this.#targetFromRip();
      this.pc.set(0);
      c.br(this.#outer);
    });
    c.st32(cpu, this.budget.get(), S.budget);
  }

  /** target = linear address of S.rip. */
  #targetFromRip(): void {
    const c = this.c, cpu = this.cpu;
    const rip = c.ld64(cpu, S.rip);
    this.target.set(rip);
    c.if(c.ld32(cpu, S.mode).and(3).ne(MODE_64), () => {
      this.target.set(c.ld64(cpu, S.segBase + CS * 8).add(rip).and(0xffff_ffff));
    });
  }
  #ripFromTarget(): void {
    const c = this.c, cpu = this.cpu;
    c.st64(cpu, this.target.get(), S.rip);
    c.if(c.ld32(cpu, S.mode).and(3).ne(MODE_64), () => {
      c.st64(cpu, this.target.get().sub(c.ld64(cpu, S.segBase + CS * 8)).and(0xffff_ffff), S.rip);
    });
  }

  /** Finds the operation at linear address `target`. */
  #lookup(): void {
    const c = this.c, cpu = this.cpu, target = this.target.get();
    c.if(this.budget.get().ltS(0).and(this.jumped.get()), () => {
      this.#ripFromTarget();
      this.status.set(STATUS.SLICE);
      c.br(this.#leave);
    });
    const page = c.let(target.and(-4096));
    const entry = c.let(c.ld32(cpu, S.itlb).add(target.shrU(12).lo().and(ITLB_ENTRIES - 1).shl(4)));
    c.if(c.ld64(entry).ne(page), () => {
      const [status] = c.call(this.f.more.get("fetch")!, cpu, target);
      c.if(status!, () => {
        // A fault of the fetch itself: rip is the target, no operation is to blame.
        this.#ripFromTarget();
        c.st32(cpu, 0, S.curOp);
        this.status.set(status!);
        c.br(this.#leave);
      });
    });
    const table = c.variable("i32", c.ld32(entry, 8));
    c.if(table.get().eqz(), () => {
      const info = c.ld32(c.ld32(cpu, S.codeDir).add(c.ld32(entry, 12).shl(2)));
      c.if(info, () => {
        table.set(c.ld32(info.add(c.ld32(cpu, S.mode).and(7).shl(2)), 8));
        c.st32(entry, table.get(), 8);
      });
    });
    const op = c.variable("i32", 0);
    c.if(table.get(), () => {
      const slot = c.let(table.get().add(target.lo().and(0xfff).shl(2))), known = this.#jumpEntry(slot);
      c.if(c.ld32(known, JUMPS).eq(slot), () => op.set(c.ld32(known, JUMPS + 4)), () => {
        op.set(c.ld32(slot));
        c.if(op.get(), () => {
          c.st32(known, slot, JUMPS);
          c.st32(known, op.get(), JUMPS + 4);
        });
      });
    });
    c.if(op.get().eqz(), () => {
      this.#ripFromTarget();
      this.status.set(STATUS.TRANSLATE);
      c.br(this.#leave);
    });
    c.if(this.indirect.get(), () => {
      this.indirect.set(0);
      const mark = c.let(table.get().add(target.lo().and(0xfff)));
      c.if(
        page.eq(c.ld64(cpu, reg(VBASE))).and(c.ld8u(mark, ENTRY_TABLE.TARGETS).eqz()),
        () => c.st8(mark, 1, ENTRY_TABLE.TARGETS),
      );
    });
    c.st64(cpu, page, reg(VBASE));
    c.st32(cpu, c.ld32(entry, 12), S.lookedPage);
    c.st32(cpu, target.lo().and(0xfff).or(c.ld32(cpu, S.mode).shl(12)), S.lookedOffset);
    c.rarely(this.left.get(), () => {
      this.left.set(0);
      c.if(c.ld16u(op.get(), OP.h).ltU(this.firstRegion), () => {
        c.call(this.hot, cpu, op.get());
      });
    });
    this.pc.set(op.get());
  }

  #jumpEntry(slot: Value): Value {
    return this.c.let(this.cpu.add(slot.mul(JUMPS_FACTOR).shrU(JUMPS_SHIFT).shl(3)));
  }

  #goto(target: Value, jumped = true): void {
    this.target.set(target);
    this.pc.set(0);
    this.jumped.set(jumped ? 1 : 0);
    this.c.br(this.#outer);
  }

  /** A taken jump to the record's link, or by address if there is none yet. `at` is the record that holds it. */
  #take(at: Value, offset = 0): void {
    const c = this.c;
    const link = c.ld32(at, OP.imm + offset);
    this.target.set(c.ld64(this.cpu, reg(VBASE)).add(c.ld32(at, OP.disp + offset).sx()));
    this.pc.set(link);
    c.brIf(this.#dispatch, link.bool().and(this.budget.get().geS(0)));
    this.pc.set(0);
    this.jumped.set(1);
    c.br(this.#outer);
  }

  #ops(size: number): Ops {
    return new Ops(this.c, this.f, this.#host(), this.cpu, this.pc.get(), this.ea, size, true, true);
  }

  #special(h: number): void {
    const c = this.c, cpu = this.cpu, pc = this.pc.get();
    const o = this.#ops(64);
    if (h >= FUSED_START) return this.#fused(FUSED[h - FUSED_START]!);
    if (h >= SPECIAL_JCC) {
      c.if(condition(c, this.f.flags, cpu, h - SPECIAL_JCC), () => this.#take(pc));
      return this.#next();
    }
    /** An address or a note: no instruction. */
    const micro = () => {
      this.budget.set(this.budget.get().add(1));
      this.#next();
    };
    switch (h) {
      case SPECIAL.RESYNC:
        this.budget.set(this.budget.get().add(1));
        return this.#goto(o.thisLinear(), false);
      case SPECIAL.GOTO: {
        this.budget.set(this.budget.get().add(1));
        const link = c.ld32(pc, OP.imm);
        this.target.set(c.ld64(cpu, reg(VBASE)).add(c.ld32(pc, OP.disp).sx()));
        this.pc.set(link);
        c.brIf(this.#dispatch, link);
        this.jumped.set(0);
        return c.br(this.#outer);
      }
      case SPECIAL.STEP_END:
        this.budget.set(this.budget.get().add(1));
        this.target.set(c.ld64(cpu, reg(VBASE)).add(c.ld32(pc, OP.disp).sx()));
        this.#ripFromTarget();
        this.status.set(STATUS.SLICE);
        return c.br(this.#leave);
      case SPECIAL.XPAGE: {
        const next = c.let(c.ld64(cpu, reg(VBASE)).add(4096));
        const entry = c.let(c.ld32(cpu, S.itlb).add(next.shrU(12).lo().and(ITLB_ENTRIES - 1).shl(4)));
        c.if(c.ld64(entry).ne(next), () => {
          this.#spill();
          const [status] = c.call(this.f.more.get("fetch")!, cpu, next);
          c.if(status!, () => {
            this.status.set(status!);
            c.br(this.#leave);
          });
        });
        c.if(c.ld32(entry, 12).ne(c.ld32(pc, OP.imm)), () => {
          // Another page now: forget this decoding and make a new one.
          this.budget.set(this.budget.get().add(1));
          this.target.set(o.thisLinear());
          const own = c.let(c.ld32(cpu, S.itlb).add(this.target.get().shrU(12).lo().and(ITLB_ENTRIES - 1).shl(4)));
          const slot = c.let(c.ld32(own, 8).add(this.target.get().lo().and(0xfff).shl(2)));
          c.st32(slot, 0);
          c.st32(this.#jumpEntry(slot), 0, JUMPS);
          this.#ripFromTarget();
          this.status.set(STATUS.TRANSLATE);
          c.br(this.#leave);
        });
        return micro();
      }
      case SPECIAL.EA:
        this.ea.set(baseAddress(o, FORM.INDEX));
        return micro();
      case SPECIAL.EA_SEGMENT:
        this.ea.set(baseAddress(o, FORM.INDEX).add(c.ld64(cpu.add(o.field("s").shl(3)), S.segBase)));
        return micro();
      case SPECIAL.EA_32: {
        this.ea.set(baseAddress(o, FORM.INDEX).and(0xffff_ffff));
        const s = o.field("s");
        c.if(s.ne(255), () => this.ea.set(this.ea.get().add(c.ld64(cpu.add(s.shl(3)), S.segBase))));
        return micro();
      }
      case SPECIAL.EA_FAR:
        this.ea.set(o.registerOf("b").add(o.imm().sx()).add(o.disp().sx()));
        return micro();
      case SPECIAL.EA_ABSOLUTE: {
        this.ea.set(c.ld64(pc, OP.imm));
        const s = o.field("s");
        c.if(s.ne(255), () => this.ea.set(this.ea.get().add(c.ld64(cpu.add(s.shl(3)), S.segBase))));
        return micro();
      }
      case SPECIAL.EA_LEGACY: {
        const flags = o.imm();
        const offset = c.let(baseAddress(o, FORM.INDEX).and(select(flags.and(1 << 9), i64(0xffff), i64(0xffff_ffff))));
        this.ea.set(offset);
        c.if(flags.and(1 << 10).eqz(), () => {
          const [a] = o.callF(o.deep("segLinear"), cpu, o.field("s"), offset, flags.and(0xff), flags.shrU(8).and(1));
          this.ea.set(a!);
        });
        return micro();
      }
      case SPECIAL.UNDEFINED:
        o.fault(EXC.UD);
        return;
      case SPECIAL.TOO_LONG:
        o.fault(EXC.GP, 0);
        return;
      case SPECIAL.FENCE:
        c.fence();
        return micro();
      case SPECIAL.NOP:
        return this.#next();
      case SPECIAL.JMP:
        return this.#take(pc);
      case SPECIAL.CALL: {
        const sp = c.let(o.gpr(RSP).sub(8));
        o.write(sp, 64, o.nextLinear());
        o.setGpr(RSP, sp);
        return this.#take(pc);
      }
      case SPECIAL.RET: {
        const sp = o.gpr(RSP);
        const t = o.read(sp, 64);
        o.gpIf(t.shl(16).shrS(16).ne(t));
        o.setGpr(RSP, sp.add(o.imm().zx()));
        return this.#goto(t);
      }
      case SPECIAL.JMP_R:
      case SPECIAL.JMP_M:
      case SPECIAL.CALL_R:
      case SPECIAL.CALL_M: {
        const t = h === SPECIAL.JMP_R || h === SPECIAL.CALL_R ? o.registerOf("d") : o.read(this.ea.get(), 64);
        o.gpIf(t.shl(16).shrS(16).ne(t));
        if (h === SPECIAL.CALL_R || h === SPECIAL.CALL_M) {
          const sp = c.let(o.gpr(RSP).sub(8));
          o.write(sp, 64, o.nextLinear());
          o.setGpr(RSP, sp);
        } else this.indirect.set(1);
        return this.#goto(t);
      }
    }
  }

  /** Compare or test, leave the flags for whoever looks, branch on the operands themselves. */
  #fused(f: Fused): void {
    const c = this.c, o = this.#ops(f.size), pc = this.pc.get(), cpu = this.cpu;
    const register = (field: "d" | "s") => {
      const { base, offset } = o.place(field);
      return o.loadAt(base, f.size, offset);
    };
    const immediate = () => f.size === 64 ? o.imm().sx() : o.imm();
    const memory = () => {
      this.ea.set(baseAddress(o, FORM.BASE));
      return o.read(this.ea.get(), f.size);
    };
    let a: Value, b: Value;
    switch (f.form) {
      case "rr":
        [a, b] = [register("d"), register("s")];
        break;
      case "ri":
        [a, b] = [register("d"), c.let(immediate())];
        break;
      case "mi":
        [a, b] = [memory(), c.let(immediate())];
        break;
      case "mr":
        [a, b] = [memory(), register("s")];
        break;
      case "rm":
        [a, b] = [register("d"), memory()];
        break;
    }
    // Unsigned comparisons want zero-extended, signed ones sign-extended operands; narrow ones are compared as 64 bits.
    const sa = c.let(o.sext(a)), sb = c.let(o.sext(b));
    let take: Value;
    if (f.name === "TEST") {
      const r = c.let(sa.and(sb));
      c.st64(cpu, r, S.fRes);
      c.st32(cpu, KIND.LOGIC, S.fKind);
      take = {
        4: () => r.eqz(),
        5: () => r.ne(0),
        8: () => r.ltS(0),
        9: () => r.geS(0),
        14: () => r.leS(0),
        15: () => r.gtS(0),
      }[f.cc]!();
    } else {
      const r = c.let(o.sext(a.sub(b)));
      c.st64(cpu, r, S.fRes);
      c.st64(cpu, sa, S.fA);
      c.st64(cpu, sb, S.fB);
      c.st32(cpu, KIND.SUB, S.fKind);
      take = {
        2: () => sa.ltU(sb),
        3: () => sa.geU(sb),
        4: () => sa.eq(sb),
        5: () => sa.ne(sb),
        6: () => sa.leU(sb),
        7: () => sa.gtU(sb),
        12: () => sa.ltS(sb),
        13: () => sa.geS(sb),
        14: () => sa.leS(sb),
        15: () => sa.gtS(sb),
      }[f.cc]!();
    }
    this.budget.set(this.budget.get().sub(1));
    c.if(take, () => this.#take(pc, OP_BYTES));
    this.pc.set(pc.add(2 * OP_BYTES));
    c.br(this.#dispatch);
  }
}
