/**
 * Debian packages: an ar archive that holds control.tar and data.tar, each compressed in its own way. See deb(5).
 *
 * What a caller wants of a package comes into memory; nothing is ever written to a path a package names.
 */
import { createZstdDecompress } from "node:zlib";
import { Readable } from "node:stream";
import xz from "xz-decompress";
import { HostError, messageOf } from "../base/errors.ts";
import { readTar, type TarEntry } from "./tar.ts";

const latin1 = new TextDecoder("latin1");

/** A package's bytes; `name` is for messages. */
export class DebPackage {
  readonly #members: ReadonlyMap<string, Uint8Array<ArrayBuffer>>;

  constructor(readonly name: string, bytes: Uint8Array<ArrayBuffer>) {
    this.#members = this.#guard(() => arMembers(bytes));
  }

  static async open(path: string): Promise<DebPackage> {
    return new DebPackage(path, await Deno.readFile(path));
  }

  /** The fields of the control file, folded lines joined: "Package", "Version", "Depends" … */
  async control(): Promise<Map<string, string>> {
    const files = await this.#extract("control.tar", (path) => path === "control");
    const fields = new Map<string, string>();
    const text = new TextDecoder().decode(files.get("control")?.data);
    for (const line of text.replaceAll(/\n[ \t]+/g, " ").split("\n")) {
      const colon = line.indexOf(":");
      if (colon > 0) fields.set(line.slice(0, colon), line.slice(colon + 1).trim());
    }
    if (!fields.has("Package")) throw this.#damaged("it has no control file");
    return fields;
  }

  /**
   * Everything the package would install whose path, such as "boot/vmlinuz-6.1", is wanted. A wanted hard link comes as the
   * file it names, whether or not that file is wanted under its own path.
   */
  async files(wanted: (path: string) => boolean): Promise<Map<string, TarEntry>> {
    const found = await this.#extract("data.tar", wanted);
    const links = [...found.values()].filter((entry) => entry.kind === "hardlink");
    if (links.length === 0) return found;
    const targets = new Set(links.map((link) => link.target).filter((target) => !found.has(target)));
    const others = targets.size === 0 ? found : await this.#extract("data.tar", (path) => targets.has(path));
    for (const link of links) {
      const file = found.get(link.target) ?? others.get(link.target);
      if (file?.kind !== "file") {
        throw this.#damaged(`"${link.path}" is a hard link to "${link.target}", which is no file`);
      }
      found.set(link.path, { ...file, path: link.path });
    }
    return found;
  }

  async #extract(stem: string, wanted: (path: string) => boolean): Promise<Map<string, TarEntry>> {
    const name = [...this.#members.keys()].find((member) => member === stem || member.startsWith(`${stem}.`));
    if (name === undefined) throw this.#damaged(`it has no ${stem}`);
    const found = new Map<string, TarEntry>();
    try {
      for await (const entry of readTar(decompress(this.#members.get(name)!, name), wanted)) {
        if (wanted(entry.path)) found.set(entry.path, entry);
      }
    } catch (error) {
      throw this.#damaged(`${name}: ${messageOf(error)}`, error);
    }
    return found;
  }

  #guard<T>(read: () => T): T {
    try {
      return read();
    } catch (error) {
      throw this.#damaged(messageOf(error), error);
    }
  }

  #damaged(why: string, cause?: unknown): HostError {
    return new HostError(`Cannot unpack the package "${this.name}": ${why}`, { cause });
  }
}

function arMembers(bytes: Uint8Array<ArrayBuffer>): Map<string, Uint8Array<ArrayBuffer>> {
  if (latin1.decode(bytes.subarray(0, 8)) !== "!<arch>\n") throw new Error("it is not a Debian package");
  const members = new Map<string, Uint8Array<ArrayBuffer>>();
  let at = 8;
  while (at + 60 <= bytes.length) {
    const header = latin1.decode(bytes.subarray(at, at + 60));
    const size = Number(header.slice(48, 58).trim());
    if (header.slice(58) !== "`\n" || !Number.isSafeInteger(size) || size < 0) {
      throw new Error("a member's header is malformed");
    }
    const start = at + 60;
    if (start + size > bytes.length) throw new Error("it is cut short");
    members.set(header.slice(0, 16).trimEnd().replace(/\/$/, ""), bytes.subarray(start, start + size));
    at = start + size + (size & 1);
  }
  const version = latin1.decode(members.get("debian-binary"));
  if (!version.startsWith("2.")) throw new Error(`its format is "${version.trim()}", expected 2.0`);
  return members;
}

/** The member's contents as a stream; the compression is told by the name's ending. */
export function decompress(bytes: Uint8Array<ArrayBuffer>, name: string): AsyncIterable<Uint8Array> {
  const stream = (): ReadableStream<Uint8Array<ArrayBuffer>> => new Blob([bytes]).stream();
  if (name.endsWith(".tar")) return stream();
  if (name.endsWith(".gz")) return stream().pipeThrough(new DecompressionStream("gzip"));
  if (name.endsWith(".xz")) return new xz.XzReadableStream(stream());
  if (name.endsWith(".zst")) return Readable.from(slices(bytes)).pipe(createZstdDecompress());
  throw new Error(`it is compressed in an unknown way, expected gz, xz or zst`);
}

function* slices(bytes: Uint8Array): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += 1 << 16) yield bytes.subarray(at, at + (1 << 16));
}
