import { assertEquals } from "@std/assert";
import { TestReport } from "./test_report.ts";

/** What the report makes of one file of tests, x_test.ts, or of several. */
async function report(...files: string[]): Promise<{ report: TestReport; success: boolean }> {
  const folder = await Deno.makeTempDir();
  try {
    const names = files.map((_, i) => `${"xyz"[i]}_test.ts`);
    for (const [i, name] of names.entries()) await Deno.writeTextFile(`${folder}/${name}`, files[i]!);
    const args = ["test", "--no-prompt", "--no-config", ...names];
    const options = { args, cwd: folder, env: { NO_COLOR: "1" }, stdout: "piped", stderr: "null" } as const;
    const child = new Deno.Command(Deno.execPath(), options).spawn();
    const report = new TestReport(null, "x");
    await report.read(child.stdout);
    return { report, success: (await child.status).success };
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

const numbers = ({ passed, failed, skipped, finished }: TestReport) => ({ passed, failed, skipped, finished });

Deno.test("TestReport counts passes, failures and skips as deno does", async () => {
  const { report: r, success } = await report(`
    Deno.test("a ... ok (1ms)", () => {});
    Deno.test({ name: "b", ignore: true, fn() {} });
    Deno.test("c", () => { throw new Error("boom"); });
    Deno.test("d", async (t) => { await t.step("d1", () => {}); await t.step({ name: "d2", ignore: true, fn() {} }); });
  `);
  assertEquals(numbers(r), { passed: 2, failed: 1, skipped: 1, finished: true });
  assertEquals(success, false);
  assertEquals(r.failures, ["x_test.ts: c"]);
  assertEquals(/boom/.test(r.errors), true);
});

Deno.test("TestReport tells why a test was skipped: a line of the file, of the test's own, or none", async () => {
  const { report: r } = await report(`
    console.log("skipped: a: no oracle");
    Deno.test({ name: "a", ignore: true, fn() {} });
    Deno.test("b", () => void console.log("skipped: no packer"));
    Deno.test("c", async (t) => { await t.step("c1", () => {}); console.log("skipped: the rest"); });
    Deno.test("d", () => void console.log("nothing was skipped: all is well"));
  `);
  assertEquals(numbers(r), { passed: 2, failed: 0, skipped: 2, finished: true });
  assertEquals(r.skips(), ["x_test.ts: no oracle", "x_test.ts: no packer"]);
  assertEquals((await report(`Deno.test({ name: "a", ignore: true, fn() {} });`)).report.skips(), [
    'x_test.ts: "a" is not for this host',
  ]);
});

Deno.test("TestReport keeps the reasons of files apart", async () => {
  const skipping = (why: string) => `console.log("skipped: ${why}"); Deno.test({ name: "a", ignore: true, fn() {} });`;
  const { report: r } = await report(skipping("no cpio"), `Deno.test("b", () => {});`, skipping("no iasl"));
  assertEquals(r.skips(), ["x_test.ts: no cpio", "z_test.ts: no iasl"]);
});

Deno.test("TestReport knows a run that did not come to its end", async () => {
  const { report: uncaught, success } = await report(`
    Deno.test("a", () => {});
    throw new Error("at load");
  `);
  assertEquals([uncaught.failed, success], [1, false]);
  assertEquals((await report(`const a: string = 1;`)).report.finished, false);
});
