/**
 * The instruction decoder: bytes to a row, its operand size and form, and the fields of an operation record: [sdm2 chapter 2].
 *
 * One instance is reused for every instruction; the answer is in its fields.
 */
import { type Arg, argBits, isMemoryLetter } from "./arg.ts";
import { DecodeTable, VEX_MAPS } from "./decode_table.ts";
import { canBeDead, FORM, type Variants } from "./handlers.ts";
import { lockedTwins } from "./locked.ts";
import type { Row } from "./row.ts";
import { CS, DS, ES, FS, GS, MODE_16, MODE_64, reg, SS, VBASE, ZERO } from "./state.ts";
import { MODE_REAL } from "./system/segments.ts";

/** What `decode` returns. */
export const DECODED = { OK: 0, INVALID: 1, MORE: 2, TOO_LONG: 3 } as const;

export const FLAG_BITS: Record<string, number> = { O: 1, S: 2, Z: 4, A: 8, P: 16, C: 32 };
export const ALL_FLAGS = 63;
const flagMask = (s: string | undefined) => [...(s ?? "")].reduce((m, f) => m | FLAG_BITS[f]!, 0);

/** The immediate of a row with `elements`: the index register in bits 0..3, and where the rest lies. Addresses: of 32, of 16 bits. */
export const ELEMENT = {
  SCALE: 4,
  ADDRESS32: 1 << 6,
  ADDRESS16: 1 << 7,
  SEGMENT: 8,
  INDEX: 1 << 11,
  WRITE: 1 << 12,
} as const;

/** What decoding needs to know about a row, in arrays. */
interface RowInfo {
  readonly args: readonly Arg[];
  readonly modrm: boolean;
  readonly mem: Arg | undefined;
  readonly imm: Arg | undefined;
  readonly writes: number;
  readonly kills: number;
  readonly reads: number;
  /** The register form may leave (fault, exit, jump): flags must be right before it. */
  readonly leaves: boolean;
  readonly dead: boolean;
  /** The memory form stores, maybe into the code behind it, which may see the flags: they must be right after it. */
  readonly stores: boolean;
  /** Register forms only: mod counts as 3 whatever it says (MOV to control registers). */
  readonly ignoresMod: boolean;
  readonly v: boolean;
  readonly y: boolean;
  /** VEX.vvvv names an operand; without one it must be 1111b. */
  readonly vvvv: boolean;
}

export class Decoder {
  readonly table: DecodeTable;
  readonly info: RowInfo[];
  /** The locked form of each row, or -1; all -1 where there is one vCPU. */
  readonly #locked: Int16Array;

  // The answer.
  row = 0;
  size = 32;
  form = 0;
  length = 0;
  d = 0;
  s = 0;
  x = 0;
  imm = 0;
  immHigh = 0;
  /** Memory operand: base and index as record fields, displacement, segment, address size in bits. */
  hasMemory = false;
  base = 0;
  index = 0;
  scale = 0;
  disp = 0;
  ripRelative = false;
  segment = 0;
  addressBits = 64;
  lock = false;
  repeat = 0;
  /** moffs: the address is in imm/immHigh. */
  absolute = false;

  /** `has`: rows that this processor lacks raise #UD. */
  constructor(readonly rows: readonly Row[], readonly variants: Variants, has?: (row: Row) => boolean) {
    this.table = new DecodeTable(rows.filter((row) => !row.locked), has);
    this.#locked = lockedTwins(rows);
    this.info = rows.map((row, i): RowInfo => {
      const args = variants.args[i]!;
      const writes = flagMask(row.flags);
      return {
        args,
        modrm: !!row.locked || this.table.patterns[i]!.modrm,
        mem: args.find((a) => isMemoryLetter(a.letter)),
        imm: args.find((a) => a.letter === "I" || a.letter === "J"),
        writes,
        kills: row.maybe || row.string ? 0 : writes,
        reads: flagMask(row.reads),
        leaves: !!(row.cpl0 || row.unit || row.string || row.modes || row.ends || row.faults) || !row.hot,
        dead: canBeDead(row),
        stores: args.some((a) => isMemoryLetter(a.letter) && a.access !== "r"),
        ignoresMod: args.some((a) => "RUN".includes(a.letter)),
        v: row.sizes === "v" || !!row.d64 || args.some((a) => a.size === "v" || a.size === "z"),
        y: row.sizes === "y" || args.some((a) => a.size === "y"),
        vvvv: args.some((a) => a.letter === "H" || a.letter === "B"),
      };
    });
  }

