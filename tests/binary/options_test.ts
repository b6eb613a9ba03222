import { assertEquals, assertThrows } from "@std/assert";
import { resolve } from "@std/path";
import { parseBuild } from "../../scripts/build/options.ts";
import { ConfigError } from "../../src/base/errors.ts";

const LINUX = "x86_64-unknown-linux-gnu", MAC = "aarch64-apple-darwin";

Deno.test("a build is for this host, into dist/trike, unless told otherwise", () => {
  const { target, output, portable, identity, networking, runtime } = parseBuild([], LINUX)!;
  assertEquals(
    { target, output, portable, identity, networking, runtime },
    { target: LINUX, output: resolve("dist/trike"), portable: false, identity: null, networking: false, runtime: null },
  );
  const words = ["--target", MAC, "--output=x", "--sign-identity", "Me", "--entitlement", "networking"];
  assertEquals(parseBuild(words, "x86_64-apple-darwin")!.networking, true);
  assertEquals(parseBuild(["--help"], LINUX), null);
});

const MISTAKES: readonly (readonly [words: string[], host: string, message: RegExp])[] = [
  [["--target", "x"], LINUX, /^--target "x": expected x86_64-unknown-linux-gnu, /],
  [[], "x86_64-pc-windows-msvc", /^--target "x86_64-pc-windows-msvc": expected /],
  [["--no-such"], LINUX, /^--no-such: unknown/],
  [["word"], LINUX, /^word: unknown/],
  [["--runtime", "/no such file"], LINUX, /^--runtime "\/no such file": expected a file, and there is none/],
  [["--output="], LINUX, /^--output "": expected a file/],
  [["--entitlement", "x", "--target", MAC], MAC, /^--entitlement "x": expected networking/],
  [["--entitlement", "networking"], LINUX, /^--entitlement "networking": expected a target of Apple's/],
  [["--entitlement", "networking"], MAC, /^--entitlement "networking": expected --sign-identity/],
  [["--sign-identity", "Me", "--target", MAC], LINUX, /^--sign-identity "Me": expected on macOS only/],
];

for (const [words, host, message] of MISTAKES) {
  Deno.test(`a mistake of the build's is told in a sentence: ${words.join(" ")} on ${host}`, () => {
    const { message: said } = assertThrows(() => parseBuild(words, host), ConfigError);
    assertEquals(message.test(said), true, said);
  });
}
