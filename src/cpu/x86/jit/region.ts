/**
 * Regions: what is compiled together. Starting from a hot entry point, everything that direct jumps reach within the page, as a
 * graph of straight-line blocks.
 */
import { ALL_FLAGS, DECODED, type Decoder, FLAG_BITS } from "../decode.ts";
import type { Row } from "../row.ts";
import { FS, MODE_64, reg, RSP, VBASE, ZERO } from "../state.ts";
import { rowsInPlace } from "./inline_rows.ts";

const PAGE = 4096;
const BIT_TESTS = /^BT[SRC]?$/;

export const enum End {
  /** Goes on with the next block (a leader follows), or out of the region if there is none. */
  Fall,
  Jcc,
  Jmp,
  Call,
  Ret,
  /** JMP or CALL through a register or memory. */
  IndirectJmp,
  IndirectCall,
  /** The last instruction leaves by itself, or cannot be decoded here. */
  Leave,
}

export interface Instruction {
  readonly row: number;
  readonly size: number;
  readonly at: number;
  readonly length: number;
  readonly d: number;
  readonly s: number;
  readonly x: number;
  readonly imm: number;
  readonly immHigh: number;
  readonly hasMemory: boolean;
  readonly base: number;
  readonly index: number;
  readonly scale: number;
  readonly disp: number;
  readonly segment: number;
  readonly addressBits: number;
  readonly absolute: boolean;
  readonly repeat: number;
  /** A locked access to the stack: see SPECIAL.FENCE. */
  readonly barrier: boolean;
  /** Somebody may see the flags it leaves. */
  live: boolean;
  /** Address of its operation record: for faults, and for calls of its handler. */
  record: number;
}

export interface Block {
  readonly number: number;
  readonly at: number;
  readonly instructions: Instruction[];
  end: End;
  /** Condition of a Jcc. */
  cc: number;
  /** Page offset (maybe outside the page) of the taken target; of what follows. */
  target: number;
  next: number;
  /** Of an indirect jump: where it is known to go, by number (ENTRY_TABLE). */
  readonly jumps: readonly { readonly id: number; readonly offset: number; readonly block: number }[];
  /** Blocks these are, or -1 if they lie outside the region. */
  targetBlock: number;
  nextBlock: number;
  /** Flags that somebody may see at the block's start. */
  liveIn: number;
}

export interface Region {
  readonly blocks: Block[];
  readonly instructions: number;
  /** Page bytes covered, for invalidation. */
  readonly from: number;
  readonly to: number;
}

export interface Limits {
  readonly blocks: number;
  readonly instructions: number;
}

export class RegionFinder {
  readonly #ends: Int8Array;
  readonly #isPop: boolean[];
  /** By row: the register form may be left, or looks at flags by itself. Of what is called rather than expanded, any may. */
  readonly #leaves: boolean[];

