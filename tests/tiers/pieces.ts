/** Pieces of random programs: see program.ts. */
import { Random } from "../diff/random.ts";
import { Asm } from "./asm.ts";
import { ALIAS, CODE, CODE_PAGES, DATA, PAGE, STACK_2_TOP, STACK_TOP, VECTOR } from "./layout.ts";
import { randomInstruction } from "./rows.ts";

const BASES = [0x40_0000n, 0x7f12_3440_0000n, 0xffff_9000_0040_0000n] as const;
/** In the first page of data: counters of the loops, then tables of targets. */
const COUNTERS = DATA + 0x800, TABLES = DATA + 0xa00;
export const CC_NZ = 5, CC_Z = 4;

/**
 * A program under construction. `_kind` adds a piece of that kind; the registers that its random instructions make addresses of have
 * been set.
 */
export class Pieces {
  readonly random: Random;
  readonly a = new Asm(CODE);
  readonly base: bigint;
  readonly user: boolean;
  readonly instructions: number[] = [];
  readonly recoveries: number[] = [];
  readonly pieces: string[] = [];
  readonly tables: { at: number; label: string }[] = [];
  labels = 0;
  counters = 0;

  constructor(seed: number) {
    const random = this.random = new Random(seed);
    this.base = random.pick(BASES);
    this.user = random.once(2);
  }

  name(): string {
    return `l${this.labels++}`;
  }
  /** Notes where an instruction begins. */
  op(emit: () => void): void {
    this.instructions.push(this.a.at);
    emit();
  }
  some(low: number, high: number): void {
    for (let n = this.random.between(low, high); n > 0; n--) {
      const code = randomInstruction(this.random);
      this.op(() => this.a.raw(code));
    }
  }
  /** Into the middle of the next page, by a jump. */
  toNextPage(): void {
    const a = this.a, to = this.name(), rest = PAGE - (a.at % PAGE);
    if (rest < 8) return;
    this.op(() => a.jmp(to));
    a.raw(new Array(Math.min(rest - 5 + this.random.below(40), 600)).fill(0xcc));
    a.label(to);
  }

  /** R8 in plain data, R9 near the end of a page whose next is read-only, R10 and R11 near others, R12 code or nowhere. */
  setPointers(): void {
    const a = this.a, random = this.random;
    const near = (page: number) => DATA + page * PAGE + random.between(-40, 24);
    const set = (r: number, offset: number) => this.op(() => a.mov(r, this.base + BigInt(offset)));
    if (random.once(3)) return set(8, DATA + random.between(PAGE + 64, 2 * PAGE - 64));
    set(8, DATA + random.between(PAGE + 64, 2 * PAGE - 64));
    set(9, near(random.pick([1, 2, 7])));
    set(10, near(random.pick([3, 4, 5])));
    set(11, near(random.pick([5, 6, 7])));
    const pick = random.below(4);
    if (pick === 0) {
      this.op(() => a.mov(12, random.pick([0x8000_0000_0000n, 0x7fff_ffff_fff8n, 0xffff_7fff_ffff_fff0n])));
    } else if (pick === 1) set(12, ALIAS + random.below(CODE_PAGES * PAGE));
    else set(12, DATA + 6 * PAGE + random.below(PAGE - 64));
    if (random.once(2)) this.op(() => a.mov(4, this.base + BigInt(STACK_TOP - 8 * random.below(4))));
  }

  /** A counter in memory; gives its place. */
  counter(value: number): number {
    const a = this.a, at = COUNTERS + 4 * this.counters++;
    a.place(`c${at}`, at);
    this.op(() => {
      a.hex("C7 05");
      a.rel32(`c${at}`, 4);
      a.u32(value);
    });
    return at;
  }
  decrement(at: number): void {
    this.op(() => {
      this.a.hex("FF 0D");
      this.a.rel32(`c${at}`);
    });
  }

  _line(): void {
    this.some(4, 16);
  }

  _loop(): void {
    const counter = this.counter(this.random.between(2, 40)), head = this.name();
    this.a.label(head);
    this.some(1, 6);
    this.decrement(counter);
    this.op(() => this.a.jcc(CC_NZ, head));
  }

