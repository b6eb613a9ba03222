/** What a guest under Hypervisor.framework is told of its processor: [sdm2 CPUID]. */
import { assert, assertEquals } from "@std/assert";
import { GuestCpuid, type GuestCpuidParts } from "../../../src/engine/hvf/cpuid.ts";
import { OLDEST, type Processor } from "../../../src/engine/hvf/processor.ts";

const ALL = 0xffff_ffff;
/** A processor that has every flag there is. */
const EVERYTHING: Processor = {
  ...OLDEST,
  features: { ecx: ALL, edx: ALL },
  structured: { ebx: ALL, ecx: ALL, edx: ALL },
  extended: { ecx: ALL, edx: ALL },
  xcr0: 0x6_02e7,
  xsaveFeatures: 0x1f,
  physicalBits: 39,
  tscHz: 2_904_000_000,
};
const PARTS: GuestCpuidParts = {
  vcpu: 2,
  vcpus: 4,
  tscKhz: 2_904_000,
  rdtscp: true,
  invpcid: true,
  speculation: true,
  archCapabilities: true,
};
const NOW = { cr4: 0, xcr0: 1, apic: true };
const EAX = 0, EBX = 1, ECX = 2, EDX = 3;

function look(host: Processor, parts: Partial<GuestCpuidParts>, leaf: number, subleaf = 0, now = NOW): number[] {
  const cpuid = new GuestCpuid(host, { ...PARTS, ...parts });
  cpuid.look(leaf, subleaf, now);
  return [...cpuid.words];
}
const bit = (word: number | undefined, n: number) => (word! >>> n) & 1;
const has = (word: number | undefined, ...list: number[]) => list.map((n) => bit(word, n));

Deno.test("CPUID: what a guest cannot use is not announced, whatever the host has", () => {
  const [, , ecx, edx] = look(EVERYTHING, {}, 1);
  // MONITOR, VMX, SMX, EIST, TM2, PDCM, DCA; DS, ACPI, TM, PBE.
  assertEquals(has(ecx, 3, 5, 6, 7, 8, 15, 18), [0, 0, 0, 0, 0, 0, 0]);
  assertEquals(has(edx, 21, 22, 29, 31), [0, 0, 0, 0]);
  const [, ebx7, ecx7, edx7] = look(EVERYTHING, {}, 7);
  // SGX, HLE, PQM, RTM, PQE, AVX512F, PT; PKU, LA57; AMX.
  assertEquals(has(ebx7, 2, 4, 11, 12, 15, 16, 25), [0, 0, 0, 0, 0, 0, 0]);
  assertEquals([...has(ecx7, 3, 16), ...has(edx7, 22, 24, 25)], [0, 0, 0, 0, 0]);
  assertEquals(look(EVERYTHING, {}, 0xa), [0, 0, 0, 0]);
  assertEquals(look(EVERYTHING, {}, 0xd)[EAX], 7, "no AVX-512, no AMX");
  assertEquals(has(look(EVERYTHING, {}, 0xd, 1)[EAX], 0, 1, 2, 3, 4), [1, 1, 1, 0, 0]);
});

Deno.test("CPUID: what the host has not is not announced", () => {
  const [, , ecx] = look(OLDEST, {}, 1);
  // SSE4.2 is there; FMA, MOVBE, AVX, F16C are not.
  assertEquals(has(ecx, 20, 12, 22, 28, 29), [1, 0, 0, 0, 0]);
  assertEquals(look(OLDEST, {}, 7)[EBX], (1 << 0) | (1 << 7) | (1 << 9));
});

Deno.test("CPUID: instructions that need a control are announced only with it", () => {
  assertEquals(bit(look(EVERYTHING, { rdtscp: false }, 0x8000_0001)[EDX], 27), 0);
  assertEquals(bit(look(EVERYTHING, { rdtscp: false }, 7)[ECX], 22), 0, "RDPID");
  assertEquals(bit(look(EVERYTHING, { invpcid: false }, 7)[EBX], 10), 0);
  assertEquals(has(look(EVERYTHING, { speculation: false }, 7)[EDX], 26, 27, 31), [0, 0, 0]);
  assertEquals(bit(look(EVERYTHING, { archCapabilities: false }, 7)[EDX], 29), 0);
  assertEquals(has(look(EVERYTHING, {}, 7)[EDX], 26, 27, 29, 31), [1, 1, 1, 1]);
});

