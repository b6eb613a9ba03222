import { assert, assertEquals } from "@std/assert";
import { ROWS } from "../isa/index.ts";
import { CR4 } from "../state.ts";
import { type CpuidAnswer, cpuidTable, hasFeature, TSC_HZ } from "./cpuid.ts";
import { DEFAULT_CPU, MAX_CPU, MODEL_NAMES, parseCpuModel } from "./cpu_model.ts";
import { type Feature, FEATURES } from "./features.ts";

const one = cpuidTable({ vcpu: 0, vcpus: 1 });
const v3 = cpuidTable({ vcpu: 0, vcpus: 1, model: parseCpuModel("x86-64-v3") });
const MODELS = MODEL_NAMES.map(parseCpuModel);

function text(words: number[]): string {
  const bytes = new Uint8Array(words.length * 4), view = new DataView(bytes.buffer);
  words.forEach((w, i) => view.setUint32(4 * i, w, true));
  return new TextDecoder().decode(bytes).replace(/\0+$/, "");
}
function bit(answer: CpuidAnswer, register: number, n: number): number {
  return (answer[register]! >>> n) & 1;
}

Deno.test("CPUID names vendor, brand and hypervisor", () => {
  const [, b, c, d] = one(0, 0);
  assertEquals(text([b, d, c]), "GenuineIntel");
  assertEquals(text([2, 3, 4].flatMap((n) => one(0x8000_0000 + n, 0))), "trike software CPU");
  const [max, ...signature] = one(0x4000_0000, 0);
  assertEquals([max, text(signature)], [0x4000_0010, "TrikeTrikeTr"]);
  assertEquals((one(1, 0)[0] >>> 8) & 15, 6);
});

for (
  const model of [
    DEFAULT_CPU,
    MAX_CPU,
    parseCpuModel("x86-64-v1,-xsave,-xsaveopt,-xsavec"),
    parseCpuModel("x86-64-v3,-f16c"),
  ]
) {
  Deno.test(`CPUID of ${model.name} announces each feature at its place, and nothing else in the feature words`, () => {
    const cpuid = cpuidTable({ vcpu: 0, vcpus: 1, model });
    const words = new Map<string, number>();
    for (const [name, [leaf, subleaf, register, n]] of Object.entries(FEATURES)) {
      assert(hasFeature(name), name);
      const key = `${leaf} ${subleaf} ${register}`;
      words.set(key, ((words.get(key) ?? 0) | (model.features.includes(name) ? 1 << n : 0)) >>> 0);
    }
    for (const [key, bits] of words) {
      const [leaf, subleaf, register] = key.split(" ").map(Number) as [number, number, number];
      // OSXSAVE follows CR4.
      assertEquals(cpuid(leaf, subleaf)[register], bits, key);
    }
  });
}

Deno.test("every row's feature has a place in CPUID", () => {
  for (const row of ROWS) if (row.feature) assert(Object.hasOwn(FEATURES, row.feature), `${row.name}: ${row.feature}`);
});

Deno.test("CPUID promises features only with what they rest on", () => {
  const needs: [Feature, Feature[]][] = [
    ["SSE2", ["SSE", "FXSR"]],
    ["SSE4.2", ["SSE4.1", "SSSE3", "SSE3", "SSE2"]],
    ["AESNI", ["SSE2"]],
    ["PCLMULQDQ", ["SSE2"]],
    ["SHA", ["SSSE3"]],
    ["LM", ["PAE", "NX", "SYSCALL", "MSR", "CX8", "CMOV"]],
    ["INVPCID", ["PCID"]],
    ["TSC_DEADLINE", ["APIC", "TSC"]],
    ["X2APIC", ["APIC", "MSR"]],
    ["RDPID", ["RDTSCP"]],
    ["XSAVEC", ["XSAVE"]],
    ["XSAVEOPT", ["XSAVE"]],
    ["FSRM", ["ERMS"]],
    ["CLWB", ["CLFSH"]],
    ["AVX", ["XSAVE", "SSE4.2"]],
    ["AVX2", ["AVX"]],
    ["FMA", ["AVX"]],
    ["F16C", ["AVX"]],
  ];
  for (const [feature, others] of needs) {
    for (const { features } of MODELS) {
      if (features.includes(feature)) {
        for (const o of others) assert(features.includes(o), `${feature} without ${o}`);
      }
    }
  }
  assertEquals(bit(one(1, 0), 3, 1), 0); // VME: CR4.VME and CR4.PVI are reserved
  // 1.ECX: VMX 5, MONITOR 3; 7.EBX: MPX 14, HLE 4, RTM 11, AVX-512 16. None of them exists here.
  for (const model of MODELS) {
    const cpuid = cpuidTable({ vcpu: 0, vcpus: 1, model });
    for (const n of [3, 5]) assertEquals(bit(cpuid(1, 0), 2, n), 0);
    for (const n of [4, 11, 14, 16]) assertEquals(bit(cpuid(7, 0), 1, n), 0);
  }
  // FMA 12, AVX 28, F16C 29; AVX2 5.
  for (const n of [12, 28, 29]) assertEquals([bit(one(1, 0), 2, n), bit(v3(1, 0), 2, n)], [0, 1]);
  assertEquals([bit(one(7, 0), 1, 5), bit(v3(7, 0), 1, 5)], [0, 1]);
  assertEquals(hasFeature("toString"), false);
});