  _nest(): void {
    const a = this.a, random = this.random, head = this.name(), inner = this.name(), out = this.name();
    const outer = this.counter(random.between(2, 8));
    a.label(head);
    const counter = this.counter(random.between(2, 12));
    a.label(inner);
    this.some(1, 3);
    this.op(() => a.jcc(random.below(16), out));
    this.some(1, 3);
    this.decrement(counter);
    this.op(() => a.jcc(CC_NZ, inner));
    a.label(out);
    this.decrement(outer);
    this.op(() => a.jcc(CC_NZ, head));
  }

  _diamond(): void {
    const a = this.a, random = this.random;
    for (let n = random.between(1, 5); n > 0; n--) {
      const other = this.name(), end = this.name();
      this.some(1, 3);
      this.op(() => a.jcc(random.below(16), other));
      this.some(0, 3);
      this.op(() => a.jmp(end));
      a.label(other);
      this.some(0, 3);
      a.label(end);
    }
  }

  /** A function called in a loop, directly or through a register or memory; sometimes from another page. */
  _call(): void {
    const a = this.a, random = this.random, f = this.name(), over = this.name(), head = this.name();
    this.op(() => a.jmp(over));
    a.label(f);
    this.some(1, 5);
    if (random.once(3)) {
      const g = this.name(), past = this.name();
      this.op(() => a.call(g));
      this.op(() => a.jmp(past));
      a.label(g);
      this.some(0, 3);
      this.op(() => a.hex("C3"));
      a.label(past);
    }
    this.op(() => a.hex("C3"));
    if (random.once(2)) this.toNextPage();
    a.label(over);
    const counter = this.counter(random.between(2, 20)), how = random.below(3);
    a.label(head);
    if (how === 0) this.op(() => a.call(f));
    else if (how === 1) {
      this.op(() => a.lea(5, f));
      this.op(() => a.hex("FF D5")); // call rbp
    } else {
      const at = this.table([f]);
      this.op(() => {
        a.hex("FF 15");
        a.rel32(`t${at}`);
      });
    }
    this.some(0, 2);
    this.decrement(counter);
    this.op(() => a.jcc(CC_NZ, head));
  }

  table(labels: readonly string[]): number {
    const at = TABLES + 8 * this.tables.length;
    for (const [n, label] of labels.entries()) this.tables.push({ at: at + 8 * n, label });
    this.a.place(`t${at}`, at);
    return at;
  }

  /** Deeper than compiled code calls itself. */
  _recurse(): void {
    const a = this.a, random = this.random, f = this.name(), over = this.name(), out = this.name();
    const both = random.once(3), g = this.name();
    this.op(() => a.mov32(1, random.pick([1, 3, 60, 198, 199, 200, 201, 202, 260, 420])));
    this.op(() => a.call(f));
    this.op(() => a.jmp(over));
    a.label(f);
    this.op(() => a.hex("FF C9")); // dec ecx
    this.op(() => a.jcc(CC_Z, out));
    if (random.once(2)) this.op(() => a.hex("48 01 C8")); // add rax, rcx
    this.op(() => a.call(both ? g : f));
    this.op(() => a.hex("48 8D 44 48 03")); // lea rax, [rax + rcx * 2 + 3]
    a.label(out);
    this.op(() => a.hex("C3"));
    if (both) {
      if (random.once(2)) this.toNextPage();
      a.label(g);
      this.op(() => a.hex("48 83 EC 08")); // sub rsp, 8
      this.op(() => a.call(f));
      this.op(() => a.hex("48 83 C4 08"));
      this.op(() => a.hex("C3"));
    }
    a.label(over);
  }

