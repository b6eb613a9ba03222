import { assert, assertEquals } from "@std/assert";
import { Arena } from "../../src/base/arena.ts";
import { GuestRam } from "../../src/base/ram.ts";
import { PciHost, PciHostRecord } from "../pci/host.ts";
import { NET_ACK, NET_CTRL, NET_FEATURE, VirtioNet, type VirtioNetOptions } from "./net.ts";
import type { FrameOffload } from "./net_header.ts";
import { PciDriver } from "./pci_driver.ts";
import { CFG_TYPE, DEVICE_STATUS, FEATURE } from "./registers.ts";

const { MAC, STATUS, MRG_RXBUF, CSUM, HOST_TSO4, GUEST_CSUM, GUEST_TSO4, CTRL_VQ, CTRL_RX, CTRL_MAC_ADDR } =
  NET_FEATURE;
const { CTRL_GUEST_OFFLOADS, MQ } = NET_FEATURE;
const OFFLOADS = [CSUM, HOST_TSO4, GUEST_CSUM, GUEST_TSO4, CTRL_GUEST_OFFLOADS];
const CONTROL = [CTRL_VQ, CTRL_RX, CTRL_MAC_ADDR];
const ADDRESS = Uint8Array.of(2, 3, 4, 5, 6, 7);
const RX = 0, TX = 1, CTRL = 2;

function fixture(features: readonly number[] = [MRG_RXBUF], options: Partial<VirtioNetOptions> = {}) {
  const arena = Arena.private(1 << 22);
  const ram = GuestRam.private();
  const host = new PciHost(arena.place("host", PciHostRecord));
  const sent: { frame: number[]; offload: FrameOffload }[] = [];
  const rung: number[] = [];
  let resets = 0;
  const dev = host.add(
    2,
    0,
    new VirtioNet(arena, "net", {
      ram,
      msi: { send: () => {} },
      notify: (i) => rung.push(i),
      onReset: () => resets++,
    }, { mac: ADDRESS, offload: true, ...options }),
  );
  arena.powerOn();
  host.assignResources({ base: 0xc0000000, end: 0xc1000000 }, { base: 0x1000, end: 0x2000 });
  const drv = new PciDriver({ ecam: host.ecam, memory: host.memoryWindow(0), ram, devfn: 16, ringsAt: 0x10000 });
  assertEquals(drv.negotiate([FEATURE.VERSION_1, MAC, STATUS, ...features]), true);
  drv.start(16);
  rung.length = 0;
  const transmit = () => dev.transmit(0, (frame, offload) => sent.push({ frame: [...frame], offload: { ...offload } }));
  const command = (...bytes: number[]) => {
    drv.queues[CTRL]!.add([Uint8Array.from(bytes), 1]);
    drv.notify(CTRL);
    dev.serveControl();
    return drv.queues[CTRL]!.collect()!.bytes[0];
  };
  return { ram, dev, drv, sent, rung, transmit, command, resets: () => resets };
}

const frame = (n: number) => Uint8Array.from({ length: n }, (_, i) => i * 3);
const header = (...bytes: number[]) => Uint8Array.from({ length: 12 }, (_, i) => bytes[i] ?? 0);

Deno.test("the configuration structure shows the MAC address, the link and one pair of queues", () => {
  const { drv, dev } = fixture();
  const config = (at: number, size: number) => drv.structure(CFG_TYPE.DEVICE, at, size);
  assertEquals(Array.from({ length: 6 }, (_, i) => config(i, 1)), [...ADDRESS]);
  assertEquals([config(6, 2), config(8, 2)], [1, 1]);
  const generation = drv.common("config_generation");
  dev.setLink(false);
  assertEquals(config(6, 2), 0);
  assert(drv.common("config_generation") !== generation, "a change counts");
  assertEquals(drv.isr() & 2, 2, "and interrupts");
});

Deno.test("a frame to send is taken whole from all its buffers; its chain is used with length 0", () => {
  const { drv, transmit, sent, rung } = fixture();
  drv.queues[TX]!.add([header(), frame(60).subarray(0, 14), frame(60).subarray(14)]);
  drv.notify(TX);
  assertEquals(rung, [TX]);
  assertEquals(transmit(), false);
  assertEquals(sent.map((s) => s.frame), [[...frame(60)]]);
  assertEquals(drv.queues[TX]!.collect()!.written, 0);
  drv.queues[TX]!.add([new Uint8Array([...header(), ...frame(60)])]);
  transmit();
  assertEquals(sent.length, 2, "the header and the frame may share a buffer");
});

