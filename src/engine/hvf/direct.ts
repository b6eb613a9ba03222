/**
 * The short way of an access to the board's memory: a move (moves.ts) in 64-bit code is done here, with a fifth of the calls that
 * the software CPU's step takes. The exit tells where the access went; of the instruction its bytes are needed, which are found
 * by the guest's page tables, as they are in memory.
 */
import { VMCS } from "../../../ffi/vmx.ts";
import type { GuestRam } from "../../base/ram.ts";
import { LEGACY_PAGES } from "../../base/memory_map.ts";
import { CS, EFER } from "../../cpu/x86/state.ts";
import type { Board, VcpuParts } from "../engine.ts";
import type { VcpuHandle } from "./handle.ts";
import { Move } from "./moves.ts";
import { GPR_REGISTERS, SEGMENT } from "./registers.ts";

const L = 1 << 13, CR4_LA57 = 1 << 12;
/** Bits of an entry of a paging structure: [sdm3 tables 4-14 to 4-20]. */
const PRESENT = 1, LARGE = 1 << 7;
const LEVELS = 4, MAX_INSTRUCTION = 15, PAGE = 4096;

export class DirectAccess {
  /** Of the last instruction that was done, in bytes. */
  length = 0;
  readonly #move = new Move();
  readonly #ram: GuestRam;
  readonly #board: Board;
  readonly #bytes: Uint8Array;

  constructor(private readonly handle: VcpuHandle, { ram, board }: Pick<VcpuParts, "ram" | "board">) {
    this.#ram = ram;
    this.#board = board;
    this.#bytes = ram.bytes(0, ram.sizeBytes)!;
  }

  /**
   * Reads the instruction at RIP that has met guest-physical address `gpa`, and does it if it is a load: true. A store is left to
   * `store`, once RIP has moved on. False: it is not one that can be done here, and nothing has happened.
   */
  begin(gpa: number, write: boolean): boolean {
    const { handle } = this;
    if ((handle.vmcs(VMCS.GUEST_IA32_EFER) & EFER.LMA) === 0 || (handle.vmcs(SEGMENT.rights(CS)) & L) === 0) {
      return false;
    }
    const ripLo = handle.vmcs(VMCS.GUEST_RIP), ripHi = handle.hi;
    const at = this.#find(ripLo, ripHi);
    if (at < 0) return false;
    const end = Math.min(at + MAX_INSTRUCTION, at - (at % PAGE) + PAGE), move = this.#move;
    if (!move.read(this.#bytes, at, end) || move.isStore !== write) return false;
    if ((gpa % PAGE) + move.size > PAGE) return false;
    // At a page's start it may be the second part of an access that began on the page before.
    if (gpa % PAGE === 0 && move.size > 1 && this.#offsetInPage(ripLo) !== 0) return false;
    this.length = move.length;
    if (!move.isStore) this.#load(gpa);
    return true;
  }

  /** The store that `begin` has read. */
  store(gpa: number): void {
    const { size, register } = this.#move, { handle } = this;
    let lo = this.#move.lo, hi = this.#move.hi;
    if (register >= 0) {
      lo = handle.register(GPR_REGISTERS[register]!);
      hi = handle.hi;
    }
    if (size === 1) this.#board.mmioWrite(gpa, 1, lo & 0xff);
    else if (size === 2) this.#board.mmioWrite(gpa, 2, lo & 0xffff);
    else {
      this.#board.mmioWrite(gpa, 4, lo);
      if (size === 8) this.#board.mmioWrite(gpa + 4, 4, hi);
    }
  }

  #load(gpa: number): void {
    const { size, target, signed, register } = this.#move, { handle } = this, id = GPR_REGISTERS[register]!;
    let lo = this.#board.mmioRead(gpa, Math.min(size, 4)), hi = 0;
    if (size === 8) hi = this.#board.mmioRead(gpa + 4, 4);
    else if (signed) {
      lo = size === 1 ? (lo << 24) >> 24 : (lo << 16) >> 16;
      hi = lo >> 31;
    }
    if (target >= 4) return handle.setRegister(id, lo, target === 8 ? hi : 0);
    // Moves to 8 and 16 bits leave the rest of the register alone.
    const mask = target === 1 ? 0xff : 0xffff, old = handle.register(id), rest = handle.hi;
    handle.setRegister(id, (old & ~mask) | (lo & mask), rest);
  }

  /** Of the access, by its address's registers. */
  #offsetInPage(rip: number): number {
    const { base, index, shift, displacement, relative, length } = this.#move, { handle } = this;
    let sum = displacement + (relative ? rip + length : 0);
    if (base >= 0) sum += handle.register(GPR_REGISTERS[base]!);
    if (index >= 0) sum += (handle.register(GPR_REGISTERS[index]!) << shift) >>> 0;
    return ((sum % PAGE) + PAGE) % PAGE;
  }

  /** Where in RAM the byte at a linear address is; -1 if it is not plainly there. */
  #find(lo: number, hi: number): number {
    const { handle } = this;
    // Five levels are not announced, and a guest that switches them on anyway is not looked after here.
    if (handle.vmcs(VMCS.GUEST_CR4) & CR4_LA57) return -1;
    let table = (handle.vmcs(VMCS.GUEST_CR3) & ~0xfff) >>> 0;
    if (handle.hi !== 0) return -1;
    for (let level = LEVELS - 1; level >= 0; level--) {
      const from = 12 + 9 * level;
      const i = from >= 32 ? (hi >>> (from - 32)) & 511 : ((lo >>> from) | (from > 23 ? hi << (32 - from) : 0)) & 511;
      const at = table + 8 * i;
      if (!this.#ram.contains(at, 8)) return -1;
      const entry = this.#ram.read(at, 4), high = this.#ram.read(at + 4, 4) & 0xf_ffff;
      if ((entry & PRESENT) === 0 || high !== 0) return -1;
      if (level === 0 || (level < 3 && (entry & LARGE) !== 0)) {
        const size = 2 ** from, phys = (entry >>> 0) - ((entry >>> 0) % size) + (lo % size);
        return this.#isPlain(phys) ? phys : -1;
      }
      table = (entry & ~0xfff) >>> 0;
    }
    return -1;
  }

  #isPlain(phys: number): boolean {
    const page = Math.floor(phys / PAGE);
    return phys < this.#ram.sizeBytes && (page < LEGACY_PAGES.first || page >= LEGACY_PAGES.end);
  }
}
