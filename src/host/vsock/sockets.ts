/** The Unix sockets of a vsock: one that listens for the host's clients, and those of the host's servers, by port. */
import { ConfigError, HostError, messageOf } from "../../base/errors.ts";
import type { HostStream } from "../net/host_sockets.ts";

export class VsockSockets {
  #closed = false;

  private constructor(private readonly listener: Deno.UnixListener, private readonly path: string) {}

  /** Listens at `path`. Rejects with ConfigError or HostError. */
  static async open(path: string): Promise<VsockSockets> {
    await removeStale(path);
    try {
      return new VsockSockets(Deno.listen({ transport: "unix", path }), path);
    } catch (error) {
      const hint = error instanceof Deno.errors.NotCapable
        ? "; a socket needs --allow-read, --allow-write and --allow-net"
        : "";
      throw new HostError(`Cannot listen on "${path}" for --vsock: ${messageOf(error)}${hint}`, { cause: error });
    }
  }

  async serve(accepted: (stream: HostStream) => void): Promise<void> {
    while (!this.#closed) {
      try {
        accepted(streamOf(await this.listener.accept()));
      } catch {
        // Out of descriptors, most likely: better to ask again than to be deaf from now on.
        if (!this.#closed) await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }
  }

  async connect(port: number): Promise<HostStream> {
    return streamOf(await Deno.connect({ transport: "unix", path: `${this.path}_${port}` }));
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.listener.close();
    try {
      Deno.removeSync(this.path);
    } catch {
      // Somebody removed it for us.
    }
  }
}

function streamOf(conn: Deno.UnixConn): HostStream {
  let closed = false;
  return {
    read: (into) => conn.read(into),
    write: (from) => conn.write(from),
    closeWrite: () => conn.closeWrite(),
    close: () => {
      if (closed) return;
      closed = true;
      conn.close();
    },
  };
}

/** A socket file that nobody listens to any more may go; anything else at `path` is the user's. */
async function removeStale(path: string): Promise<void> {
  let info: Deno.FileInfo;
  try {
    info = Deno.lstatSync(path);
  } catch {
    return; // Nothing there, or something that listen will complain about.
  }
  if (!info.isSocket) throw new ConfigError(`--vsock "${path}": expected a path that is free, found a file`);
  try {
    (await Deno.connect({ transport: "unix", path })).close();
  } catch (error) {
    if (!(error instanceof Deno.errors.ConnectionRefused)) return;
    Deno.removeSync(path);
    return;
  }
  throw new ConfigError(`--vsock "${path}": expected a path that is free, found a socket in use`);
}
