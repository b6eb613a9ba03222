/** VM entry, the guest, VM exit: [sdm3 §26 to §28]. */
import { FINAL, RIGHT, VIOLATION } from "../../src/cpu/x86/exits.ts";
import { STATUS } from "../../src/cpu/x86/ops.ts";
import { EVENT as KIND } from "../../src/cpu/x86/system/exception.ts";
import { ARENA_BASE, PAGE_BYTES, RAM_BASE } from "../../src/machine/memory.ts";
import { HV } from "./codes.ts";
import { controlFault, EVENT, eventFault, guestFault, stepFault } from "./entry.ts";
import { STOP } from "./cpu.ts";
import { instructionExit, type Outcome } from "./instructions.ts";
import { GUEST_PAGES, H, LAZY, LOW_PAGES, MAPPED, V } from "./process.ts";
import { machNs } from "./time.ts";
import type { VCpu } from "./vcpu.ts";
import { CPU, CPU2, F, PIN } from "./vmcs.ts";

export const REASON = {
  EXCEPTION: 0,
  IRQ: 1,
  TRIPLE_FAULT: 2,
  IRQ_WINDOW: 7,
  NMI_WINDOW: 8,
  CPUID: 10,
  GETSEC: 11,
  HLT: 12,
  INVD: 13,
  INVLPG: 14,
  RDPMC: 15,
  RDTSC: 16,
  VMCALL: 18,
  VMLAUNCH: 20,
  VMRESUME: 24,
  VMXOFF: 26,
  MOV_CR: 28,
  MOV_DR: 29,
  IO: 30,
  RDMSR: 31,
  WRMSR: 32,
  GUEST_STATE: 33,
  MWAIT: 36,
  MTF: 37,
  MONITOR: 39,
  TPR_THRESHOLD: 43,
  APIC_ACCESS: 44,
  EPT_VIOLATION: 48,
  EPT_MISCONFIG: 49,
  RDTSCP: 51,
  TIMER: 52,
  WBINVD: 54,
  XSETBV: 55,
  RDRAND: 57,
  INVPCID: 58,
  RDSEED: 61,
} as const;

export const FOREVER = 0xffff_ffff_ffff_ffffn;
const SLICE = 20_000;
const ZF = 0x40, IF = 0x200, TF = 0x100;
const DB = 1, UD = 6, DF = 8, PF = 14;
const ENTRY_FAILED = 0x8000_0000, CONTROL_ERROR = 7;
const VALID = 0x8000_0000, HAS_ERROR = 0x800;
/** A host with nothing to do sends an interrupt every so many slices, and looks after a sleeping guest that often. */
const HOST_SLICES = 24, IDLE_MS = 0.5;

/** An event on its way to the guest. */
interface Event {
  readonly vector: number;
  readonly type: number;
  /** -1: none. */
  readonly error: number;
  readonly length: number;
}

/** What ends a run: a reason, with what belongs to it. */
export interface Exit {
  readonly reason: number;
  readonly qualification?: bigint;
  readonly length?: number;
  readonly linear?: bigint;
  readonly info?: number;
}

/** Runs `v` until an exit that its program sees. `deadline`: null for hv_vcpu_run, else mach time, FOREVER among it. */
export function run(v: VCpu, deadline: bigint | null): number {
  if (deadline !== null && deadline !== FOREVER && v.quirks.noTimer) return HV.UNSUPPORTED;
  return new Run(v, deadline).run();
}

class Run {
  readonly #words: Int32Array;
  readonly #at: number;
  #slices = 0;
  /** The instruction has not run: a page was missing, which is there now. */
  #again = false;

  constructor(readonly v: VCpu, readonly deadline: bigint | null) {
    this.#words = v.process.words;
    this.#at = v.process.vcpu(v.id);
  }

