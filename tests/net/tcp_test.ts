import { assert, assertEquals } from "@std/assert";
import { NETWORK } from "../../src/host/net/network.ts";
import { BUFFER_BYTES } from "../../src/host/net/tcp_parts.ts";
import { ReorderQueue } from "../../src/host/net/tcp_reorder.ts";
import { FLAG } from "../../src/host/net/tcp_segment.ts";
import { OUTSIDE, settle, TestGuest } from "./guest.ts";
import { TcpDriver } from "./tcp_driver.ts";

const { SYN, ACK, FIN, RST, PSH } = FLAG;
const bytes = (n: number, seed = 1) => Uint8Array.from({ length: n }, (_, i) => (i * 7 + seed + (i >> 8)) & 255);
const OPTIONS = [2, 4, 5, 0xb4, 1, 3, 3, 2]; // an MSS of 1460, windows scaled by 4

/** A connection to OUTSIDE:80 just opened; the guest's next number is 101, the other's `seq`. */
async function opened(options: readonly number[] = OPTIONS, window = 65535) {
  const guest = new TestGuest();
  const ends = { port: 1234, to: OUTSIDE, toPort: 80 };
  guest.raw(guest.tcp({ ...ends, seq: 100, flags: SYN, window }, undefined, options));
  await settle();
  const [synAck] = guest.takeTcp();
  assertEquals(synAck!.flags, SYN | ACK);
  assertEquals(synAck!.ack, 101);
  const seq = (synAck!.seq + 1) >>> 0;
  guest.raw(guest.tcp({ ...ends, seq: 101, ack: seq, flags: ACK, window }));
  await settle();
  assertEquals(guest.takeTcp(), []);
  return { guest, ends, synAck: synAck!, seq, host: guest.sockets.streams[0]! };
}

Deno.test("a SYN is answered once the host's side is connected, with MSS and window scale", async () => {
  const { guest, synAck } = await opened();
  assertEquals(guest.sockets.connects, ["192.0.2.7:80"]);
  assertEquals([...synAck.options], [2, 4, 5, 0xb4, 1, 3, 3, 3]);
  const plain = await opened([2, 4, 2, 24]);
  assertEquals([...plain.synAck.options], [2, 4, 5, 0xb4], "no window scale for a guest that offers none");
  const { host } = plain;
  host.come(bytes(2000));
  await settle();
  assertEquals(plain.guest.takeTcp().map((s) => s.data.length), [536, 536, 536, 392], "the guest's MSS of 536");
});

Deno.test("a refused connection resets the guest's; an unreachable one is told by ICMP", async () => {
  const guest = new TestGuest();
  guest.sockets.answer = "refused";
  guest.raw(guest.tcp({ port: 1, to: OUTSIDE, toPort: 81, seq: 7, flags: SYN }));
  await settle();
  const [rst] = guest.takeTcp();
  assertEquals([rst!.flags, rst!.ack, rst!.seq], [RST | ACK, 8, 0]);
  guest.sockets.answer = "unreachable";
  guest.raw(guest.tcp({ port: 1, to: OUTSIDE, toPort: 82, seq: 7, flags: SYN }));
  await settle();
  const [icmp] = guest.take();
  assertEquals([icmp![23], icmp![34], icmp![35]], [1, 3, 1], "ICMP, destination unreachable, host");
  assertEquals(
    icmp!.subarray(42, 42 + 28),
    guest.tcp({ port: 1, to: OUTSIDE, toPort: 82, seq: 7, flags: SYN }).subarray(14, 42),
  );
});

Deno.test("a segment that belongs to nothing is reset as RFC 9293 §3.10.7.1 says; a RST is not", () => {
  const guest = new TestGuest();
  guest.raw(guest.tcp({ port: 1, to: OUTSIDE, toPort: 80, seq: 7, ack: 99, flags: ACK }, bytes(3)));
  const [rst] = guest.takeTcp();
  assertEquals([rst!.flags, rst!.seq], [RST, 99]);
  guest.raw(guest.tcp({ port: 1, to: OUTSIDE, toPort: 80, seq: 7, ack: 99, flags: RST | ACK }));
  assertEquals(guest.takeTcp(), []);
});

Deno.test("data goes to the host; one small segment is acknowledged 40 ms later, two full ones at once", async () => {
  const { guest, ends, seq, host } = await opened();
  guest.raw(guest.tcp({ ...ends, seq: 101, ack: seq, flags: ACK | PSH }, bytes(10)));
  await settle();
  assertEquals(host.written, [...bytes(10)]);
  assertEquals(guest.takeTcp(), []);
  await guest.pass(39);
  assertEquals(guest.takeTcp(), []);
  await guest.pass(1);
  assertEquals(guest.takeTcp().map((s) => [s.flags, s.ack]), [[ACK, 111]]);
  guest.net.receive(guest.tcp({ ...ends, seq: 111, ack: seq, flags: ACK }, bytes(1460)), {
    csumStart: -1,
    csumOffset: 0,
    gsoSize: 0,
    gsoType: 0,
    headerBytes: 0,
  });
  guest.raw(guest.tcp({ ...ends, seq: 1571, ack: seq, flags: ACK }, bytes(1460)));
  assertEquals(guest.takeTcp().map((s) => s.ack), [3031]);
});