Deno.test("CPUID tells where the YMM halves lie, and sizes by what XCR0 has on", () => {
  let xcr0 = 7;
  const cpuid = cpuidTable({ vcpu: 0, vcpus: 1, model: MAX_CPU, xcr0: () => xcr0 });
  // [sdm1 §13.2, §13.4.2]: component 2 is 256 bytes behind the header of an area of 576.
  assertEquals(cpuid(0xd, 0), [7, 832, 832, 0]);
  assertEquals(cpuid(0xd, 1), [3, 832, 0, 0]);
  assertEquals(cpuid(0xd, 2), [256, 576, 0, 0]);
  assertEquals(cpuid(0xd, 3), [0, 0, 0, 0]);
  xcr0 = 3;
  assertEquals(cpuid(0xd, 0), [7, 576, 832, 0]);
  assertEquals(one(0xd, 0), [3, 576, 576, 0]);
  assertEquals(one(0xd, 2), [0, 0, 0, 0]);
  const without = cpuidTable({ vcpu: 0, vcpus: 1, model: parseCpuModel("default,-xsave,-xsaveopt,-xsavec") });
  for (const subleaf of [0, 1, 2]) assertEquals(without(0xd, subleaf), [0, 0, 0, 0]);
});

Deno.test("CPUID.1: OSXSAVE follows CR4, APIC follows IA32_APIC_BASE", () => {
  let cr4 = 0, apic = true;
  const cpuid = cpuidTable({ vcpu: 0, vcpus: 1, cr4: () => cr4, apicEnabled: () => apic });
  assertEquals([bit(cpuid(1, 0), 2, 27), bit(cpuid(1, 0), 3, 9)], [0, 1]);
  cr4 = CR4.OSXSAVE, apic = false;
  assertEquals([bit(cpuid(1, 0), 2, 27), bit(cpuid(1, 0), 3, 9)], [1, 0]);
});

Deno.test("CPUID's clock leaves agree: 1 GHz [sdm3 §20.7.3]", () => {
  const [denominator, numerator, crystal] = one(0x15, 0);
  assertEquals(crystal * numerator / denominator, TSC_HZ);
  assertEquals(one(0x16, 0)[0] * 1_000_000, TSC_HZ);
  assertEquals(one(0x4000_0010, 0).slice(0, 2), [TSC_HZ / 1000, TSC_HZ / 1000]);
  assertEquals(bit(one(0x8000_0007, 0), 3, 8), 1);
});

Deno.test("CPUID beyond the last leaf answers as the last basic one", () => {
  const max = one(0, 0)[0];
  for (const leaf of [max + 1, 0x3fff_ffff, 0x4000_0011, 0x8000_0009, 0xffff_ffff]) {
    assertEquals(one(leaf, 1), one(max, 1), leaf.toString(16));
  }
  assertEquals(one(0x8000_0000, 0)[0], 0x8000_0008);
});

Deno.test("CPUID's XSAVE area holds what XCR0 offers", () => {
  const [lo, enabled, max, hi] = one(0xd, 0);
  assertEquals([lo, hi], [3, 0]);
  assertEquals([enabled, max], [576, 576]);
  for (let component = 2; component < 63; component++) assertEquals(one(0xd, component), [0, 0, 0, 0]);
});

Deno.test("CPUID's topology tells every vCPU apart", () => {
  for (const vcpus of [1, 2, 3, 4, 7, 8, 33, 64]) {
    const ids = new Set<number>();
    for (let vcpu = 0; vcpu < vcpus; vcpu++) {
      const cpuid = cpuidTable({ vcpu, vcpus });
      for (const leaf of [0xb, 0x1f]) {
        const smt = cpuid(leaf, 0), core = cpuid(leaf, 1), end = cpuid(leaf, 2);
        assertEquals([smt[1], smt[2] >>> 8, core[1], core[2] >>> 8], [1, 1, vcpus, 2]);
        assertEquals([end[0], end[1], end[2] >>> 8], [0, 0, 0]);
        // All cores are in package 0, and each has an ID of its own below the shift.
        assertEquals([smt[3], core[3], end[3]], [vcpu, vcpu, vcpu]);
        assertEquals(vcpu >>> core[0], 0);
        assertEquals(smt[0], 0);
      }
      const l1 = cpuid(4, 0), l3 = cpuid(4, 3);
      assertEquals(((l1[0] >>> 14) & 0xfff) + 1, 1);
      assert(((l3[0] >>> 14) & 0xfff) + 1 >= vcpus);
      assert(((l1[0] >>> 26) & 63) + 1 >= Math.min(vcpus, 64));
      assertEquals(cpuid(1, 0)[1] >>> 24, vcpu);
      assertEquals(bit(cpuid(1, 0), 3, 28), vcpus > 1 ? 1 : 0);
      ids.add(cpuid(0xb, 1)[3]);
    }
    assertEquals(ids.size, vcpus);
  }
});

Deno.test("CPUID.4: ways × partitions × line × sets is the cache's size, and the list ends", () => {
  const sizes: number[] = [];
  for (let i = 0;; i++) {
    const [a, b, c] = one(4, i);
    if ((a & 31) === 0) break;
    sizes.push(((b >>> 22) + 1) * (((b >>> 12) & 0x3ff) + 1) * ((b & 0xfff) + 1) * (c + 1));
  }
  assertEquals(sizes, [32, 32, 1024, 16384].map((kib) => kib * 1024));
  // L2 as leaf 80000006H tells it: KiB and line.
  const [, , l2] = one(0x8000_0006, 0);
  assertEquals([(l2 >>> 16) * 1024, l2 & 0xff], [sizes[2], 64]);
});
