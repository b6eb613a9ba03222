/**
 * The functions about the kernel's interrupt controllers. The double is a Mac without them: a VM cannot be made with
 * HV_VM_ACCEL_APIC, and these functions are there and refuse. hv_vcpu_exit_info, which says how a run has ended, does so too.
 */
import { HYPERVISOR_SYMBOLS } from "../../ffi/hypervisor_x86_64.ts";
import { HV } from "./codes.ts";
import type { Functions } from "./thread.ts";
import type { VCpu } from "./vcpu.ts";
import type { Vm } from "./vm.ts";

const OF_VM = /^hv_vm_(lapic|ioapic|atpic|send_ioapic|set_apic)/;
const OF_VCPU = /^hv_vcpu_(inject_extint|apic_|exit_)/;

export function apicFunctions(vm: Vm, own: (id: number, body: (v: VCpu) => number) => number): Functions {
  const refuse = () => HV.UNSUPPORTED;
  return Object.fromEntries(
    Object.keys(HYPERVISOR_SYMBOLS).flatMap((name): [string, Functions[string]][] => {
      if (OF_VM.test(name)) return [[name, () => vm.exists ? HV.UNSUPPORTED : HV.ERROR]];
      return OF_VCPU.test(name) ? [[name, (id: number) => own(id, refuse)]] : [];
    }),
  );
}
