/** Echo requests to the outside, through the host's sockets for them: one for each identifier of the guest's. */
import type { Address } from "./address.ts";
import type { HostDatagrams, HostSockets } from "./host_sockets.ts";
import { echoId, ICMP, ICMPV6, sendEchoReply } from "./icmp.ts";
import type { Outputs } from "./ip.ts";
import { guestView, hostView } from "./network.ts";

export const MAX_ECHO_FLOWS = 32;
/** [rfc5508 REQ-2] asks for a minute at least. */
const IDLE_MS = 60_000;
const MAX_EARLY = 4;

interface Flow {
  usedAtMs: number;
  /** Null until the socket is there. */
  socket: HostDatagrams | null;
  readonly early: { message: Uint8Array; to: string }[];
  closed: boolean;
}

export class EchoNat {
  /** The least recently used first. */
  readonly #flows = new Map<string, Flow>();

  constructor(
    private readonly sockets: HostSockets,
    private readonly outputs: Outputs,
    private readonly now: () => number,
  ) {}

  /** Sends an echo request of the guest's on its way. Resolves to false if the host does not let us. */
  async forward(guest: Address, destination: Address, icmp: Uint8Array): Promise<boolean> {
    const to = hostView(destination), family = to.includes(":") ? 6 : 4;
    const message = icmp.slice(), id = echoId(icmp);
    message[0] = family === 6 ? ICMPV6.ECHO : ICMP.ECHO;
    const key = `${guest} ${id} ${family}`;
    const known = this.#flows.get(key);
    if (known) {
      this.#flows.delete(key);
      this.#flows.set(key, known);
      known.usedAtMs = this.now();
      if (known.socket) known.socket.send(message, to, 0);
      else if (known.early.length < MAX_EARLY) known.early.push({ message, to });
      return true;
    }
    if (this.#flows.size >= MAX_ECHO_FLOWS) this.#drop(this.#flows.keys().next().value!);
    const flow: Flow = { usedAtMs: this.now(), socket: null, early: [{ message, to }], closed: false };
    this.#flows.set(key, flow);
    const own = typeof guest === "number" ? 4 : 6;
    const socket = await this.sockets.echoes(family, (reply, address) => {
      const from = guestView(address, own);
      if (flow.closed || from === null) return;
      if (reply[0] !== (family === 6 ? ICMPV6.ECHO_REPLY : ICMP.ECHO_REPLY)) return;
      flow.usedAtMs = this.now();
      sendEchoReply(this.outputs, from, guest, reply, id);
    });
    if (flow.closed) socket?.close();
    else if (socket) {
      flow.socket = socket;
      for (const { message, to } of flow.early.splice(0)) socket.send(message, to, 0);
    } else this.#drop(key);
    return socket !== null;
  }

  #drop(key: string): void {
    const flow = this.#flows.get(key);
    if (!flow) return;
    flow.closed = true;
    flow.socket?.close();
    this.#flows.delete(key);
  }

  /** Ends what has been idle; when to look again. */
  tick(): number {
    const nowMs = this.now();
    let next = Infinity;
    for (const [key, flow] of this.#flows) {
      if (flow.usedAtMs + IDLE_MS <= nowMs) this.#drop(key);
      else next = Math.min(next, flow.usedAtMs + IDLE_MS);
    }
    return next;
  }

  clear(): void {
    for (const key of [...this.#flows.keys()]) this.#drop(key);
  }
}
