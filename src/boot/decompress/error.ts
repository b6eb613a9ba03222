/** Compressed data that cannot be what it says, or that holds more than was allowed. The message completes "cannot decompress: …". */
export class DecompressError extends Error {
  override name = "DecompressError";
}
