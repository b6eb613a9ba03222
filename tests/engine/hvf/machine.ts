/** Whole machines on the double: at most one in a test's file, for a process has one VM and only its end gives it back. */
import { isMapped } from "../../../src/engine/hvf/vm.ts";
import { bootPc } from "../../../src/machine/boot.ts";
import type { StartOptions } from "../../../src/machine/machine.ts";
import { doubleWorker } from "../../double/double.ts";
import { library } from "./double.ts";

export const doubled: StartOptions = {
  vcpuWorker: doubleWorker(library),
  boot: (pc, spec) => {
    // The double moves the memory that it is given: what is loaded meanwhile would stay behind.
    const never = new Int32Array(new SharedArrayBuffer(4));
    while (!isMapped(pc.ram.buffer)) Atomics.wait(never, 0, 0, 5);
    return bootPc(pc, spec);
  },
};
