/** Files that the user named, and the sentences for what is wrong with them. */
import { ConfigError, messageOf } from "../base/errors.ts";

/** A file to load: what it is for, and its path as the user wrote it. */
export interface Named {
  readonly what: "kernel" | "initrd" | "module" | "firmware" | "firmware variables" | "video BIOS" | "option ROM";
  readonly path: string;
}

/** The error of a file that cannot be loaded, and why. */
export function cannotLoad({ what, path }: Named, why: string, cause?: unknown): ConfigError {
  return new ConfigError(`Cannot load ${what} "${path}": ${why}`, { cause });
}

/** Opens a regular file that is not empty and gives it to `use`. */
export function withFile<T>(name: Named, use: (file: Deno.FsFile, sizeBytes: number) => T): T {
  using file = attempt(name, () => Deno.openSync(name.path, { read: true }));
  const info = attempt(name, () => file.statSync());
  if (info.isDirectory) throw cannotLoad(name, `it is a folder, not a file`);
  if (!info.isFile) throw cannotLoad(name, "it is not a regular file");
  if (info.size === 0) throw cannotLoad(name, "the file is empty");
  return use(file, info.size);
}

/** Fills `bytes` from the file. */
export function readInto(name: Named, file: Deno.FsFile, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length;) {
    const count = attempt(name, () => file.readSync(bytes.subarray(at)));
    if (count === null) throw cannotLoad(name, `the file ended at byte ${at}, before the ${bytes.length} it had`);
    at += count;
  }
}

function attempt<T>(name: Named, act: () => T): T {
  try {
    return act();
  } catch (error) {
    throw cannotLoad(name, reason(error), error);
  }
}

function reason(error: unknown): string {
  if (error instanceof Deno.errors.NotFound) return "there is no such file";
  if (error instanceof Deno.errors.PermissionDenied) return "the host does not permit reading it";
  if (error instanceof Deno.errors.NotCapable) return "this program was started without permission to read it";
  if (error instanceof Deno.errors.IsADirectory) return "it is a folder, not a file";
  return messageOf(error);
}