Deno.test("the window is what the host has not taken, and opens again when it has", async () => {
  const { guest, ends, seq, host } = await opened();
  host.stuck = true;
  let at = 101;
  for (let sent = 0; sent < BUFFER_BYTES + 20_000; sent += 1460) {
    guest.raw(guest.tcp({ ...ends, seq: at, ack: seq, flags: ACK }, bytes(1460)));
    at += 1460;
  }
  const last = guest.takeTcp().at(-1)!;
  assert(last.window << 3 < 1460, "shut");
  const taken = last.ack - 101;
  assert(taken <= BUFFER_BYTES && taken > BUFFER_BYTES - 2 * 1460, `${taken}`);
  host.unstick();
  for (let i = 0; i < 10; i++) await settle();
  assert(guest.takeTcp().at(-1)!.window << 3 >= BUFFER_BYTES / 2, "open");
  assertEquals(host.written.length, taken);
});

Deno.test("the guest's window is kept, a shut one is probed, and an open one goes on", async () => {
  const { guest, ends, seq, host } = await opened(OPTIONS, 1000); // the SYN's is not scaled, the ACK's is: 4000
  const data = bytes(9000);
  host.come(data);
  await settle();
  const first = guest.takeTcp();
  const got = first.reduce((n, s) => n + s.data.length, 0);
  assertEquals(got, 2920, "the rest is less than a segment, and waits for an acknowledgment [RFC 9293 §3.8.6.2.1]");
  guest.raw(guest.tcp({ ...ends, seq: 101, ack: seq + got, flags: ACK, window: 0 }));
  await settle();
  assertEquals(guest.takeTcp(), []);
  await guest.pass(5000);
  const probes = guest.takeTcp();
  assert(probes.length >= 2 && probes.every((s) => s.data.length === 1 && s.seq === seq + got), "probes of one byte");
  for (let i = 0; i < 20; i++) { // a shut window may stay shut for as long as the guest answers
    await guest.pass(60_000);
    guest.raw(guest.tcp({ ...ends, seq: 101, ack: seq + got, flags: ACK, window: 0 }));
  }
  guest.takeTcp();
  guest.raw(guest.tcp({ ...ends, seq: 101, ack: seq + got, flags: ACK, window: 4000 }));
  await settle();
  const rest = guest.takeTcp();
  assertEquals(rest.flatMap((s) => [...s.data]), [...data.subarray(got)]);
  assertEquals(rest[0]!.seq, seq + got);
});

Deno.test("what is not acknowledged is sent again after 1 s, then 2 s, and at last the guest is given up", async () => {
  const { guest, seq, host } = await opened();
  host.come(bytes(100));
  await settle();
  guest.takeTcp();
  const times: number[] = [];
  for (let ms = 0; ms < 400_000 && !host.closed; ms += 100) {
    await guest.pass(100);
    for (const s of guest.takeTcp()) {
      if (s.flags & RST) continue;
      assertEquals([s.seq, s.data.length], [seq, 100]);
      times.push(guest.nowMs);
    }
  }
  // The handshake was timed at 0 ms, which gives the least timeout.
  const gaps = times.map((t, i) => t - (times[i - 1] ?? 0));
  assertEquals(gaps.slice(0, 4), [200, 400, 800, 1600]);
  assert(host.closed, "given up");
});

Deno.test("three duplicate acknowledgments bring the lost segment at once", async () => {
  const { guest, ends, seq, host } = await opened();
  host.come(bytes(6 * 1460));
  await settle();
  assertEquals(guest.takeTcp().length, 6);
  for (let i = 0; i < 3; i++) guest.raw(guest.tcp({ ...ends, seq: 101, ack: seq + 1460, flags: ACK }));
  assertEquals(guest.takeTcp(), [], "two duplicates may be reordering");
  guest.raw(guest.tcp({ ...ends, seq: 101, ack: seq + 1460, flags: ACK }));
  assertEquals(guest.takeTcp().map((s) => [s.seq - seq, s.data.length]), [[1460, 1460]]);
});

