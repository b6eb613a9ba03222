/**
 * The discs in the CD-ROM drives of a running machine: which there are, and how one is changed.
 *
 * For the main thread. The Worker that owns the disks' files opens a disc and closes the one before it.
 */
import { ConfigError, HostError } from "../base/errors.ts";
import { FileBlock } from "../host/block.ts";
import { ImageLock } from "../host/block_lock.ts";
import { formatOfName } from "../host/disk/format_name.ts";
import { blockOptions } from "./disks.ts";
import type { DiskInfo, Pc } from "./pc.ts";
import type { DiskSpec, MachineSpec } from "./spec.ts";

/** A drive, for who asks from elsewhere. */
export interface DriveState {
  /** cd0, cd1 and so on, in the order in which the disks were given. */
  readonly name: string;
  /** Null if it is empty. */
  readonly path: string | null;
  /** The guest does not want its disc taken. */
  readonly locked: boolean;
  /** The guest has opened the tray. */
  readonly open: boolean;
}

interface Drive {
  readonly name: string;
  /** Among all disks. */
  readonly disk: number;
  spec: DiskSpec;
  /** Of 512 bytes. */
  sectors: number;
  /** Of a disc that was put in later. */
  lock: ImageLock | null;
}

export interface MediaParts {
  readonly pc: Pc;
  /** Runs its argument under the machine lock, unless the machine has ended. */
  readonly withDevices: (body: () => void) => void;
  /** Whether a Worker owns the files; else nobody changes them. */
  readonly exchanges: boolean;
  /** Lets go of the lock on a disk's first file. */
  readonly release: (disk: number) => void;
}

export class Media {
  readonly #drives: Drive[];
  #last: Promise<unknown> = Promise.resolve();

  constructor(private readonly parts: MediaParts, disks: readonly DiskSpec[], infos: readonly DiskInfo[]) {
    this.#drives = disks.flatMap((spec, disk) => spec.controller === "cdrom" ? [{ spec, disk }] : [])
      .map(({ spec, disk }, i) => ({ name: `cd${i}`, disk, spec, sectors: infos[disk]!.sectors, lock: null }));
  }

  list(): DriveState[] {
    return this.#drives.map(({ name, disk, spec }) => {
      const { locked, trayOpen } = this.parts.pc.driveOf(disk)!;
      return { name, path: spec.path === "" ? null : spec.path, locked, open: trayOpen };
    });
  }

  /**
   * Puts another disc into a drive, or takes out what is in it. A drive that the guest has locked is asked to be let go, and left
   * as it is, unless `force` is set. Rejects with ConfigError for what is no drive or no disc, HostError if guest or host
   * refuse; after the host has, the drive is empty.
   */
  change(name: string, path: string | null, force: boolean): Promise<void> {
    const changed = this.#last.then(() => this.#change(name, path, force));
    this.#last = changed.catch(() => {});
    return changed;
  }

  async #change(name: string, path: string | null, force: boolean): Promise<void> {
    const { pc, withDevices, exchanges } = this.parts;
    const drive = this.#drives.find((one) => one.name === name);
    if (!drive) {
      const there = this.#drives.map((one) => one.name).join(", ") || "a disk with controller=cdrom, and there is none";
      throw new ConfigError(`drive "${name}": expected ${there}`);
    }
    if (!exchanges) throw new ConfigError(`drive "${name}": expected a machine without --icount`);
    if (pc.driveOf(drive.disk)!.locked && !force) {
      withDevices(() => pc.driveOf(drive.disk)!.requestEject());
      throw new HostError(
        `The guest has locked the tray of ${name} and is asked to let go: unmount it, or use --force`,
      );
    }
    const next = path === null ? null : openDisc(drive.spec, path);
    const put = (sectors: number) => withDevices(() => pc.driveOf(drive.disk)!.changeMedium(sectors));
    put(0);
    drive.sectors = 0;
    drive.lock?.release();
    drive.lock = next?.lock ?? null;
    this.parts.release(drive.disk);
    drive.spec = { ...drive.spec, path: "" };
    if (!await pc.control.exchangeMedium(drive.disk, path)) {
      drive.lock?.release();
      drive.lock = null;
      throw new HostError(`Cannot put "${path}" into ${name}: the drive is empty`);
    }
    if (!next) return;
    drive.spec = next.spec;
    drive.sectors = next.sectors;
    put(next.sectors);
  }

  /** After the guest's reset, or a snapshot: drives know the discs that are in them. Under the machine lock. */
  settle(): void {
    for (const { disk, sectors } of this.#drives) {
      const device = this.parts.pc.driveOf(disk)!;
      if (Math.floor(sectors / 4) !== device.sectors) device.changeMedium(sectors);
    }
  }

  /** The machine as it is now. */
  applyTo(spec: MachineSpec): MachineSpec {
    const now = new Map(this.#drives.map((drive) => [drive.disk, drive.spec]));
    return { ...spec, disks: spec.disks.map((disk, i) => now.get(i) ?? disk) };
  }

  /** Nothing of the host's is held any more. */
  close(): void {
    for (const drive of this.#drives) {
      drive.lock?.release();
      drive.lock = null;
    }
  }
}

/** Throws ConfigError or HostError for what is no disc. */
function openDisc(drive: DiskSpec, path: string) {
  const { formatAsked: _, ...rest } = drive;
  const spec: DiskSpec = { ...rest, path, format: formatOfName(path) };
  const options = { ...blockOptions(spec), flag: "disc" };
  const file = FileBlock.open(options);
  try {
    return { spec, sectors: file.sectors, lock: ImageLock.take(options) };
  } finally {
    file.close();
  }
}
