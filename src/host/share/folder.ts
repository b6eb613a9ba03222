/**
 * A folder of the host that a guest may use: names below it in, operations of the host out, and never anything beyond it.
 *
 * How it stays inside: a path is the names that the guest walked, none of them "..". Before each operation the folder that
 * holds the last name is resolved by the host, and has to come out as it went in, so no name on the way is a symbolic link;
 * the last name itself is never followed (O_NOFOLLOW, lstat, lchown, lutimes), and what was opened is compared afterwards
 * with what is there. Symbolic links are text for the guest, which follows them by itself, among its own files. One thread
 * serves a share, a request at a time, so a guest cannot race itself. A program of the host, or another machine with the
 * same folder, that swaps a folder for a link between the check and the call could lead one call astray: see docs/sharing.md.
 */
import * as fs from "node:fs";
import { HostError, messageOf } from "../../base/errors.ts";
import { Refusal } from "./errno.ts";

/** Who the guest sees as the owner: "host" shows the host's numbers, else the user who runs trike appears under these. */
export type ShareOwner = "host" | { readonly uid: number; readonly gid: number };

export interface FolderOptions {
  readonly path: string;
  readonly readonly: boolean;
  readonly owner: ShareOwner;
}

/** Whom the guest sees where a file is not the running user's: nobody. */
const OVERFLOW_ID = 65534;
const NO_ID = 0xffff_ffff;
const MAX_PATH_BYTES = 4096;
const { O_RDONLY, O_WRONLY, O_RDWR, O_CREAT, O_EXCL, O_APPEND, O_NOFOLLOW, O_NONBLOCK, O_DIRECTORY } = fs.constants;
export const S_IFMT = 0o170000, S_IFDIR = 0o040000, S_IFREG = 0o100000, S_IFLNK = 0o120000;
/** Bits of a mode that would give a program on the host the rights of who owns it. */
const SET_IDS = 0o6000;

/** How a guest opens: the flags of Linux on x86. */
export const OPEN = { ACCMODE: 3, WRONLY: 1, RDWR: 2, EXCL: 0o200, TRUNC: 0o1000, APPEND: 0o2000 } as const;

export class Folder {
  readonly readonly: boolean;
  readonly #root: string;
  readonly #owner: ShareOwner;
  readonly #me: { readonly uid: number; readonly gid: number };
  /** Of the device the folder is on: files of others get other numbers. */
  readonly #dev: number;

  constructor({ path, readonly, owner }: FolderOptions) {
    this.readonly = readonly;
    this.#owner = owner;
    try {
      this.#root = fs.realpathSync(path);
      const stat = fs.lstatSync(this.#root);
      if (!stat.isDirectory()) throw new Error("it is no folder");
      this.#dev = stat.dev;
      this.#me = runningUser() ?? { uid: stat.uid, gid: stat.gid };
    } catch (error) {
      throw new HostError(`Cannot share "${path}": ${messageOf(error)}`, { cause: error });
    }
  }

  /** The host's path of what the guest calls `path`, once the folder that holds it has been checked. */
  #at(path: string): string {
    if (path === "") return this.#root;
    if (path.length > MAX_PATH_BYTES) throw new Refusal("ENAMETOOLONG");
    const slash = path.lastIndexOf("/");
    const parent = slash < 0 ? this.#root : this.#join(path.slice(0, slash));
    if (fs.realpathSync(parent) !== parent) throw new Refusal("ESTALE");
    return this.#join(path);
  }

