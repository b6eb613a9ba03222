/**
 * The commands of an ATA disk.
 *
 * Spec: [acs §7] commands, [acs §7.16] IDENTIFY DEVICE data, [acs §9] logs.
 * Emulated: reading and writing by DMA, by PIO and queued, FUA, FLUSH CACHE, DATA SET MANAGEMENT with TRIM, SMART, power
 * management in name, SET FEATURES, the general purpose log of failed queued commands.
 * Absent: security, host protected areas, streaming, microcode, queued TRIM.
 */
import type { View } from "../src/base/record.ts";
import { type AhciPortRecord, ERROR, SIGNATURE, STATUS } from "./ahci_registers.ts";
import { type BlockBackend, SECTOR_BYTES } from "./block_backend.ts";
import type { Scatter } from "./scatter.ts";

/** Command codes. */
export const ATA = {
  NOP: 0x00,
  DATA_SET_MANAGEMENT: 0x06,
  DEVICE_RESET: 0x08,
  READ_SECTORS: 0x20,
  READ_SECTORS_EXT: 0x24,
  READ_DMA_EXT: 0x25,
  READ_NATIVE_MAX_EXT: 0x27,
  READ_MULTIPLE_EXT: 0x29,
  READ_LOG_EXT: 0x2f,
  WRITE_SECTORS: 0x30,
  WRITE_SECTORS_EXT: 0x34,
  WRITE_DMA_EXT: 0x35,
  WRITE_MULTIPLE_EXT: 0x39,
  WRITE_DMA_FUA_EXT: 0x3d,
  READ_VERIFY: 0x40,
  READ_VERIFY_EXT: 0x42,
  READ_LOG_DMA_EXT: 0x47,
  READ_FPDMA_QUEUED: 0x60,
  WRITE_FPDMA_QUEUED: 0x61,
  EXECUTE_DIAGNOSTIC: 0x90,
  INITIALIZE_PARAMETERS: 0x91,
  PACKET: 0xa0,
  IDENTIFY_PACKET: 0xa1,
  SMART: 0xb0,
  READ_MULTIPLE: 0xc4,
  WRITE_MULTIPLE: 0xc5,
  SET_MULTIPLE: 0xc6,
  READ_DMA: 0xc8,
  WRITE_DMA: 0xca,
  STANDBY_IMMEDIATE: 0xe0,
  IDLE_IMMEDIATE: 0xe1,
  STANDBY: 0xe2,
  IDLE: 0xe3,
  CHECK_POWER_MODE: 0xe5,
  SLEEP: 0xe6,
  FLUSH_CACHE: 0xe7,
  FLUSH_CACHE_EXT: 0xea,
  IDENTIFY: 0xec,
  SET_FEATURES: 0xef,
  READ_NATIVE_MAX: 0xf8,
} as const;

const MAX_MULTIPLE = 16;
/** Blocks of ranges that one DATA SET MANAGEMENT may have: 512 ranges. */
const MAX_TRIM_BLOCKS = 8;
const NCQ_ERROR_LOG = 0x10;
const SMART = {
  READ_DATA: 0xd0,
  READ_THRESHOLDS: 0xd1,
  AUTOSAVE: 0xd2,
  OFFLINE: 0xd4,
  READ_LOG: 0xd5,
  AUTO_OFFLINE: 0xdb,
} as const;
const SMART_ENABLE = 0xd8, SMART_DISABLE = 0xd9, SMART_STATUS = 0xda;

/** A command as its FIS has it, and what is to be said of it. */
export class AtaRequest {
  command = 0;
  features = 0;
  /** Bits 0 to 47. */
  lba = 0;
  count = 0;
  device = 0;
  // Said.
  status = 0;
  error = 0;
  /** Data went to the host by PIO. */
  pioIn = false;
  /** Bytes of data moved. */
  moved = 0;
  /** A table led to what is not memory. */
  badMemory = false;
  /** The tables have less room than the command needs. */
  overflow = false;

