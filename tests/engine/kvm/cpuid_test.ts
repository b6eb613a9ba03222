/** What CPUID says of several processors and their clocks. */
import { assertEquals } from "@std/assert";
import { type CpuidEntry, guestCpuid, ratio } from "../../../src/engine/kvm/cpuid.ts";

const HOST: readonly CpuidEntry[] = [
  { leaf: 0, subleaf: 0, flags: 0, words: [0xd, 1, 2, 3] },
  { leaf: 1, subleaf: 0, flags: 0, words: [0x906ea, 0x1210_0800, 0xffff_ffff, 0xffff_ffff] },
  { leaf: 4, subleaf: 3, flags: 1, words: [0xfc1f_c163, 1, 2, 3] },
  { leaf: 0xa, subleaf: 0, flags: 0, words: [1, 1, 1, 1] },
  { leaf: 0x4000_0000, subleaf: 0, flags: 0, words: [0x4000_0001, 7, 8, 9] },
  { leaf: 0x4000_0001, subleaf: 0, flags: 0, words: [0xffff_ffff, 5, 5, 5] },
];

function leaf(entries: readonly CpuidEntry[], leaf: number, subleaf = 0): readonly number[] | undefined {
  return entries.find((e) => e.leaf === leaf && e.subleaf === subleaf)?.words;
}

Deno.test("CPUID of one processor of four: its ID, its siblings, and nothing that is the host's", () => {
  const cpuid = guestCpuid(HOST, { vcpu: 2, vcpus: 4, tscKhz: 2_500_000, apicMsrs: true, deadline: true });
  assertEquals(leaf(cpuid, 0), [0x16, 1, 2, 3]);
  const [signature, ebx, ecx, edx] = leaf(cpuid, 1)! as [number, number, number, number];
  assertEquals([signature, ebx], [0x906ea, 0x0204_0800]);
  const bit = (word: number, n: number) => (word >>> n) & 1;
  assertEquals([3, 5, 6, 15, 27].map((n) => bit(ecx, n)), [0, 0, 0, 0, 0], "MONITOR, VMX, SMX, PDCM, OSXSAVE");
  assertEquals([21, 24, 31].map((n) => bit(ecx, n)), [1, 1, 1], "x2APIC, TSC-deadline, a hypervisor");
  assertEquals([21, 22, 28].map((n) => bit(edx, n)), [0, 0, 1], "DS, ACPI, several IDs");
  assertEquals(leaf(cpuid, 4, 3)![0], 0x0c00_c163 >>> 0);
  assertEquals([leaf(cpuid, 0xb, 0), leaf(cpuid, 0xb, 1)], [[0, 1, 0x100, 2], [2, 4, 0x201, 2]]);
  assertEquals(leaf(cpuid, 0xa), undefined);
  assertEquals(leaf(cpuid, 0x15), [2, 5, 1_000_000_000, 0]);
  assertEquals(leaf(cpuid, 0x16), [2500, 2500, 1000, 0]);
  assertEquals(leaf(cpuid, 0x4000_0000), [0x4000_0010, 7, 8, 9]);
  assertEquals(leaf(cpuid, 0x4000_0001), [0x0100_000a, 0, 0, 0]);
  assertEquals(leaf(cpuid, 0x4000_0010), [2_500_000, 1_000_000, 0, 0]);
});

Deno.test("CPUID announces no x2APIC and no deadline timer where their MSRs do not come to the board", () => {
  const flagsOf = (tscKhz: number, apicMsrs: boolean, deadline: boolean) =>
    (leaf(guestCpuid(HOST, { vcpu: 0, vcpus: 1, tscKhz, apicMsrs, deadline }), 1)![2]! >>> 21) & 0b1001;
  assertEquals(flagsOf(2_500_000, false, true), 0);
  assertEquals(flagsOf(0, true, true), 1);
  assertEquals(flagsOf(2_500_000, true, false), 1);
  assertEquals(flagsOf(2_500_000, true, true), 0b1001);
});

Deno.test("the ratio of two frequencies is the closest there is with a small numerator", () => {
  assertEquals(ratio(1_000_000, 1_000_000, 4294), [1, 1]);
  assertEquals(ratio(3_000_000, 1_000_000, 4294), [3, 1]);
  for (const khz of [2_596_144, 2_095_078, 3_999_999, 999_999, 1_700_013, 2_899_871]) {
    const error = (p: number, q: number) => Math.abs(p / q - khz / 1_000_000);
    let least = Infinity;
    for (let p = 1; p <= 4294; p++) least = Math.min(least, error(p, Math.max(1, Math.round(p * 1_000_000 / khz))));
    const [p, q] = ratio(khz, 1_000_000, 4294);
    assertEquals([p <= 4294, error(p, q)], [true, least], `${khz}: ${p}/${q}`);
  }
});
