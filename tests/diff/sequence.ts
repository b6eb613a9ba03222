/**
 * Straight-line code of several instructions with branches forward: what lazy flags, fused compares and dead-flag removal could
 * get wrong.
 *
 * Two registers stay as they are and make addresses; the stack pointer only moves by pushes and pops. Flags that an instruction
 * leaves undefined are followed, and nothing that reads them comes before something defines them again.
 */
import { isMemoryLetter } from "../../src/cpu/x86/arg.ts";
import { assemble, immediateBytes, type MemoryForm } from "../../src/cpu/x86/assemble.ts";
import { CALL_HEAD, callPiece, jumpPiece, selfChangingPiece, stringPiece } from "./composite.ts";
import { AF, CF, GS, OF, PF, RSP, SF, ZF } from "../../src/cpu/x86/state.ts";
import { R } from "./arena.ts";
import type { Case, Generator } from "./generate.ts";
import type { Subject } from "./which.ts";

const STATUS = CF | PF | AF | ZF | SF | OF;
const BIT: Record<string, number> = { O: OF, S: SF, Z: ZF, A: AF, P: PF, C: CF };
const mask = (s: string | undefined) => [...(s ?? "")].reduce((m, f) => m | BIT[f]!, 0);

/** Registers that no instruction writes without naming them. */
const POINTERS = [3, 5, 8, 9, 10, 11, 12, 13, 14, 15];
const NAMED =
  /^(ENTER|LEAVE|XLAT|RET|CALL|V?MASKMOV(Q|DQU)|F(N?STENV|LDENV|N?SAVE|RSTOR|CMOV.*)|FXSAVE.*|FXRSTOR.*|STD|UD.|SHLD|SHRD|F2XM1|FYL.*|FP?TAN|FPATAN|FSIN.*|FCOS)$/;

interface Row {
  readonly s: Subject;
  readonly reads: number;
  readonly writes: number;
  readonly undefined: number;
  readonly keeps: boolean;
}

export class Sequences {
  readonly #common: Row[] = [];
  readonly #rest: Row[] = [];
  readonly #branches: Row[] = [];
  /** Without a word about flags, and without stack. */
  readonly #plain: Row[] = [];

  constructor(subjects: readonly Subject[]) {
    for (const s of subjects) {
      const { row } = s, { args } = s.shape;
      if (
        row.elements === "index" || row.string || row.cpl0 || NAMED.test(row.name) ||
        args.some((a) => "SCDO".includes(a.letter))
      ) continue;
      let undef = mask(row.undef);
      // A count beyond the operand leaves CF undefined too.
      if (/^(SHL|SHR|SAL)$/.test(row.name)) undef |= CF;
      const r = { s, reads: mask(row.reads), writes: mask(row.flags), undefined: undef, keeps: !!row.maybe };
      if (args.some((a) => a.letter === "J")) this.#branches.push(r);
      else if (row.ends || row.name === "JMP" || row.modes && !/^(PUSH|POP)$/.test(row.name)) continue;
      else if (row.hot) this.#common.push(r);
      else this.#rest.push(r);
      if (!row.flags && !row.reads && !row.modes && !row.ends && !args.some((a) => a.letter === "J")) {
        this.#plain.push(r);
      }
    }
  }

  /** A sequence; or a loop of one, compiled. */
  make(g: Generator, i: number, loop = false): Case {
    for (;;) {
      const made = this.#try(g, i, loop);
      if (made) return made;
    }
  }

