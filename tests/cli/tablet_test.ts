/** A real guest's pointer: what an RFB client does is what Linux' input layer tells, place for place. */
import { assertEquals, assertMatch } from "@std/assert";
import { guestOrSkip, runGuest, Trike } from "../boot/guests.ts";

const { guest, ignore } = await guestOrSkip("generic");
const allow = ["--allow-read", "--allow-write", "--allow-net", "--allow-env", "--v8-flags=--no-wasm-bounds-checks"];
const SYN = [0, 0, 0];

/** `struct input_event` on 64 bits, from the bytes that od prints: type, code, value, without the time [evdev]. */
function events(dump: string): number[][] {
  const bytes = Uint8Array.from((dump.match(/\b[0-9a-f]{2}\b/g) ?? []).map((text) => parseInt(text, 16)));
  const view = new DataView(bytes.buffer);
  return Array.from({ length: Math.floor(bytes.length / 24) }, (_, i) => {
    const at = 24 * i + 16;
    return [view.getUint16(at, true), view.getUint16(at + 2, true), view.getInt32(at + 4, true)];
  });
}

Deno.test({
  name: "a VNC client's pointer, buttons and wheel arrive in a guest's /dev/input, and there is a place for each pixel",
  ignore,
}, async () => {
  const probe = Deno.listen({ hostname: "127.0.0.1", port: 0 }), { port } = probe.addr;
  probe.close();
  await using run = new Trike(runGuest(guest, "", "--vnc", `${port}`, "--memory", "192M"), allow);
  const { talk } = run;
  await talk.prompt(90);
  await talk.run(
    "modprobe -a virtio_input evdev; for n in $(seq 99); do grep -q 'trike tablet' /proc/bus/input/devices && break; sleep 0.1; done",
  );
  const devices = await talk.run("grep -A9 'trike tablet' /proc/bus/input/devices");
  assertMatch(devices, /^B: ABS=3$/m);
  const [, handler] = /Handlers=.*\b(event\d+)/.exec(devices)!;

  const client = await Deno.connect({ hostname: "127.0.0.1", port });
  const discard = client.readable.pipeTo(new WritableStream()).catch(() => {});
  const writer = client.writable.getWriter();
  await writer.write(new TextEncoder().encode("RFB 003.008\n"));
  await writer.write(Uint8Array.of(1, 1)); // no password; others may stay
  const pointer = (buttons: number, x: number, y: number) =>
    writer.write(Uint8Array.of(5, buttons, x >> 8, x & 255, y >> 8, y & 255));

  // The display is 1024 by 768 without firmware, and a place in the guest v * size / 32768.
  const pixel = (
    [type, code, value]: number[],
  ) => [type!, code!, type === 3 ? (value! * [1024, 768][code!]!) >> 15 : value!];
  const expected = [
    ...[[3, 0, 0], [3, 1, 0], SYN],
    ...[[3, 0, 1023], [3, 1, 767], SYN],
    ...[[3, 0, 300], [3, 1, 200], SYN],
    ...[[1, 0x110, 1], SYN],
    ...[[3, 0, 301], SYN],
    ...[[1, 0x110, 0], SYN],
    ...[[2, 8, 1], SYN],
    ...[[2, 8, -1], SYN],
  ];
  // Once a reader has the device open, the kernel keeps events for it.
  await talk.run(`exec 3</dev/input/${handler}`);
  const steps = [[0, 0, 0], [0, 1023, 767], [0, 300, 200], [1, 300, 200], [1, 301, 200], [0, 301, 200], [8, 301, 200], [
    0,
    301,
    200,
  ], [16, 301, 200]];
  for (const [buttons, x, y] of steps) await pointer(buttons!, x!, y!);
  const said = await talk.run(`head -c ${24 * expected.length} <&3 | od -v -An -tx1`);
  assertEquals(events(said).map(pixel), expected);
  await writer.close().catch(() => {});
  run.kill("SIGQUIT");
  await run.end();
  await discard;
});
