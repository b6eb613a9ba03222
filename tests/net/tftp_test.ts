/** The TFTP server before curl, before a client that is scripted, and behind the gateway's address. */
import { assert, assertEquals } from "@std/assert";
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { u16, u32 } from "../../src/host/net/address.ts";
import { NETWORK } from "../../src/host/net/network.ts";
import { MAX_TRANSFERS, TFTP_PORT, type TftpFile, type TftpFiles, TftpServer } from "../../src/host/net/tftp.ts";
import { TftpFolder } from "../../src/host/net/tftp_folder.ts";
import type { Endpoint } from "../../src/host/net/udp.ts";
import { which } from "../guest/which.ts";
import { settle, TestGuest } from "./guest.ts";

const curl = which("curl");
if (!curl) console.log("skipped: TFTP before curl: the package curl is not installed");

const text = (bytes: Uint8Array) => new TextDecoder("latin1").decode(bytes);
const pattern = (size: number) => Uint8Array.from({ length: size }, (_, i) => (i * 7) ^ (i >> 8) * 13);

/** Files in memory. */
function filesOf(contents: Record<string, Uint8Array>) {
  const files = {
    opened: 0,
    closed: 0,
    open(name: string): Promise<TftpFile | null> {
      const bytes = contents[name];
      if (!bytes) return Promise.resolve(null);
      files.opened++;
      let at = 0;
      return Promise.resolve({
        sizeBytes: bytes.length,
        read: (into) => {
          const part = bytes.subarray(at, at + into.length);
          into.set(part);
          at += part.length;
          return Promise.resolve(part.length);
        },
        close: () => void files.closed++,
      });
    },
  };
  return files;
}

function request(name: string, ...more: string[]): Uint8Array {
  const words = [name, ...more.length % 2 ? more : ["octet", ...more]];
  return Uint8Array.of(0, 1, ...new TextEncoder().encode(words.map((word) => `${word}\0`).join("")));
}
const ack = (block: number) => Uint8Array.of(0, 4, block >> 8, block & 255);

/** A client whose time is moved by hand. */
class Client {
  nowMs = 0;
  readonly sent: { port: number; to: Endpoint; packet: Uint8Array }[] = [];
  readonly server: TftpServer;
  readonly end: Endpoint = { address: NETWORK.guest, port: 2000 };

  constructor(files: TftpFiles) {
    this.server = new TftpServer({
      files,
      now: () => this.nowMs,
      random: () => 5,
      armed: () => {},
      send: (port, to, packet) => void this.sent.push({ port, to, packet }),
    });
  }

  async say(port: number, packet: Uint8Array): Promise<Uint8Array[]> {
    this.server.receive(this.end, port, packet);
    await settle();
    return this.take();
  }

  take(): Uint8Array[] {
    return this.sent.splice(0).map(({ packet }) => packet);
  }

  /** Asks; the port that answers, and what it says. */
  async ask(...words: [string, ...string[]]): Promise<{ port: number; packet: Uint8Array }> {
    this.server.receive(this.end, TFTP_PORT, request(...words));
    await settle();
    assertEquals(this.sent.length, 1);
    return this.sent.shift()!;
  }
}

Deno.test("without options: blocks of 512 bytes in step, the last one shorter, from a port of the transfer's own", async () => {
  const bytes = pattern(1024), files = filesOf({ f: bytes });
  const c = new Client(files);
  const { port, packet } = await c.ask("f");
  assert(port !== TFTP_PORT);
  assertEquals([u16(packet, 0), u16(packet, 2), packet.subarray(4)], [3, 1, bytes.subarray(0, 512)]);
  const [second] = await c.say(port, ack(1));
  assertEquals([u16(second!, 2), second!.length], [2, 516]);
  assertEquals(await c.say(port, ack(1)), []); // the sorcerer's apprentice: not sent twice [rfc1123 §4.2.3.1]
  const [last] = await c.say(port, ack(2));
  assertEquals([...last!], [0, 3, 0, 3]); // a file of whole blocks ends with an empty one [rfc1350 §6]
  assertEquals([await c.say(port, ack(3)), files.closed], [[], 1]);
});

