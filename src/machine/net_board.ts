/** The network's part of the board: which card it is. */
import { E1000Card } from "../../devices/e1000.ts";
import type { NetworkCard } from "../../devices/network_card.ts";
import { PCI, type PciFunction } from "../../devices/pci/function.ts";
import type { PciHost } from "../../devices/pci/host.ts";
import { VirtioNet } from "../../devices/virtio/net.ts";
import type { Arena } from "../base/arena.ts";
import type { Clock } from "../base/clock.ts";
import type { MsiSink } from "../base/irq.ts";
import type { MachineLock } from "../base/lock.ts";
import type { GuestRam } from "../base/ram.ts";
import type { Timers } from "../base/timers.ts";
import { dedicate } from "../boot/option_rom.ts";
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
  /** The memory of its option ROM; empty for none. */
  readonly rom: Uint8Array;
}

/** Where in the memory after guest RAM a ROM is. */
export interface RomInfo {
  readonly at: number;
  readonly bytes: number;
}

export interface NetBoard {
  readonly card: NetworkCard;
  settle(): void;
  /** Makes an option ROM one for this card, and puts it where the guest will find it. */
  loadRom(bytes: Uint8Array): void;
}

/** Puts the network card on the bus. */
export function assembleNet(p: NetBoardParts, net: NetSpec): NetBoard {
  const { control } = p;
  // These take checksums that are not complete, and segments to be cut, and may give such.
  const offload = net.kind === "user" || net.kind === "tap";
  const options = { mac: Uint8Array.from(net.mac), offload, rom: p.rom };
  const loadRom = (card: PciFunction) => (bytes: Uint8Array) => {
    dedicate(bytes, card.readConfig(PCI.VENDOR_ID, 2), card.readConfig(PCI.DEVICE_ID, 2));
    p.rom.set(bytes);
  };
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
    return { card, settle: () => card.settle(), loadRom: loadRom(card) };
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
  return { card, settle: () => {}, loadRom: loadRom(card) };
}
