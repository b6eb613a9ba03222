/** Making a vCPU: what the host allows, the controls the guest runs with, and the parts that know its registers. */
import { hv_vmx_capability_t as CAP } from "../../../ffi/hypervisor_x86_64.ts";
import { CPU_BASED2, VMCS } from "../../../ffi/vmx.ts";
import { HostError } from "../../base/errors.ts";
import { EXC } from "../../cpu/x86/state.ts";
import type { VcpuParts } from "../engine.ts";
import {
  type Allowed,
  allowedOf,
  type ControlName,
  type Controls,
  cr0Fixed,
  fit,
  type FixedBits,
  planControls,
  USUAL_CR0,
  USUAL_CR4,
} from "./controls.ts";
import { GuestCpuid } from "./cpuid.ts";
import { VcpuHandle } from "./handle.ts";
import { type Hypervisor, refusal, SUCCESS } from "./library.ts";
import { agreeOnMsrs, HvfMsrs } from "./msrs.ts";
import { hostProcessor } from "./processor.ts";
import { HvfRegisters } from "./registers.ts";
import { GuestTsc, tscHz, tscOffsetAt } from "./time.ts";
import { SharedVm } from "./vm.ts";

export interface Guest {
  readonly hv: Hypervisor;
  readonly vm: SharedVm;
  readonly handle: VcpuHandle;
  readonly controls: Controls;
  readonly cpuid: GuestCpuid;
  readonly registers: HvfRegisters;
  readonly msrs: HvfMsrs;
  readonly tsc: GuestTsc;
}

/** Where the local APIC's registers are at power-on. */
const APIC_PAGE = 0xfee0_0000n;
/** Machine checks come to us: they are the host's. */
const EXCEPTIONS = 1 << EXC.MC;
const X87_SSE = 3;

const FIELDS: Readonly<Record<ControlName, number>> = {
  pin: VMCS.CTRL_PIN_BASED,
  cpu: VMCS.CTRL_CPU_BASED,
  cpu2: VMCS.CTRL_CPU_BASED2,
  exit: VMCS.CTRL_VMEXIT_CONTROLS,
  entry: VMCS.CTRL_VMENTRY_CONTROLS,
};

export interface HostVmx {
  readonly allowed: Readonly<Record<ControlName, Allowed>>;
  readonly cr0: FixedBits;
  readonly cr4: FixedBits;
}

/** What the framework lets guests have. */
export function hostVmx(hv: Hypervisor): HostVmx {
  const out = new BigUint64Array(1), bytes = new Uint8Array(out.buffer);
  const ask = (capability: number) => {
    const code = hv.hv_vmx_read_capability(capability, bytes);
    return code === SUCCESS && out[0] !== 0n ? out[0]! : null;
  };
  // The newer capabilities allow more bits to be 0: [sdm3 §A.3.1].
  const control = (exact: number | null, plain: number): Allowed => {
    const found = (exact === null ? null : ask(exact)) ?? ask(plain);
    if (found === null) throw refusal("hv_vmx_read_capability", hv.hv_vmx_read_capability(plain, bytes));
    return allowedOf(found);
  };
  const low = (capability: number) => {
    const found = ask(capability);
    return found === null ? null : Number(found & 0xffff_ffffn);
  };
  const cr0 = [low(CAP.HV_VMX_CAP_CR0_FIXED0), low(CAP.HV_VMX_CAP_CR0_FIXED1)] as const;
  const cr4 = [low(CAP.HV_VMX_CAP_CR4_FIXED0), low(CAP.HV_VMX_CAP_CR4_FIXED1)] as const;
  return {
    allowed: {
      pin: control(CAP.HV_VMX_CAP_TRUE_PINBASED, CAP.HV_VMX_CAP_PINBASED),
      cpu: control(CAP.HV_VMX_CAP_TRUE_PROCBASED, CAP.HV_VMX_CAP_PROCBASED),
      cpu2: control(null, CAP.HV_VMX_CAP_PROCBASED2),
      exit: control(CAP.HV_VMX_CAP_TRUE_EXIT, CAP.HV_VMX_CAP_EXIT),
      entry: control(CAP.HV_VMX_CAP_TRUE_ENTRY, CAP.HV_VMX_CAP_ENTRY),
    },
    cr0: cr0[1] === null ? USUAL_CR0 : cr0Fixed(cr0[0] ?? 0, cr0[1]),
    cr4: cr4[1] === null ? USUAL_CR4 : { ones: cr4[0] ?? 0, maybe: cr4[1] },
  };
}

