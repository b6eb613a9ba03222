/** The functions of Hypervisor.framework on Intel Macs, as a thread calls them. */
import { HV } from "./codes.ts";
import { apicFunctions } from "./apic.ts";
import { darwinFunctions } from "./darwin.ts";
import { fpStateBytes, readFpState, writeFpState } from "./fpstate.ts";
import { msrInfo } from "./msrs.ts";
import { at, put32, put64 } from "./out.ts";
import { H, MAX_VCPUS, type Process, V } from "./process.ts";
import { run } from "./run.ts";
import type { Functions } from "./thread.ts";
import { VCpu } from "./vcpu.ts";
import { Vm } from "./vm.ts";
import { capability } from "./vmcs.ts";

const VCPU_OPTIONS = 3n, TSC_RELATIVE = 2n;
const FP_ALIGNMENT = 64n;

/** `thread`: what nobody else has. `compiles`: software CPUs compile hot code. */
export function intelFunctions(process: Process, thread: bigint, compiles: boolean): Functions {
  const vm = new Vm(process), mine = new Map<number, VCpu>();
  /** Calls of a vCPU must come from the thread that made it. */
  const own = (id: number, body: (v: VCpu) => number): number => {
    const v = mine.get(id);
    return v ? body(v) : HV.BAD_ARGUMENT;
  };

  const create = (out: bigint, options: bigint): number => {
    if (!vm.exists) return HV.ERROR;
    if (out === 0n || options & ~VCPU_OPTIONS) return HV.BAD_ARGUMENT;
    const id = process.locked(() => {
      for (let i = 0; i < MAX_VCPUS; i++) {
        const at = process.vcpu(i);
        if (process.words[at + V.USED] !== 0) continue;
        process.words.fill(0, at, at + 32);
        process.words[at + V.USED] = 1;
        process.longs[(at + V.THREAD) / 2] = thread;
        return i;
      }
      return -1;
    });
    if (id < 0) return HV.NO_RESOURCES;
    const v = new VCpu(process, id, compiles);
    v.tscRelative = (options & TSC_RELATIVE) !== 0n;
    process.locked(() => vm.showAll(id, 0));
    mine.set(id, v);
    put32(out, id);
    return HV.SUCCESS;
  };

  const destroy = (id: number): number =>
    own(id, () => {
      mine.delete(id);
      process.locked(() => process.words.fill(0, process.vcpu(id), process.vcpu(id) + 32));
      return HV.SUCCESS;
    });

  const setSpace = (id: number, space: number): number =>
    own(id, (v) => {
      if (!vm.hasSpace(space)) return HV.BAD_ARGUMENT;
      process.locked(() => {
        process.words[process.vcpu(id) + V.SPACE] = space;
        vm.showAll(id, space);
      });
      v.cpu.space = space;
      v.cpu.forgetCode();
      return HV.SUCCESS;
    });

  const interrupt = (list: bigint, count: number): number => {
    if (!vm.exists) return HV.ERROR;
    if (count === 0 || count > MAX_VCPUS || list === 0n) return HV.BAD_ARGUMENT;
    const ids = Array.from({ length: count }, (_, i) => at(list, 4 * count).getUint32(4 * i, true));
    const { words } = process;
    if (ids.some((id) => id >= MAX_VCPUS || words[process.vcpu(id) + V.USED] === 0)) return HV.BAD_ARGUMENT;
    const loses = (words[H.QUIRKS]! & 4) !== 0;
    for (const id of ids) {
      const record = process.vcpu(id);
      if (!loses || Atomics.load(words, record + V.RUNNING) !== 0) Atomics.store(words, record + V.KICK, 1);
    }
    return HV.SUCCESS;
  };

  const fpState = (id: number, buffer: bigint, size: bigint, write: boolean): number =>
    own(id, (v) => {
      const bytes = fpStateBytes(v.cpu.get64("xcr0"));
      if (buffer === 0n || buffer % FP_ALIGNMENT !== 0n || size < BigInt(bytes)) return HV.BAD_ARGUMENT;
      const view = at(buffer, bytes);
      if (write) return writeFpState(v.cpu, view) ? HV.SUCCESS : HV.BAD_ARGUMENT;
      readFpState(v.cpu, view);
      return HV.SUCCESS;
    });

  const notifiers = new Set<string>();
  const portNotifier = (port: number, size: bigint, flags: number, add: (key: string) => boolean): number => {
    if (!vm.exists) return HV.ERROR;
    if (![1n, 2n, 4n].includes(size) || flags & ~14) return HV.BAD_ARGUMENT;
    return add(`${port}`) ? HV.SUCCESS : HV.BUSY;
  };

  return {
    ...darwinFunctions(),
    ...apicFunctions(vm, own),
    hv_capability: (cap: bigint, out: bigint) => vm.capability(cap, out),
    hv_vm_create: (options: bigint) => vm.create(options),
    hv_vm_destroy: () => vm.destroy(),
    hv_vm_space_create: (out: bigint) => vm.spaceCreate(out),
    hv_vm_space_destroy: (space: number) => vm.spaceDestroy(space),
    hv_vm_map: (uva: bigint, gpa: bigint, size: bigint, flags: bigint) => vm.map(0, uva, gpa, size, flags),
    hv_vm_unmap: (gpa: bigint, size: bigint) => vm.unmap(0, gpa, size),
    hv_vm_protect: (gpa: bigint, size: bigint, flags: bigint) => vm.protect(0, gpa, size, flags),
    hv_vm_map_space: (space: number, uva: bigint, gpa: bigint, size: bigint, flags: bigint) =>
      vm.map(space, uva, gpa, size, flags),
    hv_vm_unmap_space: (space: number, gpa: bigint, size: bigint) => vm.unmap(space, gpa, size),
    hv_vm_protect_space: (space: number, gpa: bigint, size: bigint, flags: bigint) =>
      vm.protect(space, gpa, size, flags),
    hv_vm_allocate: (out: bigint, size: bigint, flags: bigint) => vm.allocate(out, size, flags),
    hv_vm_deallocate: (uva: bigint, size: bigint) => vm.deallocate(uva, size),
    hv_vm_sync_tsc: (tsc: bigint) => vm.syncTsc(tsc),
    hv_tsc_clock: () => vm.tscClock(),
    hv_vm_add_pio_notifier: (port: number, size: bigint, _value: number, _port: number, flags: number) =>
      portNotifier(port, size, flags, (key) => !notifiers.has(key) && !!notifiers.add(key)),
    hv_vm_remove_pio_notifier: (port: number, size: bigint, _value: number, _port: number, flags: number) =>
      portNotifier(port, size, flags, (key) => notifiers.delete(key)),
    hv_vcpu_create: create,
    hv_vcpu_destroy: destroy,
    hv_vcpu_set_space: setSpace,
    hv_vcpu_read_register: (id: number, register: number, out: bigint) => own(id, (v) => v.readRegister(register, out)),
    hv_vcpu_write_register: (id: number, register: number, value: bigint) =>
      own(id, (v) => v.writeRegister(register, value)),
    hv_vcpu_read_fpstate: (id: number, buffer: bigint, size: bigint) => fpState(id, buffer, size, false),
    hv_vcpu_write_fpstate: (id: number, buffer: bigint, size: bigint) => fpState(id, buffer, size, true),
    hv_vcpu_enable_native_msr: (id: number, msr: number, on: boolean) => own(id, (v) => v.enableNative(msr, on)),
    hv_vcpu_enable_managed_msr: (id: number, msr: number, on: boolean) => own(id, (v) => v.enableManaged(msr, on)),
    hv_vcpu_set_msr_access: (id: number, msr: number, flags: number) => own(id, (v) => v.setAccess(msr, flags)),
    hv_vcpu_read_msr: (id: number, msr: number, out: bigint) => own(id, (v) => v.readMsr(msr, out)),
    hv_vcpu_write_msr: (id: number, msr: number, value: bigint) => own(id, (v) => v.writeMsr(msr, value)),
    hv_vcpu_flush: (id: number) => own(id, () => HV.UNSUPPORTED),
    hv_vcpu_invalidate_tlb: (id: number) => own(id, (v) => v.invalidateTlb()),
    hv_vcpu_run: (id: number) => own(id, (v) => run(v, null)),
    hv_vcpu_run_until: (id: number, deadline: bigint) => own(id, (v) => run(v, deadline)),
    hv_vcpu_interrupt: interrupt,
    hv_vcpu_get_exec_time: (id: number, out: bigint) =>
      own(id, (v) => put64(out, Math.floor(v.ranNs)) ? HV.SUCCESS : HV.BAD_ARGUMENT),
    hv_vcpu_get_idle_time: (id: number, out: bigint) =>
      own(id, (v) => put64(out, Math.floor(v.idleNs)) ? HV.SUCCESS : HV.BAD_ARGUMENT),
    hv_vcpu_set_tsc_relative: (id: number, offset: bigint) => own(id, (v) => v.setTscRelative(offset)),
    hv_vcpu_vmx_status: (id: number, out: bigint) =>
      own(id, (v) => {
        if (!v.everRan) return HV.ERROR;
        return put32(out, v.lastEntryFlags) ? HV.SUCCESS : HV.BAD_ARGUMENT;
      }),
    hv_vmx_vcpu_read_vmcs: (id: number, field: number, out: bigint) => own(id, (v) => v.readVmcs(field, out)),
    hv_vmx_vcpu_write_vmcs: (id: number, field: number, value: bigint) => own(id, (v) => v.writeVmcs(field, value)),
    hv_vmx_vcpu_get_cap_write_vmcs: (id: number, field: number, zero: bigint, one: bigint) =>
      own(id, (v) => v.capWrite(field, zero, one)),
    // VMCS shadowing is not among the secondary controls that may be 1.
    hv_vmx_vcpu_read_shadow_vmcs: (id: number) => own(id, () => HV.UNSUPPORTED),
    hv_vmx_vcpu_write_shadow_vmcs: (id: number) => own(id, () => HV.UNSUPPORTED),
    hv_vmx_vcpu_set_shadow_access: (id: number) => own(id, () => HV.UNSUPPORTED),
    hv_vmx_read_capability: (n: number, out: bigint) => {
      const value = capability(n);
      return value !== undefined && put64(out, value) ? HV.SUCCESS : HV.BAD_ARGUMENT;
    },
    hv_vmx_get_msr_info: (n: bigint, out: bigint) => {
      const value = msrInfo(n);
      return value !== undefined && put64(out, value) ? HV.SUCCESS : HV.BAD_ARGUMENT;
    },
    hv_vmx_vcpu_set_apic_address: (id: number, gpa: bigint) => own(id, (v) => v.setApicAddress(gpa)),
    hv_vmx_vcpu_set_apic_address_space: (id: number, space: number, gpa: bigint) =>
      own(id, (v) => vm.hasSpace(space) ? v.setApicAddress(gpa) : HV.BAD_ARGUMENT),
  };
}
