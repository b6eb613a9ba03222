/**
 * ACPI fixed hardware: PM1 events and control, the power management timer, and the port that switches ACPI on.
 *
 * Spec: [acpi §4.8.3.1] PM1 events, [acpi §4.8.3.2] PM1 control, [acpi §4.8.3.3] PM_TMR, [acpi §4.8.2.5] SMI_CMD.
 * Emulated: TMR, GBL, PWRBTN, RTC and WAK status, their enables, SCI_EN, SLP_TYP and SLP_EN, the 24-bit counter, the
 * level-triggered SCI.
 * Absent: the sleep button, GPEs, system management mode (so in legacy mode events raise nothing, and GBL_RLS is ignored), the
 * 32-bit counter (so FADT.TMR_VAL_EXT is 0).
 */
import { type Region, registerBank } from "../src/base/bus.ts";
import { type Clock, nsOfTick, ticksAt } from "../src/base/clock.ts";
import type { IrqLine } from "../src/base/irq.ts";
import { record, type View } from "../src/base/record.ts";
import type { Timer } from "../src/base/timers.ts";

/** Offsets from PMBASE. The FADT, the bus, the fuzzer and the docs read this table. */
export const ACPI_PM = {
  PM1_STS: { at: 0x0, width: 2, access: "w1c" },
  PM1_EN: { at: 0x2, width: 2, access: "rw" },
  PM1_CNT: { at: 0x4, width: 2, access: "rw" },
  PM_TMR: { at: 0x8, width: 4, access: "ro" },
} as const;

export const SMI_CMD_PORT = 0xb2;
export const SMI_CMD = {
  APM_CNT: { at: 0, width: 1, access: "rw" },
  APM_STS: { at: 1, width: 1, access: "rw" },
} as const;
/** What FADT.ACPI_ENABLE and FADT.ACPI_DISABLE say. */
export const ACPI_ENABLE = 0xf1;
export const ACPI_DISABLE = 0xf0;
/** The SLP_TYP of soft-off, for the DSDT's \_S5. */
export const SLP_TYP_S5 = 5;

/** In PM1_STS; WAK has no enable. */
const PM1 = { TMR: 1 << 0, GBL: 1 << 5, PWRBTN: 1 << 8, RTC: 1 << 10, WAK: 1 << 15 } as const;
const STATUS = PM1.TMR | PM1.GBL | PM1.PWRBTN | PM1.RTC | PM1.WAK;
const ENABLES = PM1.TMR | PM1.GBL | PM1.PWRBTN | PM1.RTC;
const CNT = { SCI_EN: 1 << 0, BM_RLD: 1 << 1, SLP_TYP: 7 << 10, SLP_EN: 1 << 13 } as const;

const HZ = 3_579_545;
const HALF = 2 ** 23; // ticks between two toggles of the counter's top bit

export const AcpiPmRecord = record("acpi-pm", 1, {
  sts: { type: "u16", max: STATUS },
  en: { type: "u16", max: ENABLES },
  cnt: { type: "u16", max: CNT.SCI_EN | CNT.BM_RLD | CNT.SLP_TYP },
  /** Of the counter's top bit, up to the last settle. */
  toggles: { type: "f64", max: 2 ** 53 },
  apmCnt: "u8",
  apmSts: "u8",
});

interface Parts {
  readonly clock: Clock;
  readonly timer: Timer;
  readonly sci: IrqLine;
  /** The guest asked to sleep with this SLP_TYP. Called from the write of PM1_CNT. */
  readonly onSleep: (type: number) => void;
}

export class AcpiPm {
  /** The registers from PMBASE. */
  readonly region: Region;
  /** Ports B2h and B3h. */
  readonly smiCmd: Region;

  constructor(private readonly s: View<typeof AcpiPmRecord>, private readonly parts: Parts) {
    this.region = registerBank<typeof ACPI_PM>({
      registers: ACPI_PM,
      readRegister: (name) => this.#read(name),
      writeRegister: (name, value) => this.#write(name, value),
    });
    this.smiCmd = registerBank<typeof SMI_CMD>({
      registers: SMI_CMD,
      readRegister: (name) => name === "APM_CNT" ? s.apmCnt : s.apmSts,
      writeRegister: (name, value) => {
        if (name === "APM_STS") s.apmSts = value;
        else this.#writeSmiCmd(value);
      },
    });
  }

  /** A short press of the power button. */
  pressPowerButton(): void {
    this.s.sts |= PM1.PWRBTN;
    this.settle();
  }

  /** The RTC asserted its interrupt. */
  rtcInterrupt(): void {
    this.s.sts |= PM1.RTC;
    this.settle();
  }

  /** The machine came back from a sleep state. */
  wake(): void {
    this.s.sts |= PM1.WAK;
    this.settle();
  }

  /** Latches a toggle that has passed, be the timer late or not; drives SCI. Also the timer's callback. */
  settle(): void {
    const s = this.s;
    const toggles = Math.floor(this.#ticks() / HALF);
    if (toggles !== s.toggles) s.sts |= PM1.TMR;
    s.toggles = toggles;
    this.parts.sci.set((s.cnt & CNT.SCI_EN) !== 0 && (s.sts & s.en & ENABLES) !== 0);
    // Without an interrupt to give, the status is found when it is read.
    if (s.en & ~s.sts & PM1.TMR) this.parts.timer.arm(nsOfTick((toggles + 1) * HALF, HZ));
    else this.parts.timer.disarm();
  }

  #ticks(): number {
    return ticksAt(this.parts.clock.nowNs(), HZ);
  }

  #read(name: keyof typeof ACPI_PM): number {
    this.settle();
    switch (name) {
      case "PM1_STS":
        return this.s.sts;
      case "PM1_EN":
        return this.s.en;
      case "PM1_CNT":
        return this.s.cnt;
      case "PM_TMR":
        return this.#ticks() % (2 * HALF);
    }
  }

  #write(name: keyof typeof ACPI_PM, value: number): void {
    this.settle();
    const s = this.s;
    if (name === "PM1_STS") s.sts &= ~value;
    else if (name === "PM1_EN") s.en = value & ENABLES;
    else if (name === "PM1_CNT") {
      // SCI_EN belongs to the firmware's side; SLP_EN is an order and reads as 0.
      s.cnt = (s.cnt & CNT.SCI_EN) | (value & (CNT.BM_RLD | CNT.SLP_TYP));
      if (value & CNT.SLP_EN) this.parts.onSleep((value & CNT.SLP_TYP) >> 10);
    }
    this.settle();
  }

  #writeSmiCmd(value: number): void {
    const s = this.s;
    s.apmCnt = value;
    if (value === ACPI_ENABLE) s.cnt |= CNT.SCI_EN;
    else if (value === ACPI_DISABLE) s.cnt &= ~CNT.SCI_EN;
    this.settle();
  }
}
