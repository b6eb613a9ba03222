/**
 * A reader of tar archives: ustar, with GNU long names and pax headers.
 *
 * Spec: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Header Block"; GNU tar, "Basic Tar Format".
 * Data is kept only of the entries asked for; the rest streams past.
 */
import { ByteStream } from "./byte_stream.ts";

export type TarKind = "file" | "hardlink" | "symlink" | "char" | "block" | "directory" | "fifo";

export interface TarEntry {
  /** Relative to the archive's root, without "." and "..". */
  readonly path: string;
  readonly kind: TarKind;
  /** Permission bits, set-user-id and the like included; no file type. */
  readonly mode: number;
  /** Where a link points: as written for a symlink, relative to the archive's root for a hard link; else "". */
  readonly target: string;
  /** Empty for all but files that were asked for. */
  readonly data: Uint8Array<ArrayBuffer>;
}

const BLOCK = 512;
const HEADER = {
  name: [0, 100],
  mode: [100, 8],
  size: [124, 12],
  chksum: [148, 8],
  typeflag: [156, 1],
  linkname: [157, 100],
  magic: [257, 6],
  prefix: [345, 155],
} as const;

const KINDS: Readonly<Record<string, TarKind>> = {
  "\0": "file",
  "0": "file",
  "1": "hardlink",
  "2": "symlink",
  "3": "char",
  "4": "block",
  "5": "directory",
  "6": "fifo",
  "7": "file", // contiguous: a file everywhere but on the system it was meant for
};

/** Names and pax records longer than this are no package's. */
const MAX_EXTENSION = 1 << 20;
/** The data of one entry is read into memory at once. */
const MAX_FILE = 1 << 30;

const latin1 = new TextDecoder("latin1");
const utf8 = new TextDecoder();
const NOTHING = new Uint8Array(0);

/** All entries of the archive in order; those for which `wanted` says no come without their data. */
export async function* readTar(
  source: AsyncIterable<Uint8Array>,
  wanted: (path: string) => boolean,
): AsyncGenerator<TarEntry> {
  const stream = new ByteStream(source);
  let pax = new Map<string, string>(); // for the next entry only
  try {
    while (true) {
      const header = await stream.read(BLOCK);
      if (header === null || header.every((byte) => byte === 0)) return;
      checkSum(header);
      const type = latin1.decode(field(header, HEADER.typeflag));
      const size = pax.has("size") ? Number(pax.get("size")) : number(field(header, HEADER.size));
      if (!Number.isSafeInteger(size) || size < 0) throw new Error("an entry has no proper size");
      const padding = (BLOCK - (size % BLOCK)) % BLOCK;

      if (type === "x" || type === "g" || type === "L" || type === "K") {
        if (size > MAX_EXTENSION) throw new Error(`a name of ${size} bytes`);
        const body = (await stream.read(size)) ?? NOTHING;
        await stream.skip(padding);
        if (type === "x") pax = new Map([...pax, ...paxRecords(body)]);
        else if (type === "L") pax.set("path", text(body));
        else if (type === "K") pax.set("linkpath", text(body));
        continue; // "g" would hold for all later entries; nothing this reader looks at is ever put there
      }

      const kind = KINDS[type];
      const path = relative(pax.get("path") ?? ustarName(header));
      const link = pax.get("linkpath") ?? text(field(header, HEADER.linkname));
      pax = new Map();
      if (kind === undefined || path === "") {
        await stream.skip(size + padding);
        continue;
      }
      const keep = kind === "file" && wanted(path);
      if (keep && size > MAX_FILE) throw new Error(`"${path}" is ${size} bytes long`);
      const data = keep && size > 0 ? await stream.read(size) : NOTHING;
      if (data === null) throw new Error(`the data of "${path}" is missing`);
      await stream.skip(keep ? padding : size + padding);
      yield {
        path,
        kind,
        mode: number(field(header, HEADER.mode)) & 0o7777,
        target: kind === "hardlink" ? relative(link) : kind === "symlink" ? link : "",
        data,
      };
    }
  } finally {
    await stream.close();
  }
}

/** A path below the root, whatever the archive says: "./a", "/a" and "a/./b" are fine, "..", which could leave, is not. */
function relative(path: string): string {
  const parts = path.split("/").filter((part) => part !== "" && part !== ".");
  if (parts.includes("..")) throw new Error(`the entry "${path}" leaves the archive`);
  return parts.join("/");
}

function ustarName(header: Uint8Array): string {
  const name = text(field(header, HEADER.name));
  // GNU's own format has times where ustar has the prefix; its magic is "ustar " with a blank
  if (latin1.decode(field(header, HEADER.magic)) !== "ustar\0") return name;
  const prefix = text(field(header, HEADER.prefix));
  return prefix === "" ? name : `${prefix}/${name}`;
}

function field(header: Uint8Array, [at, length]: readonly [number, number]): Uint8Array {
  return header.subarray(at, at + length);
}

function text(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return utf8.decode(end < 0 ? bytes : bytes.subarray(0, end));
}

/** Octal digits, or GNU's big-endian binary form marked by the top bit. */
function number(bytes: Uint8Array): number {
  if (bytes[0]! & 0x80) return bytes.subarray(1).reduce((sum, byte) => sum * 256 + byte, bytes[0]! & 0x7f);
  const digits = latin1.decode(bytes).replaceAll(/[\0 ]/g, "");
  return digits === "" ? 0 : /^[0-7]+$/.test(digits) ? parseInt(digits, 8) : NaN;
}

function checkSum(header: Uint8Array): void {
  const [at, length] = HEADER.chksum;
  let sum = 0;
  for (let n = 0; n < BLOCK; n++) sum += n >= at && n < at + length ? 0x20 : header[n]!;
  if (sum !== number(field(header, HEADER.chksum))) throw new Error("an entry's header has a wrong checksum");
}

/** Records "LENGTH key=value\n", where LENGTH counts the whole record in bytes. */
function paxRecords(bytes: Uint8Array): Map<string, string> {
  const records = new Map<string, string>();
  let at = 0;
  while (at < bytes.length) {
    const blank = bytes.indexOf(0x20, at);
    const length = blank < 0 ? NaN : Number(latin1.decode(bytes.subarray(at, blank)));
    if (!Number.isSafeInteger(length) || length <= blank - at + 1 || at + length > bytes.length) {
      throw new Error("a pax header is malformed");
    }
    const record = utf8.decode(bytes.subarray(blank + 1, at + length - 1));
    const equals = record.indexOf("=");
    if (equals > 0) records.set(record.slice(0, equals), record.slice(equals + 1));
    at += length;
  }
  return records;
}
