/** Objective-C blocks as C sees them, by LLVM's text on their ABI. They are called on threads of their own, as dispatch queues do. */
import { at } from "../out.ts";

const LITERAL = { ISA: 0, FLAGS: 8, RESERVED: 12, INVOKE: 16, DESCRIPTOR: 24, BYTES: 32 } as const;
const IS_GLOBAL = 1 << 28;

/** What is wrong with the block at `address`, or null. `globalClass`: the address of _NSConcreteGlobalBlock. */
export function blockFault(address: bigint, globalClass: bigint): string | null {
  if (address === 0n || address % 8n !== 0n) return "no block";
  const dv = at(address, LITERAL.BYTES);
  if (dv.getBigUint64(LITERAL.ISA, true) !== globalClass) return "its isa is not the address of _NSConcreteGlobalBlock";
  if (!(dv.getUint32(LITERAL.FLAGS, true) & IS_GLOBAL)) return "it is not global, and would be copied";
  if (dv.getBigUint64(LITERAL.INVOKE, true) === 0n) return "it has no function";
  const descriptor = dv.getBigUint64(LITERAL.DESCRIPTOR, true);
  if (descriptor === 0n) return "it has no descriptor";
  const size = at(descriptor, 16).getBigUint64(8, true);
  return size < BigInt(LITERAL.BYTES) ? `its descriptor says ${size} bytes` : null;
}

/**
 * Calls the block's function with the block and the arguments, on another thread, which waits until the function has returned:
 * a script's runs when its thread is back in its event loop.
 */
export function callBlock(address: bigint, status: number, object: bigint | null): Promise<unknown> {
  const invoke = Deno.UnsafePointer.create(at(address, LITERAL.BYTES).getBigUint64(LITERAL.INVOKE, true))!;
  const block = Deno.UnsafePointer.create(address);
  if (object === null) {
    return new Deno.UnsafeFnPointer(invoke as never, {
      parameters: ["pointer", "u32"],
      result: "void",
      nonblocking: true,
    })
      .call(block, status);
  }
  const definition = { parameters: ["pointer", "u32", "pointer"], result: "void", nonblocking: true } as const;
  return new Deno.UnsafeFnPointer(invoke as never, definition).call(block, status, Deno.UnsafePointer.create(object));
}

/** The same for a block that takes an object only. */
export function callBlockWith(address: bigint, object: bigint): Promise<unknown> {
  const invoke = Deno.UnsafePointer.create(at(address, LITERAL.BYTES).getBigUint64(LITERAL.INVOKE, true))!;
  const definition = { parameters: ["pointer", "pointer"], result: "void", nonblocking: true } as const;
  return new Deno.UnsafeFnPointer(invoke as never, definition)
    .call(Deno.UnsafePointer.create(address), Deno.UnsafePointer.create(object));
}
