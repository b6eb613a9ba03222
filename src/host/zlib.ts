/**
 * node:zlib, loaded when it is wanted first: that takes a thread 28 ms, a tenth of what starts a machine, and most machines'
 * threads never want it.
 */
export function zlib(): typeof import("node:zlib") {
  return process.getBuiltinModule("node:zlib");
}
