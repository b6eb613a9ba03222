/** Registers of the 82545EM, with their bits and the record behind them. Spec: [e1000 §13]. */
import { record } from "../src/base/record.ts";

/** Those that stand alone. MTA, RAL/RAH, VFTA and the statistics are arrays: see E1000_ARRAY. */
export const E1000 = {
  CTRL: { at: 0x0000, width: 4, access: "rw" },
  STATUS: { at: 0x0008, width: 4, access: "ro" },
  EECD: { at: 0x0010, width: 4, access: "rw" },
  EERD: { at: 0x0014, width: 4, access: "rw" },
  CTRL_EXT: { at: 0x0018, width: 4, access: "rw" },
  MDIC: { at: 0x0020, width: 4, access: "rw" },
  FCAL: { at: 0x0028, width: 4, access: "rw" },
  FCAH: { at: 0x002c, width: 4, access: "rw" },
  FCT: { at: 0x0030, width: 4, access: "rw" },
  VET: { at: 0x0038, width: 4, access: "rw" },
  ICR: { at: 0x00c0, width: 4, access: "rc" },
  ITR: { at: 0x00c4, width: 4, access: "rw" },
  ICS: { at: 0x00c8, width: 4, access: "wo" },
  IMS: { at: 0x00d0, width: 4, access: "rw" },
  IMC: { at: 0x00d8, width: 4, access: "wo" },
  RCTL: { at: 0x0100, width: 4, access: "rw" },
  FCTTV: { at: 0x0170, width: 4, access: "rw" },
  TXCW: { at: 0x0178, width: 4, access: "rw" },
  RXCW: { at: 0x0180, width: 4, access: "ro" },
  TCTL: { at: 0x0400, width: 4, access: "rw" },
  TIPG: { at: 0x0410, width: 4, access: "rw" },
  AIFS: { at: 0x0458, width: 4, access: "rw" },
  LEDCTL: { at: 0x0e00, width: 4, access: "rw" },
  PBA: { at: 0x1000, width: 4, access: "rw" },
  FCRTL: { at: 0x2160, width: 4, access: "rw" },
  FCRTH: { at: 0x2168, width: 4, access: "rw" },
  RDBAL: { at: 0x2800, width: 4, access: "rw" },
  RDBAH: { at: 0x2804, width: 4, access: "rw" },
  RDLEN: { at: 0x2808, width: 4, access: "rw" },
  RDH: { at: 0x2810, width: 4, access: "rw" },
  RDT: { at: 0x2818, width: 4, access: "rw" },
  RDTR: { at: 0x2820, width: 4, access: "rw" },
  RXDCTL: { at: 0x2828, width: 4, access: "rw" },
  RADV: { at: 0x282c, width: 4, access: "rw" },
  RSRPD: { at: 0x2c00, width: 4, access: "rw" },
  TXDMAC: { at: 0x3000, width: 4, access: "rw" },
  TDBAL: { at: 0x3800, width: 4, access: "rw" },
  TDBAH: { at: 0x3804, width: 4, access: "rw" },
  TDLEN: { at: 0x3808, width: 4, access: "rw" },
  TDH: { at: 0x3810, width: 4, access: "rw" },
  TDT: { at: 0x3818, width: 4, access: "rw" },
  TIDV: { at: 0x3820, width: 4, access: "rw" },
  TXDCTL: { at: 0x3828, width: 4, access: "rw" },
  TADV: { at: 0x382c, width: 4, access: "rw" },
  TSPMT: { at: 0x3830, width: 4, access: "rw" },
  RXCSUM: { at: 0x5000, width: 4, access: "rw" },
  WUC: { at: 0x5800, width: 4, access: "rw" },
  WUFC: { at: 0x5808, width: 4, access: "rw" },
  WUS: { at: 0x5810, width: 4, access: "rw" },
  MANC: { at: 0x5820, width: 4, access: "rw" },
} as const;

export type E1000Register = keyof typeof E1000;

/** Arrays of double words. */
export const E1000_ARRAY = {
  STATISTICS: { at: 0x4000, count: 64 },
  MTA: { at: 0x5200, count: 128 },
  RECEIVE_ADDRESS: { at: 0x5400, count: 32 },
  VFTA: { at: 0x5600, count: 128 },
} as const;

/** Offsets of the statistics that are counted; the others are of what never happens here, and read as zero. */
export const STATISTIC = {
  MPC: 0x4010,
  GPRC: 0x4074,
  BPRC: 0x4078,
  MPRC: 0x407c,
  GPTC: 0x4080,
  GORC: 0x4088,
  GOTC: 0x4090,
  RNBC: 0x40a0,
  TOR: 0x40c0,
  TOT: 0x40c8,
  TPR: 0x40d0,
  TPT: 0x40d4,
  MPTC: 0x40f0,
  BPTC: 0x40f4,
  TSCTC: 0x40f8,
} as const;

