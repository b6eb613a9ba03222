/** Which engine a machine gets. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { ConfigError, HostError } from "../../src/base/errors.ts";
import { chooseEngine, type EngineInfo, type EngineRequest, enginesPage, nativeCode } from "../../src/cli/engines.ts";
import { TRIKE, trike } from "./trike.ts";

const HVF: EngineInfo = { name: "hvf", what: "h", refusal: "absent", refusedBy: "trike", reluctance: null };
const KVM: EngineInfo = { name: "kvm", what: "k", refusal: null, reluctance: null };
const SOFT: EngineInfo = { name: "soft", what: "s", refusal: null, reluctance: null };

function choose(kvm: Partial<EngineInfo>, request: Partial<EngineRequest> = {}): [string, string[]] {
  const said: string[] = [];
  const name = chooseEngine(
    [HVF, { ...KVM, ...kvm }, SOFT],
    { engine: "auto", icount: false, ...request },
    (line) => said.push(line),
  );
  return [name, said];
}

Deno.test("auto takes the first engine there is, and says why not the ones before it", () => {
  assertEquals(choose({}), ["kvm", ["engine kvm (hvf: absent)"]]);
  assertEquals(choose({ refusal: "no" }), ["soft", ["engine soft (hvf: absent; kvm: no)"]]);
  assertEquals(choose({ reluctance: "slow" }), ["soft", ["engine soft (hvf: absent; kvm: slow)"]]);
  assertEquals(choose({}, { icount: true }), ["soft", [
    "engine soft (hvf: absent; kvm: cannot count instructions)",
  ]]);
});

Deno.test("a named engine is taken without a word, slow or not", () => {
  assertEquals(choose({ reluctance: "slow" }, { engine: "kvm" }), ["kvm", []]);
  assertEquals(choose({}, { engine: "soft", icount: true }), ["soft", []]);
});

Deno.test("a named engine that cannot be had is the user's mistake or the host's refusal", () => {
  const needs = { refusal: "needs --allow-ffi", refusedBy: "trike" } as const;
  assertThrows(() => choose(needs, { engine: "kvm" }), ConfigError, "the engine kvm needs --allow-ffi");
  assertThrows(() => choose({}, { engine: "hvf" }), ConfigError, "the engine hvf is absent");
  const broken = { refusal: "Cannot open /dev/kvm: ENOENT", refusedBy: "host" } as const;
  assertThrows(() => choose(broken, { engine: "kvm" }), HostError, "/dev/kvm");
  assertThrows(() => choose({}, { engine: "kvm", icount: true }), ConfigError, "--icount");
});

Deno.test("native code is had with the software engine, unless instructions are counted or it is refused", () => {
  const said: string[] = [], say = (line: string) => void said.push(line);
  const asked = { native: true, icount: false, quiet: false },
    needs = { why: "needs --allow-ffi", by: "trike" } as const;
  assertEquals(nativeCode(asked, "soft", say, null), { native: true });
  assertEquals(nativeCode({ ...asked, native: false }, "soft", say, needs), {});
  assertEquals(said, []);
  assertEquals(nativeCode({ ...asked, icount: true }, "soft", say, null), {});
  assertEquals(said.length, 1);
  nativeCode({ ...asked, icount: true, quiet: true }, "soft", say, null);
  assertEquals(said.length, 1);
  assertThrows(() => nativeCode(asked, "soft", say, needs), ConfigError, "'deno task run:native'");
  assertThrows(() => nativeCode(asked, "soft", say, { why: "elsewhere", by: "host" }), HostError, "elsewhere");
});

Deno.test("the page has a line for each engine, columns under each other", () => {
  const page = enginesPage([HVF, { ...KVM, reluctance: "slow" }, SOFT]);
  assertEquals(page, "hvf   absent     h\nkvm   slow       k\nsoft  available  s\n");
});

Deno.test("trike engines needs no permission, asks for none, and ends with status 0", async () => {
  const [bare, granted] = await Promise.all([
    trike(["engines"], { allow: [], program: TRIKE }),
    trike(["engines"], { allow: ["--allow-ffi"], program: TRIKE }),
  ]);
  assertEquals([bare.code, bare.stderr], [0, ""]);
  assertEquals(bare.stdout.match(/^\w+/gm), ["hvf", "kvm", "soft"]);
  if (Deno.build.os === "linux") assert(/^kvm +needs --allow-ffi /m.test(bare.stdout), bare.stdout);
  assertEquals([granted.code, granted.stderr], [0, ""]);
  assert(!granted.stdout.includes("needs --allow-ffi"), granted.stdout);
});
