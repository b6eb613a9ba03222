/**
 * What an engine owes: vCPUs that run guest code over the machine's memory and hand everything else to the board.
 *
 * An engine opens its vCPUs in the Worker that will run them. `run` returns only for the reasons below; port and memory-mapped
 * I/O, interrupts and APIC registers go through `Board` from within `run`. No lock is held when the board is called.
 */
import type { I8254Record } from "../../devices/i8254.ts";
import type { I8259Record } from "../../devices/i8259.ts";
import type { IoApicRecord } from "../../devices/io_apic.ts";
import type { LocalApicRecord } from "../../devices/local_apic_registers.ts";
import type { Clock } from "../base/clock.ts";
import type { CodeMap } from "../base/code_map.ts";
import type { MemoryMap } from "../base/memory_map.ts";
import type { GuestRam } from "../base/ram.ts";
import type { View } from "../base/record.ts";
import type { CpuSpec } from "../machine/spec.ts";
import type { VcpuState } from "./vcpu_state.ts";

/** What a vCPU's exits reach. Each call takes the machine lock by itself. Values are unsigned; `size` is 1, 2 or 4 bytes. */
export interface Board {
  ioRead(port: number, size: number): number;
  ioWrite(port: number, size: number, value: number): void;
  mmioRead(gpa: number, size: number): number;
  mmioWrite(gpa: number, size: number, value: number): void;
  /** The INTA cycle: the vector of the interrupt to take now, which becomes in-service, or -1 if there is none after all. */
  acknowledge(vcpu: number): number;
  /** CR8. */
  readTpr(vcpu: number): number;
  writeTpr(vcpu: number, value: number): void;
  /**
   * MSRs that live in the local APIC: IA32_APIC_BASE (1Bh), IA32_TSC_DEADLINE (6E0h), x2APIC (800h..8FFh). Answers in
   * `msrLo`/`msrHi`. False: the access faults (#GP).
   */
  readMsr(vcpu: number, msr: number): boolean;
  writeMsr(vcpu: number, msr: number, lo: number, hi: number): boolean;
  msrLo: number;
  msrHi: number;
}

/**
 * Bits of a vCPU's event word, one Int32 of shared memory. Any thread sets bits with Atomics.or and notifies; the vCPU looks
 * at them between instructions at its leisure (within about 100 µs), and at once when it waits in HLT.
 */
export const VcpuEvent = {
  /** The local APIC or the 8259A pair asks for an interrupt. Level: whoever changes the request recomputes it. */
  INTR: 1 << 0,
  NMI: 1 << 1,
  INIT: 1 << 2,
  /** A start-up IPI; its vector is in bits 8..15. */
  SIPI: 1 << 3,
  /** It is part of the event: whoever takes that takes it along, for a word that is not 0 says that there is something to do. */
  SIPI_VECTOR: 0xff << 8,
  /** Leave `run` with "kick". Cleared by the engine. */
  KICK: 1 << 4,
} as const;

/** Why `run` returned. `halt`: HLT with nothing to do; `shutdown`: triple fault; `error`: the host failed (see `lastError`). */
export type ExitReason = "slice" | "kick" | "halt" | "shutdown" | "error";

/**
 * Who is the machine's interrupt controllers while its vCPUs run: the board's models (`user`), the host's kernel, with the PIT
 * (`kernel`), or the kernel for the local APICs and the board for the others (`split`).
 */
export type IrqChip = "user" | "split" | "kernel";

/**
 * The records of what a host's kernel can be in the board's place. While no vCPU runs they are the truth, whoever is in charge
 * otherwise: see HostChips.
 */
export interface ChipRecords {
  readonly pic: View<typeof I8259Record>;
  readonly ioApic: View<typeof IoApicRecord>;
  readonly pit: View<typeof I8254Record>;
  readonly apics: readonly View<typeof LocalApicRecord>[];
  /** Disarms the timers of the board's models of these. Under the machine lock. */
  disarm(): void;
}

/**
 * The chips of a host's kernel, from any thread of the machine. Wires and messages are offered to it first; false: the board's
 * models are in charge.
 */
export interface HostChips {
  wire(gsi: number, level: boolean): boolean;
  message(addressLo: number, addressHi: number, data: number): boolean;
  /**
   * Records to kernel, before vCPUs run: from here on it is in charge. Under the machine lock and while guest time moves, as
   * `store` is.
   */
  load(): void;
  /** Kernel to records, once no vCPU runs: the models are in charge again. */
  store(): void;
  /** Makes a vCPU look at its events at once. */
  poke(vcpu: number): void;
}

export interface PortRange {
  readonly port: number;
  readonly size: number;
}

/**
 * Addresses at which a write of any value says only that the disks have requests. An engine may ring HostBell for it, without an
 * exit.
 */
export interface Doorbells {
  /** Changes whenever they do, 32 bits. */
  readonly generation: number;
  /** Guest-physical, below 4 GiB. Takes the machine lock. */
  addresses(): number[];
}

/** What the thread that serves the disks sleeps on, where an engine rings by itself. */
export interface HostBell {
  /** From any thread, after the doorbell's word has changed: wakes the sleeper if there is one. */
  wake(): void;
  /** Sleeps if `idle` still holds, until it is woken or the guest rings. True: the guest has rung. */
  wait(idle: () => boolean): boolean;
  /** Whether the guest has rung since it was last asked; at once. */
  take(): boolean;
  close(): void;
}

/**
 * Which pages of RAM vCPUs have written to, from any thread of the machine. What the machine's own threads write is not in it:
 * that GuestRam.onWrite tells.
 */
