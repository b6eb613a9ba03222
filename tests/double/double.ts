/**
 * The double of Hypervisor.framework on Intel Macs: a shared object with its functions, which the binding in ffi/ can open on
 * this host, and a model behind them, whose processor is the software CPU.
 *
 * The functions run on the thread that calls them, so each thread attaches before its first call. `openDouble` does that, and
 * has `Deno.dlopen` give the double to whoever asks for the framework by its path: the program under test stays as it is.
 */
import { DARWIN_SYMBOLS } from "../../ffi/darwin.ts";
import { HYPERVISOR_PATH, HYPERVISOR_SYMBOLS } from "../../ffi/hypervisor_x86_64.ts";
import { HV } from "./codes.ts";
import { isMakingCpu } from "./cpu.ts";
import { intelFunctions } from "./intel.ts";
import { H, Process } from "./process.ts";
import { packQuirks, type Quirks } from "./quirks.ts";
import { attachThread } from "./thread.ts";
import { writeLibrary } from "./stubs.ts";

export { HV } from "./codes.ts";
export type { Quirks } from "./quirks.ts";

const NAME = "libHypervisorDouble.so";
const SYMBOLS: Deno.ForeignLibraryInterface = { ...HYPERVISOR_SYMBOLS, ...DARWIN_SYMBOLS };

/** Writes the library into `folder`, unless it is there; gives its path. Threads of a process must all use one file. */
export function writeDouble(folder: string): string {
  const library = { soname: NAME, functions: Object.keys(SYMBOLS), strings: {}, words: [], missing: HV.ERROR };
  return writeOnce(`${folder}/${NAME}`, writeLibrary(library));
}

/** A file that another thread may have mapped is never written to. */
export function writeOnce(path: string, bytes: Uint8Array): string {
  try {
    const there = Deno.readFileSync(path);
    if (there.length === bytes.length && there.every((byte, i) => byte === bytes[i])) return path;
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  const fresh = `${path}.${crypto.randomUUID()}`;
  Deno.writeFileSync(fresh, bytes);
  Deno.renameSync(fresh, path);
  return path;
}

export interface DoubleOptions {
  /** See setQuirks. */
  readonly quirks?: Partial<Quirks>;
  /** Software CPUs have hot code compiled, each by a Worker of its own. */
  readonly compiles?: boolean;
}

let attached: Process | undefined;

/** Makes the functions of the library at `path` work on this thread, until the thread ends. */
export function attachDouble(path: string, options: DoubleOptions = {}): void {
  attachThread(path, SYMBOLS, (words, thread) => {
    attached = Process.open(words);
    if (options.quirks || attached.words[H.QUIRKS] === 0) setQuirks(options.quirks ?? {});
    return intelFunctions(attached, thread, options.compiles ?? false);
  });
}

/** For all threads, and vCPUs made from now on. What is not named is as usual. */
export function setQuirks(quirks: Partial<Quirks>): void {
  attached!.words[H.QUIRKS] = packQuirks(quirks);
}

/**
 * Attaches this thread, and gives the double to whoever opens the framework on it. Shared memories made here from now on lie in
 * the process's file from the start: what other threads write while they are mapped is not lost.
 */
export function openDouble(path: string, options: DoubleOptions = {}): void {
  attachDouble(path, options);
  const real = Deno.dlopen;
  const patched: typeof Deno.dlopen = (name, symbols) => real(name === HYPERVISOR_PATH ? path : name, symbols);
  Object.defineProperty(Deno, "dlopen", { value: patched, configurable: true, writable: true });
  WebAssembly.Memory = new Proxy(WebAssembly.Memory, {
    construct(target, [descriptor]: [WebAssembly.MemoryDescriptor]) {
      const memory = new target(descriptor);
      if (descriptor.shared && !isMakingCpu()) attached!.backAll(memory);
      return memory;
    },
  });
}

/** For `StartOptions.vcpuWorker`: trike's own Worker, on a thread that has attached to the double at `path`. */
export function doubleWorker(path: string): URL {
  const url = new URL("./vcpu_worker.ts", import.meta.url);
  url.searchParams.set("double", path);
  return url;
}
