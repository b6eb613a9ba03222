/**
 * A folder of the host's as a TFTP server gives it: regular files, for reading, and nothing that lies outside of it. Links are
 * followed as long as they stay inside.
 */
import { SEPARATOR } from "@std/path";
import { ConfigError, messageOf } from "../../base/errors.ts";
import type { TftpFile, TftpFiles } from "./tftp.ts";

/** Read at once: requests for blocks come one after the other. */
const CHUNK_BYTES = 256 * 1024;
const MAX_NAME = 1024;

class FolderFile implements TftpFile {
  readonly #chunk = new Uint8Array(CHUNK_BYTES);
  #at = 0;
  #end = 0;
  #busy = false;
  #closed = false;

  constructor(private readonly file: Deno.FsFile, readonly sizeBytes: number) {}

  async read(into: Uint8Array): Promise<number> {
    this.#busy = true;
    let n = 0;
    try {
      while (n < into.length) {
        if (this.#at === this.#end) {
          this.#at = 0;
          this.#end = await this.file.read(this.#chunk) ?? 0;
          if (this.#end === 0) break;
        }
        const part = this.#chunk.subarray(this.#at, Math.min(this.#end, this.#at + into.length - n));
        into.set(part, n);
        n += part.length;
        this.#at += part.length;
      }
    } finally {
      this.#busy = false;
      if (this.#closed) this.file.close();
    }
    return n;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (!this.#busy) this.file.close();
  }
}

export class TftpFolder implements TftpFiles {
  private constructor(private readonly root: string) {}

  /** Rejects with ConfigError if it is no folder, or one that may not be read. */
  static async of(path: string): Promise<TftpFolder> {
    let found = "a file";
    try {
      const root = await Deno.realPath(path);
      if ((await Deno.stat(root)).isDirectory) return new TftpFolder(root);
    } catch (error) {
      found = messageOf(error);
    }
    throw new ConfigError(`--net tftp=${path}: expected a folder that can be read, and found ${found}`);
  }

  async open(name: string): Promise<TftpFile | null | "forbidden"> {
    const steps = name.split(/[/\\]/).filter((step) => step !== "" && step !== ".");
    if (name.length > MAX_NAME || steps.length === 0) return null;
    if (steps.includes("..")) return "forbidden";
    try {
      const path = await Deno.realPath([this.root, ...steps].join(SEPARATOR));
      const inside = this.root.endsWith(SEPARATOR) ? this.root : this.root + SEPARATOR;
      if (!path.startsWith(inside)) return "forbidden";
      // Looked at before it is opened: opening a pipe would wait for its writer.
      if (!(await Deno.stat(path)).isFile) return "forbidden";
      const file = await Deno.open(path);
      const { isFile, size } = await file.stat();
      if (isFile) return new FolderFile(file, size);
      file.close();
      return "forbidden";
    } catch (error) {
      return error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory ? null : "forbidden";
    }
  }
}
