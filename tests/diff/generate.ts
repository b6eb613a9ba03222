/** Cases: one instruction each, with operands of every form. */
import { assemble, immediateBytes, type Operands } from "../../src/cpu/x86/assemble.ts";
import { isMemoryLetter } from "../../src/cpu/x86/arg.ts";
import { CS, DS, RCX, RSP } from "../../src/cpu/x86/state.ts";
import { CASES, CODE_BYTES, EDGE, PAGE, R, SLOT } from "./arena.ts";
import { CaseBuilder, HIGH, LOW } from "./case.ts";
import type { Native } from "./native.ts";
import type { Random } from "./random.ts";
import type { Manner } from "./soft.ts";
import { agree, BIT_STRING, bitOffset, prepare, vectorIndex } from "./special.ts";
import { C1, isApproximate, undefinedFlags, undefinedResult } from "./undefined.ts";
import type { Subject } from "./which.ts";

/** What is known of a case besides its bytes. */
export interface Case {
  readonly name: string;
  readonly code: readonly number[];
  /** Offset in the arena of its first byte, of its exit, and of the exit when a branch is taken. */
  readonly at: number;
  readonly exit: number;
  readonly taken: number;
  /** Status flags not to compare. */
  readonly undefinedFlags: number;
  readonly manner: Manner;
  /** Instructions, at most. */
  readonly limit: number;
  /** Bits of the x87 status word not to compare. */
  readonly undefinedStatus: number;
  /** x87 results may differ in the last bit. */
  readonly approximate: boolean;
  /** 32-bit code. */
  readonly legacy?: boolean;
  /** Whether vector or x87 registers take part. */
  readonly floating: boolean;
  /** Whether the x87 pointers (FOP, FIP, FDP) can be compared if an exception is pending afterwards. */
  readonly pointers: boolean;
  /** Offset in the arena and length of memory that is not compared. */
  readonly vague: readonly [number, number];
  /** Lengths of its instructions, if there are several. */
  readonly parts?: readonly number[];
  /** Bytes before the first of them. */
  readonly skip?: number;
  /** Status flags not to compare after a fault. */
  readonly undefinedAtFault?: number;
  /** Registers that addresses depend on, a bit each. */
  readonly pinned: number;
}

const UNMAPPED = CODE_BYTES;
const BRANCH = /^(JMP|CALL|RET)$/;

export class Generator {
  readonly builder: CaseBuilder;
  /** Cases are for the second tier. */
  compiled = false;

  constructor(readonly native: Native, readonly random: Random) {
    this.builder = new CaseBuilder(native, random);
  }

  /** Makes case `i` of the batch. */
  single(i: number, s: Subject): Case {
    for (;;) {
      const made = this.#try(i, s);
      if (made) return made;
    }
  }

  #try(i: number, s: Subject): Case | undefined {
    const c = this.builder, { random } = this, { row } = s, { args } = s.shape;
    c.begin(i);
    if (c.legacy) { for (let n = 0; n < 8; n++) c.u32[c.words + 2 * n + 1] = 0; }
    if (row.unit) c.floating();
    const size = random.pick(s.sizes), o = c.operands(size);
    const branches = args.some((a) => a.letter === "J"), indirect = BRANCH.test(row.name) && !branches;

    // Prefixes that may stand anywhere.
    if (row.string) {
      o.repeat = row.name.startsWith("LOOP") || row.name === "JCXZ" || row.name === "XLAT" ? 0 : random.below(3);
      // 16-bit pointers lead to pages that are absent; which of two operands faults first, and whether a store of nothing does,
      // is the processor's own.
      if (random.once(6)) o.address32 = !c.legacy || !/^(CMPS|V?MASKMOV(Q|DQU))/.test(row.name);
    }
    prepare(c, s, size, o.address32, o.repeat);

