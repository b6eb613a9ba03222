import { kvmEngine } from "../../../src/engine/kvm/kvm.ts";
import { probeKvm } from "../../../src/engine/kvm/probe.ts";
import { engineLaws } from "../engine_laws.ts";

engineLaws({ engine: kvmEngine, refusal: probeKvm().refusal });