  /** Takes the fields out of a FIS [sata §10.5.5]. */
  read(fis: Uint8Array): void {
    this.command = fis[2]!;
    this.features = fis[3]! | (fis[11]! << 8);
    this.lba = fis[4]! + fis[5]! * 0x100 + fis[6]! * 0x1_0000 +
      (fis[8]! + fis[9]! * 0x100 + fis[10]! * 0x1_0000) * 0x100_0000;
    this.count = fis[12]! | (fis[13]! << 8);
    this.device = fis[7]!;
    this.status = STATUS.DRDY | STATUS.DSC;
    this.error = this.moved = 0;
    this.pioIn = this.badMemory = this.overflow = false;
  }

  /** Tells the host of what a FIS asks it to read, if that is a queued read. */
  announce(fis: Uint8Array, backend: BlockBackend): void {
    this.read(fis);
    if (this.command !== ATA.READ_FPDMA_QUEUED) return;
    backend.announce?.(this.lba * SECTOR_BYTES, (this.features || 65536) * SECTOR_BYTES);
  }

  fail(error: number): void {
    this.status = STATUS.DRDY | STATUS.DSC | STATUS.ERR;
    this.error = error;
  }

  get failed(): boolean {
    return (this.status & STATUS.ERR) !== 0;
  }

  get queued(): boolean {
    return this.command === ATA.READ_FPDMA_QUEUED || this.command === ATA.WRITE_FPDMA_QUEUED;
  }

  /** The signature of a device that has been reset. */
  sign(signature: number): void {
    this.count = signature & 0xff;
    this.lba = (signature >>> 8) & 0xffffff;
    this.device = 0;
  }
}

export interface AtaIdentity {
  readonly sectors: number;
  readonly readonly: boolean;
  /** At most 20 characters. */
  readonly serial: string;
  readonly discard: boolean;
}

type State = View<typeof AhciPortRecord>;

/** Carries a command out; `data` is the memory that its tables describe. */
export function ataCommand(r: AtaRequest, s: State, id: AtaIdentity, backend: BlockBackend, data: Scatter): void {
  switch (r.command) {
    case ATA.READ_DMA:
    case ATA.READ_SECTORS:
    case ATA.READ_MULTIPLE:
      return move(r, s, id, backend, data, short(r), false, r.command !== ATA.READ_DMA);
    case ATA.READ_DMA_EXT:
    case ATA.READ_SECTORS_EXT:
    case ATA.READ_MULTIPLE_EXT:
      return move(r, s, id, backend, data, r.lba, false, r.command !== ATA.READ_DMA_EXT);
    case ATA.WRITE_DMA:
    case ATA.WRITE_SECTORS:
    case ATA.WRITE_MULTIPLE:
      return move(r, s, id, backend, data, short(r), true, false);
    case ATA.WRITE_DMA_EXT:
    case ATA.WRITE_SECTORS_EXT:
    case ATA.WRITE_MULTIPLE_EXT:
    case ATA.WRITE_DMA_FUA_EXT:
      return move(r, s, id, backend, data, r.lba, true, false, r.command === ATA.WRITE_DMA_FUA_EXT);
    case ATA.READ_FPDMA_QUEUED:
    case ATA.WRITE_FPDMA_QUEUED:
      // The count is in Features, FUA in Device [acs §7.23].
      r.count = r.features;
      return move(r, s, id, backend, data, r.lba, r.command === ATA.WRITE_FPDMA_QUEUED, false, (r.device & 0x80) !== 0);
    case ATA.READ_VERIFY:
      if (short(r) + (r.count & 0xff || 256) > id.sectors) r.fail(ERROR.IDNF);
      return;
    case ATA.READ_VERIFY_EXT:
      if (r.lba + (r.count || 65536) > id.sectors) r.fail(ERROR.IDNF);
      return;
    case ATA.FLUSH_CACHE:
    case ATA.FLUSH_CACHE_EXT:
      if (!backend.flush()) r.fail(ERROR.ABRT);
      return;
    case ATA.DATA_SET_MANAGEMENT:
      return trim(r, id, backend, data);
    case ATA.IDENTIFY:
      return answer(r, data, identify(s, id));
    case ATA.READ_LOG_EXT:
    case ATA.READ_LOG_DMA_EXT:
      return readLog(r, s, data);
    case ATA.SMART:
      return smart(r, s, data);
    case ATA.SET_FEATURES:
      return setFeatures(r, s);
    case ATA.SET_MULTIPLE: {
      const n = r.count & 0xff;
      if (n > MAX_MULTIPLE || n & (n - 1)) r.fail(ERROR.ABRT);
      else s.multiple = n;
      return;
    }
    case ATA.READ_NATIVE_MAX:
      r.lba = Math.min(id.sectors - 1, 0xfff_fffe);
      return;
    case ATA.READ_NATIVE_MAX_EXT:
      r.lba = id.sectors - 1;
      return;
    case ATA.CHECK_POWER_MODE:
      r.count = 0xff; // active or idle
      return;
    case ATA.EXECUTE_DIAGNOSTIC:
      r.sign(SIGNATURE.ATA);
      r.error = 1; // passed; not a failure
      return;
    case ATA.INITIALIZE_PARAMETERS:
    case ATA.STANDBY_IMMEDIATE:
    case ATA.IDLE_IMMEDIATE:
    case ATA.STANDBY:
    case ATA.IDLE:
    case ATA.SLEEP:
      return;
    default: // NOP too: it always aborts
      return r.fail(ERROR.ABRT);
  }
}

