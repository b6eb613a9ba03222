/** `trike console`: this terminal, or the pipes given in its place, on the first serial port of a machine that runs elsewhere. */
import { ByteRing } from "../base/ring.ts";
import { writeAll } from "../host/serial_port.ts";
import { Terminal } from "../host/terminal.ts";
import type { ControlClient } from "../machine/control_socket_client.ts";

const RING_BYTES = 64 * 1024;
const CHUNK_BYTES = 16 * 1024;
const KEYS_HELP = "\r\nCtrl-A x       leave; the machine goes on\r\n" +
  "Ctrl-A h       list these keys\r\n" +
  "Ctrl-A Ctrl-A  send one Ctrl-A to the guest\r\n";

/** Resolves when the user leaves or the machine ends; rejects if the terminal is lost. */
export async function watchConsole(client: ControlClient): Promise<void> {
  const left = Promise.withResolvers<void>();
  const terminal = new Terminal({
    onLeave: () => left.resolve(),
    onLost: (error) => left.reject(error),
    help: KEYS_HELP,
  });
  const tx = ByteRing.private(RING_BYTES), rx = ByteRing.private(RING_BYTES);
  terminal.attach({ tx, rx, notifyInput() {} });
  // Waiting for a ring alone would not keep the process alive.
  const awake = setInterval(() => {}, 1 << 30);
  try {
    void type(client, rx);
    await Promise.race([left.promise, show(client, tx).then(() => terminal.close())]);
  } finally {
    clearInterval(awake);
    client.close();
    const midLine = terminal.midLine;
    terminal.abandon();
    if (midLine) Deno.stderr.writeSync(new TextEncoder().encode("\r\n"));
  }
}

/** From the machine to the screen, until the machine hangs up. */
async function show(client: ControlClient, tx: ByteRing): Promise<void> {
  const put = async (bytes: Uint8Array) => {
    for (let at = 0; at < bytes.length && !tx.closed;) {
      at += tx.write(bytes.subarray(at));
      if (at < bytes.length) await tx.whenWritable();
    }
  };
  await put(client.rest());
  const buffer = new Uint8Array(CHUNK_BYTES);
  try {
    for (let n = await client.conn.read(buffer); n !== null; n = await client.conn.read(buffer)) {
      await put(buffer.subarray(0, n));
    }
  } catch {
    // Closed from this side.
  }
  tx.close();
}

/** From the keyboard to the machine. A machine that has hung up takes no more. */
async function type(client: ControlClient, rx: ByteRing): Promise<void> {
  for (;;) {
    const bytes = rx.read(CHUNK_BYTES);
    if (bytes.length === 0) {
      if (rx.closed) return;
      await rx.whenReadable();
      continue;
    }
    try {
      await writeAll(client.conn, bytes);
    } catch {
      return;
    }
  }
}
