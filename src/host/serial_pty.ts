/**
 * A serial port on a pseudo-terminal of its own: `screen /dev/pts/7`; or on a terminal that exists, such as a real port.
 *
 * A master says POLLHUP while no program has the slave open; what the guest writes then is kept, the last 64 KiB of it, for
 * whoever comes next. Calls that may block run on threads of their own and end by themselves within POLL_MS.
 */
import {
  type Libc,
  O_NOCTTY,
  O_RDWR,
  openLibc,
  POLLERR,
  POLLFD_EVENTS,
  POLLFD_REVENTS,
  POLLHUP,
  POLLIN,
  POLLNVAL,
  POLLOUT,
  SIZEOF_POLLFD,
  SIZEOF_TERMIOS,
  TCSANOW,
} from "../../ffi/pty.ts";
import { ConfigError, HostError, messageOf } from "../base/errors.ts";
import { Backlog, pumpOutput, putInput, type SerialBackEnd, type SerialPort } from "./serial_port.ts";

const POLL_MS = 200;
/** Less than a terminal's buffer, so that a write after POLLOUT does not block for long. */
const WRITE_BYTES = 1024;
const READ_BYTES = 4096;

export class PtySerial implements SerialBackEnd {
  #port: SerialPort | null = null;
  #pumping: Promise<void> = Promise.resolve();
  #reading: Promise<void> = Promise.resolve();
  #present = false;
  #closing = false;
  #closed = false;
  readonly #backlog = new Backlog();

