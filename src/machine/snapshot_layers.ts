/**
 * What a guest wrote to disks with an overlay, put beside a snapshot: for each such disk an image that holds it, with the disk's file
 * behind it. They get their names together with the snapshot, and a machine that is resumed has overlays on them.
 */
import { basename, dirname, join } from "@std/path";
import { HostError, messageOf } from "../base/errors.ts";
import type { Control } from "./control.ts";
import { type DiskIdentity, identify } from "./snapshot_spec.ts";
import type { DiskSpec, MachineSpec } from "./spec.ts";

/** The file of disk `index` beside a snapshot. */
export function layerPath(snapshot: string, index: number): string {
  return `${snapshot}.disk${index}.qcow2`;
}

/** A saved machine's disks, seen from where its snapshot is now. */
export function besideSnapshot(snapshot: string, disks: readonly DiskSpec[]): DiskSpec[] {
  return disks.map((disk) =>
    disk.layer === undefined ? disk : { ...disk, layer: join(dirname(snapshot), basename(disk.layer)) }
  );
}

export class SnapshotLayers {
  private constructor(
    /** The machine, its disks with the images that hold what was written to them, and what the host says of all their files. */
    readonly spec: MachineSpec,
    readonly identities: readonly DiskIdentity[],
    private readonly files: readonly { readonly partial: string; readonly path: string }[],
  ) {}

  /** Has the disks' Worker write them; the machine stands still. Rejects with HostError. */
  static async save(snapshot: string, control: Control, spec: MachineSpec): Promise<SnapshotLayers> {
    const files: { partial: string; path: string }[] = [];
    const saved: DiskSpec[] = [...spec.disks], now: DiskSpec[] = [...spec.disks];
    for (const [i, disk] of spec.disks.entries()) {
      if (!disk.overlay) continue;
      const path = layerPath(snapshot, i), partial = `${path}.${Deno.pid}.partial`;
      if (!await control.saveOverlay(i, partial)) {
        new SnapshotLayers(spec, [], files).abandon();
        throw new HostError(
          `Cannot write the snapshot "${snapshot}": what was written to "${disk.path}" was not saved`,
        );
      }
      files.push({ partial, path });
      saved[i] = { ...disk, layer: basename(path) };
      now[i] = { ...disk, layer: partial };
    }
    return new SnapshotLayers({ ...spec, disks: saved }, identify(now), files);
  }

  /** Gives them their names. Throws HostError. */
  finish(): void {
    try {
      for (const { partial, path } of this.files) Deno.renameSync(partial, path);
    } catch (error) {
      throw new HostError(`Cannot name what was saved of a disk: rename: ${messageOf(error)}`, { cause: error });
    }
  }

  /** Leaves nothing behind. */
  abandon(): void {
    for (const { partial } of this.files) {
      try {
        Deno.removeSync(partial);
      } catch {
        // It has its name.
      }
    }
  }
}
