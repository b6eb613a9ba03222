/** What `deno task build` understands. */
import { parseArgs } from "@std/cli/parse-args";
import { resolve } from "@std/path";
import { ConfigError } from "../../src/base/errors.ts";

export const TARGETS = [
  "x86_64-unknown-linux-gnu",
  "aarch64-unknown-linux-gnu",
  "x86_64-apple-darwin",
  "aarch64-apple-darwin",
] as const;
export type Target = typeof TARGETS[number];

export interface BuildOptions {
  readonly target: Target;
  readonly portable: boolean;
  readonly output: string;
  /** An identity of the keychain's; null signs without one ("ad hoc"). */
  readonly identity: string | null;
  /** Whether the guest may be put on the host's networks by macOS. */
  readonly networking: boolean;
  /** denort, or Deno's executable for the portable form, if not the usual one. */
  readonly runtime: string | null;
}

export const HELP = `deno task build [OPTION…]: makes dist/trike

  --target TRIPLE          ${TARGETS.join(", ")} [this host]
  --portable               Deno's own executable with trike in it, made without a download
  --output FILE            where to [dist/trike]
  --runtime FILE           the target's denort; with --portable, its deno [this one]
  --sign-identity ID       sign with this identity of the keychain, for notarization (on macOS)
  --entitlement networking ask macOS for com.apple.vm.networking as well (needs an identity)
`;

/** Null asks for the help page; paths are made absolute. Throws ConfigError. */
export function parseBuild(words: readonly string[], host: string): BuildOptions | null {
  const args = parseArgs([...words], {
    boolean: ["portable", "help"],
    string: ["target", "output", "sign-identity", "entitlement", "runtime"],
    alias: { h: "help" },
    unknown: (word: string) => {
      throw new ConfigError(`${word}: unknown, expected an option of deno task build --help`);
    },
  });
  if (args.help) return null;
  const text = (name: string, expected: string): string | null => {
    const value: unknown = args[name];
    if (value === undefined) return null;
    if (typeof value !== "string" || value === "") {
      throw new ConfigError(`--${name} "${value}": expected ${expected}, once`);
    }
    return value;
  };
  const asked = text("target", "a target") ?? host;
  const target = TARGETS.find((target) => target === asked);
  if (target === undefined) throw new ConfigError(`--target "${asked}": expected ${TARGETS.join(", ")}`);
  const entitlement = text("entitlement", "networking");
  if (entitlement !== null && entitlement !== "networking") {
    throw new ConfigError(`--entitlement "${entitlement}": expected networking`);
  }
  const runtime = text("runtime", "a file");
  const identity = text("sign-identity", "the name of an identity");
  const mac = target.endsWith("-apple-darwin");
  if (!mac && (identity !== null || entitlement !== null)) {
    const flag = identity !== null ? `--sign-identity "${identity}"` : `--entitlement "${entitlement}"`;
    throw new ConfigError(`${flag}: expected a target of Apple's, and ${target} is not signed`);
  }
  if (identity !== null && !host.endsWith("-apple-darwin")) {
    throw new ConfigError(`--sign-identity "${identity}": expected on macOS only, where identities are kept`);
  }
  if (entitlement !== null && identity === null) {
    throw new ConfigError(
      `--entitlement "${entitlement}": expected --sign-identity as well: macOS ends a program that claims it without`,
    );
  }
  return {
    target,
    portable: args.portable,
    output: resolve(text("output", "a file") ?? "dist/trike"),
    identity,
    networking: entitlement !== null,
    runtime: runtime === null ? null : existing("runtime", resolve(runtime)),
  };
}

function existing(name: string, path: string): string {
  try {
    if (Deno.statSync(path).isFile) return path;
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  throw new ConfigError(`--${name} "${path}": expected a file, and there is none of this name`);
}
