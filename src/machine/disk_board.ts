/** The disks' part of the board: which controller each is attached to, and where on the bus. */
import { Ahci } from "../../devices/ahci.ts";
import type { AhciDevice } from "../../devices/ahci_port.ts";
import { AHCI_PORTS } from "../../devices/ahci_registers.ts";
import type { BlockBackend } from "../../devices/block_backend.ts";
import { Nvme } from "../../devices/nvme.ts";
import type { PciHost } from "../../devices/pci/host.ts";
import { VirtioBlock } from "../../devices/virtio/block.ts";
import { LAYOUT, NOTIFY_MULTIPLIER, STRUCTURES_BAR } from "../../devices/virtio/registers.ts";
import type { Arena } from "../base/arena.ts";
import { ConfigError } from "../base/errors.ts";
import type { MsiSink } from "../base/irq.ts";
import type { MachineLock } from "../base/lock.ts";
import type { GuestRam } from "../base/ram.ts";
import { ADDRESS, SLOT } from "./addresses.ts";
import type { Control } from "./control.ts";
import type { DiskInfo } from "./pc.ts";
import type { DiskSpec, MachineSpec } from "./spec.ts";

/** A disk as whoever owns its file serves it. */
export interface ServedDisk {
  /** Serves what waits on a queue, without the machine lock; true: call again, more is waiting. */
  processQueue(queue: number, backend: BlockBackend): boolean;
}

export interface DiskBoardParts {
  readonly arena: Arena;
  readonly ram: GuestRam;
  readonly msi: MsiSink;
  readonly lock: MachineLock;
  readonly control: Control;
  readonly pci: PciHost;
}

/** Request queues of a virtio disk, at most: one a vCPU. */
const MAX_QUEUES = 4;
/** The SATA controller is where the chipset has it: function 2 beside the LPC bridge. */
export const AHCI_FUNCTION = 2;

/** Throws ConfigError if the board has no place for so many. */
export function checkControllers(disks: readonly DiskSpec[]): void {
  const sata = disks.filter(isSata);
  if (sata.length > AHCI_PORTS) {
    const last = sata[AHCI_PORTS]!;
    throw new ConfigError(
      `--disk ${last.path}: found ${sata.length} disks for controller=ahci and controller=cdrom, expected at most ${AHCI_PORTS}`,
    );
  }
}

export function isSata({ controller }: DiskSpec): boolean {
  return controller === "ahci" || controller === "cdrom";
}

/** Places the disks in the order given; the SATA controller is there only if a disk is attached to it. */
export function assembleDisks(p: DiskBoardParts, spec: MachineSpec, infos: readonly DiskInfo[]) {
  const common = { ram: p.ram, msi: p.msi, locked: (body: () => void) => p.lock.with(body) };
  const identity = (d: number) => ({
    sectors: infos[d]!.sectors,
    readonly: infos[d]!.readonly,
    serial: spec.disks[d]?.serial ?? `disk${d}`,
    discard: infos[d]!.discard ?? false,
  });

  // The ports of the SATA controller: which disk is at each.
  const ports: number[] = infos.flatMap((_, d) => spec.disks[d] && isSata(spec.disks[d]!) ? [d] : []);
  const devices = ports.map((d): AhciDevice => ({
    ...identity(d),
    kind: spec.disks[d]!.controller === "cdrom" ? "cdrom" : "disk",
  }));
  const notify = (port: number) => ports[port] !== undefined && p.control.ringDisk(ports[port]!, 0);
  const ahci = ports.length > 0
    ? p.pci.add(SLOT.LPC, AHCI_FUNCTION, new Ahci(p.arena, "ahci", { ...common, notify }, devices))
    : null;

  const virtio: VirtioBlock[] = [], nvme: Nvme[] = [];
  const served = infos.map((_, d): ServedDisk => {
    const port = ports.indexOf(d);
    if (ahci && port >= 0) return { processQueue: (_, backend) => ahci.processPort(port, backend) };
    const parts = { ...common, notify: (queue: number) => p.control.ringDisk(d, queue) };
    if (spec.disks[d]?.controller === "nvme") {
      const dev = p.pci.add(SLOT.FIRST_DISK + d, 0, new Nvme(p.arena, `disk${d}`, parts, identity(d)));
      nvme.push(dev);
      return dev;
    }
    const { sectors, readonly, serial, discard } = identity(d);
    const queues = Math.min(spec.cpus, MAX_QUEUES);
    const options = { capacitySectors: sectors, readonly, serial, discard, queues };
    const dev = p.pci.add(SLOT.FIRST_DISK + d, 0, new VirtioBlock(p.arena, `disk${d}`, parts, options));
    virtio.push(dev);
    return dev;
  });
  const settled = [...(ahci ? [ahci] : []), ...nvme];
  return {
    served,
    /** The CD-ROM drive that is disk `d`; null for what is none. */
    driveOf: (d: number) => ahci?.ports[ports.indexOf(d)]?.drive ?? null,
    /** Where drivers ring for the virtio disks. Under the machine lock. */
    notifyAddresses: (): number[] =>
      virtio.flatMap((dev) => {
        const base = p.pci.memoryAt(dev, STRUCTURES_BAR);
        return base < ADDRESS.PCI_MEMORY
          ? []
          : dev.queues.map((_, queue) => base + LAYOUT.NOTIFY + queue * NOTIFY_MULTIPLIER);
      }),
    /** Rings for every queue of the virtio disks, as bits of a disk's. */
    ringVirtio: () =>
      served.forEach((dev, d) => {
        if (dev instanceof VirtioBlock) dev.queues.forEach((_, queue) => p.control.ringDisk(d, queue));
      }),
    /** Drives outputs from the records. Under the machine lock. */
    settle: () => settled.forEach((dev) => dev.settle()),
    /** Looks for requests that waited when the machine was saved. Under the machine lock. */
    renotify: () => [...settled, ...virtio].forEach((dev) => dev.renotify()),
  };
}
