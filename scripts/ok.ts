/**
 * `deno task ok [--checks]`: what a change must pass, in the order of what is quickest to mend: format, lint, types, the
 * house's own rules, tests. `--checks` leaves the tests out. Every step runs, whatever became of the one before.
 */
const ROOT = new URL("../", import.meta.url).pathname;
const READ = ["run", "--no-prompt", "--allow-read"];

const STEPS: readonly { readonly name: string; readonly args: readonly string[]; readonly test?: true }[] = [
  { name: "format", args: ["fmt", "--check", "--quiet"] },
  { name: "lint", args: ["lint", "--quiet"] },
  { name: "types", args: ["check", "--quiet", "."] },
  { name: "imports", args: [...READ, "scripts/check_imports.ts"] },
  { name: "style", args: [...READ, "scripts/check_style.ts"] },
  { name: "citations", args: [...READ, "scripts/check_spec_refs.ts"] },
  { name: "documents", args: [...READ, "scripts/check_docs.ts"] },
  { name: "device tables", args: [...READ, "--allow-run", "scripts/device_docs.ts", "--check"] },
  { name: "tests", args: ["task", "--quiet", "test"], test: true },
];

const failed: string[] = [];
for (const { name, args, test } of STEPS) {
  if (test && Deno.args.includes("--checks")) continue;
  const started = performance.now();
  const child = new Deno.Command(Deno.execPath(), { args: [...args], cwd: ROOT, stdin: "null" }).spawn();
  const { success } = await child.status;
  if (!success) failed.push(name);
  console.log(`${success ? "ok    " : "FAILED"} ${name} (${((performance.now() - started) / 1000).toFixed(1)} s)`);
}
console.log(failed.length === 0 ? "all is well" : `to mend: ${failed.join(", ")}`);
Deno.exitCode = failed.length === 0 ? 0 : 1;
