/** From the parts list to what the ACPI tables tell of it. */
import { ACPI_DISABLE, ACPI_ENABLE, ACPI_PM, SLP_TYP_S5 } from "../../devices/acpi_pm.ts";
import { CMOS } from "../../devices/cmos_rtc.ts";
import { DEBUG_EXIT_BYTES } from "../../devices/debug_ports.ts";
import { HPET_ID } from "../../devices/hpet.ts";
import { wireOfIsa } from "../../devices/interrupt_router.ts";
import { PMBASE_BYTES } from "../../devices/pci/lpc.ts";
import { pirqOf } from "../../devices/pci/pirq.ts";
import { RESET_PORT, RESET_VALUE } from "../../devices/reset_control.ts";
import type { BoardDescription, Range } from "../boot/acpi/board.ts";
import { ADDRESS, IRQ, PIRQ_GSI, PM_BYTES, PORT, SLOT } from "./addresses.ts";
import type { MachineSpec } from "./spec.ts";

/** Where configuration space and the windows for BARs are: fixed, or as firmware has set them up. */
export interface PciLayout {
  readonly ecam: { readonly base: number; readonly buses: number; readonly claimed: number };
  readonly memory32: readonly Range[];
  readonly memory64: readonly Range[];
}

const FIXED_PCI: PciLayout = {
  ecam: { base: ADDRESS.ECAM, buses: 1, claimed: ADDRESS.ECAM_RESERVED_BYTES },
  memory32: [{ base: ADDRESS.PCI_MEMORY, length: ADDRESS.ECAM - ADDRESS.PCI_MEMORY }],
  memory64: [],
};

/** The board as the ACPI tables show it. */
export function describeBoard(spec: MachineSpec, pci: PciLayout = FIXED_PCI): BoardDescription {
  return {
    cpus: spec.cpus,
    localApicBase: ADDRESS.LOCAL_APIC,
    ioApic: { id: 0, base: ADDRESS.IO_APIC, firstGsi: 0 },
    isaTimerGsi: wireOfIsa(IRQ.PIT),
    pm: {
      event: PORT.PM + ACPI_PM.PM1_STS.at,
      control: PORT.PM + ACPI_PM.PM1_CNT.at,
      timer: PORT.PM + ACPI_PM.PM_TMR.at,
      smiCommand: PORT.SMI_CMD,
      acpiEnable: ACPI_ENABLE,
      acpiDisable: ACPI_DISABLE,
      sci: IRQ.SCI,
      s5: SLP_TYP_S5,
    },
    reset: { port: RESET_PORT, value: RESET_VALUE },
    pci: {
      ...pci,
      // The LPC bridge is behind it, too, and with it what PMBASE claims.
      io: [{ base: PORT.PCI_IO, length: PORT.PCI_IO_END - PORT.PCI_IO }, { base: PORT.PM, length: PMBASE_BYTES }],
      lpcDevice: SLOT.LPC,
      gsi: (device, pin) => PIRQ_GSI + pirqOf(device, pin + 1),
    },
    pic: { master: PORT.PIC_MASTER, slave: PORT.PIC_SLAVE, elcr: PORT.ELCR },
    pit: { port: PORT.PIT, irq: IRQ.PIT, speaker: PORT.NMI_SC },
    rtc: { ports: { base: PORT.RTC, length: 4 }, irq: IRQ.RTC, century: CMOS.CENTURY },
    ps2: {
      data: PORT.KEYBOARD_DATA,
      command: PORT.KEYBOARD_COMMAND,
      keyboardIrq: IRQ.KEYBOARD,
      mouseIrq: IRQ.MOUSE,
    },
    serial: spec.serial.slice(0, PORT.COM.length).map((_, i) => ({ port: PORT.COM[i]!, irq: IRQ.COM[i]! })),
    ...(spec.firmware ? { hpet: { base: ADDRESS.HPET, id: HPET_ID } } : {}),
    pvpanic: { port: PORT.PVPANIC },
    vmGeneration: { base: ADDRESS.VM_GENERATION, gsi: wireOfIsa(IRQ.VM_GENERATION) },
    reservedPorts: [
      { base: PORT.POST, length: 1 },
      { base: PORT.FAST_A20, length: 1 },
      { base: PORT.SMI_CMD, length: 2 },
      { base: PORT.DEBUG_EXIT, length: DEBUG_EXIT_BYTES },
      { base: PORT.DEBUG_CONSOLE, length: 1 },
      { base: PORT.PM, length: PM_BYTES },
    ],
  };
}
