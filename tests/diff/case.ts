/** One case under construction: its record, code slot and window, and its operands as they are chosen. */
import { type MemoryForm, type Operands, operands } from "../../src/cpu/x86/assemble.ts";
import { RSP } from "../../src/cpu/x86/state.ts";
import { CODE, DATA, FX, IN, R, RECORD, SLOT, WINDOW } from "./arena.ts";
import type { Native } from "./native.ts";
import type { Random } from "./random.ts";

/** Where memory operands lie in a window. */
export const LOW = 256, HIGH = 768;

export class CaseBuilder {
  /** Offsets in the arena. */
  record = 0;
  slot = 0;
  window = 0;
  /** Word index of the record. */
  words = 0;
  /** Registers whose values are settled, a bit each. */
  settled = 0;
  gs = 0n;
  /** 32-bit code. */
  legacy = false;
  readonly u32: Uint32Array;
  readonly u8: Uint8Array;

  constructor(readonly native: Native, readonly random: Random) {
    this.u32 = native.u32;
    this.u8 = native.u8;
  }

  begin(i: number): void {
    this.record = IN + i * RECORD;
    this.words = this.record >> 2;
    this.slot = CODE + i * SLOT;
    this.window = DATA + i * WINDOW;
    this.settled = 0;
    this.gs = 0n;
    const { random, u32, words } = this;
    for (let n = 0; n < 16; n++) random.value64(u32, words + 2 * n);
    if (!random.once(4)) this.point(RSP, random.between(LOW, HIGH), false);
    // Status flags at random; DF now and then.
    u32[words + R.FLAGS / 4] = (random.next() & 0x8d5) | (random.once(8) ? 0x400 : 0) | 0x202;
    u32[words + R.FLAGS / 4 + 1] = 0;
    u32[words + R.GS / 4] = u32[words + R.GS / 4 + 1] = 0;
    u32[words + R.RIP / 4 + 1] = 0;
    this.plainFloating();
  }

  /** x87 empty and masked, MXCSR as after reset; vector registers as they are. */
  plainFloating(): void {
    const fx = this.words + R.FX / 4, u32 = this.u32;
    u32[fx] = 0x37f;
    u32[fx + 1] = 0;
    u32[fx + 2] =
      u32[fx + 3] =
      u32[fx + 4] =
      u32[fx + 5] =
        0;
    u32[fx + FX.MXCSR / 4] = 0x1f80;
    u32[fx + FX.MXCSR / 4 + 1] = 0;
  }

  /** Vector registers, MXCSR, x87 and MMX at random. */
  floating(): void {
    const { random, u32 } = this, fx = this.words + R.FX / 4;
    const kind = random.below(4);
    for (let i = 0; i < 64; i += 2) {
      const at = fx + FX.XMM / 4 + i, k = random.once(4) ? random.below(4) : kind;
      if (k === 0) random.value64(u32, at);
      else if (k === 1) {
        u32[at] = random.float32();
        u32[at + 1] = random.float32();
      } else if (k === 2) random.float64(u32, at);
      else {
        u32[at] = random.value32();
        u32[at + 1] = random.value32();
      }
    }
    for (let i = 0; i < 64; i++) {
      const at = this.words + R.YMM / 4 + i, k = random.once(4) ? random.below(4) : kind;
      if (k === 0 || k === 3) u32[at] = random.value32();
      else if (k === 1) u32[at] = random.float32();
      else if (i % 2 === 0) random.float64(u32, at);
    }
    // Masks: mostly all; rounding, DAZ, FTZ and sticky flags: anything.
    let mxcsr = 0x1f80;
    if (!random.once(3)) mxcsr |= random.next() & 0xe07f;
    if (random.once(6)) mxcsr &= random.next() | 0x7f;
    u32[fx + FX.MXCSR / 4] = mxcsr & 0xffff;
    let fcw = 0x37f;
    if (random.once(2)) fcw = 0x7f | (random.pick([0, 2, 3]) << 8) | (random.below(4) << 10);
    if (random.once(6)) fcw &= random.next() | 0x40;
    fcw = (fcw & 0xf7f) | 0x40;
    let fsw = random.next() & 0x7f7f;
    if (random.once(2)) fsw &= 0x3800;
    // ES and B follow from the flags and the masks; a pending exception stops nearly everything, so rarely.
    if (fsw & ~fcw & 0x3f) {
      if (random.once(8)) fsw |= 0x8080;
      else fsw &= ~0x3f | (fcw & 0x3f);
    }
    u32[fx] = fcw | (fsw << 16);
    u32[fx + 1] = random.once(2) ? 0xff : random.next() & 0xff;
    for (let i = 0; i < 8; i++) {
      const at = fx + FX.ST / 4 + 4 * i;
      if (random.once(6)) {
        random.value64(u32, at);
        u32[at + 2] = 0xffff;
      } else u32[at + 2] = random.float80(u32, at);
      u32[at + 3] = 0;
    }
  }

