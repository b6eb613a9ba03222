/**
 * The state of one software vCPU: where each register lies, in bytes from the vCPU's base in the machine's memory.
 *
 * | at | what |
 * |---|---|
 * | 0 | registers (this file) |
 * | BOUNCE | data of an access that has no single place in RAM |
 * | TLB_LOG | which TLB entries were filled since the last flush |
 * | DTLB | three data TLBs: supervisor, user, supervisor with EFLAGS.AC (SMAP off) |
 * | ITLB | two instruction TLBs: supervisor, user |
 * | SCRATCH_OPS | operations decoded for one step |
 */

/** Size in bytes of a field, or [size, count]. Fields align to their size, at most 16. */
type Spec = 1 | 2 | 4 | 8 | 16 | readonly [1 | 2 | 4 | 8 | 16, number];

function layout<const T extends Record<string, Spec>>(
  fields: T,
): { readonly [K in keyof T]: number } & { readonly END: number } {
  const at: Record<string, number> = {};
  let next = 0;
  for (const [name, f] of Object.entries(fields)) {
    const [size, count] = typeof f === "number" ? [f, 1] : f;
    next = Math.ceil(next / size) * size;
    at[name] = next;
    next += size * count;
  }
  at.END = Math.ceil(next / 16) * 16;
  return at as { readonly [K in keyof T]: number } & { readonly END: number };
}

/** Register numbers, as in ModRM. */
export const RAX = 0, RCX = 1, RDX = 2, RBX = 3, RSP = 4, RBP = 5, RSI = 6, RDI = 7;
/** Pseudo registers that follow the sixteen: always 0; the virtual address of the page being run; for decoded helpers. */
export const ZERO = 16, VBASE = 17, TEMP = 18;

export const ES = 0, CS = 1, SS = 2, DS = 3, FS = 4, GS = 5, LDTR = 6, TR = 7;

/** Offset of general register `n` (or a pseudo register). The byte registers AH..BH are at 8n + 1. */
export const reg = (n: number): number => n * 8;

/** How many values of STATUS (ops.ts) there are. */
export const STATUSES = 11;

