/** The host's end of vsock against guests made of packets: connections, credit, and what a hostile one sends. Spec: [virtio §5.10.6]. */
import { assert, assertEquals } from "@std/assert";
import { VSOCK_OP, type VsockHeader } from "../../devices/virtio/vsock.ts";
import { MAX_CONNECTIONS, VsockHost } from "../../src/host/vsock/host.ts";
import { ScriptedStream, settle } from "../net/guest.ts";

const { REQUEST, RESPONSE, RST, SHUTDOWN, RW, CREDIT_UPDATE, CREDIT_REQUEST } = VSOCK_OP;
const GUEST = 7, HOST = 2;

class Guest {
  readonly seen: (VsockHeader & { data: string })[] = [];
  readonly streams: ScriptedStream[] = [];
  /** Buffers it has; what one holds. */
  buffers = Infinity;
  bufferBytes = 4096;
  refuse = false;
  readonly host = new VsockHost({
    guestCid: GUEST,
    deliver: (h, data) => {
      if (this.buffers <= 0) return -1;
      this.buffers--;
      const taken = data.subarray(0, this.bufferBytes);
      this.seen.push({ ...h, data: new TextDecoder().decode(taken) });
      return taken.length;
    },
    connect: () => {
      if (this.refuse) return Promise.reject(new Error("nobody"));
      const stream = new ScriptedStream();
      this.streams.push(stream);
      return Promise.resolve(stream);
    },
  });

  send(op: number, change: Partial<VsockHeader> = {}, data = ""): void {
    this.host.receive({
      srcCid: GUEST,
      dstCid: HOST,
      srcPort: 1000,
      dstPort: 77,
      type: 1,
      op,
      flags: 0,
      bufAlloc: 65536,
      fwdCnt: 0,
      ...change,
    }, new TextEncoder().encode(data));
  }
  take(): number[] {
    return this.seen.splice(0).map(({ op }) => op);
  }
}

Deno.test("a guest's connection is answered, carries bytes both ways, and ends with RST after both have shut down", async () => {
  const g = new Guest();
  g.send(REQUEST);
  await settle();
  assertEquals(g.seen.map(({ op, srcPort, dstPort, srcCid, dstCid }) => [op, srcCid, srcPort, dstCid, dstPort]), [
    [RESPONSE, HOST, 77, GUEST, 1000],
  ]);
  assert(g.seen[0]!.bufAlloc > 0);
  g.take();
  const stream = g.streams[0]!;
  g.send(RW, {}, "hello");
  stream.come(new TextEncoder().encode("world"));
  await settle();
  assertEquals(new TextDecoder().decode(Uint8Array.from(stream.written)), "hello");
  assertEquals(g.seen.map(({ op, data }) => [op, data]), [[RW, "world"]]);
  g.take();
  g.send(CREDIT_REQUEST);
  assertEquals(g.seen.map(({ op, fwdCnt }) => [op, fwdCnt]), [[CREDIT_UPDATE, 5]]);
  g.take();
  g.send(SHUTDOWN, { flags: 2 });
  await settle();
  assert(stream.sawFin && !stream.closed);
  stream.end();
  await settle();
  assertEquals(g.seen.map(({ op, flags }) => [op, flags]), [[SHUTDOWN, 2]]);
  g.take();
  g.send(SHUTDOWN, { flags: 3 });
  await settle();
  assertEquals(g.take(), [RST]);
  assert(stream.closed);
  assertEquals(g.host.connections, 0);
});

Deno.test("no more is sent than the guest has room for, and none is lost when it has no buffers", async () => {
  const g = new Guest();
  g.send(REQUEST, { bufAlloc: 10 });
  await settle();
  g.take();
  const text = "0123456789abcdefghij";
  g.streams[0]!.come(new TextEncoder().encode(text));
  await settle();
  assertEquals(g.seen.map(({ op, data }) => [op, data]), [[RW, "0123456789"], [CREDIT_REQUEST, ""]]);
  g.take();
  g.buffers = 0;
  g.send(CREDIT_UPDATE, { bufAlloc: 10, fwdCnt: 7 });
  await settle();
  assertEquals(g.take(), []);
  g.buffers = Infinity;
  g.host.room();
  await settle();
  assertEquals(g.seen.map(({ op, data }) => [op, data]), [[RW, "abcdefg"], [CREDIT_REQUEST, ""]]);
});

