/** Modules of compiled regions by what they were compiled from: the bytes of a page, where it is entered, and how it jumps. */
import { eachInstruction, type Region } from "../../cpu/x86/jit/region.ts";
import type { CompileRequest } from "./tier.ts";

/** As many are kept, those that were made last. */
const MOST = 512;
/** A region in which so much is missing of the one that is wanted is none for it: jumps have gone elsewhere since. */
const MISSING = 0.25;

type Source = Pick<CompileRequest, "bytes" | "offset" | "jumps">;
interface Kept extends Source {
  readonly entered: CompileRequest["entered"];
  /** Offsets of its instructions. */
  readonly instructions: ReadonlySet<number>;
  readonly module: WebAssembly.Module;
}

export class CompiledCode {
  readonly #kept = new Map<string, Kept>();

  find(source: Source, wanted: Region): Kept | undefined {
    const kept = this.#kept.get(keyOf(source));
    if (!kept) return undefined;
    let missing = 0;
    eachInstruction(wanted, (i) => missing += kept.instructions.has(i.at) ? 0 : 1);
    if (missing > MISSING * wanted.instructions) return undefined;
    // Two pages may have one sum.
    return kept.bytes.every((byte, at) => byte === source.bytes[at]) ? kept : undefined;
  }

  keep({ bytes, offset, jumps, entered }: CompileRequest, region: Region, module: WebAssembly.Module): void {
    const instructions = new Set<number>(), source = { bytes, offset, jumps }, key = keyOf(source);
    eachInstruction(region, (i) => instructions.add(i.at));
    this.#kept.delete(key);
    this.#kept.set(key, { ...source, entered, instructions, module });
    if (this.#kept.size > MOST) this.#kept.delete(this.#kept.keys().next().value!);
  }
}

/** FNV-1a of the bytes, and the rest as it is. */
function keyOf({ bytes, offset, jumps }: Source): string {
  let sum = 0x811c9dc5;
  for (const byte of bytes) sum = Math.imul(sum ^ byte, 0x01000193);
  return `${sum >>> 0} ${offset} ${jumps.map((jump) => `${jump.offset}=${jump.id}`).join(" ")}`;
}
