/** The part of the board that serves the guest's comfort: shared folders, vsock, the balloon. Each is there if it is asked for. */
import type { PciHost } from "../../devices/pci/host.ts";
import { BALLOON_PAGE_BYTES, VirtioBalloon } from "../../devices/virtio/balloon.ts";
import { VirtioP9 } from "../../devices/virtio/p9.ts";
import { VirtioVsock } from "../../devices/virtio/vsock.ts";
import type { Arena } from "../base/arena.ts";
import type { MsiSink } from "../base/irq.ts";
import type { MachineLock } from "../base/lock.ts";
import type { GuestRam } from "../base/ram.ts";
import { SLOT } from "./addresses.ts";
import { RESET_SHIFT, ServiceBell } from "./service_bell.ts";
import type { MachineSpec } from "./spec.ts";

/** What the balloon's Worker is to look at. */
export const BALLOON_BELL = { QUEUES: 1, STATS: 2 } as const;

export interface ServiceBoardParts {
  readonly arena: Arena;
  readonly ram: GuestRam;
  readonly msi: MsiSink;
  readonly lock: MachineLock;
  readonly pci: PciHost;
}

/** Puts the devices on the bus, each with the bell of the Worker that serves it. */
export function assembleServices(p: ServiceBoardParts, spec: MachineSpec) {
  const common = { ram: p.ram, msi: p.msi, locked: (body: () => void) => p.lock.with(body) };
  const { shares = [] } = spec;
  const shareBell = shares.length > 0 ? new ServiceBell(p.arena) : null;
  const shared = shares.map(({ tag }, i) =>
    p.pci.add(
      SLOT.FIRST_SHARE + i,
      0,
      new VirtioP9(p.arena, `share${i}`, {
        ...common,
        notify: () => shareBell!.ring(1 << i),
        onReset: () => shareBell!.ring(1 << (RESET_SHIFT + i)),
      }, tag),
    )
  );
  const vsockBell = spec.vsock ? new ServiceBell(p.arena) : null;
  const vsock = spec.vsock
    ? p.pci.add(
      SLOT.VSOCK,
      0,
      new VirtioVsock(p.arena, "vsock", {
        ...common,
        notify: () => vsockBell!.ring(1),
        onReset: () => vsockBell!.ring(1 << RESET_SHIFT),
      }, spec.vsock.cid),
    )
    : null;
  const balloonBell = spec.balloon ? new ServiceBell(p.arena) : null;
  const balloon = spec.balloon
    ? p.pci.add(
      SLOT.BALLOON,
      0,
      new VirtioBalloon(
        p.arena,
        "balloon",
        { ...common, notify: () => balloonBell!.ring(BALLOON_BELL.QUEUES) },
        spec.balloon.sizeBytes / BALLOON_PAGE_BYTES,
      ),
    )
    : null;
  const devices = [...shared, vsock, balloon].filter((dev) => dev !== null);
  return {
    balloon,
    balloonBell,
    shares: shared,
    shareBell,
    vsock,
    vsockBell,
    /** Looks for requests that waited when the machine was saved. Under the machine lock. */
    renotify: () => devices.forEach((dev) => dev.renotify()),
  };
}
