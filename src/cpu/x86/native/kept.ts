/**
 * Status flags in native code: they are the host's for as long as the host's are not overwritten, and what they can be worked
 * out from until the guest's next flags; they are written to the state only where somebody could look: on the way out, and where
 * ways come together.
 *
 * Written means: as a form of flag_forms.ts with its two values and `extra` (S.nativeForm and so on). In the upper bytes of
 * S.nativeForm: OVERRIDE, by which CF, or CF and OF, are others than the form has.
 */
import { type Form, formNumber } from "../flag_forms.ts";
import { ALL_FLAGS, FLAG_BITS } from "../decode.ts";
import { PF, S } from "../state.ts";
import { ALU, type Assembler } from "./assembler.ts";
import { field, HOST_OF, slot, U } from "./registers.ts";

/**
 * Second byte of S.nativeForm: what is laid over the flags that the first byte, the form, tells of. STEP: all but CF are those of
 * an INC or DEC with result S.nativeStepX, whose form is the second byte of S.nativeOver. Over that again: CF in the third byte of
 * S.nativeForm, OF in its fourth, ZF in the first of S.nativeOver, each 0 or 1.
 */
export const OVERRIDE = {
  CF: 1,
  OF: 2,
  ZF: 4,
  STEP: 8,
  AT: S.nativeForm + 1,
  CF_AT: S.nativeForm + 2,
  OF_AT: S.nativeForm + 3,
  ZF_AT: S.nativeOver,
  STEP_AT: S.nativeOver + 1,
} as const;

/** Where a value is: a guest register, a constant, or S.nativeX or S.nativeY. */
export type Place = { readonly register: number } | { readonly constant: number } | "X" | "Y";

/** How x follows from `a` and y: it is `a`; a - y; a + y; a & y (and there is no y). */
export const enum From {
  Self,
  Minus,
  Plus,
  And,
}

/** Flags that are not written yet. */
export interface Pending {
  readonly form: Form;
  readonly size: number;
  readonly from: From;
  readonly a: Place;
  readonly y: Place | undefined;
}

const { O, S: SIGN, Z, P, C } = FLAG_BITS as { O: number; S: number; Z: number; P: number; C: number };
/** All that a condition can ask for. */
export const ASKED = O | SIGN | Z | P | C;
export { ALL_FLAGS };
export const FLAG = { O, S: SIGN, Z, P, C };

/** The flags that condition cc looks at. */
export function needs(cc: number): number {
  return [O, C, Z, C | Z, SIGN, P, SIGN | O, SIGN | O | Z][cc >> 1]!;
}

/** What EXPLICIT, whose two values are in the state, gives of `wanted` at once. */
export function explicitGives(wanted: number): boolean {
  return (wanted & ~(C | Z)) === 0 || wanted === P;
}

export class Flags {
  /** null: they are written, or nobody will look. */
  pending: Pending | null = null;
  /** Of the host's flags, those that are the guest's. */
  host = 0;

  constructor(private readonly a: Assembler) {}

  snapshot(): { pending: Pending | null; host: number } {
    return { pending: this.pending, host: this.host };
  }
  restore(s: { pending: Pending | null; host: number }): void {
    this.pending = s.pending;
    this.host = s.host;
  }

