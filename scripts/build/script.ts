/** The first lines of the portable form that is a shell script: what POSIX says of sh, tail, head and wc is all they use. */
import { ConfigError } from "../../src/base/errors.ts";

export interface Carried {
  readonly executable: Uint8Array<ArrayBuffer>;
  /** Where it is in the file. */
  readonly at: number;
  /** The words behind its name. */
  readonly words: readonly string[];
  readonly env: readonly string[];
}

/**
 * The executable goes to the user's cache, under its hash, once: it appears there whole or not at all. The script ends with
 * an exec, so that signals and the exit status are trike's.
 */
export async function scriptHeader({ executable, at, words, env }: Carried): Promise<Uint8Array<ArrayBuffer>> {
  const odd = [...words, ...env].find((word) => !/^[\w=:;,./+-]+$/.test(word));
  if (odd !== undefined) {
    throw new ConfigError(`Cannot put "${odd}" into a script: expected a word without quotes or blanks`);
  }
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", executable)).toHex();
  return new TextEncoder().encode(`#!/bin/sh
# trike in its portable form: behind these lines are the program and the executable of Deno that runs it.
folder="\${XDG_CACHE_HOME:-\${HOME:-}/.cache}/trike/runtime"
deno="$folder/${hash}"
if [ ! -x "$deno" ]; then
  new="$deno.$$"
  trap 'rm -f "$new"' EXIT
  mkdir -p "$folder" &&
    tail -c +${at + 1} "$0" | head -c ${executable.length} >"$new" &&
    [ "$(wc -c <"$new")" -eq ${executable.length} ] &&
    chmod 755 "$new" &&
    mv -f "$new" "$deno" || {
    echo "trike: Cannot unpack the runtime into $folder: is there room, and may you write there?" >&2
    exit 1
  }
  trap - EXIT
fi
${env.map(defaultTo).join("\n")}
exec "$deno" ${words.map((word) => `'${word}'`).join(" ")} "$0" "$@"
exit 1
`);
}

/** A line that exports a variable, with this value if it has none. */
function defaultTo(variable: string): string {
  const [name, value] = [variable.split("=")[0], variable.slice(variable.indexOf("=") + 1)];
  return `export ${name}="\${${name}:-${value}}"`;
}
