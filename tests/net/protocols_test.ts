/** ARP, IPv4, ICMP, UDP, DHCP and DNS, byte by byte. */
import { assert, assertEquals } from "@std/assert";
import { checksum, parseIp4, put16, sum16, u16, u32 } from "../../src/host/net/address.ts";
import { NETWORK } from "../../src/host/net/network.ts";
import { Reassembler } from "../../src/host/net/reassembly.ts";
import { FLOW_IDLE_MS, MAX_FLOWS } from "../../src/host/net/udp_nat.ts";
import { MAC, OUTSIDE, settle, TestGuest } from "./guest.ts";

const hex = (text: string) => Uint8Array.fromHex(text.replaceAll(/\s/g, ""));
const ip = (text: string) => parseIp4(text)!;

Deno.test("the checksum of RFC 1071's example, and of a stretch whose sums carry over and over", () => {
  assertEquals(sum16(hex("0001 f203 f4f5 f6f7"), 0, 8), 0xddf2);
  assertEquals(checksum(hex("0001 f203 f4f5 f6f7"), 0, 8), 0x220d);
  assertEquals(sum16(new Uint8Array(1 << 20).fill(0xff), 0, 1 << 20), 0xffff);
  assertEquals(sum16(hex("0102 03"), 0, 3), 0x0402, "an odd byte counts as the high one");
});

Deno.test("addresses: dotted text, and what is none", () => {
  assertEquals(ip("10.0.2.15"), NETWORK.guest);
  for (const text of ["", "1.2.3", "1.2.3.256", "1.2.3.04", "a.b.c.d", "1.2.3.4.5"]) assertEquals(parseIp4(text), null);
});

Deno.test("ARP: the gateway and the resolver answer for themselves, nobody answers for the guest", () => {
  const guest = new TestGuest();
  const request = (target: string) =>
    hex(`ffffffffffff 020000000001 0806 0001 0800 06 04 0001 020000000001 0a00020f 000000000000 ${target}`);
  guest.raw(request("0a000202"));
  assertEquals(guest.take(), [
    hex("020000000001 52550a000202 0806 0001 0800 06 04 0002 52550a000202 0a000202 020000000001 0a00020f"),
  ]);
  guest.raw(request("0a000203"));
  assertEquals(u32(guest.take()[0]!, 28), NETWORK.dns);
  guest.raw(request("0a00020f"));
  guest.raw(request("0a000202").subarray(0, 30));
  assertEquals(guest.take(), []);
});

Deno.test("ICMP: the gateway's echo; where the host sends no echoes, what goes outside is told to be prohibited", async () => {
  const guest = new TestGuest();
  const echo = hex("0800 0000 1234 0001 6162 63");
  put16(echo, 2, checksum(echo, 0, echo.length));
  guest.raw(guest.packet(1, NETWORK.gateway, echo));
  const [reply] = guest.take();
  assertEquals([reply![34], u32(reply!, 26), u32(reply!, 30)], [0, NETWORK.gateway, NETWORK.guest]);
  assertEquals(reply!.subarray(38), echo.subarray(4));
  assertEquals(sum16(reply!, 34, reply!.length), 0xffff);
  guest.raw(guest.packet(1, OUTSIDE, echo));
  await settle();
  assertEquals([...guest.take()[0]!.subarray(34, 36)], [3, 13]);
  echo[7] = 9; // damaged
  guest.raw(guest.packet(1, NETWORK.gateway, echo));
  assertEquals(guest.take(), []);
});

Deno.test("IPv4: bad headers are dropped, padding is cut off", async () => {
  const guest = new TestGuest();
  const good = guest.udp(5, OUTSIDE, 6, hex("0102"));
  const padded = new Uint8Array(60);
  padded.set(good);
  guest.raw(padded);
  await settle();
  assertEquals(guest.sockets.udp[0]!.sent, [{ data: hex("0102"), to: "192.0.2.7:6" }]);
  const change = (at: number, value: number) => {
    const bad = good.slice();
    bad[at] = value;
    guest.raw(bad);
  };
  change(24, good[24]! ^ 1); // header checksum
  change(14, 0x65); // version
  change(14, 0x44); // header length
  change(17, 200); // total length
  change(43, 9); // the datagram's data, against its checksum
  guest.raw(good.subarray(0, 20));
  await settle();
  assertEquals(guest.sockets.udp[0]!.sent.length, 1);
});

