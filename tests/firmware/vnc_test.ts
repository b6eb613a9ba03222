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
