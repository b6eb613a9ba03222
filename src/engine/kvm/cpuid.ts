/**
 * What CPUID says to a guest under KVM: the host's processor as KVM passes it on, less what belongs to the host alone, and with
 * the board's own: one package of single-threaded cores, its local APIC, and the frequencies of its clocks [sdm2 CPUID].
 */
import * as K from "../../../ffi/kvm.ts";
import type { Bytes } from "./host.ts";

export interface CpuidEntry {
  readonly leaf: number;
  readonly subleaf: number;
  readonly flags: number;
  readonly words: [eax: number, ebx: number, ecx: number, edx: number];
}

export interface CpuidParts {
  /** This vCPU's index, which is its APIC ID, and how many there are. */
  readonly vcpu: number;
  readonly vcpus: number;
  /** Of the guest's time-stamp counter; 0 if it is not known. */
  readonly tscKhz: number;
  /** MSRs of the local APIC come to the board; that of its deadline timer too. */
  readonly apicMsrs: boolean;
  readonly deadline: boolean;
}

/** The local APIC timer's clock, and what leaf 15H calls the crystal. */
const BUS_HZ = 1_000_000_000;
/** A guest that multiplies the crystal's kHz by the numerator in 32 bits must not overflow. */
const MAX_NUMERATOR = Math.floor(2 ** 32 / (BUS_HZ / 1000));

const EAX = 0, EBX = 1, ECX = 2, EDX = 3;
const bits = (...list: number[]) => list.reduce((all, bit) => all | (1 << bit), 0);

/** Leaf 1, ECX: DTES64, MONITOR, DS-CPL, VMX, SMX, EIST, TM2, PDCM are the host's; OSXSAVE follows CR4 by itself. */
const LEAF1_ECX_HOST = bits(2, 3, 4, 5, 6, 7, 8, 15, 27);
const X2APIC = 1 << 21, TSC_DEADLINE = 1 << 24, HYPERVISOR = 1 << 31;
/** Leaf 1, EDX: DS, ACPI, HTT, TM, PBE. */
const LEAF1_EDX_HOST = bits(21, 22, 28, 29, 31);
/** Leaf 80000001H, ECX: legacy core counting, SVM, extended APIC space, OS-visible workarounds and the like, AMD's counters. */
const EXTENDED_ECX_HOST = bits(1, 2, 3, 9, 10, 12, 13, 15, 22, 23, 24, 26, 28, 29);
const HTT = 1 << 28;
const ARAT = 1 << 2;
/** KVM's own clock, under the newer of its MSRs: a snapshot holds that one. */
const KVM_FEATURES = bits(
  K.KVM_FEATURE.NOP_IO_DELAY,
  K.KVM_FEATURE.CLOCKSOURCE2,
  K.KVM_FEATURE.CLOCKSOURCE_STABLE_BIT,
);
const TIMING_LEAF = 0x4000_0010;
const LAST_BASIC = 0x16;

/** Leaves that are made here, or that tell of the host's performance counters, thread topology, MWAIT, SGX, tracing. */
const DROPPED = new Set([0x3, 0x5, 0xa, 0xb, 0xf, 0x10, 0x12, 0x14, 0x15, 0x16, 0x1a, 0x1c, 0x1f]);
const DROPPED_EXTENDED = new Set([0x8000_000a, 0x8000_001b, 0x8000_001e, 0x8000_001f, 0x8000_0020, 0x8000_0022]);