Deno.test("options: what is agreed to is in the OACK, the rest is not; a block fits into one packet", async () => {
  const c = new Client(filesOf({ f: pattern(3000) }));
  const said = async (...options: string[]) => {
    const { port, packet } = await c.ask("f", ...options);
    c.server.receive(c.end, port, Uint8Array.of(0, 5, 0, 0, 0)); // enough: an error ends the transfer
    return u16(packet, 0) === 6 ? text(packet.subarray(2)).split("\0").slice(0, -1).join(" ") : "DATA";
  };
  assertEquals(await said("blksize", "1024", "tsize", "0"), "blksize 1024 tsize 3000");
  assertEquals(await said("BLKSIZE", "65464"), "blksize 1468");
  assertEquals(await said("blksize", "7", "timeout", "0", "multicast", "", "windowsize", "x"), "DATA");
  assertEquals(await said("timeout", "3", "windowsize", "65535"), "timeout 3 windowsize 16");
  const { port } = await c.ask("f", "blksize", "1024");
  const [first] = await c.say(port, ack(0));
  assertEquals([u16(first!, 0), u16(first!, 2), first!.length], [3, 1, 1028]);
});

Deno.test("windowsize: so many blocks at a time, and after a gap those that follow what came [rfc7440 §4]", async () => {
  const c = new Client(filesOf({ f: pattern(100) }));
  const { port } = await c.ask("f", "blksize", "10", "windowsize", "4");
  const numbers = async (block: number) => (await c.say(port, ack(block))).map((packet) => u16(packet, 2));
  assertEquals(await numbers(0), [1, 2, 3, 4]);
  assertEquals(await numbers(2), [3, 4, 5, 6]);
  assertEquals(await numbers(1), []); // of the past
  assertEquals(await numbers(6), [7, 8, 9, 10]);
  assertEquals(await numbers(10), [11]);
  assertEquals(await numbers(11), []);
});

Deno.test("what is not acknowledged is sent again after the timeout, a few times, and then forgotten", async () => {
  const files = filesOf({ f: pattern(100) }), c = new Client(files);
  const { port } = await c.ask("f", "timeout", "2");
  c.nowMs = 1999;
  assertEquals([c.server.tick(), c.take().length], [2000, 0]);
  let again = 0;
  for (let i = 0; i < 20; i++, c.nowMs += 2000) {
    c.server.tick();
    again += c.take().length;
  }
  assertEquals([again, files.closed], [5, 1]);
  c.nowMs += 60_000;
  assertEquals(c.server.tick(), Infinity);
  assertEquals(c.server.receive(c.end, port, ack(0)), false);
});

Deno.test("block numbers go on with 0 after 65535", async () => {
  const bytes = pattern(65540 * 8 + 3), c = new Client(filesOf({ f: bytes }));
  const { port } = await c.ask("f", "blksize", "8", "windowsize", "16");
  const got = new Uint8Array(bytes.length + 8);
  let blocks = 0;
  for (let last = false; !last;) {
    for (const packet of await c.say(port, ack(blocks & 0xffff))) {
      got.set(packet.subarray(4), blocks * 8);
      assertEquals(u16(packet, 2), ++blocks & 0xffff);
      last = packet.length < 12;
    }
  }
  assertEquals([blocks, got.subarray(0, bytes.length)], [65541, bytes]);
});

Deno.test("refusals have the codes of [rfc1350 §5]; an error is not answered", async () => {
  const c = new Client(filesOf({ f: pattern(9) }));
  const code = async (packet: Uint8Array) => (await c.say(TFTP_PORT, packet)).map((p) => [u16(p, 0), u16(p, 2)]);
  assertEquals(await code(request("g")), [[5, 1]]);
  assertEquals(await code(Uint8Array.of(0, 2, 102, 0, ...new TextEncoder().encode("octet\0"))), [[5, 2]]);
  assertEquals(await code(request("f", "mail")), [[5, 4]]);
  assertEquals(await code(Uint8Array.of(0, 1, 102)), [[5, 4]]);
  assertEquals(await code(Uint8Array.of(0, 9)), [[5, 4]]);
  assertEquals(await code(Uint8Array.of(0, 5, 0, 0, 0)), []);
  const { port } = await c.ask("f");
  assertEquals((await c.say(port, Uint8Array.of(0, 3, 0, 1))).map((p) => [u16(p, 0), u16(p, 2)]), [[5, 4]]);
});

