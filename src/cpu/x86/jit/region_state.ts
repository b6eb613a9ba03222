/**
 * What a compiled region keeps in locals, and how it begins and ends.
 *
 * A region is a function of the signature REGION: (depth, budget, vbase, back, rsp) → (budget, rsp). The other registers and the
 * flags are in the vCPU's state when it begins: where that is, is a constant, or added to the depth in code that several vCPUs
 * share. It ends in one of three ways:
 *
 * - control has come to `back`, the address its caller goes on at: it returns the budget, which is not negative, and RSP;
 * - control has come to another compiled region: a tail call, with the same `back`;
 * - everything else: the state is made complete, S.exitStatus tells why, and the result is LEFT. Its callers return at once.
 */
import { Bug } from "../../../base/errors.ts";
import type { Code, Label, Signature, Var } from "../../../wasm/code.ts";
import type { Func } from "../../../wasm/module.ts";
import { i32, select, type Type, type Value } from "../../../wasm/value.ts";
import { type CpuFuncs, STATUS } from "../ops.ts";
import { ITLB_ENTRIES, MODE_64, OP, reg, RSP, S, STATE_ALIGN, VBASE } from "../state.ts";
import { GROUPS } from "./groups.ts";
import { KeptFlags } from "./kept_flags.ts";

export const REGION: { readonly params: readonly Type[]; readonly results: readonly Type[] } = {
  params: ["i32", "i32", "i64", "i64", "i64"],
  results: ["i32", "i64"],
};
export const LEFT = -1;
/** Numbers of the tables that a region's module imports: handlers, and regions by their own signature. */
export const HANDLERS = 0, REGIONS = 1;

/** What leads from a region to others. */
export interface Links {
  /** Entry points of the region's own page: 4096 addresses of records. */
  readonly entryTable: Value;
  /** Where the records begin that instructions have their places among. */
  readonly records: Value;
  /** Handlers from this number on are regions. */
  readonly firstRegion: number;
  readonly signature: Signature;
  /** For places.ts. */
  readonly salt: number;
}

export class RegionState {
  readonly registers: (Var | undefined)[] = new Array(16);
  readonly written = new Uint8Array(16);
  /** Vector registers, low 128 bits. */
  readonly vectors: (Var | undefined)[] = new Array(16);
  readonly vectorWritten = new Uint8Array(16);
  /** Their other halves, where an instruction of AVX uses one. */
  readonly vectorHighs: (Var | undefined)[] = new Array(16);
  /** While generating: registers (and in the upper half vectors) whose local may differ from the state here. */
  dirty = 0;
  /** Base of the vCPU's state. */
  readonly cpu: Value;
  /** The depth, with the base if that is no constant. */
  readonly where: Value;
  readonly budget: Var;
  readonly vbase: Value;
  readonly back: Value;
  readonly status: Var;
  readonly epoch: Var;
  /** A store of the present instruction took the slow way. */
  readonly slow: Var;
  /** Where the MICRO table in force lies. */
  readonly micro: Var;
  /** Where groups of accesses lie in memory (groups.ts), by their slot; 0 where they do not lie in one page. */
  readonly hosts: readonly Var[];
  readonly flags: KeptFlags;
  /** Where everything leaves: with `exit*` set; for `jumpOut` the page offset to go on at, for `goOn` the address. */
  epilogue: Label | undefined;
  jumpOut: Label | undefined;
  goOn: Label | undefined;
  /** The same with the registers but RSP, and the flags, in the state already. */
  settled: Label | undefined;
  readonly #base: Var | null;
  private readonly extend: Func;
  readonly exitRecord: Var;
  readonly exitAdjust: Var;
  readonly exitAt: Var;
  readonly exitTarget: Var;
  /** Nobody has jumped to where it goes on; asked only where instructions make the time. */
  readonly fell: Var;

