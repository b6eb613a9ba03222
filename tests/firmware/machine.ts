/** Machines that firmware starts, for tests. */
import type { MachineSpec } from "../../src/machine/spec.ts";

/** One with a display and the BIOS of `rom`; its video BIOS lies beside it. */
export function biosMachine(rom: string, more: Partial<MachineSpec> = {}): MachineSpec {
  return {
    engine: "soft",
    memoryBytes: 64 << 20,
    cpus: 1,
    kernel: "",
    initrd: null,
    append: "",
    firmware: { path: rom, vars: null },
    vga: { bios: rom.replace(/[^/]*$/, "vgabios-stdvga.bin") },
    disks: [],
    serial: [{ kind: "none" }],
    noReboot: true,
    icount: false,
    trace: null,
    ...more,
  };
}