/** The controls, or HostError if the host lacks one that no guest can be without. */
export function controlsFor({ allowed }: HostVmx): Controls {
  const { controls, missing } = planControls(allowed);
  if (missing.length > 0) {
    throw new HostError(`Cannot run guests by Hypervisor.framework: this host does not allow ${missing.join(", ")}`);
  }
  return controls;
}

/** A vCPU of the calling thread, ready to be reset. */
export function makeGuest(hv: Hypervisor, parts: VcpuParts): Guest {
  const vmx = hostVmx(hv), planned = controlsFor(vmx);
  const processor = hostProcessor(hv), hz = tscHz(hv, processor.tscHz);
  const vm = SharedVm.join(hv, parts, () => tscOffsetAt(hv, parts.clock.nowNs(), hz));
  let handle: VcpuHandle | null = null;
  try {
    const make = (options: number) => VcpuHandle.create(hv, options);
    const tsc = GuestTsc.createVcpu(hv, hz, make, () => vm.tscOffset);
    handle = tsc.handle;
    const controls = writeControls(handle, planned);
    const has = (bit: number) => (controls.cpu2 & bit) !== 0;
    const policy = agreeOnMsrs(handle, processor.structured.edx, has(CPU_BASED2.RDTSCP));
    const cpuid = new GuestCpuid(processor, {
      vcpu: parts.index,
      vcpus: parts.vcpus ?? 1,
      tscKhz: Math.round(hz / 1000),
      rdtscp: policy.tscAux,
      invpcid: has(CPU_BASED2.INVPCID),
      speculation: policy.speculation,
      archCapabilities: policy.archCapabilities !== null,
    });
    handle.components = cpuid.xcr0 | X87_SSE;
    const registers = new HvfRegisters(handle, parts.ram, cpuid, vmx, controls.entry);
    const efer = { read: () => registers.efer, write: (lo: number, hi: number) => registers.writeEfer(lo, hi) };
    const msrs = new HvfMsrs({ handle, parts, policy, tsc, efer });
    return { hv, vm, handle, controls, cpuid, registers, msrs, tsc };
  } catch (error) {
    handle?.destroy();
    vm.leave();
    throw error;
  }
}

/** Writes what is planned, as far as the framework takes it for this vCPU; gives what is in force. */
function writeControls(handle: VcpuHandle, planned: Controls): Controls {
  const controls = { ...planned };
  for (const [name, field] of Object.entries(FIELDS) as [ControlName, number][]) {
    const writable = handle.writable(field);
    if (writable) controls[name] = fit(controls[name], writable);
  }
  if (controls.cpu2 & CPU_BASED2.VIRTUAL_APIC) {
    const code = handle.hv.hv_vmx_vcpu_set_apic_address(handle.id, APIC_PAGE);
    // Without the page its registers are like those of any device.
    if (code !== SUCCESS) controls.cpu2 &= ~CPU_BASED2.VIRTUAL_APIC;
  }
  for (const [name, field] of Object.entries(FIELDS) as [ControlName, number][]) handle.setVmcs(field, controls[name]);
  const exceptions = handle.writable(VMCS.CTRL_EXC_BITMAP);
  handle.setVmcs(VMCS.CTRL_EXC_BITMAP, exceptions ? fit(EXCEPTIONS, exceptions) : EXCEPTIONS);
  return controls;
}