export const S = layout({
  /** RAX..R15, ZERO, VBASE, TEMP, one spare. First, so that an offset fits a byte. */
  gpr: [8, 20],
  /** Vector registers, low 128 bits. */
  xmm: [16, 16],
  /** Bits 128..255 of them. */
  ymmHigh: [16, 16],
  /** x87 registers by physical number: 64-bit significand at 0, sign and exponent at 8. MMX registers are the significands. */
  fpr: [16, 8],
  fcw: 2,
  /** Status word without TOP. */
  fsw: 2,
  /** TOP, 0..7. */
  ftop: 4,
  /** One byte a physical register: 1 means empty. */
  fempty: [1, 8],
  fop: 2,
  fip: 8,
  fdp: 8,
  fcs: 2,
  fds: 2,
  mxcsr: 4,

  /** Lazy status flags, see flags.ts. */
  fRes: 8,
  fA: 8,
  fB: 8,
  fKind: 4,
  /** RFLAGS without the six status flags; bit 1 is always set. */
  eflags: 4,

  /** Instruction pointer: valid outside of `run`, and where an operation that leaves the trace puts its target. */
  rip: 8,
  /** The operation record being executed, written before anything that may fault. */
  curOp: 4,
  /** Instructions left until `run` must return; kept by `run` in a local, written back when it leaves. */
  budget: 4,
  /** Instructions retired since the vCPU was opened. */
  retired: 8,

  /** ES CS SS DS FS GS LDTR TR. */
  segSelector: [4, 8],
  /** Packed as in engine.ts SegmentState.rights; bit 16: unusable. */
  segRights: [4, 8],
  /** In bytes, granularity applied. */
  segLimit: [4, 8],
  segBase: [8, 8],
  gdtrBase: 8,
  idtrBase: 8,
  gdtrLimit: 4,
  idtrLimit: 4,

  cr0: 8,
  cr2: 8,
  cr3: 8,
  cr4: 8,
  efer: 8,
  xcr0: 8,
  dr: [8, 8],

  star: 8,
  lstar: 8,
  cstar: 8,
  fmask: 8,
  kernelGsBase: 8,
  sysenterCs: 8,
  sysenterEsp: 8,
  sysenterEip: 8,
  pat: 8,
  tscAux: 8,
  /** Added to guest nanoseconds (1 GHz) to give the time-stamp counter. */
  tscOffset: 8,
  tscAdjust: 8,
  /** Where imports put 64-bit answers (RDTSC, RDMSR, RDRAND). */
  answer: 8,

  /** Current privilege level. */
  cpl: 4,
  /** MODE_* (decode key): 0 = 16-bit, 1 = 32-bit, 2 = 64-bit code; +4: 32-bit stack in legacy modes; +8: VM86 or real mode. */
  mode: 4,
  /** Offsets in memory of the data TLB in force, with its MICRO table, and of the instruction TLB. */
  dtlb: 4,
  micro: 4,
  itlb: 4,
  /**
   * Which units trap, kept by `updateMode` from CR0, CR4 and XCR0: bit 0 SSE, bit 1 x87 (and FWAIT needs its own look), bit 2
   * MMX, bit 3 AVX.
   */
  unitTraps: 4,
  /** INHIBIT: no interrupt before the next instruction has run, which is the one at `inhibitRip`. */
  inhibit: 4,
  /** An exception to deliver: vector, error code (-1: none). EXC_* in exception.ts. */
  excVector: 4,
  excError: 4,
  /** The last fault before its delivery may have replaced it: vector and error code. For messages. */
  faultVector: 4,
  faultError: 4,
  /** EXT of error codes, while an event that is not a software interrupt is being delivered: 0 or 1. */
  excExt: 4,
  /** 1: a task switch has replaced the registers; what faults from then on belongs to the new task. */
  taskSwitched: 4,
  /** Physical address found by the last translation (as f64-safe pair), for the decoder and for device accesses. */
  physLo: 4,
  physHi: 4,
  /** Size in bytes, and the parts, of an access that goes through the bounce buffer. */
  bounceKind: 4,
  bounceSize: 4,
  bouncePhys: [8, 2],
  bounceSplit: 4,
  /** Free slots in the log of TLB fills (tlb.ts); 0: the log is full, or has never been started. */
  tlbLogLeft: 4,
  /** 1: a global page has been put into the TLBs since all of them were emptied. Those are not in the log. */
  tlbGlobals: 4,
  /**
   * Range of linear addresses that pages of 1 GiB have put into the TLBs, so that INVLPG knows what to look for: those that are
   * not global, and those that are.
   */
  largeLo: [8, 2],
  largeHi: [8, 2],
  /** The same for pages of 2 and 4 MiB: one bit for each 4 MiB, modulo 8 GiB (tlb.ts). */
  largeMap: [8, 2 * 32],
  /** Counters for --stats. */
  tlbMisses: 4,
  pageFaults: 4,
  exceptions: 4,
  interrupts: 4,
  /** Retired in compiled regions, less what RegionTier has given them while they ran. */
  tierRetired: 8,
  /** How often the interpreter has entered a region, by the STATUS it came back with. */
  regionsLeft: [8, STATUSES],
  /** Address in memory of the event word. */
  events: 4,
  /** Address in memory of the code map's page bytes; pages of RAM; where guest RAM starts. */
  codePages: 4,
  ramPages: 4,
  ramBase: 4,
  /** Address in memory of the page directory of decoded code (code_cache.ts). */
  codeDir: 4,
  /** Counts invalidations of decoded code: a compiled region that sees it change leaves. */
  codeEpoch: 4,
  /** Why compiled regions were left: a STATUS. */
  exitStatus: 4,
  /** What was looked up last: its page of RAM, and its offset there with the mode from bit 12. */
  lookedPage: 4,
  lookedOffset: 4,
  /** Places that compiled code is often left for (hot.ts): how many, and each as lookedPage and lookedOffset had it. */
  hotPlaces: 4,
  hot: [4, 2 * 16],
  /** Guest nanoseconds when readTsc was last asked, and the budget then; tscKnown: that is not long ago. */
  tscRead: 8,
  tscBudget: 4,
  tscKnown: 4,
  /** For decoded helpers and deep functions: scratch. */
  scratch: [8, 16],
  /** Set by whoever wants operations counted or traced. */
  traceFlags: 4,
  misc: [4, 16],
  /** Address in memory of the word that serialises locked accesses across two words (locked.ts). */
  splitLock: 4,
  /** An operand of a locked access that is not aligned (locked.ts). */
  locked: [8, 6],
  /** Address in memory of the map of what is not plainly RAM (base/memory_map.ts), or 0. */
  memoryMap: 4,
  /** For a hypervisor's guest (exits.ts): instructions that leave; address in memory of the map of rights; where one lacked. */
  exits: 4,
  rights: 4,
  violation: 8,
  /** What `inhibit` holds for: only the instruction at this RIP. */
  inhibitRip: 8,
  /** RF has been loaded for the next instruction. */
  resumes: 4,
  /** From an NMI to the next IRET. */
  nmiBlocked: 4,
  /** Breakpoints (system/breakpoints.ts): the kinds enabled; an instruction is run by itself; which it has met; one wants to be. */
  breakpoints: 4,
  watching: 4,
  watchHits: 4,
  watchFault: 4,
  /** MWAIT: why HALT was left with. */
  mwait: 4,
  /** PAUSEs, until somebody looks. */
  pauses: 4,
  /** How often a place is left for before it is worth compiling (hot.ts). */
  hotLimit: 4,
  /** Native code: the host's stack pointer while it runs; how far down its stack may reach; the host address to enter it at. */
  nativeRsp: 8,
  nativeLimit: 8,
  nativeTarget: 8,
  /** The flags that it has left with, as putFlags of flag_forms.ts takes them. nativeForm 0: they are in the state as always. */
  nativeX: 8,
  nativeY: 8,
  nativeForm: 4,
  nativeExtra: 4,
  /** Of what is laid over the flags there (native/kept.ts): the result of an INC or DEC; ZF (byte 0) and that one's form (byte 1). */
  nativeStepX: 8,
  nativeOver: 4,
  /** MXCSR of the host while native code has the guest's. */
  nativeMxcsr: 4,
  /** STATUS.RESUME: the record to go on at. */
  resumeOp: 4,
  /** 1: vector registers and MXCSR are in the host's registers. */
  vectorsIn: 4,
});

