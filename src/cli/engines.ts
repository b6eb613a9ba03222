/** Which engines there are, and which one a machine gets. */
import type { EngineName } from "../machine/spec.ts";
import { mistake } from "./values.ts";

interface EngineInfo {
  readonly name: EngineName;
  readonly what: string;
  /** Why this host cannot have it, or null. */
  readonly refusal: string | null;
}

const NOT_YET = "not part of this version of trike";

/** The fastest first. */
export function engines(): readonly EngineInfo[] {
  return [
    { name: "hvf", what: "Hypervisor.framework on macOS", refusal: NOT_YET },
    { name: "kvm", what: "KVM on Linux", refusal: NOT_YET },
    { name: "soft", what: "a software CPU, generated into WebAssembly; runs everywhere", refusal: null },
  ];
}

/** The engine for `--engine asked`; what was passed over, and why, goes to `say`. */
export function chooseEngine(asked: "auto" | EngineName, say: (line: string) => void): EngineName {
  const known = engines();
  if (asked !== "auto") {
    const refusal = known.find((engine) => engine.name === asked)!.refusal;
    if (refusal === null) return asked;
    const usable = known.filter((engine) => engine.refusal === null).map((engine) => engine.name);
    throw mistake("--engine", asked, `auto or ${usable.join(" or ")}: the engine ${asked} is ${refusal}`);
  }
  const best = known.find((engine) => engine.refusal === null)!;
  const passed = known.slice(0, known.indexOf(best));
  const reasons = [...new Set(passed.map((engine) => engine.refusal))].map((reason) =>
    `${passed.filter((engine) => engine.refusal === reason).map((engine) => engine.name).join(" and ")}: ${reason}`
  );
  say(`engine ${best.name} (${reasons.join("; ")})`);
  return best.name;
}

/** What `trike engines` prints. */
export function enginesPage(): string {
  return engines().map((e) => `${e.name.padEnd(6)}${(e.refusal ?? "available").padEnd(36)}${e.what}\n`).join("");
}
