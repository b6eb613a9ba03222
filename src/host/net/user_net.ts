/**
 * The user back end: a network of the guest's own, with a gateway that hands its packets to sockets of this process.
 *
 * | address | who |
 * |---|---|
 * | 10.0.2.2 | the gateway: DHCP server, and the way to the host's loop-back services |
 * | 10.0.2.3 | the resolver: queries go to the host's |
 * | 10.0.2.15 | the guest, by DHCP |
 *
 * IPv4 only. Echo requests are answered by the gateway for itself; there is no way to send them further without privileges.
 */
import { type FrameOffload, NO_OFFLOAD } from "../../../devices/virtio/net_header.ts";
import { HostError, messageOf } from "../../base/errors.ts";
import type { PublishSpec } from "../../machine/spec.ts";
import { u16, u32 } from "./address.ts";
import { answerArp, Neighbours } from "./arp.ts";
import { answerDhcp, DHCP_CLIENT_PORT, DHCP_SERVER_PORT } from "./dhcp.ts";
import { DNS_PORT, DnsForwarder, type Resolver } from "./dns.ts";
import type { HostSockets } from "./host_sockets.ts";
import { answerEcho, causeOf, ICMP_CODE, sendUnreachable } from "./icmp.ts";
import { ETHERNET_BYTES, ETHERTYPE, Ip4Input, Ip4Output, MTU, type Packet, PROTOCOL } from "./ip4.ts";
import { GATEWAY_MAC, isForwardable, isLocal, LOOPBACK, NETWORK } from "./network.ts";
import { TcpNat } from "./tcp_nat.ts";
import { parseSegment, SegmentOutput } from "./tcp_segment.ts";
import { parseDatagram, sendDatagram } from "./udp.ts";
import { guestView, hostView, UdpNat } from "./udp_nat.ts";
import { type NetBackend, Outbox, type Wire } from "./wire.ts";

const LEASE_SECONDS = 86_400;

export interface UserNetOptions {
  readonly mac: Uint8Array;
  /** Nothing goes out but answers to clients of published ports. */
  readonly restrict: boolean;
  readonly publish: readonly PublishSpec[];
  /** Who answers the guest's queries; null for the host's resolvers. */
  readonly dns: { readonly address: string; readonly port: number } | null;
}

export interface UserNetParts {
  readonly wire: Wire;
  readonly sockets: HostSockets;
  /** Milliseconds of guest time. */
  now(): number;
  random(): number;
  /** Something is due earlier than the last `tick` said. */
  armed(): void;
}

export class UserNet implements NetBackend {
  readonly #outbox: Outbox;
  readonly #input: Ip4Input;
  readonly #output: Ip4Output;
  readonly #neighbours: Neighbours;
  readonly #tcp: TcpNat;
  readonly #udp: UdpNat;
  readonly #dns: DnsForwarder;