  get(n: number): bigint {
    return (BigInt(this.u32[this.words + 2 * n + 1]!) << 32n) | BigInt(this.u32[this.words + 2 * n]!);
  }
  set(n: number, value: bigint | number): void {
    const v = BigInt.asUintN(64, BigInt(value));
    this.u32[this.words + 2 * n] = Number(v & 0xffff_ffffn);
    this.u32[this.words + 2 * n + 1] = Number(v >> 32n);
    this.settled |= 1 << n;
  }
  isSettled(n: number): boolean {
    return ((this.settled >> n) & 1) === 1;
  }
  /** Register `n` points into the window. With `settle`, it must stay so. */
  point(n: number, offset: number, settle = true): void {
    this.u32[this.words + 2 * n] = this.native.base + this.window + offset;
    this.u32[this.words + 2 * n + 1] = 0;
    if (settle) this.settled |= 1 << n;
  }
  /** 64 bits into the window. */
  put64(at: number, value: bigint): void {
    this.u32[at >> 2] = Number(value & 0xffff_ffffn);
    this.u32[(at >> 2) + 1] = Number(value >> 32n);
  }

  operands(size: number): Operands {
    return operands(size, { is64: !this.legacy });
  }

  /** The forms of 32-bit code. */
  #address32(m: MemoryForm, target: number, banned: number): boolean {
    const { random } = this, form = random.below(6);
    const value = (n: number) => this.u32[this.words + 2 * n]!;
    if (form === 0) {
      m.disp = target;
      return true;
    }
    if (form > 3) {
      m.index = random.below(8);
      if (m.index === RSP || (banned >> m.index) & 1) return false;
      m.scale = random.below(4);
    }
    const sum = m.index < 0 ? 0 : value(m.index) << m.scale;
    if (form === 5) {
      m.disp = (target - sum) | 0;
      this.settled |= 1 << m.index;
      return true;
    }
    m.base = random.below(8);
    if (m.base === m.index || (banned >> m.base) & 1) return false;
    if (m.index >= 0) this.settled |= 1 << m.index;
    if (this.isSettled(m.base)) {
      m.disp = (target - sum - value(m.base)) | 0;
      return true;
    }
    m.disp = random.once(3) ? 0 : random.once(2) ? random.below(256) - 128 : random.next() | 0;
    if (random.once(16)) m.dispBytes = 4;
    this.set(m.base, (target - sum - m.disp) >>> 0);
    return true;
  }

  /**
   * An address form and register values that reach linear address `target`; the displacement of RIP-relative forms is settled
   * later. `banned`: registers that may not be part of it, a bit each. False: this try led nowhere.
   */
  address(o: Operands, target: bigint, banned: number): boolean {
    const { random } = this;
    const m: MemoryForm = { base: -1, index: -1, scale: 0, disp: 0, dispBytes: 0, ripRelative: false };
    o.memory = m;
    if (this.legacy) {
      if (random.once(12)) o.segment = random.below(4);
      return this.#address32(m, Number(BigInt.asUintN(32, target)), banned);
    }
    if (random.once(12)) o.address32 = true;
    if (this.native.gsBase && random.once(12)) {
      o.segment = 5;
      const g = BigInt(random.below(0x3fff_0000));
      this.gs = random.once(2) || o.address32 ? -g : g;
      const raw = BigInt.asUintN(64, this.gs);
      this.u32[this.words + R.GS / 4] = Number(raw & 0xffff_ffffn);
      this.u32[this.words + R.GS / 4 + 1] = Number(raw >> 32n);
    }
    // The offset that the form must give.
    const want = o.address32 ? BigInt.asUintN(32, target - this.gs) : BigInt.asUintN(64, target - this.gs);
    if (o.address32 && BigInt.asUintN(64, want + this.gs) !== target) return false;
    const fits = (v: bigint) => BigInt.asIntN(64, v) === BigInt.asIntN(32, v) || o.address32;
    const form = random.below(8);
    if (form === 0) {
      m.ripRelative = true;
      return true;
    }
    if (form === 1) {
      if (!fits(want)) return false;
      m.disp = Number(BigInt.asIntN(32, want));
      return true;
    }
    const banned32 = banned | this.settled;
    if (form === 2) {
      const index = random.below(16);
      if (index === RSP || (banned32 >> index) & 1) return false;
      const v = BigInt(random.below(1 << 20) - (1 << 19));
      const scale = random.below(4), rest = want - (v << BigInt(scale));
      if (!fits(rest)) return false;
      Object.assign(m, { index, scale, disp: Number(BigInt.asIntN(32, rest)) });
      this.set(index, o.address32 ? BigInt.asUintN(32, v) | (BigInt(random.next()) << 32n) : v);
      return true;
    }
    m.base = random.below(16);
    if ((banned >> m.base) & 1) return false;
    if (this.isSettled(m.base)) {
      const rest = want - this.get(m.base);
      if (!fits(rest)) return false;
      m.disp = Number(BigInt.asIntN(32, rest));
      return true;
    }
    let sum = 0n;
    if (form >= 6) {
      m.index = random.below(16);
      if (m.index === RSP || m.index === m.base || (banned >> m.index) & 1) return false;
      m.scale = random.below(4);
      sum = this.get(m.index) << BigInt(m.scale);
      this.settled |= 1 << m.index;
    }
    m.disp = random.once(3) ? 0 : random.once(2) ? random.below(256) - 128 : random.next() | 0;
    if (random.once(16)) m.dispBytes = 4;
    const base = BigInt.asUintN(64, want - sum - BigInt(m.disp));
    this.set(m.base, o.address32 ? BigInt.asUintN(32, base) | (BigInt(random.next()) << 32n) : base);
    return true;
  }
}
