/** The Worker of a vCPU, on the double: `StartOptions.vcpuWorker` with "?double=PATH" behind it. */
import "./preload.ts";
import "../../src/machine/vcpu_worker.ts";
