/** The registers, command words and state of the NVMe controller. Spec: [nvme §3] registers, [nvme §4] data structures. */
import { record } from "../src/base/record.ts";

/** Pairs of I/O queues, beside the admin queues. */
export const IO_QUEUES = 16;
export const QUEUES: number = 1 + IO_QUEUES;
export const MAX_ENTRIES = 1024;
const MAX_ADMIN_ENTRIES = 4096;
export const MAX_EVENTS = 4;

/** [nvme §3.1]; 64-bit registers in halves. */
export const NVME = {
  CAP_LO: { at: 0x00, width: 4, access: "ro" },
  CAP_HI: { at: 0x04, width: 4, access: "ro" },
  VS: { at: 0x08, width: 4, access: "ro" },
  INTMS: { at: 0x0c, width: 4, access: "rw" },
  INTMC: { at: 0x10, width: 4, access: "rw" },
  CC: { at: 0x14, width: 4, access: "rw" },
  CSTS: { at: 0x1c, width: 4, access: "w1c" },
  NSSR: { at: 0x20, width: 4, access: "rw" },
  AQA: { at: 0x24, width: 4, access: "rw" },
  ASQ_LO: { at: 0x28, width: 4, access: "rw" },
  ASQ_HI: { at: 0x2c, width: 4, access: "rw" },
  ACQ_LO: { at: 0x30, width: 4, access: "rw" },
  ACQ_HI: { at: 0x34, width: 4, access: "rw" },
  CMBLOC: { at: 0x38, width: 4, access: "ro" },
  CMBSZ: { at: 0x3c, width: 4, access: "ro" },
} as const;

export const DOORBELLS_AT = 0x1000;

/** Queues of 1024 contiguous entries, ten seconds to get ready, doorbells of 4 bytes, the NVM command set, pages of 4 KiB. */
export const CAP_LO: number = ((20 << 24) | (1 << 16) | (MAX_ENTRIES - 1)) >>> 0;
export const CAP_HI: number = 1 << 5;
export const VS = 0x0001_0400;
export const CC = {
  EN: 1 << 0,
  CSS: 7 << 4,
  MPS: 15 << 7,
  AMS: 7 << 11,
  SHN: 3 << 14,
  IOSQES_SHIFT: 16,
  IOCQES_SHIFT: 20,
} as const;
export const CC_BITS = 0x00ff_fff1;
export const CSTS = { RDY: 1 << 0, CFS: 1 << 1, SHST_OCCURRING: 1 << 2, SHST_COMPLETE: 2 << 2, SHST: 3 << 2 } as const;

export const SQ_ENTRY_BYTES = 64, CQ_ENTRY_BYTES = 16;
export const PAGE_BYTES = 4096;
/** The most data of a command, as a power of two of pages: 1 MiB. */
export const MDTS = 8;

export const ADMIN = {
  DELETE_SQ: 0x00,
  CREATE_SQ: 0x01,
  GET_LOG_PAGE: 0x02,
  DELETE_CQ: 0x04,
  CREATE_CQ: 0x05,
  IDENTIFY: 0x06,
  ABORT: 0x08,
  SET_FEATURES: 0x09,
  GET_FEATURES: 0x0a,
  ASYNC_EVENT: 0x0c,
} as const;
export const NVM = { FLUSH: 0x00, WRITE: 0x01, READ: 0x02, WRITE_ZEROES: 0x08, DATASET_MANAGEMENT: 0x09 } as const;

/** The status field [nvme §4.6.1]: type in bits 8 to 10, code below; bit 14 asks not to try again. */
const DNR = 1 << 14;
export const SC = {
  SUCCESS: 0x000,
  INVALID_OPCODE: 0x001 | DNR,
  INVALID_FIELD: 0x002 | DNR,
  DATA_TRANSFER_ERROR: 0x004,
  INVALID_NAMESPACE: 0x00b | DNR,
  PRP_OFFSET_INVALID: 0x013 | DNR,
  LBA_OUT_OF_RANGE: 0x080 | DNR,
  CQ_INVALID: 0x100 | DNR,
  INVALID_QUEUE_ID: 0x101 | DNR,
  INVALID_QUEUE_SIZE: 0x102 | DNR,
  EVENT_LIMIT_EXCEEDED: 0x105 | DNR,
  INVALID_VECTOR: 0x108 | DNR,
  INVALID_LOG_PAGE: 0x109 | DNR,
  INVALID_QUEUE_DELETION: 0x10c | DNR,
  FEATURE_NOT_SAVEABLE: 0x10d | DNR,
  READ_ONLY: 0x182 | DNR,
  WRITE_FAULT: 0x280,
  UNRECOVERED_READ: 0x281,
} as const;