  constructor(private readonly p: UserNetParts, private readonly options: UserNetOptions) {
    const { wire, sockets, now, armed } = p;
    const outbox = this.#outbox = new Outbox(wire);
    this.#neighbours = new Neighbours(options.mac, NETWORK.broadcast);
    this.#input = new Ip4Input(now);
    const output = this.#output = new Ip4Output(outbox, GATEWAY_MAC, this.#neighbours.macOf);
    const segments = new SegmentOutput(output, wire);
    this.#tcp = new TcpNat({
      sockets,
      now,
      random: p.random,
      get cut() {
        return wire.segments;
      },
      get ready() {
        return outbox.ready;
      },
      send: (s) => segments.send(s),
      route: (address, port) => this.#route(address, port),
      refused: (why, cause, peer) =>
        sendUnreachable(
          why === "forbidden" ? ICMP_CODE.PROHIBITED : ICMP_CODE.HOST,
          peer,
          u32(cause, 12),
          cause,
          output,
        ),
      cause: causeOf,
      armed,
    });
    this.#udp = new UdpNat({ sockets, now, send: (from, to, data) => sendDatagram(output, from, to, data) });
    this.#dns = new DnsForwarder(sockets, now, armed, () => this.#resolvers());
  }

  /** Opens the published ports. Rejects with HostError. */
  async open(): Promise<void> {
    for (const { protocol, address, port, guestPort } of this.options.publish) {
      try {
        if (protocol === "udp") await this.#udp.publish(address, port, guestPort);
        else this.#tcp.publish(address, port, guestPort, (client) => guestView(client) ?? NETWORK.gateway);
      } catch (error) {
        const what = `Cannot listen on ${address}:${port}/${protocol} for --publish: ${messageOf(error)}`;
        throw new HostError(what, { cause: error });
      }
    }
  }

  /** DNS by TCP goes to the first of the host's resolvers. */
  #route(address: number, port: number): { address: string; port: number } {
    if (address === NETWORK.dns && port === DNS_PORT) {
      return this.#resolvers()[0] ?? { address: LOOPBACK, port: DNS_PORT };
    }
    return { address: hostView(address), port };
  }

  #resolvers(): readonly Resolver[] {
    if (this.options.dns) return [this.options.dns];
    return this.p.sockets.resolvers().map((address) => ({ address, port: DNS_PORT }));
  }

  receive(frame: Uint8Array, offload: Readonly<FrameOffload>): void {
    if (frame.length < ETHERNET_BYTES) return;
    switch (u16(frame, 12)) {
      case ETHERTYPE.ARP:
        return this.#receiveArp(frame);
      case ETHERTYPE.IPV4: {
        const packet = this.#input.parse(frame, offload);
        if (packet) this.#receivePacket(packet, frame);
      }
    }
  }

  #receiveArp(frame: Uint8Array): void {
    const owns = (address: number) => address === NETWORK.gateway || address === NETWORK.dns;
    const reply = answerArp(frame, GATEWAY_MAC, owns);
    if (!reply) return;
    this.#learn(u32(frame, ETHERNET_BYTES + 14), frame);
    this.#outbox.send(reply, NO_OFFLOAD);
  }

  #learn(address: number, frame: Uint8Array): void {
    const own = address === NETWORK.gateway || address === NETWORK.dns || address === NETWORK.broadcast;
    if (isLocal(address) && !own && !(frame[6]! & 1)) this.#neighbours.learn(address, frame.subarray(6, 12));
  }

  #receivePacket(packet: Packet, frame: Uint8Array): void {
    this.#learn(packet.source, frame);
    if (packet.protocol === PROTOCOL.UDP) return this.#receiveDatagram(packet);
    // Only stations of this network are answered: nobody else is on the cable.
    if (!isLocal(packet.source)) return;
    const { destination } = packet;
    if (packet.protocol === PROTOCOL.ICMP) {
      if (destination === NETWORK.gateway || destination === NETWORK.dns) answerEcho(packet, this.#output);
      else if (isForwardable(destination) && !isLocal(destination)) this.#unreachable(ICMP_CODE.PROHIBITED, packet);
      return;
    }
    if (packet.protocol !== PROTOCOL.TCP) return;
    const segment = parseSegment(packet);
    if (!segment || !this.#mayLeave(packet, segment.destinationPort)) return;
    // Of a restricted guest, only what answers clients of published ports passes.
    if (this.options.restrict && !this.#tcp.knows(packet, segment)) {
      return this.#unreachable(ICMP_CODE.PROHIBITED, packet);
    }
    this.#tcp.receive(packet, segment);
  }

  #receiveDatagram(packet: Packet): void {
    const datagram = parseDatagram(packet);
    if (!datagram) return;
    const { sourcePort, destinationPort, data } = datagram;
    const { source, destination } = packet;
    const broadcast = destination === 0xffffffff || destination === NETWORK.broadcast;
    if (destinationPort === DHCP_SERVER_PORT && (broadcast || destination === NETWORK.gateway)) {
      return this.#answerDhcp(data);
    }
    if (broadcast || !isLocal(source) || !this.#mayLeave(packet, destinationPort)) return;
    const guest = { address: source, port: sourcePort }, to = { address: destination, port: destinationPort };
    if (destination === NETWORK.dns) {
      this.#dns.ask(data, (answer) => sendDatagram(this.#output, to, guest, answer));
      return;
    }
    if (this.options.restrict && !this.#udp.answers(sourcePort, to)) {
      return this.#unreachable(ICMP_CODE.PROHIBITED, packet);
    }
    this.#udp.forward(guest, to, data);
    this.p.armed();
  }

  /** Whether there is anything at the packet's destination; the sender hears of a resolver's other ports. */
  #mayLeave(packet: Packet, port: number): boolean {
    const { destination } = packet;
    if (!isLocal(destination)) return isForwardable(destination);
    if (destination === NETWORK.gateway) return true;
    if (destination !== NETWORK.dns) return false;
    const resolver = port === DNS_PORT && !this.options.restrict;
    if (!resolver) this.#unreachable(ICMP_CODE.PORT, packet);
    return resolver;
  }

  #unreachable(code: number, packet: Packet): void {
    sendUnreachable(code, NETWORK.gateway, packet.source, causeOf(packet), this.#output);
  }

  #answerDhcp(message: Uint8Array): void {
    const reply = answerDhcp(message, {
      server: NETWORK.gateway,
      client: NETWORK.guest,
      mask: NETWORK.mask,
      router: NETWORK.gateway,
      dns: this.options.restrict ? null : NETWORK.dns,
      leaseSeconds: LEASE_SECONDS,
      mtu: MTU,
    });
    if (!reply) return;
    const from = { address: NETWORK.gateway, port: DHCP_SERVER_PORT };
    sendDatagram(this.#output, from, { address: reply.to, port: DHCP_CLIENT_PORT }, reply.bytes);
  }

  endOfBurst(): void {
    this.#tcp.endOfBurst();
  }

  room(): void {
    this.#outbox.flush();
    if (this.#outbox.ready) this.#tcp.room();
  }

  guestReset(): void {
    this.#outbox.clear();
    this.#input.clear();
    this.#neighbours.clear();
    this.#tcp.clear();
    this.#udp.clear();
    this.#dns.clear();
  }

  tick(): number {
    return Math.min(this.#tcp.tick(), this.#udp.tick(), this.#dns.tick());
  }

  close(): void {
    this.guestReset();
    this.#tcp.close();
    this.#udp.close();
  }
}
