/**
 * MSI with one message, 64-bit address: the capability, and sending what it says.
 *
 * Spec: [pci §6.8.1].
 */
import type { MsiSink } from "../../src/base/irq.ts";

/** The capability's identifier. */
export const MSI_CAPABILITY = 0x05;
const MSI_ENABLE = 1 << 0; // in Message Control
const ADDRESS_64 = 1 << 7;
/** Offsets from the capability. */
const CONTROL = 2, ADDRESS = 4, UPPER_ADDRESS = 8, DATA = 12;

/** What follows the capability's header, and its writable bits: for PciFunction.addCapability. */
export const MSI_BODY: Uint8Array = Uint8Array.of(ADDRESS_64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
export const MSI_MASK: Uint8Array = Uint8Array.of(
  MSI_ENABLE,
  0,
  0xfc,
  0xff,
  0xff,
  0xff,
  0xff,
  0xff,
  0xff,
  0xff,
  0xff,
  0xff,
);

export class Msi {
  /** `at` is where the capability is; `read` reads configuration space, where all its state lives. */
  constructor(
    private readonly at: number,
    private readonly read: (at: number, size: number) => number,
    private readonly sink: MsiSink,
  ) {}

  get enabled(): boolean {
    return (this.read(this.at + CONTROL, 2) & MSI_ENABLE) !== 0;
  }

  fire(): void {
    this.sink.send(
      this.read(this.at + ADDRESS, 4),
      this.read(this.at + UPPER_ADDRESS, 4),
      this.read(this.at + DATA, 2),
    );
  }
}
