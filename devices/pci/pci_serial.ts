/**
 * A 16550A behind a PCI function: a serial port more than the four that a PC has room for.
 *
 * Spec: [pci §D.8] class 07h, sub-class 00h, interface 02h: a 16550-compatible controller, its eight ports in BAR 0;
 * [pci-serial] the identity by which drivers know it.
 */
import type { Region } from "../../src/base/bus.ts";
import type { IrqLine } from "../../src/base/irq.ts";
import type { View } from "../../src/base/record.ts";
import { PciFunction, type PciFunctionRecord } from "./function.ts";

const PORTS = 8;

export class PciSerial extends PciFunction {
  /** The port's interrupt is the function's pin. */
  readonly irq: IrqLine = { set: (level) => this.setIntx(level) };
  /** The eight ports; set once the UART that has `irq` is made. */
  region: Region | null = null;

  constructor(pci: View<typeof PciFunctionRecord>) {
    super(pci, {
      vendor: 0x1b36,
      device: 0x0002,
      revision: 1,
      classCode: 0x070002,
      subsystemVendor: 0x1af4,
      subsystem: 0x1100,
      interruptPin: 1,
      bars: { 0: { kind: "io", sizeBytes: PORTS } },
    });
  }

  override barRead(bar: number, offset: number, size: number): number {
    return this.region ? this.region.read(offset, size) : super.barRead(bar, offset, size);
  }

  override barWrite(_bar: number, offset: number, size: number, value: number): void {
    this.region?.write(offset, size, value);
  }
}