Deno.test("a guest that asks without end has no more than so many files open, and random packets do no harm", async () => {
  const files = filesOf({ f: pattern(5000) }), c = new Client(files);
  let seed = 11;
  const next = (n: number) => (seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0, (seed >>> 8) % n);
  for (let i = 0; i < 20_000; i++) {
    const packet = [
      () => request("f", "blksize", `${next(70000)}`, "windowsize", `${next(20)}`),
      () => ack(next(9)),
      () => Uint8Array.from({ length: next(40) }, () => next(256)),
    ][next(3)]!();
    if (next(4) === 0 && packet.length > 0) packet[next(packet.length)] = next(256);
    const end = { address: NETWORK.guest, port: next(100) };
    c.server.receive(end, next(2) ? TFTP_PORT : 49152 + next(16384), packet);
    if (next(10) === 0) await settle();
    if (next(50) === 0) c.nowMs += next(3000), c.server.tick();
    assert(files.opened - files.closed <= 2 * MAX_TRANSFERS);
    c.sent.length = 0;
  }
  c.server.clear();
  await settle();
  assertEquals(files.opened, files.closed);
});

/** A folder with files, links of all kinds, and a secret beside it. */
async function withTree(body: (folder: string) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    await Deno.mkdir(`${dir}/root/sub`, { recursive: true });
    await Deno.mkdir(`${dir}/rootless`);
    await Deno.writeTextFile(`${dir}/secret`, "secret");
    await Deno.writeTextFile(`${dir}/rootless/secret`, "secret");
    await Deno.writeTextFile(`${dir}/root/sub/f`, "inside");
    await Deno.symlink("sub/f", `${dir}/root/link`);
    await Deno.symlink("../secret", `${dir}/root/out`);
    await Deno.symlink("..", `${dir}/root/up`);
    await Deno.symlink("loop", `${dir}/root/loop`);
    await Deno.symlink(`${dir}/rootless/secret`, `${dir}/root/beside`);
    await new Deno.Command("mkfifo", { args: [`${dir}/root/pipe`] }).output();
    await body(`${dir}/root`);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

Deno.test("a folder gives its regular files, by links too, and nothing from outside", () =>
  withTree(async (root) => {
    const folder = await TftpFolder.of(root);
    const get = async (name: string) => {
      const file = await folder.open(name);
      if (file === null || file === "forbidden") return file;
      const into = new Uint8Array(100), n = await file.read(into);
      file.close();
      return text(into.subarray(0, n));
    };
    for (const name of ["sub/f", "/sub/f", "//sub/./f", "sub\\f", "link"]) {
      assertEquals([name, await get(name)], [name, "inside"]);
    }
    for (
      const name of ["../secret", "sub/../../secret", "..\\secret", "out", "up/secret", "beside", "sub", "pipe", "loop"]
    ) {
      assertEquals([name, await get(name)], [name, "forbidden"]);
    }
    for (const name of ["", "/", "nothing", "sub/f/g", `${root}/sub/f`, "x".repeat(5000)]) {
      assertEquals([name, await get(name)], [name, null]);
    }
    assert(["forbidden", null].includes(await get("a\0b")));
  }));

Deno.test({
  name: "curl gets files of every kind of length, with and without options, and text as netascii",
  ignore: !curl,
  fn: () =>
    withTree(async (root) => {
      // The server's ports are sockets on the loop-back interface, each made when it is first sent from.
      const sockets = new Map<number, Promise<Socket>>();
      const socketOf = (port: number) => {
        const open = async () => {
          const socket = createSocket("udp4");
          socket.on("message", (packet, { address, port: from }) => {
            server.receive({ address, port: from }, port, new Uint8Array(packet));
          });
          socket.bind(0, "127.0.0.1");
          await once(socket, "listening");
          return socket;
        };
        const socket = sockets.get(port) ?? open();
        sockets.set(port, socket);
        return socket;
      };
      const server: TftpServer = new TftpServer({
        files: await TftpFolder.of(root),
        now: () => performance.now(),
        random: () => 77,
        armed: () => {},
        send: (port, { address, port: to }, packet) => {
          void socketOf(port).then((socket) => socket.send(packet, to, address as string));
        },
      });
      const at = (await socketOf(TFTP_PORT)).address().port;
      const get = async (name: string, ...args: string[]) => {
        const { code, stdout } = await new Deno.Command(curl!, {
          args: ["-s", "-m", "60", ...args, `tftp://127.0.0.1:${at}/${name}`],
        }).output();
        return { code, stdout };
      };
      try {
        for (const size of [0, 1, 511, 512, 513, 1400, 300_000]) {
          await Deno.writeFile(`${root}/f${size}`, pattern(size));
          for (const args of [[], ["--tftp-no-options"], ["--tftp-blksize", "1400"]]) {
            // This client takes a size of 0 for an error of the server's.
            if (size === 0 && args[0] !== "--tftp-no-options") continue;
            assertEquals(await get(`f${size}`, ...args), { code: 0, stdout: pattern(size) });
          }
        }
        await Deno.writeTextFile(`${root}/lines`, "one\ntwo\r\n" + "x".repeat(505) + "\n\n");
        const { stdout } = await get("lines", "--use-ascii");
        assertEquals(text(stdout), "one\r\ntwo\r\0\r\n" + "x".repeat(505) + "\r\n\r\n"); // [rfc764 p. 10]
        // Of curl's exit statuses, 68 is for a file that is not there, 69 for one that may not be read.
        assertEquals([(await get("none")).code, (await get("out")).code], [68, 69]);
      } finally {
        server.clear();
        for (const socket of sockets.values()) (await socket).close();
      }
    }),
});

Deno.test("behind the gateway: port 69 is the server's, restricted or not; without files it is the host's", async () => {
  for (const restrict of [false, true]) {
    const guest = new TestGuest({ restrict }, filesOf({ f: pattern(600) }));
    guest.raw(guest.udp(2000, NETWORK.gateway, TFTP_PORT, request("f")));
    await settle();
    const [first] = guest.take();
    assertEquals([u32(first!, 26), u32(first!, 30), u16(first!, 36), first!.length], [
      NETWORK.gateway,
      NETWORK.guest,
      2000,
      558,
    ]);
    const port = u16(first!, 34);
    guest.raw(guest.udp(2000, NETWORK.gateway, port, ack(1)));
    await settle();
    assertEquals(guest.take().map((frame) => u16(frame, 44)), [2]);
    await guest.pass(1000);
    assertEquals(guest.take().map((frame) => u16(frame, 44)), [2]);
    guest.raw(guest.udp(2000, NETWORK.gateway, port, ack(2)));
    await guest.pass(60_000);
    assertEquals([guest.take(), guest.sockets.udp], [[], []]);
  }
  const guest = new TestGuest();
  guest.raw(guest.udp(2000, NETWORK.gateway, TFTP_PORT, request("f")));
  await settle();
  assertEquals(guest.sockets.udp[0]!.sent.map(({ to }) => to), ["127.0.0.1:69"]);
});

/** The fields of a DHCP offer to a client that says what it runs; null: it says nothing. */
function offer(guest: TestGuest, architecture: number | null) {
  const message = new Uint8Array(300);
  message.set([1, 1, 6, 0, 1, 2, 3, 4]);
  message.set([0x63, 0x82, 0x53, 0x63, 53, 1, 1], 236);
  if (architecture !== null) message.set([93, 2, 0, architecture], 243);
  message[247] = 255;
  guest.raw(guest.udp(68, 0xffffffff, 67, message, 0));
  const reply = guest.take()[0]!.subarray(42);
  const options = new Map<number, string>();
  for (let at = 240; reply[at] !== 255; at += 2 + reply[at + 1]!) {
    options.set(reply[at]!, text(reply.subarray(at + 2, at + 2 + reply[at + 1]!)));
  }
  const file = text(reply.subarray(108, 236)).replace(/\0+$/, "");
  return [u32(reply, 20), file, options.get(66), options.get(67)];
}

Deno.test("DHCP tells a BIOS and UEFI what to load, from where, and others nothing", () => {
  const files = filesOf({}), told = (name: string) => [NETWORK.gateway, name, "10.0.2.2", name];
  const nothing = [0, "", undefined, undefined];
  const both = new TestGuest({ bootFile: "pxelinux.0", bootFileUefi: "boot.efi" }, files);
  assertEquals([null, 0, 7, 9, 6].map((a) => offer(both, a)), [
    told("pxelinux.0"),
    told("pxelinux.0"),
    told("boot.efi"),
    told("boot.efi"),
    told("boot.efi"),
  ]);
  assertEquals([11, 16].map((a) => offer(both, a)), [nothing, nothing]); // ARM; UEFI by HTTP
  const one = new TestGuest({ bootFile: "x".repeat(127) }, files);
  assertEquals([0, 7].map((a) => offer(one, a)[1]), ["x".repeat(127), "x".repeat(127)]);
  const uefi = new TestGuest({ bootFileUefi: "boot.efi" }, files);
  assertEquals([0, 7].map((a) => offer(uefi, a)), [nothing, told("boot.efi")]);
  assertEquals(offer(new TestGuest(), 0), nothing);
});