Deno.test("IPv4: no packet of the guest's gets to this host's own addresses but by the gateway, or to groups", async () => {
  const guest = new TestGuest();
  for (const to of ["127.0.0.1", "0.0.0.1", "224.0.0.1", "255.255.255.255", "10.0.2.99", "10.0.2.255"]) {
    guest.raw(guest.udp(5, ip(to), 6, hex("01")));
    guest.raw(guest.tcp({ port: 5, to: ip(to), toPort: 6, seq: 0, flags: 2 }));
  }
  guest.raw(guest.udp(5, OUTSIDE, 6, hex("01"), ip("8.8.8.8"))); // nor does one with somebody else's name leave
  await settle();
  assertEquals([guest.sockets.udp.length, guest.sockets.connects], [0, []]);
  guest.raw(guest.udp(5, NETWORK.gateway, 6, hex("01")));
  await settle();
  assertEquals(guest.sockets.udp[0]!.sent[0]!.to, "127.0.0.1:6");
});

Deno.test("fragments of the guest's come together in any order; a large answer goes out in fragments", async () => {
  const guest = new TestGuest();
  const data = Uint8Array.from({ length: 4000 }, (_, i) => i);
  const whole = guest.udp(5, OUTSIDE, 6, data).subarray(34);
  const parts = [0, 1480, 2960].map((at) => {
    const end = Math.min(at + 1480, whole.length);
    const fragment = (at / 8) | (end < whole.length ? 0x2000 : 0);
    return guest.packet(17, OUTSIDE, whole.subarray(at, end), { fragment });
  });
  for (const i of [2, 0, 1]) guest.raw(parts[i]!);
  await settle();
  assertEquals(guest.sockets.udp[0]!.sent.map((s) => s.data), [data]);
  guest.sockets.udp[0]!.received(data, "192.0.2.7", 6);
  const frames = guest.take();
  assertEquals(frames.map((f) => [u16(f, 20) & 0x1fff, (u16(f, 20) & 0x2000) !== 0, f.length]), [
    [0, true, 1514],
    [185, true, 1514],
    [370, false, 34 + 1048],
  ]);
  assertEquals(frames.flatMap((f) => [...f.subarray(34)]).slice(8), [...data]);
});

Deno.test("reassembly forgets after 30 s, keeps 16 packets, and believes no packet with two ends", () => {
  let now = 0;
  const r = new Reassembler(() => now);
  const key = (id: number) => `1 2 17 ${id}`;
  const eight = new Uint8Array(8);
  r.add(key(1), 0, false, eight);
  now = 30_000;
  assertEquals(r.add(key(1), 8, true, eight), null, "too late");
  for (let id = 10; id < 26; id++) r.add(key(id), 0, false, eight);
  r.add(key(99), 0, false, eight);
  assertEquals(r.add(key(10), 8, true, eight), null, "the oldest made room");
  assertEquals(r.add(key(99), 8, true, eight)!.length, 16);
  r.add(key(50), 16, true, eight);
  assertEquals(r.add(key(50), 24, true, eight), null);
  r.add(key(51), 8, true, eight);
  r.add(key(51), 16, false, eight); // behind the end
  assertEquals(r.add(key(51), 0, false, eight), null);
  assertEquals(r.add(key(52), 65528, true, eight), null, "past the largest packet");
});

Deno.test("UDP: one socket a port of the guest's; answers come only from whom it spoke to; idle flows end", async () => {
  const guest = new TestGuest();
  guest.raw(guest.udp(5, OUTSIDE, 6, hex("01")));
  guest.raw(guest.udp(5, ip("198.51.100.9"), 7, hex("02")));
  guest.raw(guest.udp(8, OUTSIDE, 6, hex("03")));
  await settle();
  assertEquals(guest.sockets.udp.map((s) => s.sent.length), [2, 1]);
  const [socket] = guest.sockets.udp;
  socket!.received(hex("aa"), "192.0.2.7", 6);
  socket!.received(hex("bb"), "203.0.113.1", 6);
  const frames = guest.take();
  assertEquals(frames.length, 1);
  assertEquals([u32(frames[0]!, 26), u16(frames[0]!, 34), u16(frames[0]!, 36), frames[0]![42]], [OUTSIDE, 6, 5, 0xaa]);
  await guest.pass(FLOW_IDLE_MS);
  assert(guest.sockets.udp.every((s) => s.closed));
  for (let port = 1000; port < 1000 + MAX_FLOWS + 5; port++) guest.raw(guest.udp(port, OUTSIDE, 6, hex("01")));
  await settle();
  assertEquals(guest.sockets.udp.filter((s) => !s.closed).length, MAX_FLOWS, "the oldest made room");
});