Deno.test("half-close: the guest's FIN ends writing on the host, and the host still talks", async () => {
  const { guest, ends, seq, host } = await opened();
  guest.raw(guest.tcp({ ...ends, seq: 101, ack: seq, flags: ACK | FIN }, bytes(5)));
  await settle();
  assertEquals(guest.takeTcp().map((s) => [s.flags, s.ack]), [[ACK, 107]]);
  assertEquals([host.written.length, host.sawFin, host.closed], [5, true, false]);
  host.come(bytes(3));
  await settle();
  host.end();
  await settle();
  const got = guest.takeTcp();
  assertEquals(got.map((s) => s.flags & ~PSH), [ACK, ACK | FIN]);
  guest.raw(guest.tcp({ ...ends, seq: 107, ack: seq + 4, flags: ACK }));
  assert(host.closed);
  guest.raw(guest.tcp({ ...ends, seq: 107, ack: seq + 4, flags: ACK }));
  assertEquals(guest.takeTcp()[0]!.flags, RST, "forgotten: the guest closed first");
});

Deno.test("the host closing first: FIN, then the guest's, then TIME-WAIT that a new SYN ends", async () => {
  const { guest, ends, seq, host } = await opened();
  host.end();
  await settle();
  assertEquals(guest.takeTcp().map((s) => s.flags), [ACK | FIN]);
  guest.raw(guest.tcp({ ...ends, seq: 101, ack: seq + 1, flags: ACK | FIN }));
  await settle();
  assertEquals(guest.takeTcp().map((s) => [s.flags, s.ack]), [[ACK, 102]]);
  assert(host.closed);
  guest.raw(guest.tcp({ ...ends, seq: 101, ack: seq + 1, flags: ACK | FIN }));
  assertEquals(guest.takeTcp().map((s) => [s.flags, s.ack]), [[ACK, 102]], "the FIN came again");
  guest.raw(guest.tcp({ ...ends, seq: 9000, flags: SYN }));
  await settle();
  assertEquals(guest.takeTcp().map((s) => [s.flags, s.ack]), [[SYN | ACK, 9001]]);
});

Deno.test("resets: the guest's closes the host's socket, the host's resets the guest, a guess does neither", async () => {
  const a = await opened();
  a.guest.raw(a.guest.tcp({ ...a.ends, seq: 500, flags: RST })); // in the window, but not the next
  assertEquals(a.guest.takeTcp().map((s) => [s.flags, s.ack]), [[ACK, 101]], "a challenge [RFC 5961 §3.2]");
  a.guest.raw(a.guest.tcp({ ...a.ends, seq: 101, ack: a.seq, flags: SYN }));
  assertEquals(a.guest.takeTcp().map((s) => s.flags), [ACK], "[RFC 5961 §4.2]");
  assert(!a.host.closed);
  a.guest.raw(a.guest.tcp({ ...a.ends, seq: 101, flags: RST }));
  assert(a.host.closed);
  const b = await opened();
  b.host.fail();
  await settle();
  assert(b.guest.takeTcp()[0]!.flags & RST);
});

Deno.test("a published port: the guest is called from the gateway, and bytes flow both ways", async () => {
  const guest = new TestGuest({ publish: [{ protocol: "tcp", address: "127.0.0.1", port: 8080, guestPort: 80 }] });
  await guest.net.open();
  const { ScriptedStream } = await import("./guest.ts");
  const client = new ScriptedStream();
  guest.sockets.listeners.get("127.0.0.1:8080")!(client, "127.0.0.1");
  const [syn] = guest.takeTcp();
  assertEquals([syn!.flags, syn!.destinationPort, syn!.source], [SYN, 80, NETWORK.gateway]);
  const ends = { port: 80, to: NETWORK.gateway, toPort: syn!.sourcePort };
  guest.raw(guest.tcp({ ...ends, seq: 50, ack: syn!.seq + 1, flags: SYN | ACK }, undefined, OPTIONS));
  await settle();
  assertEquals(guest.takeTcp().map((s) => [s.flags, s.ack]), [[ACK, 51]]);
  client.come(bytes(4));
  await settle();
  assertEquals(guest.takeTcp().flatMap((s) => [...s.data]), [...bytes(4)]);
  guest.raw(guest.tcp({ ...ends, seq: 51, ack: syn!.seq + 5, flags: ACK }, bytes(6)));
  await settle();
  assertEquals(client.written, [...bytes(6)]);
  const refused = new ScriptedStream();
  guest.sockets.listeners.get("127.0.0.1:8080")!(refused, "127.0.0.1");
  const [again] = guest.takeTcp().filter((s) => s.flags === SYN);
  guest.raw(
    guest.tcp({
      port: 80,
      to: NETWORK.gateway,
      toPort: again!.sourcePort,
      seq: 0,
      ack: again!.seq + 1,
      flags: RST | ACK,
    }),
  );
  assert(refused.closed);
});

