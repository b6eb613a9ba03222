/** Which back end a network device has. Those that need FFI, or are seldom wanted, are loaded when they are. */
import { DenoSockets } from "../host/net/host_sockets.ts";
import { StreamNet } from "../host/net/stream_net.ts";
import { TftpFolder } from "../host/net/tftp_folder.ts";
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

export async function makeBackend(net: NetSpec, p: BackendParts): Promise<OpenableBackend> {
  const { wire, linkChanged } = p;
  switch (net.kind) {
    case "user":
      return new UserNet({
        wire,
        sockets: new DenoSockets(),
        ...(net.tftp === undefined ? {} : { files: await TftpFolder.of(net.tftp) }),
        now: p.nowMs,
        random: () => crypto.getRandomValues(new Uint32Array(1))[0]!,
        armed: p.armed,
      }, { ...net, mac: Uint8Array.from(net.mac) });
    case "stream": {
      const connect = () => Deno.connect({ transport: "unix", path: net.path });
      return new StreamNet({ wire, connect, linkChanged, sleep }, net.path);
    }
    case "dgram": {
      const { DgramNet } = await import("../host/net/dgram_net.ts");
      return new DgramNet({ wire, linkChanged, sleep }, net.path);
    }
    case "switch": {
      const { SwitchNet } = await import("../host/net/switch_net.ts");
      const { openSwitchHost } = await import("../host/net/switch_host.ts");
      return new SwitchNet(wire, openSwitchHost(net.name), net.name, p.trouble);
    }
    case "tap": {
      const { TapNet } = await import("../host/net/tap_net.ts");
      return new TapNet(wire, net.name);
    }
    case "vmnet": {
      const { VmnetNet } = await import("../host/net/vmnet_net.ts");
      return new VmnetNet(wire, net);
    }
  }
}
