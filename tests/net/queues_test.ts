/** Datagrams to be cut, and flows that stay on their pair of queues. */
import { assert, assertEquals } from "@std/assert";
import { NET_HDR_GSO } from "../../devices/virtio/net_header.ts";
import { Steering } from "../../src/machine/net_steering.ts";
import { OUTSIDE, settle, TestGuest } from "./guest.ts";

Deno.test("a datagram to be cut leaves as several, the last one short", async () => {
  const guest = new TestGuest();
  const data = Uint8Array.from({ length: 2500 }, (_, i) => i);
  const frame = guest.udp(5000, OUTSIDE, 7, data);
  guest.raw(frame, { csumStart: 34, csumOffset: 6, gsoSize: 1000, gsoType: NET_HDR_GSO.UDP_L4, headerBytes: 42 });
  await settle();
  const { sent } = guest.sockets.udp[0]!;
  assertEquals(sent.map(({ data }) => data.length), [1000, 1000, 500]);
  assertEquals(Uint8Array.from(sent.flatMap(({ data }) => [...data])), data);
});

Deno.test("answers come by the pair of queues their questions went, and by one that is in use", () => {
  const guest = new TestGuest(), steering = new Steering();
  const swap = (frame: Uint8Array) => {
    const back = frame.slice();
    back.set(frame.subarray(30, 34), 26);
    back.set(frame.subarray(26, 30), 30);
    back.set(frame.subarray(36, 38), 34);
    back.set(frame.subarray(34, 36), 36);
    return back;
  };
  const flows = Array.from({ length: 8 }, (_, n) => guest.udp(5000 + n, OUTSIDE, 7, new Uint8Array(4)));
  flows.forEach((frame, n) => steering.sent(frame, n % 4));
  for (const [n, frame] of flows.entries()) {
    assertEquals(steering.pairOf(swap(frame), 4), n % 4);
    assert(steering.pairOf(swap(frame), 2) < 2);
  }
  for (let size = 0; size < 60; size++) assert(steering.pairOf(new Uint8Array(size).fill(size), 4) < 4);
});
