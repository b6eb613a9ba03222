/**
 * Accesses that lie near each other: through the same value of a register, give or take constants, with nothing in between that
 * could change translations. The first of a group checks that all of them lie in one page, and the others rely on it.
 *
 * What is looked at is code that runs on from its first instruction, over conditional jumps, up to where ways meet: there each
 * group begins anew.
 */
import { argBits, isMemoryLetter } from "../arg.ts";
import { reg, RSP, VBASE } from "../state.ts";
import { CHANGES_TLB, IMPLICIT } from "./inline_rows.ts";
import type { RegionHost } from "./region_host.ts";
import {
  type Block,
  doesNothing,
  End,
  fieldRegister,
  hasBase,
  type Instruction,
  isRegister,
  type Region,
} from "./region.ts";
import type { Structure } from "./structure.ts";

export interface Group {
  readonly write: boolean;
  /** Which of the region's variables has its place in memory; fewer than GROUPS. */
  readonly slot: number;
  /** Its lowest byte and the one behind its highest, from the value. */
  from: number;
  to: number;
  uses: number;
}
/** An access by a group. */
export interface Use {
  readonly group: Group;
  readonly first: boolean;
  /** From the value. */
  readonly at: number;
}
export interface Uses {
  operand?: Use;
  stack?: Use;
}

type Host = Pick<RegionHost, "decoder" | "variants" | "exact">;

/** Groups that are in force at a time. */
export const GROUPS = 6;
/** A group is no longer than this: one that does not lie in one page asks the TLB for each access. */
const LONGEST = 128;

/** Where control is: what the registers hold, as the number of a value and what has been added to it. */
class State {
  readonly values = new Int32Array(16);
  readonly added = new Float64Array(16);
  groups = new Map<string, Group>();
  slots = 0;

  copy(): State {
    const s = new State();
    s.values.set(this.values);
    s.added.set(this.added);
    s.groups = new Map(this.groups);
    s.slots = this.slots;
    return s;
  }
}

export function findGroups(
  region: Region,
  host: Host,
  inline: readonly boolean[],
  structure: Structure,
): Map<Instruction, Uses> {
  // Twice the same: the second time it is known which groups have more than one access.
  const finder = new Finder(region, host, inline, structure);
  const counts = finder.find(null).map((g) => g.uses);
  finder.find(counts);
  return finder.found;
}

class Finder {
  found = new Map<Instruction, Uses>();
  #groups: Group[] = [];
  #counts: readonly number[] | null = null;
  #values = 0;

  constructor(
    private readonly region: Region,
    private readonly host: Host,
    private readonly inline: readonly boolean[],
    private readonly structure: Structure,
  ) {}

  find(counts: readonly number[] | null): Group[] {
    this.#counts = counts;
    this.#groups = [];
    this.#values = 0;
    this.found = new Map();
    const ends: State[] = [], before = this.#before();
    for (const n of this.structure.sequence) {
      const b = this.region.blocks[n]!, from = before[n]!;
      const s = from < 0 ? this.#fresh() : ends[from]!.copy();
      this.#block(b, s);
      ends[n] = s;
    }
    return this.#groups;
  }

