/** The folder of what lasts as long as a process: sockets and locks, for this user alone. */
import { HostError, messageOf } from "../base/errors.ts";

/** Others may neither read, write nor look into it. */
const OTHERS = 0o077;

/**
 * `$XDG_RUNTIME_DIR/trike`; where the host has no such folder, as macOS, `~/.cache/trike/run`. Makes it if it is not there.
 * Throws HostError. `what` ends its sentence: "for --name".
 */
export function runtimeFolder(what: string): string {
  const folder = place(what);
  try {
    Deno.mkdirSync(folder, { recursive: true, mode: 0o700 });
    const { mode, isSymlink } = Deno.lstatSync(folder);
    // Whoever owns it could put other sockets into it; only the owner may change its mode.
    if (isSymlink || (mode ?? 0) & OTHERS) Deno.chmodSync(folder, 0o700);
  } catch (error) {
    throw new HostError(`Cannot make the folder "${folder}" ${what}: ${messageOf(error)}`, { cause: error });
  }
  return folder;
}

function place(what: string): string {
  const runtime = Deno.env.get("XDG_RUNTIME_DIR");
  if (runtime?.startsWith("/")) return `${runtime}/trike`; // the XDG specification: a relative path is to be ignored
  const home = Deno.env.get("HOME");
  if (home?.startsWith("/")) return `${home}/.cache/trike/run`;
  throw new HostError(`There is no folder ${what}: neither XDG_RUNTIME_DIR nor HOME names one`);
}
