/** IPv6 byte by byte: discovery, DHCPv6, echoes, TCP and UDP, fragments, and the way to IPv4 hosts. */
import { assert, assertEquals } from "@std/assert";
import {
  checksum,
  formatIp6,
  type Ip6,
  ip6,
  parseIp4,
  parseIp6,
  pseudoSum,
  put16,
  putIp6,
  sum16,
  u16,
  u32,
} from "../../src/host/net/address.ts";
import { guestView, hostView, isForwardable, NETWORK6 } from "../../src/host/net/network.ts";
import { Reassembler } from "../../src/host/net/reassembly.ts";
import { FLAG } from "../../src/host/net/tcp_segment.ts";
import { MAC, settle, TestGuest } from "./guest.ts";

const hex = (text: string) => Uint8Array.fromHex(text.replaceAll(/\s/g, ""));
const ip = (text: string) => parseIp6(text)!;
const GUEST = ip("fd74:7269:6b65::abcd");
const OUTSIDE = ip("2001:db8::7");

interface Shape {
  readonly from?: Ip6;
  readonly hops?: number;
  /** Extension headers, the first of which is `next`. */
  readonly extensions?: Uint8Array;
  readonly next?: number;
}

/** A frame of the guest's, with the transport checksum at `sumAt` of the payload made right. */
function packet(protocol: number, to: Ip6, payload: Uint8Array, sumAt: number, shape: Shape = {}): Uint8Array {
  const { from = GUEST, hops = 64, extensions = new Uint8Array(0), next = protocol } = shape;
  if (sumAt >= 0) {
    put16(payload, sumAt, 0);
    put16(payload, sumAt, checksum(payload, 0, payload.length, pseudoSum(from, to, protocol, payload.length)));
  }
  const frame = new Uint8Array(54 + extensions.length + payload.length);
  frame.set([0x52, 0x55, 10, 0, 2, 2, ...MAC, 0x86, 0xdd, 0x60]);
  put16(frame, 18, extensions.length + payload.length);
  frame[20] = next;
  frame[21] = hops;
  putIp6(frame, 22, from);
  putIp6(frame, 38, to);
  frame.set(extensions, 54);
  frame.set(payload, 54 + extensions.length);
  return frame;
}

const icmp = (to: Ip6, message: string, shape: Shape = {}) => packet(58, to, hex(message), 2, shape);

function datagram(to: Ip6, port: number, toPort: number, data: Uint8Array, shape: Shape = {}): Uint8Array {
  const udp = new Uint8Array(8 + data.length);
  put16(udp, 0, port);
  put16(udp, 2, toPort);
  put16(udp, 4, udp.length);
  udp.set(data, 8);
  return packet(17, to, udp, 6, shape);
}

function segment(to: Ip6, s: { port: number; toPort: number; seq: number; ack?: number; flags: number }, data = "") {
  const bytes = new TextEncoder().encode(data);
  const tcp = new Uint8Array(20 + bytes.length);
  put16(tcp, 0, s.port);
  put16(tcp, 2, s.toPort);
  put16(tcp, 4, s.seq >>> 16);
  put16(tcp, 6, s.seq);
  put16(tcp, 8, (s.ack ?? 0) >>> 16);
  put16(tcp, 10, s.ack ?? 0);
  tcp[12] = 0x50;
  tcp[13] = s.flags;
  put16(tcp, 14, 65535);
  tcp.set(bytes, 20);
  return packet(6, to, tcp, 16);
}

/** What an answer is, with its checksum verified as [rfc8200 §8.1] has it. */
function parse(frame: Uint8Array) {
  assertEquals(u16(frame, 12), 0x86dd);
  const size = u16(frame, 18), source = ip6(frame, 22), destination = ip6(frame, 38), protocol = frame[20]!;
  assertEquals(frame.length, 54 + size);
  if (protocol !== 44) {
    assertEquals(sum16(frame, 54, frame.length, pseudoSum(source, destination, protocol, size)), 0xffff);
  }
  return { to: frame.subarray(0, 6), source, destination, protocol, hops: frame[21]!, payload: frame.subarray(54) };
}