  /** Decodes at `u8[at..limit)` in `mode` (state.ts MODE_*, and MODE_REAL, where there is no VEX prefix). */
  decode(u8: Uint8Array, at: number, limit: number, mode: number): number {
    const start = at;
    const code = mode & 3, is64 = code === MODE_64;
    let opsize = false, adsize = false, rep = 0, lock = false, segment = -1, rex = 0;
    let byte = 0;
    for (;;) {
      if (at >= limit) return this.#short(at - start);
      byte = u8[at++]!;
      if (at - start > 15) return DECODED.TOO_LONG;
      if (is64 && (byte & 0xf0) === 0x40) {
        rex = byte;
        continue;
      }
      let prefix = true;
      switch (byte) {
        case 0x66:
          opsize = true;
          break;
        case 0x67:
          adsize = true;
          break;
        case 0xf2:
          rep = 3;
          break;
        case 0xf3:
          rep = 2;
          break;
        case 0xf0:
          lock = true;
          break;
        case 0x26:
          segment = is64 ? segment : ES;
          break;
        case 0x2e:
          segment = is64 ? segment : CS;
          break;
        case 0x36:
          segment = is64 ? segment : SS;
          break;
        case 0x3e:
          segment = is64 ? segment : DS;
          break;
        case 0x64:
          segment = FS;
          break;
        case 0x65:
          segment = GS;
          break;
        default:
          prefix = false;
      }
      if (!prefix) break;
      rex = 0; // a REX prefix counts only right before the opcode
    }

    let map = 0, w = (rex >> 3) & 1, vvvv = 0, vex = false;
    if (byte === 0x0f) {
      if (at >= limit) return this.#short(at - start);
      byte = u8[at++]!;
      map = 1;
      if (byte === 0x38 || byte === 0x3a) {
        map = byte === 0x38 ? 2 : 3;
        if (at >= limit) return this.#short(at - start);
        byte = u8[at++]!;
      }
    } else if (byte === 0xc4 || byte === 0xc5) {
      if (at >= limit) return this.#short(at - start);
      const next = u8[at]!;
      // Outside 64-bit mode these are LES and LDS unless the two top bits say register; in real mode even then: [sdm2 §2.3.1].
      if (is64 || ((next & 0xc0) === 0xc0 && !(mode & MODE_REAL))) {
        const three = byte === 0xc4;
        if (at + (three ? 3 : 2) > limit) return this.#short(at - start);
        if (rex || opsize || rep || lock) return DECODED.INVALID;
        vex = true;
        rex = 0x40 | ((~next >> 5) & 4);
        at++;
        let p = next;
        map = 1;
        if (three) {
          rex |= (~next >> 5) & 3;
          map = next & 31;
          if (map < 1 || map > 3) return DECODED.INVALID;
          p = u8[at++]!;
          w = p >> 7;
          if (w) rex |= 8;
        } else w = 0;
        if (!is64) rex &= 8;
        vvvv = (~p >> 3) & 15;
        if (!is64) vvvv &= 7;
        opsize = (p & 3) === 1;
        rep = (p & 3) >= 2 ? (p & 3) : 0;
        map += VEX_MAPS[(p >> 2) & 1]!;
        byte = u8[at++]!;
      }
    }

    // The selecting prefix: F3 or F2 before 66.
    let prefix = rep || (opsize ? 1 : 0);
    // With REX.B, 90h is XCHG with R8 and never PAUSE.
    if (map === 0 && byte === 0x90 && rex & 1) prefix = 0;
    const shape = this.table.shape[map * 256 + byte]!;
    let modrm = 0, mod = 3, digit = 0, rm = 0, row = -1;
    if (shape & 1) {
      if (at >= limit) return this.#short(at - start);
      modrm = u8[at++]!;
      mod = modrm >> 6;
      digit = (modrm >> 3) & 7;
      rm = modrm & 7;
      if (shape & 2 && mod === 3) row = this.table.findFixed(this.rows, is64, map, byte, prefix, modrm);
    }
    if (row < 0) row = this.table.find(is64, map, byte, prefix, w, shape & 1 && mod !== 3 ? 1 : 0, digit);
    if (row < 0) return DECODED.INVALID;
    const r = this.rows[row]!, info = this.info[row]!, pattern = this.table.patterns[row]!;
    if (vex && vvvv !== 0 && !info.vvvv) return DECODED.INVALID;

    // Sizes.
    let size: number;
    const mandatory66 = pattern.prefix === 1;
    const wide = is64 && w === 1;
    if (info.v) {
      const small = opsize && !(mandatory66 && !r.args?.includes("Mv")) && !(r.no16 && is64);
      if (r.d64 && is64) size = small ? 16 : 64;
      else if (wide) size = 64;
      else if (code === MODE_16) size = small ? 32 : 16;
      else size = small ? 16 : 32;
    } else if (info.y) size = wide ? 64 : 32;
    else size = this.#fixedSize(row);
    const addressBits = is64 ? (adsize ? 32 : 64) : (code === MODE_16) === adsize ? 32 : 16;

    this.row = row;
    this.size = size;
    this.form = FORM.REG;
    this.hasMemory = false;
    this.absolute = false;
    this.addressBits = addressBits;
    this.lock = lock;
    this.repeat = rep === 0 ? 0 : rep === 2 ? 1 : 2;
    this.d = this.s = this.x = 0;
    this.imm = this.immHigh = 0;
    this.disp = 0;
    this.ripRelative = false;
    this.segment = segment;

    // ModRM memory operand.
    if (shape & 1 && mod !== 3 && !info.ignoresMod) {
      // A row may have no operand there and still the bytes (NOP).
      this.hasMemory = info.mem !== undefined;
      this.form = this.hasMemory ? FORM.EA : FORM.REG;
      let defaultSegment = DS;
      if (addressBits === 16) {
        let dispSize = mod === 1 ? 1 : mod === 2 ? 2 : 0;
        this.base = reg(ZERO);
        this.index = reg(ZERO);
        this.scale = 0;
        if (mod === 0 && rm === 6) dispSize = 2;
        else {
          this.base = reg(BASE16[rm]!);
          if (rm < 4) this.index = reg(INDEX16[rm]!);
          if (BASE16[rm] === 5) defaultSegment = SS;
        }
        if (at + dispSize > limit) return this.#short(at - start);
        if (dispSize === 1) this.disp = (u8[at]! << 24) >> 24;
        else if (dispSize === 2) this.disp = ((u8[at]! | (u8[at + 1]! << 8)) << 16) >> 16;
        at += dispSize;
      } else {
        let dispSize = mod === 1 ? 1 : mod === 2 ? 4 : 0;
        this.index = reg(ZERO);
        this.scale = 0;
        if (rm === 4) {
          if (at >= limit) return this.#short(at - start);
          const sib = u8[at++]!;
          const index = ((sib >> 3) & 7) | ((rex & 2) << 2);
          const base = (sib & 7) | ((rex & 1) << 3);
          if (r.elements === "index") this.imm = ELEMENT.INDEX | index | ((sib >> 6) << ELEMENT.SCALE);
          else if (index !== 4) {
            this.index = reg(index);
            this.scale = sib >> 6;
          }
          if ((sib & 7) === 5 && mod === 0) {
            this.base = reg(ZERO);
            dispSize = 4;
          } else {
            this.base = reg(base);
            if (base === 4 || base === 5) defaultSegment = SS;
          }
        } else if (rm === 5 && mod === 0) {
          dispSize = 4;
          this.base = reg(ZERO);
          if (is64) {
            this.base = reg(VBASE);
            this.ripRelative = true;
          }
        } else {
          const base = rm | ((rex & 1) << 3);
          this.base = reg(base);
          if (base === 5) defaultSegment = SS;
        }
        if (at + dispSize > limit) return this.#short(at - start);
        if (dispSize === 1) this.disp = (u8[at]! << 24) >> 24;
        else if (dispSize === 4) this.disp = u8[at]! | (u8[at + 1]! << 8) | (u8[at + 2]! << 16) | (u8[at + 3]! << 24);
        at += dispSize;
      }
      if (segment < 0) this.segment = defaultSegment;
    }

    // Register operands and immediates, in their order.
    for (let i = 0; i < info.args.length; i++) {
      const a = info.args[i]!;
      let value = -1;
      switch (a.letter) {
        case "E":
          if (!this.hasMemory) value = this.#gpr(rm | ((rex & 1) << 3), argBits(a, size), rex);
          break;
        case "R":
          value = this.#gpr(rm | ((rex & 1) << 3), argBits(a, size), rex);
          break;
        case "G":
          value = this.#gpr(digit | ((rex & 4) << 1), argBits(a, size), rex);
          break;
        case "Z":
          value = this.#gpr((byte & 7) | ((rex & 1) << 3), argBits(a, size), rex);
          break;
        case "A":
          value = reg(0);
          break;
        case "1":
          this.imm = 1;
          break;
        case "B":
          value = reg(vvvv);
          break;
        case "H":
          value = vvvv * 16;
          break;
        case "V":
          value = (digit | ((rex & 4) << 1)) * 16;
          break;
        case "W":
          if (!this.hasMemory) value = (rm | ((rex & 1) << 3)) * 16;
          break;
        case "U":
          value = (rm | ((rex & 1) << 3)) * 16;
          break;
        case "P":
          value = digit * 16;
          break;
        case "Q":
          if (!this.hasMemory) value = rm * 16;
          break;
        case "N":
          value = rm * 16;
          break;
        case "S":
          value = digit;
          break;
        case "C":
        case "D":
          // LOCK MOV CR0 is an old way to say CR8.
          value = digit | ((rex & 4) << 1);
          break;
        case "F":
          value = rm;
          break;
        case "O": {
          const bytes = addressBits / 8;
          if (at + bytes > limit) return this.#short(at - start);
          this.imm = u32(u8, at, Math.min(4, bytes));
          this.immHigh = bytes === 8 ? u32(u8, at + 4, 4) : 0;
          at += bytes;
          this.absolute = true;
          this.hasMemory = true;
          this.form = FORM.EA;
          this.base = this.index = reg(ZERO);
          if (segment < 0) this.segment = DS;
          break;
        }
        case "I":
        case "J": {
          const n = a.size === "b" || a.size === "ub"
            ? 1
            : a.size === "w"
            ? 2
            : a.size === "q"
            ? size / 8
            : a.letter === "J" && is64
            ? 4
            : Math.min(4, size / 8);
          if (at + n > limit) return this.#short(at - start);
          if (n === 8) {
            this.imm = u32(u8, at, 4);
            this.immHigh = u32(u8, at + 4, 4);
          } else {
            const raw = u32(u8, at, n);
            const signed = n === 1 ? (raw << 24) >> 24 : n === 2 ? (raw << 16) >> 16 : raw;
            if (a.letter === "J") this.imm = signed;
            else if (a.size === "ub") this.imm = raw & (r.is4 && !is64 ? 0x7f : 0xff);
            else if (a.size === "w") {
              // The selector of a far pointer goes beside its offset.
              if (info.args[i - 1]?.letter === "I") this.immHigh = raw & 0xffff;
              else this.imm = raw & 0xffff;
            } else {
              // Cut to the operand: a byte operand keeps 8 bits, a 16-bit one 16.
              const bits = i > 0 && info.args[0]!.size === "b" ? 8 : size;
              this.imm = bits === 8 ? signed & 0xff : bits === 16 ? signed & 0xffff : signed;
              this.immHigh = this.imm < 0 ? -1 : 0;
            }
          }
          at += n;
          break;
        }
      }
      if (value >= 0) {
        if (a.slot === 0) this.d = value;
        else if (a.slot === 1) this.s = value;
        else if (a.slot === 2) this.x = value;
      }
    }
    if (r.name === "ENTER") {
      if (at + 3 > limit) return this.#short(at - start);
      this.imm = u8[at]! | (u8[at + 1]! << 8) | (u8[at + 2]! << 16);
      at += 3;
    }
    if (at - start > 15) return DECODED.TOO_LONG;
    if (r.elements && !this.#takeElements(r.elements === "index")) return DECODED.INVALID;
    if (
      lock && !(r.lock && this.hasMemory && info.args[0]?.access === "rw") && !(info.args.some((a) => a.letter === "C"))
    ) return DECODED.INVALID;
    // XCHG with memory locks by itself.
    if (this.hasMemory && (lock || r.name === "XCHG") && this.#locked[row]! >= 0) this.row = this.#locked[row]!;
    this.length = at - start;
    return DECODED.OK;
  }

  /** False: no index, or destination, mask and index are not three registers: #UD. */
  #takeElements(indexed: boolean): boolean {
    const index = (this.imm & 15) * 16;
    const bad = !(this.imm & ELEMENT.INDEX) || this.d === this.s || this.d === index || this.s === index;
    if (indexed && bad) return false;
    const width = this.addressBits === 64 ? 0 : this.addressBits === 32 ? ELEMENT.ADDRESS32 : ELEMENT.ADDRESS16;
    const write = this.info[this.row]!.mem!.access === "w" ? ELEMENT.WRITE : 0;
    this.imm |= width | write | (this.segment << ELEMENT.SEGMENT);
    return true;
  }

  #short(taken: number): number {
    // After fifteen bytes it is too long whatever the next one is: that one is not fetched.
    return taken >= 15 ? DECODED.TOO_LONG : DECODED.MORE;
  }

  /** The one size a row without v or y is instantiated for. */
  #fixedSize(row: number): number {
    const first = this.info[row]!.args.find((a) =>
      a.size === "b" || a.size === "w" || a.size === "d" || a.size === "q"
    );
    return first ? argBits(first, 32) : 32;
  }

  /** A general register as a record field; without REX, byte registers 4..7 are AH CH DH BH. */
  #gpr(n: number, bits: number, rex: number): number {
    if (bits === 8 && rex === 0 && n >= 4) return reg(n & 3) + 1;
    return reg(n);
  }
}

const BASE16 = [3, 3, 5, 5, 6, 7, 5, 3];
const INDEX16 = [6, 7, 6, 7];

function u32(u8: Uint8Array, at: number, bytes: number): number {
  let v = u8[at]!;
  if (bytes > 1) v |= u8[at + 1]! << 8;
  if (bytes > 2) v |= (u8[at + 2]! << 16) | (u8[at + 3]! << 24);
  return v;
}
