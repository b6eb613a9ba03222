/**
 * The generation ID: a number that is another one whenever the machine goes on from a state that it, or a copy of it, may
 * already have gone on from. A guest that sees it change makes new random numbers.
 *
 * Spec: [vmgenid] the number, its place told by ACPI, the notification 80h; [acpi §5.6.9] the event device that brings it.
 * Emulated: both. DEVIATION: the number is in a register bank and not in memory, so that firmware need not find it a place.
 */
import { type Region, registerBank } from "../src/base/bus.ts";
import type { IrqLine } from "../src/base/irq.ts";
import { record, type View } from "../src/base/record.ts";

/** A GUID, which no program may take apart. */
export const VM_GENERATION = {
  GUID_0: { at: 0x0, width: 4, access: "ro" },
  GUID_4: { at: 0x4, width: 4, access: "ro" },
  GUID_8: { at: 0x8, width: 4, access: "ro" },
  GUID_12: { at: 0xc, width: 4, access: "ro" },
} as const;
export const VM_GENERATION_BYTES = 16;

export const VmGenerationRecord = record("vm-generation", 1, { guid: { array: "u8", length: VM_GENERATION_BYTES } });

interface Parts {
  /** Where numbers come from that are never the same twice. */
  readonly entropy: { fill(into: Uint8Array): void };
  /** Of the event device: a pulse, as it is edge-triggered. */
  readonly irq: IrqLine;
}

export class VmGeneration {
  readonly region: Region;

  constructor(private readonly s: View<typeof VmGenerationRecord>, private readonly parts: Parts) {
    const words = new DataView(s.guid.buffer, s.guid.byteOffset, VM_GENERATION_BYTES);
    this.region = registerBank<typeof VM_GENERATION>({
      registers: VM_GENERATION,
      readRegister: (name) => words.getUint32(VM_GENERATION[name].at, true),
      writeRegister: () => {},
    });
  }

  /** The first number of a machine that starts. */
  powerOn(): void {
    this.parts.entropy.fill(this.s.guid);
  }

  /** Another number, and the guest is told. */
  renew(): void {
    this.parts.entropy.fill(this.s.guid);
    this.parts.irq.set(true);
    this.parts.irq.set(false);
  }
}