  _table(): void {
    const a = this.a, random = this.random, end = this.name(), head = this.name();
    const cases = Array.from({ length: random.between(2, 5) }, () => this.name());
    const at = this.table(cases), counter = this.counter(random.between(3, 24));
    a.label(head);
    this.op(() => {
      a.hex("8B 0D"); // mov ecx, [counter]
      a.rel32(`c${counter}`);
    });
    this.op(() => a.hex("31 D2")); // xor edx, edx
    this.op(() => a.hex("89 C8")); // mov eax, ecx
    this.op(() => a.mov32(1, cases.length));
    this.op(() => a.hex("F7 F1")); // div ecx
    this.op(() => a.lea(0, `t${at}`));
    if (random.once(2)) this.op(() => a.hex("FF 24 D0")); // jmp [rax + rdx * 8]
    else {
      this.op(() => a.hex("48 8B 14 D0"));
      this.op(() => a.hex("FF E2")); // jmp rdx
    }
    for (const label of cases) {
      a.label(label);
      this.some(0, 3);
      if (random.once(3)) this.toNextPage();
      this.op(() => a.jmp(end));
    }
    a.label(end);
    this.decrement(counter);
    this.op(() => a.jcc(CC_NZ, head));
  }

  /** Returns that do not lead to the instruction behind the call. */
  _return(): void {
    const a = this.a, random = this.random, f = this.name(), to = this.name(), over = this.name();
    const head = this.name(), counter = this.counter(random.between(1, 12)), how = random.below(6);
    a.label(head);
    if (how === 0) {
      this.op(() => a.lea(0, to));
      this.op(() => a.hex("50"));
      this.op(() => a.hex("C3"));
    } else {
      if (how === 4) this.op(() => a.hex("50"));
      this.op(() => a.call(f));
      this.some(0, 2);
      this.op(() => a.jmp(over));
      a.label(f);
      this.some(0, 2);
      if (how === 1) {
        this.op(() => a.lea(2, to));
        this.op(() => a.hex("48 89 14 24")); // mov [rsp], rdx
        this.op(() => a.hex("C3"));
      } else if (how === 2) {
        this.op(() => a.hex("58")); // pop rax
        this.op(() => a.jmp(to));
      } else if (how === 3) this.op(() => a.hex("48 83 04 24 00 C3")); // add qword [rsp], 0; ret
      else if (how === 4) this.op(() => a.hex("C2 08 00")); // ret 8
      else {
        this.op(() => a.mov(2, random.pick([0x8000_0000_0000n, 0x1234n, this.base + BigInt(DATA + 3 * PAGE)])));
        this.op(() => a.hex("52")); // push rdx: a return to nowhere
        this.op(() => a.hex("C3"));
      }
    }
    a.label(to);
    this.some(0, 2);
    a.label(over);
    this.decrement(counter);
    this.op(() => a.jcc(CC_NZ, head));
  }

  /** A function that changes to another stack, calls there, and comes back. */
  _stack(): void {
    const a = this.a,
      random = this.random,
      f = this.name(),
      g = this.name(),
      over = this.name(),
      head = this.name();
    this.op(() => a.jmp(over));
    a.label(f);
    this.op(() => a.hex("48 89 E5")); // mov rbp, rsp
    this.op(() => a.mov(4, this.base + BigInt(STACK_2_TOP - 16 * random.below(4))));
    this.op(() => a.call(g));
    if (random.once(2)) this.op(() => a.hex("50 5A")); // push rax; pop rdx
    this.op(() => a.hex("48 89 EC"));
    this.op(() => a.hex("C3"));
    a.label(g);
    if (random.once(3)) this.op(() => a.hex("48 87 EC")); // xchg rsp, rbp: returns where f's caller is
    else this.op(() => a.hex("48 FF C0"));
    this.op(() => a.hex("C3"));
    a.label(over);
    const counter = this.counter(random.between(1, 10));
    a.label(head);
    this.op(() => a.call(f));
    this.decrement(counter);
    this.op(() => a.jcc(CC_NZ, head));
  }

