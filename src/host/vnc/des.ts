/**
 * One block of DES, for the challenge of VNC authentication and nothing else: it keeps no secret from anybody who listens.
 *
 * Spec: [fips46]; [rfc6143 §7.2.2] how the password becomes a key.
 */
// deno-fmt-ignore
const IP = [
  58, 50, 42, 34, 26, 18, 10, 2, 60, 52, 44, 36, 28, 20, 12, 4, 62, 54, 46, 38, 30, 22, 14, 6, 64, 56, 48, 40, 32, 24, 16, 8,
  57, 49, 41, 33, 25, 17, 9, 1, 59, 51, 43, 35, 27, 19, 11, 3, 61, 53, 45, 37, 29, 21, 13, 5, 63, 55, 47, 39, 31, 23, 15, 7,
];
// deno-fmt-ignore
const E = [
  32, 1, 2, 3, 4, 5, 4, 5, 6, 7, 8, 9, 8, 9, 10, 11, 12, 13, 12, 13, 14, 15, 16, 17,
  16, 17, 18, 19, 20, 21, 20, 21, 22, 23, 24, 25, 24, 25, 26, 27, 28, 29, 28, 29, 30, 31, 32, 1,
];
// deno-fmt-ignore
const P = [
  16, 7, 20, 21, 29, 12, 28, 17, 1, 15, 23, 26, 5, 18, 31, 10, 2, 8, 24, 14, 32, 27, 3, 9, 19, 13, 30, 6, 22, 11, 4, 25,
];
// deno-fmt-ignore
const PC1 = [
  57, 49, 41, 33, 25, 17, 9, 1, 58, 50, 42, 34, 26, 18, 10, 2, 59, 51, 43, 35, 27, 19, 11, 3, 60, 52, 44, 36,
  63, 55, 47, 39, 31, 23, 15, 7, 62, 54, 46, 38, 30, 22, 14, 6, 61, 53, 45, 37, 29, 21, 13, 5, 28, 20, 12, 4,
];
// deno-fmt-ignore
const PC2 = [
  14, 17, 11, 24, 1, 5, 3, 28, 15, 6, 21, 10, 23, 19, 12, 4, 26, 8, 16, 7, 27, 20, 13, 2,
  41, 52, 31, 37, 47, 55, 30, 40, 51, 45, 33, 48, 44, 49, 39, 56, 34, 53, 46, 42, 50, 36, 29, 32,
];
const SHIFTS = [1, 1, 2, 2, 2, 2, 2, 2, 1, 2, 2, 2, 2, 2, 2, 1];
/** The substitution boxes, four rows of sixteen each, as hexadecimal digits. */
const S = [
  "e4d12fb83a6c59070f74e2d1a6cb953841e8d62bfc973a50fc8249175b3ea06d",
  "f18e6b34972dc05a3d47f28ec01a69b50e7ba4d158c6932fd8a13f42b67c05e9",
  "a09e63f51dc7b428d709346a285ecbf1d6498f30b12c5ae71ad069874fe3b52c",
  "7de3069a1285bc4fd8b56f03472c1ae9a690cb7df13e52843f06a1d8945bc72e",
  "2c417ab6853fd0e9eb2c47d150fa3986421bad78f9c5630eb8c71e2d6f09a453",
  "c1af92680d34e75baf427c9561de0b389ef528c3704a1db6432c95fabe17608d",
  "4b2ef08d3c975a61d0b7491ae35c2f8614bdc37eaf6805926bd814a7950fe23c",
  "d2846fb1a93e50c71fd8a374c56b0e927b419ce206adf35821e74a8dfc90356b",
];

/** The bits of `bits` that `table` names, counted from 1. */
function permute(bits: readonly number[], table: readonly number[]): number[] {
  return table.map((n) => bits[n - 1]!);
}

function bitsOf(bytes: Uint8Array): number[] {
  return [...bytes].flatMap((byte) => Array.from({ length: 8 }, (_, i) => (byte >> (7 - i)) & 1));
}

function subkeys(key: Uint8Array): number[][] {
  const bits = permute(bitsOf(key), PC1);
  let c = bits.slice(0, 28), d = bits.slice(28);
  return SHIFTS.map((n) => {
    c = [...c.slice(n), ...c.slice(0, n)];
    d = [...d.slice(n), ...d.slice(0, n)];
    return permute([...c, ...d], PC2);
  });
}

function round(half: readonly number[], key: readonly number[]): number[] {
  const mixed = permute(half, E).map((bit, i) => bit ^ key[i]!);
  const substituted = S.flatMap((box, i) => {
    const [a, b, c, d, e, f] = mixed.slice(6 * i, 6 * i + 6) as [number, number, number, number, number, number];
    const value = parseInt(box[(2 * a + f) * 16 + (8 * b + 4 * c + 2 * d + e)]!, 16);
    return [8, 4, 2, 1].map((bit) => value & bit ? 1 : 0);
  });
  return permute(substituted, P);
}

/** Encrypts 8 bytes with a key of 8 bytes. */
export function desEncrypt(key: Uint8Array, block: Uint8Array): Uint8Array {
  const bits = permute(bitsOf(block), IP);
  let left = bits.slice(0, 32), right = bits.slice(32);
  for (const k of subkeys(key)) {
    const mixed = round(right, k);
    [left, right] = [right, left.map((bit, i) => bit ^ mixed[i]!)];
  }
  const swapped = [...right, ...left];
  // The last permutation is the inverse of the first.
  const out: number[] = [];
  IP.forEach((from, to) => out[from - 1] = swapped[to]!);
  return Uint8Array.from({ length: 8 }, (_, i) => out.slice(8 * i, 8 * i + 8).reduce((byte, bit) => byte * 2 + bit, 0));
}

/** What a client that knows the password answers to a challenge of 16 bytes. Only the first 8 bytes of a password count. */
export function vncResponse(password: Uint8Array, challenge: Uint8Array): Uint8Array {
  const reversed = (byte: number) =>
    Array.from({ length: 8 }, (_, i) => ((byte >> i) & 1) << (7 - i)).reduce((a, b) => a | b);
  const key = Uint8Array.from({ length: 8 }, (_, i) => reversed(password[i] ?? 0));
  const out = new Uint8Array(16);
  out.set(desEncrypt(key, challenge.subarray(0, 8)));
  out.set(desEncrypt(key, challenge.subarray(8, 16)), 8);
  return out;
}
