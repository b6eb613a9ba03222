/** The VNC server before a real client, with a real BIOS's screen. */
import { assert, assertEquals } from "@std/assert";
import { desEncrypt } from "../../src/host/vnc/des.ts";
import { VncServer } from "../../src/host/vnc/server.ts";
import { screenText } from "../../src/host/screen.ts";
import { startMachine } from "../../src/machine/machine.ts";
import { which } from "../guest/which.ts";
import { firmwareOrSkip } from "./images.ts";
import { biosMachine } from "./machine.ts";

const seabios = firmwareOrSkip("seabios", "/usr/share/seabios/bios-256k.bin");
const client = which("vncsnapshot"), djpeg = which("djpeg");
if (!client) console.log("skipped: a VNC client: the package vncsnapshot is not installed");
if (!djpeg) console.log("skipped: a VNC client's pictures: the package libjpeg-turbo-progs is not installed");

/** VNC programs keep a password encrypted with this key of everybody's, whose bits they count from the other end. */
const PASSWORD_FILE_KEY = Uint8Array.of(0xe8, 0x4a, 0xd6, 0x60, 0xc4, 0x72, 0x1a, 0xe0);

/** This client takes display numbers, which count ports from here. */
const FIRST_PORT = 5900;

/** On the first free port from display 50 on. */
function listen(password: Uint8Array): VncServer {
  for (let port = FIRST_PORT + 50;; port++) {
    try {
      return new VncServer({ address: "127.0.0.1", port, password });
    } catch (error) {
      if (port > FIRST_PORT + 99) throw error;
    }
  }
}

interface Ppm {
  readonly width: number;
  readonly height: number;
  readonly rgb: Uint8Array;
}

function parsePpm(bytes: Uint8Array): Ppm {
  const head = /^P6\s+(\d+)\s+(\d+)\s+255\s/.exec(new TextDecoder("latin1").decode(bytes.subarray(0, 64)))!;
  return { width: Number(head[1]), height: Number(head[2]), rgb: bytes.subarray(head[0].length) };
}

Deno.test({
  name: "VNC: vncsnapshot, with a password, sees what the display shows, in each encoding",
  ignore: seabios.ignore || !client || !djpeg,
  fn: async () => {
    const machine = await startMachine(biosMachine(seabios.path));
    const server = listen(new TextEncoder().encode("secret"));
    const dir = await Deno.makeTempDir();
    try {
      server.serve(machine.screen!, "test");
      for (let i = 0; i < 200 && !screenText(machine.screen!)?.includes("No bootable device"); i++) {
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
      const secret = new Uint8Array(8);
      secret.set(new TextEncoder().encode("secret"));
      await Deno.writeFile(`${dir}/passwd`, desEncrypt(PASSWORD_FILE_KEY, secret));
      for (const encoding of ["hextile", "raw"]) {
        const out = `${dir}/${encoding}.jpg`;
        const args = [
          "-passwd",
          `${dir}/passwd`,
          "-encodings",
          encoding,
          "-quality",
          "100",
          `127.0.0.1:${server.port - FIRST_PORT}`,
          out,
        ];
        const { code, stderr } = await new Deno.Command(client!, { args, stderr: "piped" }).output();
        assertEquals(code, 0, new TextDecoder().decode(stderr));
        const ppm = parsePpm(
          (await new Deno.Command(djpeg!, { args: ["-pnm", out], stdout: "piped" }).output()).stdout,
        );
        const { width, height } = machine.screen!.size;
        assertEquals([ppm.width, ppm.height], [width, height]);
        const pixels = new Uint32Array(width * height);
        machine.screen!.render(pixels, { width, height });
        let wrong = 0;
        for (let i = 0; i < pixels.length; i++) {
          const differs = [16, 8, 0].some((at, c) => Math.abs(((pixels[i]! >> at) & 255) - ppm.rgb[3 * i + c]!) > 40);
          if (differs) wrong++;
        }
        // The cursor blinks, 9 by 2 dots, and JPEG smears it a little.
        assert(wrong <= 60, `${wrong} of ${pixels.length} pixels differ`);
        assert(pixels.filter((p) => p !== 0).length > 1000);
      }
    } finally {
      server.close();
      machine.stop();
      await machine.ended;
      await Deno.remove(dir, { recursive: true });
    }
  },
});

/** Shows a prompt, then each key that INT 16h gives; "q" powers off. */
const TYPEWRITER = "31c08ed8b03ee80d00b400cd163c71740de80200ebf3b40ebb0700cd10c3ba0406b80034eff4";

Deno.test({
  name: "VNC: keys that a client presses arrive at INT 16h, with Shift",
  ignore: seabios.ignore,
  fn: async () => {
    const dir = await Deno.makeTempDir();
    const image = new Uint8Array(2 ** 20);
    image.set(Uint8Array.from(TYPEWRITER.match(/../g)!, (x) => parseInt(x, 16)));
    image.set([0x55, 0xaa], 510);
    await Deno.writeFile(`${dir}/disk.img`, image);
    const disks = [{ path: `${dir}/disk.img`, readonly: true, format: "raw" }] as const;
    const machine = await startMachine(biosMachine(seabios.path, { disks }));
    const server = new VncServer({ address: "127.0.0.1", port: 0, password: null });
    try {
      server.serve(machine.screen!, "test");
      for (let i = 0; i < 200 && !screenText(machine.screen!)?.includes("\n>"); i++) {
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
      const client = await Deno.connect({ hostname: "127.0.0.1", port: server.port });
      const discard = client.readable.pipeTo(new WritableStream()).catch(() => {});
      const writer = client.writable.getWriter();
      await writer.write(new TextEncoder().encode("RFB 003.008\n"));
      await writer.write(Uint8Array.of(1, 1)); // no password; others may stay
      const SHIFT = 0xffe1;
      const key = (down: 0 | 1, sym: number) => writer.write(Uint8Array.of(4, down, 0, 0, 0, 0, sym >> 8, sym & 255));
      for (const ch of "aZ#q") {
        const sym = ch.charCodeAt(0), shifted = ch === "Z" || ch === "#";
        if (shifted) await key(1, SHIFT);
        await key(1, sym);
        await key(0, sym);
        if (shifted) await key(0, SHIFT);
        // A PC keyboard's buffer is short: a person is not as quick as this.
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
      assertEquals((await machine.ended).kind, "poweroff");
      assert(screenText(machine.screen!)!.includes("\n>aZ#"), screenText(machine.screen!)!);
      await writer.close().catch(() => {});
      server.close();
      await discard;
    } finally {
      server.close();
      machine.stop();
      await machine.ended;
      await Deno.remove(dir, { recursive: true });
    }
  },
});
