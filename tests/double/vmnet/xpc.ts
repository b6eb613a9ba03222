/**
 * The little of XPC and libdispatch that vmnet's callers need. Objects lie in memory, so that any thread can look at one by its
 * address: a page with a mark, a count of owners and entries of fixed size.
 */
import { createShared, mapShared, PAGE, viewOf } from "../host.ts";
import { at } from "../out.ts";
import type { Functions } from "../thread.ts";
import { machNs } from "../time.ts";

const MARK = 0x0063_7078;
export const TYPE = { UINT64: 1, STRING: 2, BOOL: 3, UUID: 4, DICTIONARY: 5 } as const;
const KIND = { DICTIONARY: 1, ARRAY: 2, QUEUE: 3, SEMAPHORE: 4 } as const;
/** Of the page: mark, kind, owners, entries; an entry: key, type, value. */
const AT = { MARK: 0, KIND: 4, OWNERS: 8, COUNT: 12, ENTRIES: 64 } as const;
const KEY_BYTES = 48, VALUE_BYTES = 56, ENTRY = KEY_BYTES + 8 + VALUE_BYTES, ENTRIES = Math.floor((PAGE - 64) / ENTRY);
const encoder = new TextEncoder(), decoder = new TextDecoder();

function make(kind: number): bigint {
  const address = mapShared(createShared(PAGE), 0, PAGE), dv = at(address, PAGE);
  [MARK, kind, 1, 0].forEach((word, i) => dv.setUint32(4 * i, word, true));
  return address;
}

/** The page of an object of this kind, or undefined at NULL. What is no object at all ends the process, as on a Mac. */
function page(object: bigint, kind?: number): DataView | undefined {
  if (object === 0n) return undefined;
  const dv = at(object, PAGE);
  if (dv.getUint32(AT.MARK, true) !== MARK) throw new Error(`No object at ${object.toString(16)}`);
  return kind === undefined || dv.getUint32(AT.KIND, true) === kind ? dv : undefined;
}

export function cString(address: bigint): string {
  return Deno.UnsafePointerView.getCString(Deno.UnsafePointer.create(address)!);
}
function text(dv: DataView, offset: number, bytes: number): string {
  const u8 = new Uint8Array(dv.buffer, dv.byteOffset + offset, bytes), end = u8.indexOf(0);
  return decoder.decode(u8.slice(0, end < 0 ? bytes : end));
}

export class Xpc {
  static dictionary(entries: Readonly<Record<string, bigint | string | boolean | Uint8Array>> = {}): bigint {
    const object = make(KIND.DICTIONARY);
    for (const [key, value] of Object.entries(entries)) Xpc.set(object, key, value);
    return object;
  }
  static array(values: readonly (string | bigint)[]): bigint {
    const object = make(KIND.ARRAY);
    values.forEach((value, i) => Xpc.#store(page(object)!, i, "", value));
    page(object)!.setUint32(AT.COUNT, values.length, true);
    return object;
  }
  static #find(dv: DataView, key: string): number {
    for (let i = 0; i < dv.getUint32(AT.COUNT, true); i++) {
      if (text(dv, AT.ENTRIES + i * ENTRY, KEY_BYTES) === key) return i;
    }
    return -1;
  }
  static #store(dv: DataView, i: number, key: string, value: bigint | string | boolean | Uint8Array): void {
    const entry = AT.ENTRIES + i * ENTRY, u8 = new Uint8Array(dv.buffer, dv.byteOffset, PAGE);
    u8.fill(0, entry, entry + ENTRY);
    u8.set(encoder.encode(key).subarray(0, KEY_BYTES - 1), entry);
    const type = typeof value === "bigint"
      ? TYPE.UINT64
      : typeof value === "string"
      ? TYPE.STRING
      : typeof value === "boolean"
      ? TYPE.BOOL
      : TYPE.UUID;
    dv.setUint32(entry + KEY_BYTES, type, true);
    const to = entry + KEY_BYTES + 8;
    if (typeof value === "bigint") dv.setBigUint64(to, value, true);
    else if (typeof value === "boolean") dv.setUint8(to, Number(value));
    else {u8.set(
        typeof value === "string" ? encoder.encode(value).subarray(0, VALUE_BYTES - 1) : value.subarray(0, 16),
        to,
      );}
  }
  static set(object: bigint, key: string, value: bigint | string | boolean | Uint8Array): void {
    const dv = page(object, KIND.DICTIONARY);
    if (!dv) return;
    let i = Xpc.#find(dv, key);
    if (i < 0) {
      i = dv.getUint32(AT.COUNT, true);
      if (i >= ENTRIES) throw new Error("A dictionary is full");
      dv.setUint32(AT.COUNT, i + 1, true);
    }
    Xpc.#store(dv, i, key, value);
  }
  /** Address of an entry's value if there is one of this type, else 0. */
  static value(object: bigint, key: string, type: number): bigint {
    const dv = page(object, KIND.DICTIONARY), i = dv ? Xpc.#find(dv, key) : -1;
    if (i < 0 || dv!.getUint32(AT.ENTRIES + i * ENTRY + KEY_BYTES, true) !== type) return 0n;
    return object + BigInt(AT.ENTRIES + i * ENTRY + KEY_BYTES + 8);
  }
  static item(object: bigint, i: number): bigint {
    const dv = page(object, KIND.ARRAY);
    return dv && i < dv.getUint32(AT.COUNT, true) ? object + BigInt(AT.ENTRIES + i * ENTRY + KEY_BYTES + 8) : 0n;
  }
  static uint64(object: bigint, key: string): bigint {
    const address = Xpc.value(object, key, TYPE.UINT64);
    return address === 0n ? 0n : at(address, 8).getBigUint64(0, true);
  }
  static string(object: bigint, key: string): string | undefined {
    const address = Xpc.value(object, key, TYPE.STRING);
    return address === 0n ? undefined : cString(address);
  }
  static isDictionary(object: bigint): boolean {
    return page(object, KIND.DICTIONARY) !== undefined;
  }
  static isQueue(object: bigint): boolean {
    return page(object, KIND.QUEUE) !== undefined;
  }
  static retain(object: bigint): void {
    const dv = page(object);
    dv?.setUint32(AT.OWNERS, dv.getUint32(AT.OWNERS, true) + 1, true);
  }
  static release(object: bigint): void {
    const dv = page(object);
    if (!dv) return;
    const owners = dv.getUint32(AT.OWNERS, true) - 1;
    dv.setUint32(AT.OWNERS, owners, true);
    if (owners > 0) return;
    // The page stays, so that a use after the release is told, and not taken for another object.
    dv.setUint32(AT.MARK, 0, true);
  }
  static describe(object: bigint): string {
    const dv = page(object, KIND.DICTIONARY);
    if (!dv) return "<object>";
    const keys = Array.from(
      { length: dv.getUint32(AT.COUNT, true) },
      (_, i) => text(dv, AT.ENTRIES + i * ENTRY, KEY_BYTES),
    );
    return `<dictionary> { ${keys.join(", ")} }`;
  }
}