    // Registers.
    const mayRegister = !args.some((a) => a.letter === "M" || a.letter === "O");
    const memoryArg = args.findIndex((a) => isMemoryLetter(a.letter));
    const memory = memoryArg >= 0 && (!mayRegister || random.once(2));
    const regs = args.map((a) => this.#register(a.letter, a.size, memory));
    o.regs = regs;
    // The return address must not land in code.
    if (row.name === "CALL" && !memory && regs[0] === RSP) return;
    if (!c.legacy && random.once(24)) o.rex = random.once(4) ? 0x48 : 0x40;
    if (s.shape.pattern.vex || size !== 64 || row.d64 === true) o.rex &= 0x40;
    if (s.shape.pattern.w >= 0 || row.sizes || !args.length || args.some((a) => "vyz".includes(a.size))) o.rex &= 0x40;
    o.shortVex = random.once(2);
    let banned = 0;
    if (BIT_STRING.test(row.name) && memory && args[1]!.letter === "G") {
      bitOffset(c, regs[1]!, size);
      banned |= 1 << regs[1]!;
    }

    // Memory.
    let target = -1;
    if (row.elements === "index") {
      if (!vectorIndex(c, s, o)) return;
    } else if (memory && args[memoryArg]!.letter === "O") {
      target = c.window + random.between(LOW, HIGH);
      if (!c.legacy && random.once(8)) o.address32 = true;
      o.imm = this.native.base + target;
      o.immHigh = 0;
    } else if (memory) {
      target = this.#target(c, s, indirect);
      if (!c.address(o, target >= 0 ? BigInt(this.native.base + target) : 0x8000_0000_0000n, banned)) return;
    }
    // Which comes first is the processor's own: a pending x87 exception, or a store into the code segment.
    if (o.segment === CS && (row.unit === "x87" || row.unit === "mmx")) o.segment = DS;
    // LOCK MOV CR0 is CR8 for one vendor.
    if (row.lock && memory ? random.once(3) : random.once(64)) o.lock = !args.some((a) => a.letter === "C");
    agree(c, row.name, target >= c.window && target <= c.window + HIGH ? target : -1, regs[0] ?? 0);

    // Immediates.
    const imm = args.findIndex((a) => a.letter === "I");
    if (imm >= 0) {
      const bytes = immediateBytes(args[imm]!, size, true);
      o.imm = bytes === 1 ? random.once(2) ? random.below(256) : random.below(80) : random.value32();
      o.immHigh = bytes === 8 ? random.value32() : 0;
    }
    if (row.name === "ENTER") o.imm = random.below(64) | (random.once(2) ? 0 : random.below(34) << 16);
    if (row.name === "RET" && imm >= 0) o.imm = random.below(64);
    const count = this.#count(s, o);
    if (undefinedResult(row, size, count)) return;

    if (c.legacy) { for (let n = 0; n < 8; n++) c.u32[c.words + 2 * n + 1] = 0; }
    return this.#place(i, s, o, target, branches, indirect, count);
  }

