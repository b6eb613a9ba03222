/**
 * What CPUID says to a guest under Hypervisor.framework: of the host's processor what works in a guest, and the board's own: one
 * package of single-threaded cores, the local APIC, and the frequencies of the clocks [sdm2 CPUID].
 *
 * Absent: performance monitoring, MONITOR, VMX, transactional memory, SGX, AVX-512, AMX, protection keys, 57-bit addresses.
 */
import { ratio } from "../kvm/cpuid.ts";
import type { Processor } from "./processor.ts";

export interface GuestCpuidParts {
  /** This vCPU's index, which is its APIC ID, and how many there are. */
  readonly vcpu: number;
  readonly vcpus: number;
  /** Of the guest's time-stamp counter. */
  readonly tscKhz: number;
  /** Controls that make instructions work. */
  readonly rdtscp: boolean;
  readonly invpcid: boolean;
  /** IA32_SPEC_CTRL and IA32_PRED_CMD are the processor's. */
  readonly speculation: boolean;
  /** The host tells what its IA32_ARCH_CAPABILITIES are. */
  readonly archCapabilities: boolean;
}

/** The local APIC timer's clock, and what leaf 15H calls the crystal. */
const BUS_HZ = 1_000_000_000;
/** A guest that multiplies the crystal's kHz by the numerator in 32 bits must not overflow. */
const MAX_NUMERATOR = Math.floor(2 ** 32 / (BUS_HZ / 1000));

const bits = (...list: number[]) => list.reduce((all, bit) => all | (1 << bit), 0);

/** Leaf 1, ECX: SSE3 to SSE4.2, FMA, CMPXCHG16B, PCID, MOVBE, POPCNT, AESNI, XSAVE, AVX, F16C, RDRAND. */
const ECX1 = bits(0, 1, 9, 12, 13, 17, 19, 20, 22, 23, 25, 26, 28, 29, 30);
const AVX_ECX1 = bits(12, 28, 29), XSAVE = 1 << 26, PCID = 1 << 17;
const X2APIC = 1 << 21, TSC_DEADLINE = 1 << 24, HYPERVISOR = 1 << 31;
/** Leaf 1, EDX: all of it but the serial number, debug store, ACPI, HTT, TM and PBE. */
const EDX1 = bits(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 19, 23, 24, 25, 26, 27);
const HTT = 1 << 28;
/** Leaf 7, EBX: FSGSBASE, BMI1, AVX2, SMEP, BMI2, ERMS, INVPCID, RDSEED, ADX, SMAP, CLFLUSHOPT, CLWB, SHA. */
const EBX7 = bits(0, 3, 5, 7, 8, 9, 10, 13, 18, 19, 20, 23, 24, 29);
const AVX_EBX7 = 1 << 5, INVPCID = 1 << 10;
/** ECX: UMIP, GFNI, VAES, VPCLMULQDQ, RDPID. */
const ECX7 = bits(2, 8, 9, 10, 22);
const AVX_ECX7 = bits(9, 10), RDPID = 1 << 22;
/** EDX: FSRM, MD_CLEAR; IBRS, STIBP, SSBD where speculation's MSRs are the processor's; ARCH_CAPABILITIES. */
const EDX7 = bits(4, 10), EDX7_SPECULATION = bits(26, 27, 31), ARCH_CAPABILITIES = 1 << 29;
/** Leaf 80000001H: LAHF, LZCNT, PREFETCHW; SYSCALL, NX, 1 GiB pages, RDTSCP, LM. */
const ECX_EXTENDED = bits(0, 5, 8), EDX_EXTENDED = bits(11, 20, 26, 27, 29), RDTSCP = 1 << 27;
/** Leaf DH, subleaf 1: XSAVEOPT, XSAVEC, XGETBV with ECX = 1. */
const XSAVE_FEATURES = bits(0, 1, 2);
const ARAT = 1 << 2, INVARIANT_TSC = 1 << 8;

const X87_SSE = 3, AVX = 4;
const LEGACY_BYTES = 576, YMM_BYTES = 256;
const LINE_BYTES = 64;
const LAST_BASIC = 0x16, LAST_EXTENDED = 0x8000_0008, FIRST_HYPERVISOR = 0x4000_0000, TIMING_LEAF = 0x4000_0010;
const HYPERVISOR_NAME = "TrikeTrikeTr";

const ANY = 0xffff_ffff;
const ROW = 6;

/** CR4 flags that are there if CPUID announces what they are for: [sdm3 §2.5]. */
const CR4_ALWAYS = bits(2, 3, 4, 5, 6, 7, 9, 10); // TSD, DE, PSE, PAE, MCE, PGE, OSFXSR, OSXMMEXCPT
const CR4_VME = bits(0, 1), CR4_UMIP = 1 << 11, CR4_FSGSBASE = 1 << 16, CR4_PCIDE = 1 << 17, CR4_OSXSAVE = 1 << 18;
const CR4_SMEP = 1 << 20, CR4_SMAP = 1 << 21, CR4_PCE = 1 << 8;

