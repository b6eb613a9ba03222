/**
 * Machines with names: a folder with a lock and a control socket each. There is no daemon: who holds the lock of a name is the
 * machine of that name, and the host takes it back from a process that is gone, however that ended.
 */
import { ConfigError, HostError, messageOf } from "../base/errors.ts";
import { runtimeFolder } from "../host/runtime_folder.ts";

const LOCK = ".machine", SOCKET = ".sock";
/** Names of files, and of machines in sentences. */
const NAME = /^[A-Za-z0-9][\w.-]{0,39}$/;
/** The length of sun_path on macOS, less the terminating zero; Linux allows four bytes more. */
const MAX_SOCKET_PATH = 103;
/** Who lists machines holds a lock for a moment, to see whether it is anybody's. */
const TRIES = 10, TRY_AGAIN_MS = 20;

export const NAME_RULE = 'at most 40 letters, digits, "-", "_" and ".", a letter or a digit first';

export function isMachineName(text: string): boolean {
  return NAME.test(text);
}

export function machineFolder(): string {
  return runtimeFolder("for machines with names");
}

export function socketPath(folder: string, name: string): string {
  return `${folder}/${name}${SOCKET}`;
}

/** A name while its machine lives. */
export class Registration {
  private constructor(
    private readonly folder: string,
    readonly name: string,
    private readonly lock: Deno.FsFile,
  ) {
    globalThis.addEventListener("unload", this.#release);
  }

  /** Takes a name, and clears away what its last machine left. Throws ConfigError if a machine has it, or HostError. */
  static async take(folder: string, name: string): Promise<Registration> {
    if (new TextEncoder().encode(socketPath(folder, name)).length > MAX_SOCKET_PATH) {
      throw new ConfigError(
        `--name "${name}": expected a shorter one, for the socket in "${folder}" is ${MAX_SOCKET_PATH} bytes at most`,
      );
    }
    for (let tries = 1;; tries++) {
      const lock = tryLock(folder, name, true);
      if (lock !== null) {
        removeIfThere(socketPath(folder, name));
        lock.truncateSync(0);
        lock.writeSync(new TextEncoder().encode(`${Deno.pid}\n`));
        return new Registration(folder, name, lock);
      }
      if (tries === TRIES) {
        const pid = ownerOf(folder, name);
        const whose = pid === null ? "" : `, process ${pid}`;
        throw new ConfigError(`--name "${name}": expected a name that no running machine has, and one has it${whose}`);
      }
      await new Promise((resolve) => setTimeout(resolve, TRY_AGAIN_MS));
    }
  }

  get socketPath(): string {
    return socketPath(this.folder, this.name);
  }

  release(): void {
    globalThis.removeEventListener("unload", this.#release);
    this.#release();
  }

  readonly #release = () => {
    removeIfThere(this.socketPath);
    removeIfThere(lockPath(this.folder, this.name));
    try {
      this.lock.close();
    } catch {
      // It was closed before.
    }
  };
}

/** The names that machines have now; clears away what those left that are gone. */
export function machineNames(folder: string): string[] {
  const names: string[] = [];
  for (const { name: file } of Deno.readDirSync(folder)) {
    const name = file.endsWith(LOCK) ? file.slice(0, -LOCK.length) : "";
    if (!isMachineName(name)) continue;
    const lock = tryLock(folder, name, false);
    if (lock === null) {
      names.push(name);
      continue;
    }
    removeIfThere(socketPath(folder, name));
    removeIfThere(lockPath(folder, name));
    lock.close();
  }
  return names.sort();
}

/** The process that has a name, as it wrote; null if it did not. */
export function ownerOf(folder: string, name: string): number | null {
  try {
    const pid = Number(Deno.readTextFileSync(lockPath(folder, name)));
    return Number.isInteger(pid) && pid > 0 ? pid : null;
  } catch {
    return null;
  }
}

function lockPath(folder: string, name: string): string {
  return `${folder}/${name}${LOCK}`;
}

/** The lock of a name; null if somebody has it, or, unless it is to be created, there is none. */
function tryLock(folder: string, name: string, create: boolean): Deno.FsFile | null {
  const path = lockPath(folder, name);
  for (;;) {
    let file: Deno.FsFile;
    try {
      file = Deno.openSync(path, { read: true, write: true, ...create ? { create, mode: 0o600 } : {} });
    } catch (error) {
      if (!create && error instanceof Deno.errors.NotFound) return null;
      throw new HostError(`Cannot open "${path}": ${messageOf(error)}`, { cause: error });
    }
    let taken: boolean;
    try {
      taken = file.tryLockSync(true);
    } catch (error) {
      file.close();
      throw new HostError(`Cannot lock "${path}": ${messageOf(error)}`, { cause: error });
    }
    if (!taken) {
      file.close();
      return null;
    }
    // Whoever had it may have removed the file after we opened it: then the name's lock is another file.
    if (isSameFile(file, path)) return file;
    file.close();
  }
}

function isSameFile(file: Deno.FsFile, path: string): boolean {
  try {
    const ours = file.statSync(), theirs = Deno.statSync(path);
    return ours.dev === theirs.dev && ours.ino === theirs.ino;
  } catch {
    return false;
  }
}

function removeIfThere(path: string): void {
  try {
    Deno.removeSync(path);
  } catch {
    // It is not there, which is what is wanted.
  }
}
