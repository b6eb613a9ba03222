/**
 * 9P messages as bytes: size[4] type[1] tag[2], then fields in little-endian order; text is a length of two bytes and UTF-8.
 *
 * Spec: [ninep §intro] for the base, [ninep-linux] for the messages of Linux.
 */
import { Refusal } from "./errno.ts";

export const HEADER_BYTES = 7;

/** Message types; a reply's is one more. */
export const P9 = {
  LERROR: 6,
  STATFS: 8,
  LOPEN: 12,
  LCREATE: 14,
  SYMLINK: 16,
  MKNOD: 18,
  RENAME: 20,
  READLINK: 22,
  GETATTR: 24,
  SETATTR: 26,
  XATTRWALK: 30,
  XATTRCREATE: 32,
  READDIR: 40,
  FSYNC: 50,
  LOCK: 52,
  GETLOCK: 54,
  LINK: 70,
  MKDIR: 72,
  RENAMEAT: 74,
  UNLINKAT: 76,
  VERSION: 100,
  AUTH: 102,
  ATTACH: 104,
  FLUSH: 108,
  WALK: 110,
  READ: 116,
  WRITE: 118,
  CLUNK: 120,
  REMOVE: 122,
} as const;

export interface Qid {
  /** QTDIR 80h, QTSYMLINK 02h, or 0. */
  readonly type: number;
  readonly version: number;
  readonly path: number;
}
export const QID_BYTES = 13;

const decoder = new TextDecoder("utf-8", { fatal: true });
const encoder = new TextEncoder();

/** Reads fields; what is not there refuses the message. */
export class Reader {
  readonly #dv: DataView;
  #at = HEADER_BYTES;

  constructor(private readonly bytes: Uint8Array) {
    this.#dv = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  #take(n: number): number {
    const at = this.#at;
    if (at + n > this.bytes.length) throw new Refusal("EINVAL");
    this.#at = at + n;
    return at;
  }
  u8(): number {
    return this.#dv.getUint8(this.#take(1));
  }
  u16(): number {
    return this.#dv.getUint16(this.#take(2), true);
  }
  u32(): number {
    return this.#dv.getUint32(this.#take(4), true);
  }
  /** As a number: what is above 2^53 is rounded, and too large for any file. */
  u64(): number {
    const at = this.#take(8);
    return this.#dv.getUint32(at, true) + this.#dv.getUint32(at + 4, true) * 0x1_0000_0000;
  }
  bytesOf(n: number): Uint8Array {
    const at = this.#take(n);
    return this.bytes.subarray(at, at + n);
  }
  text(): string {
    const bytes = this.bytesOf(this.u16());
    if (bytes.includes(0)) throw new Refusal("EINVAL");
    try {
      return decoder.decode(bytes);
    } catch {
      throw new Refusal("EILSEQ");
    }
  }
}

/** Writes fields behind the header; what does not fit refuses the request. */
export class Writer {
  readonly #dv: DataView;
  #at = HEADER_BYTES;

  constructor(private readonly bytes: Uint8Array) {
    this.#dv = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  /** Bytes that still fit. */
  get room(): number {
    return this.bytes.length - this.#at;
  }

  #take(n: number): number {
    const at = this.#at;
    if (n > this.room) throw new Refusal("EMSGSIZE");
    this.#at = at + n;
    return at;
  }
  u8(value: number): void {
    this.#dv.setUint8(this.#take(1), value);
  }
  u16(value: number): void {
    this.#dv.setUint16(this.#take(2), value, true);
  }
  u32(value: number): void {
    this.#dv.setUint32(this.#take(4), value, true);
  }
  u64(value: number): void {
    const at = this.#take(8);
    this.#dv.setUint32(at, value, true);
    this.#dv.setUint32(at + 4, Math.floor(value / 0x1_0000_0000), true);
  }
  text(text: string): void {
    const bytes = encoder.encode(text);
    this.u16(bytes.length);
    this.bytes.set(bytes, this.#take(bytes.length));
  }
  qid(q: Qid): void {
    this.u8(q.type);
    this.u32(q.version);
    this.u64(q.path);
  }
  /** A count of four bytes and room for at most `max` more, which `fill` says how many it used of. */
  counted(max: number, fill: (into: Uint8Array) => number): void {
    const at = this.#take(4);
    const n = fill(this.bytes.subarray(this.#at, this.#at + Math.min(max, this.room)));
    this.#dv.setUint32(at, n, true);
    this.#at += n;
  }

  /** Forgets what was written, for another reply. */
  restart(): void {
    this.#at = HEADER_BYTES;
  }

  /** Completes the header; the size of the whole. */
  finish(type: number, tag: number): number {
    this.#dv.setUint32(0, this.#at, true);
    this.#dv.setUint8(4, type);
    this.#dv.setUint16(5, tag, true);
    return this.#at;
  }
}

/** Bytes of text on the wire, without its length. */
export function textBytes(text: string): number {
  return encoder.encode(text).length;
}
