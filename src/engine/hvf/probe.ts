/** Whether this host's Hypervisor.framework can be used: what it refuses to a machine, it refuses here. */
import { HYPERVISOR_PATH } from "../../../ffi/hypervisor_x86_64.ts";
import { messageOf } from "../../base/errors.ts";
import { controlsFor, hostVmx } from "./guest.ts";
import { openHypervisor } from "./library.ts";
import { tryVm } from "./vm.ts";

/** Why no guest can run, or null. No machine of this process may be running. */
export function probeHvf(path: string = HYPERVISOR_PATH): string | null {
  try {
    const hv = openHypervisor(path);
    tryVm(hv);
    controlsFor(hostVmx(hv));
    return null;
  } catch (error) {
    return messageOf(error);
  }
}
