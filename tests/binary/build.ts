/** Binaries for tests: built once a process, run with nothing around them. */
import { ROOT } from "../../scripts/tree.ts";

export interface Result {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** `deno task build` with these words. */
export async function build(...args: readonly string[]): Promise<Result> {
  const { tasks } = JSON.parse(await Deno.readTextFile(`${ROOT}deno.json`)) as { tasks: { build: string } };
  const words = tasks.build.split(" ").slice(1);
  return await run(Deno.execPath(), [...words, ...args], { cwd: ROOT, env: Deno.env.toObject() });
}

/** Runs a program with that environment and no other variable. */
export async function run(
  program: string,
  args: readonly string[],
  { cwd, env = {} }: { cwd: string; env?: Record<string, string> },
): Promise<Result> {
  const { code, stdout, stderr } = await new Deno.Command(program, {
    args: [...args],
    cwd,
    env,
    clearEnv: true,
    stdin: "null",
  }).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes).replaceAll("\r", "");
  return { code, stdout: text(stdout), stderr: text(stderr) };
}

export async function withFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "trike-binary-" });
  try {
    await body(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

export function namesIn(folder: string): string[] {
  return [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
}