  #register(letter: string, size: string, memory: boolean): number {
    const { random } = this, { legacy } = this.builder, n = legacy ? 8 : 16;
    switch (letter) {
      case "E":
      case "R":
      case "G":
      case "Z":
      case "B":
        if (size === "b" && !(memory && letter === "E")) {
          return random.once(3) ? 16 + random.below(4) : random.below(legacy ? 4 : 16);
        }

        return random.below(n);
      case "P":
      case "Q":
      case "N":
      case "F":
        return random.below(8);
      case "S":
        return random.below(6);
      default:
        return random.below(n);
    }
  }

  /** Where in the arena a memory operand lies; -1: not canonical. */
  #target(c: CaseBuilder, s: Subject, indirect: boolean): number {
    const { random } = this;
    const aligned = s.shape.args.some((a) => a.size === "dq") || /^CMPXCHG16B$/.test(s.row.name);
    let at = c.window + random.between(LOW, HIGH);
    if (aligned && !random.once(16)) at &= ~15;
    if (/^VMOV(APS|APD|DQA|NT)/.test(s.row.name) && !random.once(16)) at &= ~31;
    if (indirect || s.row.string) return at & ~7;
    // Wherever the pieces of an x87 environment cross a page, some processor starts with another one.
    if (/^F(N?STENV|LDENV|N?SAVE|RSTOR)$/.test(s.row.name)) return at;
    if (BIT_STRING.test(s.row.name)) return at;
    if (random.once(24)) {
      const near = random.between(1, 16);
      at = random.pick([
        EDGE.RW + PAGE - near,
        EDGE.RW - near,
        EDGE.RO + random.below(PAGE - 32),
        EDGE.RO + PAGE - near,
        EDGE.RO - near,
        EDGE.RW_AFTER_RO + PAGE - near,
        UNMAPPED + random.below(PAGE),
        -1,
      ]);
      if (aligned && at >= 0 && random.once(2)) at &= ~15;
    }
    return at;
  }

  #count(s: Subject, o: Operands): number {
    const a = s.shape.args;
    const last = a[a.length - 1];
    if (last?.letter === "CL") return this.builder.u32[this.builder.words + 2 * RCX]! & 0xff;
    if (last?.letter === "1") return 1;
    return o.imm & 0xff;
  }

  #place(
    i: number,
    s: Subject,
    o: Operands,
    target: number,
    branches: boolean,
    indirect: boolean,
    count: number,
  ): Case | undefined {
    const c = this.builder, { random, native } = this;
    let code = this.#bytes(s, o);
    if (!code) return;
    const length = code.length;
    if (length > 15) return;
    let at = c.slot + 64 + (random.once(2) ? 0 : random.below(64));
    // Now and then across a page boundary.
    if ((i + 1) % (PAGE / SLOT) === 0 && i + 1 < CASES && random.once(2)) at = c.slot + SLOT - random.between(1, 14);
    // A region is not made of less than three instructions.
    const lead = this.compiled ? [0x90, 0x90, 0x90] : [];
    const exit = at + length;
    let taken = exit + 5;
    if (branches) {
      const wide = s.shape.args[0]!.size !== "b";
      let d = random.between(5, 100);
      if (random.once(2) || at + length + 110 > c.slot + SLOT) d = -(length + lead.length + random.between(5, 40));
      if (wide || d >= -128) o.imm = d;
      else o.imm = -(length + lead.length + 5);
      taken = exit + o.imm;
      code = this.#bytes(s, o)!;
    } else if (indirect) this.#aim(s, o, target, taken);
    if (o.memory?.ripRelative) {
      if (target < 0) return;
      const next = native.base + at + length;
      o.memory.disp = Number(BigInt.asIntN(32, BigInt(native.base + target) - c.gs - BigInt(next)));
      code = this.#bytes(s, o)!;
    }
    code = [...lead, ...code];
    at -= lead.length;
    native.u8.set(code, at);
    native.jump(exit, c.legacy ? native.stub.exit32 : native.stub.exit);
    native.jump(taken, c.legacy ? native.stub.exitTaken32 : native.stub.exitTaken);
    c.u32[c.words + R.RIP / 4] = native.base + at;
    return {
      name: `${s.row.name} (${s.row.op}) ${o.size}${c.legacy ? ", 32-bit code" : this.compiled ? ", compiled" : ""}`,
      ...(c.legacy ? { legacy: true } : {}),
      code,
      at,
      exit,
      taken,
      undefinedFlags: undefinedFlags(s.row, o.size, count),
      manner: this.compiled ? "compile" : random.once(2) ? "step" : "run",
      limit: 64,
      undefinedStatus: isApproximate(s.row) ? C1 : 0,
      approximate: isApproximate(s.row),
      floating: s.row.unit !== undefined,
      pinned: c.settled,
      pointers: c.gs === 0n && ((c.u32[c.words + R.FX / 4]! >>> 16) & 0x80) === 0,
      vague: vague(s.row.name, o.size, target),
    };
  }

  /** The target of JMP, CALL or RET through a register or memory: the taken exit, or somewhere that faults. */
  #aim(s: Subject, o: Operands, target: number, taken: number): void {
    const c = this.builder, { random, native } = this;
    let to = BigInt(native.base + taken);
    if (random.once(12)) {
      to = random.pick([
        c.legacy ? 0n : 0x8000_0000_0000n,
        BigInt(native.base + UNMAPPED + 16),
        BigInt(native.base + EDGE.NX + 64),
      ]);
    }
    if (s.row.name === "RET") {
      const sp = Number(c.get(RSP)) - native.base;
      const at = sp & ~7;
      c.set(RSP, native.base + at);
      c.put64(at, to);
    } else if (target >= 0) c.put64(target, to);
    else c.set(o.regs[0]!, to);
  }

  #bytes(s: Subject, o: Operands): number[] | undefined {
    const needsLow = o.regs.some((n, k) => n >= 16 && s.shape.args[k]!.size === "b");
    if (needsLow) {
      // AH and its like exist only without REX.
      try {
        return assemble(s.shape, o);
      } catch {
        return undefined;
      }
    }
    return assemble(s.shape, o);
  }
}
/** The pointers to the last instruction in an x87 environment: see compare.ts. */
function vague(name: string, size: number, target: number): readonly [number, number] {
  if (name !== "FNSTENV" && name !== "FNSAVE") return [0, 0];
  return size === 16 ? [target + 6, 8] : [target + 12, 16];
}
