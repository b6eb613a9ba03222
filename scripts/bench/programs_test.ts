import { assertEquals, assertMatch } from "@std/assert";
import { crc32 } from "node:zlib";
import { firstLine } from "./contenders.ts";
import { compile, readSources } from "./guest.ts";
import { Results, runPrograms, Samples } from "./programs.ts";
import { GROUPS } from "./suite.ts";
import { watch } from "./watch.ts";

const SUM = "0123456789abcdef";

Deno.test("a program's line gives its time and checksum", () => {
  const results = new Results();
  results.line("BENCH-RUN fib", 10);
  results.line(`BENCH fib 1.500000 ${SUM}`, 11.6);
  assertEquals(results.outcomes.get("fib"), { seconds: 1.5, checksum: SUM });
});

Deno.test("a guest whose clock runs at another speed is not believed", () => {
  const results = new Results();
  results.line("BENCH-RUN fib", 10);
  results.line(`BENCH fib 0.500000 ${SUM}`, 13);
  const outcome = results.outcomes.get("fib")!;
  assertMatch("failure" in outcome ? outcome.failure : "", /0\.50 s, the host's 3\.00 s/);
});

Deno.test("a program that fails says what it said", () => {
  const results = new Results();
  results.line("BENCH-RUN fib", 1);
  results.line("Segmentation fault", 2);
  results.line("BENCH-FAIL fib status 139", 2);
  assertEquals(results.outcomes.get("fib"), { failure: "status 139; Segmentation fault" });
});

Deno.test("two checksums of one program are a failure, two of one kind are not", () => {
  const program = GROUPS[0]!.programs[0]!;
  const same = new Samples(), other = new Samples();
  for (const samples of [same, other]) samples.add("trike", { seconds: 1, checksum: SUM });
  same.add("qemu", { seconds: 2, checksum: SUM });
  other.add("qemu", { seconds: 2, checksum: SUM.toUpperCase() });
  assertEquals(same.row("integer", program).failure, undefined);
  assertMatch(other.row("integer", program).failure!, /the checksums differ: trike 0123/);
});

Deno.test("programs after the one that a guest died of are run in another boot", async () => {
  const script = (names: readonly string[]) =>
    names.map((name) => `echo BENCH-RUN ${name}; [ ${name} != b ] || exit 1; echo BENCH ${name} 0.000000 ${SUM}`)
      .join("\n");
  const contender = { name: "trike" as const, command: ({ append }: { append: string }) => ["sh", "-c", append] };
  const boot = (_limit: number, names: readonly string[]) => ({ kernel: "", initrd: "", append: script(names) });
  const programs = ["a", "b", "c"].map((name) => ({ name, about: "" }));
  const outcomes = await runPrograms(contender, boot, programs);
  assertEquals(outcomes.get("a"), { seconds: 0, checksum: SUM });
  assertMatch((outcomes.get("b") as { failure: string }).failure, /^ended/);
  assertEquals(outcomes.get("c"), { seconds: 0, checksum: SUM });
});

Deno.test("a process is ended when its watcher has seen enough, and when it is silent", async () => {
  const lines: string[] = [];
  const line = (text: string) => (lines.push(text), text === "two" ? "stop" as const : undefined);
  assertEquals((await watch(["sh", "-c", "echo one; echo two; exec sleep 60"], { line }, 30)).end, "stopped");
  assertEquals(lines, ["one", "two"]);
  assertEquals(await watch(["sh", "-c", "echo last; exec sleep 60"], { line }, 0.3), { end: "silent", said: "last" });
  assertEquals(await watch(["sh", "-c", "echo why >&2"], { line }, 30), { end: "ended", said: "why" });
});

/** The generator that the programs use. */
function* randoms(state: bigint): Generator<bigint> {
  for (;;) {
    state ^= BigInt.asUintN(64, state << 13n);
    state ^= state >> 7n;
    state = BigInt.asUintN(64, state ^ (state << 17n));
    yield state;
  }
}

Deno.test({
  name: "the programs work out what zlib and arithmetic do",
  ignore: await firstLine("gcc", "--version") === null,
  async fn() {
    const folder = await Deno.makeTempDir();
    try {
      const program = `${folder}/program`;
      await Deno.writeFile(program, await compile([...(await readSources()).keys()], folder), { mode: 0o755 });
      const checksum = async (name: string) => {
        const line = await firstLine(program, name);
        const match = new RegExp(`^BENCH ${name} \\d+\\.\\d{6} ([0-9a-f]{16})$`).exec(line ?? "");
        return match && BigInt("0x" + match[1]);
      };
      const data = new Uint8Array(1 << 20), random = randoms(1n);
      for (let at = 0; at < data.length; at++) data[at] = Number(random.next().value! >> 32n & 255n);
      let expected = 0;
      for (let round = 0; round < 60; round++) expected = crc32(data, expected);
      assertEquals(await checksum("crc32"), BigInt(expected));
      assertEquals(await checksum("sieve"), 24n * 148_933n);
      assertEquals(await checksum("fib"), 24_157_817n);
      assertEquals(await checksum("getpid"), 400_000n);
      assertEquals(await checksum("exec"), await Deno.stat("/bin/busybox").then(() => 150n, () => 0n));
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
});