  #join(path: string): string {
    return this.#root === "/" ? `/${path}` : `${this.#root}/${path}`;
  }

  #mayWrite(): void {
    if (this.readonly) throw new Refusal("EROFS");
  }

  stat(path: string): fs.Stats {
    return fs.lstatSync(this.#at(path));
  }

  /** The number a file has for the guest: its inode, with the device's difference above it. */
  numberOf(stat: fs.Stats): number {
    const other = stat.dev === this.#dev ? 0 : (stat.dev ^ this.#dev) & 0x1f;
    return (stat.ino % 2 ** 48) + other * 2 ** 48;
  }

  ownerOf(stat: fs.Stats): { uid: number; gid: number } {
    if (this.#owner === "host") return { uid: stat.uid, gid: stat.gid };
    return {
      uid: stat.uid === this.#me.uid ? this.#owner.uid : OVERFLOW_ID,
      gid: stat.gid === this.#me.gid ? this.#owner.gid : OVERFLOW_ID,
    };
  }

  /** Names in a folder, in no order. */
  list(path: string): string[] {
    const at = this.#at(path);
    if (fs.realpathSync(at) !== at) throw new Refusal("ENOTDIR");
    return fs.readdirSync(at);
  }

  /** Opens a regular file as the guest's `flags` ask; the descriptor. */
  open(path: string, flags: number): number {
    const writes = (flags & OPEN.ACCMODE) !== 0 || (flags & OPEN.TRUNC) !== 0;
    if (writes) this.#mayWrite();
    const at = this.#at(path), before = fs.lstatSync(at);
    if (before.isSymbolicLink()) throw new Refusal("ELOOP");
    // Devices, pipes and sockets are the guest's own affair: those of the host are not shared.
    if (!before.isFile()) throw new Refusal("ENXIO");
    const fd = fs.openSync(at, hostFlags(flags));
    return this.#checked(fd, path, () => {
      const opened = fs.fstatSync(fd);
      if (opened.ino !== before.ino || opened.dev !== before.dev) throw new Refusal("ESTALE");
      if (flags & OPEN.TRUNC) fs.ftruncateSync(fd, 0);
    });
  }

  /** Makes a regular file and opens it, or opens the one that is there unless `flags` say that there must be none. */
  create(path: string, flags: number, mode: number, uid: number, gid: number): number {
    this.#mayWrite();
    const at = this.#at(path);
    try {
      const fd = fs.openSync(at, hostFlags(flags) | O_CREAT | O_EXCL, 0o600);
      return this.#checked(fd, path, () => {
        fs.fchmodSync(fd, this.#modeOf(mode));
        this.#adopt(at, uid, gid);
      });
    } catch (error) {
      if ((error as { code?: string }).code !== "EEXIST" || flags & OPEN.EXCL) throw error;
      return this.open(path, flags);
    }
  }

  /** Gives back `fd` if `body` and another look at the way to it find nothing wrong. */
  #checked(fd: number, path: string, body: () => void): number {
    try {
      this.#at(path);
      body();
      return fd;
    } catch (error) {
      fs.closeSync(fd);
      throw error;
    }
  }

  makeFolder(path: string, mode: number, uid: number, gid: number): void {
    this.#mayWrite();
    const at = this.#at(path);
    fs.mkdirSync(at, { mode: 0o700 });
    this.#withOpen(at, O_RDONLY | O_DIRECTORY, (fd) => fs.fchmodSync(fd, this.#modeOf(mode)));
    this.#adopt(at, uid, gid);
  }

  /** `target` is any text: nobody here follows it. */
  symlink(path: string, target: string, uid: number, gid: number): void {
    this.#mayWrite();
    if (target === "") throw new Refusal("ENOENT");
    const at = this.#at(path);
    Deno.symlinkSync(target, at);
    this.#adopt(at, uid, gid);
  }

  readLink(path: string): string {
    const at = this.#at(path);
    if (!fs.lstatSync(at).isSymbolicLink()) throw new Refusal("EINVAL");
    return Deno.readLinkSync(at);
  }

  link(from: string, to: string): void {
    this.#mayWrite();
    Deno.linkSync(this.#at(from), this.#at(to));
  }

  rename(from: string, to: string): void {
    this.#mayWrite();
    if (from === "" || to === "") throw new Refusal("EBUSY");
    Deno.renameSync(this.#at(from), this.#at(to));
  }

  unlink(path: string): void {
    this.#mayWrite();
    if (path === "") throw new Refusal("EBUSY");
    const at = this.#at(path);
    if (fs.lstatSync(at).isDirectory()) throw new Refusal("EISDIR");
    fs.unlinkSync(at);
  }

  removeFolder(path: string): void {
    this.#mayWrite();
    if (path === "") throw new Refusal("EBUSY");
    const at = this.#at(path);
    if (!fs.lstatSync(at).isDirectory()) throw new Refusal("ENOTDIR");
    fs.rmdirSync(at);
  }

  /** `fd` is the file's, if it is open, or -1. */
  setMode(path: string, fd: number, mode: number): void {
    this.#mayWrite();
    if (fd >= 0) return fs.fchmodSync(fd, this.#modeOf(mode));
    const at = this.#at(path), stat = fs.lstatSync(at);
    if (stat.isSymbolicLink()) throw new Refusal("EOPNOTSUPP");
    let opened: number;
    try {
      opened = fs.openSync(at, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | (stat.isDirectory() ? O_DIRECTORY : 0));
    } catch {
      fs.chmodSync(at, this.#modeOf(mode)); // one that its owner may not read
      return;
    }
    try {
      fs.fchmodSync(opened, this.#modeOf(mode));
    } finally {
      fs.closeSync(opened);
    }
  }

  /** Null: stays as it is. */
  setOwner(path: string, uid: number | null, gid: number | null): void {
    this.#mayWrite();
    const at = this.#at(path), stat = fs.lstatSync(at);
    if (this.#owner === "host") return fs.lchownSync(at, uid ?? stat.uid, gid ?? stat.gid);
    const now = this.ownerOf(stat);
    if ((uid ?? now.uid) !== now.uid || (gid ?? now.gid) !== now.gid) throw new Refusal("EPERM");
  }

  setSize(path: string, fd: number, sizeBytes: number): void {
    this.#mayWrite();
    if (!Number.isSafeInteger(sizeBytes)) throw new Refusal("EFBIG");
    if (fd >= 0) {
      try {
        return fs.ftruncateSync(fd, sizeBytes);
      } catch {
        // One that is open for reading only.
      }
    }
    const opened = this.open(path, OPEN.WRONLY);
    try {
      fs.ftruncateSync(opened, sizeBytes);
    } finally {
      fs.closeSync(opened);
    }
  }

  /** In seconds since 1970. */
  setTimes(path: string, fd: number, accessed: number, modified: number): void {
    this.#mayWrite();
    if (fd >= 0) fs.futimesSync(fd, accessed, modified);
    else fs.lutimesSync(this.#at(path), accessed, modified);
  }

  /** What was written to a folder, or to a file that is not open, goes to the disk. */
  sync(path: string): void {
    const at = this.#at(path), stat = fs.lstatSync(at);
    if (stat.isDirectory() || stat.isFile()) {
      this.#withOpen(at, O_RDONLY | (stat.isDirectory() ? O_DIRECTORY : 0), (fd) => fs.fsyncSync(fd));
    }
  }

  /** Room on the file system; null if trike may not ask (--allow-sys=statfs). */
  room(): fs.StatsFs | null {
    if (!granted("statfs")) return null;
    try {
      return fs.statfsSync(this.#root);
    } catch {
      return null;
    }
  }

  #withOpen(at: string, flags: number, body: (fd: number) => void): void {
    const fd = fs.openSync(at, flags | O_NOFOLLOW | O_NONBLOCK);
    try {
      body(fd);
    } finally {
      fs.closeSync(fd);
    }
  }

  #modeOf(mode: number): number {
    return mode & 0o7777 & (this.#owner === "host" ? ~0 : ~SET_IDS);
  }

  /** Where the guest's numbers are the host's, what a guest's user makes is that user's, as far as trike may give it away. */
  #adopt(at: string, uid: number, gid: number): void {
    if (this.#owner !== "host") return;
    const stat = fs.lstatSync(at);
    const to = { uid: uid === NO_ID ? stat.uid : uid, gid: gid === NO_ID ? stat.gid : gid };
    if (to.uid === stat.uid && to.gid === stat.gid) return;
    try {
      fs.lchownSync(at, to.uid, to.gid);
    } catch {
      // Only root may: then it stays ours.
    }
  }
}

/** Null if we may not know (--allow-sys=uid,gid). */
function runningUser(): { uid: number; gid: number } | null {
  if (!granted("uid") || !granted("gid")) return null;
  const uid = Deno.uid(), gid = Deno.gid();
  return uid === null || gid === null ? null : { uid, gid };
}

/** Asked before the call, which would ask the user. */
function granted(kind: "uid" | "gid" | "statfs"): boolean {
  return Deno.permissions.querySync({ name: "sys", kind }).state === "granted";
}

/** Never to create or to empty, which `open` and `create` do by themselves. */
function hostFlags(flags: number): number {
  const mode = flags & OPEN.ACCMODE;
  const access = mode === OPEN.WRONLY ? O_WRONLY : mode === OPEN.RDWR ? O_RDWR : O_RDONLY;
  const writable = flags & OPEN.TRUNC && access === O_RDONLY ? O_RDWR : access;
  return writable | O_NOFOLLOW | O_NONBLOCK | (flags & OPEN.APPEND ? O_APPEND : 0);
}
