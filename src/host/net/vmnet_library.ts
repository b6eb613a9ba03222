/** vmnet.framework as a library: dictionaries, blocks, and what its answers mean. Opened once a thread. */
import {
  Block_descriptor,
  Block_flags,
  Block_literal,
  LIBSYSTEM_PATH,
  LIBSYSTEM_SYMBOLS as SYSTEM,
  VMNET_PATH,
  vmnet_return_t,
  VMNET_SYMBOLS as VMNET,
} from "../../../ffi/vmnet.ts";
import { HostError, messageOf } from "../../base/errors.ts";

const SYMBOLS = {
  vmnet_start_interface: VMNET.vmnet_start_interface,
  vmnet_interface_set_event_callback: VMNET.vmnet_interface_set_event_callback,
  vmnet_read: VMNET.vmnet_read,
  vmnet_write: VMNET.vmnet_write,
  vmnet_stop_interface: VMNET.vmnet_stop_interface,
} as const;
const SYSTEM_SYMBOLS = {
  dispatch_queue_create: SYSTEM.dispatch_queue_create,
  dispatch_release: SYSTEM.dispatch_release,
  xpc_dictionary_create: SYSTEM.xpc_dictionary_create,
  xpc_dictionary_set_uint64: SYSTEM.xpc_dictionary_set_uint64,
  xpc_dictionary_set_string: SYSTEM.xpc_dictionary_set_string,
  xpc_dictionary_get_uint64: SYSTEM.xpc_dictionary_get_uint64,
  xpc_release: SYSTEM.xpc_release,
  _NSConcreteGlobalBlock: SYSTEM._NSConcreteGlobalBlock,
} as const;

type Vmnet = Deno.DynamicLibrary<typeof SYMBOLS>["symbols"];
type System = Deno.DynamicLibrary<typeof SYSTEM_SYMBOLS>["symbols"];
export interface VmnetLibrary {
  readonly vmnet: Vmnet;
  readonly system: System;
}

/** Throws HostError if this host has none. */
export function openVmnet(): VmnetLibrary {
  try {
    return {
      vmnet: Deno.dlopen(VMNET_PATH, SYMBOLS).symbols,
      system: Deno.dlopen(LIBSYSTEM_PATH, SYSTEM_SYMBOLS).symbols,
    };
  } catch (error) {
    const why = error instanceof Deno.errors.NotCapable
      ? "run again with --allow-ffi"
      : Deno.build.os === "darwin"
      ? messageOf(error)
      : "it is a part of macOS; on Linux there is --net tap";
    throw new HostError(`Cannot open vmnet.framework for --net vmnet: ${why}`, { cause: error });
  }
}

export function cString(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`${text}\0`);
}

const NAMES = new Map<number, string>(Object.entries(vmnet_return_t).map(([name, code]) => [code, name]));

/** What a status is called, and what to do about it. */
export function refusal(call: string, status: number): HostError {
  const { VMNET_FAILURE, VMNET_INVALID_ACCESS, VMNET_NOT_AUTHORIZED, VMNET_SHARING_SERVICE_BUSY } = vmnet_return_t;
  let advice = "";
  if (status === VMNET_FAILURE || status === VMNET_INVALID_ACCESS || status === VMNET_NOT_AUTHORIZED) {
    advice = ": before macOS 26 it takes root (sudo), since then a binary with the entitlement " +
      "com.apple.security.virtualization; or --net stream:PATH to socket_vmnet";
  } else if (status === VMNET_SHARING_SERVICE_BUSY) {
    advice = ": Internet Sharing, or another program, has the network; see System Settings";
  }
  return new HostError(`Cannot use --net vmnet: ${call} said ${NAMES.get(status) ?? status}${advice}`);
}

type BlockParameter = "u32" | "pointer";
type BlockArgument<P> = P extends "u32" ? number : Deno.PointerValue;

/** A block of C that calls a function of this thread, from whichever thread it is called. */
export class Block<const P extends readonly BlockParameter[]> {
  readonly #callback: { readonly pointer: Deno.PointerObject; close(): void };
  // SAFETY: a global block is never copied, so both live here for as long as the framework may call it: until `release`.
  readonly #literal = new Uint8Array(Block_literal.SIZEOF);
  readonly #descriptor = new Uint8Array(Block_descriptor.SIZEOF);

  constructor(system: System, parameters: P, body: (...args: { [I in keyof P]: BlockArgument<P[I]> }) => void) {
    // The block itself comes first.
    const call = (_block: unknown, ...args: unknown[]) => body(...args as never);
    this.#callback = Deno.UnsafeCallback.threadSafe(
      { parameters: ["pointer", ...parameters], result: "void" } as never,
      call as never,
    ) as never;
    const literal = new DataView(this.#literal.buffer), descriptor = new DataView(this.#descriptor.buffer);
    descriptor.setBigUint64(Block_descriptor.size, BigInt(Block_literal.SIZEOF), true);
    literal.setBigUint64(Block_literal.isa, addressOf(system._NSConcreteGlobalBlock), true);
    literal.setUint32(Block_literal.flags, Block_flags.BLOCK_IS_GLOBAL, true);
    literal.setBigUint64(Block_literal.invoke, addressOf(this.#callback.pointer), true);
    literal.setBigUint64(Block_literal.descriptor, addressOf(Deno.UnsafePointer.of(this.#descriptor)), true);
  }

  get pointer(): Deno.PointerObject {
    return Deno.UnsafePointer.of(this.#literal)!;
  }

  /** No call is under way, and none comes. */
  release(): void {
    this.#callback.close();
  }
}

export function addressOf(pointer: Deno.PointerValue): bigint {
  return BigInt(Deno.UnsafePointer.value(pointer));
}
