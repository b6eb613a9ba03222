import { assertEquals, assertThrows } from "@std/assert";
import { ConfigError } from "../../src/base/errors.ts";
import { parseCommandLine } from "../../src/cli/parse.ts";

function run(...args: string[]) {
  const command = parseCommandLine(["run", ...args]);
  if (command.kind !== "run") throw new Error(command.kind);
  return command.request;
}

Deno.test("--firmware takes the place of a kernel", () => {
  assertEquals(run("--firmware", "bios.bin").firmware, { path: "bios.bin", vars: null });
  assertEquals(run().firmware, null);
});

Deno.test("--boot is an order of sources, each once", () => {
  assertEquals(run("--firmware", "f", "--boot", "net,disk").firmware, { path: "f", vars: null, boot: ["net", "disk"] });
});

Deno.test("--vnc is at 127.0.0.1 unless told otherwise, and implies a display", () => {
  const { vnc, vga } = run("--vnc", "5900");
  assertEquals([vnc, vga], [{ address: "127.0.0.1", port: 5900, password: null }, true]);
  assertEquals(run("--vnc", "[::1]:5901,password=a,,b").vnc, { address: "::1", port: 5901, password: "a,b" });
  assertEquals(run().vga, false);
});

for (
  const [args, message] of [
    [
      ["--firmware", "f", "--kernel", "k"],
      '--kernel "k": expected none with --firmware, which finds a system by itself',
    ],
    [["--boot", "net"], '--boot "net": expected it with --firmware'],
    [
      ["--firmware", "f", "--boot", "nat"],
      '--boot "nat": expected disk, cdrom or net, with commas between; did you mean net?',
    ],
    [["--firmware", "f", "--boot", "net,net"], '--boot "net,net": expected each once'],
    [["--firmware", ""], '--firmware "": expected a file'],
    [["--vga-bios", "x"], '--vga-bios "x": expected it with --vga'],
    [["--screenshot", "x"], '--screenshot "x": expected it with --vga'],
    [["--vnc", "high"], '--vnc "high": expected a port from 0 to 65535 in [ADDR:]PORT[,password=FILE]'],
    [["--vnc", ":1"], '--vnc ":1": expected an address before ":" in [ADDR:]PORT[,password=FILE]'],
    [["--vnc", "1,secret"], '--vnc "1,secret": expected password=FILE after the comma and found "secret"'],
  ] as const
) {
  Deno.test(`mistake: ${args.join(" ")}`, () => {
    assertEquals(assertThrows(() => run(...args), ConfigError).message, message);
  });
}
