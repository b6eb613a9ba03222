/** What an overlay holds, kept: an image of its own with the overlay's base behind it. */
import { HostError, messageOf } from "../../base/errors.ts";
import type { DiskImage, Extent } from "./image.ts";
import { openImage } from "./open.ts";
import { createQcow2 } from "./qcow2/create.ts";
import { FileStore } from "./store.ts";

const CHUNK_BYTES = 2 << 20;

/**
 * Writes what lies above `base` in the images from `top` down into a new qcow2 file at `path`, for its owner's eyes only. `basePath`
 * is the base's own file, from the root. Throws HostError, and leaves no file then.
 */
export function saveLayers(path: string, top: DiskImage, base: DiskImage, basePath: string): void {
  let target: DiskImage | null = null;
  try {
    Deno.openSync(path, { write: true, create: true, truncate: true, mode: 0o600 }).close();
    const store = FileStore.open(path, true);
    try {
      createQcow2(store, { sizeBytes: top.sizeBytes, backingFile: basePath, backingFormat: base.format });
    } finally {
      store.close();
    }
    // With the base behind it, for zeros to hide what that has there.
    target = openImage({ path, writable: true, format: "qcow2" });
    const chunk = new Uint8Array(CHUNK_BYTES);
    for (let at = 0; at < top.sizeBytes;) {
      const { kind, sizeBytes } = extentAbove(base, top, at, top.sizeBytes - at);
      if (kind === "zero") target.writeZeroes(at, sizeBytes, false);
      for (let done = 0; kind === "data" && done < sizeBytes;) {
        const bytes = chunk.subarray(0, Math.min(chunk.length, sizeBytes - done));
        top.read(at + done, bytes);
        target.write(at + done, bytes);
        done += bytes.length;
      }
      at += sizeBytes;
    }
    target.flush();
    target.close();
  } catch (error) {
    closeQuietly(target);
    removeQuietly(path);
    throw new HostError(`Cannot save what was written to "${basePath}" at "${path}": ${messageOf(error)}`, {
      cause: error,
    });
  }
}

/** What the images from `image` down to `base` say of a stretch; absent where none of them says anything. */
function extentAbove(base: DiskImage, image: DiskImage, offset: number, maxBytes: number): Omit<Extent, "at"> {
  const { kind, sizeBytes } = image.extentAt(offset, maxBytes);
  const next = image.backing;
  if (kind !== "absent" || next === null || next === base || offset >= next.sizeBytes) return { kind, sizeBytes };
  return extentAbove(base, next, offset, Math.min(sizeBytes, next.sizeBytes - offset));
}

function closeQuietly(image: DiskImage | null): void {
  try {
    image?.close();
  } catch {
    // What went wrong before is what is told.
  }
}

function removeQuietly(path: string): void {
  try {
    Deno.removeSync(path);
  } catch {
    // It was never there.
  }
}