Deno.test("what cannot be a frame, or asks for offloads that were not negotiated, is swallowed", () => {
  const { drv, transmit, sent } = fixture([MRG_RXBUF, CSUM]);
  const q = drv.queues[TX]!;
  q.add([header(), frame(13)]);
  q.add([header().subarray(0, 5)]);
  q.add([header(1, 1, 54, 0, 0xb4, 5, 34, 0, 16, 0), frame(3000)]); // segmentation without HOST_TSO4
  q.add([header(1, 0, 0, 0, 0, 0, 60, 0, 16, 0), frame(60)]); // a checksum behind the frame
  q.add([header(0, 1, 54, 0, 0xb4, 5), frame(60)]); // segmentation without a checksum to finish
  q.add([header(1, 0, 0, 0, 0, 0, 34, 0, 16, 0), frame(60)]);
  transmit();
  assertEquals(sent.map((s) => s.offload), [{ csumStart: 34, csumOffset: 16, gsoSize: 0, gsoType: 0, headerBytes: 0 }]);
  for (let i = 0; i < 6; i++) assert(q.collect(), "every chain comes back");
});

Deno.test("a frame for the guest goes behind a header that counts one buffer", () => {
  const { drv, dev } = fixture();
  drv.queues[RX]!.add([1600]);
  assertEquals(dev.deliver(0, frame(100)), "delivered");
  dev.flush();
  const used = drv.queues[RX]!.collect()!;
  assertEquals(used.written, 112);
  assertEquals([...used.bytes.subarray(0, 112)], [...header(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1), ...frame(100)]);
});

Deno.test("mergeable buffers: a frame spreads over as many as it takes, and the first one counts them", () => {
  const { drv, dev } = fixture();
  for (let i = 0; i < 5; i++) drv.queues[RX]!.add([11, 89]); // num_buffers lies across two buffers of a chain
  assertEquals(dev.deliver(0, frame(250)), "delivered");
  dev.flush();
  const used = [0, 1, 2].map(() => drv.queues[RX]!.collect()!);
  assertEquals(used.map((u) => u.written), [100, 100, 62]);
  const all = used.flatMap((u) => [...u.bytes.subarray(0, u.written)]);
  assertEquals(all.slice(10, 12), [3, 0]);
  assertEquals(all.slice(12), [...frame(250)]);
  assertEquals(drv.queues[RX]!.collect(), null);
});

Deno.test("a frame that does not fit waits: nothing is used, and the next buffers are announced", () => {
  const { drv, dev, rung } = fixture();
  drv.queues[RX]!.add([100]);
  assertEquals(dev.deliver(0, frame(150)), "full");
  dev.flush();
  assertEquals(drv.queues[RX]!.collect(), null);
  assert(drv.queues[RX]!.wantsNotify);
  drv.queues[RX]!.add([100]);
  drv.notify(RX);
  assertEquals(rung, [RX]);
  assertEquals(dev.deliver(0, frame(150)), "delivered");
  dev.flush();
  assertEquals(drv.queues[RX]!.collect()!.written, 100);
});

Deno.test("with event indices, a frame that lacks room asks for an event behind the buffers there are", () => {
  const { drv, dev } = fixture([MRG_RXBUF, FEATURE.RING_EVENT_IDX]);
  for (let i = 0; i < 3; i++) drv.queues[RX]!.add([100]);
  assertEquals(dev.deliver(0, frame(1000)), "full");
  assertEquals(drv.queues[RX]!.availEvent, 3);
});

Deno.test("without mergeable buffers a frame has one chain or is lost", () => {
  const { drv, dev } = fixture([]);
  drv.queues[RX]!.add([100]);
  drv.queues[RX]!.add([200]);
  assertEquals(dev.deliver(0, frame(150)), "dropped");
  assertEquals(dev.deliver(0, frame(150)), "delivered");
  dev.flush();
  assertEquals(drv.queues[RX]!.collect()!.written, 0);
  assertEquals(drv.queues[RX]!.collect()!.written, 162);
});

Deno.test("a ring full of buffers too small for one frame asks for a reset", () => {
  const { drv, dev } = fixture();
  for (let i = 0; i < 16; i++) drv.queues[RX]!.add([13]);
  dev.deliver(0, frame(1500));
  dev.flush();
  assertEquals(drv.common("device_status") & DEVICE_STATUS.DEVICE_NEEDS_RESET, DEVICE_STATUS.DEVICE_NEEDS_RESET);
});

