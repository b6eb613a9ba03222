/** What a snapshot keeps of a shared folder: the guest's fids by their names, for a server to take them up again. */
import * as fs from "node:fs";
import { join } from "@std/path";

export const MAX_FIDS = 65536;
export const MAX_LOCKS = 4096;
const MAX_PATH = 4096, MAX_NAME_BYTES = 255;

export interface SavedFid {
  readonly id: number;
  /** Below the folder, which is "". */
  readonly path: string;
  readonly uid: number;
  /** How it was opened; null if it was not. */
  readonly flags: number | null;
  /** Of an open file; null for a folder. */
  readonly inode: number | null;
}

export interface SavedLock {
  readonly fid: number;
  readonly type: number;
  readonly start: number;
  /** Null: up to the end, wherever that is. */
  readonly end: number | null;
  readonly process: number;
  readonly client: string;
}

export interface SavedShare {
  /** Of the folder. */
  readonly inode: number;
  readonly messageBytes: number;
  readonly fids: readonly SavedFid[];
  readonly locks: readonly SavedLock[];
}

/** Whether it is a path that a guest could have walked to. */
export function isWalkedPath(path: unknown): path is string {
  if (typeof path !== "string" || path.length > MAX_PATH || path.includes("\0")) return false;
  return path === "" || path.split("/").every(isFileName);
}

/** Whether it is a name that a file in a folder can have. */
export function isFileName(name: string): boolean {
  return name !== "" && name !== "." && name !== ".." && !name.includes("/") &&
    new TextEncoder().encode(name).length <= MAX_NAME_BYTES;
}

/** Says what a guest that is resumed would not find as it was, or null. */
export function changedShare(saved: SavedShare, folder: string): string | null {
  const root = look(folder);
  if (root === null || !fs.statSync(folder).isDirectory()) return `the shared folder "${folder}" is not there`;
  if (fs.statSync(folder).ino !== saved.inode) return `"${folder}" is another folder than the one that was shared`;
  for (const { path, inode } of saved.fids) {
    if (inode === null) continue;
    const now = look(join(folder, path));
    if (now === null) return `"${path}" in the shared folder "${folder}" was open, and is gone`;
    if (now.ino !== inode) return `"${path}" in the shared folder "${folder}" was open, and is another file now`;
  }
  return null;
}

function look(path: string): fs.Stats | null {
  try {
    return fs.lstatSync(path);
  } catch {
    return null;
  }
}
