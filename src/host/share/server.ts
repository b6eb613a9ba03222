/**
 * A file server for one guest: 9P2000.L over a folder of the host.
 *
 * Spec: [ninep §5], [ninep-linux].
 * Served: every message of 9P2000.L. Extended attributes and authentication are refused (EOPNOTSUPP), device nodes, pipes and
 * sockets are not made (EPERM). A message that is none is answered with an error.
 *
 * What a guest can make us hold is bounded: fids, open files, locks, and the names of folders it reads.
 */
import * as fs from "node:fs";
import type { P9Responder } from "../../../devices/virtio/p9.ts";
import { errnoOf, Refusal } from "./errno.ts";
import { type Fid, Fids } from "./fids.ts";
import { Folder, type FolderOptions, OPEN, S_IFLNK, S_IFMT, S_IFREG } from "./folder.ts";
import { type Lock, LOCK_TYPE, Locks } from "./locks.ts";
import { isFileName, type SavedShare } from "./saved.ts";
import { HEADER_BYTES, P9, type Qid, QID_BYTES, Reader, textBytes, Writer } from "./wire.ts";

const VERSION = "9P2000.L";
const NO_TAG = 0xffff, NO_FID = 0xffff_ffff;
export const MIN_MESSAGE_BYTES = 4096;
const MAX_WALK = 16, MAX_NAME_BYTES = 255;
/** Header and count before what is read; header, fid, offset and count before what is written. */
const READ_HEADER = HEADER_BYTES + 4;
const STATFS_TYPE = 0x0102_1997;
const GETATTR_BASIC = 0x7ff;
const AT_REMOVEDIR = 0x200;
const SET = {
  MODE: 1 << 0,
  UID: 1 << 1,
  GID: 1 << 2,
  SIZE: 1 << 3,
  ATIME: 1 << 4,
  MTIME: 1 << 5,
  ATIME_SET: 1 << 7,
  MTIME_SET: 1 << 8,
} as const;
const LOCK_STATUS = { SUCCESS: 0, BLOCKED: 1, ERROR: 2 } as const;
const QT = { DIR: 0x80, SYMLINK: 0x02 } as const;
/** d_type of a directory entry. */
const dType = (mode: number) => (mode & S_IFMT) >> 12;

export class P9Server implements P9Responder {
  readonly #folder: Folder;
  readonly #locks = new Locks();
  readonly #fids = new Fids(this.#locks);
  /** What the driver and we agreed on; 0 before. */
  #messageBytes = 0;

  /** Throws HostError if the folder cannot be shared. */
  constructor(options: FolderOptions) {
    this.#folder = new Folder(options);
  }

  /** Forgets the guest: it has been reset. */
  reset(): void {
    this.#fids.clear();
    this.#locks.clear();
    this.#messageBytes = 0;
  }