Deno.test("CPUID: OSXSAVE follows CR4, APIC its enable bit, the XSAVE area XCR0", () => {
  assertEquals(bit(look(EVERYTHING, {}, 1)[ECX], 27), 0);
  assertEquals(bit(look(EVERYTHING, {}, 1, 0, { ...NOW, cr4: 1 << 18 })[ECX], 27), 1);
  assertEquals(bit(look(EVERYTHING, {}, 1, 0, { ...NOW, apic: false })[EDX], 9), 0);
  const area = (xcr0: number) => look(EVERYTHING, {}, 0xd, 0, { ...NOW, xcr0 }).slice(1, 3);
  assertEquals([area(3), area(7)], [[576, 832], [832, 832]]);
  assertEquals(look(EVERYTHING, {}, 0xd, 2), [256, 576, 0, 0]);
});

Deno.test("CPUID: identity and topology are the board's", () => {
  const [, ebx, ecx, edx] = look(EVERYTHING, {}, 1);
  assertEquals([ebx! >>> 24, (ebx! >>> 16) & 0xff], [2, 4]);
  assertEquals([bit(ecx, 31), bit(ecx, 21), bit(edx, 28)], [1, 1, 1], "hypervisor, x2APIC, HTT");
  assertEquals(look(EVERYTHING, {}, 0xb, 0), [0, 1, 0x100, 2]);
  assertEquals(look(EVERYTHING, {}, 0xb, 1), [2, 4, 0x201, 2]);
  assertEquals(look(EVERYTHING, {}, 0xb, 5), [0, 0, 5, 2]);
  assertEquals(bit(look(EVERYTHING, { vcpus: 1, vcpu: 0 }, 1)[EDX], 28), 0);
});

Deno.test("CPUID: the time-stamp counter's rate is the crystal's times the ratio, and fits 32 bits in kHz", () => {
  for (const hz of [2_904_000_000, 3_600_000_000, 2_399_999_000, 1_000_000_000, 2_592_003_000]) {
    const [denominator, numerator, crystal] = look({ ...EVERYTHING, tscHz: hz }, { tscKhz: hz / 1000 }, 0x15);
    const told = crystal! * numerator! / denominator!;
    assert(Math.abs(told / hz - 1) < 1e-6, `${told} for ${hz}`);
    assert(numerator! * (crystal! / 1000) < 2 ** 32);
  }
  assertEquals(look(EVERYTHING, {}, 0x4000_0010)[EAX], 2_904_000);
});

Deno.test("CPUID: beyond the last leaf is the last basic one", () => {
  assertEquals(look(EVERYTHING, {}, 0x1234), look(EVERYTHING, {}, 0x16));
  assertEquals(look(EVERYTHING, {}, 0x9000_0000), look(EVERYTHING, {}, 0x16));
});

Deno.test("CPUID: flags of CR4 go with what is announced", () => {
  const all = new GuestCpuid(EVERYTHING, PARTS).cr4, least = new GuestCpuid(OLDEST, PARTS).cr4;
  // VME, UMIP, FSGSBASE, PCIDE, OSXSAVE, SMEP, SMAP; never VMXE, SMXE, LA57, PKE, CET.
  assertEquals(has(all, 0, 11, 16, 17, 18, 20, 21), [1, 1, 1, 1, 1, 1, 1]);
  assertEquals(has(all, 12, 13, 14, 22, 23), [0, 0, 0, 0, 0]);
  assertEquals(has(least, 0, 11, 16, 17, 18, 20, 21), [0, 0, 1, 1, 1, 1, 0]);
});

Deno.test("CPUID: names are in the order of their registers", () => {
  const text = (words: number[]) => new TextDecoder().decode(Uint32Array.from(words).buffer);
  const [, b, c, d] = look(EVERYTHING, {}, 0);
  assertEquals(text([b!, d!, c!]), "GenuineIntel");
  assertEquals(
    text([0x8000_0002, 0x8000_0003, 0x8000_0004].flatMap((leaf) => look(EVERYTHING, {}, leaf))),
    "Intel processor".padEnd(48, "\0"),
  );
});