Deno.test("IPv6 addresses: text of RFC 4291 §2.2 and RFC 5952 §4, and what is none", () => {
  for (
    const [text, groups, short] of [
      ["2001:DB8:0:0:8:800:200C:417A", "20010db8000000000008 0800200c417a", "2001:db8::8:800:200c:417a"],
      ["::", "0".repeat(32), "::"],
      ["::1", "0".repeat(31) + "1", "::1"],
      ["ff01::101", "ff01" + "0".repeat(25) + "101", "ff01::101"],
      ["2001:db8:0:1:1:1:1:1", "20010db8000000010001000100010001", "2001:db8:0:1:1:1:1:1"],
      ["2001:0:0:1:0:0:0:1", "2001000000000001" + "0".repeat(15) + "1", "2001:0:0:1::1"],
      ["::ffff:129.144.52.38", "0".repeat(20) + "ffff81903426", "::ffff:8190:3426"],
    ] as const
  ) {
    const bytes = new Uint8Array(16);
    putIp6(bytes, 0, ip(text));
    assertEquals(bytes, hex(groups), text);
    assertEquals(formatIp6(ip(text)), short);
  }
  for (
    const text of [
      "",
      ":",
      ":::",
      "1::2::3",
      "1:2:3:4:5:6:7",
      "1:2:3:4:5:6:7:8:9",
      "1:2:3:4:5:6:7::8",
      "12345::",
      "::1.2.3",
      "g::",
    ]
  ) {
    assertEquals(parseIp6(text), null, text);
  }
});

Deno.test("the host's side of IPv6 addresses: loop-back behind the gateway, IPv4 hosts in 64:ff9b::/96", () => {
  assertEquals(hostView(NETWORK6.gateway), "::1");
  assertEquals(hostView(ip("64:ff9b::192.0.2.7")), "192.0.2.7");
  assertEquals(hostView(OUTSIDE), "2001:db8::7");
  assertEquals(guestView("::1", 6), NETWORK6.gateway);
  assertEquals(guestView("127.0.0.1", 6), NETWORK6.gateway);
  assertEquals(guestView("192.0.2.7", 6), ip("64:ff9b::192.0.2.7"));
  assertEquals(guestView("::ffff:192.0.2.7", 4), parseIp4("192.0.2.7"));
  assertEquals(guestView("2001:db8::7", 4), null);
  for (
    const text of ["::", "::1", "ff02::1", "fe80::9", "64:ff9b::127.0.0.1", "64:ff9b::224.0.0.1", "::ffff:127.0.0.1"]
  ) {
    assert(!isForwardable(ip(text)), text);
  }
});

Deno.test("a router solicitation brings the prefix, MTU and resolver, again after ten minutes, and only from this link", async () => {
  const guest = new TestGuest();
  const solicitation = (hops: number) =>
    icmp(NETWORK6.allRouters, "8500 0000 0000 0000", { from: ip("fe80::1234"), hops });
  guest.raw(solicitation(64));
  assertEquals(guest.take(), []);
  guest.raw(solicitation(255));
  const [first] = guest.take();
  const { to, source, destination, hops, payload } = parse(first!);
  assertEquals(to, hex("333300000001"));
  assertEquals([source, destination, hops], [ip("fe80::2"), ip("ff02::1"), 255]);
  assertEquals([payload[0], payload[5]! & 0xc0], [134, 0x40]);
  assert(u16(payload, 6) > 0 && u16(payload, 6) <= 9000);
  const options = new Map<number, Uint8Array>();
  for (let at = 16; at < payload.length; at += payload[at + 1]! * 8) {
    options.set(payload[at]!, payload.subarray(at, at + payload[at + 1]! * 8));
  }
  assertEquals([...options.keys()].sort((a, b) => a - b), [1, 3, 5, 25]);
  assertEquals([options.get(3)![2], options.get(3)![3], ip6(options.get(3)!, 16)], [64, 0xc0, NETWORK6.prefix]);
  assertEquals(u32(options.get(5)!, 4), 1500);
  assertEquals(ip6(options.get(25)!, 8), NETWORK6.dns);
  await guest.pass(600_000);
  assertEquals(parse(guest.take()[0]!).payload[0], 134);
});

