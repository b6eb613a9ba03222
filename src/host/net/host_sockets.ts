/** The host's sockets as the NAT needs them. Tests put others in their place. */
import { LOOPBACK, LOOPBACK6 } from "./network.ts";

export interface HostStream {
  /** At least one byte, or null at the end. */
  read(into: Uint8Array): Promise<number | null>;
  write(from: Uint8Array): Promise<number>;
  closeWrite(): Promise<void>;
  /** Lets go of it, whatever it does; more than once, too. */
  close(): void;
}

export interface HostDatagrams {
  send(bytes: Uint8Array, address: string, port: number): void;
  close(): void;
}

/** Why there is no connection. */
export type Refusal = "refused" | "unreachable" | "forbidden";

export interface HostSockets {
  connect(address: string, port: number): Promise<HostStream | Refusal>;
  /** Listens; `accepted` gets every client with its address. Throws what the host says. */
  listen(address: string, port: number, accepted: (stream: HostStream, address: string) => void): { close(): void };
  /** A socket for datagrams; port 0 is any. Rejects with what the host says. */
  datagrams(
    address: string,
    port: number,
    received: (bytes: Uint8Array, address: string, port: number) => void,
  ): Promise<HostDatagrams>;
  /** A socket for echo requests, of ICMP or ICMPv6; null if the host has none for who has no privileges. */
  echoes(family: 4 | 6, received: (message: Uint8Array, address: string) => void): Promise<HostDatagrams | null>;
  /** The resolvers the host uses, the first one first. */
  resolvers(): string[];
}

class TcpStream implements HostStream {
  #closed = false;
  constructor(private readonly conn: Deno.TcpConn) {
    try {
      conn.setNoDelay(true);
    } catch {
      // Reset by the other end already, as the first read will tell.
    }
  }

  read(into: Uint8Array): Promise<number | null> {
    return this.conn.read(into);
  }

  write(from: Uint8Array): Promise<number> {
    return this.conn.write(from);
  }

  closeWrite(): Promise<void> {
    return this.conn.closeWrite();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.conn.close();
  }
}

export class DenoSockets implements HostSockets {
  async connect(address: string, port: number): Promise<HostStream | Refusal> {
    const answer = await this.#connect(address, port);
    // Many servers for this host alone listen at one of its two loop-back addresses only.
    const other = address === LOOPBACK ? LOOPBACK6 : address === LOOPBACK6 ? LOOPBACK : null;
    if (typeof answer !== "string" || other === null) return answer;
    const second = await this.#connect(other, port);
    return typeof second === "string" && second !== "refused" ? answer : second;
  }

  async #connect(address: string, port: number): Promise<HostStream | Refusal> {
    try {
      const conn = await Deno.connect({ hostname: address, port });
      return new TcpStream(conn);
    } catch (error) {
      if (error instanceof Deno.errors.ConnectionRefused || error instanceof Deno.errors.ConnectionReset) {
        return "refused";
      }
      return error instanceof Deno.errors.NotCapable ? "forbidden" : "unreachable";
    }
  }

  listen(address: string, port: number, accepted: (stream: HostStream, address: string) => void): { close(): void } {
    const listener = Deno.listen({ hostname: address, port });
    let open = true;
    const serve = async () => {
      while (open) {
        try {
          const conn = await listener.accept();
          accepted(new TcpStream(conn), conn.remoteAddr.hostname);
        } catch {
          // Out of descriptors, most likely, or a client that left at once: better to ask again than to be deaf.
          if (open) await new Promise((resolve) => setTimeout(resolve, 100));
        }
      }
    };
    void serve();
    return {
      close() {
        open = false;
        listener.close();
      },
    };
  }

  async datagrams(
    address: string,
    port: number,
    received: (bytes: Uint8Array, address: string, port: number) => void,
  ): Promise<HostDatagrams> {
    // Loaded when it is needed: many guests never send a datagram but to the gateway.
    const { createSocket } = await import("node:dgram");
    const socket = createSocket(address.includes(":") ? "udp6" : "udp4");
    await new Promise<void>((resolve, reject) => {
      socket.once("error", reject);
      socket.bind(port, address, () => {
        socket.off("error", reject);
        resolve();
      });
    });
    let open = true;
    socket.on("error", () => {}); // an ICMP error about an earlier datagram: nothing to be done
    socket.on("message", (bytes: Uint8Array, from: { address: string; port: number }) => {
      // A plain view: a Buffer's own methods differ from those of its base class.
      const plain = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length);
      if (open) received(plain, from.address, from.port);
    });
    return {
      send: (bytes, to, toPort) => {
        if (open) socket.send(bytes, toPort, to, () => {});
      },
      close: () => {
        if (open) socket.close();
        open = false;
      },
    };
  }

  async echoes(
    family: 4 | 6,
    received: (message: Uint8Array, address: string) => void,
  ): Promise<HostDatagrams | null> {
    // There is no way to them but FFI, which a machine may be run without.
    if ((await Deno.permissions.query({ name: "ffi" })).state !== "granted") return null;
    const { openEchoes } = await import("./echo_socket.ts");
    return openEchoes(family, received);
  }

  resolvers(): string[] {
    try {
      const lines = Deno.readTextFileSync("/etc/resolv.conf").split("\n");
      return lines.flatMap((line) => /^nameserver\s+([0-9a-fA-F.:]+)\s*$/.exec(line)?.[1] ?? []);
    } catch {
      return []; // A host without, or one that does not let us know.
    }
  }
}
