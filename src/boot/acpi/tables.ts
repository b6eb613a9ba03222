/**
 * The ACPI tables but for the DSDT's body.
 *
 * Spec: ACPI 6.3. [acpi §5.2.5] RSDP, [acpi §5.2.7, §5.2.8] RSDT and XSDT, [acpi §5.2.9] FADT, [acpi §5.2.10] FACS,
 * [acpi §5.2.12] MADT, [pcifw §4.1.2] MCFG.
 */
import { ascii, join, le } from "./aml.ts";
import type { BoardDescription } from "./board.ts";

const OEM_ID = "TRIKE ";
const OEM_TABLE_ID = "TRIKEPC ";
const CREATOR_ID = "TRIK";
export const HEADER_BYTES = 36;

/** A system description table: the header and `body`, with the checksum that makes all bytes add up to zero. */
export function table(signature: string, revision: number, body: Uint8Array): Uint8Array {
  const bytes = join(
    ascii(signature),
    le(HEADER_BYTES + body.length, 4),
    revision,
    0, // checksum
    ascii(OEM_ID),
    ascii(OEM_TABLE_ID),
    le(1, 4),
    ascii(CREATOR_ID),
    le(1, 4),
    body,
  );
  bytes[9] = checksum(bytes);
  return bytes;
}

/** The byte that makes the sum of all zero. */
function checksum(bytes: Uint8Array): number {
  return -bytes.reduce((sum, b) => sum + b, 0) & 0xff;
}

export const RSDP_BYTES = 36;

export function rsdp(rsdt: number, xsdt: number): Uint8Array {
  const bytes = join(
    ascii("RSD PTR "),
    0,
    ascii(OEM_ID),
    2,
    le(rsdt, 4),
    le(RSDP_BYTES, 4),
    le(xsdt, 8),
    [0, 0, 0, 0],
  );
  bytes[8] = checksum(bytes.subarray(0, 20)); // of what ACPI 1.0 defined
  bytes[32] = checksum(bytes);
  return bytes;
}

/** For those that only know ACPI 1.0. */
export function rsdt(tables: readonly number[]): Uint8Array {
  return table("RSDT", 1, join(...tables.map((at) => le(at, 4))));
}

export function xsdt(tables: readonly number[]): Uint8Array {
  return table("XSDT", 1, join(...tables.map((at) => le(at, 8))));
}

export const FACS_BYTES = 64;

/** Nothing sleeps here, so that it is only a place for the global lock. It has no checksum. */
export function facs(): Uint8Array {
  const bytes = new Uint8Array(FACS_BYTES);
  bytes.set(join(ascii("FACS"), le(FACS_BYTES, 4)));
  bytes[32] = 2; // version
  return bytes;
}

/** [acpi §5.2.9, Table 5-34] */
const FADT_FLAG = {
  WBINVD: 1 << 0,
  PROC_C1: 1 << 2,
  SLP_BUTTON: 1 << 5, // there is no sleep button in the fixed hardware; PWR_BUTTON and FIX_RTC stay 0: it has those
  RESET_REG_SUP: 1 << 10,
} as const;
/** [acpi §5.2.9.3] */
const BOOT_ARCH = {
  LEGACY_DEVICES: 1 << 0,
  I8042: 1 << 1,
  VGA_NOT_PRESENT: 1 << 2,
  PCIE_ASPM_CONTROLS: 1 << 4, // not to be touched
  CMOS_RTC_NOT_PRESENT: 1 << 5,
} as const;
/** C2 and C3 latencies that mean "no such state". */
const NO_C2 = 101, NO_C3 = 1001;
const FADT_BYTES = 276;

const AddressSpace = { MEMORY: 0, IO: 1 } as const;

/** A generic address structure: a register of `bytes` bytes at a port, reached `access` bytes at a time. [acpi §5.2.3.2] */
function port(at: number, bytes: number, access: 1 | 2 | 4): Uint8Array {
  return join(AddressSpace.IO, 8 * bytes, 0, access === 4 ? 3 : access, le(at, 8));
}

