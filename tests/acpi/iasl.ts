/** iasl, the reference compiler and disassembler of ACPI tables, as an oracle. */

/** Why a test that needs iasl cannot run, or null. */
export function whyNoIasl(): string | null {
  const may = (d: Deno.PermissionDescriptor) => Deno.permissions.querySync(d).state === "granted";
  if (!may({ name: "run", command: "iasl" }) || !may({ name: "read" }) || !may({ name: "write" })) {
    return "needs --allow-read --allow-write --allow-run=iasl";
  }
  try {
    new Deno.Command("iasl", { args: ["-v"], stdout: "null", stderr: "null" }).outputSync();
    return null;
  } catch {
    return "iasl is not installed (Debian: acpica-tools)";
  }
}

/** Declares a test that runs if iasl is there, and otherwise says why not. */
export function iaslTest(name: string, body: (dir: string) => void | Promise<void>): void {
  const why = whyNoIasl();
  if (why) console.log(`skipped: ${name}: ${why}`);
  Deno.test({
    name,
    ignore: why !== null,
    fn: async () => {
      const dir = Deno.makeTempDirSync({ prefix: "trike-acpi-" });
      try {
        await body(dir);
      } finally {
        Deno.removeSync(dir, { recursive: true });
      }
    },
  });
}

function run(dir: string, args: string[]): string {
  const out = new Deno.Command("iasl", { args, cwd: dir }).outputSync();
  const text = new TextDecoder().decode(out.stdout) + new TextDecoder().decode(out.stderr);
  if (!out.success) throw new Error(`iasl ${args.join(" ")} failed:\n${text}`);
  return text;
}

/** What iasl has to say about a table, and the table as text. */
export function disassemble(dir: string, table: Uint8Array): { says: string; text: string } {
  Deno.writeFileSync(`${dir}/table.aml`, table);
  const says = run(dir, ["-d", "table.aml"]);
  return { says, text: Deno.readTextFileSync(`${dir}/table.dsl`) };
}

/** What iasl has to say about ASL source, and the table it makes; paths stay as written. */
export function compile(dir: string, source: string): { says: string; table: Uint8Array } {
  Deno.writeTextFileSync(`${dir}/source.asl`, source);
  const says = run(dir, ["-on", "-p", "out", "source.asl"]);
  return { says, table: Deno.readFileSync(`${dir}/out.aml`) };
}

/** Without comments, which name files and versions. */
export function withoutComments(text: string): string {
  return text.replace(/\s*\/\*[\s\S]*?\*\//g, "").replace(/\s*\/\/.*$/gm, "").replace(/\n{2,}/g, "\n").trim() + "\n";
}
