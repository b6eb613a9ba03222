/**
 * A generated interpreter as bytes, for other processes of the same program: making it takes a quarter of a second, and it is
 * the same each time.
 *
 * | bytes | what |
 * |---|---|
 * | 0..3 | bytes of the description |
 * | then | the description: JSON, everything of the interpreter that is neither code nor made from the rows alone |
 * | then | the module |
 *
 * Nothing here tells whether the program has changed since, or the bytes: whoever keeps them knows.
 */
import type { Func } from "../../wasm/module.ts";
import type { ImportName } from "./imports.ts";
import { type Interpreter, variantsOf } from "./interp.ts";

interface Description {
  readonly several: boolean;
  readonly avx: boolean;
  readonly functions: number;
  readonly inLoop: number;
  readonly imports: readonly ImportName[];
  readonly vectorFuncs: readonly Func[];
  readonly shadows: readonly (readonly [number, number])[];
}

const LENGTH_BYTES = 4;

export function packInterpreter(made: Interpreter, avx: boolean): Uint8Array<ArrayBuffer> {
  const { several, functions, inLoop, imports } = made;
  const description: Description = {
    several,
    avx,
    functions,
    inLoop,
    imports,
    vectorFuncs: made.vectorFuncs.map(({ name, params, results, index, typeIndex }) => (
      { name, params, results, index, typeIndex }
    )),
    shadows: [...made.shadows],
  };
  const text = new TextEncoder().encode(JSON.stringify(description));
  const bytes = new Uint8Array(LENGTH_BYTES + text.length + made.module.length);
  new DataView(bytes.buffer).setUint32(0, text.length, true);
  bytes.set(text, LENGTH_BYTES);
  bytes.set(made.module, LENGTH_BYTES + text.length);
  return bytes;
}

/** What `packInterpreter` has packed; the module stays where it is. */
export function unpackInterpreter(bytes: Uint8Array<ArrayBuffer>): Interpreter {
  const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  const text = new TextDecoder().decode(bytes.subarray(LENGTH_BYTES, LENGTH_BYTES + length));
  const { several, avx, functions, inLoop, imports, vectorFuncs, shadows } = JSON.parse(text) as Description;
  const module = bytes.subarray(LENGTH_BYTES + length);
  const variants = variantsOf(several, avx);
  return { several, module, variants, imports, functions, vectorFuncs, shadows: new Map(shadows), inLoop };
}
