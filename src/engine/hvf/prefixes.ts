/** What the first bytes of an instruction tell without decoding it. */

const LEGACY_PREFIXES: readonly number[] = [0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3];
/** VEX and EVEX; in other than 64-bit code LES, LDS and BOUND share them. */
const VECTOR_PREFIXES: readonly number[] = [0x62, 0xc4, 0xc5];
const FWAIT = 0x9b, ESC_FIRST = 0xd8, ESC_LAST = 0xdf;

/** Ranges of the second byte after 0FH whose instructions keep to general registers: [sdm2 table A-3]. */
const INTEGER_0F: readonly (readonly [first: number, last: number])[] = [
  [0x00, 0x0d],
  [0x18, 0x27],
  [0x30, 0x37],
  [0x40, 0x4f],
  [0x80, 0xad],
  [0xaf, 0xc1],
  [0xc3, 0xc3],
  [0xc8, 0xcf],
];

/**
 * Whether the instruction may use registers of the x87 or vector units, or save and restore them; true as well where these
 * bytes do not tell.
 */
export function usesUnits(bytes: Uint8Array, is64: boolean): boolean {
  let i = 0;
  while (i < bytes.length && LEGACY_PREFIXES.includes(bytes[i]!)) i++;
  if (is64 && i < bytes.length && (bytes[i]! & 0xf0) === 0x40) i++;
  if (i >= bytes.length) return true;
  const opcode = bytes[i]!;
  if (opcode === FWAIT || (opcode >= ESC_FIRST && opcode <= ESC_LAST) || VECTOR_PREFIXES.includes(opcode)) return true;
  if (opcode !== 0x0f) return false;
  const second = bytes[i + 1];
  if (second === undefined) return true;
  // MOVBE and CRC32.
  if (second === 0x38) return !(bytes[i + 2] === 0xf0 || bytes[i + 2] === 0xf1);
  // CMPXCHG8B and CMPXCHG16B share theirs with XSAVEC.
  if (second === 0xc7) return ((bytes[i + 2] ?? 0) & 0x38) !== 0x08;
  for (const [first, last] of INTEGER_0F) if (second >= first && second <= last) return false;
  return true;
}