  /** `exact`: the budget is looked at where the interpreter does, and nowhere else. */
  constructor(readonly c: Code, cpu: number | null, f: CpuFuncs, readonly exact: boolean) {
    this.extend = f.more.get("extend")!;
    this.#base = cpu === null ? c.variable("i32") : null;
    this.cpu = this.#base?.get() ?? i32(cpu!);
    this.flags = new KeptFlags(c, this.cpu, f);
    this.where = c.param(0);
    this.budget = c.paramVar(1);
    this.vbase = c.param(2);
    this.back = c.param(3);
    this.registers[RSP] = c.paramVar(4);
    this.status = c.variable("i32");
    this.epoch = c.variable("i32");
    this.slow = c.variable("i32");
    this.micro = c.variable("i32");
    this.hosts = Array.from({ length: GROUPS }, () => c.variable("i32"));
    this.exitRecord = c.variable("i32");
    this.exitAdjust = c.variable("i32");
    this.exitAt = c.variable("i32");
    this.exitTarget = c.variable("i64");
    this.fell = c.variable("i32");
  }

  register(n: number): Var {
    const v = this.registers[n];
    if (!v) throw new Bug(`Register ${n} is not in this region`);
    return v;
  }

  /** How many regions have called each other to come here. */
  get depth(): Value {
    return this.#base ? this.where.and(STATE_ALIGN - 1) : this.where;
  }

  /** Where control may go round: does `leave` if the budget is used up and there is no more. */
  ifSpent(leave: () => void): void {
    const c = this.c;
    c.rarely(this.budget.get().ltS(0), () => {
      this.budget.set(c.call1(this.extend, this.budget.get()));
      c.if(this.budget.get().ltS(0), leave);
    });
  }

  /** At the entry. */
  begin(): void {
    // Called so by who wants it compiled, not run.
    this.c.rarely(this.where.ltS(0), () => this.c.return(LEFT, 0));
    this.#base?.set(this.where.and(-STATE_ALIGN));
    this.epoch.set(this.c.ld32(this.cpu, S.codeEpoch));
    this.reload(false);
    this.lookAtTlb();
  }

  /** Emits `body`, and behind it all ways out. */
  within(links: Links, body: () => void): void {
    const c = this.c;
    c.block((epilogue) => {
      this.epilogue = epilogue;
      c.block((settled) => {
        this.settled = settled;
        c.block((goOn) => {
          this.goOn = goOn;
          c.block((jumpOut) => {
            this.jumpOut = jumpOut;
            body();
          });
          this.exitTarget.set(this.vbase.add(this.exitAt.get().sx()));
        });
        this.flags.write();
        this.spill(~0, false);
        this.budget.set(this.budget.get().add(this.exitAdjust.get()));
        this.exitAdjust.set(0);
      });
      this.#goOn(links);
    });
    this.flags.write();
    c.st32(this.cpu, links.records.add(this.exitRecord.get()), S.curOp);
    this.spill(~0, true);
    this.left(this.status.get());
  }