export class GuestCpuid {
  /** The answer of `look`. */
  readonly words = new Uint32Array(4);
  /** Components that XCR0 may name. */
  readonly xcr0: number;
  /** Flags of CR4 that a guest may set. */
  readonly cr4: number;
  /** Family, model and stepping. */
  readonly signature: number;
  readonly physicalBits: number;
  /** IA32_EFER.NXE may be set. */
  readonly noExecute: boolean;
  /** Leaf, subleaf or ANY, EAX, EBX, ECX, EDX. */
  readonly #rows: Uint32Array;

  constructor(host: Processor, parts: GuestCpuidParts) {
    const { vcpu, vcpus, tscKhz } = parts;
    const rows: number[] = [];
    const add = (leaf: number, subleaf: number, ...words: [number, number, number, number]) =>
      rows.push(leaf, subleaf, ...words);
    /** Bits of an APIC ID that tell cores apart. */
    const coreBits = Math.ceil(Math.log2(vcpus)), coreIds = 2 ** coreBits;
    const xsave = (host.features.ecx & XSAVE) !== 0;
    const avx = xsave && (host.xcr0 & AVX) !== 0 && (host.features.ecx & (1 << 28)) !== 0;
    this.xcr0 = xsave ? X87_SSE | (avx ? AVX : 0) : 0;
    this.signature = host.signature;
    this.physicalBits = Math.max(32, Math.min(host.physicalBits, 52));
    const without = (word: number, gone: number, keep: boolean) => keep ? word : word & ~gone;

    const ecx1 = without(host.features.ecx & ECX1, AVX_ECX1, avx);
    const edx1 = host.features.edx & EDX1;
    const timing = tscKhz > 0;
    add(0, ANY, LAST_BASIC, ...vendorWords(host.vendor));
    add(
      1,
      ANY,
      host.signature,
      (Math.min(vcpu, 255) << 24) | (Math.min(coreIds, 255) << 16) | ((LINE_BYTES / 8) << 8),
      ecx1 | X2APIC | HYPERVISOR | (timing ? TSC_DEADLINE : 0),
      edx1 | (vcpus > 1 ? HTT : 0),
    );
    // Descriptor FFH: see leaf 4.
    add(2, ANY, 0xff01, 0, 0, 0);
    cacheRows(host.caches, coreIds).forEach((words, i) => add(4, i, ...words));
    add(6, ANY, ARAT, 0, 0, 0);
    let ebx7 = without(host.structured.ebx & EBX7, AVX_EBX7, avx);
    ebx7 = without(ebx7, INVPCID, parts.invpcid && (ecx1 & PCID) !== 0);
    const ecx7 = without(without(host.structured.ecx & ECX7, AVX_ECX7, avx), RDPID, parts.rdtscp);
    const edx7 = host.structured.edx & (EDX7 | (parts.speculation ? EDX7_SPECULATION : 0) |
      (parts.archCapabilities ? ARCH_CAPABILITIES : 0));
    add(7, 0, 0, ebx7, ecx7, edx7);
    add(0xb, 0, 0, 1, 1 << 8, vcpu);
    add(0xb, 1, coreBits, vcpus, (2 << 8) | 1, vcpu);
    if (xsave) {
      add(0xd, 0, this.xcr0, LEGACY_BYTES, LEGACY_BYTES + (avx ? YMM_BYTES : 0), 0);
      add(0xd, 1, host.xsaveFeatures & XSAVE_FEATURES, 0, 0, 0);
      if (avx) add(0xd, 2, YMM_BYTES, LEGACY_BYTES, 0, 0);
    }
    if (timing) {
      const [numerator, denominator] = ratio(tscKhz, BUS_HZ / 1000, MAX_NUMERATOR);
      add(0x15, ANY, denominator, numerator, BUS_HZ, 0);
      const mhz = Math.round(tscKhz / 1000);
      add(0x16, ANY, mhz, mhz, BUS_HZ / 1_000_000, 0);
    }
    add(FIRST_HYPERVISOR, ANY, TIMING_LEAF, ...textWords(HYPERVISOR_NAME, 3) as [number, number, number]);
    if (timing) add(TIMING_LEAF, ANY, tscKhz, BUS_HZ / 1000, 0, 0);
    const edxX = without(host.extended.edx & EDX_EXTENDED, RDTSCP, parts.rdtscp);
    add(0x8000_0000, ANY, LAST_EXTENDED, 0, 0, 0);
    add(0x8000_0001, ANY, 0, 0, host.extended.ecx & ECX_EXTENDED, edxX);
    const brand = textWords(host.brand, 12);
    for (let i = 0; i < 3; i++) {
      add(0x8000_0002 + i, ANY, brand[4 * i]!, brand[4 * i + 1]!, brand[4 * i + 2]!, brand[4 * i + 3]!);
    }
    // 8 ways.
    add(0x8000_0006, ANY, 0, 0, ((host.caches.l2 >> 10) << 16) | (6 << 12) | LINE_BYTES, 0);
    add(0x8000_0007, ANY, 0, 0, 0, INVARIANT_TSC);
    add(0x8000_0008, ANY, this.physicalBits | (48 << 8), 0, vcpus > 1 ? (coreBits << 12) | (vcpus - 1) : 0, 0);
    this.#rows = Uint32Array.from(rows);
    this.noExecute = (edxX & (1 << 20)) !== 0;
    this.cr4 = CR4_ALWAYS | CR4_PCE | (edx1 & 2 ? CR4_VME : 0) | (ecx7 & 4 ? CR4_UMIP : 0) |
      (ebx7 & 1 ? CR4_FSGSBASE : 0) | (ecx1 & PCID ? CR4_PCIDE : 0) | (xsave ? CR4_OSXSAVE : 0) |
      (ebx7 & (1 << 7) ? CR4_SMEP : 0) | (ebx7 & (1 << 20) ? CR4_SMAP : 0);
  }

