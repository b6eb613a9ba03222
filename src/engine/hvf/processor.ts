/**
 * What the host's processor is, as macOS tells it: names of sysctl(3), most of them the words of CPUID [sdm2 CPUID].
 *
 * What cannot be asked is taken to be the oldest processor that macOS 11 runs on.
 */
import type { Hypervisor } from "./library.ts";

export interface Processor {
  /** Family, model and stepping. */
  readonly signature: number;
  readonly vendor: string;
  readonly brand: string;
  /** Leaf 1. */
  readonly features: { readonly ecx: number; readonly edx: number };
  /** Leaf 7. */
  readonly structured: { readonly ebx: number; readonly ecx: number; readonly edx: number };
  /** Leaf 80000001H. */
  readonly extended: { readonly ecx: number; readonly edx: number };
  /** Components that XCR0 may name, and leaf DH's EAX of subleaf 1. */
  readonly xcr0: number;
  readonly xsaveFeatures: number;
  readonly physicalBits: number;
  /** In bytes; 0 if there is none. */
  readonly caches: { readonly l1d: number; readonly l1i: number; readonly l2: number; readonly l3: number };
  /** Of the time-stamp counter; 0 if it is not known. */
  readonly tscHz: number;
}

const bits = (...list: number[]) => list.reduce((all, bit) => all | (1 << bit), 0) >>> 0;

/** An Ivy Bridge, without what XSAVE beyond SSE brings. */
export const OLDEST: Processor = {
  signature: 0x306a9,
  vendor: "GenuineIntel",
  brand: "Intel processor",
  // SSE3, PCLMULQDQ, SSSE3, CMPXCHG16B, PCID, SSE4.1, SSE4.2, POPCNT, AESNI, XSAVE, RDRAND
  features: {
    ecx: bits(0, 1, 9, 13, 17, 19, 20, 23, 25, 26, 30),
    edx: bits(0, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 19, 23, 24, 25, 26, 27),
  },
  // FSGSBASE, SMEP, ERMS
  structured: { ebx: bits(0, 7, 9), ecx: 0, edx: 0 },
  // LAHF; SYSCALL, NX, RDTSCP, LM
  extended: { ecx: bits(0), edx: bits(11, 20, 27, 29) },
  xcr0: 3,
  xsaveFeatures: 0,
  physicalBits: 36,
  caches: { l1d: 32 << 10, l1i: 32 << 10, l2: 256 << 10, l3: 3 << 20 },
  tscHz: 0,
};

export function hostProcessor(hv: Hypervisor): Processor {
  const ask = (name: string): Uint8Array | null => sysctl(hv, name);
  const number = (name: string, usual: number): number => {
    const bytes = ask(name);
    if (bytes === null) return usual;
    const dv = new DataView(bytes.buffer);
    return bytes.length >= 8 ? Number(dv.getBigUint64(0, true)) : bytes.length >= 4 ? dv.getUint32(0, true) : usual;
  };
  const words = (name: string, usual: readonly number[]): readonly number[] => {
    const bytes = ask(name);
    if (bytes === null) return usual;
    const dv = new DataView(bytes.buffer);
    return usual.map((_, i) => 4 * i + 4 <= bytes.length ? dv.getUint32(4 * i, true) : 0);
  };
  const text = (name: string, usual: string): string => {
    const bytes = ask(name);
    return bytes === null ? usual : new TextDecoder().decode(bytes).replace(/\0.*$/s, "").trim();
  };
  // Words of CPUID are told as one number of 64 bits: EDX and then ECX, but EBX first in leaf 7.
  const [edx, ecx] = words("machdep.cpu.feature_bits", [OLDEST.features.edx, OLDEST.features.ecx]);
  const [ebx7, ecx7] = words("machdep.cpu.leaf7_feature_bits", [OLDEST.structured.ebx, OLDEST.structured.ecx]);
  const [edx7] = words("machdep.cpu.leaf7_feature_bits_edx", [OLDEST.structured.edx]);
  const [edxX, ecxX] = words("machdep.cpu.extfeature_bits", [OLDEST.extended.edx, OLDEST.extended.ecx]);
  const [xcr0] = words("machdep.cpu.xsave.extended_state", [OLDEST.xcr0]);
  const [xsaveFeatures] = words("machdep.cpu.xsave.extended_state1", [OLDEST.xsaveFeatures]);
  return {
    signature: number("machdep.cpu.signature", OLDEST.signature),
    vendor: text("machdep.cpu.vendor", OLDEST.vendor),
    brand: text("machdep.cpu.brand_string", OLDEST.brand),
    features: { ecx: ecx!, edx: edx! },
    structured: { ebx: ebx7!, ecx: ecx7!, edx: edx7! },
    extended: { ecx: ecxX!, edx: edxX! },
    xcr0: xcr0!,
    xsaveFeatures: xsaveFeatures!,
    physicalBits: number("machdep.cpu.address_bits.physical", OLDEST.physicalBits),
    caches: {
      l1d: number("hw.l1dcachesize", OLDEST.caches.l1d),
      l1i: number("hw.l1icachesize", OLDEST.caches.l1i),
      l2: number("hw.l2cachesize", OLDEST.caches.l2),
      l3: number("hw.l3cachesize", OLDEST.caches.l3),
    },
    tscHz: number("machdep.tsc.frequency", OLDEST.tscHz),
  };
}

const MAX_BYTES = 256;

/** The value of a name, or null if it has none here. */
function sysctl(hv: Hypervisor, name: string): Uint8Array<ArrayBuffer> | null {
  if (hv.sysctlbyname === null) return null;
  const value = new Uint8Array(MAX_BYTES), length = new BigUint64Array([BigInt(MAX_BYTES)]);
  const asked = new TextEncoder().encode(`${name}\0`);
  if (hv.sysctlbyname(asked, value, new Uint8Array(length.buffer), null, 0n) !== 0) return null;
  return value.slice(0, Math.min(MAX_BYTES, Number(length[0])));
}
