/**
 * UDP through the host's sockets: one socket for each port of the guest's, so that all its peers see the same address
 * [rfc4787 REQ-1]; what comes back is let in from addresses the guest has spoken to [rfc4787 REQ-8].
 */
import type { HostDatagrams, HostSockets } from "./host_sockets.ts";
import { guestView, hostView, NETWORK, plainAddress } from "./network.ts";
import type { Endpoint } from "./udp.ts";

export const MAX_FLOWS = 256;
/** [rfc4787 REQ-5] asks for two minutes at least. */
export const FLOW_IDLE_MS = 150_000;
const MAX_PEERS = 64;
/** Datagrams kept while a socket is being made. */
const MAX_EARLY = 16;

export interface UdpNatParts {
  readonly sockets: HostSockets;
  now(): number;
  /** Sends a datagram to the guest. */
  send(from: Endpoint, to: Endpoint, data: Uint8Array): void;
}

class Flow {
  #socket: HostDatagrams | null = null;
  #early: { data: Uint8Array; address: string; port: number }[] = [];
  #closed = false;
  usedAtMs = 0;
  /** Addresses the guest has spoken to. */
  readonly peers = new Set<string>();

  /** `family` is the host's: a guest that speaks IPv6 may mean an IPv4 host. */
  constructor(readonly guest: Endpoint, family: 4 | 6, parts: UdpNatParts) {
    const own = typeof guest.address === "number" ? 4 : 6;
    const received = (data: Uint8Array, text: string, port: number) => {
      const address = plainAddress(text);
      const from = guestView(address, own);
      if (this.#closed || from === null || !this.peers.has(address)) return;
      this.usedAtMs = parts.now();
      parts.send({ address: from, port }, this.guest, data);
    };
    parts.sockets.datagrams(family === 4 ? "0.0.0.0" : "::", 0, received).then((socket) => {
      if (this.#closed) return socket.close();
      this.#socket = socket;
      for (const { data, address, port } of this.#early.splice(0)) socket.send(data, address, port);
    }, () => this.close());
  }

  send(data: Uint8Array, address: string, port: number): void {
    if (this.peers.size >= MAX_PEERS && !this.peers.has(address)) {
      this.peers.delete(this.peers.values().next().value!);
    }
    this.peers.add(address);
    // A copy: the socket sends later, and the packet's bytes are used again.
    if (this.#socket) this.#socket.send(data.slice(), address, port);
    else if (this.#early.length < MAX_EARLY) this.#early.push({ data: data.slice(), address, port });
  }

  close(): void {
    this.#closed = true;
    this.#socket?.close();
    this.#early = [];
  }
}

/** A port of the host's that leads to one of the guest's. */
interface Published {
  readonly at: string;
  readonly socket: HostDatagrams;
  readonly clients: Map<string, { address: string; port: number }>;
}

export class UdpNat {
  /** The least recently used first. */
  readonly #flows = new Map<string, Flow>();
  /** By the guest's port: any number of ports of the host's may lead to one. */
  readonly #published = new Map<number, Published[]>();

  constructor(private readonly parts: UdpNatParts) {}

  /** Sends a datagram of the guest's on its way. `to` is as the guest sees it. */
  forward(guest: Endpoint, to: Endpoint, data: Uint8Array): void {
    const address = hostView(to.address);
    const client = this.#client(guest.port, to);
    if (client) return client.socket.send(data.slice(), client.to.address, client.to.port);
    const family = address.includes(":") ? 6 : 4;
    const key = `${guest.address} ${guest.port} ${family}`;
    let flow = this.#flows.get(key);
    if (flow) this.#flows.delete(key);
    else {
      if (this.#flows.size >= MAX_FLOWS) this.#drop(this.#flows.keys().next().value!);
      flow = new Flow(guest, family, this.parts);
    }
    this.#flows.set(key, flow);
    flow.usedAtMs = this.parts.now();
    flow.send(data, address, to.port);
  }

  /** The client of a published port that an endpoint, as the guest sees it, stands for. */
  #client(guestPort: number, to: Endpoint) {
    for (const { socket, clients } of this.#published.get(guestPort) ?? []) {
      const client = clients.get(`${to.address} ${to.port}`);
      if (client) return { socket, to: client };
    }
    return null;
  }

  /** Whether a datagram of the guest's answers a client of a published port. */
  answers(guestPort: number, to: Endpoint): boolean {
    return this.#client(guestPort, to) !== null;
  }

  /** Lets datagrams to a port of the host's in. Rejects with what the host says. */
  async publish(address: string, port: number, guestPort: number): Promise<void> {
    const clients: Published["clients"] = new Map();
    const socket = await this.parts.sockets.datagrams(address, port, (data, from, fromPort) => {
      // Over IPv6 clients of other hosts come as the gateway does: this guest is published by its IPv4 address.
      const seen = guestView(from) ?? NETWORK.gateway;
      const key = `${seen} ${fromPort}`;
      if (!clients.has(key) && clients.size >= MAX_FLOWS) clients.delete(clients.keys().next().value!);
      clients.set(key, { address: from, port: fromPort });
      this.parts.send({ address: seen, port: fromPort }, { address: NETWORK.guest, port: guestPort }, data);
    });
    const all = this.#published.get(guestPort) ?? [];
    this.#published.set(guestPort, [...all, { at: `${address} ${port}`, socket, clients }]);
  }

  /** Closes a published port. False if it was none. */
  unpublish(address: string, port: number): boolean {
    for (const [guestPort, all] of this.#published) {
      const found = all.find(({ at }) => at === `${address} ${port}`);
      if (!found) continue;
      found.socket.close();
      const rest = all.filter((one) => one !== found);
      if (rest.length > 0) this.#published.set(guestPort, rest);
      else this.#published.delete(guestPort);
      return true;
    }
    return false;
  }

  /** Ends what has been idle; when to look again. */
  tick(): number {
    const nowMs = this.parts.now();
    let next = Infinity;
    for (const [key, flow] of this.#flows) {
      if (flow.usedAtMs + FLOW_IDLE_MS <= nowMs) this.#drop(key);
      else next = Math.min(next, flow.usedAtMs + FLOW_IDLE_MS);
    }
    return next;
  }

  #drop(key: string): void {
    this.#flows.get(key)?.close();
    this.#flows.delete(key);
  }

  /** Forgets the guest's flows; published ports stay. */
  clear(): void {
    for (const key of [...this.#flows.keys()]) this.#drop(key);
    for (const { clients } of [...this.#published.values()].flat()) clients.clear();
  }

  close(): void {
    this.clear();
    for (const { socket } of [...this.#published.values()].flat()) socket.close();
    this.#published.clear();
  }
}
