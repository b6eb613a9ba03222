/**
 * The Worker that compiles regions: regions in, modules out. Where it serves several vCPUs, code that one of them has had compiled
 * is there for the others.
 */
import { Bug, messageOf } from "../../base/errors.ts";
import { Decoder } from "../../cpu/x86/decode.ts";
import { hasAvx, variantsOf } from "../../cpu/x86/interp.ts";
import { RegionCompiler } from "../../cpu/x86/jit/lower.ts";
import { eachInstruction, type Region, RegionFinder } from "../../cpu/x86/jit/region.ts";
import { LOCKED_IMPORTS, REGION_IMPORTS } from "../../cpu/x86/jit/region_host.ts";
import { OP_BYTES } from "../../cpu/x86/state.ts";
import { rowFilter } from "../../cpu/x86/system/cpu_model.ts";
import { CompiledCode } from "./compiled_code.ts";
import { NewsWriter } from "./compiler_thread.ts";
import { type CompileAnswer, type CompileRequest, type CompilerSetup, LIMITS, regionHost } from "./tier.ts";

interface Link {
  readonly port: MessagePort;
  readonly news: SharedArrayBuffer;
}
const scope = self as unknown as { onmessage: ((event: MessageEvent<Link>) => void) | null };

const shared = new CompiledCode();
/** Several vCPUs are alike. */
let compiling: Compiling | undefined;

scope.onmessage = ({ data: { port, news } }) => {
  const writer = new NewsWriter(news);
  port.onmessage = ({ data }: MessageEvent<CompilerSetup | CompileRequest>) => {
    if (!("id" in data)) {
      compiling ??= new Compiling(data);
      return;
    }
    const { id } = data, began = performance.now();
    let answer: CompileAnswer, isNew = false;
    try {
      const region = compiling!.find(data), kept = data.places ? undefined : shared.find(data, region);
      const module = kept?.module ?? compiling!.compile(data, region);
      isNew = !data.places && !kept;
      if (isNew) shared.keep(data, region, module);
      answer = { id, module, ...kept ? { entered: kept.entered } : {}, ms: performance.now() - began };
    } catch (error) {
      answer = { id, error: messageOf(error), ms: performance.now() - began };
    }
    port.postMessage(answer);
    if (isNew) writer.tell(data.at);
  };
};

class Compiling {
  readonly #finder: RegionFinder;
  readonly #compiler: RegionCompiler;
  readonly #env: WebAssembly.ModuleImports;

  constructor(setup: CompilerSetup) {
    const variants = variantsOf(setup.several, hasAvx(setup.vectorFuncs));
    const decoder = new Decoder(variants.rows, variants, setup.model ? rowFilter(setup.model) : undefined);
    this.#finder = new RegionFinder(decoder);
    this.#compiler = new RegionCompiler(regionHost(decoder, setup));
    this.#env = strangers(setup);
  }

  find({ bytes, offset, jumps, entered }: CompileRequest): Region {
    const region = this.#finder.find(bytes, 0, offset, LIMITS, jumps, entered);
    if (!region) throw new Bug("The two threads do not find the same region");
    return region;
  }

  compile({ at, places }: CompileRequest, region: Region): WebAssembly.Module {
    let record = -OP_BYTES;
    eachInstruction(region, (i) => i.record = record += OP_BYTES);
    const module = new WebAssembly.Module(this.#compiler.compile(region, at, places));
    // V8 makes a function's first code when it is called: here, and not where the vCPU waits for it.
    const instance = new WebAssembly.Instance(module, { env: this.#env });
    (instance.exports.region as (...args: unknown[]) => void)(-1, 0, 0n, 0n, 0n);
    return module;
  }
}

/** Something of the right kind for all that a region imports; none of it is used. */
function strangers({ pages, vectorFuncs }: CompilerSetup): WebAssembly.ModuleImports {
  const table = () => new WebAssembly.Table({ element: "anyfunc", initial: 0 });
  const nothing = () => 0;
  return {
    memory: new WebAssembly.Memory({ initial: pages, maximum: 65536, shared: true }),
    handlers: table(),
    regions: table(),
    entryTable: 0,
    records: 0,
    ...Object.fromEntries(
      [...REGION_IMPORTS, ...LOCKED_IMPORTS, ...vectorFuncs.map((f) => f.name)].map((name) => [name, nothing]),
    ),
  };
}