  run(): number {
    const { v } = this, { cpu } = v;
    v.everRan = true;
    v.lastEntryFlags = 0;
    if ((v.controlsDirty ? controlFault(v.read) : eventFault(v.read)) !== null) {
      v.set(F.INSTR_ERROR, CONTROL_ERROR);
      v.lastEntryFlags = ZF;
      return HV.ERROR;
    }
    if ((v.guestDirty ? guestFault(v.read) : stepFault(v.read)) !== null) {
      this.#finish({ reason: (REASON.GUEST_STATE | ENTRY_FAILED) >>> 0 });
      return HV.SUCCESS;
    }
    if (!pdptesAgree(v)) {
      this.#finish({ reason: (REASON.GUEST_STATE | ENTRY_FAILED) >>> 0, qualification: PDPTE_FAILURE });
      return HV.SUCCESS;
    }
    v.controlsDirty = v.guestDirty = false;
    const began = machNs();
    v.set(F.IDT_VECTOR_INFO, 0);
    Atomics.store(this.#words, this.#at + V.RUNNING, 1);
    cpu.running = true;
    try {
      this.#prepare();
      this.#finish(this.#injected() ?? this.#loop());
    } finally {
      cpu.running = false;
      Atomics.store(this.#words, this.#at + V.RUNNING, 0);
      v.ranNs += Number(machNs() - began);
    }
    return HV.SUCCESS;
  }

  #prepare(): void {
    const { v } = this, { cpu } = v;
    v.set(F.INTERRUPTIBILITY, (v.fields.get(F.INTERRUPTIBILITY) ?? 0n) & ~3n);
    if (v.state.modeChanged) {
      v.state.modeChanged = false;
      cpu.exports.updateMode(cpu.base);
    }
    cpu.put64("tscOffset", v.totalTscOffset);
    cpu.put("exits", this.#stops());
    cpu.watchWindow = (v.control(F.CPU) & CPU.IRQ_WINDOW) !== 0;
    v.cr2 = cpu.get64("cr2");
    cpu.goesOn = () => this.#isQuiet();
  }

  /** Nothing has to be looked at between two instructions, and nothing will by the passing of time. */
  #isQuiet(): boolean {
    const words = this.#words, at = this.#at;
    if (this.deadline !== FOREVER || this.v.control(F.PIN) & PIN.TIMER) return false;
    return Atomics.load(words, at + V.KICK) === 0 && Atomics.load(words, H.EPOCH) === Atomics.load(words, at + V.SEEN);
  }

  /** Before which instructions the processor stops; what then happens, instructions.ts says. */
  #stops(): number {
    const { v } = this, cpu = v.control(F.CPU), cpu2 = v.control(F.CPU2);
    let stops = STOP.CPUID | STOP.CR | STOP.IO | STOP.MSR | STOP.CACHES | STOP.XSETBV;
    if (cpu & CPU.HLT) stops |= STOP.HLT;
    if (cpu & CPU.INVLPG) stops |= STOP.INVLPG | STOP.INVPCID;
    if (cpu & CPU.MOV_DR) stops |= STOP.DR;
    if (cpu & CPU.RDTSC) stops |= STOP.RDTSC | STOP.RDTSCP;
    if (cpu & CPU.RDPMC) stops |= STOP.RDPMC;
    if (!(cpu2 & CPU2.RDTSCP)) stops |= STOP.RDTSCP;
    if (!(cpu2 & CPU2.INVPCID)) stops |= STOP.INVPCID;
    if (cpu2 & CPU2.RDRAND) stops |= STOP.RDRAND;
    if (cpu2 & CPU2.RDSEED) stops |= STOP.RDSEED;
    if (v.blockedNmi) stops |= STOP.IRET;
    const bitmap = v.control(F.EXC_BITMAP);
    if (bitmap & ((1 << 3) | (1 << 4) | (1 << 1))) stops |= STOP.BREAK;
    return stops;
  }

  // ---- events ------------------------------------------------------------------------------------------------------------

  /** Injects what the program asks for; an exit if that meets with one. */
  #injected(): Exit | null {
    const { v } = this, info = v.control(F.ENTRY_IRQ_INFO);
    if (info >= 0) return null;
    v.set(F.ENTRY_IRQ_INFO, (info & ~VALID) >>> 0);
    const event: Event = {
      vector: info & 0xff,
      type: (info >>> 8) & 7,
      error: info & HAS_ERROR ? v.control(F.ENTRY_EXC_ERROR) & 0xffff : -1,
      length: v.control(F.ENTRY_INSTR_LEN),
    };
    v.halted = false;
    const exit = this.#deliver(event);
    if (event.type === EVENT.NMI) {
      v.blockedNmi = true;
      v.cpu.put("exits", this.#stops());
    }
    return exit;
  }

