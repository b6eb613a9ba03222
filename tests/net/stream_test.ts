/** Back ends' ends on the host: the stream of frames, the capture file, the byte queue, and Deno's own sockets. */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { ConfigError, HostError } from "../../src/base/errors.ts";
import { ByteQueue } from "../../src/host/net/byte_queue.ts";
import { DenoSockets } from "../../src/host/net/host_sockets.ts";
import { PcapFile } from "../../src/host/net/pcap.ts";
import { StreamNet } from "../../src/host/net/stream_net.ts";
import { ScriptedStream, settle } from "./guest.ts";

function fixture() {
  const frames: number[][] = [];
  const links: boolean[] = [];
  const streams: ScriptedStream[] = [];
  const wire = {
    checksums: false,
    segments: false,
    segments6: false,
    full: false,
    send: (f: Uint8Array) => !wire.full && !!frames.push([...f]),
  };
  let refuse = false;
  const sleepers: (() => void)[] = [];
  const net = new StreamNet({
    wire,
    connect: () => {
      if (refuse) return Promise.reject(new Error("nobody there"));
      const stream = new ScriptedStream();
      streams.push(stream);
      return Promise.resolve(stream);
    },
    linkChanged: (up) => links.push(up),
    sleep: () => new Promise((resolve) => sleepers.push(resolve)),
  }, "/s");
  return { net, wire, frames, links, streams, sleepers, refuse: (on: boolean) => refuse = on };
}

Deno.test("stream: each frame behind its length in network byte order, however the bytes are cut", async () => {
  const { net, frames, streams } = fixture();
  await net.open();
  const [stream] = streams;
  net.receive(Uint8Array.of(1, 2, 3));
  net.receive(new Uint8Array(300).fill(7));
  net.endOfBurst();
  await settle();
  assertEquals(stream!.written.slice(0, 13), [0, 0, 0, 3, 1, 2, 3, 0, 0, 1, 44, 7, 7]);
  assertEquals(stream!.written.length, 7 + 304);
  for (const byte of [0, 0, 0, 2, 8, 9, 0, 0, 0, 1, 5]) {
    stream!.come(Uint8Array.of(byte));
    await settle();
  }
  assertEquals(frames, [[8, 9], [5]]);
});

Deno.test("stream: frames the guest has no room for wait, and the other end with them", async () => {
  const { net, wire, frames, streams } = fixture();
  await net.open();
  wire.full = true;
  streams[0]!.come(Uint8Array.of(0, 0, 0, 1, 5, 0, 0, 0, 1, 6));
  await settle();
  assertEquals(frames, []);
  wire.full = false;
  net.room();
  await settle();
  assertEquals(frames, [[5], [6]]);
});

Deno.test("stream: when the other end goes the cable is out until it is back; a length beyond any frame is no frame", async () => {
  const { net, links, streams, sleepers, refuse } = fixture();
  await net.open();
  streams[0]!.come(Uint8Array.of(0, 2, 0, 0)); // 128 KiB
  await settle();
  assertEquals([links, streams[0]!.closed], [[false], true]);
  net.receive(Uint8Array.of(1)); // lost
  net.endOfBurst();
  refuse(true);
  sleepers.shift()!();
  await settle();
  refuse(false);
  sleepers.shift()!();
  await settle();
  assertEquals([links, streams.length], [[false, true], 2]);
  streams[1]!.end();
  await settle();
  assertEquals(links, [false, true, false]);
  net.close();
  refuse(true);
  const other = fixture();
  other.refuse(true);
  await assertRejects(() => other.net.open(), HostError, '"/s"');
});

