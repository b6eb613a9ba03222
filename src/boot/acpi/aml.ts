/**
 * Builds ACPI Machine Language: each function returns the bytes of one term.
 *
 * Spec: [acpi §20.2] the grammar; functions are named after its terms. A path is written as in ASL: "_SB.PCI0", "\\_S5", "^X".
 */
import { Bug } from "../../base/errors.ts";

export type Aml = Uint8Array;

const OP = {
  ZERO: 0x00,
  ONE: 0x01,
  NAME: 0x08,
  BYTE: 0x0a,
  WORD: 0x0b,
  DWORD: 0x0c,
  STRING: 0x0d,
  QWORD: 0x0e,
  SCOPE: 0x10,
  BUFFER: 0x11,
  PACKAGE: 0x12,
  METHOD: 0x14,
  DUAL_NAME: 0x2e,
  MULTI_NAME: 0x2f,
  EXT: 0x5b,
  ARG0: 0x68,
  AND: 0x7b,
  OR: 0x7d,
  NOTIFY: 0x86,
  CREATE_DWORD_FIELD: 0x8a,
  NOT: 0x92,
  EQUAL: 0x93,
  IF: 0xa0,
  ELSE: 0xa1,
  RETURN: 0xa4,
} as const;
const EXT_DEVICE = 0x82;

/** Bytes in a row. */
export function join(...parts: readonly (number | Uint8Array | readonly number[])[]): Uint8Array {
  const bytes: number[] = [];
  for (const p of parts) {
    if (typeof p === "number") bytes.push(p);
    else for (const b of p) bytes.push(b);
  }
  return Uint8Array.from(bytes);
}

/** `value` as `size` bytes, little-endian; up to 2^53. */
export function le(value: number, size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  for (let i = 0; i < size; i++, value = Math.floor(value / 256)) bytes[i] = value % 256;
  return bytes;
}

export function ascii(text: string): Uint8Array {
  return Uint8Array.from(text, (c) => c.charCodeAt(0) & 0x7f);
}

/** The length of `length` bytes and of itself. */
function pkgLength(length: number): Uint8Array {
  if (length + 1 < 1 << 6) return le(length + 1, 1);
  for (let more = 1; more <= 3; more++) {
    const total = length + 1 + more;
    if (total < 1 << (4 + 8 * more)) return join((more << 6) | (total & 0xf), le(total >>> 4, more));
  }
  throw new Bug(`An AML package of ${length} bytes cannot be`);
}

function sized(op: readonly number[], ...body: readonly (number | Uint8Array)[]): Aml {
  const bytes = join(...body);
  return join(op, pkgLength(bytes.length), bytes);
}

/** A NameString: to name a new object, or to refer to one. */
export function path(text: string): Aml {
  const prefix = /^(\\|\^*)/.exec(text)![0];
  const rest = text.slice(prefix.length);
  const segments = rest === "" ? [] : rest.split(".");
  for (const s of segments) if (!/^[A-Z_][A-Z0-9_]{0,3}$/.test(s)) throw new Bug(`${text} is no ACPI path`);
  const count = segments.length === 0
    ? [0]
    : segments.length === 1
    ? []
    : segments.length === 2
    ? [OP.DUAL_NAME]
    : [OP.MULTI_NAME, segments.length];
  return join(ascii(prefix), count, ...segments.map((s) => ascii(s.padEnd(4, "_"))));
}

/** In the fewest bytes. */
export function integer(value: number): Aml {
  if (value === 0) return join(OP.ZERO);
  if (value === 1) return join(OP.ONE);
  if (value < 2 ** 8) return join(OP.BYTE, le(value, 1));
  if (value < 2 ** 16) return join(OP.WORD, le(value, 2));
  if (value < 2 ** 32) return join(OP.DWORD, le(value, 4));
  return join(OP.QWORD, le(value, 8));
}

export function string(text: string): Aml {
  return join(OP.STRING, ascii(text), 0);
}

export function buffer(bytes: Uint8Array): Aml {
  return sized([OP.BUFFER], integer(bytes.length), bytes);
}

export function pkg(...elements: readonly Aml[]): Aml {
  return sized([OP.PACKAGE], elements.length, ...elements);
}

/** A compressed identifier, such as "PNP0A03": three letters and four hex digits, high byte first. [acpi §19.6.37] */
export function eisaId(id: string): Aml {
  const vendor = [0, 1, 2].reduce((value, i) => (value << 5) | (id.charCodeAt(i) - 0x40), 0);
  const product = parseInt(id.slice(3), 16);
  const bytes = join(vendor >> 8, vendor & 0xff, product >> 8, product & 0xff);
  return integer(new DataView(bytes.buffer).getUint32(0, true));
}

/** A UUID as ToUUID makes it: the first three groups little-endian. [acpi §19.6.142] */
export function uuid(text: string): Aml {
  const groups = text.split("-").map((g) => (g.match(/../g) ?? []).map((x) => parseInt(x, 16)));
  return buffer(join(...groups.map((g, i) => i < 3 ? g.toReversed() : g)));
}

export function name(at: string, value: Aml): Aml {
  return join(OP.NAME, path(at), value);
}

export function scope(at: string, ...body: readonly Aml[]): Aml {
  return sized([OP.SCOPE], path(at), ...body);
}

export function device(at: string, ...body: readonly Aml[]): Aml {
  return sized([OP.EXT, EXT_DEVICE], path(at), ...body);
}

/** A serialized method of `args` arguments. */
export function method(at: string, args: number, ...body: readonly Aml[]): Aml {
  return sized([OP.METHOD], path(at), args | (1 << 3), ...body);
}

export function arg(n: number): Aml {
  return join(OP.ARG0 + n);
}

export function ret(value: Aml): Aml {
  return join(OP.RETURN, value);
}

export function equal(a: Aml, b: Aml): Aml {
  return join(OP.EQUAL, a, b);
}

export function not(a: Aml): Aml {
  return join(OP.NOT, a);
}

/** Result in `target`. */
export function and(a: Aml, b: Aml, target: Aml): Aml {
  return join(OP.AND, a, b, target);
}

/** Result in `target`. */
export function or(a: Aml, b: Aml, target: Aml): Aml {
  return join(OP.OR, a, b, target);
}

/** Tells whoever drives `object` of an event. [acpi §19.6.94] */
export function notify(object: Aml, value: Aml): Aml {
  return join(OP.NOTIFY, object, value);
}

export function when(condition: Aml, ...body: readonly Aml[]): Aml {
  return sized([OP.IF], condition, ...body);
}

/** Follows a `when`. */
export function otherwise(...body: readonly Aml[]): Aml {
  return sized([OP.ELSE], ...body);
}

/** Names the 32 bits at byte `at` of a buffer. */
export function createDWordField(source: Aml, at: number, field: string): Aml {
  return join(OP.CREATE_DWORD_FIELD, source, integer(at), path(field));
}