/** After STI; after MOV SS and POP SS, which hold debug exceptions back as well. */
export const INHIBIT = { STI: 1, MOV_SS: 2 } as const;

/** Of S.mwait. BREAKS: as ECX says, an interrupt ends the wait even while IF is 0. */
export const MWAIT = { BREAKS: 1, WAITS: 2 } as const;

/** Bytes. */
export const BOUNCE = 0x1000;
export const TLB_LOG = 0x1400;
export const TLB_LOG_ENTRIES = 256;
export const SCRATCH_OPS = 0x1800;
export const DTLB = 0x2000;
/** Entries of each data TLB, a power of two. */
export const DTLB_ENTRIES = 1024;
/** A data TLB entry: tag for reads (8), tag for writes (8), addend (4): host offset = low 32 bits of the address + addend. */
export const DTLB_ENTRY = 32;
export const DTLB_BYTES = DTLB_ENTRIES * DTLB_ENTRY;
export const TLB_TAG_R = 0, TLB_TAG_W = 8, TLB_ADDEND = 16;
export const MMU_SUPERVISOR = 0, MMU_USER = 1, MMU_SUPERVISOR_AC = 2;

export const ITLB = DTLB + 3 * DTLB_BYTES;
export const ITLB_ENTRIES = 1024;
/** An instruction TLB entry: tag (8), address of the page's table of decoded entry points (4), physical page (4). */
export const ITLB_ENTRY = 16;
export const ITLB_BYTES = ITLB_ENTRIES * ITLB_ENTRY;

/**
 * In front of each data TLB, what compiled regions look at first: for each place of MICRO_WAYS, and for reads and writes apart,
 * the page it translated last (8 bytes) and, MICRO_HOSTS further on, where that lies in memory (4 of 8). What is here is in the
 * TLB too, or was until another page took its entry; whatever empties an entry of that empties all of this.
 *
 * An empty place has a page that no address is canonical in, and lies at 0 of the memory, where nothing is.
 */
export const MICRO = ITLB + 2 * ITLB_BYTES;
export const MICRO_WAYS = 64;
export const MICRO_BYTES = MICRO_WAYS * 2 * 8;
/** The data TLBs lie 2^MICRO_SHIFT times as far apart. */
export const MICRO_SHIFT = Math.log2(DTLB_BYTES / MICRO_BYTES);
export const MICRO_HOSTS = 3 * MICRO_BYTES;
export const MICRO_EMPTY = 0x9d;
/** Counts of places that compiled code is left for (hot.ts): the address of a record (4) and a count (4). */
export const HOT = MICRO + 6 * MICRO_BYTES;
export const HOT_ENTRIES = 1024;
/** How many may wait to be compiled. */
export const HOT_PLACES = 16;
/**
 * In front of the tables of entry points, which are large and used thinly: the address of an entry (4) and what it holds (4). By
 * `jumpEntry` of that address; whoever empties or replaces an entry empties this.
 */
export const JUMPS = HOT + HOT_ENTRIES * 8;
const JUMPS_LOG = 13;
export const JUMPS_FACTOR = 0x9e37_79b1 | 0, JUMPS_SHIFT = 32 - JUMPS_LOG, JUMPS_BYTES = 8 << JUMPS_LOG;
export const VCPU_BYTES = JUMPS + JUMPS_BYTES;

