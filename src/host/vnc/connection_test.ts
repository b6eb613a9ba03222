import { assert, assertEquals, assertRejects } from "@std/assert";
import type { Screen } from "../screen.ts";
import { Connection, Pointer } from "./connection.ts";
import { vncResponse } from "./des.ts";
import { Frames } from "./frames.ts";
import { Cursor, ZrleDecoder } from "./rfb_client.ts";
import { NATIVE } from "./pixel_format.ts";

/** A display of one colour that a test changes, and a server with one client over a real connection. */
async function session(password: string | null = null) {
  const events: string[] = [];
  const state = { width: 100, height: 40, color: 0x102030, tablet: false };
  const screen: Screen = {
    get size() {
      return { width: state.width, height: state.height };
    },
    render: (out) => void out.fill(state.color),
    textCells: () => null,
    key: (codes) => events.push(`key ${codes.map((c) => c.toString(16)).join(" ")}`),
    point: (...args) => state.tablet && events.push(`point ${args.join(" ")}`) > 0,
    mouse: (...args) => events.push(`mouse ${args.join(" ")}`),
  };
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const [conn, accepted] = await Promise.all([
    Deno.connect({ hostname: "127.0.0.1", port: listener.addr.port }),
    listener.accept(),
  ]);
  listener.close();
  const secret = password === null ? null : new TextEncoder().encode(password);
  const parts = { screen, frames: new Frames(screen), pointer: new Pointer(screen), name: "guest", password: secret };
  const served = new Connection(accepted, parts).serve();
  let waiting = new Uint8Array();
  const read = async (n: number) => {
    while (waiting.length < n) {
      const chunk = new Uint8Array(65536), got = await conn.read(chunk);
      if (got === null) throw new Error("closed");
      waiting = Uint8Array.of(...waiting, ...chunk.subarray(0, got));
    }
    const bytes = waiting.slice(0, n);
    waiting = waiting.slice(n);
    return bytes;
  };
  const write = (bytes: readonly number[] | string) =>
    conn.write(typeof bytes === "string" ? new TextEncoder().encode(bytes) : Uint8Array.from(bytes));
  return {
    state,
    events,
    read,
    write,
    /** Version 3.8 without a password, up to ServerInit. */
    async open() {
      await read(12);
      await write("RFB 003.008\n");
      await read(2);
      await write([1]);
      await read(4);
      await write([1]);
      const init = new DataView((await read(24)).buffer);
      const name = new TextDecoder().decode(await read(init.getUint32(20)));
      return { width: init.getUint16(0), height: init.getUint16(2), name };
    },
    async [Symbol.asyncDispose]() {
      conn.close();
      await served;
    },
  };
}

const u16 = (v: number) => [v >> 8, v & 255];
const encodings = (
  ...list: number[]
) => [2, 0, ...u16(list.length), ...list.flatMap((e) => [e >> 24 & 255, e >> 16 & 255, e >> 8 & 255, e & 255])];
const request = (incremental: 0 | 1, w = 100, h = 40) => [3, incremental, 0, 0, 0, 0, ...u16(w), ...u16(h)];

Deno.test("RFB: version 3.8 is offered; the server tells size, format and name", async () => {
  await using s = await session();
  assertEquals(await s.open(), { width: 100, height: 40, name: "guest" });
});

Deno.test("RFB: a client of version 3.3 is told the security type and no result", async () => {
  await using s = await session();
  await s.read(12);
  await s.write("RFB 003.003\n");
  assertEquals(await s.read(4), Uint8Array.of(0, 0, 0, 1));
  await s.write([1]);
  assertEquals((await s.read(4)).slice(), Uint8Array.of(0, 100, 0, 40));
});

for (const [name, given, result] of [["the right", "secret", 0], ["a wrong", "guess", 1]] as const) {
  Deno.test(`RFB: ${name} password is answered with ${result}`, async () => {
    await using s = await session("secret");
    await s.read(12);
    await s.write("RFB 003.008\n");
    assertEquals(await s.read(2), Uint8Array.of(1, 2));
    await s.write([2]);
    await s.write([...vncResponse(new TextEncoder().encode(given), await s.read(16))]);
    assertEquals(await s.read(4), Uint8Array.of(0, 0, 0, result));
    if (result === 1) {
      const length = new DataView((await s.read(4)).buffer).getUint32(0);
      assertEquals(new TextDecoder().decode(await s.read(length)), "Wrong password");
      await assertRejects(() => s.read(1));
    }
  });
}

Deno.test("RFB: who picks a security type that was not offered is let go", async () => {
  await using s = await session("secret");
  await s.read(12);
  await s.write("RFB 003.008\n");
  await s.read(2);
  await s.write([1]);
  await assertRejects(() => s.read(1));
});

