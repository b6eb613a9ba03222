/** Where everything on the board is: the parts list (pc.ts) puts it there, and the tables tell the guest. */
import { SMI_CMD_PORT } from "../../devices/acpi_pm.ts";
import { RTC_PORT } from "../../devices/cmos_rtc.ts";
import { DEBUG_CONSOLE_PORT, DEBUG_EXIT_PORT, POST_PORT } from "../../devices/debug_ports.ts";
import { FW_CFG_PORT } from "../../devices/fw_cfg.ts";
import { HPET_BASE } from "../../devices/hpet.ts";
import { I8042_COMMAND_PORT, I8042_DATA_PORT } from "../../devices/i8042.ts";
import { I8254_PORT, PORT61 } from "../../devices/i8254.ts";
import { ELCR_PORT, I8259_MASTER_PORT, I8259_SLAVE_PORT } from "../../devices/i8259.ts";
import { IO_APIC_BASE } from "../../devices/io_apic.ts";
import { LOCAL_APIC_BASE } from "../../devices/local_apic_registers.ts";
import { PVPANIC_PORT } from "../../devices/pvpanic.ts";
import { PORT92 } from "../../devices/reset_control.ts";

const MIB = 1 << 20;

/** Guest-physical addresses. RAM is below PCI_MEMORY. */
export const ADDRESS = {
  PCI_MEMORY: 0xc000_0000,
  /** One MiB, for bus 0; PCIEXBAR claims 256 of them. */
  ECAM: 0xe000_0000,
  ECAM_BYTES: 1 * MIB,
  ECAM_RESERVED_BYTES: 256 * MIB,
  /** Where firmware may put configuration space and BARs: up to the I/O APIC. */
  FIRMWARE_PCI: 0xb000_0000,
  /** Up to 1 MiB: the legacy BIOS area, which PAM governs. */
  SHADOW: 0xc_0000,
  IO_APIC: IO_APIC_BASE,
  HPET: HPET_BASE,
  VM_GENERATION: 0xfedf_f000,
  LOCAL_APIC: LOCAL_APIC_BASE,
} as const;

/** I/O ports. */
export const PORT = {
  PIC_MASTER: I8259_MASTER_PORT,
  PIT: I8254_PORT,
  KEYBOARD_DATA: I8042_DATA_PORT,
  NMI_SC: PORT61,
  KEYBOARD_COMMAND: I8042_COMMAND_PORT,
  RTC: RTC_PORT,
  POST: POST_PORT,
  FAST_A20: PORT92,
  PIC_SLAVE: I8259_SLAVE_PORT,
  SMI_CMD: SMI_CMD_PORT,
  DEBUG_EXIT: DEBUG_EXIT_PORT,
  COM: [0x3f8, 0x2f8, 0x3e8, 0x2e8],
  DEBUG_CONSOLE: DEBUG_CONSOLE_PORT,
  ELCR: ELCR_PORT,
  PVPANIC: PVPANIC_PORT,
  FW_CFG: FW_CFG_PORT,
  PM: 0x600,
  /** With the reset register at CF9h among them. */
  PCI_CONFIG: 0xcf8,
  PCI_IO: 0xc000,
  PCI_IO_END: 0x1_0000,
} as const;

/** Ports that are only written, and of which nothing comes back by another way. */
export const POSTED_PORTS = [{ port: PORT.POST, size: 1 }, { port: PORT.DEBUG_CONSOLE, size: 1 }] as const;

/** ISA interrupts: 8259A inputs, and I/O APIC inputs but for the PIT's, which is input 2 there. */
export const IRQ = {
  PIT: 0,
  KEYBOARD: 1,
  RTC: 8,
  SCI: 9,
  /** Edge-triggered: the generation ID has changed. */
  VM_GENERATION: 10,
  MOUSE: 12,
  /** Four serial ports with an interrupt each: edges cannot be shared. */
  COM: [4, 3, 5, 7],
} as const;

/** The first of the eight I/O APIC inputs of PCI's PIRQA to PIRQH. */
export const PIRQ_GSI = 16;

/** From PORT.PM. */
export const PM_BYTES = 16;

/** PCI devices of bus 0; the disks take MAX_DISKS of them. */
export const SLOT = {
  HOST_BRIDGE: 0,
  ENTROPY: 1,
  CONSOLE: 2,
  FIRST_DISK: 3,
  NET: 19,
  VGA: 20,
  FIRST_SERIAL: 21,
  /** MAX_SHARES of them. */
  FIRST_SHARE: 25,
  VSOCK: 29,
  BALLOON: 30,
  LPC: 31,
} as const;

/** Bits of a guest-physical address, as CPUID tells. */
export const PHYSICAL_ADDRESS_BITS = 40;
