/** What a guest knows of a shared folder: its fids, each a name that it walked to, and what it has open. */
import * as fs from "node:fs";
import { HostError } from "../../base/errors.ts";
import { Refusal } from "./errno.ts";
import { type Folder, OPEN } from "./folder.ts";
import type { Locks } from "./locks.ts";
import { MAX_FIDS, type SavedFid } from "./saved.ts";

const MAX_OPEN_FILES = 512, MAX_FOLDER_NAMES = 1 << 20;
const NO_FID = 0xffff_ffff;

export interface Fid {
  /** Below the share's root, which is "". */
  path: string;
  /** The guest's user who attached. */
  readonly uid: number;
  /** Of an open regular file, else -1. */
  fd: number;
  /** Of an open folder, once it is read: "." and ".." come first. */
  names: string[] | null;
  open: boolean;
  /** How it was opened. */
  flags: number;
  locked: boolean;
  /** What was open is not there any more since the machine was resumed. */
  stale: boolean;
}

export class Fids {
  readonly #fids = new Map<number, Fid>();
  #openFiles = 0;
  #folderNames = 0;

  constructor(private readonly locks: Locks) {}

  has(id: number): boolean {
    return this.#fids.has(id);
  }

  /** Throws Refusal if there is none of this number, or nothing behind it. */
  get(id: number): Fid {
    const fid = this.#fids.get(id);
    if (!fid) throw new Refusal("EBADF");
    if (fid.stale) throw new Refusal("ESTALE");
    return fid;
  }

  values(): Iterable<Fid> {
    return this.#fids.values();
  }

  add(id: number, path: string, uid: number): Fid {
    if (id === NO_FID || this.#fids.has(id)) throw new Refusal("EBADF");
    if (this.#fids.size >= MAX_FIDS) throw new Refusal("ENFILE");
    const fid = { path, uid, fd: -1, names: null, open: false, flags: 0, locked: false, stale: false };
    this.#fids.set(id, fid);
    return fid;
  }

  drop(id: number): void {
    const fid = this.#fids.get(id);
    if (!fid) return;
    this.#fids.delete(id);
    if (fid.locked) this.locks.release(id);
    this.#forgetNames(fid);
    if (fid.fd >= 0) {
      this.#openFiles--;
      fs.closeSync(fid.fd);
    }
  }

  clear(): void {
    for (const id of [...this.#fids.keys()]) this.drop(id);
  }

  mayOpen(fid: Fid): void {
    if (fid.open) throw new Refusal("EBADF");
    if (this.#openFiles >= MAX_OPEN_FILES) throw new Refusal("ENFILE");
  }

  /** `fd` is -1 for a folder. */
  opened(fid: Fid, fd: number, flags: number): void {
    fid.fd = fd;
    fid.open = true;
    fid.flags = flags;
    if (fd >= 0) this.#openFiles++;
  }

  /** What is in an open folder. */
  setNames(fid: Fid, names: string[]): void {
    this.#forgetNames(fid);
    if (this.#folderNames + names.length > MAX_FOLDER_NAMES) throw new Refusal("ENOMEM");
    fid.names = names;
    this.#folderNames += names.length;
  }

  #forgetNames(fid: Fid): void {
    this.#folderNames -= fid.names?.length ?? 0;
    fid.names = null;
  }

  /** Throws HostError for what is open and has no name to find it by. */
  save(folder: Folder): SavedFid[] {
    return [...this.#fids].map(([id, { path, uid, fd, open, flags }]) => {
      const inode = fd < 0 ? null : fs.fstatSync(fd).ino;
      if (inode !== null && inodeAt(folder, path) !== inode) {
        throw new HostError(`"${path}" of a --share folder is open in the guest and was removed or replaced`);
      }
      return { id, path, uid, flags: open ? flags : null, inode };
    });
  }

  /** Opens again what was open; what is not there is stale from then on. */
  restore(saved: readonly SavedFid[], folder: Folder): void {
    for (const { id, path, uid, flags, inode } of saved) {
      const fid = this.add(id, path, uid);
      if (flags === null) continue;
      if (inode === null) {
        this.opened(fid, -1, flags);
        continue;
      }
      const full = this.#openFiles >= MAX_OPEN_FILES;
      const fd = full ? -1 : reopen(folder, path, flags & ~(OPEN.TRUNC | OPEN.EXCL), inode);
      this.opened(fid, fd, flags);
      fid.stale = fd < 0;
    }
  }
}

function inodeAt(folder: Folder, path: string): number {
  try {
    return folder.stat(path).ino;
  } catch {
    return -1;
  }
}

/** The descriptor, or -1 if it is not that file. */
function reopen(folder: Folder, path: string, flags: number, inode: number): number {
  try {
    const fd = folder.open(path, flags);
    if (fs.fstatSync(fd).ino === inode) return fd;
    fs.closeSync(fd);
  } catch {
    // It is gone, or may not be opened any more.
  }
  return -1;
}
