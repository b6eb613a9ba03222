/**
 * A machine without a CPU, for tests of everything around one: its console sends back what it is sent, and its end is the one
 * its kernel command line asks for.
 *
 * Words of the command line: `say=TEXT` prints TEXT at once; `then=END` ends so after that; `button=END` ends so at the power
 * button; `note` has a note for the user; `sizes` prints each size of the terminal; `deaf` leaves input alone; `stuck` never
 * stops; `fail` does not start; `crash` throws out of a timer, `reject` rejects a promise nobody holds.
 */
import { HostError } from "../../src/base/errors.ts";
import { ByteRing } from "../../src/base/ring.ts";
import type { Screen } from "../../src/host/screen.ts";
import type { MachineEnd, MachineHandle } from "../../src/machine/handle.ts";
import type { MachineSpec, PublishSpec } from "../../src/machine/spec.ts";

const ENDS: Record<string, MachineEnd> = {
  poweroff: { kind: "poweroff" },
  reset: { kind: "reset" },
  died: { kind: "died", message: "triple fault\nat rip \x1b[31m0x7c00" },
  "debug-exit": { kind: "debug-exit", code: 0x21 },
  "host-error": { kind: "host-error", error: new HostError("the host gave up") },
};

/** A display of a red and a blue pixel. */
const TWO_PIXELS: Screen = {
  size: { width: 2, height: 1 },
  render: (out) => out.set([0xff0000, 0x0000ff]),
  textCells: () => null,
  key() {},
  point: () => false,
  mouse() {},
};

export function startLoopback(spec: MachineSpec): Promise<MachineHandle> {
  const words = new Map(
    spec.append.split(" ").map((word) => {
      const at = word.indexOf("=");
      return at < 0 ? [word, ""] : [word.slice(0, at), word.slice(at + 1)];
    }),
  );
  if (words.has("fail")) return Promise.reject(new HostError("the loop-back machine does not start"));
  const { promise: ended, resolve } = Promise.withResolvers<MachineEnd>();
  const published: PublishSpec[] = [];
  let running = true;
  const end = (how: MachineEnd | undefined) => {
    running = false;
    if (how) resolve(how);
  };
  const ports = spec.serial.map(() => ({ tx: ByteRing.private(65536), rx: ByteRing.private(65536), notifyInput() {} }));
  const echo = async (tx: ByteRing, rx: ByteRing) => {
    while (running) {
      const bytes = rx.read(3000);
      if (bytes.length === 0) await rx.whenReadable(100);
      for (let at = 0; at < bytes.length && running;) {
        at += tx.write(bytes.subarray(at));
        if (at < bytes.length) await tx.whenWritable(100);
      }
    }
  };
  const say = words.get("say");
  if (say !== undefined) ports[0]!.tx.write(new TextEncoder().encode(JSON.parse(`"${say}"`)));
  if (!words.has("deaf")) { for (const { tx, rx } of ports) void echo(tx, rx); }
  if (words.has("crash")) {
    setTimeout(() => {
      throw new Error("the loop-back machine crashed");
    }, 200);
  }
  if (words.has("reject")) setTimeout(() => void Promise.reject(new Error("the loop-back machine rejected")), 200);
  const then = words.get("then");
  if (then !== undefined) setTimeout(() => end(ENDS[then]), 50);
  const print = (text: string) => ports[0]!.tx.write(new TextEncoder().encode(text));
  return Promise.resolve({
    serial: ports,
    notes: words.has("note") ? ["the loop-back machine has a note"] : [],
    onTrouble: () => {},
    console: {
      tx: ByteRing.private(64),
      rx: ByteRing.private(64),
      attach() {},
      notifyInput() {},
      resize: (columns, rows) => words.has("sizes") && print(`<${columns}x${rows}>`),
    },
    screen: spec.vga ? TWO_PIXELS : null,
    snapshot: async (path) => {
      await Deno.writeTextFile(path, "saved");
      return { path, bytes: 5, ramBytes: 0 };
    },
    publish: (request) => {
      if (request.action === "add") published.push(request.port);
      else if (request.action === "remove") {
        const at = published.findIndex(({ port }) => port === request.port.port);
        if (at < 0) return Promise.reject(new HostError(`port ${request.port.port} is not published`));
        published.splice(at, 1);
      }
      return Promise.resolve([...published]);
    },
    pressPowerButton: () => end(ENDS[words.get("button") ?? ""]),
    stop: () => words.has("stuck") || end({ kind: "stopped" }),
    ended,
    stats: () => ({ guestSeconds: 1.25, instructions: 42, exits: { pioWrite: 3 }, interrupts: { "30": 7 } }),
  });
}
