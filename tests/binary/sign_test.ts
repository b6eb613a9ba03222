/** Signatures for macOS, checked by a verifier that shares nothing with the signer and is itself shown what others have signed. */
import { createHash } from "node:crypto";
import { assertEquals, assertThrows } from "@std/assert";
import { derEntitlements, parseEntitlements } from "../../scripts/sign/entitlements.ts";
import { signMachO } from "../../scripts/sign/sign.ts";
import { ConfigError, HostError } from "../../src/base/errors.ts";
import { ROOT } from "../../scripts/tree.ts";
import { verifyMachO } from "./macho_verifier.ts";
import { ARM64, fat, machO, X86_64 } from "./macho_writer.ts";
import { esbuildFor } from "./real_macho.ts";

const HYPERVISOR = await Deno.readTextFile(`${ROOT}scripts/sign/hypervisor.entitlements`);
const NETWORKING = await Deno.readTextFile(`${ROOT}scripts/sign/networking.entitlements`);
const SIGNING = { identifier: "trike", entitlements: HYPERVISOR };
const CLAIMS = {
  "com.apple.security.cs.allow-jit": true,
  "com.apple.security.cs.allow-unsigned-executable-memory": true,
  "com.apple.security.hypervisor": true,
};
const ADHOC = 2, MAIN_BINARY = 1;

Deno.test("real executables of macOS are signed anew, and keep all else", async () => {
  for (const arch of ["arm64", "x64"] as const) {
    const file = await esbuildFor(arch);
    if (file === null) continue;
    if (arch === "arm64") verifyMachO(file); // the linker's signature: the verifier takes what macOS takes
    else assertThrows(() => verifyMachO(file), Error, "no LC_CODE_SIGNATURE");
    const signed = signMachO(file, SIGNING);
    const [signature] = verifyMachO(signed);
    assertEquals(signature!.der, CLAIMS);
    assertEquals(signature!.xmlKeys.toSorted(), Object.keys(CLAIMS));
    const { identifier, flags, execSegment } = signature!;
    assertEquals([identifier, flags, execSegment.flags], ["trike", ADHOC, MAIN_BINARY]);
    const afterHeader = 0x4000, beforeSignature = signature!.pages * 4096 - 4096;
    assertEquals(
      sha256(signed.subarray(afterHeader, beforeSignature)),
      sha256(file.subarray(afterHeader, beforeSignature)),
    );
    assertEquals(sha256(signMachO(signed, SIGNING)), sha256(signed));
  }
});

Deno.test("the verifier sees a changed byte wherever it is", () => {
  const signed = signMachO(machO({ linkeditBytes: 5000 }), SIGNING);
  const [signature] = verifyMachO(signed);
  const places = [0x20, 0x1000, 0x3fff, 0x4000, 0x4000 + 5000]; // headers, pages, the last page and its padding
  for (const slot of [0, 2, 5, 7, 0x10000]) {
    const blob = signature!.blobs.get(slot)!;
    places.push(blob.byteOffset, blob.byteOffset + 7);
    if (blob.length > 8) places.push(blob.byteOffset + blob.length - 1);
  }
  for (const at of places) {
    const damaged = signed.slice();
    damaged[at]! ^= 0x40;
    assertThrows(() => verifyMachO(damaged), Error, undefined, `byte ${at} may change`);
  }
});

Deno.test("a file without a signature gets its load command, and pages of every length are hashed", () => {
  for (const linkeditBytes of [1, 15, 16, 4095, 4096, 4097, 40_000]) {
    const [signature] = verifyMachO(signMachO(machO({ linkeditBytes, room: 16 }), SIGNING));
    assertEquals(signature!.pages, Math.ceil((0x4000 + Math.ceil(linkeditBytes / 16) * 16) / 4096));
    assertEquals(signature!.execSegment, { base: 0, limit: 0x4000, flags: MAIN_BINARY });
  }
});

Deno.test("a signature is replaced by a longer or a shorter one", () => {
  const long = signMachO(machO(), { identifier: "a".repeat(3000), entitlements: NETWORKING });
  assertEquals(Object.keys(verifyMachO(long)[0]!.der!), [...Object.keys(CLAIMS), "com.apple.vm.networking"]);
  assertEquals(sha256(signMachO(long, SIGNING)), sha256(signMachO(machO(), SIGNING)));
  assertEquals(
    verifyMachO(signMachO(signMachO(machO(), SIGNING), { ...SIGNING, identifier: "b" }))[0]!.identifier,
    "b",
  );
});

Deno.test("each architecture of a fat file is signed", () => {
  const parts = [machO({ cpu: X86_64, linkeditBytes: 70_000 }), machO({ cpu: ARM64 })];
  for (const wide of [false, true]) {
    const once = signMachO(fat(parts, { wide }), SIGNING);
    const signatures = verifyMachO(once);
    assertEquals(signatures.map(({ pages, der }) => [pages, der]), [[22, CLAIMS], [5, CLAIMS]]);
    assertEquals(sha256(signMachO(once, SIGNING)), sha256(once));
  }
});