Deno.test("RFB: an update comes when it is asked for, and an incremental one when something has changed", async () => {
  await using s = await session();
  await s.open();
  await s.write(encodings(16));
  await s.write(request(0));
  const zrle = new ZrleDecoder();
  const update = async () => {
    assertEquals(await s.read(4), Uint8Array.of(0, 0, 0, 1));
    assertEquals(await s.read(12), Uint8Array.of(0, 0, 0, 0, 0, 100, 0, 40, 0, 0, 0, 16));
    const length = await s.read(4), body = await s.read(new DataView(length.buffer).getUint32(0));
    return [...new Set(zrle.decode(new Cursor(Uint8Array.of(...length, ...body)), 100, 40, NATIVE))];
  };
  assertEquals(await update(), [0x102030]);
  await s.write(request(1));
  const next = update();
  const early = await Promise.race([next, new Promise((resolve) => setTimeout(() => resolve("none"), 300))]);
  assertEquals(early, "none");
  s.state.color = 0x405060;
  assertEquals(await next, [0x405060]);
});

Deno.test("RFB: a display of another size is announced to who understands it, and then drawn whole", async () => {
  await using s = await session();
  await s.open();
  await s.write(encodings(0, -223));
  await s.write(request(0));
  await s.read(16 + 100 * 40 * 4);
  s.state.width = 64;
  s.state.height = 16;
  await s.write(request(1));
  assertEquals(await s.read(16), Uint8Array.of(0, 0, 0, 1, 0, 0, 0, 0, 0, 64, 0, 16, 255, 255, 255, 33));
  await s.write(request(1));
  assertEquals((await s.read(16)).slice(4), Uint8Array.of(0, 0, 0, 0, 0, 64, 0, 16, 0, 0, 0, 0));
  assertEquals((await s.read(64 * 16 * 4)).slice(0, 4), Uint8Array.of(0x30, 0x20, 0x10, 0));
});

Deno.test("RFB: keys become scan codes of set 2, and are released when the client goes", async () => {
  const s = await session();
  await s.open();
  const key = (down: 0 | 1, sym: number) => s.write([4, down, 0, 0, 0, 0, ...u16(sym)]);
  await key(1, 0xffe1); // Shift
  await key(1, 0x41); // A
  await key(0, 0x41);
  await key(1, 0xff52); // Up
  await key(0, 0xff52);
  await key(1, 0x20ac); // the euro sign, which is on no key
  await s.write(request(1));
  await s.read(4); // what was sent before has been read by now
  await s[Symbol.asyncDispose]();
  assertEquals(s.events, ["key 12", "key 1c", "key f0 1c", "key e0 75", "key e0 f0 75", "key f0 12"]);
});

Deno.test("RFB: a guest with a tablet is told places, from the first on, and its mouse is left alone", async () => {
  await using s = await session();
  s.state.tablet = true;
  await s.open();
  const pointer = (buttons: number, x: number, y: number) => s.write([5, buttons, ...u16(x), ...u16(y)]);
  for (const [buttons, x, y] of [[0, 50, 20], [0, 50, 20], [2, 51, 20], [16, 51, 20]] as const) {
    await pointer(buttons, x, y);
  }
  await s.write(request(1));
  await s.read(4);
  assertEquals(s.events, ["point 50 20 0 0", "point 51 20 0 4", "point 51 20 1 0"]);
});

Deno.test("RFB: the pointer moves the mouse by what it moved, up being positive, with buttons and wheel", async () => {
  await using s = await session();
  await s.open();
  const pointer = (buttons: number, x: number, y: number) => s.write([5, buttons, ...u16(x), ...u16(y)]);
  await pointer(0, 50, 20);
  await pointer(0, 53, 15);
  await pointer(1, 53, 15);
  await pointer(4, 53, 15);
  await pointer(0, 53, 15);
  await pointer(8, 53, 15);
  await s.write(request(1));
  await s.read(4);
  assertEquals(s.events, ["mouse 3 5 0 0", "mouse 0 0 0 1", "mouse 0 0 0 2", "mouse 0 0 0 0", "mouse 0 0 -1 0"]);
});

Deno.test("RFB: a client that asks for a colour map gets one, and its pixels are indices into it", async () => {
  await using s = await session();
  await s.open();
  await s.write([0, 0, 0, 0, 8, 8, 0, 0, 0, 7, 0, 7, 0, 3, 0, 3, 6, 0, 0, 0]);
  const map = await s.read(6 + 256 * 6);
  assertEquals(map.slice(0, 6), Uint8Array.of(1, 0, 0, 0, 1, 0));
  s.state.color = 0xff0000;
  await s.write(request(0));
  const pixels = (await s.read(16 + 100 * 40)).slice(16);
  assertEquals([...map.slice(6 + 6 * pixels[0]!, 12 + 6 * pixels[0]!)], [255, 255, 0, 0, 0, 0]);
});

Deno.test("RFB: random bytes end a connection and nothing else", async () => {
  let seed = 11;
  for (let i = 0; i < 20; i++) {
    const s = await session();
    await s.open();
    const bytes = Array.from({ length: 400 }, () => (seed = Math.imul(seed, 1103515245) + 12345 >>> 0) >>> 24);
    await s.write(bytes);
    await s[Symbol.asyncDispose]();
  }
  assert(true);
});
