/**
 * A writer of cpio archives in the "newc" format, which the Linux kernel unpacks as its initial root file system.
 *
 * Spec: the kernel's "initramfs buffer format" document. Numbers are 8 hexadecimal digits; the name and the data of an entry
 * are each padded to a multiple of 4 bytes; the archive ends with an entry named TRAILER!!!.
 * The bytes depend on the entries alone: inode numbers count up, owners are root, times are zero.
 */

const S_IFIFO = 0o010000;
const S_IFCHR = 0o020000;
const S_IFDIR = 0o040000;
const S_IFBLK = 0o060000;
const S_IFREG = 0o100000;
const S_IFLNK = 0o120000;

const KINDS = { char: S_IFCHR, block: S_IFBLK, fifo: S_IFIFO } as const;

const BLOCK = 512;

interface Node {
  readonly mode: number;
  readonly data: Uint8Array;
  readonly major: number;
  readonly minor: number;
}

const NOTHING = new Uint8Array(0);
const utf8 = new TextEncoder();

/** Collects entries; parent folders are made as needed, before what they hold. Paths are relative to the root: "bin/sh". */
export class CpioWriter {
  readonly #nodes = new Map<string, Node>();

  directory(path: string, permissions = 0o755): void {
    this.#add(path, S_IFDIR | permissions, NOTHING);
  }

  file(path: string, data: Uint8Array | string, permissions = 0o644): void {
    this.#add(path, S_IFREG | permissions, typeof data === "string" ? utf8.encode(data) : data);
  }

  symlink(path: string, target: string): void {
    this.#add(path, S_IFLNK | 0o777, utf8.encode(target));
  }

  device(path: string, kind: keyof typeof KINDS, major: number, minor: number, permissions = 0o600): void {
    this.#add(path, KINDS[kind] | permissions, NOTHING, major, minor);
  }

  has(path: string): boolean {
    return this.#nodes.has(path);
  }

  /** The whole archive, padded to blocks of 512 bytes as cpio itself does. */
  finish(): Uint8Array<ArrayBuffer> {
    const entries: { name: Uint8Array; node: Node }[] = [];
    for (const [path, node] of this.#nodes) entries.push({ name: utf8.encode(path), node });
    entries.push({ name: utf8.encode("TRAILER!!!"), node: { mode: 0, data: NOTHING, major: 0, minor: 0 } });

    let size = 0;
    for (const { name, node } of entries) size += align4(110 + name.length + 1) + align4(node.data.length);
    const out = new Uint8Array(Math.ceil(size / BLOCK) * BLOCK);

    let at = 0;
    entries.forEach(({ name, node }, index) => {
      const trailer = index === entries.length - 1;
      const fields = [
        trailer ? 0 : index + 1, // ino: one of its own for each entry, so that nothing reads as a hard link
        node.mode,
        0, // uid
        0, // gid
        (node.mode & 0o170000) === S_IFDIR ? 2 : 1, // nlink
        0, // mtime
        node.data.length,
        0, // devmajor, devminor: of the file system the entry came from
        0,
        node.major,
        node.minor,
        name.length + 1,
        0, // check: used by the "070702" format only
      ];
      out.set(utf8.encode("070701" + fields.map(hex8).join("")), at);
      out.set(name, at + 110);
      at += align4(110 + name.length + 1);
      out.set(node.data, at);
      at += align4(node.data.length);
    });
    return out;
  }

  #add(path: string, mode: number, data: Uint8Array, major = 0, minor = 0): void {
    const parts = path.split("/");
    if (parts.some((part) => part === "" || part === "." || part === "..") || path.includes("\0")) {
      throw new RangeError(`Cannot archive "${path}": expected a path relative to the root, without "." and ".."`);
    }
    for (let n = 1; n < parts.length; n++) {
      const parent = parts.slice(0, n).join("/");
      if (!this.#nodes.has(parent)) {
        this.#nodes.set(parent, { mode: S_IFDIR | 0o755, data: NOTHING, major: 0, minor: 0 });
      }
    }
    if (this.#nodes.has(path)) throw new RangeError(`Cannot archive "${path}" twice`);
    this.#nodes.set(path, { mode, data, major, minor });
  }
}

function align4(n: number): number {
  return Math.ceil(n / 4) * 4;
}

function hex8(n: number): string {
  return n.toString(16).toUpperCase().padStart(8, "0");
}