  #try(g: Generator, i: number, loop: boolean): Case | undefined {
    const c = g.builder, { random, native } = g;
    c.begin(i);
    c.point(RSP, random.between(32, 48) * 8);
    c.floating();
    const base = random.pick(POINTERS), index = random.pick(POINTERS);
    if (base === index) return;
    c.point(base, 512);
    c.set(index, BigInt(random.below(5) * 16));
    const gs = native.gsBase && random.once(2) ? (random.below(0x6000_0000) - 0x3000_0000) & ~15 : 0;
    c.gs = BigInt(gs);
    c.u32[c.words + R.GS / 4] = gs;
    c.u32[c.words + R.GS / 4 + 1] = gs >> 31;
    const counter = random.pick(POINTERS);
    if (loop && (counter === base || counter === index)) return;
    const fixed = (1 << base) | (1 << index) | (1 << RSP) | (loop ? 1 << counter : 0);
    if (loop) c.set(counter, random.between(1, 40));
    const count = random.between(2, 20), start = c.slot + 64;
    const parts: number[][] = [], skips: { part: number; wide: boolean; to: number }[] = [];
    let undefinedNow = 0, everUndefined = 0, joins = 0, floating = false, at = start;
    const head = loop ? loopHead(base) : [];
    at += head.length;
    while (parts.length < count) {
      const here = parts.length;
      if (here >= joins && random.once(6) && here + 1 < count) {
        const b = random.pick(this.#branches);
        if (b.s.row.string || (b.reads & undefinedNow)) continue;
        const to = random.between(here + 1, Math.min(count, here + 6));
        const o = c.operands(64);
        o.imm = 0;
        const code = assemble(b.s.shape, o);
        skips.push({ part: here, wide: b.s.shape.args[0]!.size !== "b", to });
        parts.push(code);
        at += code.length;
        joins = to;
        continue;
      }
      if (random.once(12)) {
        const piece = this.#piece(g, fixed, base, index, at);
        if (!piece) continue;
        parts.push(piece);
        at += piece.length;
        continue;
      }
      const r = random.once(4) ? random.pick(this.#rest) : random.pick(this.#common);
      if (r.reads & undefinedNow) continue;
      const code = this.#instruction(g, r.s, fixed, base, index, at);
      if (!code) continue;
      parts.push(code);
      at += code.length;
      floating ||= r.s.row.unit !== undefined;
      everUndefined |= r.undefined;
      // What may be skipped, or may leave the flags alone, defines nothing for sure.
      const sure = r.keeps || here < joins ? 0 : r.writes;
      undefinedNow = (undefinedNow & ~sure) | r.undefined;
    }
    // DEC keeps CF, and the next round may read it.
    if (loop && undefinedNow & CF) return;
    const offsets = [start + head.length];
    for (const p of parts) offsets.push(offsets[offsets.length - 1]! + p.length);
    for (const s of skips) {
      const p = parts[s.part]!, d = offsets[s.to]! - offsets[s.part + 1]!;
      if (!s.wide && d > 127) return;
      const n = s.wide ? 4 : 1;
      for (let k = 0; k < n; k++) p[p.length - n + k] = (d >> (8 * k)) & 0xff;
    }
    const body = [...head, ...parts.flat()];
    const code = loop ? [...body, ...loopTail(counter, body.length)] : body;
    const exit = start + code.length;
    native.u8.set(code, start);
    native.jump(exit, native.stub.exit);
    c.u32[c.words + R.RIP / 4] = native.base + start;
    return {
      name: loop ? "loop" : "sequence",
      code,
      at: start,
      exit,
      taken: exit + 5,
      undefinedFlags: undefinedNow & STATUS,
      undefinedAtFault: everUndefined,
      manner: loop ? "compile" : random.once(4) ? "step" : "run",
      limit: 300,
      undefinedStatus: 0,
      approximate: false,
      floating,
      pointers: false,
      vague: [0, 0],
      pinned: 0xffff,
      parts: parts.map((p) => p.length),
      skip: head.length,
    };
  }

  /** Several instructions that belong together. None of them changes flags that are undefined afterwards, or reads them. */
  #piece(g: Generator, fixed: number, base: number, index: number, at: number): number[] | undefined {
    const { random } = g;
    switch (random.below(4)) {
      case 0:
        return stringPiece(g, base);
      case 1: {
        const r = random.pick(this.#plain);
        // The return address must stay what it is.
        const body = this.#instruction(g, r.s, fixed, base, index, at + CALL_HEAD, true);
        return body && callPiece(body);
      }
      case 2:
        return jumpPiece(g);
      default:
        return selfChangingPiece(g);
    }
  }

  /** One instruction at `at`, or nothing if chance asked for what may not be. */
  #instruction(
    g: Generator,
    s: Subject,
    fixed: number,
    base: number,
    index: number,
    at: number,
    registersOnly = false,
  ): number[] | undefined {
    const c = g.builder, { random } = g, { row } = s, { args } = s.shape;
    const size = random.pick(s.sizes), o = c.operands(size);
    const mayRegister = !args.some((a) => a.letter === "M");
    const memoryArg = args.findIndex((a) => isMemoryLetter(a.letter));
    if (registersOnly && !mayRegister) return;
    const memory = memoryArg >= 0 && !registersOnly && (!mayRegister || random.once(2));
    o.regs = args.map((a) => {
      if ("PQNF".includes(a.letter)) return random.below(8);
      if ("VWUHL".includes(a.letter)) return random.below(16);
      if (!"ERGZB".includes(a.letter)) return 0;
      for (;;) {
        const n = a.size === "b" && random.once(3) ? 16 + random.below(4) : random.below(16);
        const whole = n >= 16 ? n - 16 : n;
        if (a.access === "r" || ((fixed >> whole) & 1) === 0) return n;
      }
    });
    // Registers written without being named.
    if (row.name === "POP" && !memory && o.regs[0] === RSP) return;
    if (/^BT[SRC]?$/.test(row.name) && memory && args[1]!.letter === "G") return;
    const aligned = args.some((a) => a.size === "dq") || row.name === "CMPXCHG16B";
    let target = 0;
    if (memory) {
      const m: MemoryForm = { base, index: -1, scale: 0, disp: 0, dispBytes: 0, ripRelative: false };
      m.disp = random.once(2) ? random.below(240) - 120 : random.below(480) - 240;
      if (random.once(3)) {
        m.index = index;
        m.scale = random.below(2);
      }
      if (aligned) m.disp &= ~15;
      if (random.once(6)) {
        target = c.window + 512 + m.disp;
        Object.assign(m, { base: -1, index: -1, scale: 0, ripRelative: true });
      }
      o.memory = m;
      if (random.once(8)) o.address32 = true;
      if (random.once(8)) {
        o.segment = GS;
        if (!m.ripRelative) m.disp -= Number(c.gs);
        else target -= Number(c.gs);
      }
    }
    const imm = args.findIndex((a) => a.letter === "I");
    if (imm >= 0) {
      const bytes = immediateBytes(args[imm]!, size, true);
      o.imm = bytes === 1 ? random.below(256) : random.value32();
      o.immHigh = bytes === 8 ? random.value32() : 0;
    }
    if (row.lock && memory && random.once(8)) o.lock = true;
    try {
      const code = assemble(s.shape, o);
      if (!o.memory?.ripRelative) return code;
      o.memory.disp = target - (at + code.length);
      return assemble(s.shape, o);
    } catch {
      // AH and its like beside REX.
      return undefined;
    }
  }
}

/** LEA RSP, [base - 120h]: wherever pushes and pops have left it. */
function loopHead(base: number): number[] {
  const rex = 0x48 | (base >> 3);
  const modrm = 0xa0 | (base & 7);
  return (base & 7) === RSP
    ? [rex, 0x8d, modrm, 0x24, 0xe0, 0xfe, 0xff, 0xff]
    : [rex, 0x8d, modrm, 0xe0, 0xfe, 0xff, 0xff];
}

/** DEC counter; JNZ to the start. */
function loopTail(counter: number, length: number): number[] {
  const dec = [0x48 | (counter >> 3), 0xff, 0xc8 | (counter & 7)], d = -(length + dec.length + 6);
  return [...dec, 0x0f, 0x85, d & 0xff, (d >> 8) & 0xff, (d >> 16) & 0xff, (d >> 24) & 0xff];
}
