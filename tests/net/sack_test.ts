/** Selective acknowledgments, in both directions. */
import { assertEquals } from "@std/assert";
import { u32 } from "../../src/host/net/address.ts";
import { NETWORK } from "../../src/host/net/network.ts";
import { ReorderQueue } from "../../src/host/net/tcp_reorder.ts";
import { Scoreboard } from "../../src/host/net/tcp_sack.ts";
import { FLAG } from "../../src/host/net/tcp_segment.ts";
import { settle, TestGuest } from "./guest.ts";

const MSS = 1000;
const SYN_OPTIONS = [2, 4, MSS >> 8, MSS & 255, 1, 1, 4, 2];
const at = { port: 40_000, to: NETWORK.gateway, toPort: 80 };

async function connected(options: readonly number[]) {
  const guest = new TestGuest();
  guest.raw(guest.tcp({ ...at, seq: 99, flags: FLAG.SYN }, undefined, options));
  await settle();
  const syn = guest.takeTcp()[0]!;
  const first = (syn.seq + 1) >>> 0;
  guest.raw(guest.tcp({ ...at, seq: 100, ack: first, flags: FLAG.ACK }));
  return { guest, syn, first, stream: guest.sockets.streams[0]! };
}

const sackOf = (options: Uint8Array) =>
  options[2] === 5 ? Array.from({ length: (options[3]! - 2) / 4 }, (_, i) => u32(options, 4 + 4 * i)) : [];

Deno.test("SACK is permitted to who permits it", async () => {
  assertEquals([...(await connected(SYN_OPTIONS)).syn.options.subarray(-2)], [4, 2]);
  assertEquals([...(await connected([2, 4, 3, 232])).syn.options], [2, 4, 5, 180]);
});

Deno.test("what the guest sent before its turn is told, the newest stretch first [rfc2018 §4]", async () => {
  const { guest, first } = await connected(SYN_OPTIONS);
  const data = new Uint8Array(100);
  const send = (seq: number) => {
    guest.raw(guest.tcp({ ...at, seq, ack: first, flags: FLAG.ACK }, data));
    const s = guest.takeTcp().at(-1)!;
    return [s.ack, ...sackOf(s.options)];
  };
  assertEquals(send(300), [100, 300, 400]);
  assertEquals(send(500), [100, 500, 600, 300, 400]);
  assertEquals(send(400), [100, 300, 600]);
  assertEquals(send(100), [200, 300, 600]);
  assertEquals(send(200), [600]);
});

Deno.test("holes that the guest tells of are sent again, each once, without a timeout", async () => {
  const { guest, first, stream } = await connected(SYN_OPTIONS);
  stream.come(new Uint8Array(10 * MSS));
  await settle();
  const sent = guest.takeTcp().filter((s) => s.data.length > 0);
  assertEquals(sent.map((s) => (s.seq - first) / MSS), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  // 0, 3 and 6 are lost.
  const option = (...blocks: number[]) => {
    const edges = blocks.map((n) => (first + n * MSS) >>> 0);
    const bytes = edges.flatMap((e) => [e >>> 24, (e >>> 16) & 255, (e >>> 8) & 255, e & 255]);
    return [1, 1, 5, 2 + bytes.length, ...bytes];
  };
  const ack = (acked: number, ...blocks: number[]) => {
    const seen = { ...at, seq: 100, ack: (first + acked * MSS) >>> 0, flags: FLAG.ACK };
    guest.raw(guest.tcp(seen, undefined, blocks.length > 0 ? option(...blocks) : []));
    return guest.takeTcp().map((s) => [((s.seq - first) | 0) / MSS, s.data.length / MSS]);
  };
  assertEquals(ack(0, 1, 2), []);
  assertEquals(ack(0, 1, 3), []);
  assertEquals(ack(0, 4, 5, 1, 3), [[0, 1]]);
  assertEquals(ack(0, 4, 6, 1, 3), [[3, 1]]);
  assertEquals(ack(0, 7, 8, 4, 6, 1, 3), [[6, 1]]);
  assertEquals(ack(0, 7, 10, 4, 6, 1, 3), []);
  assertEquals(ack(3, 7, 10, 4, 6), []);
  assertEquals(ack(10), []);
});

Deno.test("the scoreboard: ranges join, those outside of what was sent are lies, and it does not grow", () => {
  const board = new Scoreboard();
  board.start(0);
  board.add([10, 20, 30, 40, 15, 35], 0, 100);
  assertEquals([board.hole(100), board.hole(100)], [{ seq: 0, bytes: 10 }, null]);
  board.clear();
  board.add([90, 110, 0xffff_fff0, 5, 60, 60, 70, 65], 0, 100);
  assertEquals(board.empty, true);
  for (let n = 0; n < 100_000; n++) board.add([4 * n, 4 * n + 2], 0, 400_000);
  board.start(0);
  let holes = 0;
  while (board.hole(1)) holes++;
  assertEquals(holes, 31 * 2);
  board.advance(400_000);
  assertEquals(board.empty, true);
});

Deno.test("the edges of early segments: overlaps are one stretch, the latest is first", () => {
  const q = new ReorderQueue(1000);
  q.add(100, new Uint8Array(10));
  q.add(105, new Uint8Array(10));
  q.add(200, new Uint8Array(10));
  assertEquals(q.edges(4), [200, 210, 100, 115]);
  q.add(300, new Uint8Array(10));
  q.add(111, new Uint8Array(2));
  assertEquals(q.edges(2), [100, 115, 200, 210]);
  assertEquals(new ReorderQueue(10).edges(4), []);
});