export const FEATURE = {
  ARBITRATION: 0x01,
  POWER: 0x02,
  TEMPERATURE: 0x04,
  ERROR_RECOVERY: 0x05,
  WRITE_CACHE: 0x06,
  QUEUES: 0x07,
  COALESCING: 0x08,
  VECTOR: 0x09,
  ATOMICITY: 0x0a,
  EVENTS: 0x0b,
} as const;
export const LOG = { ERRORS: 0x01, SMART: 0x02, FIRMWARE: 0x03, EFFECTS: 0x05 } as const;

/** Errors told of by an asynchronous event [nvme §5.2]: bits of `eventPending`. */
export const EVENT = { BAD_DOORBELL: 0, BAD_DOORBELL_VALUE: 1 } as const;

export const NvmeRecord = record("nvme", 1, {
  cc: "u32",
  csts: "u32",
  aqa: "u32",
  asqLo: "u32",
  asqHi: "u32",
  acqLo: "u32",
  acqHi: "u32",
  /** Interrupts masked by INTMS. */
  masked: "u32",
  /** A reset waits for the thread that carries out commands. */
  resetting: { type: "u8", max: 1 },
  /** The driver has asked for a shutdown: what is in caches goes to the disk. */
  shutdown: { type: "u8", max: 1 },
  /** Atomic: a thread carries out commands. Nobody does when a snapshot is made. */
  busy: { array: "i32", length: 1, max: 0 },
  /** Atomic: goes up when whatever is under way no longer counts. */
  generation: { array: "i32", length: 1 },
  // Submission queues, the admin queue first.
  sqLive: { array: "u8", length: QUEUES, max: 1 },
  sqLo: { array: "u32", length: QUEUES },
  sqHi: { array: "u32", length: QUEUES },
  sqSize: { array: "u32", length: QUEUES, max: MAX_ADMIN_ENTRIES },
  sqCq: { array: "u8", length: QUEUES, max: QUEUES - 1 },
  sqHead: { array: "u32", length: QUEUES, max: MAX_ADMIN_ENTRIES },
  /** Atomic. */
  sqTail: { array: "i32", length: QUEUES, max: MAX_ADMIN_ENTRIES },
  // Completion queues.
  cqLive: { array: "u8", length: QUEUES, max: 1 },
  cqLo: { array: "u32", length: QUEUES },
  cqHi: { array: "u32", length: QUEUES },
  cqSize: { array: "u32", length: QUEUES, max: MAX_ADMIN_ENTRIES },
  /** Atomic. */
  cqHead: { array: "i32", length: QUEUES, max: MAX_ADMIN_ENTRIES },
  cqTail: { array: "i32", length: QUEUES, max: MAX_ADMIN_ENTRIES },
  cqPhase: { array: "u8", length: QUEUES, max: 1 },
  cqVector: { array: "u16", length: QUEUES, max: QUEUES - 1 },
  cqInterrupts: { array: "u8", length: QUEUES, max: 1 },
  /** By number of the feature. */
  features: { array: "u32", length: 16 },
  /** Asynchronous event requests that wait for an event, by command identifier. */
  events: { array: "u16", length: MAX_EVENTS },
  eventCount: { type: "u8", max: MAX_EVENTS },
  eventPending: { type: "u8", max: 3 },
  /** Bits of those that were told and whose log page was not read since. */
  eventHeld: { type: "u8", max: 3 },
  // For the SMART log.
  sectorsRead: { type: "f64", max: 2 ** 53 },
  sectorsWritten: { type: "f64", max: 2 ** 53 },
  reads: { type: "f64", max: 2 ** 53 },
  writes: { type: "f64", max: 2 ** 53 },
});