  /** With all but RSP and the budget in the state: returns to the caller, goes on in another region, or leaves. */
  #goOn(links: Links): void {
    const c = this.c, cpu = this.cpu, target = this.exitTarget.get();
    c.block((none) => {
      if (this.exact) c.brIf(none, this.fell.get(), false);
      c.if(target.eq(this.back), () => {
        this.ifSpent(() => c.br(none));
        c.return(this.budget.get(), this.register(RSP).get());
      });
      const { op, page } = this.recordAt(links, target, none);
      c.brIf(none, op.eqz(), false);
      const h = c.ld16u(op, OP.h);
      // Before the budget: where code that is not compiled takes over, a sample may be due.
      c.brIf(none, h.ltU(links.firstRegion), false);
      this.ifSpent(() => c.br(none));
      c.returnCallIndirect(
        REGIONS,
        links.signature,
        h.sub(links.firstRegion),
        this.where,
        this.budget.get(),
        page,
        this.back,
        this.register(RSP).get(),
      );
    });
    c.st64(cpu, target, S.rip);
    c.st64(cpu, this.register(RSP).get(), reg(RSP));
    this.left(this.exact ? select(this.fell.get(), i32(STATUS.FALL), i32(STATUS.JUMP)) : i32(STATUS.JUMP));
  }

  /** The record at a target (0: none) and its page, which VBASE is set to; leaves to `none` if its translation is not at hand. */
  recordAt(links: Links, target: Value, none: Label): { op: Value; page: Value } {
    const c = this.c, cpu = this.cpu, page = c.let(target.and(-4096)), table = c.variable("i32", links.entryTable);
    c.if(page.ne(this.vbase), () => {
      const entry = c.let(c.ld32(cpu, S.itlb).add(target.shrU(12).lo().and(ITLB_ENTRIES - 1).shl(4)));
      c.brIf(none, c.ld64(entry).ne(page), false);
      table.set(c.ld32(entry, 8));
      c.brIf(none, table.get().eqz(), false);
      c.st64(cpu, page, reg(VBASE));
    });
    return { op: c.ld32(table.get().add(target.lo().and(0xfff).shl(2))), page };
  }

  /** The state is complete but for the budget, the instructions that have not run among it: returns to who has the interpreter. */
  left(status: Value): void {
    const c = this.c;
    c.st32(this.cpu, this.budget.get().add(this.exitAdjust.get()), S.budget);
    c.st32(this.cpu, status, S.exitStatus);
    c.return(LEFT, 0);
  }

  /** Writes registers to the state: those of `mask` that the region changes, RSP only if asked for. */
  spill(mask: number, withRsp: boolean): void {
    const c = this.c;
    for (let n = 0; n < 16; n++) {
      if (n === RSP ? withRsp : this.written[n] && mask & (1 << n)) c.st64(this.cpu, this.registers[n]!.get(), reg(n));
    }
    for (let n = 0; n < 16; n++) {
      if (!this.vectorWritten[n] || !(mask & (1 << (16 + n)))) continue;
      c.stV(this.cpu, this.vectors[n]!.get(), S.xmm + 16 * n);
      const high = this.vectorHighs[n];
      if (high) c.stV(this.cpu, high.get(), S.ymmHigh + 16 * n);
    }
  }
  /** Reads all that the region uses. */
  reload(withRsp: boolean): void {
    for (let n = 0; n < 16; n++) {
      if (n !== RSP || withRsp) this.registers[n]?.set(this.c.ld64(this.cpu, reg(n)));
      this.vectors[n]?.set(this.c.ldV(this.cpu, S.xmm + 16 * n));
      this.vectorHighs[n]?.set(this.c.ldV(this.cpu, S.ymmHigh + 16 * n));
    }
    this.dirty = 0;
  }
  /** At the entry, and after a call of anything: which translations are in force. */
  lookAtTlb(): void {
    this.micro.set(this.c.ld32(this.cpu, S.micro));
  }

  /** Leaves to a page offset with the flags in the state or kept. `jumped`: by a transfer, not to what follows. */
  jumpOut_(at: number, remaining: number, jumped: boolean): void {
    if (this.exact && !jumped) this.fell.set(1);
    this.exitAt.set(at);
    if (remaining > 0) this.exitAdjust.set(remaining);
    this.c.br(this.jumpOut!);
  }
  /**
   * A handler has jumped and may have changed everything. If that leads to another page of 64-bit code, maybe it is compiled;
   * its own page may lie elsewhere now.
   */
  goOnAfterHandler(): void {
    const c = this.c, cpu = this.cpu;
    const target = c.ld64(cpu, S.rip);
    const elsewhere = target.xor(this.vbase).geU(4096);
    c.if(c.ld32(cpu, S.mode).and(3).eq(MODE_64).and(elsewhere), () => {
      this.exitTarget.set(target);
      this.register(RSP).set(c.ld64(cpu, reg(RSP)));
      c.br(this.settled!);
    });
  }
  goOnAt(target: Value): void {
    this.exitTarget.set(target);
    this.c.br(this.goOn!);
  }
}