  /** Delivers an event through the guest's IDT. What goes wrong then is another exception, or an exit. */
  #deliver(event: Event): Exit | null {
    const { v } = this, { cpu } = v;
    const software = event.type >= EVENT.SOFTWARE;
    const kind = software && event.type !== EVENT.PRIVILEGED
      ? KIND.SOFTWARE
      : event.type === EVENT.HARDWARE && event.vector !== DB
      ? KIND.FAULT
      : event.type === EVENT.HARDWARE || event.type === EVENT.PRIVILEGED
      ? KIND.TRAP
      : KIND.EXTERNAL;
    const rip = cpu.get64("rip") + (software ? BigInt(event.length) : 0n);
    cpu.put("inhibit", 0);
    const status = cpu.exports.event(cpu.base, event.vector, event.error, kind, BigInt.asIntN(64, rip));
    if (status === STATUS.NEXT) {
      v.cr2 = cpu.get64("cr2");
      return null;
    }
    return this.#fault(event);
  }

  /** What the software CPU describes as a fault: memory that is not mapped, or an exception. `during`: what was delivered. */
  #fault(during: Event | null): Exit | null {
    const { cpu } = this.v, vector = cpu.get("excVector"), error = cpu.get("excError");
    if (vector === VIOLATION) return this.#violation(error, during);
    return this.#exception({ vector, type: EVENT.HARDWARE, error, length: 0 }, during);
  }

  /** The event that the instruction at RIP is in the middle of delivering, if it is one of the INT family. */
  #softwareEvent(): Event | null {
    const [first, second] = this.v.cpu.fetchBytes();
    const event = (vector: number, type: number, length: number) => ({ vector, type, error: -1, length });
    switch (first) {
      case 0xcd:
        return event(second!, EVENT.SOFTWARE, 2);
      case 0xcc:
        return event(3, EVENT.EXCEPTION, 1);
      case 0xce:
        return event(4, EVENT.EXCEPTION, 1);
      case 0xf1:
        return event(1, EVENT.PRIVILEGED, 1);
      default:
        return null;
    }
  }

  #exception(event: Event, during: Event | null): Exit | null {
    const { v } = this;
    if (event.vector === UD && !during) {
      const exit = instructionExit(v, true);
      if (exit !== null && exit !== "go on") return exit;
    }
    if (this.#isWanted(event)) {
      this.#tellEvent(F.EXIT_IRQ_INFO, F.EXIT_IRQ_ERROR, event);
      this.#tellDuring(during);
      const qualification = event.vector === PF ? v.cpu.get64("cr2") : event.vector === DB ? 1n << 14n : 0n;
      // The processor writes CR2 only when it delivers a page fault.
      if (event.vector === PF) v.cpu.put64("cr2", v.cr2);
      return { reason: REASON.EXCEPTION, qualification, length: event.length };
    }
    if (during?.type === EVENT.HARDWARE) {
      if (during.vector === DF) {
        this.#tellDuring(during);
        return { reason: REASON.TRIPLE_FAULT };
      }
      const contributory = (n: number) => n === 0 || (n >= 10 && n <= 13);
      const both = contributory(during.vector) && contributory(event.vector);
      if (both || (during.vector === PF && (event.vector === PF || contributory(event.vector)))) {
        return this.#exception({ vector: DF, type: EVENT.HARDWARE, error: 0, length: 0 }, during);
      }
    }
    return this.#deliver(event);
  }

  /** Whether the exception bitmap asks for it; a page fault also by its error code: [sdm3 §26.2]. */
  #isWanted(event: Event): boolean {
    const { v } = this, wanted = (v.control(F.EXC_BITMAP) & (1 << event.vector)) !== 0;
    if (event.vector !== PF) return wanted;
    return ((event.error & v.control(F.PF_MASK)) === v.control(F.PF_MATCH)) === wanted;
  }

  #tellEvent(info: number, error: number, event: Event): void {
    const hasError = event.error >= 0;
    const word = event.vector | (event.type << 8) | (hasError ? HAS_ERROR : 0) | VALID;
    this.v.set(info, word >>> 0);
    if (hasError) this.v.set(error, event.error);
  }
  #tellDuring(during: Event | null): void {
    if (during === null) return;
    this.#tellEvent(F.IDT_VECTOR_INFO, F.IDT_VECTOR_ERROR, during);
    if (during.type >= EVENT.SOFTWARE) this.v.set(F.EXIT_INSTR_LEN, during.length);
  }

  // ---- memory ------------------------------------------------------------------------------------------------------------

  #violation(error: number, during: Event | null): Exit | null {
    const { v } = this, { cpu } = v;
    const wanted = error & 7, gpa = BigInt(cpu.get("physLo") >>> 0) | (BigInt(cpu.get("physHi") >>> 0) << 32n);
    const page = Number(gpa / BigInt(PAGE_BYTES)), space = this.#words[this.#at + V.SPACE]!;
    const rights = page < GUEST_PAGES ? v.process.rights(space) : null, has = rights?.[page] ?? 0;
    if (has & LAZY && page < GUEST_PAGES) {
      // The kernel maps a page when it is touched first, and not every program sees that.
      const given = (has >> 3) & 7;
      rights![page] = MAPPED | given;
      const told = this.deadline === null && v.quirks.spurious && v.pick(4) === 0;
      if (!told && (given & wanted) === wanted) {
        if (during) return this.#deliver(during);
        this.#again = true;
        return null;
      }
    }
    const seen = has & LAZY ? 0 : has & 7;
    const final = (error & FINAL) !== 0, linear = cpu.get64("violation");
    v.set(F.GPA, gpa);
    this.#tellDuring(during ?? (wanted & RIGHT.EXEC ? null : this.#softwareEvent()));
    // What can be written and not read is no entry that the processor takes: [sdm3 §29.3.3.1].
    if ((seen & (RIGHT.READ | RIGHT.WRITE)) === RIGHT.WRITE) return { reason: REASON.EPT_MISCONFIG };
    if (gpa >> 12n === v.apicAddress >> 12n && v.control(F.CPU2) & CPU2.APIC_ACCESS) {
      const kind = during ? 3n : wanted & RIGHT.EXEC ? 2n : wanted & RIGHT.WRITE ? 1n : 0n;
      return { reason: REASON.APIC_ACCESS, qualification: (gpa & 0xfffn) | (kind << 12n), linear };
    }
    const qualification = BigInt(wanted | (seen << 3) | 0x80 | (final ? 0x100 : 0));
    return { reason: REASON.EPT_VIOLATION, qualification, linear };
  }

  // ---- the guest -----------------------------------------------------------------------------------------------------------

  #loop(): Exit {
    const { v } = this, { cpu } = v;
    for (;;) {
      const exit = this.#outside();
      if (exit) return exit;
      // HLT; shutdown and waiting for a start-up IPI, which nothing here ends.
      if (v.halted || v.fields.get(F.ACTIVITY)) {
        this.#sleep();
        continue;
      }
      const inhibit = cpu.get("inhibit"), trap = (cpu.get("eflags") & TF) !== 0;
      const one = inhibit !== 0 || trap || (v.control(F.CPU) & CPU.MTF) !== 0;
      cpu.put("inhibit", 0);
      const status = one ? cpu.step() : cpu.run(SLICE);
      this.#again = false;
      const ended = this.#status(status, inhibit);
      if (ended) return ended;
      if (this.#again) {
        cpu.put("inhibit", inhibit);
        continue;
      }
      if (trap && status === STATUS.SLICE) {
        cpu.put64("dr", cpu.get64("dr", 6) | (1n << 14n), 6);
        const exit = this.#exception({ vector: DB, type: EVENT.HARDWARE, error: -1, length: 0 }, null);
        if (exit) return exit;
      }
      if (v.control(F.CPU) & CPU.MTF) return { reason: REASON.MTF };
    }
  }

  #status(status: number, inhibit: number): Exit | null {
    const { v } = this;
    switch (status) {
      case STATUS.HALT:
        v.halted = true;
        return null;
      case STATUS.SHUTDOWN:
        return { reason: REASON.TRIPLE_FAULT };
      case STATUS.EXIT: {
        const before = v.blockedNmi;
        const outcome: Outcome = instructionExit(v, false);
        if (outcome === null) return this.#fault(null);
        if (v.blockedNmi !== before) v.cpu.put("exits", this.#stops());
        if (outcome !== "go on" && inhibit !== 0) v.cpu.put("inhibit", inhibit);
        return outcome === "go on" ? null : outcome;
      }
      case STATUS.FAULT: {
        const exit = this.#fault(null);
        // The shadow of STI and MOV SS is over only when an instruction is.
        if (exit && inhibit !== 0) v.cpu.put("inhibit", inhibit);
        return exit;
      }
      default:
        return null;
    }
  }

  /** What comes between two instructions. */
  #outside(): Exit | null {
    const { v } = this, { cpu } = v, words = this.#words, at = this.#at;
    const epoch = Atomics.load(words, H.EPOCH);
    if (Atomics.load(words, at + V.SEEN) !== epoch) {
      const maps = Atomics.load(words, H.MAPS);
      if (Atomics.exchange(words, at + V.MAPS, maps) !== maps) cpu.forgetCode();
      else cpu.exports.flushTlb(cpu.base);
      Atomics.store(words, at + V.SEEN, epoch);
    }
    if (Atomics.exchange(words, at + V.KICK, 0) !== 0) return { reason: REASON.IRQ };
    const controls = v.control(F.CPU), shadow = cpu.get("inhibit") !== 0;
    if (controls & CPU.NMI_WINDOW && !shadow && !v.blockedNmi) return { reason: REASON.NMI_WINDOW };
    if (controls & CPU.IRQ_WINDOW && !shadow && cpu.get("eflags") & IF) return { reason: REASON.IRQ_WINDOW };
    if (controls & CPU.TPR_SHADOW && !(controls & CPU.CR8_LOAD) && v.state.tpr >> 4 < v.control(F.TPR_THRESHOLD)) {
      return { reason: REASON.TPR_THRESHOLD };
    }
    if (this.deadline !== null && this.deadline !== FOREVER && machNs() >= this.deadline) {
      return { reason: REASON.TIMER };
    }
    if (v.control(F.PIN) & PIN.TIMER && this.#timerIsDue()) return { reason: REASON.TIMER };
    if (this.deadline === null && v.quirks.spurious && ++this.#slices > 1 && v.pick(HOST_SLICES) === 0) {
      return { reason: REASON.IRQ };
    }
    return null;
  }

  /** The program's own use of the preemption timer: its value counts down at the rate that MISC tells. */
  #startedNs = machNs();
  #timerIsDue(): boolean {
    return (machNs() - this.#startedNs) >> 5n >= (this.v.fields.get(F.VMX_TIMER) ?? 0n);
  }

  /** HLT without an exit. */
  #sleep(): void {
    const { cpu } = this.v, began = performance.now();
    // Arena words are aliased in the processor's own memory, where a thread can wait; nobody wakes it, so it does not wait long.
    Atomics.wait(cpu.i32, ARENA_BASE / 4 + this.#at + V.KICK, 0, IDLE_MS);
    this.v.idleNs += (performance.now() - began) * 1e6;
  }

  /** Writes what the exit tells. */
  #finish(exit: Exit): void {
    const { v } = this;
    const pdptes = pdptesInMemory(v);
    pdptes?.forEach((entry, i) => v.set(F.PDPTE0 + 2 * i, entry));
    v.set(F.EXIT_REASON, exit.reason);
    v.set(F.QUALIFICATION, exit.qualification ?? 0n);
    if (exit.length !== undefined) v.set(F.EXIT_INSTR_LEN, exit.length);
    v.set(F.GUEST_LINEAR, exit.linear ?? 0n);
    v.set(F.INSTR_INFO, exit.info ?? 0);
    if (exit.reason !== REASON.EXCEPTION) v.set(F.EXIT_IRQ_INFO, 0);
  }
}

