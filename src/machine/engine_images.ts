/**
 * Images: what an engine generates when it starts and is the same each time, kept so that it need not be.
 *
 * A build carries those of the usual processors (scripts/build/images.ts). All others, and those of a run from the sources, are
 * in a folder of the user's cache named after a fingerprint of what they are made from, so none is ever older than the program.
 * A kept file is the SHA-256 of an image, then the image. What cannot be read, is damaged or could have been written by others
 * is as good as none, and what cannot be written is made again next time: nobody is told.
 */

/** Of a build's own files, the one that holds its fingerprint. */
export const FINGERPRINT = "fingerprint";
/** Beside `src/`, where `deno compile` puts a build's images; the portable form has them in its own file. */
export const IMAGE_FOLDER = "dist/images";

/** What images are made from, in `src`. */
const MADE_FROM = ["base", "wasm", "cpu", "engine/soft", "machine/memory.ts"];
const HASH_BYTES = 32;
/** More than an image ever has: a file that is larger is not one. */
const MAX_BYTES = 64 << 20;
/** Fingerprints whose images are kept. */
const KEPT = 4;
/** Others may neither read, write nor look into what is kept. */
const OTHERS = 0o077;

export interface EngineImages {
  /** An image by its name, or null. Never rejects. */
  find(name: string): Promise<Uint8Array<ArrayBuffer> | null>;
  /** Keeps an image that was not found. Never rejects. */
  keep(name: string, image: Uint8Array<ArrayBuffer>): Promise<void>;
}

/** The portable form's own files; null for a name it does not have. */
declare const TRIKE_FILE: ((name: string) => Uint8Array<ArrayBuffer> | null) | undefined;

/**
 * The images of this program. `folder` is where to keep them; null: nowhere. Null if the program cannot tell what its images
 * would be made from: it is neither a build nor `src/main.ts`, or may not read its sources.
 */
export function programImages(folder: string | null): EngineImages | null {
  if (typeof TRIKE_FILE !== "undefined") return new Images(TRIKE_FILE, folder);
  const main = /^(file:.*\/)src\/main\.ts$/.exec(Deno.mainModule)?.[1];
  if (main === undefined) return null;
  if (Deno.build.standalone) return new Images(own(new URL(`${IMAGE_FOLDER}/`, main)), folder);
  const sources = new URL("src/", main);
  const readable = Deno.permissions.querySync({ name: "read", path: sources }).state === "granted";
  return readable && folder !== null ? new Images(() => null, folder, sources) : null;
}

/** Files that are inside the binary. */
function own(folder: URL): (name: string) => Uint8Array<ArrayBuffer> | null {
  return (name) => {
    try {
      return Deno.readFileSync(new URL(name, folder));
    } catch {
      return null; // not one of the usual
    }
  };
}

export class Images implements EngineImages {
  #fingerprint: Promise<string | null> | null = null;

  /** `carried` has priority; without `sources` it has the fingerprint. */
  constructor(
    private readonly carried: (name: string) => Uint8Array<ArrayBuffer> | null,
    private readonly folder: string | null,
    private readonly sources: URL | null = null,
  ) {}

  async find(name: string): Promise<Uint8Array<ArrayBuffer> | null> {
    try {
      const image = this.carried(name);
      if (image !== null) return image;
      const folder = await this.#place();
      return folder === null ? null : await readKept(folder, name);
    } catch {
      return null; // not there, or not to be read
    }
  }

  async keep(name: string, image: Uint8Array<ArrayBuffer>): Promise<void> {
    try {
      const folder = await this.#place();
      if (folder === null) return;
      await forgetOthers(this.folder!, folder);
      await Deno.mkdir(folder, { recursive: true, mode: 0o700 });
      await writeKept(folder, name, image);
    } catch {
      // A folder that cannot be written: the next start takes as long as this one.
    }
  }

