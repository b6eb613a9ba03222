/**
 * Sending by the 82545EM: descriptors become frames.
 *
 * Spec: [e1000 §3.3] descriptors, [e1000 §3.4] the ring, [e1000 §3.5] segmentation and checksums.
 */
import type { GuestRam } from "../src/base/ram.ts";
import type { View } from "../src/base/record.ts";
import { CTRL, type E1000Record, type RegisterFile, TCTL } from "./e1000_registers.ts";
import { checksum, sum16 } from "./internet_checksum.ts";

const DESCRIPTOR_BYTES = 16;
/** The most that is sent as one: a segment to be cut, of a packet of 64 KB. */
const MAX_PACKET_BYTES = 65536 + 14 + 4 + 40;
/** A packet in more pieces is thrown away. */
const MAX_PIECES = 256;
const LEAST_FRAME_BYTES = 14;
/** With less, a segment is mostly headers: whoever asks for that gets nothing. */
const LEAST_MSS = 16;
const VLAN_BYTES = 4;

/** In byte 11 of a descriptor. */
const CMD = { EOP: 1, IFCS: 2, IC: 4, TSE: 4, RS: 8, DEXT: 0x20, VLE: 0x40 } as const;
/** In the same byte of a context. */
const TUCMD = { TCP: 1, IP: 2, TSE: 4 } as const;
const POPTS = { IXSM: 1, TXSM: 2 } as const;
const STATUS_AT = 12;
const DD = 1;
const DATA_TYPE = 1 << 4; // in the byte before CMD
const FIN = 1, PSH = 8;

/** An offload context: where headers are, and how long [e1000 §3.3.6]. */
export interface TransmitContext {
  readonly ipcss: number;
  readonly ipcso: number;
  /** The last byte that is summed; 0 for the end of the packet. */
  readonly ipcse: number;
  readonly tucss: number;
  readonly tucso: number;
  readonly tucse: number;
  readonly tcp: boolean;
  readonly ip4: boolean;
  readonly headerBytes: number;
  readonly mss: number;
}

export interface TransmitPacket {
  /** Good until the next one is taken. */
  readonly bytes: Uint8Array;
  /** The checksums of IP, and of TCP or UDP, are to be inserted. */
  readonly sumIp: boolean;
  readonly sumTransport: boolean;
  /** The packet is to be cut into segments. */
  readonly cut: boolean;
  readonly context: TransmitContext;
}

const NOWHERE: TransmitContext = contextOf(new Uint32Array(4));

function contextOf(words: Uint32Array): TransmitContext {
  const [ip = 0, tu = 0, length = 0, rest = 0] = words;
  return {
    ipcss: ip & 0xff,
    ipcso: (ip >>> 8) & 0xff,
    ipcse: ip >>> 16,
    tucss: tu & 0xff,
    tucso: (tu >>> 8) & 0xff,
    tucse: tu >>> 16,
    tcp: (length >>> 24 & TUCMD.TCP) !== 0,
    ip4: (length >>> 24 & TUCMD.IP) !== 0,
    headerBytes: (rest >>> 8) & 0xff,
    mss: rest >>> 16,
  };
}

/** What one look at the ring came to. */
export type Taken = TransmitPacket | "dropped" | "none";

export class TransmitRing {
  readonly #packet = new Uint8Array(MAX_PACKET_BYTES + VLAN_BYTES);
  /** Descriptors were given back that asked for a report. */
  reported = false;

  constructor(
    private readonly s: View<typeof E1000Record>,
    private readonly file: RegisterFile,
    private readonly ram: GuestRam,
  ) {}

  get empty(): boolean {
    return this.file.get("TDH") === this.file.get("TDT");
  }