Deno.test("neighbours: the gateway and the resolver answer for themselves, nobody for the guest; a duplicate is told to all", () => {
  const guest = new TestGuest();
  const ask = (target: Ip6, from: Ip6) => {
    const bytes = new Uint8Array(24);
    bytes[0] = 135;
    putIp6(bytes, 8, target);
    guest.raw(packet(58, ip("ff02::1:ff00:2"), bytes, 2, { from, hops: 255 }));
    return guest.take();
  };
  for (const target of [NETWORK6.gateway, NETWORK6.dns, NETWORK6.router]) {
    const answer = parse(ask(target, GUEST)[0]!);
    assertEquals([answer.payload[0], answer.payload[4]! & 0x60, ip6(answer.payload, 8)], [136, 0x60, target]);
    assertEquals([answer.destination, answer.to], [GUEST, MAC]);
    assertEquals(answer.payload.subarray(24), hex("0201 5255 0a00 0202"));
  }
  assertEquals(ask(GUEST, GUEST), []);
  const duplicate = parse(ask(NETWORK6.gateway, ip("::"))[0]!);
  assertEquals([duplicate.destination, duplicate.payload[4]! & 0x40], [ip("ff02::1"), 0]);
});

Deno.test("DHCPv6: an information request is answered with the resolver; other requests, and those to others, are not", () => {
  const guest = new TestGuest();
  const ask = (message: string) => {
    guest.raw(datagram(ip("ff02::1:2"), 546, 547, hex(message), { from: ip("fe80::1234") }));
    return guest.take();
  };
  const clientId = "0001 000a 00030001 020000000001";
  const reply = parse(ask(`0b aabbcc ${clientId} 0006 0002 0017`)[0]!);
  assertEquals([reply.destination, u16(reply.payload, 0), u16(reply.payload, 2)], [ip("fe80::1234"), 547, 546]);
  const message = reply.payload.subarray(8);
  assertEquals(message.subarray(0, 4), hex("07aabbcc"));
  const options = new Map<number, Uint8Array>();
  for (let at = 4; at < message.length; at += 4 + u16(message, at + 2)) {
    options.set(u16(message, at), message.subarray(at + 4, at + 4 + u16(message, at + 2)));
  }
  assertEquals(options.get(1), hex("00030001 020000000001"));
  assertEquals(options.get(2), hex("00030001 52550a000202"));
  assertEquals(ip6(options.get(23)!, 0), NETWORK6.dns);
  assertEquals(ask(`01 aabbcc ${clientId}`), []);
  assertEquals(ask(`0b aabbcc ${clientId} 0002 000a 00030001 020000000009`), []);
  assertEquals(ask(`0b aabbcc 0001 00ff 00`), []);
});

Deno.test("ICMPv6 echo: of the gateway by itself, of hosts outside by the host's sockets, of IPv4 hosts as ICMP", async () => {
  const guest = new TestGuest();
  guest.raw(icmp(NETWORK6.gateway, "8000 0000 1234 0001 616263"));
  const own = parse(guest.take()[0]!);
  assertEquals([own.source, own.destination], [NETWORK6.gateway, GUEST]);
  assertEquals([own.payload[0], ...own.payload.subarray(4)], [129, ...hex("1234 0001 616263")]);
  guest.raw(icmp(OUTSIDE, "8000 0000 1234 0001 61"));
  await settle();
  assertEquals([...parse(guest.take()[0]!).payload.subarray(0, 2)], [1, 1]);
  const sent = guest.sockets.echoSent = [];
  guest.raw(icmp(ip("64:ff9b::192.0.2.7"), "8000 0000 1234 0002 62"));
  await settle();
  assertEquals(sent.map(({ message, to }: { message: Uint8Array; to: string }) => [message[0], to]), [[
    8,
    "192.0.2.7",
  ]]);
  guest.sockets.echoReceived(hex("0000 ffff 7777 0002 62"), "192.0.2.7");
  const reply = parse(guest.take()[0]!);
  assertEquals(reply.source, ip("64:ff9b::192.0.2.7"));
  assertEquals([reply.payload[0], ...reply.payload.subarray(4)], [129, ...hex("1234 0002 62")]);
  await guest.pass(61_000); // the flow ends; an answer that comes later is nobody's
  guest.sockets.echoReceived(hex("0000 ffff 7777 0003 62"), "192.0.2.7");
  assertEquals(guest.take(), []);
});

