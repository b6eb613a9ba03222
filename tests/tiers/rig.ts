/** One software vCPU with the memory of a program, and what its end is compared by. */
import { Arena } from "../../src/base/arena.ts";
import { CodeMap } from "../../src/base/code_map.ts";
import { GuestRam } from "../../src/base/ram.ts";
import { CR0, CR4, EFER, S } from "../../src/cpu/x86/state.ts";
import { MAX_CPU } from "../../src/cpu/x86/system/cpu_model.ts";
import type { Board, VcpuParts } from "../../src/engine/engine.ts";
import { type MakeCompiler, nativeTier } from "../../src/engine/soft/native/tier.ts";
import { SoftVcpu } from "../../src/engine/soft/soft.ts";
import { VcpuRecord } from "../../src/engine/vcpu_state.ts";
import { allocateMachineMemory, ARENA_BASE, ARENA_BYTES, RAM_BASE } from "../../src/machine/memory.ts";
import {
  ALIAS,
  AT,
  CODE,
  CODE_PAGES,
  DATA,
  DATA_PAGES,
  DATA_RIGHTS,
  PAGE,
  RAM_BYTES,
  SELECTOR,
  STACK,
  STACK_2,
  STACK_COUNT,
  STACK_PAGES,
  STACK_TOP,
  SYSTEM,
  VAR,
  VECTOR,
} from "./layout.ts";
import type { Program } from "./program.ts";
import { supervisor, VECTORS } from "./supervisor.ts";

/** Ports that answer by their number, and one interrupt that somebody asks for. */
class TestBoard implements Board {
  msrLo = 0;
  msrHi = 0;
  /** Called when the vCPU takes the interrupt. */
  onAcknowledge: () => void = () => {};
  ioRead = (port: number, size: number) => (port * 0x01010101 & (size === 4 ? -1 : (1 << 8 * size) - 1)) >>> 0;
  ioWrite = () => {};
  mmioRead = () => 0xffff_ffff;
  mmioWrite = () => {};
  acknowledge = () => {
    this.onAcknowledge();
    return VECTOR.INTERRUPT;
  };
  readTpr = () => 0;
  writeTpr = () => {};
  readMsr = () => false;
  writeMsr = () => false;
}

/** Guest-physical places, and how many words. */
const COUNTED = [[AT.DATA + 0x800, 128], [AT.VARS, 16]] as const;

/**
 * The time and its count. What HLT leaves in `activity` is seen by `run` only. The shadow of MOV SS may outlast the next instruction,
 * until somebody looks at events.
 */
const NOT_COMPARED = new Set(["tsc", "tscAdjust", "instructions", "activity", "shadow"]);

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

export class Rig {
  readonly vcpu: SoftVcpu;
  readonly board = new TestBoard();
  readonly ram: GuestRam;
  readonly events: Int32Array;
  readonly parts: Mutable<VcpuParts>;
  /** Each look at the clock takes a nanosecond; `onLook` hears of it. */
  ns = 0;
  onLook: () => void = () => {};
  onTrace: (what: string) => void = () => {};
  readonly #record = VcpuRecord.create();
  readonly #handlers = new Set<number>();
  readonly #inHandlers = new Set<number>();
  /** Guest RAM. */
  readonly #words: Uint32Array;

