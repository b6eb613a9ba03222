/** Attaching a thread to a library of stubs: a table of functions of its own, which the library finds by the thread pointer. */
import { THREAD, THREAD_TABLE, THREADS, WORDS, WORDS_BYTES } from "./stubs.ts";
import { viewOf } from "./host.ts";

type Value = number | bigint | boolean;
/** The functions behind the stubs, by name. Pointers come as their addresses, 64-bit numbers as bigints. */
// deno-lint-ignore no-explicit-any
export type Functions = Record<string, (...args: any[]) => Value | void>;

/** What C calls must stay where it is. */
const kept: unknown[] = [];

/**
 * `make` is given 64-bit words that all threads of the process share and that are 0 at first. A thread attaches once to a
 * library; again replaces what it attached before.
 */
export function attachThread(
  path: string,
  symbols: Deno.ForeignLibraryInterface,
  make: (words: BigInt64Array, thread: bigint) => Functions,
): void {
  const library = Deno.dlopen(path, {
    [THREAD]: { parameters: [], result: "u64" },
    [THREAD_TABLE]: { type: "pointer" },
    [WORDS]: { type: "pointer" },
  });
  const { symbols: own } = library;
  const address = (symbol: Deno.PointerValue) => BigInt(Deno.UnsafePointer.value(symbol!));
  const thread = own[THREAD]();
  const functions = make(new BigInt64Array(viewOf(address(own[WORDS]), WORDS_BYTES)), thread);
  const names = Object.keys(symbols);
  const table = new BigUint64Array(names.length);
  names.forEach((name, i) => {
    const symbol = symbols[name]!;
    if ("type" in symbol) return;
    const body = functions[name];
    if (!body) throw new Error(`No function ${name}`);
    const parameters = symbol.parameters.map((p) => p === "buffer" || p === "pointer" ? "u64" : p);
    const result = symbol.result === "pointer" ? "u64" : symbol.result;
    const guarded = (...args: Value[]) => {
      try {
        return body(...args);
      } catch (error) {
        console.error(`double: ${name} failed:`, error);
        throw error;
      }
    };
    // SAFETY: kept below for as long as the thread lives.
    const callback = new Deno.UnsafeCallback({ parameters, result } as Deno.UnsafeCallbackDefinition, guarded as never);
    kept.push(callback);
    table[i] = BigInt(Deno.UnsafePointer.value(callback.pointer));
  });
  kept.push(library, table);
  const threads = new BigUint64Array(viewOf(address(own[THREAD_TABLE]), THREADS * 16));
  const at = BigInt(Deno.UnsafePointer.value(Deno.UnsafePointer.of(table)));
  for (let i = 0; i < THREADS; i++) {
    // The table's address first: whoever finds the thread uses it.
    if (threads[2 * i] === thread) {
      threads[2 * i + 1] = at;
      return;
    }
    if (threads[2 * i] !== 0n) continue;
    if (Atomics.compareExchange(threads, 2 * i, 0n, thread) !== 0n) continue;
    threads[2 * i + 1] = at;
    return;
  }
  throw new Error(`More than ${THREADS} threads are attached`);
}
