/**
 * The ICH9 LPC interface bridge, device 31 function 0, as configuration space: firmware and operating systems know the board by
 * it.
 *
 * Spec: [ich9 §13.1] configuration registers.
 * Emulated: PIRQ routing (see PirqRouter). The base addresses and decode enables hold what is written to them and move
 * nothing: the board's addresses are fixed by its parts list, which is where the power-on value of PMBASE comes from.
 * Absent: the root complex registers behind RCBA, GPIO, TCO, SMI.
 */
import type { View } from "../../src/base/record.ts";
import { PciFunction, type PciFunctionRecord } from "./function.ts";

/** Offsets in configuration space. */
export const LPC = {
  PMBASE: 0x40,
  ACPI_CNTL: 0x44,
  GPIOBASE: 0x48,
  GC: 0x4c,
  PIRQA_ROUT: 0x60,
  SIRQ_CNTL: 0x64,
  PIRQE_ROUT: 0x68,
  LPC_IO_DEC: 0x80,
  LPC_EN: 0x82,
  GEN1_DEC: 0x84,
  GEN_PMCON_1: 0xa0,
  RCBA: 0xf0,
} as const;

/** Ports that PMBASE claims [ich9 §13.1.13]. */
export const PMBASE_BYTES = 128;

export interface Ich9LpcOptions {
  /** Where the board has its ACPI registers; without it PMBASE starts as the chip's does, at 0. */
  readonly pmBase?: number;
  /** ACPI_EN as firmware leaves it. */
  readonly acpiEnabled?: boolean;
}

export class Ich9Lpc extends PciFunction {
  /** Called after a PIRQ route was written. */
  onRoute: () => void = () => {};

  constructor(s: View<typeof PciFunctionRecord>, options: Ich9LpcOptions = {}) {
    super(s, { vendor: 0x8086, device: 0x2918, revision: 0x02, classCode: 0x060100 });
    this.define(LPC.PMBASE, 4, (options.pmBase ?? 0) | 1, 0xff80);
    this.define(LPC.ACPI_CNTL, 1, options.acpiEnabled ? 0x80 : 0, 0x87);
    this.define(LPC.GPIOBASE, 4, 1, 0xff80);
    this.define(LPC.GC, 1, 0, 0x11);
    for (const bank of [LPC.PIRQA_ROUT, LPC.PIRQE_ROUT]) {
      for (let i = 0; i < 4; i++) this.define(bank + i, 1, 0x80, 0x8f);
    }
    this.define(LPC.SIRQ_CNTL, 1, 0x10, 0xff);
    this.define(LPC.LPC_IO_DEC, 2, 0, 0x1377);
    this.define(LPC.LPC_EN, 2, 0, 0x3f0f);
    for (let i = 0; i < 4; i++) this.define(LPC.GEN1_DEC + 4 * i, 4, 0, 0x00fcfffd);
    this.define(LPC.GEN_PMCON_1, 2, 0, 0x07ff);
    this.define(LPC.RCBA, 4, 0, 0xffffc001);
  }

  /** PIRQx_ROUT, 0 for PIRQA. */
  pirqRoute(pirq: number): number {
    return this.readConfig((pirq < 4 ? LPC.PIRQA_ROUT : LPC.PIRQE_ROUT) + (pirq & 3), 1);
  }

  protected override configWritten(at: number, size: number): void {
    if (at < LPC.PIRQE_ROUT + 4 && at + size > LPC.PIRQA_ROUT) this.onRoute();
  }
}
