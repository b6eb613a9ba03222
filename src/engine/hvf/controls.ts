/**
 * Which VMX controls the engine runs with: what it needs and would like, fitted to what the host allows.
 *
 * A capability tells of each bit of a control whether it must be 1 (low half) and whether it may be (high half): [sdm3 §A.3].
 */
import { CPU_BASED, CPU_BASED2, PIN_BASED, VMENTRY, VMEXIT } from "../../../ffi/vmx.ts";

export interface Allowed {
  /** Bits that must be 1. */
  readonly must: number;
  /** Bits that may be 1. */
  readonly may: number;
}

/** From a capability of 64 bits. */
export function allowedOf(capability: bigint): Allowed {
  return { must: Number(capability & 0xffff_ffffn), may: Number((capability >> 32n) & 0xffff_ffffn) };
}

/** The bits asked for, as far as they are allowed, with those that must be. */
export function fit(bits: number, { must, may }: Allowed): number {
  return ((bits | must) & may) >>> 0;
}

export const CONTROL_NAMES = ["pin", "cpu", "cpu2", "exit", "entry"] as const;
export type ControlName = typeof CONTROL_NAMES[number];
export type Controls = Readonly<Record<ControlName, number>>;

interface Wish {
  /** Without these there is no guest. */
  readonly needed: readonly string[];
  readonly liked: readonly string[];
  readonly bits: Readonly<Record<string, number>>;
}

const WISHES: Readonly<Record<ControlName, Wish>> = {
  pin: { needed: ["INTR", "NMI", "VIRTUAL_NMI"], liked: [], bits: PIN_BASED },
  cpu: {
    // A guest's CR8 must be the board's, and every port is the board's.
    needed: ["HLT", "CR8_LOAD", "CR8_STORE", "UNCOND_IO", "SECONDARY_CTLS"],
    liked: ["TSC_OFFSET", "MWAIT", "MONITOR", "RDPMC", "MSR_BITMAPS"],
    bits: CPU_BASED,
  },
  cpu2: {
    needed: ["EPT", "UNRESTRICTED"],
    liked: ["VPID", "RDTSCP", "INVPCID", "VIRTUAL_APIC"],
    bits: CPU_BASED2,
  },
  exit: { needed: ["HOST_IA32E", "LOAD_EFER"], liked: ["SAVE_DBG_CONTROLS"], bits: VMEXIT },
  entry: { needed: ["LOAD_EFER"], liked: ["LOAD_DBG_CONTROLS"], bits: VMENTRY },
};

export interface Plan {
  readonly controls: Controls;
  /** Controls that the host does not allow and the engine cannot do without, by name. */
  readonly missing: readonly string[];
}

export function planControls(allowed: Readonly<Record<ControlName, Allowed>>): Plan {
  const controls = {} as Record<ControlName, number>, missing: string[] = [];
  for (const name of CONTROL_NAMES) {
    const { needed, liked, bits } = WISHES[name];
    const sum = (names: readonly string[]) => names.reduce((all, bit) => all | bits[bit]!, 0);
    controls[name] = fit(sum(needed) | sum(liked), allowed[name]);
    for (const bit of needed) if (((controls[name] & bits[bit]!) >>> 0) === 0) missing.push(`${name}.${bit}`);
  }
  return { controls, missing };
}

/** Fixed bits of a control register: 1 in `ones` must be 1, 0 in `maybe` must be 0: [sdm3 §A.7, §A.8]. */
export interface FixedBits {
  readonly ones: number;
  readonly maybe: number;
}

const CR0_PE = 1, CR0_PG = 0x8000_0000;
/** Where the host does not tell: what processors with unrestricted guests have in common. */
export const USUAL_CR0: FixedBits = { ones: 0x20, maybe: 0xffff_ffff };
export const USUAL_CR4: FixedBits = { ones: 0x2000, maybe: 0x0017_67ff };

/** CR0's, from the two capabilities: an unrestricted guest may switch off protection and paging. */
export function cr0Fixed(fixed0: number, fixed1: number): FixedBits {
  return { ones: (fixed0 & ~(CR0_PE | CR0_PG)) >>> 0, maybe: fixed1 >>> 0 };
}
