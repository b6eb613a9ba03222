/** What C functions are given to write to: raw memory by its address. */
import { viewOf } from "./host.ts";

/** Views by address, since callers use the same few places again and again. Addresses stay valid or are not used any more. */
const views = new Map<bigint, DataView>();
const MANY = 4096;

export function at(address: bigint, bytes: number): DataView {
  const known = views.get(address);
  if (known && known.byteLength >= bytes) return known;
  if (views.size >= MANY) views.clear();
  const view = new DataView(viewOf(address, bytes));
  views.set(address, view);
  return view;
}

/** False, and nothing written, at NULL. */
export function put64(address: bigint, value: bigint | number): boolean {
  if (address === 0n) return false;
  at(address, 8).setBigUint64(0, BigInt.asUintN(64, BigInt(value)), true);
  return true;
}
export function put32(address: bigint, value: number): boolean {
  if (address === 0n) return false;
  at(address, 4).setUint32(0, value, true);
  return true;
}
export function put8(address: bigint, value: number | boolean): boolean {
  if (address === 0n) return false;
  at(address, 1).setUint8(0, Number(value));
  return true;
}
