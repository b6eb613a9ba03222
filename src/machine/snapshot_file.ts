/**
 * The file of a snapshot: sections, one after the other, each with its length and its checksum. Written and read as a stream.
 *
 * | bytes | of the file |
 * |---|---|
 * | 0..7 | MAGIC |
 * | 8..11 | version of the format |
 * | 12..15 | CRC-32 of the bytes before |
 * | then | sections |
 *
 * | bytes | of a section |
 * |---|---|
 * | 0..15 | name, padded with zeroes |
 * | 16..19 | its number in the file, from 0 |
 * | 20..23 | flags: 1 if the contents are compressed with Zstandard |
 * | 24..27, 28..31 | bytes of it in the file, and of its contents |
 * | 32..35 | CRC-32 of its bytes in the file |
 * | 36..39 | CRC-32 of the header's bytes before |
 * | then | its bytes |
 *
 * The last section is "end": the checksums of all headers before it. So every bit of the file is under a checksum, and no
 * section can be missing, repeated or another file's. All numbers are little-endian; CRC-32 is that of ISO 3309.
 */
import { crc32, zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { HostError, messageOf, RestoreError } from "../base/errors.ts";

export const SNAPSHOT_FORMAT = 1;
const MAGIC = new TextEncoder().encode("trikesnp");
const HEAD_BYTES = 16, SECTION_BYTES = 40, NAME_BYTES = 16;
const AT = { NUMBER: 16, FLAGS: 20, STORED: 24, SIZE: 28, CRC: 32, HEADER_CRC: 36 } as const;
const ZSTD = 1;
/** The most a section may hold, in the file or unpacked: what a hostile file can make us allocate. */
export const MAX_SECTION_BYTES = 16 << 20;
const MAX_SECTIONS = 65536;
export const END = "end";

function nameBytes(name: string): Uint8Array {
  const bytes = new Uint8Array(NAME_BYTES);
  bytes.set(new TextEncoder().encode(name));
  return bytes;
}

/** Writes a new file under another name; what was there before stays until `finish`. */
export class SnapshotWriter {
  readonly #file: Deno.FsFile;
  readonly #temporary: string;
  readonly #headers: number[] = [];
  #bytes = 0;

  /** Throws HostError. */
  constructor(readonly path: string, private readonly compress: boolean) {
    this.#temporary = `${path}.${Deno.pid}.partial`;
    // Guest memory is nobody else's to read.
    this.#file = this.#host(
      "open",
      () => Deno.openSync(this.#temporary, { write: true, create: true, truncate: true, mode: 0o600 }),
    );
    const head = new Uint8Array(HEAD_BYTES), dv = new DataView(head.buffer);
    head.set(MAGIC);
    dv.setUint32(8, SNAPSHOT_FORMAT, true);
    dv.setUint32(12, crc32(head.subarray(0, 12)), true);
    this.#write(head);
  }

  /** Bytes written so far. */
  get bytes(): number {
    return this.#bytes;
  }

  section(name: string, contents: Uint8Array): void {
    const packed = this.compress && name !== END ? zstdCompressSync(contents) : contents;
    const stored = packed.length < contents.length ? packed : contents;
    const header = new Uint8Array(SECTION_BYTES), dv = new DataView(header.buffer);
    header.set(nameBytes(name));
    dv.setUint32(AT.NUMBER, this.#headers.length, true);
    dv.setUint32(AT.FLAGS, stored === contents ? 0 : ZSTD, true);
    dv.setUint32(AT.STORED, stored.length, true);
    dv.setUint32(AT.SIZE, contents.length, true);
    dv.setUint32(AT.CRC, crc32(stored), true);
    const crc = crc32(header.subarray(0, AT.HEADER_CRC));
    dv.setUint32(AT.HEADER_CRC, crc, true);
    this.#headers.push(crc);
    this.#write(header);
    this.#write(stored);
  }

  /** Makes the file what its name leads to, once all of it is on the disk. */
  finish(): void {
    const table = Uint32Array.from(this.#headers);
    this.section(END, new Uint8Array(table.buffer));
    this.#host("fsync", () => this.#file.syncSync());
    this.#file.close();
    this.#host("rename", () => Deno.renameSync(this.#temporary, this.path));
  }

  /** Leaves nothing behind, whatever state it is in. */
  abandon(): void {
    try {
      this.#file.close();
    } catch {
      // It was closed before.
    }
    try {
      Deno.removeSync(this.#temporary);
    } catch {
      // It has its name, or was never there.
    }
  }

  #write(bytes: Uint8Array): void {
    this.#host("write", () => {
      for (let at = 0; at < bytes.length;) at += this.#file.writeSync(bytes.subarray(at));
    });
    this.#bytes += bytes.length;
  }

  #host<T>(call: string, body: () => T): T {
    try {
      return body();
    } catch (error) {
      throw new HostError(`Cannot write the snapshot "${this.path}": ${call}: ${messageOf(error)}`, { cause: error });
    }
  }
}

/** A section whose header was read and found right. */
export interface Section {
  readonly name: string;
  readonly number: number;
  /** Of its contents. */
  readonly sizeBytes: number;
}

/** Reads a file once, from its start to its end. Every mistake is a RestoreError that names the section. */
export class SnapshotReader {
  readonly #file: Deno.FsFile;
  readonly #headers: number[] = [];
  #buffer = new Uint8Array(0);
  #closed = false;
  #next: (Section & { stored: number; flags: number; crc: number }) | null = null;

