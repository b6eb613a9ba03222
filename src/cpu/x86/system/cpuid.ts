/**
 * CPUID: what this processor is and can do: [sdm2 CPUID].
 *
 * A flag here is a promise: it is announced only if the rows behind it exist. Time is told exactly: a TSC and a bus clock of 1 GHz (leaves 15H, 16H).
 * The topology is one package of single-threaded cores, APIC IDs counted from 0.
 */
import { ROWS } from "../isa/index.ts";
import { CR4 } from "../state.ts";
import { MAXPHYADDR } from "./walk.ts";

export type CpuidAnswer = [eax: number, ebx: number, ecx: number, edx: number];

export interface CpuidOptions {
  /** This vCPU's index, which is its APIC ID, and how many there are. */
  readonly vcpu: number;
  readonly vcpus: number;
  /** CR4 and IA32_APIC_BASE.EN as they are at the moment: two flags follow them. Reset values if not given. */
  readonly cr4?: () => number;
  readonly apicEnabled?: () => boolean;
}

const EAX = 0, EBX = 1, ECX = 2, EDX = 3;

/** Where a flag is announced: leaf, subleaf, register, bit. */
type Place = readonly [leaf: number, subleaf: number, register: number, bit: number];

/** Under the manual's names. Rows name theirs in `feature`. */
export const FEATURES = {
  "SSE3": [1, 0, ECX, 0],
  "PCLMULQDQ": [1, 0, ECX, 1],
  "SSSE3": [1, 0, ECX, 9],
  "CMPXCHG16B": [1, 0, ECX, 13],
  "PCID": [1, 0, ECX, 17],
  "SSE4.1": [1, 0, ECX, 19],
  "SSE4.2": [1, 0, ECX, 20],
  "X2APIC": [1, 0, ECX, 21],
  "MOVBE": [1, 0, ECX, 22],
  "POPCNT": [1, 0, ECX, 23],
  "TSC_DEADLINE": [1, 0, ECX, 24],
  "AESNI": [1, 0, ECX, 25],
  "XSAVE": [1, 0, ECX, 26],
  "RDRAND": [1, 0, ECX, 30],
  "HYPERVISOR": [1, 0, ECX, 31],
  "FPU": [1, 0, EDX, 0],
  "DE": [1, 0, EDX, 2],
  "PSE": [1, 0, EDX, 3],
  "TSC": [1, 0, EDX, 4],
  "MSR": [1, 0, EDX, 5],
  "PAE": [1, 0, EDX, 6],
  "MCE": [1, 0, EDX, 7],
  "CX8": [1, 0, EDX, 8],
  "APIC": [1, 0, EDX, 9],
  "SEP": [1, 0, EDX, 11],
  "MTRR": [1, 0, EDX, 12],
  "PGE": [1, 0, EDX, 13],
  "MCA": [1, 0, EDX, 14],
  "CMOV": [1, 0, EDX, 15],
  "PAT": [1, 0, EDX, 16],
  "PSE-36": [1, 0, EDX, 17],
  "CLFSH": [1, 0, EDX, 19],
  "MMX": [1, 0, EDX, 23],
  "FXSR": [1, 0, EDX, 24],
  "SSE": [1, 0, EDX, 25],
  "SSE2": [1, 0, EDX, 26],
  "SS": [1, 0, EDX, 27],
  "ARAT": [6, 0, EAX, 2],
  "FSGSBASE": [7, 0, EBX, 0],
  "TSC_ADJUST": [7, 0, EBX, 1],
  "BMI1": [7, 0, EBX, 3],
  "SMEP": [7, 0, EBX, 7],
  "BMI2": [7, 0, EBX, 8],
  "ERMS": [7, 0, EBX, 9],
  "INVPCID": [7, 0, EBX, 10],
  "RDSEED": [7, 0, EBX, 18],
  "ADX": [7, 0, EBX, 19],
  "SMAP": [7, 0, EBX, 20],
  "CLFLUSHOPT": [7, 0, EBX, 23],
  "CLWB": [7, 0, EBX, 24],
  "SHA": [7, 0, EBX, 29],
  "UMIP": [7, 0, ECX, 2],
  "RDPID": [7, 0, ECX, 22],
  "FSRM": [7, 0, EDX, 4],
  "IBRS": [7, 0, EDX, 26],
  "STIBP": [7, 0, EDX, 27],
  "ARCH_CAPABILITIES": [7, 0, EDX, 29],
  "BHI_CTRL": [7, 2, EDX, 4],
  "XSAVEOPT": [0xd, 1, EAX, 0],
  "XSAVEC": [0xd, 1, EAX, 1],
  "LAHF": [0x8000_0001, 0, ECX, 0],
  "LZCNT": [0x8000_0001, 0, ECX, 5],
  "PREFETCHW": [0x8000_0001, 0, ECX, 8],
  "SYSCALL": [0x8000_0001, 0, EDX, 11],
  "NX": [0x8000_0001, 0, EDX, 20],
  "PDPE1GB": [0x8000_0001, 0, EDX, 26],
  "RDTSCP": [0x8000_0001, 0, EDX, 27],
  "LM": [0x8000_0001, 0, EDX, 29],
  "INVARIANT_TSC": [0x8000_0007, 0, EDX, 8],
} as const satisfies Record<string, Place>;

export type Feature = keyof typeof FEATURES;

