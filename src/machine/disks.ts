/** The machine's disks on the host's side: checked before anything runs, served by whoever owns the files. */
import type { BlockBackend } from "../../devices/block_backend.ts";
import { ConfigError, messageOf } from "../base/errors.ts";
import { FileBlock, type FileBlockOptions } from "../host/block.ts";
import { ImageLock } from "../host/block_lock.ts";
import { formatOfName } from "../host/disk/format_name.ts";
import { DiskTask, RunState } from "./control.ts";
import { checkControllers } from "./disk_board.ts";
import type { DiskInfo, Pc } from "./pc.ts";
import { type DiskSpec, MAX_DISKS } from "./spec.ts";

/** Opens every disk once, to learn its size; throws ConfigError or HostError for the first that cannot be used. */
export function checkDisks(disks: readonly DiskSpec[]): DiskInfo[] {
  if (disks.length > MAX_DISKS) {
    throw new ConfigError(`Cannot attach ${disks.length} disks: expected at most ${MAX_DISKS}`);
  }
  checkControllers(disks);
  return disks.map((disk) => {
    if (disk.path === "") return { sectors: 0, readonly: true, note: null };
    const file = FileBlock.open(blockOptions(disk));
    try {
      return { sectors: file.sectors, readonly: disk.readonly, note: file.note, discard: file.reclaims };
    } finally {
      file.close();
    }
  });
}

/** How the file of a disk is opened. */
export function blockOptions(disk: DiskSpec): FileBlockOptions {
  const { path, readonly, format, overlay = false, layer, discard = true } = disk;
  // A format that only the name stands for is left to whoever opens the file, who warns of another within.
  const asked = disk.formatAsked ? { format } : {};
  return { path, readonly, overlay, discard, ...asked, ...layer === undefined ? {} : { layer } };
}

/**
 * Keeps every disk's file from other writers, until released; throws ConfigError if another machine has one. A lock a disk, null
 * where there is none.
 */
export function lockDisks(disks: readonly DiskSpec[]): (ImageLock | null)[] {
  const locks: (ImageLock | null)[] = [];
  try {
    for (const { path, readonly, overlay } of disks) {
      locks.push(path === "" ? null : ImageLock.take({ path, readonly: readonly || overlay === true }));
    }
    return locks;
  } catch (error) {
    for (const lock of locks) lock?.release();
    throw error;
  }
}

/** An open disk of the host's. */
type OpenDisk = BlockBackend & Pick<FileBlock, "close" | "saveOverlay">;

/** What is in a drive without a disc, which asks for nothing. */
const NO_DISC: OpenDisk = {
  read: () => false,
  write: () => false,
  flush: () => true,
  discard: () => false,
  writeZeroes: () => false,
  saveOverlay: () => {},
  close() {},
};

/** The open files of all disks, in the one thread that serves their queues. */
export class DiskServer {
  readonly #files: OpenDisk[];
  /** Rings for what the guest has asked for without this thread's knowledge. */
  onStandstill: () => void = () => {};

  /** `onTrouble` is told what the host fails to do. */
  constructor(
    private readonly pc: Pc,
    private readonly disks: readonly DiskSpec[],
    private readonly onTrouble: (sentence: string) => void,
  ) {
    this.#files = disks.map((disk) =>
      disk.path === "" ? NO_DISC : FileBlock.open({ ...blockOptions(disk), onTrouble })
    );
  }

  /** Puts another medium into a drive, or none. */
  #exchange(disk: number, path: string | null): boolean {
    this.#files[disk]!.close();
    this.#files[disk] = NO_DISC;
    if (path === null) return true;
    try {
      const spec = { ...this.disks[disk]!, path, format: formatOfName(path), formatAsked: false };
      this.#files[disk] = FileBlock.open({ ...blockOptions(spec), onTrouble: this.onTrouble });
      return true;
    } catch (error) {
      this.onTrouble(messageOf(error));
      return false;
    }
  }

  /** Writes what an overlay holds into a file. */
  #saveOverlay(disk: number, path: string): boolean {
    try {
      this.#files[disk]!.saveOverlay(path);
      return true;
    } catch (error) {
      this.onTrouble(messageOf(error));
      return false;
    }
  }

  /** Serves what has been asked for up to now. The machine lock is free. */
  run(): void {
    const { control, disks } = this.pc;
    control.serveTask((task, disk, path) =>
      task === DiskTask.MEDIUM ? this.#exchange(disk, path) : this.#saveOverlay(disk, path!)
    );
    const doorbell = control.diskDoorbell;
    if (doorbell === control.diskServed) return;
    // Nothing may be found later that the guest asked for before it was stopped.
    if (control.state !== RunState.RUN) this.onStandstill();
    for (let d = 0; d < disks.length; d++) {
      const rung = control.takeDisk(d);
      for (let q = 0; rung >>> q !== 0; q++) {
        if ((rung >>> q) & 1 && disks[d]!.processQueue(q, this.#files[d]!)) control.ringDisk(d, q);
      }
    }
    // While the guest stands still its disks are whole in their files: somebody may be about to copy them.
    if (control.state !== RunState.RUN) { for (const file of this.#files) file.flush(); }
    control.diskDone(doorbell);
  }

  close(): void {
    for (const file of this.#files) file.close();
  }
}
