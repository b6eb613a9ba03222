/**
 * The packet commands of a CD-ROM drive.
 *
 * Spec: [mmc §6] commands, [mmc §7] mode pages, [spc §4.5] sense data; the SCSI names of commands and fields.
 * Emulated: a disc with one track of data in sectors of 2048 bytes, of a CD's or a DVD's size; changing it, the tray and its lock,
 * media events.
 * Absent: audio, writing, raw sectors, regions and keys of DVDs.
 */
import type { View } from "../src/base/record.ts";
import { FIRMWARE, identifyText } from "./ahci_ata.ts";
import type { AhciPortRecord } from "./ahci_registers.ts";
import type { BlockBackend } from "./block_backend.ts";
import type { Scatter } from "./scatter.ts";

export const CD_SECTOR_BYTES = 2048;

/** Operation codes. */
export const CDB = {
  TEST_UNIT_READY: 0x00,
  REQUEST_SENSE: 0x03,
  INQUIRY: 0x12,
  START_STOP_UNIT: 0x1b,
  PREVENT_ALLOW: 0x1e,
  READ_CAPACITY: 0x25,
  READ_10: 0x28,
  SEEK_10: 0x2b,
  READ_TOC: 0x43,
  GET_CONFIGURATION: 0x46,
  GET_EVENT_STATUS: 0x4a,
  READ_DISC_INFORMATION: 0x51,
  READ_TRACK_INFORMATION: 0x52,
  MODE_SELECT_10: 0x55,
  MODE_SENSE_10: 0x5a,
  READ_12: 0xa8,
  SET_CD_SPEED: 0xbb,
  MECHANISM_STATUS: 0xbd,
  READ_CD: 0xbe,
} as const;

export const SENSE = { NOT_READY: 2, MEDIUM_ERROR: 3, ILLEGAL_REQUEST: 5, UNIT_ATTENTION: 6 } as const;
/** Additional sense codes, with their qualifiers in the low byte. */
export const ASC = {
  INVALID_OPCODE: 0x2000,
  LBA_OUT_OF_RANGE: 0x2100,
  INVALID_FIELD: 0x2400,
  MEDIUM_CHANGED: 0x2800,
  RESET: 0x2900,
  SAVING_NOT_SUPPORTED: 0x3900,
  NO_MEDIUM_TRAY_CLOSED: 0x3a01,
  NO_MEDIUM_TRAY_OPEN: 0x3a02,
  REMOVAL_PREVENTED: 0x5302,
  UNRECOVERED_READ: 0x1100,
} as const;

/** Bits of `attention`, and values of `mediaEvent`. */
export const ATTENTION = { RESET: 1, MEDIUM: 2 } as const;
export const MEDIA_EVENT = { EJECT_REQUEST: 1, NEW_MEDIA: 2, MEDIA_REMOVAL: 3 } as const;

const MAX_CD_SECTORS = 80 * 60 * 75;
const PROFILE = { CD_ROM: 0x0008, DVD_ROM: 0x0010 } as const;
const LEAD_OUT = 0xaa;
const DATA_TRACK = 0x14; // ADR 1, data

type State = View<typeof AhciPortRecord>;

export class AtapiDrive {
  readonly #bytes = new Uint8Array(512);
  readonly #view = new DataView(this.#bytes.buffer);
  /** Bytes that the last command moved. */
  moved = 0;
  #asc = 0;

  constructor(private readonly s: State, private readonly firstSectors: number) {}

  /** Sectors of 2048 bytes of the medium; 0 if there is none. */
  get sectors(): number {
    return Math.floor((this.s.changed ? this.s.mediumSectors : this.firstSectors) / 4);
  }

  get loaded(): boolean {
    return this.sectors > 0 && !this.s.trayOpen;
  }

  /** The guest does not want its disc taken. */
  get locked(): boolean {
    return this.s.locked !== 0;
  }

  get trayOpen(): boolean {
    return this.s.trayOpen !== 0;
  }