export const CTRL = { FD: 1 << 0, SLU: 1 << 6, RST: 1 << 26, VME: 1 << 30, PHY_RST: 2 ** 31 } as const;
export const E1000_STATUS = { FD: 1 << 0, LU: 1 << 1, SPEED_1000: 2 << 6, ASDV_1000: 2 << 8 } as const;
export const EECD = {
  SK: 1 << 0,
  CS: 1 << 1,
  DI: 1 << 2,
  DO: 1 << 3,
  FWE: 3 << 4,
  EE_REQ: 1 << 6,
  EE_GNT: 1 << 7,
  EE_PRES: 1 << 8,
} as const;
export const EERD = { START: 1 << 0, DONE: 1 << 4 } as const;
export const MDIC = { OP_WRITE: 1, OP_READ: 2, READY: 1 << 28, INTERRUPT: 1 << 29, ERROR: 1 << 30 } as const;

/** Causes of interrupts: ICR, ICS, IMS and IMC. */
export const CAUSE = {
  TXDW: 1 << 0,
  TXQE: 1 << 1,
  LSC: 1 << 2,
  RXDMT0: 1 << 4,
  RXO: 1 << 6,
  RXT0: 1 << 7,
  MDAC: 1 << 9,
} as const;
/** Every cause there is [e1000 §13.4.17]. */
export const CAUSES = 0x0001_f7df;

export const RCTL = {
  EN: 1 << 1,
  UPE: 1 << 3,
  MPE: 1 << 4,
  LPE: 1 << 5,
  RDMTS: 8, // shift
  MO: 12, // shift
  BAM: 1 << 15,
  BSIZE: 16, // shift
  VFE: 1 << 18,
  BSEX: 1 << 25,
  SECRC: 1 << 26,
} as const;
export const TCTL = { EN: 1 << 1 } as const;
export const RXCSUM = { IPOFLD: 1 << 8, TUOFLD: 1 << 9 } as const;
export const RAH_AV = 2 ** 31;

/** Values after a reset, where they are not zero [e1000 §13]. */
const POWER_ON: Partial<Record<E1000Register, number>> = {
  CTRL: 0x201, // full duplex, 1000 Mb/s
  LEDCTL: 0x0706_1302,
  PBA: 0x0010_0030, // 48 KB for receiving, 16 KB for sending
  TIPG: 0x0060_2008,
};

const NAMES = Object.keys(E1000) as E1000Register[];
const INDEX = Object.fromEntries(NAMES.map((name, i) => [name, i])) as Record<E1000Register, number>;
const RESET_VALUES = NAMES.map((name) => POWER_ON[name] ?? 0);

export const E1000Record = record("e1000", 1, {
  /** By the order of E1000, as they differ from their power-on values. */
  registers: { array: "u32", length: NAMES.length },
  statistics: { array: "u32", length: E1000_ARRAY.STATISTICS.count },
  mta: { array: "u32", length: E1000_ARRAY.MTA.count },
  /** RAL and RAH by turns; the first pair as it differs from the address in the EEPROM. */
  receiveAddresses: { array: "u32", length: E1000_ARRAY.RECEIVE_ADDRESS.count },
  vfta: { array: "u32", length: E1000_ARRAY.VFTA.count },
  phy: { array: "u16", length: 32 },
  linkDown: { type: "u8", max: 1 },
  icr: "u32",
  ims: "u32",
  /** The interrupt is asserted, by its pin or by a message. */
  asserted: { type: "u8", max: 1 },
  /** When it last was; and when it may be again, Infinity if it need not. */
  assertedAtNs: "f64",
  ioAddress: "u32",
  // The EEPROM's shift register: bits that came since its select line rose, and those that go out.
  eepromIn: "u32",
  eepromBits: { type: "u8", max: 32 },
  eepromOut: "u32",
  eepromAddress: { type: "u8", max: 63 },
  /** Offload contexts: of segmentation, and of checksums. Four double words each. */
  contexts: { array: "u32", length: 8 },
});

/** The plain registers: those whose reads and writes have no effects. */
export class RegisterFile {
  constructor(private readonly registers: Uint32Array) {}

  get(name: E1000Register): number {
    const i = INDEX[name];
    return (this.registers[i]! ^ RESET_VALUES[i]!) >>> 0;
  }

  set(name: E1000Register, value: number): void {
    const i = INDEX[name];
    this.registers[i] = value ^ RESET_VALUES[i]!;
  }
}

/** The register at an offset. */
export const REGISTER_AT: ReadonlyMap<number, E1000Register> = new Map(NAMES.map((name) => [E1000[name].at, name]));