Deno.test("TCP over IPv6: the host's loop-back behind the gateway, an MSS for the longer header, data both ways", async () => {
  const guest = new TestGuest();
  const port = 40_000, toPort = 80;
  guest.raw(segment(NETWORK6.gateway, { port, toPort, seq: 100, flags: FLAG.SYN }));
  await settle();
  assertEquals(guest.sockets.connects, ["::1:80"]);
  const syn = parse(guest.take()[0]!);
  assertEquals([syn.source, syn.payload[13]], [NETWORK6.gateway, FLAG.SYN | FLAG.ACK]);
  assertEquals(syn.payload.subarray(20, 24), hex("0204 05a0")); // 1500 - 40 - 20
  const seq = u32(syn.payload, 4);
  guest.raw(segment(NETWORK6.gateway, { port, toPort, seq: 101, ack: seq + 1, flags: FLAG.ACK }, "to host"));
  await settle();
  const [stream] = guest.sockets.streams;
  assertEquals(String.fromCharCode(...stream!.written), "to host");
  stream!.come(new TextEncoder().encode("to guest"));
  await settle();
  const data = guest.take().map(parse).find(({ payload }) => payload.length > 20)!;
  assertEquals(new TextDecoder().decode(data.payload.subarray(20)), "to guest");
  guest.raw(segment(ip("64:ff9b::192.0.2.7"), { port, toPort, seq: 1, flags: FLAG.SYN }));
  guest.raw(segment(OUTSIDE, { port, toPort, seq: 1, flags: FLAG.SYN }));
  await settle();
  assertEquals(guest.sockets.connects.slice(1), ["192.0.2.7:80", "2001:db8::7:80"]);
});

Deno.test("UDP over IPv6: a socket for each family of the peers; an answer's checksum is never absent", async () => {
  const guest = new TestGuest();
  guest.raw(datagram(OUTSIDE, 5000, 7, hex("01")));
  guest.raw(datagram(ip("64:ff9b::192.0.2.7"), 5000, 7, hex("02")));
  await settle();
  const [six, four] = guest.sockets.udp;
  assertEquals([six!.bound, six!.sent[0]!.to], [":::0", "2001:db8::7:7"]);
  assertEquals([four!.bound, four!.sent[0]!.to], ["0.0.0.0:0", "192.0.2.7:7"]);
  four!.received(hex("03"), "192.0.2.7", 7);
  const answer = parse(guest.take()[0]!);
  assertEquals([answer.source, answer.payload[8]], [ip("64:ff9b::192.0.2.7"), 3]);
  const absent = datagram(OUTSIDE, 5000, 7, hex("01"));
  put16(absent, 60, 0);
  guest.raw(absent);
  await settle();
  assertEquals(six!.sent.length, 1);
});

Deno.test("DNS over IPv6: a query to the resolver goes to the host's, the answer comes back from it", async () => {
  const guest = new TestGuest();
  const query = hex("abcd 0100 0001 0000 0000 0000 00 0001 0001");
  guest.raw(datagram(NETWORK6.dns, 5353, 53, query));
  await settle();
  const answer = query.slice();
  answer[2]! |= 0x80;
  guest.sockets.udp[0]!.received(answer, "198.51.100.1", 53);
  const seen = parse(guest.take()[0]!);
  assertEquals([seen.source, u16(seen.payload, 0), seen.payload.subarray(8)], [NETWORK6.dns, 53, answer]);
});

