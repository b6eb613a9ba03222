/** Which tier of compiled code a vCPU has beside the interpreter. */
import type { CpuExports } from "../../cpu/x86/exports.ts";
import type { Interpreter } from "../../cpu/x86/interp.ts";
import type { TraceBuilder } from "../../cpu/x86/trace.ts";
import { VCPU_BASE, VCPU_STRIDE } from "../../machine/memory.ts";
import type { VcpuParts } from "../engine.ts";
import type { CodeCache } from "./code_cache.ts";
import type { OpenNative } from "./native/tier.ts";
import { RegionTier, type Tier } from "./tier.ts";

export interface TierParts {
  readonly parts: VcpuParts;
  readonly interp: Interpreter;
  readonly exports: CpuExports;
  readonly cache: CodeCache;
  readonly builder: TraceBuilder;
  /** What a region calls that has used up its budget: gives a new one, negative if it is to be left. */
  readonly extend: (budget: number) => number;
  /** Where native code is wanted: given, so that who does not want it loads nothing of it. */
  readonly openNative?: OpenNative;
}

/** Null if only the interpreter is wanted. Throws HostError if the host gives no memory for native code. */
export function openTier({ parts, interp, exports, cache, builder, extend, openNative }: TierParts): Tier | null {
  const { memory, icount, trace } = parts, cpu = VCPU_BASE + parts.index * VCPU_STRIDE;
  if (parts.tiers === 1) return null;
  if (openNative && icount === null) return openNative({ interp, exports, cache, builder, memory, cpu, trace });
  const u8 = new Uint8Array(memory.buffer);
  return new RegionTier(interp, exports, cache, builder.decoder, memory, cpu, u8, extend, icount !== null, trace);
}
