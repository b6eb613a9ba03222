/** A terminal for tests: the master of a pseudo-terminal that plays the person in front of it. */
import * as ffi from "../../ffi/pty.ts";

const c = ffi.openLibc();

/** A file descriptor of a terminal, read and written without blocking the event loop. */
class Tty {
  protected constructor(readonly fd: number) {}

  /** Writes all of `bytes` as the other side takes them. */
  async write(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length;) {
      const piece = bytes.slice(at, at + 1024);
      at += Number(await c.write(this.fd, piece, BigInt(piece.length)));
    }
  }

  /** What there is to read within `ms`. */
  async read(ms = 200): Promise<Uint8Array> {
    const pollfd = new Uint8Array(ffi.SIZEOF_POLLFD);
    const view = new DataView(pollfd.buffer);
    view.setInt32(0, this.fd, true);
    view.setInt16(ffi.POLLFD_EVENTS, ffi.POLLIN, true);
    if (await c.poll(pollfd, 1n, ms) <= 0) return new Uint8Array(0);
    const buffer = new Uint8Array(4096);
    const n = Number(await c.read(this.fd, buffer, BigInt(buffer.length)));
    return buffer.subarray(0, Math.max(0, n));
  }

  /** Reads until the output has `wanted`; all that was read, one character a byte. */
  async until(wanted: string, seconds = 30): Promise<string> {
    const end = performance.now() + seconds * 1000;
    let seen = "";
    while (!seen.includes(wanted)) {
      if (performance.now() > end) {
        throw new Error(`${JSON.stringify(wanted)} did not come, but ${JSON.stringify(seen)}`);
      }
      for (const byte of await this.read()) seen += String.fromCharCode(byte);
    }
    return seen;
  }

  /** The terminal's mode, as bytes to compare. */
  mode(): Uint8Array {
    const termios = new Uint8Array(ffi.SIZEOF_TERMIOS);
    if (c.tcgetattr(this.fd, termios) !== 0) throw new Error("tcgetattr failed");
    return termios;
  }

  close(): void {
    c.close(this.fd);
  }
}

export class TestTerminal extends Tty {
  readonly #slave: number;

  private constructor(master: number, readonly name: string) {
    super(master);
    // Held open, so that the terminal keeps its mode when trike has left.
    this.#slave = c.open(new TextEncoder().encode(name + "\0"), ffi.O_RDWR | ffi.O_NOCTTY);
  }

  static open(): TestTerminal {
    const master = c.posix_openpt(ffi.O_RDWR | ffi.O_NOCTTY);
    if (master < 0 || c.grantpt(master) !== 0 || c.unlockpt(master) !== 0) throw new Error("no pseudo-terminal");
    return new TestTerminal(master, new Deno.UnsafePointerView(c.ptsname(master)!).getCString());
  }

  /** Gives the window a size. Programs whose terminal this is get SIGWINCH. */
  async resize(columns: number, rows: number): Promise<void> {
    const script = 'stty cols "$1" rows "$2" <"$3"';
    const args = ["-c", script, "sh", `${columns}`, `${rows}`, this.name];
    const { success } = await new Deno.Command("sh", { args }).output();
    if (!success) throw new Error("stty failed");
  }

  override close(): void {
    c.close(this.#slave);
    super.close();
  }
}

/** A terminal somebody else made, opened by its name: what `screen` does. */
export class TerminalClient extends Tty {
  constructor(name: string) {
    super(c.open(new TextEncoder().encode(name + "\0"), ffi.O_RDWR | ffi.O_NOCTTY));
    if (this.fd < 0) throw new Error(`cannot open ${name}`);
  }
}
