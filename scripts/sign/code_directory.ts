/**
 * A code signature without an identity ("ad hoc"): the blobs behind LC_CODE_SIGNATURE.
 *
 * Format: the declarations in XNU's <kern/cs_blobs.h>, whose names these are; all numbers are big-endian. The code directory
 * holds a hash for each page of the file and, at negative indices, one for each of the other blobs.
 */
import { createHash } from "node:crypto";
import { concat, derEntitlements, parseEntitlements } from "./entitlements.ts";

const CSMAGIC_REQUIREMENTS = 0xfade0c01;
const CSMAGIC_CODEDIRECTORY = 0xfade0c02;
const CSMAGIC_EMBEDDED_SIGNATURE = 0xfade0cc0;
const CSMAGIC_EMBEDDED_ENTITLEMENTS = 0xfade7171;
const CSMAGIC_EMBEDDED_DER_ENTITLEMENTS = 0xfade7172;
const CSMAGIC_BLOBWRAPPER = 0xfade0b01;

const CSSLOT_CODEDIRECTORY = 0;
const CSSLOT_REQUIREMENTS = 2;
const CSSLOT_ENTITLEMENTS = 5;
const CSSLOT_DER_ENTITLEMENTS = 7;
const CSSLOT_SIGNATURESLOT = 0x10000;

const CS_ADHOC = 2;
const CS_HASHTYPE_SHA256 = 2;
const CS_EXECSEG_MAIN_BINARY = 1;
/** With the executable segment's fields. */
const CS_SUPPORTSEXECSEG = 0x20400;
const HEADER_BYTES = 88;
const HASH_BYTES = 32;
const PAGE_SHIFT = 12;
const PAGE_BYTES = 1 << PAGE_SHIFT;

export interface Signing {
  /** The program's name for itself. */
  readonly identifier: string;
  /** A property list. */
  readonly entitlements: string;
}

export interface ExecutableSegment {
  readonly base: number;
  readonly limit: number;
  /** Of a program, and not of a library. */
  readonly main: boolean;
}

/** How long the signature of `codeBytes` will be: only the number of pages matters. */
export function signatureBytes(codeBytes: number, signing: Signing): number {
  const others = [...specialBlobs(signing).values()].reduce((sum, { length }) => sum + length, 0);
  const cms = 8, index = 12 + 8 * (specialBlobs(signing).size + 2);
  return index + directoryBytes(codeBytes, signing) + others + cms;
}

/** The signature of `code`, which is all of the file that lies in front of it. */
export function codeSignature(code: Uint8Array, signing: Signing, segment: ExecutableSegment): Uint8Array<ArrayBuffer> {
  const special = specialBlobs(signing);
  const blobs: [number, Uint8Array][] = [
    [CSSLOT_CODEDIRECTORY, codeDirectory(code, signing, segment, special)],
    ...special,
    // Without an identity nothing is signed: the wrapper is empty.
    [CSSLOT_SIGNATURESLOT, blob(CSMAGIC_BLOBWRAPPER)],
  ];
  let at = 12 + 8 * blobs.length;
  const index = blobs.map(([slot, { length }]) => {
    at += length;
    return words(slot, at - length);
  });
  return blob(CSMAGIC_EMBEDDED_SIGNATURE, words(blobs.length), ...index, ...blobs.map(([, bytes]) => bytes));
}

function specialBlobs({ entitlements }: Signing): Map<number, Uint8Array> {
  const xml = new TextEncoder().encode(entitlements);
  return new Map([
    // No requirement of others: a set of none.
    [CSSLOT_REQUIREMENTS, blob(CSMAGIC_REQUIREMENTS, words(0))],
    [CSSLOT_ENTITLEMENTS, blob(CSMAGIC_EMBEDDED_ENTITLEMENTS, xml)],
    [
      CSSLOT_DER_ENTITLEMENTS,
      blob(CSMAGIC_EMBEDDED_DER_ENTITLEMENTS, derEntitlements(parseEntitlements(entitlements))),
    ],
  ]);
}

function identifierBytes({ identifier }: Signing): Uint8Array {
  return new TextEncoder().encode(`${identifier}\0`);
}

function directoryBytes(codeBytes: number, signing: Signing): number {
  const slots = CSSLOT_DER_ENTITLEMENTS + Math.ceil(codeBytes / PAGE_BYTES);
  return HEADER_BYTES + identifierBytes(signing).length + slots * HASH_BYTES;
}

function codeDirectory(
  code: Uint8Array,
  signing: Signing,
  segment: ExecutableSegment,
  special: ReadonlyMap<number, Uint8Array>,
): Uint8Array<ArrayBuffer> {
  const identifier = identifierBytes(signing);
  const pages = Math.ceil(code.length / PAGE_BYTES);
  const hashOffset = HEADER_BYTES + identifier.length + CSSLOT_DER_ENTITLEMENTS * HASH_BYTES;
  const bytes = new Uint8Array(directoryBytes(code.length, signing));
  const view = new DataView(bytes.buffer);
  const header: readonly (readonly [at: number, value: number])[] = [
    [0, CSMAGIC_CODEDIRECTORY],
    [4, bytes.length],
    [8, CS_SUPPORTSEXECSEG], // version
    [12, CS_ADHOC], // flags
    [16, hashOffset],
    [20, HEADER_BYTES], // identOffset
    [24, CSSLOT_DER_ENTITLEMENTS], // nSpecialSlots
    [28, pages], // nCodeSlots
    [32, code.length], // codeLimit
    [36, HASH_BYTES << 24 | CS_HASHTYPE_SHA256 << 16 | PAGE_SHIFT], // hashSize, hashType, platform 0, pageSize
    // 40 spare2, 44 scatterOffset, 48 teamOffset, 52 spare3, 56 codeLimit64: none
  ];
  for (const [at, value] of header) view.setUint32(at, value);
  view.setBigUint64(64, BigInt(segment.base));
  view.setBigUint64(72, BigInt(segment.limit));
  view.setBigUint64(80, segment.main ? BigInt(CS_EXECSEG_MAIN_BINARY) : 0n);
  bytes.set(identifier, HEADER_BYTES);
  for (const [slot, blob] of special) bytes.set(sha256(blob), hashOffset - slot * HASH_BYTES);
  for (let i = 0; i < pages; i++) {
    bytes.set(sha256(code.subarray(i * PAGE_BYTES, (i + 1) * PAGE_BYTES)), hashOffset + i * HASH_BYTES);
  }
  return bytes;
}

function sha256(bytes: Uint8Array): Uint8Array {
  return createHash("sha256").update(bytes).digest();
}

function blob(magic: number, ...contents: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const length = contents.reduce((sum, part) => sum + part.length, 8);
  return concat(words(magic, length), ...contents);
}

function words(...values: readonly number[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(values.length * 4);
  values.forEach((value, i) => new DataView(bytes.buffer).setUint32(i * 4, value));
  return bytes;
}