  /**
   * Into `words`. Three answers follow registers: OSXSAVE CR4's, APIC the enable bit of IA32_APIC_BASE, and the size of the
   * XSAVE area XCR0.
   */
  look(leaf: number, subleaf: number, now: { cr4: number; xcr0: number; apic: boolean }): void {
    leaf >>>= 0, subleaf >>>= 0;
    const rows = this.#rows, words = this.words;
    // Beyond the last leaf: as the last basic one.
    if (leaf > LAST_BASIC && !(leaf >= FIRST_HYPERVISOR && leaf <= TIMING_LEAF)) {
      if (leaf < 0x8000_0000 || leaf > LAST_EXTENDED) leaf = LAST_BASIC;
    }
    words.fill(0);
    for (let i = 0; i < rows.length; i += ROW) {
      if (rows[i] !== leaf || (rows[i + 1] !== ANY && rows[i + 1] !== subleaf)) continue;
      for (let n = 0; n < 4; n++) words[n] = rows[i + 2 + n]!;
      break;
    }
    switch (leaf) {
      case 1:
        if (now.cr4 & CR4_OSXSAVE) words[2]! |= 1 << 27;
        if (!now.apic) words[3]! &= ~(1 << 9);
        break;
      case 0xb:
        // Levels that do not exist name themselves and the vCPU.
        words[2]! |= subleaf & 0xff;
        words[3] = rows[rows.indexOf(0xb) + 5]!;
        break;
      case 0xd:
        if (subleaf === 0) words[1] = this.xcr0 === 0 ? 0 : sizeOfArea(now.xcr0);
        else if (subleaf === 1 && words[0]! & 2) words[1] = sizeOfArea(now.xcr0);
        break;
    }
  }
}

function sizeOfArea(xcr0: number): number {
  return LEGACY_BYTES + (xcr0 & AVX ? YMM_BYTES : 0);
}

function textWords(text: string, count: number): number[] {
  const bytes = new Uint8Array(4 * count);
  new TextEncoder().encodeInto(text.slice(0, 4 * count), bytes);
  const view = new DataView(bytes.buffer);
  return Array.from({ length: count }, (_, i) => view.getUint32(4 * i, true));
}

/** As leaf 0 has them: EBX, ECX, EDX, of which EDX comes second in the name. */
function vendorWords(vendor: string): [number, number, number] {
  const [b, d, c] = textWords(vendor, 3) as [number, number, number];
  return [b, c, d];
}

/** Leaf 4. The ways are not told: as many as make whole powers of two. */
function cacheRows(caches: Processor["caches"], coreIds: number): [number, number, number, number][] {
  const rows: [number, number, number, number][] = [];
  const cache = (type: number, level: number, bytes: number, sharing: number) => {
    if (bytes < LINE_BYTES) return;
    const lines = Math.floor(bytes / LINE_BYTES);
    let ways = 8;
    while (lines / ways !== 2 ** Math.floor(Math.log2(lines / ways)) && ways < 16) ways++;
    const eax = type | (level << 5) | (1 << 8) | ((Math.min(sharing, 4096) - 1) << 14) |
      ((Math.min(coreIds, 64) - 1) << 26);
    rows.push([eax, (LINE_BYTES - 1) | ((ways - 1) << 22), Math.max(1, Math.floor(lines / ways)) - 1, 0]);
  };
  cache(1, 1, caches.l1d, 1);
  cache(2, 1, caches.l1i, 1);
  cache(3, 2, caches.l2, 1);
  cache(3, 3, caches.l3, coreIds);
  return rows;
}