Deno.test("fragments of IPv6 come together; those that overlap are no packet; a large answer goes out in fragments", async () => {
  const guest = new TestGuest();
  const whole = datagram(NETWORK6.gateway, 5000, 7, new Uint8Array(2000).fill(7)).subarray(54);
  const part = (from: number, end: number, more: boolean) => {
    const extensions = new Uint8Array(8);
    extensions[0] = 17;
    put16(extensions, 2, from | (more ? 1 : 0));
    extensions[7] = 9;
    return packet(17, NETWORK6.gateway, whole.slice(from, end), -1, { extensions, next: 44 });
  };
  guest.raw(part(1200, whole.length, false));
  guest.raw(part(0, 1200, true));
  await settle();
  assertEquals(guest.sockets.udp[0]!.sent[0]!.data.length, 2000);
  const strict = new Reassembler(() => 0, true);
  const eight = new Uint8Array(16);
  strict.add("a", 0, false, eight);
  assertEquals([strict.add("a", 8, true, eight), strict.add("a", 16, true, eight)], [null, null]);

  guest.take();
  guest.sockets.udp[0]!.received(new Uint8Array(3000).fill(5), "::1", 7);
  const parts = guest.take().map(parse);
  const bytes = new Uint8Array(3008);
  for (const { protocol, payload } of parts) {
    assertEquals([protocol, payload[0]], [44, 17]);
    assert(payload.length + 40 <= 1500);
    bytes.set(payload.subarray(8), u16(payload, 2) & ~7);
  }
  assertEquals(parts.map(({ payload }) => payload[3]! & 1), [1, 1, 0]);
  assertEquals(sum16(bytes, 0, 3008, pseudoSum(NETWORK6.gateway, GUEST, 17, 3008)), 0xffff);
});

Deno.test("extension headers are passed over; routes through others, and headers without an end, go nowhere", async () => {
  const guest = new TestGuest();
  const bytes = hex("0001");
  const send = (next: number, extensions: Uint8Array) => {
    const plain = datagram(OUTSIDE, 6000, 7, bytes).slice(54);
    guest.raw(packet(17, OUTSIDE, plain, 6, { next, extensions }));
  };
  send(0, hex("3c00 0104 00000000  1100 0104 00000000"));
  await settle();
  assertEquals(guest.sockets.udp.length, 1);
  send(43, hex("1100 0001 00000000"));
  send(60, hex("11ff 0104 00000000"));
  await settle();
  assertEquals(guest.sockets.udp[0]!.sent.length, 1);
});

Deno.test("a restricted guest gets no way out over IPv6 either, and no resolver", async () => {
  const guest = new TestGuest({ restrict: true });
  guest.raw(icmp(NETWORK6.allRouters, "8500 0000 0000 0000", { from: ip("fe80::1234"), hops: 255 }));
  assertEquals(parse(guest.take()[0]!).payload.length, 64);
  guest.raw(segment(OUTSIDE, { port: 1, toPort: 2, seq: 1, flags: FLAG.SYN }));
  guest.raw(datagram(OUTSIDE, 1, 2, hex("00")));
  guest.raw(icmp(OUTSIDE, "8000 0000 1234 0001 61"));
  await settle();
  const told = guest.take().map(parse);
  assertEquals(told.map(({ payload }) => [payload[0], payload[1]]), [[1, 1], [1, 1], [1, 1]]);
  assertEquals([guest.sockets.connects.length, guest.sockets.udp.length], [0, 0]);
});

Deno.test("random IPv6 packets never throw", () => {
  const guest = new TestGuest();
  let seed = 7;
  const random = () => (seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0) >>> 8;
  for (let n = 0; n < 20_000; n++) {
    const payload = Uint8Array.from({ length: random() % 80 }, () => random());
    const to = [NETWORK6.gateway, NETWORK6.dns, OUTSIDE, NETWORK6.allNodes][random() % 4]!;
    const next = [0, 6, 17, 43, 44, 58, 60, random() & 255][random() % 8]!;
    const frame = packet(next, to, payload, -1, { hops: random() & 1 ? 255 : 64 });
    if (random() % 8 === 0) frame[14 + random() % 40] = random();
    const offload = {
      csumStart: random() & 1 ? 54 : -1,
      csumOffset: 6,
      gsoSize: random() % 3,
      gsoType: 5,
      headerBytes: 0,
    };
    guest.net.receive(frame.subarray(0, frame.length - random() % 4), offload);
    if (n % 500 === 0) guest.net.guestReset();
  }
  guest.net.close();
});