  /** By block: the one that it simply goes on from, or -1. */
  #before(): Int32Array {
    const before = new Int32Array(this.region.blocks.length).fill(-1);
    const { exact } = this.host;
    for (const n of this.structure.sequence) {
      const b = this.region.blocks[n]!;
      // Where instructions make the time, a jump looks at events.
      const taken = (b.end === End.Jcc || b.end === End.Jmp) && !exact, falls = b.end === End.Jcc || b.end === End.Fall;
      for (const to of [taken ? b.targetBlock : -1, falls ? b.nextBlock : -1]) {
        if (to >= 0 && this.structure.isInline(n, to)) before[to] = n;
      }
    }
    return before;
  }

  #fresh(): State {
    const s = new State();
    for (let n = 0; n < 16; n++) this.#load(s, n);
    return s;
  }
  #load(s: State, n: number): void {
    s.values[n] = this.#values++;
    s.added[n] = 0;
  }

  #block(b: Block, s: State): void {
    for (const i of b.instructions) {
      const branch = b.end !== End.Fall && b.end !== End.Leave && i === b.instructions[b.instructions.length - 1];
      if (branch) this.#branch(b, i, s);
      else if (!doesNothing(this.host.decoder.rows[i.row]!, i)) this.#instruction(i, s);
    }
  }

  #branch(b: Block, i: Instruction, s: State): void {
    if (b.end === End.Ret) this.#stack(i, s, 0, 8, false);
    else if (b.end === End.Call || b.end === End.IndirectCall) this.#stack(i, s, -8, 8, true);
  }

  #instruction(i: Instruction, s: State): void {
    const row = this.host.decoder.rows[i.row]!, args = this.host.variants.args[i.row]!;
    if (!this.inline[i.row] || (row.modes && i.size === 16)) {
      // Whatever it does, it does to the state.
      Object.assign(s, { groups: new Map(), slots: 0 });
      for (let n = 0; n < 16; n++) this.#load(s, n);
      return;
    }
    const operand = args.find((a) => isMemoryLetter(a.letter) && a.size !== "");
    if (i.hasMemory && operand) this.#operand(i, s, argBits(operand, i.size) >> 3, operand.access !== "r");
    else if (row.name === "PUSH") this.#stack(i, s, -(i.size >> 3), i.size >> 3, true);
    else if (row.name === "POP") this.#stack(i, s, 0, i.size >> 3, false);
    if (CHANGES_TLB.has(row.name)) Object.assign(s, { groups: new Map(), slots: 0 });
    this.#change(i, s);
  }

  /** Follows what it does to registers. */
  #change(i: Instruction, s: State): void {
    const { name } = this.host.decoder.rows[i.row]!, args = this.host.variants.args[i.row]!;
    const inRegister = (k: number) => !(isMemoryLetter(args[k]!.letter) && i.hasMemory);
    const field = (k: number) => fieldRegister(args[k]!.slot === 0 ? i.d : args[k]!.slot === 1 ? i.s : i.x);
    if (name === "PUSH" || name === "POP") s.added[RSP]! += name === "PUSH" ? -(i.size >> 3) : i.size >> 3;
    else for (const n of IMPLICIT[name] ?? []) this.#load(s, n);
    if (i.size === 64 && args.length > 0 && args[0]!.slot >= 0 && inRegister(0)) {
      const n = field(0);
      if ((name === "ADD" || name === "SUB") && args[1]!.letter === "I") {
        s.added[n]! += name === "ADD" ? i.imm : -i.imm;
        return;
      }
      if (name === "INC" || name === "DEC") {
        s.added[n]! += name === "INC" ? 1 : -1;
        return;
      }
      if (name === "MOV" && args[1]!.letter !== "I" && args[1]!.slot >= 0 && inRegister(1)) {
        return this.#copy(s, n, field(1), 0);
      }
    }
    if (name === "LEA" && i.size === 64 && i.addressBits === 64 && isRegister(i.base) && !isRegister(i.index)) {
      return this.#copy(s, fieldRegister(i.d), fieldRegister(i.base), i.disp);
    }
    args.forEach((a, k) => {
      if (a.access !== "r" && a.slot >= 0 && "ERGZBA".includes(a.letter) && inRegister(k)) this.#load(s, field(k));
    });
  }
  #copy(s: State, to: number, from: number, disp: number): void {
    s.values[to] = s.values[from]!;
    s.added[to] = s.added[from]! + disp;
  }

  #stack(i: Instruction, s: State, at: number, bytes: number, write: boolean): void {
    const use = this.#use(s, `${s.values[RSP]} - 0`, s.added[RSP]! + at, bytes, write);
    if (use) this.found.set(i, { ...this.found.get(i), stack: use });
  }
  #operand(i: Instruction, s: State, bytes: number, write: boolean): void {
    if (bytes < 1 || bytes > 16 || i.absolute || i.addressBits !== 64 || hasBase(i.segment)) return;
    let base = "-", index = "-", at = i.disp;
    if (i.base === reg(VBASE)) base = "rip", at += i.at + i.length;
    else if (isRegister(i.base)) base = `${s.values[fieldRegister(i.base)]}`, at += s.added[fieldRegister(i.base)]!;
    if (isRegister(i.index)) {
      const n = fieldRegister(i.index);
      index = `${s.values[n]}`, at += s.added[n]! * 2 ** i.scale;
    }
    const use = this.#use(s, `${base} ${index} ${index === "-" ? 0 : i.scale}`, at, bytes, write);
    if (use) this.found.set(i, { ...this.found.get(i), operand: use });
  }

  #use(s: State, value: string, at: number, bytes: number, write: boolean): Use | undefined {
    if (Math.abs(at) > 2 ** 31) return undefined;
    const key = `${value} ${write}`, known = s.groups.get(key);
    if (known) {
      const from = Math.min(known.from, at), to = Math.max(known.to, at + bytes);
      if (to - from <= LONGEST) {
        Object.assign(known, { from, to });
        known.uses++;
        return known.slot < 0 ? undefined : { group: known, first: false, at };
      }
    }
    const worth = this.#counts !== null && this.#counts[this.#groups.length]! > 1 && s.slots < GROUPS;
    const group = { write, slot: worth ? s.slots++ : -1, from: at, to: at + bytes, uses: 1 };
    this.#groups.push(group);
    s.groups.set(key, group);
    return worth ? { group, first: true, at } : undefined;
  }
}