  /** Takes the next packet whose descriptors are all there. Under the machine lock. */
  take(): Taken {
    const { file, ram } = this;
    const count = file.get("TDLEN") / DESCRIPTOR_BYTES, tail = file.get("TDT");
    const head = file.get("TDH");
    if (!(file.get("TCTL") & TCTL.EN) || head >= count || tail >= count) return "none";
    const base = file.get("TDBAL") + file.get("TDBAH") * 0x1_0000_0000;
    let size = 0, pieces = 0, first = -1, whole = false, fits = true;
    for (let at = head; at !== tail; at = at + 1 === count ? 0 : at + 1) {
      const gpa = base + DESCRIPTOR_BYTES * at;
      const command = ram.read(gpa + 11, 1), extended = (command & CMD.DEXT) !== 0;
      if (extended && !(ram.read(gpa + 10, 1) & DATA_TYPE)) {
        if (pieces > 0) break; // a context amidst a packet: what was before it is none
        this.#setContext(gpa, command);
        this.#giveBack(head, 1, count, base);
        return "dropped";
      }
      if (first < 0) first = gpa;
      const length = extended ? ram.read(gpa + 8, 4) & 0xf_ffff : ram.read(gpa + 8, 2);
      const bytes = ram.bytes(ram.read64(gpa), length);
      if (!bytes || size + length > MAX_PACKET_BYTES) fits = false;
      else {
        this.#packet.set(bytes, size);
        size += length;
      }
      pieces++;
      if (command & CMD.EOP) {
        whole = true;
        break;
      }
      if (pieces === MAX_PIECES) break;
    }
    // The rest of the packet may be on its way.
    if (!whole && pieces < MAX_PIECES && !this.#contextFollows(head, pieces, count, tail, base)) return "none";
    const last = base + DESCRIPTOR_BYTES * ((head + Math.max(1, pieces) - 1) % count);
    const packet = whole && fits ? this.#describe(first, last, size) : "dropped";
    this.#giveBack(head, Math.max(1, pieces), count, base);
    return packet;
  }

  /** Whether the pieces from `head` on end before `tail`, at a descriptor that is no piece. */
  #contextFollows(head: number, pieces: number, count: number, tail: number, base: number): boolean {
    const next = (head + pieces) % count, gpa = base + DESCRIPTOR_BYTES * next;
    return pieces > 0 && next !== tail && (this.ram.read(gpa + 11, 1) & CMD.DEXT) !== 0 &&
      !(this.ram.read(gpa + 10, 1) & DATA_TYPE);
  }

  #setContext(gpa: number, command: number): void {
    const at = command & TUCMD.TSE ? 4 : 0;
    for (let i = 0; i < 4; i++) this.s.contexts[at + i] = this.ram.read(gpa + 4 * i, 4);
  }

  #giveBack(head: number, pieces: number, count: number, base: number): void {
    const { ram } = this;
    for (let i = 0; i < pieces; i++) {
      const gpa = base + DESCRIPTOR_BYTES * ((head + i) % count);
      if (!(ram.read(gpa + 11, 1) & CMD.RS)) continue;
      ram.write(gpa + STATUS_AT, 1, ram.read(gpa + STATUS_AT, 1) | DD);
      this.reported = true;
    }
    this.file.set("TDH", (head + pieces) % count);
  }

  #describe(first: number, last: number, size: number): Taken {
    const { ram, s } = this;
    const command = ram.read(first + 11, 1), ending = ram.read(last + 11, 1);
    if (!(ending & CMD.IFCS)) size -= 4; // the packet has its own FCS, which no frame of ours has
    if (size < LEAST_FRAME_BYTES) return "dropped";
    let moved = 0;
    if (ending & CMD.VLE && this.file.get("CTRL") & CTRL.VME) {
      this.#packet.copyWithin(12 + VLAN_BYTES, 12, size);
      const tag = ram.read(last + 14, 2), type = this.file.get("VET");
      this.#packet.set([type >>> 8, type, tag >>> 8, tag], 12);
      size += VLAN_BYTES;
      moved = VLAN_BYTES;
    }
    const bytes = this.#packet.subarray(0, size);
    if (!(command & CMD.DEXT)) {
      // One checksum, from CSS to the end, into CSO [e1000 §3.3.3].
      const sumTransport = (ending & CMD.IC) !== 0;
      const tucss = ram.read(last + 13, 1) + moved, tucso = ram.read(last + 10, 1) + moved;
      return { bytes, sumIp: false, sumTransport, cut: false, context: { ...NOWHERE, tucss, tucso } };
    }
    const options = ram.read(first + 13, 1), cut = (command & CMD.TSE) !== 0;
    const stored = contextOf(cut ? s.contexts.subarray(4, 8) : s.contexts.subarray(0, 4));
    return {
      bytes,
      sumIp: (options & POPTS.IXSM) !== 0,
      sumTransport: (options & POPTS.TXSM) !== 0,
      cut,
      context: moved === 0 ? stored : shifted(stored, moved),
    };
  }
}

/** A context of a packet into which bytes were inserted before its headers. */
function shifted(c: TransmitContext, by: number): TransmitContext {
  const end = (at: number) => at === 0 ? 0 : at + by;
  return {
    ...c,
    ipcss: c.ipcss + by,
    ipcso: c.ipcso + by,
    ipcse: end(c.ipcse),
    tucss: c.tucss + by,
    tucso: c.tucso + by,
    tucse: end(c.tucse),
    headerBytes: c.headerBytes + by,
  };
}

