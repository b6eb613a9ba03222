/** Sizes in bytes as text, in powers of 1024. */

const UNITS = ["", "K", "M", "G", "T", "P", "E"] as const;

/** Bytes of `512M`, `1.5GiB`, `65536`, with units up to T. Undefined if the text is no such size. */
export function parseSize(text: string): number | undefined {
  const match = /^(\d{1,15}(?:\.\d{1,9})?)(?:([KMGT])(?:iB)?)?$/i.exec(text);
  if (!match) return undefined;
  const bytes = Number(match[1]) * 1024 ** UNITS.indexOf((match[2] ?? "").toUpperCase() as typeof UNITS[number]);
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

/** The size exactly, as `parseSize` reads it, in the largest unit that needs no fraction: "1536M". */
export function formatSize(bytes: number): string {
  let unit = 0;
  while (unit < UNITS.indexOf("T") && bytes >= 1024 && bytes % 1024 === 0) {
    bytes /= 1024;
    unit++;
  }
  return bytes + UNITS[unit]!;
}

/** The size rounded, for a sentence: "12 bytes", "1.2 GiB". */
export function describeSize(bytes: number): string {
  if (bytes < 1024) return `${bytes} bytes`;
  let unit = 0;
  while (bytes >= 1024 && unit < UNITS.length - 1) {
    bytes /= 1024;
    unit++;
  }
  return `${Number(bytes.toFixed(bytes < 10 ? 1 : 0))} ${UNITS[unit]}iB`;
}
