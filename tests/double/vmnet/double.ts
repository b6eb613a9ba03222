/**
 * The double of vmnet.framework and of what it takes of libSystem: interfaces in one process, between which frames go. Blocks
 * are called on threads of their own. Dictionaries, queues and interfaces are the same on every attached thread; network objects
 * belong to the thread that makes them.
 */
import {
  LIBSYSTEM_PATH,
  LIBSYSTEM_SYMBOLS,
  vmnet_keys,
  VMNET_PATH,
  vmnet_return_t,
  VMNET_SYMBOLS,
} from "../../../ffi/vmnet.ts";
import { writeOnce } from "../double.ts";
import { writeLibrary } from "../stubs.ts";
import { attachThread } from "../thread.ts";
import { interfaceFunctions, Interfaces } from "./interfaces.ts";
import { networkFunctions } from "./networks.ts";
import { Switch } from "./switch.ts";
import { xpcFunctions } from "./xpc.ts";

const NAME = "libVmnetDouble.so", CLASS = "_NSConcreteGlobalBlock";
const { [CLASS]: _, ...LIBSYSTEM } = LIBSYSTEM_SYMBOLS;
const SYMBOLS: Deno.ForeignLibraryInterface = { ...VMNET_SYMBOLS, ...LIBSYSTEM };

/** As writeDouble of ../double.ts: vmnet and libSystem in one library. */
export function writeDoubleVmnet(folder: string): string {
  const library = {
    soname: NAME,
    functions: Object.keys(SYMBOLS),
    strings: vmnet_keys,
    words: [CLASS],
    missing: vmnet_return_t.VMNET_FAILURE,
  };
  return writeOnce(`${folder}/${NAME}`, writeLibrary(library));
}

/** As attachDouble. `startStatus`: what starting an interface ends with, VMNET_SUCCESS if it is not given. */
export function attachDoubleVmnet(path: string, startStatus: number = vmnet_return_t.VMNET_SUCCESS): void {
  const own = Deno.dlopen(path, { [CLASS]: { type: "pointer" } }).symbols[CLASS]!;
  const globalClass = BigInt(Deno.UnsafePointer.value(own));
  attachThread(path, SYMBOLS, (words) => {
    const interfaces = new Interfaces(Switch.open(words), { globalClass, startStatus });
    return { ...xpcFunctions(), ...interfaceFunctions(interfaces), ...networkFunctions(interfaces) };
  });
}

/** As openDouble: whoever opens vmnet or libSystem on this thread gets the double. */
export function openDoubleVmnet(path: string, startStatus?: number): void {
  attachDoubleVmnet(path, startStatus);
  const real = Deno.dlopen;
  const patched: typeof Deno.dlopen = (name, symbols) =>
    real(name === VMNET_PATH || name === LIBSYSTEM_PATH ? path : name, symbols);
  Object.defineProperty(Deno, "dlopen", { value: patched, configurable: true, writable: true });
}
