/** Models of processors: lists of features under a name, and the words a user says to change them. */
import { ConfigError } from "../../../base/errors.ts";
import type { CpuSpec } from "../../../machine/spec.ts";
import type { Row } from "../row.ts";
import { CR4_OF, type Feature, FEATURES, featuresOf, NEEDS } from "./features.ts";

export type CpuModel = CpuSpec;

const list = (text: string) => text.split(" ") as Feature[];

/** What 64-bit mode is made of, and what the board promises: in every model, and nobody can switch it off. */
const FIXED = list(
  "FPU DE PSE TSC MSR PAE MCE CX8 APIC SEP MTRR PGE MCA CMOV PAT PSE-36 CLFSH MMX FXSR SSE SSE2 SS LAHF SYSCALL NX PDPE1GB " +
    "LM HYPERVISOR X2APIC TSC_DEADLINE TSC_ADJUST IBRS STIBP ARCH_CAPABILITIES BHI_CTRL",
);
/** What systems use, in every model until it is switched off. */
const SYSTEM = list(
  "XSAVE XSAVEOPT XSAVEC PCID INVPCID SMEP SMAP UMIP FSGSBASE RDTSCP RDPID ERMS FSRM CLFLUSHOPT CLWB PREFETCHW ARAT " +
    "INVARIANT_TSC",
);
/** The levels of the x86-64 psABI (§3.1.1): each has what the one before has. */
const V2 = list("SSE3 SSSE3 SSE4.1 SSE4.2 POPCNT CMPXCHG16B");
const V3 = [...V2, ...list("AVX AVX2 FMA F16C BMI1 BMI2 LZCNT MOVBE")];
const WESTMERE = [...V2, ...list("AESNI PCLMULQDQ")];
const SANDY_BRIDGE = [...WESTMERE, "AVX"] as Feature[];
const IVY_BRIDGE = [...SANDY_BRIDGE, ...list("F16C RDRAND")];
const HASWELL = [...V3, ...list("AESNI PCLMULQDQ RDRAND")];
const BROADWELL = [...HASWELL, ...list("RDSEED ADX")];
const ALL = Object.keys(FEATURES) as Feature[];
const WITH_AVX = new Set<Feature>(["AVX", "AVX2", "FMA", "F16C"]);
/** Only for who asks for it by name: docs/cpu.md says why. */
const PLAIN = ALL.filter((f) => f !== "MONITOR");

/** Instructions for everybody's code beyond FIXED and SYSTEM, by the name of the model. */
const MODELS: Readonly<Record<string, readonly Feature[]>> = {
  "default": PLAIN.filter((f) => !WITH_AVX.has(f)),
  "max": PLAIN,
  "x86-64-v1": [],
  "x86-64-v2": V2,
  "x86-64-v3": V3,
  "nehalem": V2,
  "westmere": WESTMERE,
  "sandybridge": SANDY_BRIDGE,
  "ivybridge": IVY_BRIDGE,
  "haswell": HASWELL,
  "broadwell": BROADWELL,
  "skylake": BROADWELL,
  "zen": [...BROADWELL, "SHA"],
};
export const MODEL_NAMES = Object.keys(MODELS);

function model(name: string): CpuModel {
  const features = new Set([...FIXED, ...SYSTEM, ...MODELS[name]!]);
  return { name, features: ALL.filter((f) => features.has(f)) };
}
export const DEFAULT_CPU = model("default");
export const MAX_CPU = model("max");

/** How other systems spell them. */
const ALIASES: Readonly<Record<string, Feature>> = {
  aes: "AESNI",
  pclmul: "PCLMULQDQ",
  cx16: "CMPXCHG16B",
  abm: "LZCNT",
  shani: "SHA",
  lahflm: "LAHF",
  clflush: "CLFSH",
};
const plain = (name: string) => name.toLowerCase().replace(/[._-]/g, "");
const byPlainName = new Map(ALL.map((f) => [plain(f), f]));
export function featureNamed(text: string): Feature | undefined {
  return byPlainName.get(plain(text)) ?? ALIASES[plain(text)];
}
/** What can be switched. */
export const SWITCHABLE: readonly Feature[] = ALL.filter((f) => !FIXED.includes(f));

/** What `feature` needs, at any distance. */
function needsOf(feature: Feature): Feature[] {
  return (NEEDS[feature] ?? []).flatMap((f) => [...needsOf(f), f]);
}

/**
 * NAME[,+FEATURE|,-FEATURE…]. A feature that is switched on brings what it needs, unless the same words switch that off; one that
 * is switched off may not be needed by one that stays. ConfigError if it says anything else.
 */
export function parseCpuModel(text: string): CpuModel {
  const [name, ...words] = text.split(",");
  if (!Object.hasOwn(MODELS, name!)) {
    throw new ConfigError(
      `--cpu "${text}": there is no processor "${name}": expected one of ${MODEL_NAMES.join(", ")}`,
    );
  }
  const features = new Set(model(name!).features as Feature[]);
  const on = new Set<Feature>(), off = new Set<Feature>();
  for (const word of words) {
    const sign = word[0], feature = featureNamed(word.slice(1));
    if (sign !== "+" && sign !== "-") {
      throw new ConfigError(`--cpu "${text}": found "${word}": expected + or - and a feature, such as +avx2 or -bmi2`);
    }
    if (!feature) throw new ConfigError(`--cpu "${text}": no feature is called "${word.slice(1)}": see docs/cpu.md`);
    if (sign === "-" && !SWITCHABLE.includes(feature)) {
      throw new ConfigError(`--cpu "${text}": ${spelled(feature)} cannot be switched off: every machine here has it`);
    }
    if ((sign === "+" ? off : on).has(feature)) {
      throw new ConfigError(`--cpu "${text}": ${spelled(feature)} is switched on and off: expected one of the two`);
    }
    (sign === "+" ? on : off).add(feature);
  }
  for (const f of on) for (const needed of [...needsOf(f), f]) if (!off.has(needed)) features.add(needed);
  for (const f of off) features.delete(f);
  const left = ALL.filter((f) => features.has(f) && needsOf(f).some((n) => !features.has(n)));
  if (left.length > 0) {
    const missing = needsOf(left[0]!).find((n) => !features.has(n))!, names = left.map(spelled);
    throw new ConfigError(
      `--cpu "${text}": ${names.join(", ")} need${names.length === 1 ? "s" : ""} ${spelled(missing)}: expected ${
        names.map((n) => `-${n}`).join()
      } too, or no -${spelled(missing)}`,
    );
  }
  return { name: text, features: ALL.filter((f) => features.has(f)) };
}

/** As the command line has it. */
export function spelled(feature: Feature): string {
  return feature.toLowerCase();
}

/** What the generated code must know of a model. */
export interface CpuLimits {
  /** Rows of AVX are part of the module. */
  readonly avx: boolean;
  /** Bits of CR4 that are reserved for want of a feature. */
  readonly reservedCr4: number;
}
export function limitsOf(model: CpuModel): CpuLimits {
  let reservedCr4 = 0;
  for (const [f, bit] of Object.entries(CR4_OF)) if (!model.features.includes(f)) reservedCr4 |= bit;
  return { avx: model.features.includes("AVX"), reservedCr4 };
}
export const NO_LIMITS: CpuLimits = { avx: false, reservedCr4: 0 };

/** Whether a processor of this model knows the row; undefined if it knows them all but for what is not in its module. */
export function rowFilter(model: CpuModel): (row: Row) => boolean {
  const features = new Set(model.features);
  return (row) => featuresOf(row).every((f) => features.has(f));
}
