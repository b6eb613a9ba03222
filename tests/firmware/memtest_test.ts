import { assertMatch, assertNotMatch, assertStringIncludes } from "@std/assert";
import { Trike } from "../boot/guests.ts";
import { firmwareOrSkip } from "./images.ts";

const memtest = firmwareOrSkip("memtest86+", "/boot/memtest86+x64.bin");

Deno.test({
  name: "memtest86+ with --kernel: it names the machine by SMBIOS, and tests all of its memory without an error",
  ignore: memtest.ignore,
  fn: async () => {
    const guest = ["--kernel", memtest.path, "--append", "console=ttyS0,115200"];
    const machine = ["--memory", "32M", "--engine", "soft", "--timeout", "300"];
    await using trike = new Trike(["run", "--quiet", ...guest, ...machine]);
    // the screen is drawn every two seconds, and may show none of a test that is over sooner; the last takes 80 seconds
    const said = await trike.talk.until("[Bit fade test", 240) + await trike.talk.until("Errors: 0", 60);
    assertStringIncludes(said, "trike trike PC");
    assertMatch(said, /\[\d+MB of 3\d\.\dMB\]/);
    assertNotMatch(said, /Errors: +[1-9]/);
  },
});