  /** What a snapshot has to keep. Throws HostError for what cannot be kept. */
  save(): SavedShare {
    const inode = this.#folder.stat("").ino;
    return { inode, messageBytes: this.#messageBytes, fids: this.#fids.save(this.#folder), locks: this.#locks.save() };
  }

  /** Takes up what was saved, before the first message. Files that are not there any more are stale from then on. */
  restore(saved: SavedShare): void {
    this.reset();
    this.#messageBytes = saved.messageBytes;
    this.#fids.restore(saved.fids, this.#folder);
    for (const { fid: id, type, start, end, process, client } of saved.locks) {
      if (!this.#fids.has(id)) continue;
      try {
        const fid = this.#fids.get(id);
        const lock = { type, start, end: end ?? Infinity, process, client, owner: ownerOf(process, client), fid: id };
        fid.locked = this.#locks.set(this.#fileOf(fid), lock);
      } catch {
        // The file is gone, and its locks with it.
      }
    }
  }

  respond(request: Uint8Array, reply: Uint8Array): number {
    if (reply.length < HEADER_BYTES + 4) return 0;
    const out = new Writer(reply);
    const header = new DataView(request.buffer, request.byteOffset, request.length);
    let tag = NO_TAG, type = 0;
    try {
      if (request.length < HEADER_BYTES) throw new Refusal("EINVAL");
      type = header.getUint8(4);
      tag = header.getUint16(5, true);
      if (header.getUint32(0, true) !== request.length) throw new Refusal("EMSGSIZE");
      this.#serve(type, new Reader(request), out);
      return out.finish(type + 1, tag);
    } catch (error) {
      out.restart();
      out.u32(errnoOf(error));
      return out.finish(P9.LERROR + 1, tag);
    }
  }

  #serve(type: number, m: Reader, out: Writer): void {
    if (type === P9.VERSION) return this.#version(m, out);
    if (this.#messageBytes === 0) throw new Refusal("EINVAL");
    switch (type) {
      case P9.ATTACH:
        return this.#attach(m, out);
      case P9.FLUSH: // what came before has been answered before
        return;
      case P9.WALK:
        return this.#walk(m, out);
      case P9.CLUNK:
        return this.#clunk(m.u32());
      case P9.STATFS:
        return this.#statfs(m, out);
      case P9.LOPEN:
        return this.#lopen(m, out);
      case P9.LCREATE:
        return this.#lcreate(m, out);
      case P9.READ:
        return this.#read(m, out);
      case P9.WRITE:
        return this.#write(m, out);
      case P9.READDIR:
        return this.#readdir(m, out);
      case P9.GETATTR:
        return this.#getattr(m, out);
      case P9.SETATTR:
        return this.#setattr(m);
      case P9.FSYNC:
        return this.#fsync(m);
      case P9.READLINK:
        return out.text(this.#folder.readLink(this.#fid(m.u32()).path));
      case P9.SYMLINK: {
        const fid = this.#fid(m.u32()), path = child(fid.path, m.text()), target = m.text(), gid = m.u32();
        this.#folder.symlink(path, target, fid.uid, gid);
        return out.qid(this.#qidAt(path));
      }
      case P9.MKDIR: {
        const fid = this.#fid(m.u32()), path = child(fid.path, m.text()), mode = m.u32(), gid = m.u32();
        this.#folder.makeFolder(path, mode, fid.uid, gid);
        return out.qid(this.#qidAt(path));
      }
      case P9.MKNOD: {
        const fid = this.#fid(m.u32()), path = child(fid.path, m.text()), mode = m.u32();
        m.u64(); // major, minor
        const gid = m.u32();
        if ((mode & S_IFMT) !== S_IFREG) throw new Refusal("EPERM");
        fs.closeSync(this.#folder.create(path, OPEN.EXCL | OPEN.WRONLY, mode, fid.uid, gid));
        return out.qid(this.#qidAt(path));
      }
      case P9.LINK: {
        const folder = this.#fid(m.u32()), fid = this.#fid(m.u32());
        return this.#folder.link(fid.path, child(folder.path, m.text()));
      }
      case P9.RENAME: {
        const fid = this.#fid(m.u32()), folder = this.#fid(m.u32());
        return this.#rename(fid.path, child(folder.path, m.text()));
      }
      case P9.RENAMEAT: {
        const from = child(this.#fid(m.u32()).path, m.text());
        return this.#rename(from, child(this.#fid(m.u32()).path, m.text()));
      }
      case P9.UNLINKAT: {
        const path = child(this.#fid(m.u32()).path, m.text());
        return m.u32() & AT_REMOVEDIR ? this.#folder.removeFolder(path) : this.#folder.unlink(path);
      }
      case P9.REMOVE:
        return this.#remove(m.u32());
      case P9.LOCK:
        return this.#lock(m, out);
      case P9.GETLOCK:
        return this.#getlock(m, out);
      case P9.AUTH:
      case P9.XATTRWALK:
      case P9.XATTRCREATE:
      default:
        throw new Refusal("EOPNOTSUPP");
    }
  }

  // The session and its fids.

  #version(m: Reader, out: Writer): void {
    const wanted = m.u32(), version = m.text();
    this.reset();
    const size = Math.min(wanted, 512 * 1024);
    if (size < MIN_MESSAGE_BYTES) throw new Refusal("EMSGSIZE");
    const known = version === VERSION;
    if (known) this.#messageBytes = size;
    out.u32(size);
    out.text(known ? VERSION : "unknown");
  }

  #fid(id: number): Fid {
    return this.#fids.get(id);
  }

  #clunk(id: number): void {
    if (!this.#fids.has(id)) throw new Refusal("EBADF");
    this.#fids.drop(id);
  }

  #qid(stat: fs.Stats): Qid {
    const type = stat.isDirectory() ? QT.DIR : stat.isSymbolicLink() ? QT.SYMLINK : 0;
    return { type, version: Math.floor(stat.mtimeMs) >>> 0, path: this.#folder.numberOf(stat) };
  }

  #qidAt(path: string): Qid {
    return this.#qid(this.#folder.stat(path));
  }

  #stat(fid: Fid): fs.Stats {
    return fid.fd >= 0 ? fs.fstatSync(fid.fd) : this.#folder.stat(fid.path);
  }

  #attach(m: Reader, out: Writer): void {
    const id = m.u32();
    if (m.u32() !== NO_FID) throw new Refusal("EOPNOTSUPP");
    m.text(); // the user's name, which the number after the folder's stands for
    m.text();
    const uid = m.u32();
    const qid = this.#qidAt("");
    this.#fids.add(id, "", uid);
    out.qid(qid);
  }

  #walk(m: Reader, out: Writer): void {
    const id = m.u32(), newId = m.u32(), count = m.u16(), fid = this.#fid(id);
    if (count > MAX_WALK) throw new Refusal("EINVAL");
    if (fid.open) throw new Refusal("EBADF");
    if (newId !== id && this.#fids.has(newId)) throw new Refusal("EBADF");
    const names = Array.from({ length: count }, () => m.text());
    const qids: Qid[] = [];
    let path = fid.path;
    try {
      for (const name of names) {
        const from = this.#folder.stat(path);
        if (!from.isDirectory()) throw new Refusal("ENOTDIR");
        const next = name === ".." ? parentOf(path) : name === "." ? path : child(path, name);
        qids.push(this.#qidAt(next));
        path = next;
      }
    } catch (error) {
      // As far as it went; only the first name's failure is the walk's.
      if (qids.length === 0) throw error;
    }
    if (qids.length === count) {
      if (newId === id) fid.path = path;
      else this.#fids.add(newId, path, fid.uid);
    }
    out.u16(qids.length);
    for (const qid of qids) out.qid(qid);
  }

  // Files.

  #lopen(m: Reader, out: Writer): void {
    const fid = this.#fid(m.u32()), flags = m.u32();
    this.#fids.mayOpen(fid);
    const stat = this.#folder.stat(fid.path);
    if (stat.isDirectory()) {
      if (flags & OPEN.ACCMODE) throw new Refusal("EISDIR");
      this.#fids.opened(fid, -1, flags);
    } else this.#fids.opened(fid, this.#folder.open(fid.path, flags), flags);
    out.qid(this.#qid(this.#stat(fid)));
    out.u32(0); // as much at once as a message holds
  }

  #lcreate(m: Reader, out: Writer): void {
    const fid = this.#fid(m.u32()), path = child(fid.path, m.text());
    const flags = m.u32(), mode = m.u32(), gid = m.u32();
    this.#fids.mayOpen(fid);
    this.#fids.opened(fid, this.#folder.create(path, flags, mode, fid.uid, gid), flags);
    fid.path = path;
    out.qid(this.#qid(this.#stat(fid)));
    out.u32(0);
  }

  #file(id: number): number {
    const { fd } = this.#fid(id);
    if (fd < 0) throw new Refusal("EBADF");
    return fd;
  }

  #read(m: Reader, out: Writer): void {
    const fd = this.#file(m.u32()), offset = position(m.u64());
    const max = Math.min(m.u32(), this.#messageBytes - READ_HEADER);
    out.counted(max, (into) => into.length === 0 ? 0 : fs.readSync(fd, into, 0, into.length, offset));
  }

  #write(m: Reader, out: Writer): void {
    const fd = this.#file(m.u32()), offset = position(m.u64());
    const bytes = m.bytesOf(m.u32());
    if (this.#folder.readonly) throw new Refusal("EROFS");
    out.u32(bytes.length === 0 ? 0 : fs.writeSync(fd, bytes, 0, bytes.length, offset));
  }

  #readdir(m: Reader, out: Writer): void {
    const fid = this.#fid(m.u32()), offset = m.u64(), max = Math.min(m.u32(), this.#messageBytes - READ_HEADER);
    if (!fid.open || fid.fd >= 0) throw new Refusal("EBADF");
    if (offset === 0 || fid.names === null) {
      this.#fids.setNames(fid, [".", "..", ...this.#folder.list(fid.path)]);
    }
    const names = fid.names!;
    const bytes = new Uint8Array(HEADER_BYTES + Math.min(max, out.room - 4));
    const w = new Writer(bytes);
    let end = 0;
    for (let i = offset; i < names.length; i++) {
      const name = names[i]!;
      const size = QID_BYTES + 8 + 1 + 2 + textBytes(name);
      if (size > w.room) break;
      const path = i === 0 ? fid.path : i === 1 ? parentOf(fid.path) : child(fid.path, name);
      let stat: fs.Stats;
      try {
        stat = this.#folder.stat(path);
      } catch {
        continue; // removed meanwhile
      }
      w.qid(this.#qid(stat));
      w.u64(i + 1);
      w.u8(dType(stat.mode));
      w.text(name);
      end += size;
    }
    out.counted(end, (into) => {
      into.set(bytes.subarray(HEADER_BYTES, HEADER_BYTES + end));
      return end;
    });
  }

  #fsync(m: Reader): void {
    const fid = this.#fid(m.u32());
    if (fid.fd < 0) return this.#folder.sync(fid.path);
    // Older clients do not say whether the data alone will do.
    fs.fsyncSync(fid.fd);
  }

  #rename(from: string, to: string): void {
    this.#folder.rename(from, to);
    // What was below the old name is below the new one now.
    for (const fid of this.#fids.values()) {
      if (fid.path === from) fid.path = to;
      else if (fid.path.startsWith(`${from}/`)) fid.path = to + fid.path.slice(from.length);
    }
  }

  #remove(id: number): void {
    try {
      const { path } = this.#fid(id);
      if (this.#folder.stat(path).isDirectory()) this.#folder.removeFolder(path);
      else this.#folder.unlink(path);
    } finally {
      this.#fids.drop(id); // whether it went or not
    }
  }

  // Attributes.

  #getattr(m: Reader, out: Writer): void {
    const fid = this.#fid(m.u32()), stat = this.#stat(fid), { uid, gid } = this.#folder.ownerOf(stat);
    out.u64(GETATTR_BASIC);
    out.qid(this.#qid(stat));
    out.u32((stat.mode & S_IFMT) === S_IFLNK ? S_IFLNK | 0o777 : stat.mode);
    out.u32(uid);
    out.u32(gid);
    for (const value of [stat.nlink, stat.rdev, stat.size, stat.blksize, stat.blocks]) out.u64(value);
    for (const ms of [stat.atimeMs, stat.mtimeMs, stat.ctimeMs, 0]) {
      const whole = Math.max(0, Math.floor(ms));
      out.u64(Math.floor(whole / 1000));
      out.u64((whole % 1000) * 1e6);
    }
    out.u64(0); // generation
    out.u64(0); // data version
  }

  #setattr(m: Reader): void {
    const fid = this.#fid(m.u32()), valid = m.u32(), mode = m.u32(), uid = m.u32(), gid = m.u32(), size = m.u64();
    const times = [m.u64() + m.u64() / 1e9, m.u64() + m.u64() / 1e9] as const;
    const { path, fd } = fid;
    if (valid & SET.SIZE) this.#folder.setSize(path, fd, size);
    if (valid & (SET.UID | SET.GID)) {
      this.#folder.setOwner(path, valid & SET.UID ? uid : null, valid & SET.GID ? gid : null);
    }
    if (valid & SET.MODE) this.#folder.setMode(path, fd, mode);
    if (valid & (SET.ATIME | SET.MTIME)) {
      const stat = this.#stat(fid), now = Date.now() / 1000;
      const one = (set: number, explicit: number, given: number, was: number) =>
        !(valid & set) ? was / 1000 : valid & explicit ? given : now;
      this.#folder.setTimes(
        path,
        fd,
        one(SET.ATIME, SET.ATIME_SET, times[0], stat.atimeMs),
        one(SET.MTIME, SET.MTIME_SET, times[1], stat.mtimeMs),
      );
    }
  }

