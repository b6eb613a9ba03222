import { assertMatch, assertStringIncludes } from "@std/assert";
import { Trike } from "../boot/guests.ts";
import { firmwareOrSkip } from "./images.ts";

const memtest = firmwareOrSkip("memtest86+", "/boot/memtest86+x64.bin");

Deno.test({
  name: "memtest86+ with --kernel: it names the machine by SMBIOS, and tests all of its memory without an error",
  ignore: memtest.ignore,
  fn: async () => {
    const guest = ["--kernel", memtest.path, "--append", "console=ttyS0,115200"];
    const machine = ["--memory", "32M", "--engine", "soft", "--timeout", "60"];
    await using trike = new Trike(["run", "--quiet", ...guest, ...machine]);
    const said = await trike.talk.until("#4  [Moving inversions, 8 bit pattern]", 30) +
      await trike.talk.until("Errors: 0", 20);
    assertStringIncludes(said, "trike trike PC");
    assertMatch(said, /\[\d+MB of 3\d\.\dMB\]/);
  },
});