  /** `flags`: whether blocks and instructions are to tell which flags are live. */
  constructor(readonly decoder: Decoder, private readonly flags = true) {
    const inPlace = rowsInPlace({ decoder, variants: decoder.variants });
    this.#leaves = decoder.rows.map((r, i) =>
      !inPlace[i] || (!r.args && !r.sizes) || !!(r.cpl0 || r.unit || r.modes || r.ends || r.faults)
    );
    this.#isPop = decoder.rows.map((r) => r.op === "8F /0");
    this.#ends = new Int8Array(decoder.rows.map((r) => {
      if (r.k !== undefined && /^J[A-Z]+$/.test(r.name) && r.args?.startsWith("J")) return End.Jcc;
      if (r.name === "JMP" && r.args?.startsWith("J")) return End.Jmp;
      if (r.name === "CALL" && r.args?.startsWith("J")) return End.Call;
      if (r.name === "RET" && (r.op === "C3" || r.op === "C2")) return End.Ret;
      if (r.name === "JMP" && r.args === "Ev") return End.IndirectJmp;
      if (r.name === "CALL" && r.args === "Ev") return End.IndirectCall;
      return r.ends ? End.Leave : End.Fall;
    }));
  }

  /**
   * The region from `offset` of the page at `u8[page..]`, or null if there is nothing worth compiling. 64-bit mode only.
   * `jumps`: where indirect jumps of the page have gone. `entered`: where jumps have gone at all, a bit for each offset; what
   * they have not is left out, as the kernel's ways for errors are: compiling takes long. All is taken without it. `done`, in
   * the same way: what lies elsewhere already, and is left out as well.
   */
  find(
    u8: Uint8Array,
    page: number,
    offset: number,
    limits: Limits,
    jumps: readonly { offset: number; id: number }[] = [],
    entered: Uint8Array | null = null,
    done: Uint8Array | null = null,
  ): Region | null {
    const among = (bits: Uint8Array, at: number) => (bits[at >> 3]! & (1 << (at & 7))) !== 0;
    const isDone = (at: number) => done !== null && at !== offset && among(done, at);
    const wanted = (at: number) => at >= 0 && at < PAGE && (!entered || among(entered, at)) && !isDone(at);
    const decoded = new Map<number, { i: Instruction; end: End; target: number; cc: number } | null>();
    const leaders = new Set<number>([offset]);
    const work = [offset];
    let count = 0;
    while (work.length > 0) {
      let at = work.pop()!;
      for (;;) {
        if (at < 0 || at >= PAGE || decoded.has(at) || isDone(at) || count >= limits.instructions) break;
        const one = this.#decode(u8, page, at);
        decoded.set(at, one);
        if (!one) break;
        count++;
        const next = at + one.i.length;
        if (one.end === End.Jcc || one.end === End.Jmp) {
          if (wanted(one.target) && (leaders.has(one.target) || leaders.size < limits.blocks)) {
            leaders.add(one.target);
            work.push(one.target);
          }
          if (one.end === End.Jmp) break;
          leaders.add(next);
        } else if (one.end === End.Call || one.end === End.IndirectCall) leaders.add(next);
        else if (one.end === End.IndirectJmp) {
          for (const jump of jumps) {
            if (leaders.has(jump.offset) || leaders.size >= limits.blocks) continue;
            leaders.add(jump.offset);
            work.push(jump.offset);
          }
          break;
        } else if (one.end !== End.Fall) break;
        at = next;
      }
    }
    return this.#blocks(decoded, leaders, offset, jumps);
  }

  /**
   * The one instruction at `offset` that begins in the first of two pages and ends in the second, as a region; null if there is
   * none, or it is a branch.
   */
  findCrossing(u8: Uint8Array, offset: number): Region | null {
    const one = this.#decode(u8, 0, offset, 2 * PAGE);
    if (!one || one.end !== End.Fall || offset + one.i.length <= PAGE) return null;
    return this.#blocks(new Map([[offset, one]]), new Set([offset]), offset, []);
  }

  #decode(u8: Uint8Array, page: number, at: number, bytes = PAGE) {
    const d = this.decoder;
    if (d.decode(u8, page + at, page + bytes, MODE_64) !== DECODED.OK) return null;
    const row = d.rows[d.row]!;
    let end = this.#ends[d.row]! as End;
    let target = 0;
    if (end === End.Jcc || end === End.Jmp || end === End.Call) {
      target = at + d.length + d.imm;
      if (target !== (target | 0)) end = End.Leave;
    }
    if (end !== End.Fall && end !== End.Leave && d.size !== 64) end = End.Leave;
    const i: Instruction = {
      row: d.row,
      size: d.size,
      at,
      length: d.length,
      d: d.d,
      s: d.s,
      x: d.x,
      imm: d.imm,
      immHigh: d.immHigh,
      hasMemory: d.hasMemory,
      base: d.base,
      index: d.index,
      scale: d.scale,
      disp: d.disp + (d.hasMemory && d.base === reg(RSP) && this.#isPop[d.row] ? d.size >> 3 : 0),
      segment: d.segment,
      addressBits: d.addressBits,
      absolute: d.absolute,
      repeat: d.repeat,
      barrier: d.lock && d.hasMemory && d.base === reg(RSP),
      live: true,
      record: 0,
    };
    return { i, end, target, cc: row.k ?? 0 };
  }

  #blocks(
    decoded: Map<number, { i: Instruction; end: End; target: number; cc: number } | null>,
    leaders: Set<number>,
    entry: number,
    jumps: readonly { offset: number; id: number }[],
  ): Region | null {
    const starts = [entry, ...[...leaders].filter((l) => l !== entry && decoded.get(l)).sort((a, b) => a - b)];
    if (!decoded.get(entry)) return null;
    const numbers = new Map(starts.map((at, i) => [at, i]));
    let from = PAGE, to = 0, total = 0;
    const known = jumps.map(({ offset, id }) => ({ offset, id, block: numbers.get(offset) ?? -1 }))
      .filter(({ block }) => block >= 0);
    const blocks = starts.map((start, number): Block => {
      const block: Block = {
        number,
        at: start,
        instructions: [],
        end: End.Fall,
        cc: 0,
        target: -1,
        next: -1,
        jumps: [],
        targetBlock: -1,
        nextBlock: -1,
        liveIn: ALL_FLAGS,
      };
      let at = start;
      for (;;) {
        const one = decoded.get(at);
        if (!one) break;
        block.instructions.push(one.i);
        total++;
        from = Math.min(from, at);
        at += one.i.length;
        to = Math.max(to, at);
        if (one.end !== End.Fall) {
          block.end = one.end;
          block.cc = one.cc;
          block.target = one.target;
          break;
        }
        if (numbers.has(at)) break;
      }
      block.next = at;
      return block.end === End.IndirectJmp ? { ...block, jumps: known } : block;
    });
    for (const b of blocks) {
      if (b.end === End.Jcc || b.end === End.Jmp) b.targetBlock = numbers.get(b.target) ?? -1;
      if (b.end === End.Jcc || b.end === End.Fall || b.end === End.Call || b.end === End.IndirectCall) {
        b.nextBlock = numbers.get(b.next) ?? -1;
      }
    }
    const region = { blocks, instructions: total, from, to };
    if (this.flags) this.#liveness(region);
    return region;
  }

  /** Which flags are seen, backwards over the graph until nothing changes. */
  #liveness(region: Region): void {
    const info = this.decoder.info;
    for (const b of region.blocks) b.liveIn = 0;
    const pass = (b: Block, mark: boolean): number => {
      const of = (n: number) => n < 0 ? ALL_FLAGS : region.blocks[n]!.liveIn;
      let live: number;
      if (b.end === End.Jcc) live = of(b.targetBlock) | of(b.nextBlock);
      else if (b.end === End.Jmp) live = of(b.targetBlock);
      else if (b.end === End.Fall) live = of(b.nextBlock);
      else live = ALL_FLAGS;
      for (let k = b.instructions.length - 1; k >= 0; k--) {
        const i = b.instructions[k]!, x = info[i.row]!, row = this.decoder.rows[i.row]!;
        if (doesNothing(row, i)) continue;
        const branch = k === b.instructions.length - 1 && b.end !== End.Fall && b.end !== End.Leave;
        if (branch) {
          live |= x.reads;
          if (i.hasMemory) live = ALL_FLAGS;
          continue;
        }
        if (i.hasMemory && x.stores) live = ALL_FLAGS;
        // Handlers of tier 0 set them all the same.
        const wanted = (x.writes & live) !== 0;
        if (mark) i.live = wanted;
        const sure = x.kills !== 0 || (constantCount(row, i) ?? 0) !== 0;
        // The flags that BT leaves undefined stay as they were.
        if (wanted && sure) live &= ~(BIT_TESTS.test(row.name) ? FLAG_BITS.C! : x.writes);
        live |= x.reads;
        if (this.#leaves[i.row] || (i.hasMemory && row.name !== "LEA")) live = ALL_FLAGS;
      }
      return live;
    };
    for (let changed = true; changed;) {
      changed = false;
      for (let k = region.blocks.length - 1; k >= 0; k--) {
        const b = region.blocks[k]!, live = pass(b, false);
        if (live !== b.liveIn) {
          b.liveIn = live;
          changed = true;
        }
      }
    }
    for (const b of region.blocks) pass(b, true);
  }
}

/** General registers (0..15) that fields of an instruction name. */
export function fieldRegister(field: number): number {
  return field >> 3;
}
/** Whether a base or index field names a register at all. */
export function isRegister(field: number): boolean {
  return field !== reg(ZERO) && field !== reg(VBASE);
}
/** A segment with a base in 64-bit mode. */
export function hasBase(segment: number): boolean {
  return segment >= FS;
}
/** In the order of their records. */
export function eachInstruction(region: Region, body: (i: Instruction) => void): void {
  for (const b of region.blocks) b.instructions.forEach(body);
}

/** Instructions that a region has no code for. */
export function doesNothing(row: Row, i: Instruction): boolean {
  return row.name === "NOP" || row.name === "PAUSE" || (row.op === "90 +r" && i.d === 0);
}

/** The count of a shift or rotation, if it is a constant that tells whether flags are set. */
export function constantCount(row: Row, i: Instruction): number | undefined {
  if (!row.maybe || !/,(Iub|1)$/.test(row.args ?? "") || row.name.startsWith("RC")) return undefined;
  return i.imm & (i.size === 64 ? 63 : 31);
}