/** The instructions behind a feature. */
export const INSTRUCTIONS: Partial<Record<Feature, string>> = {
  "SSE3": "ADDSUBPD ADDSUBPS HADDPD HADDPS HSUBPD HSUBPS LDDQU MOVDDUP MOVSHDUP MOVSLDUP FISTTP",
  "SSSE3": "PABSB PABSW PABSD PALIGNR PHADDW PHADDD PHADDSW PHSUBW PHSUBD PHSUBSW PMADDUBSW PMULHRSW PSHUFB PSIGNB " +
    "PSIGNW PSIGND",
  "SSE4.1":
    "BLENDPD BLENDPS BLENDVPD BLENDVPS DPPD DPPS EXTRACTPS INSERTPS MOVNTDQA MPSADBW PACKUSDW PBLENDVB PBLENDW " +
    "PCMPEQQ PEXTRB PEXTRD PHMINPOSUW PINSRB PINSRD PMAXSB PMAXSD PMAXUD PMAXUW PMINSB PMINSD PMINUD PMINUW PMOVSXBW " +
    "PMOVSXBD PMOVSXBQ PMOVSXWD PMOVSXWQ PMOVSXDQ PMOVZXBW PMOVZXBD PMOVZXBQ PMOVZXWD PMOVZXWQ PMOVZXDQ PMULDQ PMULLD " +
    "PTEST ROUNDPD ROUNDPS ROUNDSD ROUNDSS",
  "SSE4.2": "CRC32 PCMPESTRI PCMPESTRM PCMPISTRI PCMPISTRM PCMPGTQ",
  "AESNI": "AESDEC AESDECLAST AESENC AESENCLAST AESIMC AESKEYGENASSIST",
  "PCLMULQDQ": "PCLMULQDQ",
  "SHA": "SHA1MSG1 SHA1MSG2 SHA1NEXTE SHA1RNDS4 SHA256MSG1 SHA256MSG2 SHA256RNDS2",
  "CMPXCHG16B": "CMPXCHG16B",
  "CX8": "CMPXCHG8B",
  "MOVBE": "MOVBE",
  "POPCNT": "POPCNT",
  "LZCNT": "LZCNT",
  "BMI1": "ANDN BEXTR BLSI BLSMSK BLSR TZCNT",
  "BMI2": "BZHI MULX PDEP PEXT RORX SARX SHLX SHRX",
  "ADX": "ADCX ADOX",
  "RDRAND": "RDRAND",
  "RDSEED": "RDSEED",
  "RDPID": "RDPID",
  "RDTSCP": "RDTSCP",
  "INVPCID": "INVPCID",
  "CLFSH": "CLFLUSH",
  "CLFLUSHOPT": "CLFLUSHOPT",
  "CLWB": "CLWB",
  "SMAP": "CLAC STAC",
  "FSGSBASE": "RDFSBASE RDGSBASE WRFSBASE WRGSBASE",
  "FXSR": "FXSAVE FXRSTOR",
  "XSAVE": "XSAVE XRSTOR XGETBV XSETBV",
  "XSAVEOPT": "XSAVEOPT",
  "XSAVEC": "XSAVEC",
  "SEP": "SYSENTER SYSEXIT",
  "SYSCALL": "SYSCALL SYSRET",
  "LAHF": "LAHF SAHF",
};

const mnemonics = new Set(ROWS.map((row) => row.name));

/** Whether this processor announces `name`: it is in the table, and all of its instructions have rows. */
export function hasFeature(name: string): boolean {
  if (!Object.hasOwn(FEATURES, name)) return false;
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
const OSXSAVE = 1 << 27, APIC = 1 << 9, HTT = 1 << 28;

/** The XSAVE area: legacy region and header. Only x87 and SSE state live here. */
const XSAVE_BYTES = 512 + 64, XCR0_BITS = 3;

/** Type (1 data, 2 code, 3 both), level, KiB, ways. */
const CACHES = [[1, 1, 32, 8], [2, 1, 32, 8], [3, 2, 1024, 16], [3, 3, 16384, 16]] as const;

function words(text: string, count: number): number[] {
  const bytes = new Uint8Array(4 * count);
  new TextEncoder().encodeInto(text, bytes);
  const view = new DataView(bytes.buffer);
  return Array.from({ length: count }, (_, i) => view.getUint32(4 * i, true));
}

const flagsOf = new Map<string, number>();
for (const [name, [leaf, subleaf, register, bit]] of Object.entries(FEATURES) as [string, Place][]) {
  if (!hasFeature(name)) continue;
  const key = `${leaf}.${subleaf}.${register}`;
  flagsOf.set(key, ((flagsOf.get(key) ?? 0) | (1 << bit)) >>> 0);
}
function flags(leaf: number, subleaf: number, register: number): number {
  return flagsOf.get(`${leaf}.${subleaf}.${register}`) ?? 0;
}

/** Answers for one vCPU; all values unsigned. */
export function cpuidTable(options: CpuidOptions): (leaf: number, subleaf: number) => CpuidAnswer {
  const { vcpu, vcpus, cr4 = () => 0, apicEnabled = () => true } = options;
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
      case 6:
        return [flags(6, 0, EAX), 0, 0, 0];
      case 7:
        if (subleaf === 0) return [2, flags(7, 0, EBX), flags(7, 0, ECX), flags(7, 0, EDX)];
        return subleaf === 2 ? [0, 0, 0, flags(7, 2, EDX)] : [0, 0, 0, 0];
      case 0xb:
      case 0x1f:
        return topology(subleaf);
      case 0xd:
        if (subleaf === 0) return [XCR0_BITS, XSAVE_BYTES, XSAVE_BYTES, 0];
        if (subleaf === 1) return [flags(0xd, 1, EAX), XSAVE_BYTES, 0, 0];
        return [0, 0, 0, 0];
      case 0x15:
        return [1, 1, TSC_HZ, 0];
      case 0x16:
        return [TSC_MHZ, TSC_MHZ, TSC_MHZ, 0];
      default:
        return [0, 0, 0, 0];
    }
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
