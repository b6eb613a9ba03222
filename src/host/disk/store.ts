/**
 * What an image is kept in: a stretch of bytes with a size, and one word about durability. Every method throws an Error that says
 * what the host refused.
 */
export interface ByteStore {
  /** For messages. */
  readonly name: string;
  readonly sizeBytes: number;
  /** Bytes behind the end read as zeros. Returns how many were before it. */
  read(at: number, into: Uint8Array): number;
  /** Writing behind the end makes the store longer; what is in between reads as zeros. */
  write(at: number, from: Uint8Array): void;
  resize(sizeBytes: number): void;
  /** Everything written before is on stable storage. */
  sync(): void;
  /** Makes the bytes zeros and gives their storage back; false, and nothing done, where that is not to be had. */
  punch(at: number, sizeBytes: number): boolean;
  /** Whether `announce` may do something. */
  readonly announces: boolean;
  /** These bytes will be read soon: the host may begin. Waits for nothing, and cannot fail. */
  announce(at: number, sizeBytes: number): void;
  close(): void;
}

/** What a host does with a file beside moving bytes. */
export interface FileCalls {
  /** Whether `punch` may do something. */
  readonly punches: boolean;
  /** Makes bytes of the file a hole; false if the host cannot. */
  punch(at: number, sizeBytes: number): boolean;
  /** These bytes will be read soon. */
  announce(at: number, sizeBytes: number): void;
  close(): void;
}

/** A file, or a block device, whose size is fixed. Each has its own file position. */
export class FileStore implements ByteStore {
  /** Nobody will look for the bytes after a power cut: a sync may be skipped. */
  throwAway = false;
  #sizeBytes: number;

  private constructor(
    readonly name: string,
    private readonly file: Deno.FsFile,
    readonly isDevice: boolean,
    private readonly calls: FileCalls | null,
  ) {
    // A block device's size is where its end is; stat says 0.
    this.#sizeBytes = file.seekSync(0, Deno.SeekMode.End);
  }

  /** Takes over an open file; closes it if that fails. */
  static of(name: string, file: Deno.FsFile, calls: FileCalls | null = null): FileStore {
    try {
      return new FileStore(name, file, file.statSync().isBlockDevice === true, calls);
    } catch (error) {
      calls?.close();
      file.close();
      throw error;
    }
  }

  /** Opens a file that exists. */
  static open(path: string, writable: boolean, calls: FileCalls | null = null): FileStore {
    return FileStore.of(path, Deno.openSync(path, { read: true, write: writable }), calls);
  }

  /** Makes a file, or empties the one there is. */
  static create(path: string): FileStore {
    return FileStore.of(path, Deno.openSync(path, { read: true, write: true, create: true, truncate: true }));
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** Asks the host for the size again: somebody else may have changed it. */
  measure(): number {
    return this.#sizeBytes = this.file.seekSync(0, Deno.SeekMode.End);
  }

  read(at: number, into: Uint8Array): number {
    this.file.seekSync(at, Deno.SeekMode.Start);
    let done = 0;
    while (done < into.length) {
      const n = this.file.readSync(done === 0 ? into : into.subarray(done));
      if (n === null || n === 0) {
        into.fill(0, done);
        break;
      }
      done += n;
    }
    return done;
  }

  write(at: number, from: Uint8Array): void {
    this.file.seekSync(at, Deno.SeekMode.Start);
    for (let done = 0; done < from.length;) {
      const n = this.file.writeSync(done === 0 ? from : from.subarray(done));
      if (n === 0) throw new Error("nothing was written");
      done += n;
    }
    if (at + from.length > this.#sizeBytes) this.#sizeBytes = at + from.length;
  }

  resize(sizeBytes: number): void {
    if (this.isDevice) throw new Error("a block device cannot change its size");
    this.file.truncateSync(sizeBytes);
    this.#sizeBytes = sizeBytes;
  }

  sync(): void {
    if (!this.throwAway) this.file.syncDataSync();
  }

  /** Whether `punch` may do something. */
  get punches(): boolean {
    return !this.isDevice && this.calls?.punches === true;
  }

  punch(at: number, sizeBytes: number): boolean {
    return this.punches && this.calls!.punch(at, sizeBytes);
  }

  get announces(): boolean {
    return this.calls !== null;
  }

  announce(at: number, sizeBytes: number): void {
    this.calls?.announce(at, sizeBytes);
  }

  close(): void {
    this.calls?.close();
    this.file.close();
  }
}
