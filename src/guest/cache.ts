/**
 * Where guests are kept: the `trike` folder of the user's XDG cache. Every step that makes something there works under a
 * lock on one file and ends in a rename, so that runs at the same time share the work and a run cut short leaves nothing.
 */
import { join } from "@std/path";
import { HostError } from "../base/errors.ts";

/** The folder, which need not exist yet. */
export function cacheRoot(): string {
  const xdg = Deno.env.get("XDG_CACHE_HOME");
  if (xdg?.startsWith("/")) return join(xdg, "trike"); // the XDG specification: a relative path is to be ignored
  const home = Deno.env.get("HOME");
  if (home?.startsWith("/")) return join(home, ".cache", "trike");
  throw new HostError("Cannot tell where to keep the guest: neither XDG_CACHE_HOME nor HOME names a folder");
}

/** Runs `work` while no other process of this cache does. The kernel gives the lock back however this process ends. */
export async function locked<T>(root: string, work: () => Promise<T>): Promise<T> {
  await Deno.mkdir(root, { recursive: true });
  using file = await Deno.open(join(root, "lock"), { read: true, write: true, create: true });
  await file.lock(true);
  try {
    return await work();
  } finally {
    await file.unlock();
  }
}

/** An empty folder to work in, gone afterwards. Call it under the lock: what an earlier run left behind is removed first. */
export async function withScratch<T>(root: string, work: (folder: string) => Promise<T>): Promise<T> {
  for await (const entry of Deno.readDir(root)) {
    if (entry.name.startsWith("tmp-")) await Deno.remove(join(root, entry.name), { recursive: true });
  }
  const folder = await Deno.makeTempDir({ dir: root, prefix: "tmp-" });
  try {
    return await work(folder);
  } finally {
    await Deno.remove(folder, { recursive: true }).catch(() => {}); // else the next run does it
  }
}

/** Writes a file that appears under its name at once and whole. */
export async function writeWhole(path: string, data: Uint8Array | string): Promise<void> {
  const temporary = `${path}.${crypto.randomUUID()}`;
  try {
    const bytes = typeof data === "string" ? new TextEncoder().encode(data) : data;
    await Deno.writeFile(temporary, bytes, { createNew: true });
    await Deno.rename(temporary, path);
  } catch (error) {
    await Deno.remove(temporary).catch(() => {});
    throw error;
  }
}

/** The JSON value in a file; null where there is none that can be read. */
export async function readJson(path: string): Promise<unknown> {
  try {
    return JSON.parse(await Deno.readTextFile(path));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof SyntaxError) return null;
    throw error;
  }
}

export async function isFile(path: string): Promise<boolean> {
  try {
    return (await Deno.stat(path)).isFile;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** Names what was made from what: the first 16 hexadecimal digits of a SHA-256. */
export async function fingerprint(...parts: readonly string[]): Promise<string> {
  const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(JSON.stringify(parts)));
  return new Uint8Array(hash).slice(0, 8).toHex();
}