  /**
   * Hot code is compiled to machine code; `make`: by whom, if not by the program's own compiler. `vcpus`: of how many it is the
   * first.
   */
  constructor(native = false, make?: MakeCompiler, vcpus = 1) {
    const memory = allocateMachineMemory(RAM_BYTES), buffer = memory.buffer;
    const ram = this.ram = new GuestRam(buffer, RAM_BASE, RAM_BYTES);
    this.#words = new Uint32Array(buffer, RAM_BASE, RAM_BYTES / 4);
    const arena = new Arena(buffer, ARENA_BASE, ARENA_BYTES);
    const codeMap = new CodeMap(buffer, arena.raw(CodeMap.sizeBytes(RAM_BYTES)), RAM_BYTES);
    ram.onWrite = (gpa, bytes) => codeMap.wrote(gpa, bytes);
    this.events = new Int32Array(buffer, arena.raw(64), 1);
    const nowNs = () => {
      this.onLook();
      return this.ns++;
    };
    this.parts = {
      index: 0,
      vcpus,
      memory,
      ram,
      board: this.board,
      clock: { nowNs },
      codeMap,
      events: this.events,
      eventsIndex: 0,
      cpu: MAX_CPU,
      icount: null,
      codeBytes: 32 << 20,
      trace: (what) => this.onTrace(what),
    };
    this.vcpu = new SoftVcpu(this.parts, native ? nativeTier(make) : undefined);
  }

  load(p: Program): void {
    const { ram } = this;
    this.#words.fill(0);
    ram.wrote(0, RAM_BYTES);
    this.events[0] = 0;
    this.onLook = this.board.onAcknowledge = () => {};
    const cs = p.user ? SELECTOR.USER_CS : SELECTOR.KERNEL_CS, ss = p.user ? SELECTOR.USER_SS : SELECTOR.KERNEL_SS;
    this.#pageTables(p.base);
    this.#system(cs, ss, p);
    p.code.forEach((byte, at) => ram.write(codePage(at >> 12) + (at & 4095), 1, byte));
    ram.copyIn(AT.DATA, p.data);
    const stack = { selector: ss, base: 0, limit: 0xffff_ffff, rights: p.user ? 0xc0f3 : 0xc093 };
    const none = { ...stack, selector: 0 };
    const v = this.vcpu;
    v.setState({
      rip: 0,
      rflags: 0x202,
      cr0: (CR0.PE | CR0.MP | CR0.ET | CR0.NE | CR0.WP | CR0.AM | CR0.PG) >>> 0,
      cr3: AT.PML4,
      cr4: CR4.PAE | CR4.PGE | CR4.OSFXSR | CR4.OSXMMEXCPT | CR4.FSGSBASE | CR4.OSXSAVE,
      efer: EFER.SCE | EFER.LME | EFER.LMA | EFER.NXE,
      gpr: {},
      segments: {
        cs: { selector: cs, base: 0, limit: 0xffff_ffff, rights: p.user ? 0xa0fb : 0xa09b },
        ss: stack,
        ds: none,
        es: none,
        fs: none,
        gs: none,
        tr: { selector: SELECTOR.TR, base: SYSTEM + AT.TSS, limit: 0x67, rights: 0x8b },
      },
      gdtr: { base: SYSTEM + AT.GDT, limit: 0x4f },
      idtr: { base: SYSTEM + AT.IDT, limit: 256 * 16 - 1 },
    });
    v.put64("xcr0", 7);
    v.put64("rip", p.base + BigInt(p.start));
    p.registers.forEach((value, n) => v.put64("gpr", value, n));
    v.put64("gpr", p.base + BigInt(STACK_TOP), 4);
    v.put64("star", (BigInt(SELECTOR.USER_CS - 16) << 48n) | (BigInt(SELECTOR.KERNEL_CS) << 32n));
    v.put64("lstar", SYSTEM + AT.HANDLERS + supervisor(cs, ss, p.base + BigInt(STACK_TOP), p.base).syscall);
    v.put64("fmask", 0x700);
    v.exports.updateMode(v.base);
  }