  /** Puts another disc in, or none, as somebody at the drive does; `sectors` of 512 bytes. Under the machine lock. */
  changeMedium(sectors: number): void {
    const { s } = this;
    s.changed = 1;
    s.mediumSectors = sectors;
    s.trayOpen = 0;
    s.mediaEvent = sectors > 0 ? MEDIA_EVENT.NEW_MEDIA : MEDIA_EVENT.MEDIA_REMOVAL;
    if (sectors > 0) s.attention |= ATTENTION.MEDIUM;
  }

  /** The user asks the guest to let go of the disc. Under the machine lock. */
  requestEject(): void {
    this.s.mediaEvent = MEDIA_EVENT.EJECT_REQUEST;
  }

  /** Carries out a packet; true if it went well, else the sense data says why it did not. */
  packet(cdb: Uint8Array, backend: BlockBackend, data: Scatter): boolean {
    const { s } = this;
    this.moved = 0;
    this.#asc = 0;
    const op = cdb[0]!;
    if (op === CDB.REQUEST_SENSE) {
      this.#requestSense(cdb[4]!, data);
      return true;
    }
    s.senseKey = s.asc = s.ascq = 0;
    const quiet = op === CDB.INQUIRY || op === CDB.GET_CONFIGURATION || op === CDB.GET_EVENT_STATUS;
    if (!quiet && s.attention) {
      const reset = (s.attention & ATTENTION.RESET) !== 0;
      s.attention &= ~(reset ? ATTENTION.RESET : ATTENTION.MEDIUM);
      this.#fail(SENSE.UNIT_ATTENTION, reset ? ASC.RESET : ASC.MEDIUM_CHANGED);
    } else this.#perform(op, cdb, backend, data);
    return this.#asc === 0;
  }

