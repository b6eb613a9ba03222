/** Which engines there are, and which one a machine gets. */
import { HostError } from "../base/errors.ts";
import { nativeRefusal } from "../engine/soft/native/available.ts";
import type { CpuSpec, EngineName } from "../machine/spec.ts";
import { mistake } from "./values.ts";

export interface EngineInfo {
  readonly name: EngineName;
  readonly what: string;
  /** Why it cannot be had, or null. */
  readonly refusal: string | null;
  /** Whose word that is: the user could ask for something else, or the host has refused. */
  readonly refusedBy?: "trike" | "host";
  /** Why `auto` passes it over though it can be had, or null. */
  readonly reluctance: string | null;
}

/** A KVM slower than this is an emulator's, and the software engine is faster. */
const WORTH_MIPS = 100;

/** The fastest first. Tries what could be asked for: `auto` and no name ask for all of them. */
export async function engines(asked: "auto" | EngineName = "auto"): Promise<readonly EngineInfo[]> {
  return [
    {
      name: "hvf",
      what: "Hypervisor.framework on macOS",
      ...asked === "auto" || asked === "hvf" ? await hvf() : UNTRIED,
    },
    { name: "kvm", what: "KVM on Linux", ...asked === "auto" || asked === "kvm" ? await kvm() : UNTRIED },
    {
      name: "soft",
      what: `a software CPU, generated into WebAssembly; runs everywhere (soft:native: ${
        nativeRefusal()?.why ?? "into machine code"
      })`,
      refusal: null,
      reluctance: null,
    },
  ];
}

type Verdict = Pick<EngineInfo, "refusal" | "refusedBy" | "reluctance">;
const UNTRIED: Verdict = { refusal: null, reluctance: null };

const refused = (refusal: string, refusedBy: "trike" | "host"): Verdict => ({ refusal, refusedBy, reluctance: null });
/** Asked, and not tried: a try would ask the user for the permission. */
const mayCall = () => Deno.permissions.querySync({ name: "ffi" }).state === "granted";

async function hvf(): Promise<Verdict> {
  if (Deno.build.os !== "darwin" || Deno.build.arch !== "x86_64") return refused("on Intel Macs only", "host");
  if (!mayCall()) return refused("needs --allow-ffi", "trike");
  const refusal = (await import("../engine/hvf/probe.ts")).probeHvf();
  return refusal === null ? UNTRIED : refused(refusal, "host");
}

async function kvm(): Promise<Verdict> {
  if (Deno.build.os !== "linux" || Deno.build.arch !== "x86_64") return refused("on x86-64 Linux only", "host");
  if (!mayCall()) return refused("needs --allow-ffi", "trike");
  const { refusal, mips } = (await import("../engine/kvm/probe.ts")).probeKvm();
  if (refusal !== null) return refused(refusal, "host");
  return {
    refusal: null,
    reluctance: mips < WORTH_MIPS ? `slow here, at ${Math.max(1, Math.round(mips))} MIPS an emulator's` : null,
  };
}

export interface EngineRequest {
  readonly engine: "auto" | EngineName;
  readonly icount: boolean;
  /** The user has chosen a processor. */
  readonly cpu?: CpuSpec | null;
}

/** The engine for a request; what `auto` passed over, and why, goes to `say`. */
export function chooseEngine(
  known: readonly EngineInfo[],
  { engine: asked, icount, cpu }: EngineRequest,
  say: (line: string) => void,
): EngineName {
  /** An option that the engine cannot serve, and why. */
  const unfit = ({ name }: EngineInfo): readonly [string, string] | null => {
    if (name === "soft") return null;
    if (icount) return ["--icount", "cannot count instructions"];
    return cpu ? ["--cpu", "has the host's processor"] : null;
  };
  if (asked !== "auto") {
    const engine = known.find(({ name }) => name === asked)!;
    const usable = known.filter(({ refusal }) => refusal === null).map(({ name }) => name).join(" or ");
    if (engine.refusal !== null && engine.refusedBy === "host") {
      throw new HostError(`Cannot use --engine ${asked}: ${engine.refusal}`);
    }
    const verb = engine.refusal?.startsWith("needs") ? "" : "is ";
    if (engine.refusal !== null) {
      throw mistake("--engine", asked, `auto or ${usable}: the engine ${asked} ${verb}${engine.refusal}`);
    }
    const [option, why] = unfit(engine) ?? [null];
    if (option) throw mistake("--engine", asked, `soft with ${option}: the engine ${asked} ${why}`);
    return asked;
  }
  const reasonOf = (engine: EngineInfo) => engine.refusal ?? unfit(engine)?.[1] ?? engine.reluctance;
  const best = known.find((engine) => reasonOf(engine) === null)!;
  const passed = known.slice(0, known.indexOf(best));
  const reasons = [...new Set(passed.map(reasonOf))].map((reason) =>
    `${passed.filter((engine) => reasonOf(engine) === reason).map(({ name }) => name).join(" and ")}: ${reason}`
  );
  say(`engine ${best.name}${reasons.length > 0 ? ` (${reasons.join("; ")})` : ""}`);
  return best.name;
}

/** What a machine on `engine` is made of if native code is asked for: that, if it can be had. */
export function nativeCode(
  { native, icount, quiet }: { readonly native: boolean; readonly icount: boolean; readonly quiet: boolean },
  engine: EngineName,
  say: (line: string) => void,
  refusal = nativeRefusal(),
): { readonly native?: true } {
  if (!native || engine !== "soft") return {};
  if (icount) {
    if (!quiet) say("--icount: instructions are counted by the code in WebAssembly; there is no native code");
    return {};
  }
  if (refusal === null) return { native };
  if (refusal.by === "host") throw new HostError(`Cannot use --engine soft:native: ${refusal.why}`);
  throw mistake("--engine", "soft:native", `soft, or 'deno task run:native': native code ${refusal.why}`);
}

/** What `trike engines` prints. */
export function enginesPage(known: readonly EngineInfo[]): string {
  const states = known.map(({ refusal, reluctance }) => refusal ?? reluctance ?? "available");
  const width = Math.max(...states.map((state) => state.length)) + 2;
  return known.map(({ name, what }, i) => `${name.padEnd(6)}${states[i]!.padEnd(width)}${what}\n`).join("");
}
