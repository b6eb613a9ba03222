/**
 * CPUID: what this processor is and can do: [sdm2 CPUID].
 *
 * A flag here is a promise: it is announced only if the rows behind it exist. Time is told exactly: a TSC and a bus clock of 1 GHz (leaves 15H, 16H).
 * The topology is one package of single-threaded cores, APIC IDs counted from 0.
 */
import { ROWS } from "../isa/index.ts";
import { CR4 } from "../state.ts";
import { type CpuModel, DEFAULT_CPU } from "./cpu_model.ts";
import { EAX, EBX, ECX, EDX, type Feature, FEATURES, INSTRUCTIONS, isFeature, type Place } from "./features.ts";
import { MAXPHYADDR } from "./walk.ts";

export type CpuidAnswer = [eax: number, ebx: number, ecx: number, edx: number];

export interface CpuidOptions {
  /** This vCPU's index, which is its APIC ID, and how many there are. */
  readonly vcpu: number;
  readonly vcpus: number;
  /** CR4 and IA32_APIC_BASE.EN as they are at the moment: two flags follow them. Reset values if not given. */
  readonly cr4?: () => number;
  readonly apicEnabled?: () => boolean;
  /** XCR0, likewise. */
  readonly xcr0?: () => number;
  /** What it announces; DEFAULT_CPU if not given. */
  readonly model?: CpuModel;
}

const mnemonics = new Set(ROWS.map((row) => row.name));

/** Whether this processor can announce `name`: it is in the table, and all of its instructions have rows. */
export function hasFeature(name: string): boolean {
  if (!isFeature(name)) return false;
  return (INSTRUCTIONS[name as Feature] ?? "").split(" ").every((m) => m === "" || mnemonics.has(m));
}

const VENDOR = "GenuineIntel";
const BRAND = "trike software CPU";
const HYPERVISOR = "TrikeTrikeTr";
/** Family 6; a model that no real processor has, so that no list of anybody's errata applies. */
const SIGNATURE = 0xf << 16 | 6 << 8 | 0xe << 4 | 1;

export const TSC_HZ = 1_000_000_000;
const TSC_KHZ = TSC_HZ / 1000, TSC_MHZ = TSC_HZ / 1_000_000;
const MAX_BASIC = 0x1f, MAX_HYPERVISOR = 0x4000_0010, MAX_EXTENDED = 0x8000_0008;
const LINE_BYTES = 64;
const MONITOR = 1 << 3, OSXSAVE = 1 << 27, APIC = 1 << 9, HTT = 1 << 28;

/** The XSAVE area: legacy region and header, then the upper halves of the YMM registers: [sdm1 §13.4]. */
const XSAVE_BYTES = 512 + 64, YMM_BYTES = 256;
const XCR0_SSE = 3, XCR0_AVX = 7;

/** Type (1 data, 2 code, 3 both), level, KiB, ways. */
const CACHES = [[1, 1, 32, 8], [2, 1, 32, 8], [3, 2, 1024, 16], [3, 3, 16384, 16]] as const;

function words(text: string, count: number): number[] {
  const bytes = new Uint8Array(4 * count);
  new TextEncoder().encodeInto(text, bytes);
  const view = new DataView(bytes.buffer);
  return Array.from({ length: count }, (_, i) => view.getUint32(4 * i, true));
}

/** The words of a model's flags, by leaf, subleaf and register. */
function flagWords(model: CpuModel): (leaf: number, subleaf: number, register: number) => number {
  const words = new Map<string, number>();
  for (const name of model.features) {
    if (!hasFeature(name)) continue;
    const [leaf, subleaf, register, bit]: Place = FEATURES[name as Feature];
    const key = `${leaf}.${subleaf}.${register}`;
    words.set(key, ((words.get(key) ?? 0) | (1 << bit)) >>> 0);
  }
  return (leaf, subleaf, register) => words.get(`${leaf}.${subleaf}.${register}`) ?? 0;
}

