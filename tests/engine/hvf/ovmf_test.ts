/** A UEFI firmware under the engine hvf, on the double: ROM below 4 GiB, flash that is read by access, a frame buffer. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { startMachine } from "../../../src/machine/machine.ts";
import type { MachineSpec } from "../../../src/machine/spec.ts";
import { withFolder } from "../../boot/guests.ts";
import { firmwareOrSkip } from "../../firmware/images.ts";
import { biosMachine } from "../../firmware/machine.ts";
import { refusal } from "./double.ts";
import { doubled } from "./machine.ts";

if (refusal !== null) console.log(`skipped: ${refusal}`);
const code = firmwareOrSkip("ovmf", "/usr/share/OVMF/OVMF_CODE_4M.fd");
const vars = firmwareOrSkip("ovmf", "/usr/share/OVMF/OVMF_VARS_4M.fd");

Deno.test({
  name: "hvf: OVMF comes to its shell, and draws into a frame buffer",
  ignore: refusal !== null || code.ignore || vars.ignore,
  fn: () =>
    withFolder(async (folder) => {
      await Deno.copyFile(vars.path, `${folder}/vars.fd`);
      const firmware = { path: code.path, vars: `${folder}/vars.fd` };
      const spec: MachineSpec = { ...biosMachine(code.path, { firmware }), engine: "hvf", memoryBytes: 128 << 20 };
      const machine = await startMachine({ ...spec, vga: { bios: null } }, doubled);
      const limit = setTimeout(() => machine.stop(), 300_000);
      let text = "";
      const decoder = new TextDecoder(), { tx } = machine.serial[0]!;
      const over = machine.ended.then(() => true);
      while (!text.includes("seconds to skip") && !await Promise.race([over, tx.whenReadable(50).then(() => false)])) {
        text += decoder.decode(tx.read());
      }
      clearTimeout(limit);
      assertStringIncludes(text, "UEFI Interactive Shell");
      // What it says on COM1 it draws as well, into memory that it has found by a BAR.
      const { size } = machine.screen!, pixels = new Uint32Array(size.width * size.height);
      machine.screen!.render(pixels, size);
      assertEquals([size.width, size.height], [1280, 800]);
      assert(pixels.filter((pixel) => pixel !== 0).length > 2000, "text on the screen");
      machine.stop();
      await machine.ended;
    }),
});
