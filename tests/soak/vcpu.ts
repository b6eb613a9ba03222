/** The Worker of a vCPU in a soak: trike's own, and once in a while it writes what it has counted into a file. */
import { softEngine } from "../../src/engine/soft/soft.ts";
import type { Vcpu, VcpuParts, VcpuStats } from "../../src/engine/engine.ts";
import { serveVcpu } from "../../src/machine/vcpu_service.ts";

/** Guest time between two files. */
const EVERY_NS = 5e9;

/** What vCPU n writes into `vcpu-n.json`. */
export interface VcpuReport {
  readonly stats: VcpuStats;
  /** Bytes of the thread's own JavaScript heap. */
  readonly heapBytes: number;
  readonly where: string;
}

export function reportPath(folder: string, index: number): string {
  return `${folder}/vcpu-${index}.json`;
}

// The name of the module of a Worker is all that it is told before it serves.
const words = new URL(import.meta.url).searchParams, folder = words.get("folder");
if (folder !== null) {
  const codeBytes = Number(words.get("code"));
  serveVcpu(async () => {
    const native = words.has("native");
    const engine = native ? (await import("../../src/engine/soft/native/engine.ts")).nativeEngine : softEngine;
    return { name: "soft", openVcpu: (parts) => reporting(engine.openVcpu({ ...parts, codeBytes }), parts) };
  });
}

function reporting(vcpu: Vcpu, { clock, index }: VcpuParts): Vcpu {
  const run = vcpu.run.bind(vcpu), path = reportPath(folder!, index);
  let dueNs = 0;
  return Object.assign(vcpu, {
    run(untilNs: number) {
      const nowNs = clock.nowNs();
      if (nowNs >= dueNs) {
        dueNs = nowNs + EVERY_NS;
        const report: VcpuReport = {
          stats: vcpu.stats(),
          heapBytes: Deno.memoryUsage().heapUsed,
          where: vcpu.describe(),
        };
        Deno.writeTextFileSync(`${path}.new`, JSON.stringify(report));
        Deno.renameSync(`${path}.new`, path);
      }
      return run(Math.min(untilNs, dueNs));
    },
  });
}
