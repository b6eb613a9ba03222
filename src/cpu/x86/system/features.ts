/**
 * What a processor may announce, one row a feature: where CPUID has its flag, what it needs, and the instructions behind it:
 * [sdm2 CPUID], [amd3 appendix D].
 */
import { CR4 } from "../state.ts";

export const EAX = 0, EBX = 1, ECX = 2, EDX = 3;

/** Where a flag is announced: leaf, subleaf, register, bit. */
export type Place = readonly [leaf: number, subleaf: number, register: number, bit: number];

/** Under the manual's names. Rows name theirs in `feature`. */
export const FEATURES = {
  "SSE3": [1, 0, ECX, 0],
  "PCLMULQDQ": [1, 0, ECX, 1],
  "MONITOR": [1, 0, ECX, 3],
  "SSSE3": [1, 0, ECX, 9],
  "FMA": [1, 0, ECX, 12],
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
  "AVX": [1, 0, ECX, 28],
  "F16C": [1, 0, ECX, 29],
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
  "AVX2": [7, 0, EBX, 5],
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
export const isFeature = (name: string): name is Feature => Object.hasOwn(FEATURES, name);

/** What a feature rests on: [sdm1 §14.3 to §14.7, §12.10 to §12.13] and the pages of the instructions. */
export const NEEDS: Partial<Record<Feature, readonly Feature[]>> = {
  "SSE3": ["SSE2"],
  "SSSE3": ["SSE3"],
  "SSE4.1": ["SSSE3"],
  "SSE4.2": ["SSE4.1"],
  "AESNI": ["SSE2"],
  "PCLMULQDQ": ["SSE2"],
  "SHA": ["SSSE3"],
  "XSAVEOPT": ["XSAVE"],
  "XSAVEC": ["XSAVE"],
  "AVX": ["XSAVE", "SSE4.2"],
  "AVX2": ["AVX"],
  "FMA": ["AVX"],
  "F16C": ["AVX"],
  "INVPCID": ["PCID"],
  "RDPID": ["RDTSCP"],
  "FSRM": ["ERMS"],
  "CLFLUSHOPT": ["CLFSH"],
  "CLWB": ["CLFSH"],
};

/** The instructions behind a feature. Rows of AVX and what came with it name their feature by themselves. */
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
  "MONITOR": "MONITOR MWAIT",
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
  "XSAVE": "XSAVE XSAVE64 XRSTOR XRSTOR64 XGETBV XSETBV",
  "XSAVEOPT": "XSAVEOPT XSAVEOPT64",
  "XSAVEC": "XSAVEC XSAVEC64",
  "SEP": "SYSENTER SYSEXIT",
  "SYSCALL": "SYSCALL SYSRET",
  "LAHF": "LAHF SAHF",
  "AVX": "VADDPS VZEROUPPER VZEROALL VMASKMOVPS VPERM2F128 VBROADCASTSS VTESTPS",
  "AVX2": "VPADDB VPERMD VPERMQ VPGATHERDD VGATHERQPD VPMASKMOVD VPSLLVD VPSRAVD VPBROADCASTB VINSERTI128",
  "FMA": "VFMADD132PS VFMADD231SD VFNMSUB213SS VFMADDSUB213PD VFMSUBADD231PS",
  "F16C": "VCVTPH2PS VCVTPS2PH",
};

/** Bits of CR4 that are reserved without a feature. */
export const CR4_OF: Partial<Record<Feature, number>> = {
  "FSGSBASE": CR4.FSGSBASE,
  "PCID": CR4.PCIDE,
  "XSAVE": CR4.OSXSAVE,
  "SMEP": CR4.SMEP,
  "SMAP": CR4.SMAP,
  "UMIP": CR4.UMIP,
};

/** Each feature by the mnemonics of its instructions. */
const featureOf = new Map<string, Feature>();
for (const [name, list] of Object.entries(INSTRUCTIONS)) {
  for (const mnemonic of list.split(" ")) featureOf.set(mnemonic, name as Feature);
}
/** What a row needs the processor to have; a VEX-encoded vector instruction needs AVX as well. */
export function featuresOf(row: { name: string; feature?: string; unit?: string }): Feature[] {
  const own = (row.feature ?? featureOf.get(row.name)) as Feature | undefined;
  if (row.unit !== "avx") return own ? [own] : [];
  return own && own !== "AVX" ? ["AVX", own] : ["AVX"];
}