  constructor(readonly path: string) {
    try {
      this.#file = Deno.openSync(path, { read: true });
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) {
        throw new RestoreError(`Cannot resume "${path}": there is no such file`);
      }
      throw new HostError(`Cannot resume "${path}": open: ${messageOf(error)}`, { cause: error });
    }
    try {
      const head = new Uint8Array(HEAD_BYTES), dv = new DataView(head.buffer);
      const n = this.#read(head);
      if (n < MAGIC.length || MAGIC.some((byte, i) => head[i] !== byte)) {
        throw new RestoreError(`Cannot resume "${path}": it is not a snapshot`);
      }
      if (n < HEAD_BYTES || dv.getUint32(12, true) !== crc32(head.subarray(0, 12))) {
        throw this.#wrong("its head", "it is damaged");
      }
      const version = dv.getUint32(8, true);
      if (version !== SNAPSHOT_FORMAT) {
        throw this.#wrong("its head", `found version ${version} of the format, expected ${SNAPSHOT_FORMAT}`);
      }
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** The header of the next section; its contents are to be read before the one after it. Null after the last. */
  next(): Section | null {
    const number = this.#headers.length;
    const what = `section ${number}`;
    const header = new Uint8Array(SECTION_BYTES), dv = new DataView(header.buffer);
    const n = this.#read(header);
    if (n < SECTION_BYTES) throw this.#wrong(what, `the file ends where it should begin`);
    const headerCrc = dv.getUint32(AT.HEADER_CRC, true);
    if (headerCrc !== crc32(header.subarray(0, AT.HEADER_CRC))) throw this.#wrong(what, "its header is damaged");
    const name = new TextDecoder().decode(header.subarray(0, NAME_BYTES)).replace(/\0+$/, "");
    const sizeBytes = dv.getUint32(AT.SIZE, true), stored = dv.getUint32(AT.STORED, true);
    const flags = dv.getUint32(AT.FLAGS, true);
    if (dv.getUint32(AT.NUMBER, true) !== number || number >= MAX_SECTIONS) {
      throw this.#wrong(what, `found section ${dv.getUint32(AT.NUMBER, true)} in its place`);
    }
    if (!/^[a-z][a-z-]*$/.test(name)) throw this.#wrong(what, "its name is not one");
    if (flags & ~ZSTD) throw this.#wrong(`section ${number}, "${name}"`, `found flags ${flags}, expected 0 or ${ZSTD}`);
    if (sizeBytes > MAX_SECTION_BYTES || stored > MAX_SECTION_BYTES || (flags === 0 && stored !== sizeBytes)) {
      throw this.#wrong(
        `section ${number}, "${name}"`,
        `found ${sizeBytes} bytes, expected at most ${MAX_SECTION_BYTES}`,
      );
    }
    this.#next = { name, number, sizeBytes, stored, flags, crc: dv.getUint32(AT.CRC, true) };
    if (name === END) {
      this.#readEnd();
      return null;
    }
    this.#headers.push(headerCrc);
    return this.#next;
  }

  /** The next section, which must have this name. */
  expect(name: string): Section {
    const section = this.next();
    if (section?.name !== name) {
      throw this.#wrong(`section ${this.#headers.length}`, `found "${section?.name ?? END}", expected "${name}"`);
    }
    return section;
  }

  /** The contents of the section that `next` has found. `lent`: until contents are read the next time, and no longer. */
  contents(lent = false): Uint8Array {
    const { name, number, stored, sizeBytes, flags, crc } = this.#next!;
    const bytes = lent ? this.#lend(stored) : new Uint8Array(stored), what = `section ${number}, "${name}"`;
    const n = this.#read(bytes);
    if (n < stored) throw this.#wrong(what, `the file ends after ${n} of its ${stored} bytes`);
    if (crc32(bytes) !== crc) throw this.#wrong(what, "it is damaged");
    this.#next = null;
    if (flags === 0) return bytes;
    try {
      const { buffer, byteOffset, length } = zstdDecompressSync(bytes, { maxOutputLength: sizeBytes });
      if (length === sizeBytes) return new Uint8Array(buffer, byteOffset, length);
    } catch {
      // Said below.
    }
    throw this.#wrong(what, "it cannot be unpacked");
  }

  /** Fresh pages for each section of RAM would take as long as reading them, and stay until they are collected. */
  #lend(bytes: number): Uint8Array {
    if (this.#buffer.length < bytes) this.#buffer = new Uint8Array(bytes);
    return this.#buffer.subarray(0, bytes);
  }

  /** Once is enough, and twice does no harm. */
  close(): void {
    if (!this.#closed) this.#file.close();
    this.#closed = true;
  }

  #readEnd(): void {
    const end = `section ${this.#next!.number}, "${END}"`;
    const { buffer, byteOffset, length } = this.contents(), dv = new DataView(buffer, byteOffset, length);
    if (length !== 4 * this.#headers.length || this.#headers.some((crc, i) => dv.getUint32(4 * i, true) !== crc)) {
      throw this.#wrong(end, "the sections before it are not those it names");
    }
    if (this.#read(new Uint8Array(1)) !== 0) throw this.#wrong(end, "found more of the file after it");
  }

  /** Reads until `into` is full or the file ends; gives how much. */
  #read(into: Uint8Array): number {
    try {
      for (let at = 0; at < into.length;) {
        const n = this.#file.readSync(into.subarray(at));
        if (n === null) return at;
        at += n;
      }
      return into.length;
    } catch (error) {
      throw new HostError(`Cannot resume "${this.path}": read: ${messageOf(error)}`, { cause: error });
    }
  }

  #wrong(what: string, why: string): RestoreError {
    return new RestoreError(`Cannot resume "${this.path}": ${what}: ${why}`);
  }
}
