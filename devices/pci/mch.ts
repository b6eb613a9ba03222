/**
 * The memory controller hub at device 0 function 0: the host bridge's own configuration space.
 *
 * Spec: [g33 §5.1] device 0 configuration registers.
 * Emulated: identity; PCIEXBAR, which says where enhanced configuration space is and cannot be moved.
 * Absent: the memory controller's registers. PAM holds what firmware writes and does nothing, because RAM under the legacy BIOS
 * area is always RAM here; SMRAM is locked and empty.
 */
import type { View } from "../../src/base/record.ts";
import { PciFunction, type PciFunctionRecord } from "./function.ts";

/** Offsets in configuration space. */
export const MCH = { PCIEXBAR: 0x60, PAM0: 0x90, SMRAM: 0x9d } as const;

const PCIEXBAREN = 1 << 0; // in PCIEXBAR
const LENGTH_256_BUSES = 0 << 1;

export class MemoryController extends PciFunction {
  constructor(s: View<typeof PciFunctionRecord>, options: { readonly ecamBase: number }) {
    super(s, { vendor: 0x8086, device: 0x29c0, revision: 0x02, classCode: 0x060000 });
    this.define(MCH.PCIEXBAR, 4, (options.ecamBase % 0x1_0000_0000 | PCIEXBAREN | LENGTH_256_BUSES) >>> 0);
    this.define(MCH.PCIEXBAR + 4, 4, Math.floor(options.ecamBase / 0x1_0000_0000));
    this.define(MCH.PAM0, 1, 0, 0x30);
    for (let i = 1; i < 7; i++) this.define(MCH.PAM0 + i, 1, 0, 0x33);
    this.define(MCH.SMRAM, 1, 0x12);
  }
}
