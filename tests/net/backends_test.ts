/** Back ends beside the user network: a switch of several machines, datagram sockets, TAP, vmnet's double. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import type { FrameOffload } from "../../devices/virtio/net_header.ts";
import * as S from "../../ffi/socket.ts";
import { HostError } from "../../src/base/errors.ts";
import { DgramNet } from "../../src/host/net/dgram_net.ts";
import { openSwitchHost } from "../../src/host/net/switch_host.ts";
import { LearningSwitch, SwitchNet } from "../../src/host/net/switch_net.ts";
import { TapNet } from "../../src/host/net/tap_net.ts";
import type { Wire } from "../../src/host/net/wire.ts";

const LEAKY = { sanitizeOps: false, sanitizeResources: false };
const MAC = (n: number) => [2, 0, 0, 0, 0, n];
const ALL = [255, 255, 255, 255, 255, 255];
const frame = (to: number[], from: number[], text: string) =>
  Uint8Array.from([...to, ...from, 0x88, 0xb5, ...new TextEncoder().encode(text.padEnd(46))]);
const said = (f: Uint8Array) => new TextDecoder().decode(f.subarray(14)).trim();

/** A guest's end of the cable that keeps what comes. */
class Cable implements Wire {
  checksums = false;
  segments = false;
  segments6 = false;
  full = false;
  readonly got: string[] = [];
  send(f: Uint8Array, _offload: Readonly<FrameOffload>): boolean {
    if (!this.full) this.got.push(said(f));
    return !this.full;
  }
}

async function until(what: () => boolean): Promise<void> {
  for (let i = 0; i < 500 && !what(); i++) await new Promise((resolve) => setTimeout(resolve, 10));
  assert(what(), "it did not come about in five seconds");
}

Deno.test("a switch learns where stations are, sends the unknown to all, forgets ports, and holds so many stations only", () => {
  const log: string[] = [];
  const port = (name: string) => ({ send: (f: Uint8Array) => void log.push(`${name} ${said(f)}`), flush() {} });
  const a = port("a"), b = port("b"), c = port("c");
  const bridge = new LearningSwitch();
  for (const one of [a, b, c]) bridge.add(one);
  bridge.forward(a, frame(MAC(2), MAC(1), "1"));
  assertEquals(log.splice(0), ["b 1", "c 1"]);
  bridge.forward(b, frame(MAC(1), MAC(2), "2"));
  assertEquals(log.splice(0), ["a 2"]);
  bridge.forward(b, frame(MAC(2), MAC(3), "3"));
  assertEquals(log.splice(0), []);
  bridge.forward(c, frame(ALL, MAC(4), "4"));
  assertEquals(log.splice(0), ["a 4", "b 4"]);
  bridge.remove(a);
  bridge.forward(b, frame(MAC(1), MAC(2), "5"));
  assertEquals(log.splice(0), ["c 5"]);
  for (let n = 0; n < 5000; n++) bridge.forward(c, frame(MAC(2), [2, 1, 0, 0, n >> 8, n & 255], "x"));
  bridge.forward(c, frame(MAC(2), MAC(9), "6"));
  assertEquals(log.splice(0).at(-1), "b 6");
});

