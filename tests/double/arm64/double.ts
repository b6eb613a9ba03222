/** The double of Hypervisor.framework on Apple silicon: every function of the binding, callable on this host. */
import { DARWIN_SYMBOLS } from "../../../ffi/darwin.ts";
import { HYPERVISOR_SYMBOLS, LIBSYSTEM_SYMBOLS } from "../../../ffi/hypervisor_arm64.ts";
import { darwinFunctions } from "../darwin.ts";
import { writeOnce } from "../double.ts";
import { put32 } from "../out.ts";
import { writeLibrary } from "../stubs.ts";
import { attachThread } from "../thread.ts";
import { HV } from "./codes.ts";
import { gicFunctions } from "./gic.ts";
import { Shared } from "./shared.ts";
import { type ArmVcpu, machTicks, vcpuFunctions } from "./vcpu.ts";
import { newVmConfigs, vmFunctions } from "./vm.ts";

export { HV } from "./codes.ts";

const NAME = "libHypervisorDoubleArm64.so";
/** The binding takes the address of the function that it cannot describe; here it is called with the vector's low half. */
const SYMBOLS: Deno.ForeignLibraryInterface = {
  ...HYPERVISOR_SYMBOLS,
  ...LIBSYSTEM_SYMBOLS,
  ...DARWIN_SYMBOLS,
  hv_vcpu_set_simd_fp_reg: { parameters: ["u64", "u32", "f64"], result: "u32" },
};

/** As writeDouble of ../double.ts. */
export function writeDoubleArm64(folder: string): string {
  const library = { soname: NAME, functions: Object.keys(SYMBOLS), strings: {}, words: [], missing: HV.ERROR };
  return writeOnce(`${folder}/${NAME}`, writeLibrary(library));
}

/** As attachDouble. */
export function attachDoubleArm64(path: string): void {
  attachThread(path, SYMBOLS, (words) => {
    const shared = Shared.open(words), mine = new Map<bigint, ArmVcpu>(), configs = newVmConfigs();
    const vcpus = vcpuFunctions(shared, mine), gic = gicFunctions(shared, mine);
    return {
      ...darwinFunctions(),
      ...vmFunctions(shared, configs),
      ...vcpus,
      ...gic,
      mach_absolute_time: () => machTicks(),
      mach_timebase_info: (out: bigint) => {
        put32(out, 125);
        put32(out + 4n, 3);
        return 0;
      },
      /** What is not an object, or not any more, is told: on a Mac it would end the process. */
      os_release: (handle: bigint) => {
        const known = configs.release(handle) || vcpus.release_vcpu_config!(handle) || gic.release_gic!(handle);
        if (!known) console.error(`double: os_release of what is no object: ${handle.toString(16)}`);
      },
    };
  });
}
