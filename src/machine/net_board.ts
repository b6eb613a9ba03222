/** The network's part of the board: which card it is. */
import { E1000Card } from "../../devices/e1000.ts";
import type { NetworkCard } from "../../devices/network_card.ts";
import type { PciHost } from "../../devices/pci/host.ts";
import { VirtioNet } from "../../devices/virtio/net.ts";
import type { Arena } from "../base/arena.ts";
import type { Clock } from "../base/clock.ts";
import type { MsiSink } from "../base/irq.ts";
import type { MachineLock } from "../base/lock.ts";
import type { GuestRam } from "../base/ram.ts";
import type { Timers } from "../base/timers.ts";
import { SLOT } from "./addresses.ts";
import { type Control, NetBell } from "./control.ts";
import type { NetSpec } from "./spec.ts";

export interface NetBoardParts {
  readonly arena: Arena;
  readonly ram: GuestRam;
  readonly msi: MsiSink;
  readonly lock: MachineLock;
  readonly control: Control;
  readonly pci: PciHost;
  readonly clock: Clock;
  readonly timers: Timers;
}

/** Puts the network card on the bus. */
export function assembleNet(p: NetBoardParts, net: NetSpec): { card: NetworkCard; settle: () => void } {
  const { control } = p;
  // These take checksums that are not complete, and segments to be cut, and may give such.
  const offload = net.kind === "user" || net.kind === "tap";
  const options = { mac: Uint8Array.from(net.mac), offload };
  const common = {
    ram: p.ram,
    msi: p.msi,
    locked: (body: () => void) => p.lock.with(body),
    onReset: () => control.ringNet(NetBell.RESET),
  };
  if (net.model === "e1000") {
    const card: E1000Card = new E1000Card(p.arena, "net", {
      ...common,
      clock: p.clock,
      timer: p.timers.timer("net", () => card.settle()),
      notify: (what) => control.ringNet(what === "transmit" ? NetBell.TRANSMIT : NetBell.RECEIVE),
    }, options);
    p.pci.add(SLOT.NET, 0, card);
    return { card, settle: () => card.settle() };
  }
  const pairs = net.queues ?? 1;
  const card: VirtioNet = new VirtioNet(p.arena, "net", {
    ...common,
    notify: (queue) => {
      if (queue === card.controlQueue) control.ringNet(NetBell.CONTROL);
      else control.ringNet(queue & 1 ? NetBell.TRANSMIT << (queue >> 1) : NetBell.RECEIVE);
    },
  }, { ...options, pairs });
  p.pci.add(SLOT.NET, 0, card);
  return { card, settle: () => {} };
}