// ---- PAE paging ----------------------------------------------------------------------------------------------------------

const PG = 1n << 31n, PAE = 1n << 5n, LMA = 1n << 10n;
/** Exit qualification of an entry that fails in loading them. */
const PDPTE_FAILURE = 2n;

/** The four entries that CR3 leads to, with PAE paging; null with any other. */
function pdptesInMemory(v: VCpu): bigint[] | null {
  if (!(v.read(F.CR0) & PG) || !(v.read(F.CR4) & PAE) || v.read(F.EFER) & LMA) return null;
  const gpa = Number(v.read(F.CR3) & 0xffff_ffe0n), page = Math.floor(gpa / PAGE_BYTES);
  const space = v.process.words[v.process.vcpu(v.id) + V.SPACE]!;
  if (page >= LOW_PAGES || v.process.rights(space)[page] === 0) return null;
  return [0, 8, 16, 24].map((at) => v.cpu.dv.getBigUint64(RAM_BASE + gpa + at, true));
}

/**
 * The processor takes the entries from the VMCS, where a program that changes CR3 has to put them; the software CPU takes them
 * from memory. Where they differ, a guest would go astray: here the entry fails at once.
 */
function pdptesAgree(v: VCpu): boolean {
  return pdptesInMemory(v)?.every((entry, i) => (v.fields.get(F.PDPTE0 + 2 * i) ?? 0n) === entry) ?? true;
}
