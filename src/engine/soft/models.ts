/** The processors that the software CPU can be, for who reads a command line. */
export { MODEL_NAMES, parseCpuModel } from "../../cpu/x86/system/cpu_model.ts";