  #fail(key: number, asc: number): void {
    this.s.senseKey = key;
    this.s.asc = asc >>> 8;
    this.s.ascq = asc & 0xff;
    this.#asc = asc;
  }

  #invalid(): void {
    this.#fail(SENSE.ILLEGAL_REQUEST, ASC.INVALID_FIELD);
  }

  #perform(op: number, cdb: Uint8Array, backend: BlockBackend, data: Scatter): void {
    const { s } = this;
    switch (op) {
      case CDB.INQUIRY:
        return this.#inquiry(cdb, data);
      case CDB.START_STOP_UNIT:
        return this.#startStop(cdb[4]!);
      case CDB.PREVENT_ALLOW:
        s.locked = cdb[4]! & 1;
        return;
      case CDB.GET_CONFIGURATION:
        return this.#configuration(cdb, data);
      case CDB.GET_EVENT_STATUS:
        return this.#events(cdb, data);
      case CDB.MODE_SENSE_10:
        return this.#modeSense(cdb, data);
      case CDB.MODE_SELECT_10: // every page is as it is
      case CDB.SET_CD_SPEED:
        return;
      case CDB.MECHANISM_STATUS:
        this.#bytes.fill(0, 0, 8);
        this.#bytes[1] = s.trayOpen ? 0x10 : 0;
        return this.#give(data, 8, word(cdb, 8));
    }
    // What follows needs a disc.
    const known = [
      CDB.TEST_UNIT_READY,
      CDB.READ_CAPACITY,
      CDB.READ_10,
      CDB.READ_12,
      CDB.READ_CD,
      CDB.SEEK_10,
      CDB.READ_TOC,
      CDB.READ_DISC_INFORMATION,
      CDB.READ_TRACK_INFORMATION,
    ] as readonly number[];
    if (!known.includes(op)) return this.#fail(SENSE.ILLEGAL_REQUEST, ASC.INVALID_OPCODE);
    if (!this.loaded) {
      return this.#fail(SENSE.NOT_READY, s.trayOpen ? ASC.NO_MEDIUM_TRAY_OPEN : ASC.NO_MEDIUM_TRAY_CLOSED);
    }
    switch (op) {
      case CDB.TEST_UNIT_READY:
        return;
      case CDB.READ_CAPACITY:
        this.#view.setUint32(0, this.sectors - 1);
        this.#view.setUint32(4, CD_SECTOR_BYTES);
        return this.#give(data, 8, 8);
      case CDB.READ_10:
        return this.#read(long(cdb, 2), word(cdb, 7), backend, data);
      case CDB.READ_12:
        return this.#read(long(cdb, 2), long(cdb, 6), backend, data);
      case CDB.READ_CD: {
        // User data of any sector type or of mode 1, and nothing around it.
        const type = (cdb[1]! >> 2) & 7, wanted = cdb[9]! & 0xf8;
        if ((type !== 0 && type !== 2) || (wanted !== 0x10 && wanted !== 0) || cdb[10]! & 7) return this.#invalid();
        const count = (cdb[6]! << 16) | word(cdb, 7);
        return this.#read(long(cdb, 2), wanted === 0 ? 0 : count, backend, data);
      }
      case CDB.SEEK_10:
        if (long(cdb, 2) >= this.sectors) this.#fail(SENSE.ILLEGAL_REQUEST, ASC.LBA_OUT_OF_RANGE);
        return;
      case CDB.READ_TOC:
        return this.#toc(cdb, data);
      case CDB.READ_DISC_INFORMATION:
        this.#bytes.fill(0, 0, 34);
        this.#view.setUint16(0, 32);
        this.#bytes[2] = 0x0e; // a finished disc, a finished last session
        this.#bytes.fill(1, 3, 7); // first track; sessions; first and last track of the last session
        this.#bytes.fill(0xff, 16, 24); // no lead-in or lead-out of another session
        return this.#give(data, 34, word(cdb, 7));
      default:
        return this.#trackInformation(cdb, data);
    }
  }

  /** Gives the first `length` bytes, cut to what the host has room for. */
  #give(data: Scatter, length: number, room: number): void {
    this.moved = data.put(this.#bytes.subarray(0, Math.min(length, room)));
  }

  #requestSense(room: number, data: Scatter): void {
    const { s } = this, bytes = this.#bytes;
    bytes.fill(0, 0, 18);
    bytes[0] = 0x70; // current errors, fixed format
    bytes[2] = s.senseKey;
    bytes[7] = 10;
    bytes[12] = s.asc;
    bytes[13] = s.ascq;
    s.senseKey = s.asc = s.ascq = 0;
    this.#give(data, 18, room);
  }

  #inquiry(cdb: Uint8Array, data: Scatter): void {
    if (cdb[1]! & 1 || cdb[2] !== 0) return this.#invalid(); // no vital product data
    const bytes = this.#bytes;
    bytes.fill(0, 0, 36);
    bytes[0] = 5; // a CD or DVD device
    bytes[1] = 0x80; // removable
    bytes[3] = 0x21; // ATAPI, response format 1
    bytes[4] = 31;
    bytes.set(new TextEncoder().encode("TRIKE   " + "CD-ROM".padEnd(16) + "1.0 "), 8);
    this.#give(data, 36, word(cdb, 3));
  }

  #startStop(how: number): void {
    const { s } = this;
    if (!(how & 2)) return; // the motor
    if (how & 1) {
      s.trayOpen = 0;
      return;
    }
    if (s.locked) return this.#fail(SENSE.ILLEGAL_REQUEST, ASC.REMOVAL_PREVENTED);
    s.trayOpen = 1;
    s.mediaEvent = MEDIA_EVENT.MEDIA_REMOVAL;
  }

  #read(lba: number, count: number, backend: BlockBackend, data: Scatter): void {
    if (lba + count > this.sectors) return this.#fail(SENSE.ILLEGAL_REQUEST, ASC.LBA_OUT_OF_RANGE);
    const bytes = count * CD_SECTOR_BYTES;
    if (data.bytes < bytes) return this.#invalid();
    if (!data.transfer(backend, true, lba * CD_SECTOR_BYTES, bytes)) {
      return this.#fail(SENSE.MEDIUM_ERROR, ASC.UNRECOVERED_READ);
    }
    this.moved = bytes;
  }

  #address(at: number, lba: number, msf: boolean): void {
    if (!msf) return this.#view.setUint32(at, lba);
    const frames = lba + 150;
    this.#view.setUint32(at, (Math.floor(frames / 4500) << 16) | (Math.floor(frames / 75) % 60 << 8) | (frames % 75));
  }

  #toc(cdb: Uint8Array, data: Scatter): void {
    const bytes = this.#bytes, msf = (cdb[1]! & 2) !== 0, room = word(cdb, 7);
    // The format stands in the control byte too, where old drivers put it.
    const format = cdb[2]! & 0xf || cdb[9]! >> 6;
    bytes.fill(0, 0, 64);
    bytes[2] = bytes[3] = 1; // first and last track, or session
    if (format === 0) {
      if (cdb[6]! > 1 && cdb[6] !== LEAD_OUT) return this.#invalid();
      let at = 4;
      for (const [track, lba] of [[1, 0], [LEAD_OUT, this.sectors]] as const) {
        if (track < cdb[6]!) continue;
        bytes[at + 1] = DATA_TRACK;
        bytes[at + 2] = track;
        this.#address(at + 4, lba, msf);
        at += 8;
      }
      this.#view.setUint16(0, at - 2);
      return this.#give(data, at, room);
    }
    if (format === 1) { // where the last session's first track is
      this.#view.setUint16(0, 10);
      bytes[5] = DATA_TRACK;
      bytes[6] = 1;
      this.#address(8, 0, msf);
      return this.#give(data, 12, room);
    }
    if (format !== 2) return this.#invalid();
    // The lead-in's entries: first track, last track, lead-out, then the track.
    let at = 4;
    for (const [point, value] of [[0xa0, 1], [0xa1, 1], [0xa2, -1], [1, 0]] as const) {
      bytes[at] = 1; // session
      bytes[at + 1] = DATA_TRACK;
      bytes[at + 3] = point;
      if (point === 0xa2 || point === 1) this.#address(at + 7, value < 0 ? this.sectors : value, true);
      else bytes[at + 8] = value;
      at += 11;
    }
    this.#view.setUint16(0, at - 2);
    this.#give(data, at, room);
  }

  #trackInformation(cdb: Uint8Array, data: Scatter): void {
    const bytes = this.#bytes, number = long(cdb, 2), kind = cdb[1]! & 3;
    const found = kind === 0 ? number < this.sectors : number === 1;
    if (!found || kind === 3) return this.#invalid();
    bytes.fill(0, 0, 36);
    this.#view.setUint16(0, 34);
    bytes[2] = bytes[3] = 1; // track, session
    bytes[5] = 4; // data
    bytes[6] = 1; // mode 1
    this.#view.setUint32(24, this.sectors);
    this.#give(data, 36, word(cdb, 7));
  }

  #configuration(cdb: Uint8Array, data: Scatter): void {
    const bytes = this.#bytes, view = this.#view, from = word(cdb, 2), how = cdb[1]! & 3;
    const dvd = this.sectors > MAX_CD_SECTORS;
    const profile = this.loaded ? (dvd ? PROFILE.DVD_ROM : PROFILE.CD_ROM) : 0;
    bytes.fill(0, 0, 128);
    view.setUint16(6, profile);
    let at = 8;
    /** `body` follows the four bytes of a feature's header. */
    const feature = (code: number, version: number, current: boolean, body: readonly number[]): void => {
      if (how === 2 ? code !== from : code < from || (how === 1 && !current)) return;
      view.setUint16(at, code);
      bytes[at + 2] = (version << 2) | (code <= 3 ? 2 : 0) | (current ? 1 : 0);
      bytes[at + 3] = body.length;
      bytes.set(body, at + 4);
      at += 4 + body.length;
    };
    feature(0x0000, 0, true, [
      ...[0, PROFILE.DVD_ROM, profile === PROFILE.DVD_ROM ? 1 : 0, 0],
      ...[0, PROFILE.CD_ROM, profile === PROFILE.CD_ROM ? 1 : 0, 0],
    ]);
    feature(0x0001, 2, true, [0, 0, 0, 7, 1, 0, 0, 0]); // core: a serial interface, device busy events
    feature(0x0003, 0, true, [0x29, 0, 0, 0]); // a tray, which ejects and locks
    feature(0x0010, 0, profile !== 0, [0, 0, 8, 0, 0, 1, 1, 0]); // random reads of 2048 bytes
    feature(0x001e, 2, profile === PROFILE.CD_ROM, [0, 0, 0, 0]); // CD read
    feature(0x001f, 0, profile === PROFILE.DVD_ROM, []); // DVD read
    view.setUint32(0, at - 4);
    this.#give(data, at, word(cdb, 7));
  }

  #events(cdb: Uint8Array, data: Scatter): void {
    const { s } = this, bytes = this.#bytes;
    if (!(cdb[1]! & 1)) return this.#invalid(); // only when asked
    bytes.fill(0, 0, 8);
    bytes[3] = 1 << 4; // media events are all there are
    if (!(cdb[4]! & (1 << 4))) {
      bytes[1] = 2;
      bytes[2] = 0x80; // none of those asked for
      return this.#give(data, 4, word(cdb, 7));
    }
    bytes[1] = 6;
    bytes[2] = 4;
    bytes[4] = s.mediaEvent;
    bytes[5] = (s.trayOpen ? 1 : 0) | (this.loaded ? 2 : 0);
    s.mediaEvent = 0;
    this.#give(data, 8, word(cdb, 7));
  }

  #modeSense(cdb: Uint8Array, data: Scatter): void {
    const bytes = this.#bytes, control = cdb[2]! >> 6, page = cdb[2]! & 0x3f;
    if (control === 3) return this.#fail(SENSE.ILLEGAL_REQUEST, ASC.SAVING_NOT_SUPPORTED);
    bytes.fill(0, 0, 128);
    let at = 8;
    const add = (code: number, body: readonly number[]): void => {
      if (page !== 0x3f && page !== code) return;
      bytes[at] = code;
      bytes[at + 1] = body.length;
      if (control === 0 || control === 2) bytes.set(body, at + 2); // changeable: nothing
      at += 2 + body.length;
    };
    add(0x01, [0, 5, 0, 0, 0, 0, 0, 0, 0, 0]); // error recovery
    add(0x1a, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0]); // power condition
    add(0x2a, [ // capabilities: reads CD and DVD, a tray, which locks and ejects
      ...[0x3b, 0, 0x70, 0, 0x29 | (this.s.locked ? 2 : 0), 0],
      ...[0x10, 0x89, 0, 0, 2, 0, 0x10, 0x89, 0, 0, 0, 0, 0, 0],
    ]);
    if (at === 8) return this.#invalid();
    this.#view.setUint16(0, at - 2);
    bytes[2] = this.loaded ? 1 : 0x70; // the medium: data, or none
    this.#give(data, at, word(cdb, 7));
  }
}

