/**
 * Hypervisor.framework as a library, and what its answers mean. Opened once a thread.
 */
import { DARWIN_SYMBOLS, SYSTEM_PATH } from "../../../ffi/darwin.ts";
import { hv_return_t, HYPERVISOR_PATH, HYPERVISOR_SYMBOLS as ALL } from "../../../ffi/hypervisor_x86_64.ts";
import { HostError, messageOf } from "../../base/errors.ts";

/** What the engine calls; those of Big Sur and older must be there. */
const SYMBOLS = {
  hv_capability: ALL.hv_capability,
  hv_vm_create: ALL.hv_vm_create,
  hv_vm_destroy: ALL.hv_vm_destroy,
  hv_vm_map: ALL.hv_vm_map,
  hv_vm_unmap: ALL.hv_vm_unmap,
  hv_vm_protect: ALL.hv_vm_protect,
  hv_vm_sync_tsc: ALL.hv_vm_sync_tsc,
  hv_tsc_clock: ALL.hv_tsc_clock,
  hv_vcpu_create: ALL.hv_vcpu_create,
  hv_vcpu_destroy: ALL.hv_vcpu_destroy,
  hv_vcpu_read_register: ALL.hv_vcpu_read_register,
  hv_vcpu_write_register: ALL.hv_vcpu_write_register,
  hv_vcpu_read_fpstate: ALL.hv_vcpu_read_fpstate,
  hv_vcpu_write_fpstate: ALL.hv_vcpu_write_fpstate,
  hv_vcpu_enable_native_msr: ALL.hv_vcpu_enable_native_msr,
  hv_vcpu_read_msr: ALL.hv_vcpu_read_msr,
  hv_vcpu_write_msr: ALL.hv_vcpu_write_msr,
  hv_vcpu_invalidate_tlb: ALL.hv_vcpu_invalidate_tlb,
  hv_vcpu_run: ALL.hv_vcpu_run,
  hv_vcpu_run_until: ALL.hv_vcpu_run_until,
  hv_vcpu_interrupt: ALL.hv_vcpu_interrupt,
  hv_vcpu_get_exec_time: ALL.hv_vcpu_get_exec_time,
  hv_vcpu_set_tsc_relative: ALL.hv_vcpu_set_tsc_relative,
  hv_vcpu_vmx_status: ALL.hv_vcpu_vmx_status,
  hv_vmx_vcpu_read_vmcs: ALL.hv_vmx_vcpu_read_vmcs,
  hv_vmx_vcpu_write_vmcs: ALL.hv_vmx_vcpu_write_vmcs,
  hv_vmx_vcpu_get_cap_write_vmcs: ALL.hv_vmx_vcpu_get_cap_write_vmcs,
  hv_vmx_read_capability: ALL.hv_vmx_read_capability,
  hv_vmx_get_msr_info: ALL.hv_vmx_get_msr_info,
  hv_vmx_vcpu_set_apic_address: ALL.hv_vmx_vcpu_set_apic_address,
  ...DARWIN_SYMBOLS,
} as const satisfies Deno.ForeignLibraryInterface;

export type Hypervisor = Deno.DynamicLibrary<typeof SYMBOLS>["symbols"];

const opened = new Map<string, Hypervisor>();

/** The framework, or a library with the same symbols: a test's. Throws HostError if it cannot be opened. */
export function openHypervisor(path: string = HYPERVISOR_PATH): Hypervisor {
  const known = opened.get(path);
  if (known) return known;
  try {
    let { symbols } = Deno.dlopen(path, SYMBOLS);
    if (symbols.mach_absolute_time === null && Deno.build.os === "darwin") {
      symbols = { ...symbols, ...Deno.dlopen(SYSTEM_PATH, DARWIN_SYMBOLS).symbols };
    }
    opened.set(path, symbols);
    return symbols;
  } catch (error) {
    const why = error instanceof Deno.errors.NotCapable ? "run again with --allow-ffi" : messageOf(error);
    throw new HostError(`Cannot open ${path === HYPERVISOR_PATH ? "Hypervisor.framework" : path}: ${why}`, {
      cause: error,
    });
  }
}

export const SUCCESS = hv_return_t.HV_SUCCESS;

const ENTITLEMENT = "com.apple.security.hypervisor";
const ADVICE: Readonly<Record<number, string>> = {
  [hv_return_t.HV_BUSY]: "this process has a virtual machine already, or another program holds VT-x",
  [hv_return_t.HV_BAD_ARGUMENT]: "an address, a field or the calling thread does not fit",
  [hv_return_t.HV_NO_RESOURCES]: "the host has no memory or no vCPU left",
  [hv_return_t.HV_NO_DEVICE]: "the processor has no VT-x with EPT and unrestricted guests, or it is switched off",
  [hv_return_t.HV_DENIED]:
    `the program is not entitled to it: sign the executable that runs (with deno run, a copy of ` +
    `deno) by codesign -f -s - --entitlements FILE EXECUTABLE, where FILE grants ${ENTITLEMENT}, and start it again`,
  [hv_return_t.HV_UNSUPPORTED]: "not on this host: there is no VT-x under Rosetta, nor in most virtual machines",
};

/** HV_DENIED and the like; the number itself if it has no name. */
export function returnName(code: number): string {
  return Object.entries(hv_return_t).find(([, value]) => value === code)?.[0] ?? `0x${(code >>> 0).toString(16)}`;
}

/** What a refusal means: the call, the name of what it returned, and what to do. */
export function refusal(call: string, code: number): HostError {
  const advice = ADVICE[code];
  return new HostError(`${call} failed: ${returnName(code)}${advice === undefined ? "" : `, ${advice}`}`);
}

export function check(call: string, code: number): void {
  if (code !== SUCCESS) throw refusal(call, code);
}
