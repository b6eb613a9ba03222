/** The Worker that compiles regions for one vCPU: regions in, modules out. */
import { Bug, messageOf } from "../../base/errors.ts";
import { Decoder } from "../../cpu/x86/decode.ts";
import { hasAvx, variantsOf } from "../../cpu/x86/interp.ts";
import { RegionCompiler } from "../../cpu/x86/jit/lower.ts";
import { eachInstruction, RegionFinder } from "../../cpu/x86/jit/region.ts";
import { REGION_IMPORTS } from "../../cpu/x86/jit/region_host.ts";
import { OP_BYTES } from "../../cpu/x86/state.ts";
import { rowFilter } from "../../cpu/x86/system/cpu_model.ts";
import { type CompileAnswer, type CompileRequest, type CompilerSetup, LIMITS, regionHost } from "./tier.ts";

const scope = self as unknown as { onmessage: ((event: MessageEvent<CompilerSetup>) => void) | null };

scope.onmessage = (event) => {
  const setup = event.data, port = setup.port;
  const variants = variantsOf(setup.several, hasAvx(setup.vectorFuncs));
  const decoder = new Decoder(variants.rows, variants, setup.model ? rowFilter(setup.model) : undefined);
  const finder = new RegionFinder(decoder);
  const compiler = new RegionCompiler(regionHost(decoder, setup));
  const env = strangers(setup);
  port.onmessage = (message: MessageEvent<CompileRequest>) => {
    const { id, bytes, offset, jumps, entered, records, entryTable } = message.data, began = performance.now();
    let answer: CompileAnswer;
    try {
      const region = finder.find(bytes, 0, offset, LIMITS, jumps, entered);
      if (!region) throw new Bug("The two threads do not find the same region");
      let record = records - OP_BYTES;
      eachInstruction(region, (i) => i.record = record += OP_BYTES);
      const module = new WebAssembly.Module(compiler.compile(region, entryTable));
      // V8 makes a function's first code when it is called: here, and not where the vCPU waits for it.
      const instance = new WebAssembly.Instance(module, { env });
      (instance.exports.region as (...args: unknown[]) => void)(-1, 0, 0n, 0n, 0n);
      answer = { id, module, ms: performance.now() - began };
    } catch (error) {
      answer = { id, error: messageOf(error), ms: performance.now() - began };
    }
    port.postMessage(answer);
  };
};

/** Something of the right kind for all that a region imports; none of it is used. */
function strangers({ pages, vectorFuncs }: CompilerSetup): WebAssembly.ModuleImports {
  const table = () => new WebAssembly.Table({ element: "anyfunc", initial: 0 });
  const nothing = () => 0;
  return {
    memory: new WebAssembly.Memory({ initial: pages, maximum: 65536, shared: true }),
    handlers: table(),
    regions: table(),
    ...Object.fromEntries([...REGION_IMPORTS, ...vectorFuncs.map((f) => f.name)].map((name) => [name, nothing])),
  };
}