  /** Writes an immediate, an opcode or a displacement of an instruction that comes soon, or came before. */
  #change(alias: boolean): void {
    const a = this.a, random = this.random, head = this.name(), victim = this.name(), field = this.name();
    const counter = this.counter(random.between(2, 10)), backwards = random.once(3);
    const store = () => {
      // add byte [victim's field], n
      const address = alias ? `alias-${field}` : field;
      const how = random.below(3);
      this.op(() => {
        a.hex(how === 0 ? "80 05" : how === 1 ? "C6 05" : "00 0D"); // add, mov imm8; add [..], cl
        a.rel32(address, how === 2 ? 0 : 1);
        if (how !== 2) a.raw([random.below(256)]);
      });
      this.some(0, 2);
      if (random.once(3)) this.op(() => a.short(0xeb, victim));
    };
    const change = () => {
      a.label(victim);
      const what = random.below(3);
      this.instructions.push(a.at);
      if (what === 0) a.hex("05"), a.label(field), a.u32(random.next()); // add eax, imm32
      else if (what === 1) {
        // test dl, dl; jcc +2; inc, inc: the condition changes
        a.hex("84 D2"), a.label(field), a.hex("74 04 FF C0 FF C3");
      } else a.hex("48 8D 40"), a.label(field), a.hex("05"); // lea rax, [rax + disp8]
    };
    a.label(head);
    if (backwards) change();
    else store();
    if (backwards) {
      const behind = this.name();
      this.op(() => a.short(0xeb, behind));
      a.label(behind);
      this.op(() => {
        a.hex("80 05");
        a.rel32(alias ? `alias-${field}` : field, 1);
        a.raw([random.below(7) + 1]);
      });
    } else change();
    a.place(`alias-${field}`, a.labels.get(field)! + ALIAS);
    this.decrement(counter);
    this.op(() => a.jcc(CC_NZ, head));
  }
  _change(): void {
    this.#change(false);
  }
  _alias(): void {
    this.#change(true);
  }

  /** A page of code, data or stack goes, or loses a right; whoever needs it brings it back. */
  _page(): void {
    const a = this.a, random = this.random, head = this.name(), counter = this.counter(random.between(1, 8));
    a.label(head);
    const page = random.pick([
      (CODE >> 12) + random.below(CODE_PAGES),
      (a.at >> 12) + random.below(2),
      (DATA >> 12) + random.pick([1, 4, 5, 6, 7]),
      STACK_TOP >> 12,
    ]);
    this.op(() => a.mov32(0, page));
    this.op(() => a.mov32(1, random.pick([1, 1, 2])));
    this.op(() => a.hex(`CD ${VECTOR.CALL.toString(16)}`));
    this.some(1, 4);
    if (random.once(2)) this.op(() => a.hex("50 58")); // push rax; pop rax
    if (random.once(2)) this.op(() => a.raw([0x4d, 0x8b, 0x12])); // mov r10, [r10]
    this.decrement(counter);
    this.op(() => a.jcc(CC_NZ, head));
  }

  /** TF: an exception after each instruction. */
  _trap(): void {
    const a = this.a;
    this.op(() => a.hex("9C")); // pushfq
    this.op(() => a.hex("81 0C 24 00 01 00 00")); // or dword [rsp], 100h
    this.op(() => a.hex("9D")); // popfq
    this.some(1, 12);
    this.op(() => a.hex("9C 81 24 24 FF FE FF FF 9D"));
  }

  _string(): void {
    const a = this.a, random = this.random, counter = this.counter(random.between(1, 6)), head = this.name();
    a.label(head);
    const edge = () => DATA + random.pick([1, 2, 3, 4, 5, 6]) * PAGE + random.between(-48, 8);
    this.op(() => a.mov(6, this.base + BigInt(edge())));
    this.op(() => a.mov(7, this.base + BigInt(edge())));
    this.op(() => a.mov32(1, random.below(48)));
    if (random.once(6)) this.op(() => a.hex("FD")); // std
    const opcode = random.pick([0xa4, 0xa5, 0xa6, 0xaa, 0xab, 0xac, 0xae]);
    this.op(() => a.raw([random.pick([0xf3, 0xf3, 0xf2]), ...(random.once(3) ? [0x48] : []), opcode]));
    this.op(() => a.hex("FC"));
    this.decrement(counter);
    this.op(() => a.jcc(CC_NZ, head));
  }

  /** SYSCALL and INT3 from user code; interrupts held off and let in from the supervisor's. */
  _ask(): void {
    const a = this.a, random = this.random, head = this.name(), counter = this.counter(random.between(1, 10));
    a.label(head);
    if (random.once(3)) this.op(() => a.hex("CC"));
    else if (this.user) {
      this.some(0, 2);
      this.op(() => a.hex("0F 05"));
    } else {
      this.op(() => a.hex("FA"));
      this.some(0, 3);
      this.op(() => a.hex("FB")); // sti, and one more
      this.some(1, 2);
      if (random.once(2)) this.op(() => a.hex("8C D2 8E D2")); // mov edx, ss; mov ss, edx
    }
    this.some(0, 2);
    this.decrement(counter);
    this.op(() => a.jcc(CC_NZ, head));
  }

  /** Across pages and words. */
  _locked(): void {
    const a = this.a, random = this.random, head = this.name(), counter = this.counter(random.between(1, 8));
    a.label(head);
    const r = random.pick([9, 10, 11]) - 8;
    this.op(() => a.raw([0xf0, 0x4d, 0x0f, 0xc1, r])); // lock xadd [r], r8
    this.op(() => a.raw([0x49, 0x87, 0x40 | r, random.below(16)])); // xchg [r + n], rax
    this.op(() => a.raw([0xf0, 0x49, 0x0f, 0xb1, 0x48 | r, random.below(16)])); // lock cmpxchg [r + n], rcx
    this.op(() => a.raw([0xf0, 0x49, 0x0f, 0xba, 0x68 | r, random.below(16), random.below(64)])); // lock bts
    // Of the operand sizes 8, 16, 32 and 64, and all rows that may be locked but CMPXCHG8B and CMPXCHG16B.
    for (let n = random.between(1, 3); n > 0; n--) {
      const size = random.pick([[0x41, 0], [0x41, 1], [0x49, 1], [0x66, 0x41, 1]]), wide = size.at(-1)!;
      const emit = (opcode: readonly number[], reg: number, ...imm: number[]) =>
        a.raw([0xf0, ...size.slice(0, -1), ...opcode, 0x40 | (reg << 3) | r, random.below(16), ...imm]);
      this.op(() => {
        switch (random.below(6)) {
          case 0: // ADD to XOR, with register and immediate
            return emit([8 * random.below(7) + wide], random.pick([0, 1, 2]));
          case 1:
            return emit([wide ? 0x83 : 0x80], random.below(7), random.below(256));
          case 2: // INC, DEC; NOT, NEG
            return emit([0xfe + wide], random.below(2));
          case 3:
            return emit([0xf6 + wide], 2 + random.below(2));
          case 4: // XADD, CMPXCHG
            return emit([0x0f, random.pick([0xc0, 0xb0]) + wide], random.pick([0, 1, 2]));
          default: // BTS, BTR, BTC
            if (wide) emit([0x0f, 0xba], random.pick([5, 6, 7]), random.below(64));
            else emit([0x86], random.pick([0, 1, 2]));
        }
      });
    }
    this.some(0, 2);
    this.decrement(counter);
    this.op(() => a.jcc(CC_NZ, head));
  }

  _divide(): void {
    const a = this.a, random = this.random;
    this.some(1, 2);
    if (random.once(2)) this.op(() => a.hex("31 D2"));
    this.op(() => a.raw([...(random.once(2) ? [0x48] : []), 0xf7, random.pick([0xf1, 0xf3, 0xf9, 0xfb, 0xf6])]));
    this.some(1, 3);
  }

  /** Into the middle of an instruction that is another one from there. */
  _odd(): void {
    const a = this.a, random = this.random, middle = this.name(), head = this.name();
    const counter = this.counter(random.between(2, 6));
    a.label(head);
    this.op(() => a.hex("A8 01")); // test al, 1
    this.op(() => a.jcc(random.pick([CC_Z, CC_NZ]), middle));
    this.op(() => a.hex("48 B8")); // mov rax, imm64: in it inc eax; add eax, ecx; nop
    a.label(middle);
    a.hex("FF C0 01 C8 90 90 90 90");
    this.some(0, 3);
    this.decrement(counter);
    this.op(() => a.jcc(CC_NZ, head));
  }
}
