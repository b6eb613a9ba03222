import { assert, assertEquals, assertThrows } from "@std/assert";
import { ConfigError } from "../../../base/errors.ts";
import { DECODED, Decoder } from "../decode.ts";
import { Variants } from "../handlers.ts";
import { ROWS } from "../isa/index.ts";
import { SPECIALS } from "../specials.ts";
import { CR4, MODE_16, MODE_32, MODE_64 } from "../state.ts";
import { DEFAULT_CPU, limitsOf, MAX_CPU, MODEL_NAMES, parseCpuModel, rowFilter, SWITCHABLE } from "./cpu_model.ts";
import { FEATURES, featuresOf, INSTRUCTIONS, NEEDS } from "./features.ts";
import { MODE_REAL } from "./segments.ts";

const variants = new Variants(ROWS, SPECIALS);
const decoderOf = (text: string) => new Decoder(ROWS, variants, rowFilter(parseCpuModel(text)));
function name(decoder: Decoder, bytes: number[], mode: number = MODE_64): string | null {
  const result = decoder.decode(Uint8Array.from(bytes), 0, bytes.length, mode);
  return result === DECODED.OK ? ROWS[decoder.row]!.name : null;
}

/** The instructions of [sdm2]'s pages, mnemonics as there, without the forms that only AVX-512 has. */
const V = {
  AVX: "VADDPD VADDPS VADDSD VADDSS VADDSUBPD VADDSUBPS VANDPD VANDPS VANDNPD VANDNPS VBLENDPD VBLENDPS VBLENDVPD " +
    "VBLENDVPS VBROADCASTSS VBROADCASTSD VBROADCASTF128 VCMPPD VCMPPS VCMPSD VCMPSS VCOMISD VCOMISS VCVTDQ2PD VCVTDQ2PS " +
    "VCVTPD2DQ VCVTPD2PS VCVTPS2DQ VCVTPS2PD VCVTSD2SI VCVTSD2SS VCVTSI2SD VCVTSI2SS VCVTSS2SD VCVTSS2SI VCVTTPD2DQ " +
    "VCVTTPS2DQ VCVTTSD2SI VCVTTSS2SI VDIVPD VDIVPS VDIVSD VDIVSS VDPPD VDPPS VEXTRACTF128 VEXTRACTPS VHADDPD VHADDPS " +
    "VHSUBPD VHSUBPS VINSERTF128 VINSERTPS VLDDQU VLDMXCSR VMASKMOVDQU VMASKMOVPS VMASKMOVPD VMAXPD VMAXPS VMAXSD VMAXSS " +
    "VMINPD VMINPS VMINSD VMINSS VMOVAPD VMOVAPS VMOVD VMOVDDUP VMOVDQA VMOVDQU VMOVHLPS VMOVHPD VMOVHPS VMOVLHPS VMOVLPD " +
    "VMOVLPS VMOVMSKPD VMOVMSKPS VMOVNTDQ VMOVNTDQA VMOVNTPD VMOVNTPS VMOVQ VMOVSD VMOVSHDUP VMOVSLDUP VMOVSS VMOVUPD " +
    "VMOVUPS VMPSADBW VMULPD VMULPS VMULSD VMULSS VORPD VORPS VPABSB VPABSW VPABSD VPACKSSWB VPACKSSDW VPACKUSWB VPACKUSDW " +
    "VPADDB VPADDW VPADDD VPADDQ VPADDSB VPADDSW VPADDUSB VPADDUSW VPALIGNR VPAND VPANDN VPAVGB VPAVGW VPBLENDVB VPBLENDW " +
    "VPCMPESTRI VPCMPESTRM VPCMPISTRI VPCMPISTRM VPCMPEQB VPCMPEQW VPCMPEQD VPCMPEQQ VPCMPGTB VPCMPGTW VPCMPGTD VPCMPGTQ " +
    "VPERMILPD VPERMILPS VPERM2F128 VPEXTRB VPEXTRW VPEXTRD VPHADDW VPHADDD VPHADDSW VPHMINPOSUW VPHSUBW VPHSUBD VPHSUBSW " +
    "VPINSRB VPINSRW VPINSRD VPMADDWD VPMADDUBSW VPMAXSB VPMAXSW VPMAXSD VPMAXUB VPMAXUW VPMAXUD VPMINSB VPMINSW VPMINSD " +
    "VPMINUB VPMINUW VPMINUD VPMOVMSKB VPMOVSXBW VPMOVSXBD VPMOVSXBQ VPMOVSXWD VPMOVSXWQ VPMOVSXDQ VPMOVZXBW VPMOVZXBD " +
    "VPMOVZXBQ VPMOVZXWD VPMOVZXWQ VPMOVZXDQ VPMULHUW VPMULHRSW VPMULHW VPMULLW VPMULLD VPMULUDQ VPMULDQ VPOR VPSADBW " +
    "VPSHUFB VPSHUFD VPSHUFHW VPSHUFLW VPSIGNB VPSIGNW VPSIGND VPSLLDQ VPSRLDQ VPSLLW VPSLLD VPSLLQ VPSRAW VPSRAD VPSRLW " +
    "VPSRLD VPSRLQ VPTEST VTESTPS VTESTPD VPSUBB VPSUBW VPSUBD VPSUBQ VPSUBSB VPSUBSW VPSUBUSB VPSUBUSW VPUNPCKHBW " +
    "VPUNPCKHWD VPUNPCKHDQ VPUNPCKHQDQ VPUNPCKLBW VPUNPCKLWD VPUNPCKLDQ VPUNPCKLQDQ VPXOR VRCPPS VRCPSS VRSQRTPS VRSQRTSS " +
    "VROUNDPD VROUNDPS VROUNDSD VROUNDSS VSHUFPD VSHUFPS VSQRTPD VSQRTPS VSQRTSD VSQRTSS VSTMXCSR VSUBPD VSUBPS VSUBSD " +
    "VSUBSS VUCOMISD VUCOMISS VUNPCKHPD VUNPCKHPS VUNPCKLPD VUNPCKLPS VXORPD VXORPS VZEROALL VZEROUPPER",
  AVX2:
    "VMPSADBW VPABSB VPADDB VPALIGNR VPBLENDVB VPBLENDW VPSHUFB VPSLLDQ VPXOR VBROADCASTI128 VBROADCASTSS VBROADCASTSD " +
    "VEXTRACTI128 VINSERTI128 VPBLENDD VPBROADCASTB VPBROADCASTW VPBROADCASTD VPBROADCASTQ VPERM2I128 VPERMD VPERMPS VPERMPD " +
    "VPERMQ VPGATHERDD VPGATHERQD VPGATHERDQ VPGATHERQQ VGATHERDPS VGATHERQPS VGATHERDPD VGATHERQPD VPMASKMOVD VPMASKMOVQ " +
    "VPSLLVD VPSLLVQ VPSRAVD VPSRLVD VPSRLVQ VMOVNTDQA",
  AESNI: "VAESDEC VAESDECLAST VAESENC VAESENCLAST VAESIMC VAESKEYGENASSIST",
  PCLMULQDQ: "VPCLMULQDQ",
  F16C: "VCVTPH2PS VCVTPS2PH",
  FMA: ["VFMADD", "VFMSUB", "VFNMADD", "VFNMSUB", "VFMADDSUB", "VFMSUBADD"].flatMap((f) =>
    ["132", "213", "231"].flatMap((order) =>
      (f.endsWith("SUBADD") || f.endsWith("ADDSUB") ? ["PS", "PD"] : ["PS", "PD", "SS", "SD"]).map((t) => f + order + t)
    )
  ).join(" "),
} as const;

