/** The Worker of a vCPU. */
import type { Engine } from "../engine/engine.ts";
import { serveVcpu } from "./vcpu_service.ts";

serveVcpu(async (spec): Promise<Engine> => {
  switch (spec.engine) {
    case "soft":
      if (spec.native) return (await import("../engine/soft/native/engine.ts")).nativeEngine;
      return (await import("../engine/soft/soft.ts")).softEngine;
    case "kvm":
      return (await import("../engine/kvm/kvm.ts")).kvmEngine;
    case "hvf": {
      const { hvfEngine, hvfEngineAt } = await import("../engine/hvf/hvf.ts");
      return spec.hypervisor === undefined ? hvfEngine : hvfEngineAt(spec.hypervisor);
    }
  }
});
