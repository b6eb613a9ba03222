/** The software CPU as the cases see it: 64-bit user code at the arena's addresses, and a supervisor that notes faults. */
import { Arena } from "../../src/base/arena.ts";
import { CodeMap } from "../../src/base/code_map.ts";
import { GuestRam } from "../../src/base/ram.ts";
import { CR0, CR4, CS, DS, EFER, ES, GS, RSP, S } from "../../src/cpu/x86/state.ts";
import { MAX_CPU } from "../../src/cpu/x86/system/cpu_model.ts";
import type { Board } from "../../src/engine/engine.ts";
import { SoftVcpu } from "../../src/engine/soft/soft.ts";
import {
  allocateMachineMemory,
  ARENA_BASE,
  ARENA_BYTES as MACHINE_ARENA_BYTES,
  RAM_BASE,
} from "../../src/machine/memory.ts";
import { FX, GUEST_PAGES, PAGE, R } from "./arena.ts";

const RAM_BYTES = 4 << 20;
/** Guest-physical places. System pages are seen by the supervisor at SYSTEM + their place. */
const PML4 = 0x1000, SYSTEM_PDPT = 0x2000, SYSTEM_PD = 0x3000, PDPT = 0x4000, PD = 0x5000, PT = 0x6000;
const GDT = 0x10000, IDT = 0x11000, TSS = 0x12000, HANDLERS = 0x13000, STACK_TOP = 0x16000;
const SYSTEM = 0x7000_0000_0000;
const ARENA = 0x10_0000;
const HANDLER_BYTES = 16;
/** Selectors as in a Linux process. */
const KERNEL_CS = 0x10, USER_SS = 0x2b, USER32_CS = 0x23, USER_CS = 0x33, TR_SELECTOR = 0x40;
const SLICES = 10_000;
const HAS_ERROR_CODE = (1 << 8) | (1 << 10) | (1 << 11) | (1 << 12) | (1 << 13) | (1 << 14) | (1 << 17);

/** Nothing is on this board: user code never reaches it. */
class NoBoard implements Board {
  msrLo = 0;
  msrHi = 0;
  ioRead = () => 0;
  ioWrite = () => {};
  mmioRead = () => 0;
  mmioWrite = () => {};
  acknowledge = () => -1;
  readTpr = () => 0;
  writeTpr = () => {};
  readMsr = () => false;
  writeMsr = () => false;
}

/** One instruction at a time; as the interpreter runs; compiled as soon as it is entered. */
export type Manner = "step" | "run" | "compile";

export class Soft {
  readonly vcpu: SoftVcpu;
  readonly #ram: GuestRam;
  readonly #u8: Uint8Array;
  readonly #u16: Uint16Array;
  readonly #u32: Uint32Array;
  readonly #saved: Uint8Array;
  readonly #savedLegacy: Uint8Array;
  #legacy = false;
  #ns = 0;
  /** Cases that were compiled. */
  compiled = 0;
  /** For tests of the comparison itself: changes a result. */
  spoil?: (out: Uint32Array, at: number) => void;