/** The 28 address bits of a command of old. */
function short(r: AtaRequest): number {
  r.count = r.count & 0xff || 256;
  return r.lba % 0x100_0000 + (r.device & 0xf) * 0x100_0000;
}

function move(
  r: AtaRequest,
  s: State,
  id: AtaIdentity,
  backend: BlockBackend,
  data: Scatter,
  lba: number,
  out: boolean,
  pio: boolean,
  through = false,
): void {
  const sectors = r.count || 65536, bytes = sectors * SECTOR_BYTES;
  if (out && id.readonly) return r.fail(ERROR.ABRT);
  if (lba + sectors > id.sectors) return r.fail(ERROR.IDNF);
  if (data.bytes < bytes) {
    r.overflow = true;
    return r.fail(ERROR.ABRT);
  }
  if (!data.transfer(backend, !out, lba * SECTOR_BYTES, bytes)) return r.fail(out ? ERROR.ABRT : ERROR.UNC);
  if (out && (through || s.writeCacheOff) && !backend.flush()) return r.fail(ERROR.ABRT);
  r.moved = bytes;
  r.pioIn = pio;
}

/** Gives the host a block of data, by PIO but for the commands that say DMA. */
function answer(r: AtaRequest, data: Scatter, bytes: Uint8Array): void {
  r.moved = data.put(bytes);
  r.pioIn = r.command !== ATA.READ_LOG_DMA_EXT;
}

/** DATA SET MANAGEMENT: every range is judged before the first is given up [acs §7.5]. */
function trim(r: AtaRequest, id: AtaIdentity, backend: BlockBackend, data: Scatter): void {
  const blocks = r.count;
  if (!id.discard || id.readonly || r.features !== 1 || blocks < 1 || blocks > MAX_TRIM_BLOCKS) {
    return r.fail(ERROR.ABRT);
  }
  const bytes = new Uint8Array(blocks * SECTOR_BYTES);
  if (data.take(bytes) < bytes.length) {
    r.overflow = true;
    return r.fail(ERROR.ABRT);
  }
  r.moved = bytes.length;
  const view = new DataView(bytes.buffer);
  for (const act of [false, true]) {
    for (let at = 0; at < bytes.length; at += 8) {
      const lba = view.getUint32(at, true) + view.getUint16(at + 4, true) * 0x1_0000_0000;
      const sectors = view.getUint16(at + 6, true);
      if (sectors === 0) continue;
      if (lba + sectors > id.sectors) return r.fail(ERROR.IDNF);
      if (act && !backend.discard(lba * SECTOR_BYTES, sectors * SECTOR_BYTES)) return r.fail(ERROR.ABRT);
    }
  }
}