Deno.test("what cannot be signed is refused in a sentence", () => {
  const refused: readonly (readonly [file: Uint8Array<ArrayBuffer>, why: RegExp])[] = [
    [new Uint8Array(0), /no 64-bit Mach-O/],
    [new TextEncoder().encode("#!/bin/sh\nexit 0\n"), /no 64-bit Mach-O/],
    [machO({ room: 15 }), /no room for another load command/],
    [machO({ tail: 1 }), /__LINKEDIT is not what it ends with/],
    [machO().slice(0, 100), /cut short/],
    [fat([machO()]).slice(0, 0x5000), /damaged/],
    [Uint8Array.of(0xca, 0xfe, 0xba, 0xbe, 0, 0, 0, 52), /no Mach-O/], // a Java class
  ];
  for (const [file, why] of refused) {
    const { message } = assertThrows(() => signMachO(file, SIGNING), HostError);
    assertEquals(why.test(message), true, message);
  }
});

Deno.test("a damaged file is signed as it is or refused, and nothing else happens", () => {
  let x = 12345;
  const random = (below: number) => (x = Math.imul(x, 1103515245) + 12345 >>> 0, (x >>> 8) % below);
  const whole = [machO(), signMachO(machO(), SIGNING), fat([machO(), machO({ cpu: X86_64 })])];
  for (let round = 0; round < 400; round++) {
    const file = whole[round % whole.length]!.slice();
    const header = round % 3 === 2 ? 64 : 0x150;
    for (let n = 1 + random(4); n > 0; n--) file[random(header)] = random(256);
    try {
      signMachO(file, SIGNING);
    } catch (error) {
      if (!(error instanceof HostError)) throw new Error(`round ${round}`, { cause: error });
    }
  }
});

Deno.test("entitlements are the bytes of DER that Apple's codesign makes of the same keys", () => {
  // Those of Deno's own executable for macOS.
  const keys = ["allow-jit", "allow-unsigned-executable-memory", "disable-executable-page-protection"];
  keys.push("allow-dyld-environment-variables", "disable-library-validation");
  const claims = Object.fromEntries(keys.map((key) => [`com.apple.security.cs.${key}`, true]));
  assertEquals(
    sha256(derEntitlements(claims)),
    "d944bae94ab7a644593960f44971e2a3ab9d41242fd6424262152b10c34ac9ee",
  );
});

Deno.test("entitlements: every kind of value, long ones too, reads the same in the property list and in DER", () => {
  const list = Array.from({ length: 40 }, (_, i) => `group ${i} <&>`);
  const escaped = (text: string) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  const xml = `<?xml version="1.0"?><plist version="1.0"><!-- a comment --><dict>
    <key>z</key><false/><key>b</key><string>${"x".repeat(70_000)}</string><key>empty</key><array/>
    <key>list</key><array>${list.map((text) => `<string>${escaped(text)}</string>`).join("\n")}</array>
  </dict></plist>\n`;
  const expected = { b: "x".repeat(70_000), empty: [], list, z: false };
  assertEquals({ ...parseEntitlements(xml) }, expected);
  assertEquals(verifyMachO(signMachO(machO(), { identifier: "t", entitlements: xml }))[0]!.der, expected);
  for (
    const [body, why] of [
      ["<dict><key>a</key></dict>", "a value of"],
      ["<dict><true/></dict>", "a key"],
      ["<array/>", "dictionary"],
      ["<dict><key>a</key><integer>1</integer></dict>", "<integer>1"],
      ["<dict><key>a</key><array><true/></array></dict>", "strings in an array"],
      ["<dict><key>a</key><true/>", "Cannot read"],
    ] as const
  ) assertThrows(() => parseEntitlements(`<plist>${body}</plist>`), ConfigError, why);
  assertThrows(() => parseEntitlements("bplist00"), ConfigError, "property list");
});

Deno.test("llvm-objdump reads the load commands of a signed file", async () => {
  const path = await Deno.makeTempFile();
  try {
    await Deno.writeFile(path, signMachO(machO({ room: 16 }), SIGNING));
    const { success, stdout, stderr } = await new Deno.Command("llvm-objdump", {
      args: ["--macho", "--private-headers", path],
      stdout: "piped",
      stderr: "piped",
    }).output();
    const text = new TextDecoder().decode(stdout);
    assertEquals([success, new TextDecoder().decode(stderr)], [true, ""]);
    const size = (await Deno.stat(path)).size;
    const [, dataoff, datasize] = /cmd LC_CODE_SIGNATURE\s+cmdsize 16\s+dataoff (\d+)\s+datasize (\d+)/.exec(text)!;
    assertEquals(Number(dataoff) + Number(datasize), size);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    console.log("skipped: load commands as others read them: llvm-objdump is not installed");
  } finally {
    await Deno.remove(path);
  }
});

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}
