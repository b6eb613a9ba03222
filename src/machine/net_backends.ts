/** Which back end a network device has. */
import { DenoSockets } from "../host/net/host_sockets.ts";
import { StreamNet } from "../host/net/stream_net.ts";
import { UserNet } from "../host/net/user_net.ts";
import type { NetBackend, Wire } from "../host/net/wire.ts";
import type { NetSpec } from "./spec.ts";

/** A back end before it serves; `open` rejects with HostError or ConfigError. */
export type OpenableBackend = NetBackend & { open(): Promise<void> };

export interface BackendParts {
  readonly wire: Wire;
  /** Guest time. */
  nowMs(): number;
  /** Something is due earlier than the last `tick` said. */
  armed(): void;
  /** The cable was plugged in or out. */
  linkChanged(up: boolean): void;
  /** Tells the user what went wrong while the machine runs. */
  trouble(sentence: string): void;
}

const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

export function openBackend(net: NetSpec, p: BackendParts): OpenableBackend {
  const { wire, linkChanged } = p;
  switch (net.kind) {
    case "user":
      return new UserNet({
        wire,
        sockets: new DenoSockets(),
        now: p.nowMs,
        random: () => crypto.getRandomValues(new Uint32Array(1))[0]!,
        armed: p.armed,
      }, { ...net, mac: Uint8Array.from(net.mac) });
    case "stream": {
      const connect = () => Deno.connect({ transport: "unix", path: net.path });
      return new StreamNet({ wire, connect, linkChanged, sleep }, net.path);
    }
  }
}
