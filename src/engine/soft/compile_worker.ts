/** The Worker that compiles regions for one vCPU: regions in, modules out. */
import { messageOf } from "../../base/errors.ts";
import { Decoder } from "../../cpu/x86/decode.ts";
import { hasAvx, variantsOf } from "../../cpu/x86/interp.ts";
import { RegionCompiler } from "../../cpu/x86/jit/lower.ts";
import { type CompileAnswer, type CompileRequest, type CompilerSetup, regionHost } from "./tier.ts";

const scope = self as unknown as { onmessage: ((event: MessageEvent<CompilerSetup>) => void) | null };

scope.onmessage = (event) => {
  const setup = event.data, port = setup.port;
  const variants = variantsOf(setup.several, hasAvx(setup.vectorFuncs));
  const decoder = new Decoder(variants.rows, variants);
  const compiler = new RegionCompiler(regionHost(decoder, setup));
  port.onmessage = (message: MessageEvent<CompileRequest>) => {
    const { id, region, entryTable } = message.data, began = performance.now();
    let answer: CompileAnswer;
    try {
      const module = new WebAssembly.Module(compiler.compile(region, entryTable));
      answer = { id, module, ms: performance.now() - began };
    } catch (error) {
      answer = { id, error: messageOf(error), ms: performance.now() - began };
    }
    port.postMessage(answer);
  };
};