function word(cdb: Uint8Array, at: number): number {
  return (cdb[at]! << 8) | cdb[at + 1]!;
}

function long(cdb: Uint8Array, at: number): number {
  return word(cdb, at) * 0x1_0000 + word(cdb, at + 2);
}

/** IDENTIFY PACKET DEVICE data [acs §7.17]. */
export function identifyPacket(serial: string): Uint8Array {
  const w = new Uint16Array(256);
  w[0] = 0x85c0; // an ATAPI CD-ROM, removable, packets of 12 bytes, DRQ within 50 µs
  identifyText(w, 10, 10, serial);
  identifyText(w, 23, 4, FIRMWARE);
  identifyText(w, 27, 20, "trike CD-ROM");
  w[49] = 0x0f00; // LBA, DMA, IORDY
  w[50] = 0x4000;
  w[53] = 6;
  w[63] = 7;
  w[64] = 3;
  w.fill(120, 65, 69);
  w[76] = (1 << 2) | (1 << 1);
  w[80] = 0x01f0;
  w[82] = 0x4210; // NOP, DEVICE RESET, PACKET
  w[83] = 0x4000;
  w[84] = 0x4000;
  w[85] = 0x4210;
  w[87] = 0x4000;
  w[88] = 0x407f;
  w[222] = 0x101f;
  const bytes = new Uint8Array(512), view = new DataView(bytes.buffer);
  for (let i = 0; i < 256; i++) view.setUint16(2 * i, w[i]!, true);
  return bytes;
}