export function xpcFunctions(): Functions {
  const set = (object: bigint, key: bigint, value: bigint | string | boolean | Uint8Array) =>
    Xpc.set(object, cString(key), value);
  return {
    dispatch_queue_create: () => make(KIND.QUEUE),
    dispatch_release: (object: bigint) => Xpc.release(object),
    dispatch_get_global_queue: () => globalQueue ||= make(KIND.QUEUE),
    dispatch_semaphore_create: (value: bigint) => {
      const object = make(KIND.SEMAPHORE);
      new BigInt64Array(viewOf(object, 16))[1] = value;
      return object;
    },
    /** 0 if it was signalled in time. Sleeps by looking again: these words are no futex to a script. */
    dispatch_semaphore_wait: (object: bigint, until: bigint) => {
      const count = new BigInt64Array(viewOf(object, 16));
      for (;;) {
        const now = Atomics.load(count, 1);
        if (now > 0n && Atomics.compareExchange(count, 1, now, now - 1n) === now) return 0n;
        if (now <= 0n && machNs() >= until) return 49n;
      }
    },
    dispatch_semaphore_signal: (object: bigint) => {
      Atomics.add(new BigInt64Array(viewOf(object, 16)), 1, 1n);
      return 0n;
    },
    dispatch_time: (from: bigint, ns: bigint) =>
      from === FOREVER ? FOREVER : BigInt.asUintN(64, (from === 0n ? machNs() : from) + ns),
    xpc_dictionary_create: () => Xpc.dictionary(),
    xpc_dictionary_set_uint64: (object: bigint, key: bigint, value: bigint) => set(object, key, value),
    xpc_dictionary_set_string: (object: bigint, key: bigint, value: bigint) => set(object, key, cString(value)),
    xpc_dictionary_set_bool: (object: bigint, key: bigint, value: boolean) => set(object, key, value),
    xpc_dictionary_set_uuid: (object: bigint, key: bigint, value: bigint) =>
      set(object, key, new Uint8Array(viewOf(value, 16)).slice()),
    xpc_dictionary_get_uint64: (object: bigint, key: bigint) => Xpc.uint64(object, cString(key)),
    xpc_dictionary_get_string: (object: bigint, key: bigint) => Xpc.value(object, cString(key), TYPE.STRING),
    xpc_dictionary_get_bool: (object: bigint, key: bigint) => {
      const address = Xpc.value(object, cString(key), TYPE.BOOL);
      return address !== 0n && at(address, 1).getUint8(0) !== 0;
    },
    xpc_dictionary_get_uuid: (object: bigint, key: bigint) => Xpc.value(object, cString(key), TYPE.UUID),
    xpc_array_get_count: (object: bigint) => BigInt(page(object, KIND.ARRAY)?.getUint32(AT.COUNT, true) ?? 0),
    xpc_array_get_string: (object: bigint, i: bigint) => Xpc.item(object, Number(i)),
    xpc_retain: (object: bigint) => Xpc.retain(object),
    xpc_release: (object: bigint) => Xpc.release(object),
    xpc_copy_description: (object: bigint) => {
      const bytes = encoder.encode(Xpc.describe(object)), copy = mapShared(createShared(PAGE), 0, PAGE);
      new Uint8Array(viewOf(copy, PAGE)).set(bytes.subarray(0, PAGE - 1));
      return copy;
    },
  };
}
const FOREVER = 0xffff_ffff_ffff_ffffn;
let globalQueue = 0n;