function insertSum(bytes: Uint8Array, from: number, last: number, into: number): void {
  const end = last === 0 ? bytes.length : Math.min(last + 1, bytes.length);
  if (into + 2 > bytes.length || from >= end) return;
  // What is in the field counts: for TCP and UDP that is the pseudo-header.
  const sum = ~sum16(bytes, from, end) & 0xffff;
  bytes[into] = sum >>> 8;
  bytes[into + 1] = sum;
}

/** Inserts the checksums that a packet asks for, and hands it on. */
export function sendWhole(p: TransmitPacket, send: (frame: Uint8Array) => void): void {
  const { bytes, context: c } = p;
  if (p.sumIp) insertSum(bytes, c.ipcss, c.ipcse, c.ipcso);
  if (p.sumTransport) insertSum(bytes, c.tucss, c.tucse, c.tucso);
  send(bytes);
}

/** Whether the headers that a context speaks of are there, and the packet is worth cutting. */
export function canCut({ bytes, context: c }: TransmitPacket): boolean {
  const least = c.tucss + (c.tcp ? 20 : 8);
  return c.mss >= LEAST_MSS && c.headerBytes >= least && c.headerBytes < bytes.length &&
    c.ipcss + (c.ip4 ? 20 : 40) <= c.tucss && c.tucso + 2 <= c.headerBytes && c.ipcso + 2 <= c.headerBytes;
}

/** Cuts a packet into segments, each with headers of its own [e1000 §3.5.5]. `canCut` must hold. */
export function sendCut(p: TransmitPacket, segment: Uint8Array, send: (frame: Uint8Array) => void): void {
  const { bytes, context: c } = p;
  const { headerBytes, mss } = c, total = bytes.length - headerBytes;
  segment.set(bytes.subarray(0, headerBytes));
  for (let done = 0, n = 0; done < total; done += mss, n++) {
    const size = Math.min(mss, total - done);
    const frame = segment.subarray(0, headerBytes + size);
    frame.set(bytes.subarray(0, headerBytes));
    frame.set(bytes.subarray(headerBytes + done, headerBytes + done + size), headerBytes);
    setLengths(frame, c);
    if (c.ip4) add16(frame, c.ipcss + 4, n);
    if (c.tcp) {
      add32(frame, c.tucss + 4, done);
      if (done + size < total) frame[c.tucss + 13]! &= ~(FIN | PSH);
    }
    if (p.sumIp) sumHeader(frame, c);
    if (p.sumTransport) {
      // The pseudo-header in the field lacks the length, which differs from segment to segment.
      const sum = checksum(frame, c.tucss, frame.length, frame.length - c.tucss);
      put16(frame, c.tucso, c.tcp || sum !== 0 ? sum : 0xffff);
    }
    send(frame);
  }
}

/** Makes of a packet to be cut the one large packet it stands for, with a pseudo-header as others expect it. */
export function makeWhole(p: TransmitPacket): boolean {
  const { bytes, context: c } = p;
  if (bytes.length - c.ipcss > 65535) return false;
  setLengths(bytes, c);
  if (p.sumIp) sumHeader(bytes, c);
  const sum = ((bytes[c.tucso]! << 8) | bytes[c.tucso + 1]!) + bytes.length - c.tucss;
  put16(bytes, c.tucso, (sum & 0xffff) + (sum >>> 16));
  return true;
}

function setLengths(frame: Uint8Array, c: TransmitContext): void {
  if (c.ip4) put16(frame, c.ipcss + 2, frame.length - c.ipcss);
  else put16(frame, c.ipcss + 4, frame.length - c.ipcss - 40);
  if (!c.tcp) put16(frame, c.tucss + 4, frame.length - c.tucss);
}

function sumHeader(frame: Uint8Array, c: TransmitContext): void {
  put16(frame, c.ipcso, 0);
  insertSum(frame, c.ipcss, c.ipcse, c.ipcso);
}

function put16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 8;
  bytes[at + 1] = value;
}

function add16(bytes: Uint8Array, at: number, n: number): void {
  put16(bytes, at, ((bytes[at]! << 8) | bytes[at + 1]!) + n);
}

function add32(bytes: Uint8Array, at: number, n: number): void {
  const low = ((bytes[at + 2]! << 8) | bytes[at + 3]!) + (n & 0xffff);
  put16(bytes, at + 2, low);
  put16(bytes, at, ((bytes[at]! << 8) | bytes[at + 1]!) + (n >>> 16) + (low >>> 16));
}
