/** `deno task build`: makes `dist/trike`, one file that needs nothing else. `docs/binary.md` tells the forms apart. */
import { dirname } from "@std/path";
import { ConfigError, HostError, messageOf } from "../src/base/errors.ts";
import { compile } from "./build/compile.ts";
import { type BuildOptions, HELP, parseBuild } from "./build/options.ts";
import { buildElf, buildScript } from "./build/portable.ts";
import { sign } from "./build/sign.ts";

async function build(options: BuildOptions): Promise<void> {
  const { target, output, portable } = options;
  await Deno.mkdir(dirname(output), { recursive: true });
  const mac = target.endsWith("-apple-darwin");
  if (!portable) {
    await compile(options);
    if (mac) await sign(output, output, options);
    return;
  }
  const runtime = portableRuntime(options);
  if (!mac) return await buildElf(runtime, output, target.split("-")[0]!);
  const signed = `${output}.${Deno.pid}.runtime`;
  try {
    await sign(runtime, signed, options);
    await buildScript(signed, output);
  } finally {
    await Deno.remove(signed).catch(() => {});
  }
}

/** Deno's executable for the target. */
function portableRuntime({ target, runtime }: BuildOptions): string {
  if (runtime !== null) return runtime;
  if (target === Deno.build.target) return Deno.execPath();
  const [arch, , os] = target.split("-");
  const name = `@deno/${os === "darwin" ? "darwin" : "linux"}-${arch === "x86_64" ? "x64" : "arm64"}`;
  const suffix = os === "darwin" ? "" : "-glibc";
  throw new ConfigError(
    `--target "${target}": expected --runtime FILE with --portable, that target's deno: the npm package ${name}${suffix} has it`,
  );
}

if (import.meta.main) {
  try {
    const options = parseBuild(Deno.args, Deno.build.target);
    if (options === null) console.log(HELP.trimEnd());
    else {
      await build(options);
      const { size } = await Deno.stat(options.output);
      console.log(`${options.output}: ${(size / 2 ** 20).toFixed(1)} MiB for ${options.target}`);
    }
  } catch (error) {
    const known = error instanceof ConfigError || error instanceof HostError ||
      error instanceof Deno.errors.NotFound || error instanceof Deno.errors.PermissionDenied;
    if (!known) throw error;
    console.error(messageOf(error));
    Deno.exit(error instanceof ConfigError ? 2 : 1);
  }
}
