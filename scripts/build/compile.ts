/** The binary as `deno compile` makes it: Deno's runtime, which has no command line of its own, with trike inside. */
import { HostError } from "../../src/base/errors.ts";
import { ROOT } from "../tree.ts";
import { withImageFolder } from "./images.ts";
import { RUN_FLAGS } from "./permissions.ts";
import { workerModules } from "./workers.ts";

export interface CompileOptions {
  readonly target: string;
  readonly output: string;
  /** The runtime, where it is not to be fetched. */
  readonly runtime: string | null;
}

/** The words for Deno's executable. Workers' modules are named, and a folder of images: no import leads to them. */
export function compileArgs({ target, output }: CompileOptions, images: string): string[] {
  const workers = [...new Set(workerModules().values())].flatMap((module) => ["--include", module]);
  const own = [
    "--quiet",
    "--no-check",
    "--exclude-unused-npm",
    "--app-name",
    "trike",
    "--target",
    target,
    "--output",
    output,
  ];
  return ["compile", ...own, ...RUN_FLAGS, ...workers, "--include", images, "src/main.ts"];
}

export async function compile(options: CompileOptions): Promise<void> {
  const { success, stderr } = await withImageFolder((images) =>
    new Deno.Command(Deno.execPath(), {
      args: compileArgs(options, images),
      cwd: ROOT,
      stdin: "null",
      stdout: "inherit",
      stderr: "piped",
      env: { NO_COLOR: "1", ...options.runtime === null ? {} : { DENORT_BIN: options.runtime } },
    }).output()
  );
  const said = new TextDecoder().decode(stderr).trim();
  if (success) {
    if (said !== "") console.error(said);
    return;
  }
  const fetching = options.runtime === null && /Setting up base binary|sending request/.test(said);
  throw new HostError(
    fetching
      ? `Cannot fetch Deno's runtime for ${options.target}: name a copy of denort with --runtime FILE or DENORT_BIN, ` +
        `or build with --portable, which needs none (deno compile says: ${oneLine(said)})`
      : `Cannot compile: deno compile says: ${oneLine(said)}`,
  );
}

/** The causes that Deno lists, without the addresses of its own functions. */
function oneLine(said: string): string {
  return said.replace(/\s*Stack backtrace:[^]*$/, "").split("\n").map((line) => line.trim()).filter(Boolean).join(" ");
}