  #pageTables(base: bigint): void {
    const { ram } = this, seen = 0x20, present = 1, write = 2, user = 4, large = 0x80;
    const table = seen | present | write | user;
    const slot = (shift: bigint) => 8 * Number((BigInt.asUintN(64, base) >> shift) & 511n);
    ram.write64(AT.PML4 + slot(39n), AT.PDPT | table);
    ram.write64(AT.PDPT + slot(30n), AT.PD | table);
    ram.write64(AT.PD + slot(21n), AT.PT | table);
    ram.write64(AT.PML4 + 8 * (SYSTEM / 2 ** 39), AT.SYSTEM_PDPT | seen | present | write);
    ram.write64(AT.SYSTEM_PDPT, AT.SYSTEM_PD | seen | present | write);
    ram.write64(AT.SYSTEM_PD, 0x40 | seen | present | write | large);
    const map = (offset: number, gpa: number, rights: number, repair: number) => {
      const at = (offset >> 12) * 8;
      ram.write64(AT.PT + at, gpa | seen | user | rights);
      ram.write64(AT.REPAIR + at, repair === 0 ? 0 : gpa | seen | user | repair);
    };
    for (let n = 0; n < CODE_PAGES; n++) {
      for (const place of [CODE, ALIAS]) map(place + n * PAGE, codePage(n), present | write, present | write);
    }
    for (let n = 0; n < DATA_PAGES; n++) {
      const { kind } = DATA_RIGHTS[n]!, at = AT.DATA + n * PAGE, all = present | write;
      if (kind === "absent") continue;
      if (kind === "plain") map(DATA + n * PAGE, at, all, all);
      else if (kind === "read-only") map(DATA + n * PAGE, at, present, 0);
      else map(DATA + n * PAGE, at, kind === "lazy" ? 0 : present, all);
    }
    for (let n = 0; n < STACK_PAGES; n++) {
      map(STACK + n * PAGE, AT.STACK + n * PAGE, present | write, present | write);
      map(STACK_2 + n * PAGE, AT.STACK + (STACK_PAGES + n) * PAGE, present | write, present | write);
    }
  }

  #system(cs: number, ss: number, p: Program): void {
    const { ram } = this;
    const descriptor = (selector: number, low: number, high: number) => {
      ram.write(AT.GDT + (selector & ~7), 4, low);
      ram.write(AT.GDT + (selector & ~7) + 4, 4, high);
    };
    descriptor(SELECTOR.KERNEL_CS, 0xffff, 0x00af9b00);
    descriptor(SELECTOR.KERNEL_SS, 0xffff, 0x00cf9300);
    descriptor(0x20, 0xffff, 0x00cffb00);
    descriptor(SELECTOR.USER_SS, 0xffff, 0x00cff300);
    descriptor(SELECTOR.USER_CS, 0xffff, 0x00affb00);
    descriptor(SELECTOR.TR, 0x67 | ((AT.TSS & 0xffff) << 16), 0x00008b00 | ((AT.TSS >> 16) & 0xff));
    ram.write(AT.GDT + SELECTOR.TR + 8, 4, SYSTEM / 2 ** 32);
    const stack = (n: number) => SYSTEM + AT.STACKS + (n + 1) * PAGE;
    ram.write64(AT.TSS + 4, stack(STACK_COUNT - 1));
    for (let n = 0; n < STACK_COUNT; n++) ram.write64(AT.TSS + 36 + 8 * n, stack(n));
    ram.write(AT.TSS + 0x66, 2, 0x68);
    const { bytes, vectors, places } = supervisor(cs, ss, p.base + BigInt(STACK_TOP), p.base);
    ram.copyIn(AT.HANDLERS, bytes);
    for (const at of vectors.values()) this.#handlers.add(SYSTEM + AT.HANDLERS + at);
    for (const at of places) this.#inHandlers.add(SYSTEM + AT.HANDLERS + at);
    for (const vector of VECTORS) {
      const handler = AT.HANDLERS + vectors.get(vector)!, at = AT.IDT + vector * 16;
      const ist = vector === 2 ? 2 : vector === 1 ? 3 : vector === VECTOR.INTERRUPT ? 4 : 1;
      const forAll = vector === 3 || vector === VECTOR.CALL || vector === VECTOR.END;
      ram.write(at, 4, (handler & 0xffff) | (SELECTOR.KERNEL_CS << 16));
      ram.write(at + 4, 4, (handler & 0xffff_0000) | (forAll ? 0xee00 : 0x8e00) | ist);
      ram.write(at + 8, 4, SYSTEM / 2 ** 32);
    }
    ram.write64(AT.VARS + VAR.RECOVERIES, p.recoveries.length);
    p.recoveries.forEach((offset, n) => {
      const to = BigInt.asUintN(64, p.base + BigInt(offset)), at = AT.VARS + VAR.TABLE + 8 * n;
      ram.write(at, 4, Number(to & 0xffff_ffffn));
      ram.write(at + 4, 4, Number(to >> 32n));
    });
  }

  /** What differs between two vCPUs that are looked at between two instructions: a line each. Quick, so not all of it. */
  differences(o: Rig): string[] {
    const a = this.vcpu, b = o.vcpu, found: string[] = [];
    const look = (name: string, x: bigint | number, y: bigint | number) => {
      if (x !== y) found.push(`${name} ${x.toString(16)} and ${y.toString(16)}`);
    };
    for (let n = 0; n < 16; n++) {
      const at = (a.base + S.gpr + 8 * n) >> 2;
      if (a.i32[at] !== b.i32[at] || a.i32[at + 1] !== b.i32[at + 1]) {
        look(`gpr${n}`, a.get64("gpr", n), b.get64("gpr", n));
      }
    }
    look("rip", a.get64("rip"), b.get64("rip"));
    look("rflags", a.exports.rflags(a.base) >>> 0, b.exports.rflags(b.base) >>> 0);
    look("cpl", a.get("cpl"), b.get("cpl"));
    return found;
  }

  /** Quickly: registers, and the words that programs and the supervisor count in, so that two turns of a loop differ. */
  equals(o: Rig): boolean {
    const a = this.vcpu, b = o.vcpu, at = (a.base + S.rip) >> 2, gpr = (a.base + S.gpr) >> 2;
    if (a.i32[at] !== b.i32[at] || a.i32[at + 1] !== b.i32[at + 1]) return false;
    for (let n = 0; n < 32; n++) if (a.i32[gpr + n] !== b.i32[gpr + n]) return false;
    for (const [from, words] of COUNTED) {
      for (let n = from >> 2; n < (from >> 2) + words; n++) if (this.#words[n] !== o.#words[n]) return false;
    }
    return a.exports.rflags(a.base) === b.exports.rflags(b.base) && a.get("cpl") === b.get("cpl");
  }

  /** Compiles the supervisor's code, as if at level 0. */
  compileHandlers(): void {
    const v = this.vcpu, cpl = v.get("cpl");
    v.put("cpl", 0);
    v.exports.updateMode(v.base);
    for (const at of [...this.#handlers, ...this.#inHandlers]) {
      v.put64("rip", at);
      v.compileHere();
    }
    v.put("cpl", cpl);
    v.exports.updateMode(v.base);
  }

  /** The whole architectural state, and all memory. */
  allDifferences(o: Rig): string[] {
    const found = this.differences(o), a = this.#saved(), b = o.#saved();
    for (const key of Object.keys(a)) {
      if (NOT_COMPARED.has(key)) continue;
      if (a[key] !== b[key]) found.push(`${key} ${a[key]} and ${b[key]}`);
    }
    const x = this.#words, y = o.#words;
    for (let n = 0; n < x.length && found.length < 12; n++) {
      if (x[n] !== y[n]) found.push(`[${(4 * n).toString(16)}] ${x[n]!.toString(16)} and ${y[n]!.toString(16)}`);
    }
    return found;
  }

  #saved(): Record<string, string> {
    this.vcpu.save(this.#record);
    const fields: Record<string, string> = {};
    for (const key of Object.keys(VcpuRecord.fields)) {
      fields[key] = String((this.#record as unknown as Record<string, unknown>)[key]);
    }
    return fields;
  }
}

/** The program's pages of code lie in another order in memory than in its address space. */
function codePage(n: number): number {
  return AT.CODE + ((n * 5 + 3) % 8) * PAGE;
}