function readLog(r: AtaRequest, s: State, data: Scatter): void {
  const log = r.lba & 0xff, page = Math.floor(r.lba / 0x100) % 0x100;
  const bytes = new Uint8Array(SECTOR_BYTES), view = new DataView(bytes.buffer);
  if (page !== 0 || r.count !== 1) return r.fail(ERROR.ABRT);
  if (log === 0) { // the directory
    view.setUint16(0, 1, true);
    view.setUint16(2 * NCQ_ERROR_LOG, 1, true);
  } else if (log === NCQ_ERROR_LOG) {
    bytes[0] = s.failedTag;
    bytes[2] = s.failedStatus;
    bytes[3] = s.failedError;
    putLba(bytes, 4, s.failedLba);
    bytes[7] = 0x40;
    s.failedTag = 0x80; // no queued command has failed
    bytes[511] = checksum(bytes);
  } else return r.fail(ERROR.ABRT);
  answer(r, data, bytes);
}

function putLba(bytes: Uint8Array, at: number, lba: number): void {
  const lo = lba % 0x100_0000, hi = Math.floor(lba / 0x100_0000);
  for (let i = 0; i < 3; i++) {
    bytes[at + i] = lo >>> (8 * i);
    bytes[at + 4 + i] = hi >>> (8 * i);
  }
}

/** The byte that makes the sum of all 0. */
function checksum(bytes: Uint8Array): number {
  return -bytes.reduce((sum, byte) => sum + byte, 0) & 0xff;
}

function smart(r: AtaRequest, s: State, data: Scatter): void {
  const sub = r.features & 0xff;
  if (Math.floor(r.lba / 0x100) % 0x1_0000 !== 0xc24f) return r.fail(ERROR.ABRT);
  if (s.smartOff && sub !== SMART_ENABLE) return r.fail(ERROR.ABRT);
  const bytes = new Uint8Array(SECTOR_BYTES);
  switch (sub) {
    case SMART_ENABLE:
    case SMART_DISABLE:
      s.smartOff = sub === SMART_DISABLE ? 1 : 0;
      return;
    case SMART_STATUS: // C24Fh stays where it is: no threshold is exceeded
    case SMART.AUTOSAVE:
    case SMART.AUTO_OFFLINE:
    case SMART.OFFLINE:
      return;
    case SMART.READ_DATA:
      bytes[0] = 16; // the structure's revision
      bytes[362] = 2; // the off-line collection ended without error
      break;
    case SMART.READ_THRESHOLDS:
      bytes[0] = 16;
      break;
    case SMART.READ_LOG: {
      const log = r.lba & 0xff;
      if (log > 1 && log !== 6) return r.fail(ERROR.ABRT);
      bytes[0] = 1; // the version of the directory, of the error log and of the self-test log
      if (log === 0) bytes[2] = bytes[12] = 1;
      break;
    }
    default:
      return r.fail(ERROR.ABRT);
  }
  bytes[511] = checksum(bytes);
  answer(r, data, bytes);
}

function setFeatures(r: AtaRequest, s: State): void {
  switch (r.features & 0xff) {
    case 0x02:
    case 0x82:
      s.writeCacheOff = (r.features & 0xff) === 0x82 ? 1 : 0;
      return;
    case 0xaa:
    case 0x55:
      s.lookAheadOff = (r.features & 0xff) === 0x55 ? 1 : 0;
      return;
    case 0x03: { // the transfer mode: PIO, multiword DMA, Ultra DMA
      const mode = r.count & 0xff, kind = mode >> 3, n = mode & 7;
      if (kind > 1 && !((kind === 4 && n <= 2) || (kind === 8 && n <= 6))) r.fail(ERROR.ABRT);
      else s.transferMode = mode;
      return;
    }
    case 0x66: // keep settings over a soft reset, or not: they are kept
    case 0xcc:
      return;
    default:
      r.fail(ERROR.ABRT);
  }
}

