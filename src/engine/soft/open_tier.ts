/** Which tier of compiled code a vCPU has beside the interpreter. */
import type { CpuExports } from "../../cpu/x86/exports.ts";
import type { Interpreter } from "../../cpu/x86/interp.ts";
import { NativeCompiler } from "../../cpu/x86/native/compile.ts";
import type { TraceBuilder } from "../../cpu/x86/trace.ts";
import { VCPU_BASE, VCPU_STRIDE } from "../../machine/memory.ts";
import type { VcpuParts } from "../engine.ts";
import type { CodeCache } from "./code_cache.ts";
import { type MakeCompiler, NativeTier } from "./native/tier.ts";
import { RegionTier, type Tier } from "./tier.ts";

export interface TierParts {
  readonly parts: VcpuParts;
  readonly interp: Interpreter;
  readonly exports: CpuExports;
  readonly cache: CodeCache;
  readonly builder: TraceBuilder;
  /** What a region calls that has used up its budget: gives a new one, negative if it is to be left. */
  readonly extend: (budget: number) => number;
  /** Who makes native code, for tests. */
  readonly make?: MakeCompiler;
}

const native: MakeCompiler = (host) => new NativeCompiler(host);

/** Null if only the interpreter is wanted. Throws HostError if the host gives no memory for native code. */
export function openTier({ parts, interp, exports, cache, builder, extend, make = native }: TierParts): Tier | null {
  const { memory, icount, trace } = parts, cpu = VCPU_BASE + parts.index * VCPU_STRIDE;
  if (parts.tiers === 1) return null;
  if (parts.native && icount === null) {
    return new NativeTier({ interp, exports, cache, builder, memory, cpu, make, trace });
  }
  const u8 = new Uint8Array(memory.buffer);
  return new RegionTier(interp, exports, cache, builder.decoder, memory, cpu, u8, extend, icount !== null, trace);
}
