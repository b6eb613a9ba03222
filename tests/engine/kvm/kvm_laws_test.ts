import { guestCpuid } from "../../../src/engine/kvm/cpuid.ts";
import { deadlineReachesUs } from "../../../src/engine/kvm/deadline.ts";
import { kvmEngine } from "../../../src/engine/kvm/kvm.ts";
import { probeKvm } from "../../../src/engine/kvm/probe.ts";
import { Kvm } from "../../../src/engine/kvm/vm.ts";
import { engineLaws } from "../engine_laws.ts";

const { refusal } = probeKvm();

function missing(): Record<string, string> {
  const kvm = new Kvm();
  const cpuid = guestCpuid(kvm.supportedCpuid(), { vcpu: 0, vcpus: 1, tscKhz: 1, apicMsrs: true, deadline: true });
  const deadline = kvm.canPassMsrs && deadlineReachesUs(kvm, cpuid);
  kvm.close();
  return deadline ? {} : {
    "a deadline of the time-stamp counter wakes HLT when it has passed": "this KVM keeps IA32_TSC_DEADLINE to itself",
  };
}

engineLaws({ engine: kvmEngine, refusal, missing: refusal === null ? missing() : {} });