Deno.test("a published UDP port: clients come as the gateway's ports, and answers go back from the published one", async () => {
  const guest = new TestGuest({
    restrict: true,
    publish: [{ protocol: "udp", address: "127.0.0.1", port: 5000, guestPort: 53 }],
  });
  await guest.net.open();
  const [socket] = guest.sockets.udp;
  assertEquals(socket!.bound, "127.0.0.1:5000");
  socket!.received(hex("01"), "127.0.0.1", 4444);
  const [frame] = guest.take();
  assertEquals([u32(frame!, 26), u16(frame!, 34), u16(frame!, 36)], [NETWORK.gateway, 4444, 53]);
  guest.raw(guest.udp(53, NETWORK.gateway, 4444, hex("02")));
  assertEquals(socket!.sent, [{ data: hex("02"), to: "127.0.0.1:4444" }]);
  guest.raw(guest.udp(53, NETWORK.gateway, 4445, hex("02")));
  assertEquals(guest.sockets.udp.length, 1, "restricted: nothing else leaves");
  assertEquals([...guest.take()[0]!.subarray(34, 36)], [3, 13]);
});

/** A client's message: BOOTREQUEST, the magic cookie, the type and options. */
function dhcp(guest: TestGuest, type: number, options: string, ciaddr = "00000000", from = 0): Uint8Array {
  const message = new Uint8Array(300);
  message.set(hex("01 01 06 00 deadbeef 0000 0000" + ciaddr));
  message.set(MAC, 28);
  message.set(hex("63825363 3501 " + type.toString(16).padStart(2, "0") + options + "ff"), 236);
  return guest.udp(68, 0xffffffff, 67, message, from);
}

function dhcpOptions(frame: Uint8Array): Map<number, string> {
  const found = new Map<number, string>();
  for (let at = 42 + 240; frame[at] !== 255; at += 2 + frame[at + 1]!) {
    found.set(frame[at]!, frame.subarray(at + 2, at + 2 + frame[at + 1]!).toHex());
  }
  return found;
}

Deno.test("DHCP: DISCOVER, OFFER, REQUEST, ACK; always the same address", () => {
  const guest = new TestGuest();
  guest.raw(dhcp(guest, 1, ""));
  const [offer] = guest.take();
  const options = dhcpOptions(offer!);
  assertEquals([offer![42], u32(offer!, 46), u32(offer!, 58)], [2, 0xdeadbeef, NETWORK.guest]);
  assertEquals([u16(offer!, 34), u16(offer!, 36), u32(offer!, 30)], [67, 68, NETWORK.guest]);
  assertEquals(offer!.subarray(0, 6), MAC);
  assertEquals(Object.fromEntries(options), {
    53: "02",
    54: "0a000202",
    51: "00015180",
    1: "ffffff00",
    3: "0a000202",
    6: "0a000203",
    26: "05dc",
  });
  guest.raw(dhcp(guest, 3, "3204 0a00020f 3604 0a000202"));
  assertEquals(dhcpOptions(guest.take()[0]!).get(53), "05");
  guest.raw(dhcp(guest, 3, "", "0a00020f", NETWORK.guest)); // renewing
  assertEquals(dhcpOptions(guest.take()[0]!).get(53), "05");
});

Deno.test("DHCP: another address is refused aloud, another server's client left alone", () => {
  const guest = new TestGuest();
  guest.raw(dhcp(guest, 3, "3204 c0a80005"));
  const [nak] = guest.take();
  assertEquals([dhcpOptions(nak!).get(53), u32(nak!, 30), u32(nak!, 58)], ["06", 0xffffffff, 0]);
  guest.raw(dhcp(guest, 3, "3204 0a00020f 3604 0a000263"));
  guest.raw(dhcp(guest, 7, ""));
  guest.raw(dhcp(guest, 1, "").subarray(0, 200));
  assertEquals(guest.take(), []);
  guest.raw(dhcp(guest, 8, "", "0a00020f", NETWORK.guest));
  const inform = guest.take()[0]!;
  assertEquals([dhcpOptions(inform).get(53), dhcpOptions(inform).has(51), u32(inform, 58)], ["05", false, 0]);
  const restricted = new TestGuest({ restrict: true });
  restricted.raw(dhcp(restricted, 1, ""));
  assertEquals(dhcpOptions(restricted.take()[0]!).has(6), false, "no resolver without a way out");
});

const QUERY = hex("1234 0100 0001 0000 0000 0000 01 61 00 0001 0001");

