/** Virtio devices that connect guest and host, mounted for the laws. */
import { VirtioBalloon } from "../../devices/virtio/balloon.ts";
import { VirtioP9 } from "../../devices/virtio/p9.ts";
import { VirtioTablet } from "../../devices/virtio/tablet.ts";
import { VirtioVsock, type VsockHeader } from "../../devices/virtio/vsock.ts";
import type { Subject } from "./bench.ts";
import { mountVirtio, msi, ramOf } from "./pci_subjects.ts";

const PACKET: VsockHeader = {
  srcCid: 2,
  dstCid: 3,
  srcPort: 1,
  dstPort: 2,
  type: 1,
  op: 5,
  flags: 0,
  bufAlloc: 4096,
  fwdCnt: 0,
};

export const SERVICE_SUBJECTS: readonly Subject[] = [
  {
    name: "virtio-9p",
    mount(bench) {
      const ram = ramOf(bench);
      const server = {
        respond(request: Uint8Array, reply: Uint8Array) {
          bench.note(`asked ${request.length} ${request[0]} ${reply.length}`);
          return Math.min(11, reply.length);
        },
      };
      const dev: VirtioP9 = new VirtioP9(bench.arena, "share", {
        ram,
        msi: msi(bench),
        notify: () => void dev.process(server),
        onReset: () => bench.note("reset"),
      }, "share0");
      return mountVirtio(bench, ram, dev);
    },
  },
  {
    name: "virtio-vsock",
    mount(bench) {
      const ram = ramOf(bench);
      const dev: VirtioVsock = new VirtioVsock(bench.arena, "vsock", {
        ram,
        msi: msi(bench),
        notify: () => void dev.transmit((h, data) => bench.note(`${h.srcCid}>${h.dstCid} ${h.op} ${data.length}`)),
        onReset: () => bench.note("reset"),
      }, 3);
      const data = new Uint8Array(600).fill(7);
      return mountVirtio(bench, ram, dev, [
        (random) => bench.note(`took ${dev.deliver(PACKET, data.subarray(0, random.below(600)))}`),
        () => dev.transportReset(),
      ]);
    },
  },
  {
    name: "virtio-tablet",
    mount(bench) {
      const ram = ramOf(bench);
      const dev = new VirtioTablet(bench.arena, "tablet", { ram, msi: msi(bench) });
      return mountVirtio(bench, ram, dev, [
        (random) => dev.point(random.below(0x9000), random.below(0x9000), random.below(16), random.below(5) - 2),
        () => bench.note(`used ${dev.used}`),
      ]);
    },
  },
  {
    name: "virtio-balloon",
    mount(bench) {
      const ram = ramOf(bench);
      const dev: VirtioBalloon = new VirtioBalloon(bench.arena, "balloon", {
        ram,
        msi: msi(bench),
        notify: () => void dev.process((gpa, size) => bench.note(`back ${gpa} ${size}`)),
      }, 2);
      return mountVirtio(bench, ram, dev, [
        (random) => dev.want(random.below(8)),
        () => dev.askStats(),
        () => bench.note(`${dev.actualPages} ${JSON.stringify(dev.stats)}`),
      ]);
    },
  },
];
