/** Names for addresses: of a kernel (System.map, /proc/kallsyms) or of a program (the symbol table of its ELF file). */
import { HostError } from "../../src/base/errors.ts";

const STT_FUNC = 2, STT_GNU_IFUNC = 10;
const SHT_SYMTAB = 2, SHT_DYNSYM = 11;
const SYMBOL_BYTES = 24, SECTION_BYTES = 64;
/** An address is not of a function that begins farther away. */
const MAX_FUNCTION = 1n << 20n;

export class Symbols {
  readonly #at: bigint[] = [];
  readonly #names: string[] = [];

  constructor(entries: Iterable<readonly [bigint, string]>) {
    for (const [at, name] of [...entries].sort(([a], [b]) => a < b ? -1 : a > b ? 1 : 0)) {
      this.#at.push(at);
      this.#names.push(name);
    }
  }

  get size(): number {
    return this.#at.length;
  }

  /** The name of what begins at or before `address`, or null. */
  nameOf(address: bigint): string | null {
    let low = 0, high = this.#at.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#at[middle]! <= address) low = middle + 1;
      else high = middle;
    }
    return low === 0 || address - this.#at[low - 1]! >= MAX_FUNCTION ? null : this.#names[low - 1]!;
  }
}

/** Lines `ADDRESS TYPE NAME`, perhaps with a module's name in brackets. Of code only. */
export function mapSymbols(text: string): Symbols {
  const found = text.matchAll(/^([0-9a-f]{1,16}) [tTwW] (\S+)(?:\s+(\[\S+\]))?$/gm);
  return new Symbols(function* () {
    for (const [, at, name, module] of found) yield [BigInt("0x" + at), module ? `${name} ${module}` : name!] as const;
  }());
}

/** Functions in the symbol tables of a 64-bit ELF file. */
export function elfSymbols(bytes: Uint8Array): Symbols {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const entries: [bigint, string][] = [];
  try {
    const sections = Number(view.getBigUint64(0x28, true)), count = view.getUint16(0x3c, true);
    for (let n = 0; n < count; n++) {
      const section = sections + n * SECTION_BYTES, type = view.getUint32(section + 4, true);
      if (type !== SHT_SYMTAB && type !== SHT_DYNSYM) continue;
      const strings = Number(
        view.getBigUint64(sections + view.getUint32(section + 0x28, true) * SECTION_BYTES + 0x18, true),
      );
      const start = Number(view.getBigUint64(section + 0x18, true));
      const end = start + Number(view.getBigUint64(section + 0x20, true));
      for (let at = start; at + SYMBOL_BYTES <= end; at += SYMBOL_BYTES) {
        const kind = view.getUint8(at + 4) & 15, value = view.getBigUint64(at + 8, true);
        if ((kind !== STT_FUNC && kind !== STT_GNU_IFUNC) || value === 0n) continue;
        entries.push([value, cString(bytes, strings + view.getUint32(at, true))]);
      }
    }
  } catch (error) {
    if (error instanceof RangeError) {
      throw new HostError("Cannot read symbols: the ELF file is cut short", { cause: error });
    }
    throw error;
  }
  return new Symbols(entries);
}

function cString(bytes: Uint8Array, at: number): string {
  return new TextDecoder().decode(bytes.subarray(at, bytes.indexOf(0, at)));
}

export function isElf(bytes: Uint8Array): boolean {
  return bytes.length > 64 && bytes[0] === 0x7f && bytes[1] === 0x45 && bytes[2] === 0x4c && bytes[3] === 0x46;
}