Deno.test("every VEX-encoded vector instruction of the manual has a row under its feature, and there are no others", () => {
  const found = new Map<string, Set<string>>();
  for (const row of ROWS) {
    if (row.unit !== "avx") continue;
    const set = found.get(row.feature!) ?? new Set<string>();
    found.set(row.feature!, set.add(row.name));
  }
  assertEquals([...found.keys()].sort(), Object.keys(V).sort());
  for (const [feature, list] of Object.entries(V)) {
    const names = found.get(feature)!;
    for (const n of list.split(" ")) assert(names.has(n), `${feature}: no row for ${n}`);
    // The 256-bit forms of AVX' integers are AVX2's.
    const known = new Set(`${list} ${feature === "AVX2" ? V.AVX : ""}`.split(" "));
    for (const n of names) assert(known.has(n), `${feature}: ${n} is none of its instructions`);
  }
});

Deno.test("what a model announces rests on what it announces", () => {
  for (const text of MODEL_NAMES) {
    const { features } = parseCpuModel(text);
    for (const [feature, needs] of Object.entries(NEEDS)) {
      if (features.includes(feature)) {
        for (const n of needs) assert(features.includes(n), `${text}: ${feature} without ${n}`);
      }
    }
    for (const f of features) assert(Object.hasOwn(FEATURES, f), f);
  }
  assertEquals(DEFAULT_CPU.features.includes("AVX"), false);
  assertEquals(Object.keys(FEATURES).filter((f) => !MAX_CPU.features.includes(f)), ["MONITOR"]);
});

