/**
 * Moves between a general register or an immediate and memory in 64-bit code, read from their bytes: most of what drivers do to
 * devices' registers. For these an exit tells the rest, and no other register has to be known. [sdm2 MOV, MOVZX, MOVSX]
 *
 * Left to the software CPU: prefixes other than 66H and REX, AH to BH, moves to and from absolute addresses, everything else.
 */

const REX_W = 8, REX_R = 4, REX_X = 2, REX_B = 1;
const NONE = -1;

export class Move {
  isStore = false;
  /** Of the access, in bytes: 1, 2, 4 or 8. */
  size = 0;
  /** The register's number, or -1 for an immediate, whose value is in `lo` and `hi`. */
  register = NONE;
  lo = 0;
  hi = 0;
  /** What a load writes, in bytes: as much as it reads, or more, with zeros or with the sign. */
  target = 0;
  signed = false;
  /** Of the instruction, in bytes. */
  length = 0;
  /** What the address is made of: registers' numbers or -1, the index's factor as a shift; relative to the next instruction. */
  base = NONE;
  index = NONE;
  shift = 0;
  displacement = 0;
  relative = false;

  /** Reads the instruction at `at`, whose bytes end before `end`. False: it is none of these, or not all of it is there. */
  read(bytes: Uint8Array, at: number, end: number): boolean {
    const start = at;
    let rex = 0, wide = false;
    if (at < end && bytes[at] === 0x66) {
      wide = true;
      at++;
    }
    if (at < end && (bytes[at]! & 0xf0) === 0x40) rex = bytes[at++]!;
    if (at + 1 >= end) return false;
    const full = rex & REX_W ? 8 : wide ? 2 : 4;
    let opcode = bytes[at++]!, immediate = 0;
    this.signed = false;
    if (opcode === 0x0f) {
      opcode = bytes[at++]!;
      if (opcode !== 0xb6 && opcode !== 0xb7 && opcode !== 0xbe && opcode !== 0xbf) return false;
      this.isStore = false;
      this.size = opcode & 1 ? 2 : 1;
      this.target = full;
      this.signed = opcode >= 0xbe;
    } else {
      this.size = this.target = opcode & 1 ? full : 1;
      switch (opcode) {
        case 0x88:
        case 0x89:
          this.isStore = true;
          break;
        case 0x8a:
        case 0x8b:
          this.isStore = false;
          break;
        case 0xc6:
        case 0xc7:
          this.isStore = true;
          immediate = Math.min(this.size, 4);
          break;
        default:
          return false;
      }
    }
    at = this.#address(bytes, at, end, rex);
    if (at < 0 || at + immediate > end) return false;
    if (immediate > 0) {
      if (this.register & 7) return false; // the other instructions of this opcode
      this.register = NONE;
      const value = immediate === 4
        ? word(bytes, at)
        : immediate === 2
        ? bytes[at]! | (bytes[at + 1]! << 8)
        : bytes[at]!;
      this.lo = value >>> 0;
      // An immediate of 32 bits for 64 has its sign.
      this.hi = value < 0 ? 0xffff_ffff : 0;
    } else if ((this.isStore ? this.size : this.target) === 1 && rex === 0 && this.register >= 4) return false;
    this.length = at + immediate - start;
    return true;
  }

  /** ModRM and what follows it: [sdm2 §2.1.5, tables 2-2 and 2-3]. Gives the place after it, or -1. */
  #address(bytes: Uint8Array, at: number, end: number, rex: number): number {
    if (at >= end) return NONE;
    const modrm = bytes[at++]!, mod = modrm >> 6, rm = modrm & 7;
    if (mod === 3) return NONE;
    this.register = ((modrm >> 3) & 7) | (rex & REX_R ? 8 : 0);
    this.index = NONE;
    this.shift = 0;
    this.relative = false;
    let size = mod === 1 ? 1 : mod === 2 ? 4 : 0;
    if (rm === 4) {
      if (at >= end) return NONE;
      const sib = bytes[at++]!, index = ((sib >> 3) & 7) | (rex & REX_X ? 8 : 0);
      if (index !== 4) {
        this.index = index;
        this.shift = sib >> 6;
      }
      this.base = (sib & 7) | (rex & REX_B ? 8 : 0);
      if ((sib & 7) === 5 && mod === 0) {
        this.base = NONE;
        size = 4;
      }
    } else if (rm === 5 && mod === 0) {
      this.base = NONE;
      this.relative = true;
      size = 4;
    } else this.base = rm | (rex & REX_B ? 8 : 0);
    if (at + size > end) return NONE;
    this.displacement = size === 4 ? word(bytes, at) : size === 1 ? (bytes[at]! << 24) >> 24 : 0;
    return at + size;
  }
}

function word(bytes: Uint8Array, at: number): number {
  return bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
}