Deno.test("DNS: passed on to the first resolver, after 2 s to the next; the answer comes from 10.0.2.3", async () => {
  const guest = new TestGuest();
  guest.raw(guest.udp(99, NETWORK.dns, 53, QUERY));
  await settle();
  assertEquals(guest.sockets.udp[0]!.sent, [{ data: QUERY, to: "198.51.100.1:53" }]);
  await guest.pass(2000);
  assert(guest.sockets.udp[0]!.closed);
  assertEquals(guest.sockets.udp[1]!.sent, [{ data: QUERY, to: "198.51.100.2:53" }]);
  const answer = QUERY.slice();
  answer[2] = 0x81;
  const { received } = guest.sockets.udp[1]!;
  received(answer, "203.0.113.66", 53); // somebody else
  received(Uint8Array.from(answer, (b, i) => i === 1 ? b ^ 1 : b), "198.51.100.2", 53); // another query's
  assertEquals(guest.take(), []);
  received(answer, "198.51.100.2", 53);
  received(answer, "198.51.100.2", 53);
  const frames = guest.take();
  assertEquals(frames.length, 1);
  assertEquals([u32(frames[0]!, 26), u16(frames[0]!, 34), u16(frames[0]!, 36)], [NETWORK.dns, 53, 99]);
  assertEquals(frames[0]!.subarray(42), answer);
});

Deno.test("DNS: without a resolver, or when none answers, the guest hears SERVFAIL", async () => {
  const guest = new TestGuest();
  guest.sockets.resolverList = [];
  guest.raw(guest.udp(99, NETWORK.dns, 53, QUERY));
  assertEquals([...guest.take()[0]!.subarray(44, 46)], [0x81, 2]);
  guest.sockets.resolverList = ["198.51.100.1"];
  guest.raw(guest.udp(99, NETWORK.dns, 53, QUERY));
  await guest.pass(7999);
  assertEquals(guest.take(), []);
  await guest.pass(1);
  assertEquals([...guest.take()[0]!.subarray(44, 46)], [0x81, 2]);
  assert(guest.sockets.udp.every((s) => s.closed));
});

Deno.test("a restricted guest gets no way out", async () => {
  const guest = new TestGuest({ restrict: true });
  guest.raw(guest.udp(5, NETWORK.gateway, 6, hex("01")));
  guest.raw(guest.tcp({ port: 5, to: OUTSIDE, toPort: 80, seq: 0, flags: 2 }));
  guest.raw(guest.udp(99, NETWORK.dns, 53, QUERY));
  await settle();
  assertEquals([guest.sockets.connects, guest.sockets.udp.length], [[], 0]);
  assertEquals(guest.take().map((f) => [f[23], f[34], f[35]]), [[1, 3, 13], [1, 3, 13], [1, 3, 3]]);
});

Deno.test("random frames never throw, and leave nothing behind that grows", async () => {
  const guest = new TestGuest({ publish: [{ protocol: "tcp", address: "127.0.0.1", port: 1, guestPort: 1 }] });
  await guest.net.open();
  let seed = 7;
  const next = (n: number) => (seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0, (seed >>> 8) % n);
  for (let i = 0; i < 20_000; i++) {
    const base = [
      () =>
        guest.tcp(
          { port: next(4), to: OUTSIDE, toPort: next(4), seq: next(9), ack: next(2e6), flags: next(64) },
          new Uint8Array(next(50)),
        ),
      () =>
        guest.udp(
          next(9),
          [NETWORK.gateway, NETWORK.dns, OUTSIDE][next(3)]!,
          [53, 67, 9][next(3)]!,
          new Uint8Array(next(99)),
        ),
      () => guest.packet(next(20), OUTSIDE, new Uint8Array(next(40)), { fragment: next(65536), id: next(3) }),
    ][next(3)]!();
    for (let n = next(4); n > 0; n--) base[next(base.length)] = next(256);
    if (next(3) === 0) put16(base, 24, 0), put16(base, 24, checksum(base, 14, 34));
    guest.raw(base.subarray(0, next(10) === 0 ? next(base.length) : base.length), {
      csumStart: next(2) ? 34 : -1, // as if the device were to finish the checksum: none is verified
      csumOffset: 16,
      gsoSize: 0,
      gsoType: 0,
      headerBytes: 0,
    });
    if (next(50) === 0) await guest.pass(next(500));
    if (guest.frames.length > 100) guest.frames.length = 0;
  }
  await guest.pass(600_000);
  guest.net.close();
  assert(guest.sockets.streams.every((s) => s.closed) && guest.sockets.udp.every((s) => s.closed));
});
