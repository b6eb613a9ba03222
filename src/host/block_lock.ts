/**
 * One machine at a time writes to a disk image: an advisory lock on the file, held while the machine lives.
 *
 * Whoever starts the machine takes it once; the threads that serve the disk open the file for themselves and take none, because
 * locks of one file conflict within a process too.
 */
import { ConfigError } from "../base/errors.ts";
import type { FileBlockOptions } from "./block.ts";

export class ImageLock {
  private constructor(readonly path: string, private readonly file: Deno.FsFile) {}

  /**
   * Locks an image that FileBlock has opened before, for reading together with others or for writing alone. Throws ConfigError
   * if it is in use; null where the host's file system knows no locks.
   */
  static take(options: FileBlockOptions): ImageLock | null {
    const { path, readonly } = options;
    const file = Deno.openSync(path, { read: true, write: !readonly });
    let taken: boolean;
    try {
      taken = file.tryLockSync(!readonly);
    } catch {
      file.close();
      return null;
    }
    if (!taken) {
      file.close();
      throw new ConfigError(
        `${`${options.flag ?? "--disk"} ${path}`.trim()}: another machine uses it; expected an image that nobody else ${
          readonly ? "writes" : "has open"
        }`,
      );
    }
    return new ImageLock(path, file);
  }

  /** Lets go of the image. */
  release(): void {
    this.file.close();
  }
}