Deno.test({ name: "machines on a switch: the first serves, and another one does when it ends", ...LEAKY }, async () => {
  const folder = await Deno.makeTempDir();
  const join = async () => {
    const cable = new Cable();
    const net = new SwitchNet(cable, openSwitchHost("lab", folder), "lab", () => {});
    await net.open();
    return { cable, net };
  };
  const a = await join(), b = await join(), c = await join();
  assertEquals([a, b, c].map(({ net }) => net.serving), [true, false, false]);
  const tell = (from: typeof a, to: number[], own: number, text: string) => {
    from.net.receive(frame(to, MAC(own), text));
    from.net.endOfBurst();
  };
  tell(b, ALL, 2, "hello from b");
  await until(() => a.cable.got.length === 1 && c.cable.got.length === 1);
  tell(c, MAC(2), 3, "for b only");
  await until(() => b.cable.got.length === 1);
  assertEquals([a.cable.got, c.cable.got], [["hello from b"], ["hello from b"]]);
  a.net.close();
  await until(() => b.net.serving || c.net.serving);
  // The one that does not serve may still be on its way to the one that does.
  for (let n = 0; !c.cable.got.includes("after all") && n < 200; n++) {
    tell(b, ALL, 2, "after all");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  assert(c.cable.got.includes("after all"));
  b.net.close();
  c.net.close();
  await until(() => ![...Deno.readDirSync(folder)].some(({ name }) => name === "lab.switch"));
  await Deno.remove(folder, { recursive: true });
});

Deno.test({
  name: "datagrams: a frame each, both ways; a peer that goes takes the link with it, and brings it back",
  ...LEAKY,
}, async () => {
  const folder = await Deno.makeTempDir();
  const libc = S.openSocketLibc(), path = `${folder}/peer`;
  const peer = () => {
    const fd = libc.socket(S.AF_UNIX, S.SOCK_DGRAM, 0), address = S.sockaddrUn(path);
    assertEquals(libc.bind(fd, address, address.length), 0);
    const into = new Uint8Array(2000), from = new Uint8Array(110), size = new Uint32Array(1);
    return {
      read() {
        size[0] = from.length;
        const n = Number(libc.recvfrom(fd, into, 2000n, S.MSG_DONTWAIT, from, size));
        return n > 0 ? said(into.subarray(0, n)) : null;
      },
      answer: (f: Uint8Array) => libc.sendto(fd, new Uint8Array(f), BigInt(f.length), 0, from, size[0]!),
      close() {
        libc.close(fd);
        Deno.removeSync(path);
      },
    };
  };
  const cable = new Cable(), links: boolean[] = [];
  const sleep = () => new Promise<void>((resolve) => setTimeout(resolve, 20));
  const net = new DgramNet({ wire: cable, linkChanged: (up) => links.push(up), sleep }, path);
  await assertRejects(() => net.open(), HostError, "nobody has bound it");
  const first = peer();
  await net.open();
  net.receive(frame(ALL, MAC(1), "to the peer"));
  assertEquals(first.read(), "to the peer");
  cable.full = true;
  first.answer(frame(MAC(1), MAC(2), "one"));
  first.answer(frame(MAC(1), MAC(2), "two"));
  await new Promise((resolve) => setTimeout(resolve, 50));
  assertEquals(cable.got, []);
  cable.full = false;
  net.room();
  await until(() => cable.got.length === 2);
  assertEquals(cable.got, ["one", "two"]);
  first.close();
  net.receive(frame(ALL, MAC(1), "nobody hears this"));
  assertEquals(links, [false]);
  const second = peer();
  await until(() => links.length === 2);
  net.receive(frame(ALL, MAC(1), "again"));
  assertEquals([links, second.read()], [[false, true], "again"]);
  net.close();
  second.close();
  await Deno.remove(folder, { recursive: true });
});

const ip = (...args: string[]) => new Deno.Command("ip", { args, stdout: "null", stderr: "null" }).output();

/** Keeps ARP replies. */
class ArpCable extends Cable {
  readonly replies: Uint8Array[] = [];
  override send(f: Uint8Array): boolean {
    if (f[12] === 8 && f[13] === 6 && f[21] === 2) this.replies.push(f.slice());
    return true;
  }
}

Deno.test({
  name: "TAP: the host's kernel answers the guest's ARP; what is refused names the call and the remedy",
  ...LEAKY,
}, async () => {
  const name = `trk${Deno.pid % 100_000}`, cable = new ArpCable();
  const net = new TapNet(cable, name);
  try {
    await net.open();
  } catch (error) {
    if (!(error instanceof HostError)) throw error;
    assert(/--net tap: (open|ioctl\(TUNSETIFF\)) said E[A-Z]+: /.test(error.message), error.message);
    console.log(`skipped: frames through a TAP interface: ${error.message}`);
    return;
  }
  try {
    const { success } = await ip("addr", "add", "198.18.77.1/30", "dev", name).catch(() => ({ success: false }));
    if (!success) {
      return console.log("skipped: frames through a TAP interface: ip (Debian's package iproute2) does not set it up");
    }
    await ip("link", "set", name, "up");
    const ask = [...ALL, ...MAC(1), 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, ...MAC(1), 198, 18, 77, 2, ...MAC(0), 198, 18, 77, 1];
    net.receive(Uint8Array.from(ask));
    await until(() => cable.replies.length > 0);
    // A reply to us, about 198.18.77.1, from the interface's own address.
    const reply = cable.replies[0]!;
    assertEquals([...reply.subarray(0, 6)], MAC(1));
    assertEquals([...reply.subarray(28, 32)], [198, 18, 77, 1]);
    assertEquals([...reply.subarray(6, 12)], [...reply.subarray(22, 28)]);
    await assertRejects(() => new TapNet(new Cable(), name).open(), HostError, "EBUSY");
  } finally {
    net.close();
  }
});