/** Text in IDENTIFY data: padded with spaces, the bytes of each word swapped. */
export function identifyText(words: Uint16Array, at: number, count: number, text: string): void {
  const padded = text.padEnd(2 * count);
  for (let i = 0; i < count; i++) words[at + i] = (padded.charCodeAt(2 * i) << 8) | padded.charCodeAt(2 * i + 1);
}

/** A name of the world's own, from the serial number: NAA 5, without a registered vendor. */
function worldWideName(serial: string): number[] {
  let hash = 0x811c_9dc5;
  for (const c of serial) hash = Math.imul(hash ^ c.charCodeAt(0), 0x0100_0193) >>> 0;
  return [0x5000, 0x7472, hash >>> 16, hash & 0xffff];
}

export const MODEL = "trike disk";
export const FIRMWARE = "1.0";

function identify(s: State, { sectors, serial, discard, readonly }: AtaIdentity): Uint8Array {
  const w = new Uint16Array(256);
  const cylinders = Math.min(16383, Math.floor(sectors / (16 * 63)));
  const short = Math.min(sectors, 0xfff_ffff);
  w[0] = 0x0040; // a fixed disk
  w[1] = cylinders;
  w[3] = 16;
  w[6] = 63;
  identifyText(w, 10, 10, serial);
  identifyText(w, 23, 4, FIRMWARE);
  identifyText(w, 27, 20, MODEL);
  w[47] = 0x8000 | MAX_MULTIPLE;
  w[49] = 0x0f00; // LBA, DMA, IORDY
  w[50] = 0x4000;
  w[53] = 7; // words 54 to 58, 64 to 70 and 88 are valid
  w[54] = cylinders;
  w[55] = 16;
  w[56] = 63;
  const chs = cylinders * 16 * 63;
  w[57] = chs & 0xffff;
  w[58] = chs >>> 16;
  w[59] = s.multiple ? 0x100 | s.multiple : 0;
  w[60] = short & 0xffff;
  w[61] = short >>> 16;
  const mode = s.transferMode;
  w[63] = 0x0007 | (mode >> 3 === 4 ? 0x100 << (mode & 7) : 0);
  w[64] = 3;
  w.fill(120, 65, 69); // ns
  w[75] = 31; // the depth of the queue, less one
  w[76] = (1 << 8) | (1 << 2) | (1 << 1); // NCQ, 3 and 1.5 Gb/s
  w[80] = 0x01f0; // ATA/ATAPI-4 to ATA8-ACS
  w[82] = (1 << 14) | (1 << 6) | (1 << 5) | (1 << 0); // NOP, look-ahead, write cache, SMART
  w[83] = (1 << 14) | (1 << 13) | (1 << 12) | (1 << 10); // FLUSH CACHE (EXT), 48-bit addresses
  w[84] = (1 << 14) | (1 << 8) | (1 << 6) | (1 << 5); // a name, FUA, general purpose logging
  w[85] = w[82]! & ~((s.lookAheadOff << 6) | (s.writeCacheOff << 5) | s.smartOff);
  w[86] = w[83]! & 0x3fff;
  w[87] = w[84]!;
  w[88] = 0x7f | (mode >> 3 === 8 ? 0x100 << (mode & 7) : s.transferMode === 0 ? 0x4000 : 0);
  w[93] = 0;
  for (let i = 0; i < 4; i++) w[100 + i] = Math.floor(sectors / 2 ** (16 * i)) & 0xffff;
  if (discard && !readonly) {
    w[105] = MAX_TRIM_BLOCKS;
    w[169] = 1;
  }
  w.set(worldWideName(serial), 108);
  w[217] = 1; // it does not turn
  w[222] = 0x101f; // a serial transport
  const bytes = new Uint8Array(512);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < 255; i++) view.setUint16(2 * i, w[i]!, true);
  bytes[510] = 0xa5;
  bytes[511] = checksum(bytes);
  return bytes;
}
