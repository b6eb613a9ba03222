/** Random bytes from the host's generator. */
import type { EntropySource } from "../../devices/virtio/entropy.ts";

/** getRandomValues gives no more at a time, and not into shared memory. */
const CHUNK_BYTES = 65536;

export class HostEntropy implements EntropySource {
  fill(into: Uint8Array): void {
    for (let at = 0; at < into.length; at += CHUNK_BYTES) {
      into.set(crypto.getRandomValues(new Uint8Array(Math.min(CHUNK_BYTES, into.length - at))), at);
    }
  }
}