  /** The folder for this program's images. */
  async #place(): Promise<string | null> {
    if (this.folder === null || !mayUse(this.folder)) return null;
    this.#fingerprint ??= this.sources === null ? Promise.resolve(this.#carriedFingerprint()) : hashOf(this.sources);
    const fingerprint = await this.#fingerprint;
    return fingerprint === null ? null : `${this.folder}/${fingerprint}`;
  }

  #carriedFingerprint(): string | null {
    const bytes = this.carried(FINGERPRINT);
    return bytes === null ? null : new TextDecoder().decode(bytes);
  }
}

/** Nobody is asked for a permission on account of this. */
function mayUse(path: string): boolean {
  return (["read", "write"] as const).every((name) => Deno.permissions.querySync({ name, path }).state === "granted");
}

/** Of all that images are made from, V8's arithmetic included; null if it cannot be read. */
export async function hashOf(sources: URL): Promise<string | null> {
  try {
    const parts: Uint8Array[] = [new TextEncoder().encode(Deno.version.v8)];
    for (const path of MADE_FROM) addSources(new URL(path, sources), parts);
    const hash = await crypto.subtle.digest("SHA-256", await new Blob(parts as BlobPart[]).arrayBuffer());
    return new Uint8Array(hash).toHex().slice(0, 32);
  } catch {
    return null;
  }
}

function addSources(path: URL, parts: Uint8Array[]): void {
  const name = (text: string) => parts.push(new TextEncoder().encode(`\0${text}\0`));
  if (path.pathname.endsWith(".ts")) {
    name(path.pathname.slice(path.pathname.lastIndexOf("/") + 1));
    parts.push(Deno.readFileSync(path));
    return;
  }
  const entries = [...Deno.readDirSync(path)].filter((e) => e.isDirectory || /^(?!.*_test).*\.ts$/.test(e.name));
  entries.sort((a, b) => a.name < b.name ? -1 : 1);
  for (const entry of entries) addSources(new URL(`${path}/${entry.name}`), parts);
}

async function readKept(folder: string, name: string): Promise<Uint8Array<ArrayBuffer> | null> {
  const home = await Deno.lstat(folder), path = `${folder}/${name}`;
  // Only its owner may change a folder's mode.
  if (!home.isDirectory || (home.mode ?? 0) & OTHERS) await Deno.chmod(folder, 0o700);
  const { isFile, mode, uid, size } = await Deno.lstat(path);
  if (!isFile || (mode ?? 0) & OTHERS || uid !== home.uid || size > MAX_BYTES) return null;
  const bytes = await Deno.readFile(path);
  const image = bytes.subarray(HASH_BYTES);
  return sameBytes(await sha256(image), bytes.subarray(0, HASH_BYTES)) ? image : null;
}

/** It appears under its name at once and whole. */
async function writeKept(folder: string, name: string, image: Uint8Array<ArrayBuffer>): Promise<void> {
  const bytes = new Uint8Array(HASH_BYTES + image.length);
  bytes.set(await sha256(image));
  bytes.set(image, HASH_BYTES);
  const partial = `${folder}/${name}.${crypto.randomUUID()}`;
  try {
    await Deno.writeFile(partial, bytes, { createNew: true, mode: 0o600 });
    await Deno.rename(partial, `${folder}/${name}`);
  } catch (error) {
    await Deno.remove(partial).catch(() => {});
    throw error;
  }
}

/** Leaves room for one more fingerprint: those whose folders were changed last stay. */
async function forgetOthers(root: string, folder: string): Promise<void> {
  const others: { path: string; at: number }[] = [];
  for (const { name } of readable(root)) {
    const path = `${root}/${name}`;
    if (path === folder) return;
    others.push({ path, at: (await Deno.stat(path)).mtime?.getTime() ?? 0 });
  }
  others.sort((a, b) => b.at - a.at);
  for (const { path } of others.slice(KEPT - 1)) await Deno.remove(path, { recursive: true });
}

function readable(folder: string): Iterable<Deno.DirEntry> {
  try {
    return [...Deno.readDirSync(folder)];
  } catch {
    return [];
  }
}

async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