export function guestCpuid(supported: readonly CpuidEntry[], parts: CpuidParts): CpuidEntry[] {
  const { vcpu, vcpus, tscKhz, apicMsrs, deadline } = parts;
  /** Bits of an APIC ID that tell cores apart. */
  const coreBits = Math.ceil(Math.log2(vcpus)), coreIds = 2 ** coreBits;
  const entries: CpuidEntry[] = [];
  const add = (leaf: number, subleaf: number | null, ...words: CpuidEntry["words"]) =>
    entries.push({
      leaf,
      subleaf: subleaf ?? 0,
      flags: subleaf === null ? 0 : K.KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
      words: words.map((word) => word >>> 0) as CpuidEntry["words"],
    });
  for (const entry of supported) {
    const { leaf, subleaf, flags } = entry;
    if (DROPPED.has(leaf) || DROPPED_EXTENDED.has(leaf) || (leaf >= 0x4000_0000 && leaf < 0x5000_0000)) continue;
    const words: CpuidEntry["words"] = [...entry.words];
    switch (leaf) {
      case 0:
        words[EAX] = Math.max(words[EAX], LAST_BASIC);
        break;
      case 1:
        words[EBX] = (words[EBX] & 0xff00) | (Math.min(coreIds, 255) << 16) | (Math.min(vcpu, 255) << 24);
        words[ECX] = (words[ECX] & ~LEAF1_ECX_HOST & ~X2APIC & ~TSC_DEADLINE) | HYPERVISOR |
          (apicMsrs ? X2APIC | (tscKhz > 0 && deadline ? TSC_DEADLINE : 0) : 0);
        words[EDX] = (words[EDX] & ~LEAF1_EDX_HOST) | (vcpus > 1 ? HTT : 0);
        break;
      case 4:
        // The package's cores, and which of them share this cache: all of them the third level, else one.
        words[EAX] = (words[EAX] & 0x3fff) | sharers(words[EAX], coreIds) | ((Math.min(coreIds, 64) - 1) << 26);
        break;
      case 0x8000_001d:
        words[EAX] = (words[EAX] & 0x3fff) | sharers(words[EAX], coreIds);
        break;
      case 6:
        words[EAX] = ARAT;
        words[EBX] = words[ECX] = words[EDX] = 0;
        break;
      case 0x8000_0001:
        words[ECX] &= ~EXTENDED_ECX_HOST;
        break;
      case 0x8000_0008:
        words[ECX] = vcpus > 1 ? (coreBits << 12) | (vcpus - 1) : 0;
        break;
    }
    entries.push({ leaf, subleaf, flags, words: words.map((word) => word >>> 0) as CpuidEntry["words"] });
  }
  // Threads of a core, cores of the package.
  add(0xb, 0, 0, 1, 1 << 8, vcpu);
  add(0xb, 1, coreBits, vcpus, (2 << 8) | 1, vcpu);
  if (tscKhz > 0) {
    const [numerator, denominator] = ratio(tscKhz, BUS_HZ / 1000, MAX_NUMERATOR);
    add(0x15, null, denominator, numerator, BUS_HZ, 0);
    const mhz = Math.round(tscKhz / 1000);
    add(0x16, null, mhz, mhz, BUS_HZ / 1_000_000, 0);
  }
  const signature = supported.find(({ leaf }) => leaf === K.KVM_CPUID_SIGNATURE);
  const features = supported.find(({ leaf }) => leaf === K.KVM_CPUID_FEATURES);
  if (signature && features) {
    const [, b, c, d] = signature.words;
    add(K.KVM_CPUID_SIGNATURE, null, tscKhz > 0 ? TIMING_LEAF : K.KVM_CPUID_FEATURES, b, c, d);
    add(K.KVM_CPUID_FEATURES, null, features.words[EAX] & KVM_FEATURES, 0, 0, 0);
    if (tscKhz > 0) add(TIMING_LEAF, null, tscKhz, BUS_HZ / 1000, 0, 0);
  }
  return entries;
}

/** The field of a cache's leaf that tells how many APIC IDs share it. */
function sharers(eax: number, coreIds: number): number {
  return ((eax >>> 5) & 7) === 3 ? (coreIds - 1) << 14 : 0;
}

/** The fraction closest to a / b whose numerator is at most `most`: the last that fits of its continued fraction. */
export function ratio(a: number, b: number, most: number): [numerator: number, denominator: number] {
  let [p0, q0, p1, q1] = [0, 1, 1, 0];
  let x = a, y = b;
  while (y !== 0) {
    const whole = Math.floor(x / y), room = Math.floor((most - p0) / p1), n = Math.min(whole, room);
    const p2 = n * p1 + p0, q2 = n * q1 + q0;
    if (n < whole) return closer(a / b, [p1, q1], [p2, q2]);
    [p0, q0, p1, q1] = [p1, q1, p2, q2];
    [x, y] = [y, x - whole * y];
  }
  return [p1, q1];
}

type Fraction = [numerator: number, denominator: number];
function closer(value: number, one: Fraction, other: Fraction): Fraction {
  const distance = ([p, q]: Fraction) => Math.abs(p / q - value);
  return distance(other) < distance(one) ? other : one;
}

/** Family, model and stepping. */
export function signatureOf(entries: readonly CpuidEntry[]): number {
  return entries.find(({ leaf }) => leaf === 1)?.words[EAX] ?? 0;
}

/** struct kvm_cpuid2 with room for `count` entries. */
export function cpuidBuffer(count: number): Bytes {
  const bytes = new Uint8Array(K.kvm_cpuid2.SIZEOF + count * K.kvm_cpuid_entry2.SIZEOF);
  new DataView(bytes.buffer).setUint32(K.kvm_cpuid2.nent, count, true);
  return bytes;
}

export function readCpuid(bytes: Bytes): CpuidEntry[] {
  const E = K.kvm_cpuid_entry2, dv = new DataView(bytes.buffer);
  return Array.from({ length: dv.getUint32(K.kvm_cpuid2.nent, true) }, (_, i) => {
    const at = K.kvm_cpuid2.entries + i * E.SIZEOF;
    return {
      leaf: dv.getUint32(at + E.function, true),
      subleaf: dv.getUint32(at + E.index, true),
      flags: dv.getUint32(at + E.flags, true),
      words: [E.eax, E.ebx, E.ecx, E.edx].map((word) => dv.getUint32(at + word, true)) as CpuidEntry["words"],
    };
  });
}

export function writeCpuid(entries: readonly CpuidEntry[]): Bytes {
  const E = K.kvm_cpuid_entry2, bytes = cpuidBuffer(entries.length), dv = new DataView(bytes.buffer);
  entries.forEach(({ leaf, subleaf, flags, words }, i) => {
    const at = K.kvm_cpuid2.entries + i * E.SIZEOF;
    dv.setUint32(at + E.function, leaf, true);
    dv.setUint32(at + E.index, subleaf, true);
    dv.setUint32(at + E.flags, flags, true);
    [E.eax, E.ebx, E.ecx, E.edx].forEach((word, n) => dv.setUint32(at + word, words[n]!, true));
  });
  return bytes;
}
