/** The registers, the memory structures and the state of the AHCI controller. Spec: [ahci §3] registers, [ahci §4] structures. */
import { record } from "../src/base/record.ts";

export const AHCI_PORTS = 6;
export const AHCI_SLOTS = 32;

/** Generic host control [ahci §3.1]. */
export const AHCI_HBA = {
  CAP: { at: 0x00, width: 4, access: "ro" },
  GHC: { at: 0x04, width: 4, access: "rw" },
  IS: { at: 0x08, width: 4, access: "w1c" },
  PI: { at: 0x0c, width: 4, access: "ro" },
  VS: { at: 0x10, width: 4, access: "ro" },
  CCC_CTL: { at: 0x14, width: 4, access: "ro" },
  CCC_PORTS: { at: 0x18, width: 4, access: "ro" },
  EM_LOC: { at: 0x1c, width: 4, access: "ro" },
  EM_CTL: { at: 0x20, width: 4, access: "ro" },
  CAP2: { at: 0x24, width: 4, access: "ro" },
  BOHC: { at: 0x28, width: 4, access: "ro" },
} as const;

export const PORT_AT = 0x100, PORT_BYTES = 0x80;

/** A port, from PORT_AT + port × PORT_BYTES [ahci §3.3]. */
export const AHCI_PORT = {
  PxCLB: { at: 0x00, width: 4, access: "rw" },
  PxCLBU: { at: 0x04, width: 4, access: "rw" },
  PxFB: { at: 0x08, width: 4, access: "rw" },
  PxFBU: { at: 0x0c, width: 4, access: "rw" },
  PxIS: { at: 0x10, width: 4, access: "w1c" },
  PxIE: { at: 0x14, width: 4, access: "rw" },
  PxCMD: { at: 0x18, width: 4, access: "rw" },
  PxTFD: { at: 0x20, width: 4, access: "ro" },
  PxSIG: { at: 0x24, width: 4, access: "ro" },
  PxSSTS: { at: 0x28, width: 4, access: "ro" },
  PxSCTL: { at: 0x2c, width: 4, access: "rw" },
  PxSERR: { at: 0x30, width: 4, access: "w1c" },
  PxSACT: { at: 0x34, width: 4, access: "w1c" },
  PxCI: { at: 0x38, width: 4, access: "w1c" },
  PxSNTF: { at: 0x3c, width: 4, access: "ro" },
  PxFBS: { at: 0x40, width: 4, access: "ro" },
} as const;

export const GHC = { HR: 1 << 0, IE: 1 << 1, AE: 1 << 31 } as const;
/** Six ports of 32 slots at 3 Gb/s, AHCI only, with command list override, native queuing and 64-bit addresses. */
export const CAP: number =
  ((1 << 31) | (1 << 30) | (1 << 24) | (2 << 20) | (1 << 18) | ((AHCI_SLOTS - 1) << 8) | (AHCI_PORTS - 1)) >>> 0;
export const VS = 0x0001_0300;

export const PxIS = {
  DHRS: 1 << 0,
  PSS: 1 << 1,
  SDBS: 1 << 3,
  DPS: 1 << 5,
  PCS: 1 << 6,
  PRCS: 1 << 22,
  OFS: 1 << 24,
  HBDS: 1 << 28,
  HBFS: 1 << 29,
  TFES: 1 << 30,
} as const;
export const PxIE_BITS = 0x7dc0_007f;

export const PxCMD = {
  ST: 1 << 0,
  SUD: 1 << 1,
  POD: 1 << 2,
  CLO: 1 << 3,
  FRE: 1 << 4,
  CCS_SHIFT: 8,
  FR: 1 << 14,
  CR: 1 << 15,
  ATAPI: 1 << 24,
} as const;
export const PxSERR = { DIAG_N: 1 << 16, DIAG_X: 1 << 26 } as const;
export const SIGNATURE = { ATA: 0x0000_0101, ATAPI: 0xeb14_0101, NONE: 0xffff_ffff } as const;

/** The ATA status and error registers [acs §6]. */
export const STATUS = { ERR: 1 << 0, DRQ: 1 << 3, DSC: 1 << 4, DF: 1 << 5, DRDY: 1 << 6, BSY: 1 << 7 } as const;
export const ERROR = { ABRT: 1 << 2, IDNF: 1 << 4, UNC: 1 << 6 } as const;

/** A command header's first doubleword [ahci §4.2.2]. */
export const HEADER = { CFL: 0x1f, A: 1 << 5, W: 1 << 6, R: 1 << 8, C: 1 << 10, PRDTL_SHIFT: 16 } as const;
export const HEADER_BYTES = 32;
/** Offsets in a command table [ahci §4.2.3]. */
export const TABLE = { CFIS: 0x00, ACMD: 0x40, PRDT: 0x80 } as const;
/** Offsets in the area of received FISes [ahci §4.2.1]. */
export const RECEIVED = { PSFIS: 0x20, RFIS: 0x40, SDBFIS: 0x58 } as const;
export const FIS = { H2D: 0x27, D2H: 0x34, SDB: 0xa1, PIO_SETUP: 0x5f } as const;

export const AhciRecord = record("ahci", 1, {
  ghc: "u32",
  is: "u32",
  /** An HBA reset waits for commands under way to end. */
  resetting: { type: "u8", max: 1 },
});

export const AhciPortRecord = record("ahci-port", 1, {
  clb: "u32",
  clbu: "u32",
  fb: "u32",
  fbu: "u32",
  is: "u32",
  ie: "u32",
  cmd: "u32",
  tfd: "u32",
  sig: "u32",
  sctl: "u32",
  serr: "u32",
  /** Atomic: commands issued, and those of them that are queued. */
  ci: { array: "i32", length: 1 },
  sact: { array: "i32", length: 1 },
  /** Atomic: a thread carries out commands. Nobody does when a snapshot is made. */
  busy: { array: "i32", length: 1, max: 0 },
  /** Atomic: goes up when whatever is under way no longer counts. */
  generation: { array: "i32", length: 1 },
  /** The device takes no commands: one failed, and the driver has not stopped the list since. */
  halted: { type: "u8", max: 1 },
  /** The device has no signature to show until the next reset ends: a soft reset is going on. */
  srst: { type: "u8", max: 1 },
  /** A COMRESET is going on. */
  comreset: { type: "u8", max: 1 },
  /** The power-on signature has been sent. */
  ready: { type: "u8", max: 1 },
  // The ATA device.
  multiple: { type: "u8", max: 16 },
  writeCacheOff: { type: "u8", max: 1 },
  lookAheadOff: { type: "u8", max: 1 },
  smartOff: { type: "u8", max: 1 },
  transferMode: "u8",
  /** The queued command that failed last, for log page 10h: tag, status, error, LBA. */
  failedTag: { type: "u8", max: 0x80 },
  failedStatus: "u8",
  failedError: "u8",
  failedLba: { type: "f64", max: 2 ** 48 },
  // The ATAPI device.
  senseKey: { type: "u8", max: 15 },
  asc: "u8",
  ascq: "u8",
  /** A media event nobody has asked for yet [mmc §6.6]. */
  mediaEvent: { type: "u8", max: 4 },
  /** A unit attention waits: bit 0 for power on, bit 1 for a new medium. */
  attention: { type: "u8", max: 3 },
  trayOpen: { type: "u8", max: 1 },
  locked: { type: "u8", max: 1 },
  /** A medium other than the first is in: of so many sectors of 512 bytes, 0 for none. */
  changed: { type: "u8", max: 1 },
  mediumSectors: { type: "f64", max: 2 ** 43 },
});