Deno.test("the psABI's levels [psabi §3.1.1]", () => {
  const has = (text: string, list: string) => list.split(" ").every((f) => parseCpuModel(text).features.includes(f));
  const v2 = "CMPXCHG16B LAHF POPCNT SSE3 SSE4.1 SSE4.2 SSSE3", v3 = `AVX AVX2 BMI1 BMI2 F16C FMA LZCNT MOVBE XSAVE`;
  assert(has("x86-64-v1", "CMOV CX8 FPU FXSR MMX SYSCALL SSE SSE2"));
  assert(has("x86-64-v2", v2) && has("x86-64-v3", `${v2} ${v3}`) && has("haswell", `${v2} ${v3}`));
  for (const f of ["SSE3", "POPCNT", "AVX"]) assert(!has("x86-64-v1", f), f);
  for (const f of ["AVX", "BMI1", "MOVBE", "LZCNT", "AESNI"]) assert(!has("x86-64-v2", f), f);
});

Deno.test("a feature that is off makes its instructions undefined, each feature alone", () => {
  for (const off of SWITCHABLE) {
    if (!INSTRUCTIONS[off]) continue;
    // Whatever rests on it goes too.
    const gone = new Set<string>([off]);
    for (let changed = true; changed;) {
      changed = false;
      for (const [f, needs] of Object.entries(NEEDS)) {
        if (!gone.has(f) && needs.some((n) => gone.has(n))) changed = !!gone.add(f);
      }
    }
    // Whatever is not on by itself, too.
    const all = gone.has("MONITOR") ? "max" : "max,+monitor";
    const text = `${all},${[...gone].map((f) => `-${f}`).join()}`, has = rowFilter(parseCpuModel(text));
    for (const row of ROWS) assertEquals(has(row), !featuresOf(row).some((f) => gone.has(f)), `${text}: ${row.name}`);
  }
});

Deno.test("bytes decode, or do not, by the model", () => {
  const vaddps = [0xc5, 0xfc, 0x58, 0xc1], andn = [0xc4, 0xe2, 0x68, 0xf2, 0xc8], lzcnt = [0xf3, 0x0f, 0xbd, 0xc1];
  const fma = [0xc4, 0xe2, 0x79, 0x98, 0xc0], movbe = [0x0f, 0x38, 0xf0, 0x00];
  const rdfsbase = [0xf3, 0x0f, 0xae, 0xc0], xgetbv = [0x0f, 0x01, 0xd0];
  const cases: [string, (string | null)[]][] = [
    ["x86-64-v3", ["VADDPS", "ANDN", "LZCNT", "VFMADD132PS", "MOVBE", "RDFSBASE", "XGETBV"]],
    ["x86-64-v3,-fma,-fsgsbase", ["VADDPS", "ANDN", "LZCNT", null, "MOVBE", null, "XGETBV"]],
    // Without LZCNT its prefix means nothing: [sdm2 LZCNT].
    ["x86-64-v2", [null, null, "BSR", null, null, "RDFSBASE", "XGETBV"]],
    ["x86-64-v2,-xsave,-xsaveopt,-xsavec,+movbe", [null, null, "BSR", null, "MOVBE", "RDFSBASE", null]],
  ];
  for (const [text, wanted] of cases) {
    const d = decoderOf(text);
    assertEquals([vaddps, andn, lzcnt, fma, movbe, rdfsbase, xgetbv].map((b) => name(d, b)), wanted, text);
  }
});