  /** A value into temporary U; no flags change. */
  #load(p: Place): void {
    const a = this.a;
    if (p === "X") a.load(U, field(S.nativeX), 64);
    else if (p === "Y") a.load(U, field(S.nativeY), 64);
    else if ("constant" in p) a.movRI(U, p.constant);
    else if (HOST_OF[p.register]! >= 0) a.movRR(U, HOST_OF[p.register]!);
    else a.load(U, slot(p.register), 64);
  }
  /** op U, place. */
  #alu(op: number, p: Place, size: number): void {
    const a = this.a;
    if (p === "X") a.aluRM(op, U, field(S.nativeX), size);
    else if (p === "Y") a.aluRM(op, U, field(S.nativeY), size);
    else if ("constant" in p) a.aluRI(op, U, p.constant, size);
    else if (HOST_OF[p.register]! >= 0) a.aluRR(op, U, HOST_OF[p.register]!, size);
    else a.aluRM(op, U, slot(p.register), size);
  }
  #write(to: "X" | "Y", p: Place): void {
    if (p === to) return;
    const at = field(to === "X" ? S.nativeX : S.nativeY), a = this.a;
    if (typeof p === "object" && "constant" in p) a.storeI(at, p.constant, 64);
    else if (typeof p === "object" && HOST_OF[p.register]! >= 0) a.store(at, HOST_OF[p.register]!, 64);
    else {
      this.#load(p);
      a.store(at, U, 64);
    }
  }
  /** x in U, unless it is a place of its own. */
  #work(p: Pending): boolean {
    if (p.from === From.Self) return false;
    this.#load(p.a);
    this.#alu(p.from === From.Minus ? ALU.SUB : p.from === From.Plus ? ALU.ADD : ALU.AND, p.y!, 64);
    this.host = 0;
    return true;
  }

  /** Writes what is pending; the host's flags may be lost. */
  settle(): void {
    const p = this.pending;
    if (!p) return;
    this.#writeX(p);
    if (p.y !== undefined && p.from !== From.And) this.#write("Y", p.y);
    this.a.storeI(field(S.nativeForm), formNumber(p.form, p.size), 32);
    this.pending = null;
  }
  #writeX(p: Pending): void {
    if (this.#work(p)) this.a.store(field(S.nativeX), U, 64);
    else this.#write("X", p.a);
  }

  /** The guest's register `n` is about to change: what is pending must not rest on it. The host's flags may be lost. */
  beforeWrite(n: number): void {
    const p = this.pending;
    if (!p) return;
    const rests = (q: Place | undefined) => typeof q === "object" && "register" in q && q.register === n;
    if (!rests(p.a) && !rests(p.y)) return;
    this.#writeX(p);
    const y = p.from === From.And ? undefined : p.y;
    if (rests(y)) this.#write("Y", y!);
    this.pending = { form: p.form, size: p.size, from: From.Self, a: "X", y: rests(y) ? "Y" : y };
  }

  /** The host's flags become right for `wanted`, if what is pending gives them. Uses U. */
  revive(wanted: number): boolean {
    if ((wanted & ~this.host) === 0) return true;
    const p = this.pending, a = this.a;
    if (!p) return false;
    const { size } = p;
    switch (p.form) {
      case "SUB": {
        const first = p.a;
        if (p.from === From.Self && typeof first === "object" && "register" in first && HOST_OF[first.register]! >= 0) {
          const r = HOST_OF[first.register]!, y = p.y!;
          if (y === "X" || y === "Y") a.aluRM(ALU.CMP, r, field(y === "X" ? S.nativeX : S.nativeY), size);
          else if ("constant" in y) a.aluRI(ALU.CMP, r, y.constant, size);
          else if (HOST_OF[y.register]! >= 0) a.aluRR(ALU.CMP, r, HOST_OF[y.register]!, size);
          else a.aluRM(ALU.CMP, r, slot(y.register), size);
        } else {
          if (!this.#work(p)) this.#load(first);
          this.#alu(ALU.CMP, p.y!, size);
        }
        this.host = ASKED;
        return true;
      }
      case "ADD":
        if (!this.#work(p)) this.#load(p.a);
        this.#alu(ALU.ADD, p.y!, size);
        this.host = ASKED;
        return true;
      case "LOGIC":
        this.#load(p.a);
        if (p.from === From.And) this.#alu(ALU.AND, p.y!, size);
        else a.testRR(U, U, size);
        this.host = ASKED;
        return true;
      case "INC":
      case "DEC":
        if (wanted === C) {
          a.rm(32, 1, 0xba, 4, field(S.nativeExtra)); // BT
          a.byte(0);
          this.host = C;
          return true;
        }
        if ((wanted & (O | C)) !== 0) return false;
        this.#load(p.a);
        a.testRR(U, U, size);
        this.host = SIGN | Z | P;
        return true;
      case "EXPLICIT":
        if (!explicitGives(wanted)) return false;
        if (wanted === P) {
          // PF is 1 for 0, and 0 for 4.
          a.load(U, field(S.nativeExtra), 32);
          a.aluRI(ALU.AND, U, PF, 32);
          a.aluRI(ALU.XOR, U, PF, 32);
        } else {
          a.aluMI(ALU.CMP, field(S.nativeX), 0, 8);
          if ((wanted & C) !== 0) {
            // It keeps ZF.
            a.rm(32, 1, 0xba, 4, field(S.nativeExtra)); // BT
            a.byte(0);
          }
        }
        this.host = wanted;
        return true;
      default:
        return false;
    }
  }
}
