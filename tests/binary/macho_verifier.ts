/**
 * Checks the code signature of a Mach-O file as macOS does when it loads one: written from <mach-o/loader.h>, <mach-o/fat.h>,
 * XNU's <kern/cs_blobs.h> and X.690, and not from our signer. The test that uses it first shows it files that others have signed.
 */
import { createHash } from "node:crypto";

export interface Signature {
  readonly identifier: string;
  readonly version: number;
  readonly flags: number;
  readonly pages: number;
  /** By slot number. */
  readonly blobs: ReadonlyMap<number, Uint8Array>;
  readonly execSegment: { readonly base: number; readonly limit: number; readonly flags: number };
  /** The keys of the property list, and the values of the DER. */
  readonly xmlKeys: readonly string[];
  readonly der: Readonly<Record<string, unknown>> | null;
}

class Reader {
  readonly #view: DataView;
  constructor(readonly bytes: Uint8Array, private readonly little: boolean) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }
  u8 = (at: number) => this.#view.getUint8(at);
  u32 = (at: number) => this.#view.getUint32(at, this.little);
  u64 = (at: number) => Number(this.#view.getBigUint64(at, this.little));
  text(at: number, length: number): string {
    const end = this.bytes.indexOf(0, at);
    return new TextDecoder().decode(this.bytes.subarray(at, end < 0 ? at + length : Math.min(end, at + length)));
  }
}

function expect(holds: boolean, what: string): asserts holds {
  if (!holds) throw new Error(`The signature is wrong: ${what}`);
}

/** Each architecture's signature. Throws where macOS would refuse the file. */
export function verifyMachO(file: Uint8Array): Signature[] {
  const r = new Reader(file, false);
  const wide = r.u32(0) === 0xcafebabf;
  if (r.u32(0) !== 0xcafebabe && !wide) return [verifyThin(file)];
  const found: Signature[] = [];
  let end = 0;
  for (let i = 0; i < r.u32(4); i++) {
    const at = 8 + i * (wide ? 32 : 20);
    const [offset, size, log2] = wide
      ? [r.u64(at + 8), r.u64(at + 16), r.u32(at + 24)]
      : [r.u32(at + 8), r.u32(at + 12), r.u32(at + 16)];
    expect(offset % 2 ** log2 === 0, `slice ${i} is not aligned`);
    expect(offset >= end && offset + size <= file.length, `slice ${i} is not where nothing else is`);
    end = offset + size;
    const slice = new Reader(file.subarray(offset, end), true);
    expect(slice.u32(4) === r.u32(at) && slice.u32(8) === r.u32(at + 4), `slice ${i} is of another processor`);
    found.push(verifyThin(slice.bytes));
  }
  return found;
}

interface Segment {
  name: string;
  vmaddr: number;
  vmsize: number;
  fileoff: number;
  filesize: number;
}

function verifyThin(file: Uint8Array): Signature {
  const r = new Reader(file, true);
  expect(r.u32(0) === 0xfeedfacf, "not a 64-bit Mach-O file");
  const segments: Segment[] = [];
  let where: { offset: number; size: number } | null = null;
  let at = 32;
  for (let i = 0; i < r.u32(16); i++) {
    const command = r.u32(at);
    if (command === 0x19) {
      const [vmaddr, vmsize, fileoff, filesize] = [24, 32, 40, 48].map((o) => r.u64(at + o)) as [
        number,
        number,
        number,
        number,
      ];
      segments.push({ name: r.text(at + 8, 16), vmaddr, vmsize, fileoff, filesize });
      for (let s = 0; s < r.u32(at + 64); s++) {
        const offset = r.u32(at + 72 + s * 80 + 48);
        expect(offset === 0 || offset >= 32 + r.u32(20), "the load commands run into a section");
      }
    }
    if (command === 0x1d) {
      expect(where === null, "two LC_CODE_SIGNATURE");
      where = { offset: r.u32(at + 8), size: r.u32(at + 12) };
    }
    at += r.u32(at + 4);
  }
  expect(at === 32 + r.u32(20), "the load commands are not as long as the header says");
  expect(where !== null, "no LC_CODE_SIGNATURE");
  expect(where.offset % 16 === 0, "the signature is not aligned");
  expect(where.offset + where.size === file.length, "the file does not end with the signature");
  const linkedit = segments.find((s) => s.name === "__LINKEDIT");
  expect(linkedit !== undefined, "no __LINKEDIT");
  expect(linkedit.fileoff + linkedit.filesize === file.length, "__LINKEDIT does not end with the file");
  expect(linkedit.vmsize >= linkedit.filesize, "__LINKEDIT is not mapped whole");
  for (const a of segments) {
    const overlap = segments.find((b) => b !== a && a.vmaddr < b.vmaddr + b.vmsize && b.vmaddr < a.vmaddr + a.vmsize);
    expect(overlap === undefined, `${a.name} lies over ${overlap?.name}`);
  }
  const text = segments.find((s) => s.name === "__TEXT");
  return verifyBlobs(file, where, text, r.u32(12) === 2);
}