Deno.test("a guest that sends more than there is room for loses the connection", async () => {
  const g = new Guest();
  g.send(REQUEST);
  await settle();
  const room = g.seen[0]!.bufAlloc;
  g.take();
  g.streams[0]!.stuck = true;
  const piece = "x".repeat(32768);
  for (let sent = 0; sent < room; sent += piece.length) g.send(RW, {}, piece);
  assertEquals(g.take(), []);
  g.send(RW, {}, "x");
  assertEquals(g.take(), [RST]);
  assert(g.streams[0]!.closed);
});

Deno.test("a client says where to, and is told when the guest has accepted", async () => {
  const g = new Guest(), client = new ScriptedStream();
  void g.host.accept(client);
  client.come(new TextEncoder().encode("CONNECT 52\nearly"));
  await settle();
  const [asked] = g.seen;
  assertEquals([asked!.op, asked!.dstPort, client.written.length], [REQUEST, 52, 0]);
  g.take();
  const ports = { srcPort: 52, dstPort: asked!.srcPort };
  g.send(RESPONSE, ports);
  await settle();
  assertEquals(new TextDecoder().decode(Uint8Array.from(client.written)), `OK ${asked!.srcPort}\n`);
  assertEquals(g.seen.map(({ op, data }) => [op, data]), [[RW, "early"]]);
  g.send(RST, ports);
  assert(client.closed);
});

Deno.test("a client that is refused, or says nothing that is a port, is let go", async () => {
  const g = new Guest();
  for (const line of ["CONNECT x\n", "GET / HTTP/1.1\r\n", "CONNECT 99999999999\n", `${"C".repeat(100)}`]) {
    const client = new ScriptedStream();
    void g.host.accept(client);
    client.come(new TextEncoder().encode(line));
    await settle();
    assert(client.closed, line);
  }
  assertEquals(g.take(), []);
  const client = new ScriptedStream();
  void g.host.accept(client);
  client.come(new TextEncoder().encode("connect 1\n"));
  await settle();
  g.send(RST, { srcPort: 1, dstPort: g.seen[0]!.srcPort });
  await settle();
  assert(client.closed);
  assertEquals(g.host.connections, 0);
});

Deno.test("what belongs to no connection is reset, but never a reset, and not in another's name", async () => {
  const g = new Guest();
  for (const op of [RESPONSE, SHUTDOWN, RW, CREDIT_UPDATE, CREDIT_REQUEST, 0, 99]) g.send(op);
  assertEquals(g.take(), [RST, RST, RST, RST, RST, RST, RST]);
  g.send(RST);
  g.send(REQUEST, { srcCid: 8 });
  g.send(REQUEST, { dstCid: -1 });
  assertEquals(g.take(), []);
  g.send(REQUEST, { dstCid: 9 });
  g.send(REQUEST, { type: 2 });
  assertEquals(g.take(), [RST, RST]);
  g.refuse = true;
  g.send(REQUEST);
  await settle();
  assertEquals(g.take(), [RST]);
});

Deno.test("connections, and answers that wait for room, have a bound", async () => {
  const g = new Guest();
  g.buffers = 0;
  for (let port = 1; port <= MAX_CONNECTIONS + 500; port++) g.send(REQUEST, { srcPort: port });
  for (let i = 0; i < 20_000; i++) g.send(RW, { srcPort: 60_000 });
  await settle();
  assertEquals(g.host.connections, MAX_CONNECTIONS);
  g.buffers = Infinity;
  g.host.room();
  const ops = g.take();
  assert(ops.length <= 4 * MAX_CONNECTIONS && ops.includes(RST), `${ops.length}`);
  g.host.reset();
  assertEquals(g.host.connections, 0);
  assert(g.streams.every((stream) => stream.closed));
});