  private constructor(
    private readonly c: Libc,
    private readonly master: number,
    readonly name: string,
    private readonly link: string | null,
    /** The mode that a terminal of somebody else's had, as termios; null for one of our own. */
    private readonly mode: Uint8Array<ArrayBuffer> | null = null,
  ) {
    globalThis.addEventListener("unload", this.#restore);
  }

  /** `link`: a symbolic link to it that lasts as long as the machine. Throws HostError. */
  static open(link: string | null = null): PtySerial {
    let c: Libc;
    try {
      c = openLibc();
    } catch (error) {
      const hint = error instanceof Deno.errors.NotCapable ? "; a pseudo-terminal needs --allow-ffi" : "";
      throw new HostError(`Cannot open libc for --serial pty: ${messageOf(error)}${hint}`, { cause: error });
    }
    const master = c.posix_openpt(O_RDWR | O_NOCTTY);
    if (master < 0) {
      throw new HostError("posix_openpt failed for --serial pty: the host has no pseudo-terminal to give");
    }
    try {
      if (c.grantpt(master) !== 0) throw new HostError("grantpt failed for --serial pty");
      if (c.unlockpt(master) !== 0) throw new HostError("unlockpt failed for --serial pty");
      const at = c.ptsname(master);
      if (at === null) throw new HostError("ptsname failed for --serial pty");
      // SAFETY: ptsname answers with a static buffer of libc; it is read before any other call can change it.
      const name = new Deno.UnsafePointerView(at).getCString();
      makeRaw(c, name);
      if (link !== null) makeLink(name, link);
      return new PtySerial(c, master, name, link);
    } catch (error) {
      c.close(master);
      throw error;
    }
  }

  /** A terminal that exists, raw from now until the end; its speed stays as it is. Throws ConfigError or HostError. */
  static openDevice(path: string): PtySerial {
    let c: Libc;
    try {
      c = openLibc();
    } catch (error) {
      const hint = error instanceof Deno.errors.NotCapable ? "; a terminal needs --allow-ffi" : "";
      throw new HostError(`Cannot open libc for --serial tty: ${messageOf(error)}${hint}`, { cause: error });
    }
    const fd = c.open(new TextEncoder().encode(path + "\0"), O_RDWR | O_NOCTTY);
    if (fd < 0) throw new HostError(`open of "${path}" failed for --serial tty: may this user read and write it?`);
    const mode = new Uint8Array(SIZEOF_TERMIOS);
    if (c.tcgetattr(fd, mode) !== 0) {
      c.close(fd);
      throw new ConfigError(`--serial ${JSON.stringify("tty:" + path)}: expected a terminal, and this is none`);
    }
    const raw = mode.slice();
    c.cfmakeraw(raw);
    if (c.tcsetattr(fd, TCSANOW, raw) !== 0) {
      c.close(fd);
      throw new HostError(`tcsetattr of "${path}" failed for --serial tty`);
    }
    return new PtySerial(c, fd, path, null, mode);
  }

  attach(port: SerialPort): void {
    this.#port = port;
    this.#reading = this.#read(port);
    this.#pumping = pumpOutput(port, (bytes) => this.#write(bytes));
  }

  async close(): Promise<void> {
    this.#closing = true;
    this.#port?.rx.close();
    this.#port?.tx.close();
    await this.#pumping;
    await this.#reading;
    this.abandon();
  }

  abandon(): void {
    this.#closing = true;
    if (this.#closed) return;
    this.#closed = true;
    globalThis.removeEventListener("unload", this.#restore);
    this.#restore();
    this.c.close(this.master);
  }

  /** Gives the terminal its mode back; takes the link away, unless it leads elsewhere by now. */
  readonly #restore = () => {
    if (this.mode !== null) this.c.tcsetattr(this.master, TCSANOW, this.mode);
    if (this.link === null) return;
    try {
      if (Deno.readLinkSync(this.link) === this.name) Deno.removeSync(this.link);
    } catch {
      // Somebody removed it for us.
    }
  };

  async #read(port: SerialPort): Promise<void> {
    const buffer = new Uint8Array(READ_BYTES);
    while (!this.#closing) {
      const events = await this.#poll(POLLIN);
      const wasPresent = this.#present;
      this.#present = (events & (POLLHUP | POLLERR | POLLNVAL)) === 0;
      if (this.#present && !wasPresent) await this.#write(new Uint8Array(0));
      if (events & POLLIN) {
        // SAFETY: `buffer` is held by this frame until the call has returned.
        const n = Number(await this.c.read(this.master, buffer, BigInt(buffer.length)));
        if (n > 0) await putInput(port, buffer.subarray(0, n), () => !this.#closing);
      }
      // POLLHUP comes at once; asking again at once would be a busy loop.
      if (!this.#present) await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }

  #writing: Promise<void> = Promise.resolve();

  #write(bytes: Uint8Array): Promise<void> {
    return this.#writing = this.#writing.then(async () => {
      if (!this.#present) return this.#backlog.add(bytes);
      await this.#deliver(this.#backlog.take());
      await this.#deliver(bytes);
    });
  }

  async #deliver(bytes: Uint8Array): Promise<void> {
    let at = 0;
    while (at < bytes.length && this.#present) {
      const events = await this.#poll(POLLOUT);
      if (events & (POLLHUP | POLLERR | POLLNVAL)) break;
      if (!(events & POLLOUT)) {
        // Its reader sleeps. While the machine runs we wait, and so does the guest; a machine that has ended does not.
        if (this.#closing) return;
        continue;
      }
      const piece = bytes.slice(at, at + WRITE_BYTES);
      // SAFETY: `piece` is held by this frame until the call has returned.
      const n = Number(await this.c.write(this.master, piece, BigInt(piece.length)));
      if (n <= 0) break;
      at += n;
    }
    this.#backlog.add(bytes.subarray(at));
  }

  /** What is true of the master, or 0 when POLL_MS have passed without any of it. */
  async #poll(events: number): Promise<number> {
    const pollfd = new Uint8Array(SIZEOF_POLLFD);
    const view = new DataView(pollfd.buffer);
    view.setInt32(0, this.master, true);
    view.setInt16(POLLFD_EVENTS, events, true);
    // SAFETY: `pollfd` is held by this frame until the call has returned.
    const n = await this.c.poll(pollfd, 1n, POLL_MS);
    return n > 0 ? view.getInt16(POLLFD_REVENTS, true) : 0;
  }
}

function makeLink(name: string, link: string): void {
  try {
    try {
      // Left behind by a run that was killed. What is no link makes the next step fail.
      if (Deno.lstatSync(link).isSymlink) Deno.removeSync(link);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
    Deno.symlinkSync(name, link);
  } catch (error) {
    throw new HostError(`Cannot make the link "${link}" for --serial pty: ${messageOf(error)}`, { cause: error });
  }
}

/** Opens the slave once, for its mode: no echo, no signals, bytes as they are. Its closing also starts POLLHUP. */
function makeRaw(c: Libc, name: string): void {
  const path = new TextEncoder().encode(name + "\0");
  const slave = c.open(path, O_RDWR | O_NOCTTY);
  if (slave < 0) throw new HostError(`open of ${name} failed for --serial pty`);
  const termios = new Uint8Array(SIZEOF_TERMIOS);
  let ok = c.tcgetattr(slave, termios) === 0;
  if (ok) {
    c.cfmakeraw(termios);
    ok = c.tcsetattr(slave, TCSANOW, termios) === 0;
  }
  c.close(slave);
  if (!ok) throw new HostError(`tcsetattr of ${name} failed for --serial pty`);
}
