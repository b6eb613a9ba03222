/**
 * The switch back end: machines of one user that name the same switch are on one network. The first of them serves the others
 * at a Unix socket; when it ends, one of those does. Who serves is who holds the lock of a file beside the socket, which the
 * host takes back from a process that is gone.
 */
import { NO_OFFLOAD } from "../../../devices/virtio/net_header.ts";
import { HostError, messageOf } from "../../base/errors.ts";
import { FramedStream } from "./framed_stream.ts";
import type { HostStream } from "./host_sockets.ts";
import { type NetBackend, Outbox, type Wire } from "./wire.ts";

const RETRY_MS = 50;
/** Tries before it is the host's refusal. */
const MAX_TRIES = 100;
const MAX_STATIONS = 1024;
const MAX_MACHINES = 64;
const LEAST_FRAME_BYTES = 14;

export interface SwitchHost {
  /** Becomes the one who serves: null if somebody else does. */
  serve(accepted: (stream: HostStream) => void): { close(): void } | null;
  connect(): Promise<HostStream>;
  sleep(ms: number): Promise<void>;
}

/** Where frames go to. */
interface Port {
  send(frame: Uint8Array): void;
  flush(): void;
}

/** Learns which station is at which port, and sends everything else to all. */
export class LearningSwitch {
  readonly #ports = new Set<Port>();
  /** By the address; the one that spoke longest ago first. */
  readonly #stations = new Map<string, Port>();

  add(port: Port): void {
    this.#ports.add(port);
  }

  remove(port: Port): void {
    this.#ports.delete(port);
    for (const [address, at] of this.#stations) if (at === port) this.#stations.delete(address);
  }

  get size(): number {
    return this.#ports.size;
  }

  forward(from: Port, frame: Uint8Array): void {
    if (frame.length < LEAST_FRAME_BYTES) return;
    if (!(frame[6]! & 1)) this.#learn(addressAt(frame, 6), from);
    const to = frame[0]! & 1 ? undefined : this.#stations.get(addressAt(frame, 0));
    if (to) {
      if (to !== from) to.send(frame);
      return;
    }
    for (const port of this.#ports) if (port !== from) port.send(frame);
  }

  #learn(address: string, port: Port): void {
    if (this.#stations.get(address) === port) return;
    this.#stations.delete(address);
    if (this.#stations.size >= MAX_STATIONS) this.#stations.delete(this.#stations.keys().next().value!);
    this.#stations.set(address, port);
  }

  flush(): void {
    for (const port of this.#ports) port.flush();
  }
}

function addressAt(frame: Uint8Array, at: number): string {
  return String.fromCharCode(
    (frame[at]! << 8) | frame[at + 1]!,
    (frame[at + 2]! << 8) | frame[at + 3]!,
    (frame[at + 4]! << 8) | frame[at + 5]!,
  );
}

export class SwitchNet implements NetBackend {
  readonly #outbox: Outbox;
  readonly #own: Port;
  #switch: LearningSwitch | null = null;
  #server: { close(): void } | null = null;
  #client: FramedStream | null = null;
  readonly #machines = new Set<FramedStream>();
  #closed = false;

  constructor(
    wire: Wire,
    private readonly host: SwitchHost,
    private readonly name: string,
    private readonly trouble: (sentence: string) => void,
  ) {
    const outbox = this.#outbox = new Outbox(wire);
    this.#own = { send: (frame) => outbox.send(frame, NO_OFFLOAD), flush() {} };
  }

  /** Whether it is this machine that serves. */
  get serving(): boolean {
    return this.#server !== null;
  }

  /** Joins the switch, or makes it. Rejects with HostError. */
  async open(): Promise<void> {
    let why: unknown;
    for (let tries = 0; tries < MAX_TRIES && !this.#closed; tries++) {
      try {
        if (this.#serve()) return;
        return this.#join(await this.host.connect());
      } catch (error) {
        why = error; // the one who serves is about to, or about to go
      }
      await this.host.sleep(RETRY_MS);
    }
    if (this.#closed) return;
    throw new HostError(`Cannot join the switch "${this.name}" for --net switch: ${messageOf(why)}`, { cause: why });
  }

  #serve(): boolean {
    const bridge = new LearningSwitch();
    const server = this.host.serve((stream) => this.#accept(bridge, stream));
    if (!server) return false;
    bridge.add(this.#own);
    this.#switch = bridge;
    this.#server = server;
    return true;
  }

  #accept(bridge: LearningSwitch, stream: HostStream): void {
    if (bridge.size > MAX_MACHINES) return stream.close();
    const framed: FramedStream = new FramedStream(stream, {
      received: (frame) => {
        bridge.forward(framed, frame);
        // Others have what was sent at the end of this turn: what came in one read leaves in one write.
        queueMicrotask(() => bridge.flush());
      },
      ended: () => {
        bridge.remove(framed);
        this.#machines.delete(framed);
      },
    });
    bridge.add(framed);
    this.#machines.add(framed);
  }

  #join(stream: HostStream): void {
    if (this.#closed) return stream.close();
    this.#client = new FramedStream(stream, {
      received: (frame) => this.#own.send(frame),
      ended: () => {
        this.#client = null;
        this.open().catch((error) => this.trouble(messageOf(error)));
      },
    });
  }

  receive(frame: Uint8Array): void {
    if (this.#switch) this.#switch.forward(this.#own, frame);
    else this.#client?.send(frame);
  }

  endOfBurst(): void {
    this.#switch?.flush();
    this.#client?.flush();
  }

  room(): void {
    this.#outbox.flush();
  }

  guestReset(): void {
    this.#outbox.clear();
  }

  tick(): number {
    return Infinity;
  }

  close(): void {
    this.#closed = true;
    this.#client?.close();
    this.#server?.close();
    for (const machine of this.#machines) machine.close();
  }
}