  /** `base`: the arena's address. `tiered`: with the second tier, and then without counting instructions. */
  constructor(readonly base: number, readonly tiered = false) {
    const memory = allocateMachineMemory(RAM_BYTES), buffer = memory.buffer;
    this.#u8 = new Uint8Array(buffer);
    this.#u16 = new Uint16Array(buffer);
    this.#u32 = new Uint32Array(buffer);
    const ram = this.#ram = new GuestRam(buffer, RAM_BASE, RAM_BYTES);
    const parts = new Arena(buffer, ARENA_BASE, MACHINE_ARENA_BYTES);
    const codeMap = new CodeMap(buffer, parts.raw(CodeMap.sizeBytes(RAM_BYTES)), RAM_BYTES);
    ram.onWrite = (gpa, bytes) => codeMap.wrote(gpa, bytes);
    const events = new Int32Array(buffer, parts.raw(64), 1);
    this.#tables();
    this.vcpu = new SoftVcpu({
      index: 0,
      memory,
      ram,
      board: new NoBoard(),
      clock: { nowNs: () => tiered ? this.#ns++ : this.#ns },
      codeMap,
      events,
      cpu: MAX_CPU,
      eventsIndex: 0,
      icount: tiered ? null : { setNs: (ns) => (this.#ns = ns) },
    });
    const user = { selector: USER_SS, base: 0, limit: 0xffff_ffff, rights: 0xc0f3 }, none = { ...user, selector: 0 };
    this.vcpu.setState({
      rip: base,
      rflags: 0x202,
      cr0: (CR0.PE | CR0.MP | CR0.ET | CR0.NE | CR0.WP | CR0.AM | CR0.PG) >>> 0,
      cr3: PML4,
      cr4: CR4.PAE | CR4.PGE | CR4.OSFXSR | CR4.OSXMMEXCPT | CR4.FSGSBASE | CR4.OSXSAVE,
      efer: EFER.SCE | EFER.LME | EFER.LMA | EFER.NXE,
      gpr: {},
      segments: {
        cs: { selector: USER_CS, base: 0, limit: 0xffff_ffff, rights: 0xa0fb },
        ss: user,
        ds: none,
        es: none,
        fs: none,
        gs: none,
        tr: { selector: TR_SELECTOR, base: SYSTEM + TSS, limit: 0x67, rights: 0x8b },
      },
      gdtr: { base: SYSTEM + GDT, limit: 0x4f },
      idtr: { base: SYSTEM + IDT, limit: 32 * 16 - 1 },
    });
    const v = this.vcpu;
    v.put64("xcr0", 7);
    v.exports.updateMode(v.base);
    this.#saved = this.#u8.slice(v.base, v.base + S.END);
    for (
      const [n, selector, rights] of [[CS, USER32_CS, 0xc0fb], [DS, USER_SS, 0xc0f3], [ES, USER_SS, 0xc0f3]] as const
    ) {
      v.put("segSelector", selector, n);
      v.put("segRights", rights, n);
    }
    v.exports.updateMode(v.base);
    this.#savedLegacy = this.#u8.slice(v.base, v.base + S.END);
    this.#u8.set(this.#saved, v.base);
    v.exports.updateMode(v.base);
  }

  #tables(): void {
    const ram = this.#ram, present = 1, write = 2, user = 4, large = 0x80;
    ram.write64(PML4, PDPT | present | write | user);
    ram.write64(PML4 + 8 * (SYSTEM / 2 ** 39), SYSTEM_PDPT | present | write);
    ram.write64(SYSTEM_PDPT, SYSTEM_PD | present | write);
    ram.write64(SYSTEM_PD, present | write | large);
    ram.write64(PDPT + 8 * (this.base >>> 30), PD | present | write | user);
    ram.write64(PD + 8 * ((this.base >>> 21) & 511), PT | present | write | user);
    for (const p of GUEST_PAGES) {
      for (let at = p.at; at < p.at + p.bytes; at += PAGE) {
        const slot = PT + 8 * (((this.base + at) >>> 12) & 511);
        ram.write(slot, 4, (ARENA + at) | present | user | (p.write ? write : 0));
        ram.write(slot + 4, 4, p.execute ? 0 : 0x8000_0000);
      }
    }
    const descriptor = (selector: number, low: number, high: number) => {
      ram.write(GDT + (selector & ~7), 4, low);
      ram.write(GDT + (selector & ~7) + 4, 4, high);
    };
    descriptor(KERNEL_CS, 0xffff, 0x00af9b00);
    descriptor(0x18, 0xffff, 0x00cf9300);
    descriptor(0x20, 0xffff, 0x00cffb00);
    descriptor(USER_SS, 0xffff, 0x00cff300);
    descriptor(USER_CS, 0xffff, 0x00affb00);
    descriptor(TR_SELECTOR, 0x67 | ((TSS & 0xffff) << 16), 0x00008b00 | ((TSS >> 16) & 0xff));
    ram.write(GDT + TR_SELECTOR + 8, 4, SYSTEM / 2 ** 32);
    ram.write64(TSS + 4, SYSTEM + STACK_TOP);
    ram.write(TSS + 0x66, 2, 0x68);
    for (let v = 0; v < 32; v++) {
      const handler = HANDLERS + v * HANDLER_BYTES;
      ram.write(IDT + v * 16, 4, (handler & 0xffff) | (KERNEL_CS << 16));
      // INT3 and INTO are for everybody.
      ram.write(IDT + v * 16 + 4, 4, (handler & 0xffff_0000) | (v === 3 || v === 4 ? 0xee00 : 0x8e00));
      ram.write(IDT + v * 16 + 8, 4, SYSTEM / 2 ** 32);
      ram.write(handler, 2, 0xfeeb); // jmp to itself
    }
  }

  /** Copies a stretch of the arena in. */
  copyIn(at: number, bytes: Uint8Array): void {
    this.#ram.copyIn(ARENA + at, bytes);
  }
  /** The guest's bytes of a stretch of the arena, to look at. */
  bytes(at: number, length: number): Uint8Array {
    return this.#ram.bytes(ARENA + at, length)!;
  }

  /**
   * Runs one case from its record (words of `input` from word `from`) and leaves the results in `out` from word `to`: until
   * `exit` or `taken` (offsets in the arena, UD2 there) is reached, a fault, or `limit` instructions.
   */
  execute(
    input: Uint32Array,
    from: number,
    out: Uint32Array,
    to: number,
    exit: number,
    taken: number,
    manner: Manner,
    limit: number,
    legacy = false,
  ): void {
    this.#load(input, from, legacy);
    const v = this.vcpu;
    if (manner === "compile") {
      if (v.compileHere()) this.compiled++;
      // Each look at the clock is a slice.
      for (let slices = 0; slices < SLICES; slices++) {
        v.run(this.#ns + 1);
        if (v.get("cpl") === 0) break;
      }
    } else if (manner === "run") {
      for (let tries = 0; tries < 4; tries++) {
        v.run(this.#ns + limit);
        if (v.get("cpl") === 0) break;
      }
    } else {
      for (let n = 0; n < limit; n++) {
        v.step();
        const rip = v.get("rip") >>> 0;
        if (v.get("cpl") === 0 || rip === this.base + exit || rip === this.base + taken) break;
      }
    }
    this.#store(out, to, exit, taken);
    this.spoil?.(out, to);
  }

  #load(input: Uint32Array, from: number, legacy: boolean): void {
    const v = this.vcpu, u32 = this.#u32, at = v.base >> 2;
    if (v.get("cpl") !== 3 || legacy !== this.#legacy) {
      this.#legacy = legacy;
      const saved = legacy ? this.#savedLegacy : this.#saved;
      // Back to user mode, as before the first case.
      const keep = (field: keyof typeof S, bytes: number) =>
        this.#u8.set(saved.subarray(S[field], S[field] + bytes), v.base + S[field]);
      keep("segSelector", S.gdtrBase - S.segSelector);
      for (const f of ["cpl", "mode", "dtlb", "itlb", "unitTraps", "inhibit"] as const) keep(f, 4);
    }
    for (let i = 0; i < 32; i++) u32[at + i] = input[from + i]!;
    v.exports.setRflags(v.base, input[from + R.FLAGS / 4]!);
    u32[at + S.rip / 4] = input[from + R.RIP / 4]!;
    u32[at + S.rip / 4 + 1] = input[from + R.RIP / 4 + 1]!;
    u32[at + S.segBase / 4 + 2 * GS] = input[from + R.GS / 4]!;
    u32[at + S.segBase / 4 + 2 * GS + 1] = input[from + R.GS / 4 + 1]!;
    u32[at + S.cr2 / 4] = u32[at + S.cr2 / 4 + 1] = 0;
    const fx = from + R.FX / 4;
    for (let i = 0; i < 64; i++) u32[at + S.xmm / 4 + i] = input[fx + FX.XMM / 4 + i]!;
    for (let i = 0; i < 64; i++) u32[at + S.ymmHigh / 4 + i] = input[from + R.YMM / 4 + i]!;
    u32[at + S.mxcsr / 4] = input[fx + FX.MXCSR / 4]!;
    const word = input[fx]!, fsw = word >>> 16, top = (fsw >> 11) & 7, tags = input[fx + FX.FTW / 4]! & 0xff;
    this.#u16[(v.base + S.fcw) >> 1] = word & 0xffff;
    this.#u16[(v.base + S.fop) >> 1] = input[fx + 1]! >>> 16;
    for (let i = 0; i < 2; i++) {
      u32[at + S.fip / 4 + i] = input[fx + 2 + i]!;
      u32[at + S.fdp / 4 + i] = input[fx + 4 + i]!;
    }
    this.#u16[(v.base + S.fsw) >> 1] = fsw & ~(7 << 11);
    u32[at + S.ftop / 4] = top;
    for (let i = 0; i < 8; i++) {
      const p = (top + i) & 7, st = fx + FX.ST / 4 + 4 * i, fpr = at + S.fpr / 4 + 4 * p;
      u32[fpr] = input[st]!;
      u32[fpr + 1] = input[st + 1]!;
      u32[fpr + 2] = input[st + 2]! & 0xffff;
      this.#u8[v.base + S.fempty + p] = (tags >> p) & 1 ? 0 : 1;
    }
  }

  #store(out: Uint32Array, to: number, exit: number, taken: number): void {
    const v = this.vcpu, u32 = this.#u32, at = v.base >> 2;
    for (let i = 0; i < 32; i++) out[to + i] = u32[at + i]!;
    out.fill(0, to + R.FLAGS / 4, to + R.FX / 4);
    out[to + R.FLAGS / 4] = v.exports.rflags(v.base);
    let rip = v.get("rip") >>> 0, ripHigh = v.get("rip", 1);
    let vector = -1, error = 0;
    if (v.get("cpl") === 0) {
      vector = (rip - (HANDLERS + SYSTEM) % 2 ** 32) / HANDLER_BYTES;
      const stack = (RAM_BASE + STACK_TOP) >> 2;
      if (vector < 32 && (HAS_ERROR_CODE >> vector) & 1) error = u32[stack - 12]!;
      rip = u32[stack - 10]!;
      ripHigh = u32[stack - 9]!;
      out[to + R.FLAGS / 4] = u32[stack - 6]!;
      out[to + 2 * RSP] = u32[stack - 4]!;
      out[to + 2 * RSP + 1] = u32[stack - 3]!;
    }
    const atExit = rip === this.base + exit, atTaken = rip === this.base + taken;
    if ((vector === -1 || vector === 6) && ripHigh === 0 && (atExit || atTaken)) out[to + R.EXIT / 4] = atTaken ? 1 : 0;
    else {
      out[to + R.SIGNAL / 4] = 1;
      out[to + R.TRAP / 4] = vector;
      out[to + R.ERROR / 4] = error;
      out[to + R.RIP / 4] = rip;
      out[to + R.RIP / 4 + 1] = ripHigh;
      if (vector === 14) {
        out[to + R.CR2 / 4] = u32[at + S.cr2 / 4]!;
        out[to + R.CR2 / 4 + 1] = u32[at + S.cr2 / 4 + 1]!;
      }
    }
    out[to + R.GS / 4] = u32[at + S.segBase / 4 + 2 * GS]!;
    out[to + R.GS / 4 + 1] = u32[at + S.segBase / 4 + 2 * GS + 1]!;
    const fx = to + R.FX / 4;
    for (let i = 0; i < 64; i++) out[fx + FX.XMM / 4 + i] = u32[at + S.xmm / 4 + i]!;
    for (let i = 0; i < 64; i++) out[to + R.YMM / 4 + i] = u32[at + S.ymmHigh / 4 + i]!;
    out[fx + FX.MXCSR / 4] = u32[at + S.mxcsr / 4]!;
    const top = u32[at + S.ftop / 4]! & 7;
    out[fx] = this.#u16[(v.base + S.fcw) >> 1]! | ((this.#u16[(v.base + S.fsw) >> 1]! | (top << 11)) << 16);
    let tags = 0;
    for (let i = 0; i < 8; i++) {
      const p = (top + i) & 7, st = fx + FX.ST / 4 + 4 * i, fpr = at + S.fpr / 4 + 4 * p;
      out[st] = u32[fpr]!;
      out[st + 1] = u32[fpr + 1]!;
      out[st + 2] = u32[fpr + 2]! & 0xffff;
      out[st + 3] = 0;
      if (this.#u8[v.base + S.fempty + p] === 0) tags |= 1 << p;
    }
    out[fx + FX.FTW / 4] = tags | (this.#u16[(v.base + S.fop) >> 1]! << 16);
    for (let i = 0; i < 2; i++) {
      out[fx + 2 + i] = u32[at + S.fip / 4 + i]!;
      out[fx + 4 + i] = u32[at + S.fdp / 4 + i]!;
    }
  }
}
