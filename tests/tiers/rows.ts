/** Random instructions that do not jump: any row, any operands, and mostly addresses that exist. */
import { isMemoryLetter, rowSizes } from "../../src/cpu/x86/arg.ts";
import {
  assemble,
  immediateBytes,
  type MemoryForm,
  operands,
  type Shape,
  shapeOf,
} from "../../src/cpu/x86/assemble.ts";
import { ROWS } from "../../src/cpu/x86/isa/index.ts";
import { INLINE } from "../../src/cpu/x86/jit/inline_rows.ts";
import type { Row } from "../../src/cpu/x86/row.ts";
import { FS, GS } from "../../src/cpu/x86/state.ts";
import type { Random } from "../diff/random.ts";

/** What asks for time or chance, ends the program, or leaves 64-bit code; MSRs and tables are the supervisor's. */
const LEFT_OUT =
  /^(RDTSCP?|RDRAND|RDSEED|RDPMC|RDPID|CPUID|HLT|INT|INTO|INT1|ICEBP|IRET|RETF?|JMPF?|CALLF?|SYS|XSETBV|XGETBV|[LS]GDT|[LS]IDT|LLDT|LTR|LMSW|WRMSR|RDMSR|MONITOR|MWAIT|VM|SK|ENCL|XABORT|XBEGIN|RSM|CLTS|INVD|WBINVD|INVPCID|INVLPG|SWAPGS|(WR|RD)[FG]SBASE|FX|XSAVE|XRSTOR|FN?SAVE|FRSTOR|POPF|STI|CLI|LSS|LFS|LGS|LAR|LSL|VERR|VERW)/;

interface Choice {
  readonly row: Row;
  readonly shape: Shape;
  readonly sizes: readonly number[];
}

const all: Choice[] = ROWS.filter((row) =>
  !row.ends && row.only !== "legacy" && !LEFT_OUT.test(row.name) &&
  !(row.args ?? "").split(",").some((a) => /^[SCDJ]/.test(a)) && row.elements !== "index"
).map((row) => {
  const shape = shapeOf(row), sizes = rowSizes(row, shape.args, true);
  return { row, shape, sizes: row.name === "BSWAP" ? [32, 64] : sizes };
});
const inPlace = all.filter(({ row }) =>
  !row.unit && !row.string && !row.cpl0 && (INLINE.has(row.name) || /^(CMOV|SET)/.test(row.name))
);
const vector = all.filter(({ row }) => row.unit === "sse" || row.unit === "avx");

/** Registers that hold addresses in the program's data, a code address, one that is not canonical: see program.ts. */
export const POINTERS = [8, 9, 10, 11, 12] as const;

export function randomInstruction(random: Random): number[] {
  for (;;) {
    const list = random.once(4) ? vector : random.once(8) ? all : inPlace;
    const code = attempt(random, random.pick(list));
    if (code && code.length <= 15) return code;
  }
}

function attempt(random: Random, { row, shape, sizes }: Choice): number[] | undefined {
  const o = operands(random.pick(sizes)), { args } = shape;
  if (row.string) {
    o.repeat = /^(LOOP|JCXZ|XLAT)/.test(row.name) ? 0 : random.below(3);
    if (o.repeat !== 0) return; // program.ts sets the count before
  }
  const mayRegister = !args.some((a) => a.letter === "M" || a.letter === "O");
  const memoryArg = args.findIndex((a) => isMemoryLetter(a.letter));
  const memory = memoryArg >= 0 && (!mayRegister || random.once(2));
  o.regs = args.map((a) => {
    if ("PQNF".includes(a.letter)) return random.below(8);
    if (a.size === "b" && "ERGZ".includes(a.letter) && random.once(4)) return 16 + random.below(4);
    for (;;) {
      const n = random.below(16);
      // Pointers and the stack's stay for longer than others.
      const vectors = "VWUHL".includes(a.letter);
      if (vectors || a.access === "r" || random.once(24) || (n !== 4 && !(POINTERS as readonly number[]).includes(n))) {
        return n;
      }
    }
  });
  if (memory && args[memoryArg]!.letter === "O") o.imm = random.next();
  else if (memory) {
    const m: MemoryForm = {
      base: random.pick(POINTERS),
      index: -1,
      scale: 0,
      disp: 0,
      dispBytes: 0,
      ripRelative: false,
    };
    m.disp = random.once(3) ? 0 : random.below(64) - 32;
    if (random.once(16)) m.base = random.below(16);
    if (random.once(4)) {
      m.index = random.pick([0, 1, 2, 3, 5, 6, 7]);
      m.scale = random.below(4);
    }
    if (random.once(10)) {
      Object.assign(m, { base: -1, index: -1, scale: 0, ripRelative: true, disp: 0x80000 + random.below(4096) });
    }
    o.memory = m;
    if (random.once(30)) o.address32 = true;
    if (random.once(16)) o.segment = random.once(2) ? FS : GS;
  }
  const imm = args.findIndex((a) => a.letter === "I");
  if (imm >= 0) {
    o.imm = immediateBytes(args[imm]!, o.size, true) === 1 ? random.below(256) : random.value32();
    o.immHigh = random.value32();
  }
  if (row.name === "ENTER") o.imm = random.below(32) | (random.below(4) << 16);
  if (row.lock && memory) o.lock = random.once(4);
  try {
    return assemble(shape, o);
  } catch {
    return undefined; // AH and its like beside REX
  }
}