Deno.test("VEX fields that must not be: #UD [sdm2 §2.3]", () => {
  const d = decoderOf("max");
  const good = [0xc5, 0xfc, 0x58, 0xc1];
  assertEquals(name(d, good), "VADDPS");
  // 66, F2, F3, LOCK or REX before it.
  for (const prefix of [0x66, 0xf2, 0xf3, 0xf0, 0x40, 0x48]) assertEquals(name(d, [prefix, ...good]), null);
  assertEquals(name(d, [0x40, 0x2e, ...good]), "VADDPS");
  assertEquals(name(d, [0x65, ...good]), "VADDPS");
  // VMOVAPS has no second source: vvvv is 1111b.
  assertEquals(name(d, [0xc5, 0xfc, 0x28, 0xc1]), "VMOVAPS");
  assertEquals(name(d, [0xc5, 0xf4, 0x28, 0xc1]), null);
  // VPERMQ wants W1 and L1, VPHMINPOSUW L0, VADDSS takes any L.
  assertEquals(name(d, [0xc4, 0xe3, 0xfd, 0x00, 0xc1, 0]), "VPERMQ");
  assertEquals(name(d, [0xc4, 0xe3, 0x7d, 0x00, 0xc1, 0]), null);
  assertEquals(name(d, [0xc4, 0xe3, 0xf9, 0x00, 0xc1, 0]), null);
  assertEquals(name(d, [0xc4, 0xe2, 0x7d, 0x41, 0xc1]), null);
  for (const p of [0xf2, 0xf6]) assertEquals(name(d, [0xc5, p, 0x58, 0xc1]), "VADDSS");
  // Maps 0 and 4.
  for (const map of [0xe0, 0xe4]) assertEquals(name(d, [0xc4, map, 0x7d, 0x58, 0xc1]), null);
  // Outside 64-bit mode it is LES and LDS, unless the two top bits say otherwise.
  assertEquals(name(d, [0xc5, 0x7c, 0x58, 0xc1], MODE_32), "LDS");
  assertEquals(name(d, good, MODE_32), "VADDPS");
  // In real mode that is #UD.
  assertEquals(name(d, good, MODE_16), "VADDPS");
  for (const real of [MODE_16, MODE_32]) assertEquals(name(d, good, real | MODE_REAL), null);
  assertEquals(name(d, [0xc5, 0x06, 0x00, 0x10], MODE_16 | MODE_REAL), "LDS");
  // A gather: a SIB byte, and three different registers.
  assertEquals(name(d, [0xc4, 0xe2, 0x71, 0x90, 0x04, 0x10]), "VPGATHERDD");
  assertEquals(name(d, [0xc4, 0xe2, 0x71, 0x90, 0x00]), null);
  assertEquals(name(d, [0xc4, 0xe2, 0x71, 0x90, 0xc0]), null);
  assertEquals(name(d, [0xc4, 0xe2, 0x79, 0x90, 0x04, 0x10]), null); // mask is the destination
  assertEquals(name(d, [0xc4, 0xe2, 0x71, 0x90, 0x04, 0x08]), null); // index is the mask
  assertEquals(name(d, [0xc4, 0xe2, 0x71, 0x90, 0x04, 0x00]), null); // index is the destination
});

Deno.test("CR4 bits follow the features", () => {
  assertEquals(limitsOf(MAX_CPU), { avx: true, reservedCr4: 0 });
  assertEquals(limitsOf(DEFAULT_CPU), { avx: false, reservedCr4: 0 });
  const none = parseCpuModel("x86-64-v2,-xsave,-xsaveopt,-xsavec,-fsgsbase,-smep,-smap,-umip,-pcid,-invpcid");
  const bits = CR4.OSXSAVE | CR4.FSGSBASE | CR4.SMEP | CR4.SMAP | CR4.UMIP | CR4.PCIDE;
  assertEquals(limitsOf(none), { avx: false, reservedCr4: bits });
});

Deno.test("a mistake is one sentence that names what was said", () => {
  const cases: [string, string[]][] = [
    ["pentium", ['"pentium"', "x86-64-v3"]],
    ["max,-avx", ["need avx:", "-fma", "-f16c", "-avx2 too"]],
    ["max,-pcid", ["invpcid needs pcid", "-invpcid too"]],
    ["default,+avx2,-xsave", ["xsave"]],
    ["max,-lm", ["lm cannot be switched off"]],
    ["max,+", ['""']],
    ["max,", ["expected + or -"]],
  ];
  for (const [text, words] of cases) {
    const { message } = assertThrows(() => parseCpuModel(text), ConfigError);
    for (const w of [`--cpu "${text}"`, ...words]) assert(message.includes(w), message);
    assert(!message.includes("\n"));
  }
});