Deno.test("pcap: a file header, then each frame behind its time and length; tcpdump reads it where there is one", async () => {
  const path = await Deno.makeTempFile();
  const file = PcapFile.open(path);
  file.add(
    Uint8Array.fromHex("020000000001020000000002080600010800060400010200000000020a0002020000000000000a00020f"),
    1500.25,
  );
  file.add(new Uint8Array(70_000), 2_000_000_000_123);
  file.close();
  const bytes = await Deno.readFile(path);
  const view = new DataView(bytes.buffer);
  assertEquals(bytes.subarray(0, 24).toHex(), "d4c3b2a1020004000000000000000000" + "00000400" + "01000000");
  assertEquals([view.getUint32(24, true), view.getUint32(28, true), view.getUint32(32, true)], [1, 500_250, 42]);
  assertEquals([view.getUint32(82, true), view.getUint32(86, true)], [2_000_000_000, 123_000]);
  assertEquals(bytes.length, 24 + 16 + 42 + 16 + 70_000);
  let text: string | null = null;
  try {
    const { stdout } = await new Deno.Command("tcpdump", { args: ["-n", "-r", path], stderr: "null" }).output();
    text = new TextDecoder().decode(stdout);
  } catch {
    console.log("skipped: reading it back: there is no tcpdump");
  }
  if (text !== null) assert(/who-has 10\.0\.2\.15 tell 10\.0\.2\.2/.test(text), text);
  await Deno.remove(path);
  assertThrows(() => PcapFile.open("/nowhere/at/all"), ConfigError, "pcap");
});

Deno.test("the byte queue keeps the order of bytes through growth, wrapping and shrinking, against an array", () => {
  const queue = new ByteQueue(64 * 1024);
  const oracle: number[] = [];
  let seed = 3, byte = 0;
  const next = (n: number) => (seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0, (seed >>> 8) % n);
  for (let i = 0; i < 3000; i++) {
    if (next(2)) {
      const bytes = Uint8Array.from({ length: Math.min(next(9000), queue.space) }, () => byte++ & 255);
      queue.push(bytes);
      oracle.push(...bytes);
    } else {
      const front = queue.front();
      assertEquals(front, Uint8Array.from(oracle.slice(0, front.length)));
      const n = next(front.length + 1);
      queue.consume(n);
      oracle.splice(0, n);
    }
    if (oracle.length > 0) {
      const at = next(oracle.length), to = new Uint8Array(next(oracle.length - at + 1));
      queue.copy(at, to);
      assertEquals(to, Uint8Array.from(oracle.slice(at, at + to.length)));
    } else queue.shrink();
    assertEquals([queue.length, queue.space], [oracle.length, 64 * 1024 - oracle.length]);
  }
});

Deno.test("Deno's sockets: a client and a listener, half-close, a refusal, datagrams", async () => {
  const sockets = new DenoSockets();
  const port = 20_000 + Math.floor(Math.random() * 20_000);
  const arrived = Promise.withResolvers<string>();
  const listener = sockets.listen("127.0.0.1", port, async (stream, address) => {
    const buffer = new Uint8Array(10);
    let text = address;
    for (let n = await stream.read(buffer); n !== null; n = await stream.read(buffer)) {
      text += new TextDecoder().decode(buffer.subarray(0, n));
    }
    await stream.write(new TextEncoder().encode("back"));
    stream.close();
    stream.close();
    arrived.resolve(text);
  });
  const stream = await sockets.connect("127.0.0.1", port);
  if (typeof stream === "string") throw new Error(stream);
  await stream.write(new TextEncoder().encode(" there"));
  await stream.closeWrite();
  const buffer = new Uint8Array(10);
  assertEquals(await stream.read(buffer), 4);
  assertEquals(await stream.read(buffer), null);
  stream.close();
  assertEquals(await arrived.promise, "127.0.0.1 there");
  assertThrows(() => sockets.listen("127.0.0.1", port, () => {}));
  listener.close();
  await new Promise((resolve) => setTimeout(resolve, 50)); // its last accept ends
  assertEquals(await sockets.connect("127.0.0.1", port), "refused");

  let six: { close(): void } | null = null;
  try {
    six = sockets.listen("::1", port, (stream) => stream.close());
  } catch {
    console.log("skipped: a server at ::1 alone: this host has no IPv6");
  }
  if (six) {
    const found = await sockets.connect("127.0.0.1", port);
    if (typeof found === "string") throw new Error(found);
    assertEquals(await found.read(buffer), null);
    found.close();
    six.close();
  }

  const got = Promise.withResolvers<string>();
  const server = await sockets.datagrams("127.0.0.1", port, (bytes, from) => got.resolve(`${bytes} ${from}`));
  const client = await sockets.datagrams("0.0.0.0", 0, () => {});
  client.send(Uint8Array.of(1, 2), "127.0.0.1", port);
  assertEquals(await got.promise, "1,2 127.0.0.1");
  await assertRejects(() => sockets.datagrams("127.0.0.1", port, () => {}));
  for (const socket of [server, client]) socket.close();
});