export function fadt(board: BoardDescription, facsAt: number, dsdtAt: number): Uint8Array {
  const { pm, reset } = board;
  const bytes = new Uint8Array(FADT_BYTES);
  const put = (at: number, value: Uint8Array) => bytes.set(value, at);
  put(36, le(facsAt, 4)); // and X_FIRMWARE_CTRL stays 0: one of the two
  put(40, le(dsdtAt, 4));
  put(46, le(pm.sci, 2));
  put(48, le(pm.smiCommand, 4));
  put(52, join(pm.acpiEnable, pm.acpiDisable));
  put(56, le(pm.event, 4));
  put(64, le(pm.control, 4));
  put(76, le(pm.timer, 4));
  put(88, join(4, 2, 0, 4)); // PM1_EVT_LEN, PM1_CNT_LEN, PM2_CNT_LEN, PM_TMR_LEN
  put(96, join(le(NO_C2, 2), le(NO_C3, 2)));
  put(108, le(board.rtc?.century ?? 0, 1));
  const boot = BOOT_ARCH.LEGACY_DEVICES | BOOT_ARCH.VGA_NOT_PRESENT | BOOT_ARCH.PCIE_ASPM_CONTROLS |
    (board.ps2 ? BOOT_ARCH.I8042 : 0) | (board.rtc ? 0 : BOOT_ARCH.CMOS_RTC_NOT_PRESENT);
  put(109, le(boot, 2));
  const flags = FADT_FLAG.WBINVD | FADT_FLAG.PROC_C1 | FADT_FLAG.SLP_BUTTON | FADT_FLAG.RESET_REG_SUP;
  put(112, le(flags, 4));
  put(116, port(reset.port, 1, 1));
  put(128, le(reset.value, 1));
  put(131, le(3, 1)); // of 6.3
  put(140, le(dsdtAt, 8));
  put(148, port(pm.event, 4, 2));
  put(172, port(pm.control, 2, 2));
  put(208, port(pm.timer, 4, 4));
  put(268, ascii(OEM_TABLE_ID)); // the hypervisor's identity
  return table("FACP", 6, bytes.subarray(HEADER_BYTES));
}

/** Interrupt source flags: polarity in bits 0 and 1, trigger in bits 2 and 3; zero is what the bus says. */
const INTI = { ACTIVE_HIGH: 1, LEVEL: 3 << 2 } as const;
const PCAT_COMPAT = 1 << 0;
const ENABLED = 1 << 0;
/** IDs from here on need an x2APIC entry. */
const FIRST_X2APIC_ID = 255;

export function madt(board: BoardDescription): Uint8Array {
  const { cpus, ioApic, isaTimerGsi, pm } = board;
  const entry = (type: number, ...body: readonly (number | Uint8Array | readonly number[])[]) => {
    const bytes = join(...body);
    return join(type, 2 + bytes.length, bytes);
  };
  const override = (irq: number, gsi: number, flags: number) => entry(2, 0, irq, le(gsi, 4), le(flags, 2));
  const processors = Array.from(
    { length: cpus },
    (_, id) =>
      id < FIRST_X2APIC_ID
        ? entry(0, id, id, le(ENABLED, 4))
        : entry(9, le(0, 2), le(id, 4), le(ENABLED, 4), le(id, 4)),
  );
  const ALL = 0xff, LINT1 = 1;
  return table(
    "APIC",
    5,
    join(
      le(board.localApicBase, 4),
      le(board.pic ? PCAT_COMPAT : 0, 4),
      ...processors,
      entry(1, ioApic.id, 0, le(ioApic.base, 4), le(ioApic.firstGsi, 4)),
      override(0, isaTimerGsi, 0),
      override(pm.sci, pm.sci, INTI.ACTIVE_HIGH | INTI.LEVEL),
      entry(4, ALL, le(0, 2), LINT1),
      ...(cpus > FIRST_X2APIC_ID ? [entry(10, le(0, 2), le(0xffffffff, 4), LINT1, [0, 0, 0])] : []),
    ),
  );
}

/** The IA-PC HPET description table. [hpet §3.2.4] */
export function hpet({ base, id }: { readonly base: number; readonly id: number }): Uint8Array {
  const MIN_TICK = 100, NO_PROTECTION = 0;
  const address = join(AddressSpace.MEMORY, 64, 0, 0, le(base, 8));
  return table("HPET", 1, join(le(id, 4), address, 0, le(MIN_TICK, 2), NO_PROTECTION));
}

export function mcfg(board: BoardDescription): Uint8Array {
  const { base, buses } = board.pci.ecam;
  return table("MCFG", 1, join(new Uint8Array(8), le(base, 8), le(0, 2), 0, buses - 1, le(0, 4)));
}