export interface DirtyLog {
  start(): void;
  /**
   * Sets a bit for each page of 4 KiB written to since `start` or the last call, the first page's bit 0 of byte 0; perhaps of
   * others as well.
   */
  take(pages: Uint8Array): void;
  stop(): void;
}

/** A vCPU's way to the thread that compiles for all of the machine, and what that tells all of them. */
export interface SharedCompiler {
  readonly port: MessagePort;
  readonly news: SharedArrayBuffer;
}

export interface VcpuParts {
  readonly index: number;
  /** How many the machine has; 1 if not given. */
  readonly vcpus?: number;
  /** The processor to be; the engine's own choice if not given. */
  readonly cpu?: CpuSpec;
  /** 1 if the software CPU is not to compile hot code. */
  readonly tiers?: 1;
  /** Of a machine with several vCPUs on the software CPU. */
  readonly compiler?: SharedCompiler;
  /** What `takeImage` gave for the same vCPU of the same kind of machine, in this process or another of the same program. */
  readonly image?: Uint8Array<ArrayBuffer>;
  readonly memory: WebAssembly.Memory;
  readonly ram: GuestRam;
  /** ROM, video memory and the like. Without it RAM is all there is. */
  readonly memoryMap?: MemoryMap | null;
  readonly board: Board;
  readonly clock: Clock;
  /** Fed by `ram.onWrite` in every thread of the machine. */
  readonly codeMap: CodeMap;
  /** The event word: `events[eventsIndex]`. */
  readonly events: Int32Array;
  readonly eventsIndex: number;
  /** Sleeps up to `ms`, unless an event of the vCPU has risen since `rises` were counted; if one does, it is over. */
  readonly sleeper?: { rises(): number; wait(rises: number, ms: number): void };
  /** Time advances by instructions (see MachineSpec.icount): the engine reports through this before each board call. */
  readonly icount: { setNs(ns: number): void } | null;
  /** Given where the board's chips may be the host's; `irqchip` is what the user asks for, else the engine chooses. */
  readonly chips?: ChipRecords;
  readonly irqchip?: IrqChip;
  /** Every thread that raises an event of a vCPU calls `poke` after that. */
  readonly poked?: boolean;
  readonly doorbells?: Doorbells;
  /** Hears what the engine does with the guest's code: a short line, now and then. */
  readonly trace?: (what: string) => void;
  /** Instructions between two looks at events and the clock, of an engine that counts them; its own choice if not given. */
  readonly sliceInstructions?: number;
  /** Bytes for decoded code, of all vCPUs together; what there is if not given. */
  readonly codeBytes?: number;
  /** Ports whose writes may reach the board late, though in order: nothing the guest can see follows from them. */
  readonly posted?: readonly PortRange[];
}

/** Registers as a loader sets them: only what differs from the architectural reset state need be given. */
export interface SegmentState {
  readonly selector: number;
  readonly base: number;
  readonly limit: number;
  /** Access rights as in the descriptor's bits 40..47 and 52..55, packed as VMX does: type 0..3, S 4, DPL 5..6, P 7, AVL 12, L 13, D/B 14, G 15. */
  readonly rights: number;
}

export interface InitialState {
  readonly rip: number;
  readonly rflags: number;
  readonly cr0: number;
  readonly cr3: number;
  readonly cr4: number;
  readonly efer: number;
  readonly gpr: Partial<Record<GprName, number>>;
  readonly segments: Partial<Record<"cs" | "ds" | "es" | "fs" | "gs" | "ss" | "tr" | "ldtr", SegmentState>>;
  readonly gdtr: { readonly base: number; readonly limit: number };
  readonly idtr: { readonly base: number; readonly limit: number };
}

/** General registers by number, as ModRM has them. */
// deno-fmt-ignore
export const GPR_NAMES = [
  "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
  "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
] as const;
export type GprName = typeof GPR_NAMES[number];

/** Counters for --stats. Numbers only; keys are stable names. */
export type VcpuStats = Record<string, number>;

export interface Vcpu {
  /** The architectural reset state (vCPU 0 runs from it; others wait for INIT/SIPI). */
  reset(): void;
  setState(state: InitialState): void;
  /**
   * Runs guest code until something ends it; at most until guest time `untilNs` (roughly) passes. After "halt" it may be called
   * again with nothing to wake the vCPU, and answers "halt" again. Where instructions make the time, it may have moved on between
   * two calls (an idle machine skips to its next timer): each call counts on from `clock.nowNs()`.
   */
  run(untilNs: number): ExitReason;
  stats(): VcpuStats;
  /**
   * Copies the architectural state out, every field of it. Only between two calls of `run`, while guest time stands still.
   * Absent where an engine cannot.
   */
  save?(state: VcpuState): void;
  /**
   * Becomes what `state` says; guest time has been set before. Throws RestoreError, and changes nothing, if the state is not
   * one that this engine can be in. What waits in the event word goes back there.
   */
  restore?(state: VcpuState): void;
  /** What would spare the next start work that this one has done, once; null if this one was given it. */
  takeImage?(): Uint8Array<ArrayBuffer> | null;
  /** Makes a vCPU of the machine look at its events at once. Absent where vCPUs do so often enough by themselves. */
  poke?(vcpu: number): void;
  /** A few lines for a person: registers and where it stopped. */
  describe(): string;
  readonly lastError: Error | null;
}

export interface Engine {
  readonly name: "hvf" | "kvm" | "soft";
  openVcpu(parts: VcpuParts): Vcpu;
  /** Of a machine whose vCPUs are open. Absent where an engine keeps none. */
  dirtyLog?(parts: Pick<VcpuParts, "memory" | "ram" | "memoryMap">): DirtyLog;
}