Deno.test("a segment to be cut is described to the guest [virtio §5.1.6.4]", () => {
  const { drv, dev } = fixture([MRG_RXBUF, ...OFFLOADS]);
  assert(dev.guestChecksums && dev.guestSegments);
  drv.queues[RX]!.add([4096]);
  dev.deliver(0, frame(3000), { csumStart: 34, csumOffset: 16, gsoSize: 1460, gsoType: 1, headerBytes: 54 });
  dev.flush();
  const { bytes } = drv.queues[RX]!.collect()!;
  assertEquals([...bytes.subarray(0, 12)], [1, 1, 54, 0, 1460 & 255, 1460 >> 8, 34, 0, 16, 0, 1, 0]);
});

Deno.test("control: modes, the MAC address, guest offloads; anything else is an error", () => {
  const { dev, drv, command } = fixture([MRG_RXBUF, ...OFFLOADS, ...CONTROL]);
  const { OK, ERR } = NET_ACK;
  assertEquals([command(NET_CTRL.RX, 0, 1), command(NET_CTRL.RX, 1, 0)], [OK, OK]);
  assertEquals([command(NET_CTRL.RX, 2, 0), command(NET_CTRL.RX, 0), command(9, 0, 0)], [ERR, ERR, ERR]);
  assertEquals(command(NET_CTRL.MAC, 1, 2, 9, 9, 9, 9, 9), OK);
  assertEquals([...dev.mac], [2, 9, 9, 9, 9, 9]);
  assertEquals(drv.structure(CFG_TYPE.DEVICE, 4, 1), 9);
  assertEquals(command(NET_CTRL.MAC, 1, 1, 2, 3), ERR);
  assertEquals(command(NET_CTRL.GUEST_OFFLOADS, 0, 1 << GUEST_CSUM, 0, 0, 0, 0, 0, 0, 0), OK);
  assertEquals([dev.guestChecksums, dev.guestSegments], [true, false]);
  assertEquals(command(NET_CTRL.MQ, 0, 1, 0), ERR, "one pair: not negotiated");
  drv.common("device_status", 0);
  assertEquals([...dev.mac], [...ADDRESS], "a reset brings the device's own back");
});

Deno.test("several pairs of queues: the control queue is behind them, and the driver says how many it uses", () => {
  const { dev, drv, rung } = fixture([MRG_RXBUF, ...CONTROL, MQ], { pairs: 2 });
  assertEquals(drv.structure(CFG_TYPE.DEVICE, 8, 2), 2);
  assertEquals(dev.controlQueue, 4);
  const ask = (pairs: number) => {
    drv.queues[4]!.add([Uint8Array.of(NET_CTRL.MQ, 0, pairs, 0), 1]);
    dev.serveControl();
    return drv.queues[4]!.collect()!.bytes[0];
  };
  assertEquals([ask(2), ask(3), ask(0)], [NET_ACK.OK, NET_ACK.ERR, NET_ACK.ERR]);
  drv.queues[2]!.add([500]);
  assertEquals(dev.deliver(1, frame(60)), "delivered");
  dev.flush();
  assertEquals(drv.queues[2]!.collect()!.written, 72);
  drv.notify(3);
  assertEquals(rung, [3]);
});

Deno.test("with the cable out frames are lost both ways; a reset tells the back end", () => {
  const { drv, dev, transmit, sent, resets } = fixture();
  dev.setLink(false);
  drv.queues[RX]!.add([1600]);
  assertEquals(dev.deliver(0, frame(60)), "dropped");
  drv.queues[TX]!.add([header(), frame(60)]);
  transmit();
  assertEquals(sent, []);
  const before = resets();
  drv.common("device_status", 0);
  assertEquals(resets(), before + 1);
  assertEquals(dev.deliver(0, frame(60)), "dropped", "nobody there");
});

Deno.test("without offloads in the back end none is offered", () => {
  const { drv } = fixture([MRG_RXBUF], { offload: false });
  const [lo] = drv.offered();
  assertEquals(OFFLOADS.filter((bit) => (lo >>> bit) & 1), []);
  assertEquals([MAC, STATUS, MRG_RXBUF, CTRL_VQ].filter((bit) => !((lo >>> bit) & 1)), []);
});