/** Answers for one vCPU; all values unsigned. */
export function cpuidTable(options: CpuidOptions): (leaf: number, subleaf: number) => CpuidAnswer {
  const { vcpu, vcpus, cr4 = () => 0, apicEnabled = () => true, xcr0 = () => 1, model = DEFAULT_CPU } = options;
  const flags = flagWords(model), avx = model.features.includes("AVX"), xsave = model.features.includes("XSAVE");
  /** Bits of an APIC ID that tell cores apart. */
  const coreBits = Math.ceil(Math.log2(vcpus));
  const coreIds = 2 ** coreBits;

  const basic = (leaf: number, subleaf: number): CpuidAnswer => {
    switch (leaf) {
      case 0: {
        const [b, d, c] = words(VENDOR, 3) as [number, number, number];
        return [MAX_BASIC, b, c, d];
      }
      case 1: {
        const ebx = (Math.min(vcpu, 255) << 24) | (Math.min(coreIds, 255) << 16) | ((LINE_BYTES / 8) << 8);
        const ecx = flags(1, 0, ECX) | (cr4() & CR4.OSXSAVE ? OSXSAVE : 0);
        const edx = (flags(1, 0, EDX) & (apicEnabled() ? -1 : ~APIC)) | (vcpus > 1 ? HTT : 0);
        return [SIGNATURE, ebx, ecx, edx];
      }
      case 2:
        // Descriptor FFH: see leaf 4.
        return [0xff01, 0, 0, 0];
      case 4:
        return cache(subleaf);
      case 5:
        // Lines of 64 bytes, watched by pages; MWAIT's extensions, with interrupts as break events; one C1 state.
        return flags(1, 0, ECX) & MONITOR ? [LINE_BYTES, 4096, 3, 1 << 4] : [0, 0, 0, 0];
      case 6:
        return [flags(6, 0, EAX), 0, 0, 0];
      case 7:
        if (subleaf === 0) return [2, flags(7, 0, EBX), flags(7, 0, ECX), flags(7, 0, EDX)];
        return subleaf === 2 ? [0, 0, 0, flags(7, 2, EDX)] : [0, 0, 0, 0];
      case 0xb:
      case 0x1f:
        return topology(subleaf);
      case 0xd:
        return xsave ? xsaveLeaf(subleaf) : [0, 0, 0, 0];
      case 0x15:
        return [1, 1, TSC_HZ, 0];
      case 0x16:
        return [TSC_MHZ, TSC_MHZ, TSC_MHZ, 0];
      default:
        return [0, 0, 0, 0];
    }
  };

  /** Sizes of the area: of what XCR0 has on, and of all there is. Component 2 is the YMM halves, in both formats at once. */
  const xsaveLeaf = (subleaf: number): CpuidAnswer => {
    const size = (bits: number) => XSAVE_BYTES + (bits & 4 ? YMM_BYTES : 0);
    const all = avx ? XCR0_AVX : XCR0_SSE;
    if (subleaf === 0) return [all, size(xcr0()), size(all), 0];
    if (subleaf === 1) return [flags(0xd, 1, EAX), flags(0xd, 1, EAX) & 2 ? size(xcr0()) : 0, 0, 0];
    if (subleaf === 2 && avx) return [YMM_BYTES, XSAVE_BYTES, 0, 0];
    return [0, 0, 0, 0];
  };

  const cache = (subleaf: number): CpuidAnswer => {
    const c = CACHES[subleaf];
    if (!c) return [0, 0, 0, 0];
    const [type, level, kib, ways] = c;
    const sharing = level === 3 ? coreIds : 1;
    const sets = kib * 1024 / ways / LINE_BYTES;
    const eax = type | (level << 5) | (1 << 8) | ((Math.min(sharing, 4096) - 1) << 14) |
      ((Math.min(coreIds, 64) - 1) << 26);
    return [eax, (LINE_BYTES - 1) | ((ways - 1) << 22), sets - 1, 0];
  };

  /** Level 0: threads of a core (one); level 1: cores of the package. */
  const topology = (subleaf: number): CpuidAnswer => {
    if (subleaf === 0) return [0, 1, 1 << 8, vcpu];
    if (subleaf === 1) return [coreBits, vcpus, (2 << 8) | 1, vcpu];
    return [0, 0, subleaf & 0xff, vcpu];
  };

  const extended = (leaf: number): CpuidAnswer => {
    switch (leaf) {
      case 0x8000_0000:
        return [MAX_EXTENDED, 0, 0, 0];
      case 0x8000_0001:
        return [0, 0, flags(leaf, 0, ECX), flags(leaf, 0, EDX)];
      case 0x8000_0002:
      case 0x8000_0003:
      case 0x8000_0004:
        return words(BRAND, 12).slice(4 * (leaf - 0x8000_0002)).slice(0, 4) as CpuidAnswer;
      case 0x8000_0006:
        // L2: 16 ways are written as 8.
        return [0, 0, (CACHES[2][2] << 16) | (8 << 12) | LINE_BYTES, 0];
      case 0x8000_0007:
        return [0, 0, 0, flags(leaf, 0, EDX)];
      case 0x8000_0008:
        return [MAXPHYADDR | (48 << 8), 0, 0, 0];
      default:
        return [0, 0, 0, 0];
    }
  };

  const hypervisor = (leaf: number): CpuidAnswer => {
    if (leaf === 0x4000_0000) return [MAX_HYPERVISOR, ...words(HYPERVISOR, 3)] as CpuidAnswer;
    if (leaf === MAX_HYPERVISOR) return [TSC_KHZ, TSC_KHZ, 0, 0];
    return [0, 0, 0, 0];
  };

  return (leaf, subleaf) => {
    leaf >>>= 0, subleaf >>>= 0;
    let answer: CpuidAnswer;
    if (leaf >= 0x4000_0000 && leaf <= MAX_HYPERVISOR) answer = hypervisor(leaf);
    else if (leaf >= 0x8000_0000 && leaf <= MAX_EXTENDED) answer = extended(leaf);
    // Beyond the last leaf: as the last basic one.
    else answer = basic(Math.min(leaf, MAX_BASIC), subleaf);
    return answer.map((v) => v >>> 0) as CpuidAnswer;
  };
}
