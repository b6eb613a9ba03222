/**
 * The order in which firmware tries to boot, as it reads it in the file "bootorder" of the configuration device: a line for each
 * device, which is a path of Open Firmware's kind with numbers in hexadecimal; then "HALT", for nothing else is to be tried.
 */
import { SLOT } from "./addresses.ts";
import { AHCI_FUNCTION, isSata } from "./disk_board.ts";
import type { BootSource, DiskSpec, MachineSpec } from "./spec.ts";

const ROOT = "/pci@i0cf8";

export function bootOrder(spec: MachineSpec, sources: readonly BootSource[]): string {
  const sata = spec.disks.filter(isSata);
  const disks = (cds: boolean) =>
    spec.disks.flatMap((disk, d) =>
      (disk.controller === "cdrom") === cds ? [pathOfDisk(disk, d, sata.indexOf(disk))] : []
    );
  const paths: Readonly<Record<BootSource, () => readonly string[]>> = {
    disk: () => disks(false),
    cdrom: () => disks(true),
    net: () => spec.net ? [`${ROOT}/ethernet@${SLOT.NET.toString(16)}/ethernet-phy@0`] : [],
  };
  return [...sources.flatMap((source) => paths[source]()), "HALT"].join("\n") + "\0";
}

function pathOfDisk(disk: DiskSpec, d: number, port: number): string {
  const slot = (SLOT.FIRST_DISK + d).toString(16);
  // The names of functions that are no virtio disks are those firmware expects: an ICH9's SATA controller, an NVMe one.
  if (port >= 0) return `${ROOT}/pci8086,2922@${SLOT.LPC.toString(16)},${AHCI_FUNCTION}/drive@${port}/disk@0`;
  if (disk.controller === "nvme") return `${ROOT}/pci8086,5845@${slot}/namespace@1,0`;
  return `${ROOT}/scsi@${slot}/disk@0,0`;
}