/** Offset within JUMPS of what stands for the entry point at address `slot`. */
export function jumpEntry(slot: number): number {
  return (Math.imul(slot, JUMPS_FACTOR) >>> JUMPS_SHIFT) * 8;
}

/** How deep compiled regions may call each other: each level is a frame on the host's stack. */
export const MAX_DEPTH = 200;
/** A vCPU's state lies at a multiple of it, where several vCPUs run the same compiled code. */
export const STATE_ALIGN = 1 << 20;

/**
 * A page's table of decoded entry points: an address for each offset, then a byte for each: 0, or that a jump through a register
 * or memory has gone there from the page, as 1 or as the number that compiled regions know it by.
 */
export const ENTRY_TABLE = { TARGETS: 4 * 4096, BYTES: 5 * 4096 } as const;

/** Decode keys. */
export const MODE_16 = 0, MODE_32 = 1, MODE_64 = 2, MODE_STACK32 = 4;

/** DR6 and DR7. */
export const DR6 = { B: 15, BD: 1 << 13, BS: 1 << 14 } as const, DR7 = { GD: 1 << 13 } as const;

/** RFLAGS. */
export const CF = 1 << 0,
  PF = 1 << 2,
  AF = 1 << 4,
  ZF = 1 << 6,
  SF = 1 << 7,
  TF = 1 << 8,
  IF = 1 << 9,
  DF = 1 << 10,
  OF = 1 << 11;
export const IOPL = 3 << 12,
  NT = 1 << 14,
  RF = 1 << 16,
  VM = 1 << 17,
  AC = 1 << 18,
  VIF = 1 << 19,
  VIP = 1 << 20,
  ID = 1 << 21;
export const STATUS_FLAGS = CF | PF | AF | ZF | SF | OF;

export const CR0 = {
  PE: 1 << 0,
  MP: 1 << 1,
  EM: 1 << 2,
  TS: 1 << 3,
  ET: 1 << 4,
  NE: 1 << 5,
  WP: 1 << 16,
  AM: 1 << 18,
  NW: 1 << 29,
  CD: 1 << 30,
  PG: 1 << 31,
} as const;
export const CR4 = {
  VME: 1 << 0,
  PVI: 1 << 1,
  TSD: 1 << 2,
  DE: 1 << 3,
  PSE: 1 << 4,
  PAE: 1 << 5,
  MCE: 1 << 6,
  PGE: 1 << 7,
  PCE: 1 << 8,
  OSFXSR: 1 << 9,
  OSXMMEXCPT: 1 << 10,
  UMIP: 1 << 11,
  FSGSBASE: 1 << 16,
  PCIDE: 1 << 17,
  OSXSAVE: 1 << 18,
  SMEP: 1 << 20,
  SMAP: 1 << 21,
} as const;
export const EFER = { SCE: 1 << 0, LME: 1 << 8, LMA: 1 << 10, NXE: 1 << 11 } as const;

/** Exception vectors. */
export const EXC = {
  DE: 0,
  DB: 1,
  NMI: 2,
  BP: 3,
  OF: 4,
  BR: 5,
  UD: 6,
  NM: 7,
  DF: 8,
  TS: 10,
  NP: 11,
  SS: 12,
  GP: 13,
  PF: 14,
  MF: 16,
  AC: 17,
  MC: 18,
  XM: 19,
} as const;

/**
 * An operation record: 16 bytes.
 *
 * | at | size | what |
 * |---|---|---|
 * | 0 | 2 | handler |
 * | 2 | 2 | offset in its page of the instruction's first byte (0..11), its length (12..15) |
 * | 4 | 1 | d: byte offset of the first register operand from the vCPU's base |
 * | 5 | 1 | s: second register operand |
 * | 6 | 1 | b: base register of the memory operand, as a byte offset (reg(ZERO) if none, reg(VBASE) if RIP-relative) |
 * | 7 | 1 | x: byte offset of the index register + log2 of the scale |
 * | 8 | 4 | immediate, or address of the operation jumped to (0: not yet known) |
 * | 12 | 4 | displacement |
 */
export const OP_BYTES = 16;
export const OP = { h: 0, ip: 2, d: 4, s: 5, b: 6, x: 7, imm: 8, disp: 12 } as const;

/**
 * What the directory at S.codeDir points to for a page with decoded code (code_cache.ts): a bit for each 64-byte line that
 * holds decoded bytes, the tables of entry points by decode mode, and 1 while this vCPU counts as a holder of the page.
 */
export const CODE_INFO = { LINES: 0, TABLES: 8, HELD: 8 + 8 * 4, BYTES: 8 + 8 * 4 + 4 } as const;