  #statfs(m: Reader, out: Writer): void {
    this.#fid(m.u32());
    const room = this.#folder.room();
    out.u32(STATFS_TYPE);
    out.u32(room?.bsize ?? 4096);
    for (const n of [room?.blocks, room?.bfree, room?.bavail, room?.files, room?.ffree]) out.u64(n ?? 0);
    out.u64(0);
    out.u32(MAX_NAME_BYTES);
  }

  // Locks.

  #lockOf(m: Reader, id: number): Lock {
    const type = m.u8();
    if (type > LOCK_TYPE.UNLOCK) throw new Refusal("EINVAL");
    return { type, ...this.#range(m, id) };
  }

  #range(m: Reader, fid: number): Omit<Lock, "type"> {
    const start = m.u64(), length = m.u64(), process = m.u32(), client = m.text();
    // No length is up to the end, wherever that will be.
    const end = length === 0 ? Infinity : start + length;
    return { start, end, process, client, owner: ownerOf(process, client), fid };
  }

  #fileOf(fid: Fid): string {
    const stat = this.#stat(fid);
    return `${stat.dev}:${stat.ino}`;
  }

  #lock(m: Reader, out: Writer): void {
    const id = m.u32(), fid = this.#fid(id), type = m.u8();
    m.u32(); // whether to wait: the client asks again
    if (type > LOCK_TYPE.UNLOCK) throw new Refusal("EINVAL");
    const wanted = { type, ...this.#range(m, id) }, file = this.#fileOf(fid);
    if (this.#locks.conflict(file, wanted)) return out.u8(LOCK_STATUS.BLOCKED);
    fid.locked = true;
    out.u8(this.#locks.set(file, wanted) ? LOCK_STATUS.SUCCESS : LOCK_STATUS.ERROR);
  }

  #getlock(m: Reader, out: Writer): void {
    const id = m.u32(), fid = this.#fid(id), wanted = this.#lockOf(m, id);
    const held = this.#locks.conflict(this.#fileOf(fid), wanted);
    const answer = held ?? { ...wanted, type: LOCK_TYPE.UNLOCK };
    out.u8(answer.type);
    out.u64(answer.start);
    out.u64(answer.end === Infinity ? 0 : answer.end - answer.start);
    out.u32(answer.process);
    out.text(answer.client);
  }
}

function parentOf(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf("/")));
}

function ownerOf(process: number, client: string): string {
  return `${process} ${client.slice(0, 256)}`;
}

/** Throws Refusal for what is no name of a file in a folder. */
function child(folder: string, name: string): string {
  if (textBytes(name) > MAX_NAME_BYTES) throw new Refusal("ENAMETOOLONG");
  if (!isFileName(name)) throw new Refusal("EINVAL");
  return folder === "" ? name : `${folder}/${name}`;
}

function position(offset: number): number {
  if (!Number.isSafeInteger(offset)) throw new Refusal("EFBIG");
  return offset;
}
