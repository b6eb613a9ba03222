/** The part of the board that serves the guest's comfort: shared folders, vsock, the balloon. Each is there if it is asked for. */
import type { PciHost } from "../../devices/pci/host.ts";
import { VirtioP9 } from "../../devices/virtio/p9.ts";
import { VirtioVsock } from "../../devices/virtio/vsock.ts";
import type { Arena } from "../base/arena.ts";
import type { MsiSink } from "../base/irq.ts";
import type { MachineLock } from "../base/lock.ts";
import type { GuestRam } from "../base/ram.ts";
import { SLOT } from "./addresses.ts";
import { RESET_SHIFT, ServiceBell } from "./service_bell.ts";
import type { MachineSpec } from "./spec.ts";

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
  return {
    shares: shared,
    shareBell,
    vsock,
    vsockBell,
    /** Looks for requests that waited when the machine was saved. Under the machine lock. */
    renotify: () => [...shared, ...(vsock ? [vsock] : [])].forEach((dev) => dev.renotify()),
  };
}
