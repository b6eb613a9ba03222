/** A VNC server: a guest's display, keyboard and mouse for clients on the network. */
import { HostError, messageOf } from "../../base/errors.ts";
import type { Screen } from "../screen.ts";
import { Connection, Pointer } from "./connection.ts";
import { Frames } from "./frames.ts";

const MAX_CLIENTS = 16;

export interface VncOptions {
  readonly address: string;
  readonly port: number;
  readonly password: Uint8Array | null;
}

/** Listens before there is a machine, so that a port that is taken is known at once; serves when there is a display. */
export class VncServer {
  readonly #listener: Deno.TcpListener;
  readonly #clients = new Set<Connection>();
  #closed = false;

  /** Throws HostError. */
  constructor(private readonly options: VncOptions) {
    const { address, port } = options;
    try {
      this.#listener = Deno.listen({ hostname: address, port });
    } catch (error) {
      const advice = error instanceof Deno.errors.NotCapable ? `; --allow-net=${address}:${port} permits it` : "";
      throw new HostError(`Cannot listen for VNC at ${address} port ${port}: ${messageOf(error)}${advice}`, {
        cause: error,
      });
    }
  }

  /** Where it listens: the port that the host chose, if 0 was asked for. */
  get port(): number {
    return this.#listener.addr.port;
  }

  /** Accepts clients until it is closed. */
  async serve(screen: Screen, name: string): Promise<void> {
    const parts = { screen, frames: new Frames(screen), pointer: new Pointer(screen), name };
    while (!this.#closed) {
      let conn: Deno.TcpConn;
      try {
        conn = await this.#listener.accept();
      } catch {
        if (this.#closed) return;
        // A client that was gone before it was accepted, or no descriptor left: the next may fare better.
        await new Promise((resolve) => setTimeout(resolve, 100));
        continue;
      }
      if (this.#clients.size >= MAX_CLIENTS) {
        conn.close();
        continue;
      }
      conn.setNoDelay(true);
      const client = new Connection(conn, { ...parts, password: this.options.password });
      this.#clients.add(client);
      client.serve().then(() => this.#clients.delete(client));
    }
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#listener.close();
    for (const client of this.#clients) client.close();
  }
}