function verifyBlobs(
  file: Uint8Array,
  { offset, size }: { offset: number; size: number },
  text: Segment | undefined,
  executable: boolean,
): Signature {
  const all = new Reader(file.subarray(offset, offset + size), false);
  expect(all.u32(0) === 0xfade0cc0, "no SuperBlob");
  expect(all.u32(4) <= size, "the SuperBlob is too long");
  const blobs = new Map<number, Uint8Array>();
  let end = 12 + all.u32(8) * 8;
  for (let i = 0; i < all.u32(8); i++) {
    const slot = all.u32(12 + i * 8), at = all.u32(16 + i * 8);
    expect(at >= end, `the blob of slot ${slot} lies over another`);
    end = at + all.u32(at + 4);
    expect(end <= all.u32(4), `the blob of slot ${slot} is too long`);
    expect(!blobs.has(slot), `two blobs for slot ${slot}`);
    blobs.set(slot, all.bytes.subarray(at, end));
  }
  const directory = blobs.get(0);
  expect(directory !== undefined, "no CodeDirectory");
  const r = new Reader(directory, false);
  expect(r.u32(0) === 0xfade0c02 && r.u32(8) >= 0x20400, "no CodeDirectory with an executable segment");
  expect(r.u8(36) === 32 && r.u8(37) === 2, "hashes are not SHA-256");
  const hashes = r.u32(16), specials = r.u32(24), pages = r.u32(28), pageBytes = 2 ** r.u8(39);
  const limit = r.u64(56) || r.u32(32);
  expect(limit === offset, "not all in front of the signature is signed");
  expect(pages === Math.ceil(limit / pageBytes), "not a hash for each page");
  expect(hashes + pages * 32 <= directory.length, "the hashes are cut short");
  const hashAt = (slot: number) => directory.slice(hashes + slot * 32, hashes + slot * 32 + 32).toHex();
  for (let page = 0; page < pages; page++) {
    const bytes = file.subarray(page * pageBytes, Math.min((page + 1) * pageBytes, limit));
    expect(hashAt(page) === sha256(bytes), `page ${page} has another hash`);
  }
  for (let slot = 1; slot <= specials; slot++) {
    const blob = blobs.get(slot);
    // Slots 1 and 3 are of files beside the program.
    if (blob !== undefined) expect(hashAt(-slot) === sha256(blob), `the blob of slot ${slot} has another hash`);
    else if (slot !== 1 && slot !== 3) {
      expect(/^0+$/.test(hashAt(-slot)), `there is a hash but no blob for slot ${slot}`);
    }
  }
  for (const slot of blobs.keys()) expect(slot === 0 || slot > 7 || slot <= specials, `slot ${slot} is not hashed`);
  const execSegment = { base: r.u64(64), limit: r.u64(72), flags: r.u64(80) };
  if (text && executable) {
    expect(
      execSegment.base === text.fileoff && execSegment.limit === text.filesize,
      "the executable segment is not __TEXT",
    );
    expect((execSegment.flags & 1) === 1, "an executable is not told to be one");
  }
  const magics: readonly [number, number][] = [[2, 0xfade0c01], [5, 0xfade7171], [7, 0xfade7172], [
    0x10000,
    0xfade0b01,
  ]];
  for (const [slot, magic] of magics) {
    const blob = blobs.get(slot);
    if (blob) expect(new Reader(blob, false).u32(0) === magic, `the blob of slot ${slot} is not what belongs there`);
  }
  const identifier = r.text(r.u32(20), directory.length);
  const xml = new TextDecoder().decode(blobs.get(5)?.subarray(8) ?? new Uint8Array(0));
  const xmlKeys = [...xml.matchAll(/<key>([^<]*)<\/key>/g)].map(([, key]) => key!);
  const der = blobs.get(7) ? decodeEntitlements(blobs.get(7)!.subarray(8)) : null;
  return { identifier, version: r.u32(8), flags: r.u32(12), pages, blobs, execSegment, xmlKeys, der };
}

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** One element of DER; the rest of `bytes` is left. */
function element(bytes: Uint8Array): { tag: number; body: Uint8Array; rest: Uint8Array } {
  expect(bytes.length >= 2, "DER is cut short");
  let length = bytes[1]!, start = 2;
  if (length & 0x80) {
    const count = length & 0x7f;
    expect(count >= 1 && count <= 3 && bytes[2] !== 0, "a length of DER is not in its shortest form");
    length = 0;
    for (; start < 2 + count; start++) length = length * 256 + bytes[start]!;
    expect(length >= 0x80, "a length of DER is not in its shortest form");
  }
  expect(start + length <= bytes.length, "DER is cut short");
  return { tag: bytes[0]!, body: bytes.subarray(start, start + length), rest: bytes.subarray(start + length) };
}

function elements(bytes: Uint8Array): { tag: number; body: Uint8Array }[] {
  const found = [];
  for (let rest = bytes; rest.length > 0;) {
    const next = element(rest);
    found.push(next);
    rest = next.rest;
  }
  return found;
}

function decodeEntitlements(bytes: Uint8Array): Record<string, unknown> {
  const { tag, body, rest } = element(bytes);
  expect(tag === 0x70 && rest.length === 0, "the entitlements' DER is not in [APPLICATION 16]");
  const [version, dictionary, ...more] = elements(body);
  expect(version?.tag === 2 && version.body.length === 1 && version.body[0] === 1, "entitlements of another version");
  expect(dictionary?.tag === 0xb0 && more.length === 0, "the entitlements are no dictionary");
  const pairs = elements(dictionary.body).map(({ tag, body }) => {
    const [key, item, ...more] = elements(body);
    expect(tag === 0x30 && key?.tag === 0x0c && item !== undefined && more.length === 0, "an entitlement is no pair");
    return [new TextDecoder().decode(key.body), decodeValue(item)] as const;
  });
  const keys = pairs.map(([key]) => key);
  expect(keys.every((key, i) => i === 0 || keys[i - 1]! < key), "the keys of DER are not in order");
  return Object.fromEntries(pairs);
}

function decodeValue({ tag, body }: { tag: number; body: Uint8Array }): unknown {
  if (tag === 1) {
    expect(body.length === 1 && (body[0] === 0 || body[0] === 0xff), "a boolean that is neither");
    return body[0] === 0xff;
  }
  if (tag === 0x0c) return new TextDecoder().decode(body);
  expect(tag === 0x30, `an entitlement of type ${tag}`);
  return elements(body).map(decodeValue);
}