for (
  const trouble of [
    { loss: 0, double: 0, reorder: 0 },
    { loss: 10, double: 0, reorder: 0 },
    { loss: 0, double: 20, reorder: 30 },
    { loss: 15, double: 10, reorder: 15 },
  ]
) {
  Deno.test(`100 kB each way, ${trouble.loss} % lost, ${trouble.double} % doubled, ${trouble.reorder} % reordered`, async () => {
    const guest = new TestGuest();
    const up = bytes(100_000, 3), down = bytes(100_000, 5);
    const driver = new TcpDriver(guest, OUTSIDE, 80, up, trouble);
    const running = driver.run();
    while (guest.sockets.streams.length === 0) await settle();
    const host = guest.sockets.streams[0]!;
    host.come(down);
    host.end();
    await running;
    assert(driver.done && !driver.reset, `at ${guest.nowMs} ms: ${driver.received.length} bytes`);
    assertEquals(Uint8Array.from(driver.received), down);
    assertEquals(Uint8Array.from(host.written), up);
    assert(host.sawFin);
  });
}

Deno.test("a guest that takes segments to be cut gets them whole, checksum left to it", async () => {
  const guest = new TestGuest();
  guest.checksums = guest.segments = true;
  guest.raw(guest.tcp({ port: 5, to: OUTSIDE, toPort: 80, seq: 1, flags: SYN }, undefined, OPTIONS));
  await settle();
  const syn = guest.frames.splice(0)[0]!;
  assertEquals([syn.offload.csumStart, syn.offload.csumOffset, syn.offload.gsoSize], [34, 16, 0]);
  const seq = new DataView(syn.frame.buffer).getUint32(38) + 1;
  const frame = guest.tcp({ port: 5, to: OUTSIDE, toPort: 80, seq: 2, ack: seq, flags: ACK });
  guest.raw(frame);
  guest.sockets.streams[0]!.come(bytes(60_000));
  for (let i = 0; i < 5; i++) await settle();
  const frames = guest.frames.splice(0);
  assert(frames.length < 10, `${frames.length} frames`);
  const big = frames.find(({ offload }) => offload.gsoSize > 0)!;
  assertEquals([big.offload.gsoSize, big.offload.headerBytes, big.offload.csumStart], [1460, 54, 34]);
  assertEquals(frames.flatMap(({ frame }) => [...frame.subarray(54)]), [...bytes(60_000)]);
});

Deno.test("segments before their turn: found in order, overlaps once, and never more than so many bytes", () => {
  const queue = new ReorderQueue(1000);
  queue.add(130, bytes(20, 30));
  queue.add(110, bytes(30, 10));
  queue.add(110, bytes(10, 10)); // less of the same
  assertEquals(queue.next(100), null);
  assertEquals(queue.next(115), bytes(30, 10).subarray(5));
  assertEquals(queue.next(140), bytes(20, 30).subarray(10));
  assert(queue.empty);
  for (let i = 0; i < 100; i++) queue.add(i, new Uint8Array(100)); // all over each other
  let kept = 0;
  for (let next = queue.next(0), seq = 0; next; next = queue.next(seq)) {
    kept++;
    seq += next.length;
  }
  assert(kept <= 10 && queue.empty);
  queue.add(0xffff_fff0, bytes(0x20));
  assertEquals(queue.next(0xffff_fff8)!.length, 0x18, "numbers go round");
});

Deno.test("no more than 2048 connections at a time, the later ones with small queues; more are reset", async () => {
  const guest = new TestGuest();
  for (let port = 1; port <= 2056; port++) {
    guest.raw(guest.tcp({ port, to: OUTSIDE, toPort: 80, seq: 0, flags: SYN }, undefined, [1, 3, 3, 7]));
    if (port === 1) await settle();
  }
  for (let i = 0; i < 80; i++) await settle();
  const seen = guest.takeTcp();
  assertEquals(seen.filter((s) => s.flags === (SYN | ACK)).length, 2048);
  assertEquals(seen.filter((s) => s.flags & RST).length, 8);
  // A host that takes nothing: what a connection holds is bounded by its queue.
  const held = (port: number) => {
    guest.sockets.streams[port - 1]!.stuck = true;
    const ack = seen.find((s) => s.destinationPort === port)!.seq + 1;
    let next = 1;
    for (let n = 0; n < 250; n++) {
      guest.raw(guest.tcp({ port, to: OUTSIDE, toPort: 80, seq: next, ack, flags: ACK }, new Uint8Array(1460)));
      next = guest.takeTcp().at(-1)?.ack ?? next + 1460;
    }
    return next;
  };
  const early = held(1), late = held(2000);
  assert(early > 200_000 && early <= BUFFER_BYTES + 1, `${early}`);
  assert(late > 50_000 && late <= 65536 + 1, `${late}`);
  guest.net.guestReset();
  assert(guest.sockets.streams.every((s) => s.closed));
});
