/**
 * The user back end: a network of the guest's own, with a gateway that hands its packets to sockets of this process.
 *
 * | address | who |
 * |---|---|
 * | 10.0.2.2 | the gateway: DHCP server, TFTP server if it is given files, and the way to the host's loop-back services |
 * | 10.0.2.3 | the resolver: queries go to the host's |
 * | 10.0.2.15 | the guest, by DHCP |
 *
 * The same over IPv6 in fd74:7269:6b65::/64, where the guest makes its own addresses: the gateway is ::2, the resolver ::3, and
 * 64:ff9b::a.b.c.d leads to the IPv4 host a.b.c.d.
 */
import { type FrameOffload, NO_OFFLOAD } from "../../../devices/virtio/net_header.ts";
import { HostError, messageOf } from "../../base/errors.ts";
import type { PublishSpec } from "../../machine/spec.ts";
import { type Address, u16, u32 } from "./address.ts";
import { answerArp, Neighbours } from "./arp.ts";
import { answerDhcp, BIOS_ARCHITECTURE, DHCP_CLIENT_PORT, DHCP_SERVER_PORT, UEFI_ARCHITECTURES } from "./dhcp.ts";
import { answerDhcp6, DHCP6_CLIENT_PORT, DHCP6_SERVER_PORT } from "./dhcp6.ts";
import { DNS_PORT, DnsForwarder, type Resolver } from "./dns.ts";
import { EchoNat } from "./echo_nat.ts";
import type { HostSockets } from "./host_sockets.ts";
import { causeOf, isEcho, parseIcmp, sendEchoReply, sendUnreachable, type Unreachable } from "./icmp.ts";
import { ETHERNET_BYTES, ETHERTYPE, MTU, Outputs, type Packet, PROTOCOL } from "./ip.ts";
import { Ip4Input, Ip4Output } from "./ip4.ts";
import { Ip6Input, Ip6Output } from "./ip6.ts";
import { NeighbourDiscovery, stationOf } from "./neighbour_discovery.ts";
import {
  GATEWAY_MAC,
  guestView,
  hostView,
  isForwardable,
  isGateway,
  isLocal,
  isResolver,
  LOOPBACK,
  NETWORK,
  NETWORK6,
} from "./network.ts";
import { TcpNat } from "./tcp_nat.ts";
import { parseSegment, SegmentOutput } from "./tcp_segment.ts";
import { type TftpFiles, TftpServer } from "./tftp.ts";
import { type Datagram, type Endpoint, parseDatagram, sendDatagram } from "./udp.ts";
import { UdpNat } from "./udp_nat.ts";
import { type NetBackend, Outbox, type Wire } from "./wire.ts";

const LEASE_SECONDS = 86_400;

export interface UserNetOptions {
  readonly mac: Uint8Array;
  /** Nothing goes out but answers to clients of published ports. */
  readonly restrict: boolean;
  readonly publish: readonly PublishSpec[];
  /** Who answers the guest's queries; null for the host's resolvers. */
  readonly dns: { readonly address: string; readonly port: number } | null;
  /** What a client that boots from the network is told to load, on a BIOS and on UEFI. */
  readonly bootFile?: string;
  readonly bootFileUefi?: string;
}

export interface UserNetParts {
  readonly wire: Wire;
  readonly sockets: HostSockets;
  /** What the gateway gives by TFTP; without it, port 69 is the host's. */
  readonly files?: TftpFiles;
  /** Milliseconds of guest time. */
  now(): number;
  random(): number;
  /** Something is due earlier than the last `tick` said. */
  armed(): void;
}

/** Whether an address is one that this process answers for. */
const isOwn = (address: Address) => isGateway(address) || isResolver(address);

export class UserNet implements NetBackend {
  readonly #outbox: Outbox;
  readonly #input: Ip4Input;
  readonly #input6: Ip6Input;
  readonly #outputs: Outputs;
  readonly #neighbours: Neighbours;
  readonly #discovery: NeighbourDiscovery;
  readonly #tcp: TcpNat;
  readonly #udp: UdpNat;
  readonly #echo: EchoNat;
  readonly #dns: DnsForwarder;
  readonly #tftp: TftpServer | null;
  readonly #forwards: PublishSpec[] = [];

  constructor(private readonly p: UserNetParts, private readonly options: UserNetOptions) {
    const { wire, sockets, now, armed } = p;
    const outbox = this.#outbox = new Outbox(wire);
    const neighbours = this.#neighbours = new Neighbours(options.mac, NETWORK.broadcast);
    this.#input = new Ip4Input(now);
    this.#input6 = new Ip6Input(now);
    const outputs = this.#outputs = new Outputs(
      new Ip4Output(outbox, GATEWAY_MAC, neighbours.macOf),
      new Ip6Output(outbox, GATEWAY_MAC, neighbours.macOf),
    );
    const segments = new SegmentOutput(outputs, wire);
    this.#tcp = new TcpNat({
      sockets,
      now,
      random: p.random,
      cut: (peer) => typeof peer === "number" ? wire.segments : wire.segments6,
      get ready() {
        return outbox.ready;
      },
      send: (s) => segments.send(s),
      route: (address, port) => this.#route(address, port),
      refused: (why, cause) => this.#tell(why === "forbidden" ? "prohibited" : "host", cause),
      cause: causeOf,
      armed,
    });
    this.#udp = new UdpNat({ sockets, now, send: (from, to, data) => sendDatagram(outputs, from, to, data) });
    this.#echo = new EchoNat(sockets, outputs, now);
    this.#dns = new DnsForwarder(sockets, now, armed, () => this.#resolvers());
    const send = (port: number, to: Endpoint, packet: Uint8Array) => {
      const own = typeof to.address === "number" ? NETWORK.gateway : NETWORK6.gateway;
      sendDatagram(outputs, { address: own, port }, to, packet);
    };
    this.#tftp = p.files ? new TftpServer({ files: p.files, now, random: p.random, armed, send }) : null;
    const learn = (address: Address, mac: Uint8Array) => this.#learn(address, mac);
    this.#discovery = new NeighbourDiscovery(outputs, GATEWAY_MAC, isOwn, learn, !options.restrict, now, armed);
  }

  /** Opens the published ports. Rejects with HostError. */
  async open(): Promise<void> {
    for (const one of this.options.publish) await this.addForward(one, " for --publish");
  }

  /** Ports of the host's that lead to the guest. */
  get forwards(): readonly PublishSpec[] {
    return this.#forwards;
  }

  /** Lets clients of one more port in. Rejects with HostError; `what` ends its sentence. */
  async addForward(one: PublishSpec, what = ""): Promise<void> {
    const { protocol, address, port, guestPort } = one;
    try {
      if (protocol === "udp") await this.#udp.publish(address, port, guestPort);
      else {
        const seen = (client: string) => guestView(client) as number | null ?? NETWORK.gateway;
        this.#tcp.publish(address, port, guestPort, seen);
      }
    } catch (error) {
      const sentence = `Cannot listen on ${address}:${port}/${protocol}${what}: ${messageOf(error)}`;
      throw new HostError(sentence, { cause: error });
    }
    this.#forwards.push(one);
  }

  /** Closes a port of the host's; who is connected stays. False if it was not open. */
  removeForward(one: Pick<PublishSpec, "protocol" | "address" | "port">): boolean {
    const { protocol, address, port } = one;
    const closed = protocol === "udp" ? this.#udp.unpublish(address, port) : this.#tcp.unpublish(address, port);
    const at = this.#forwards.findIndex((f) => f.protocol === protocol && f.address === address && f.port === port);
    if (at >= 0) this.#forwards.splice(at, 1);
    return closed;
  }

  /** DNS by TCP goes to the first of the host's resolvers. */
  #route(address: Address, port: number): { address: string; port: number } {
    if (isResolver(address) && port === DNS_PORT) {
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
        return;
      }
      case ETHERTYPE.IPV6: {
        const packet = this.#input6.parse(frame, offload);
        if (packet) this.#receivePacket(packet, frame);
      }
    }
  }

  #receiveArp(frame: Uint8Array): void {
    const reply = answerArp(frame, GATEWAY_MAC, isOwn);
    if (!reply) return;
    this.#learn(u32(frame, ETHERNET_BYTES + 14), frame.subarray(6, 12));
    this.#outbox.send(reply, NO_OFFLOAD);
  }

  #learn(address: Address, mac: Uint8Array): void {
    if (isLocal(address) && !isOwn(address) && address !== NETWORK.broadcast) this.#neighbours.learn(address, mac);
  }

  #receivePacket(packet: Packet, frame: Uint8Array): void {
    const station = stationOf(frame);
    if (station) this.#learn(packet.source, station);
    switch (packet.protocol) {
      case PROTOCOL.UDP:
        return this.#receiveDatagram(packet);
      case PROTOCOL.TCP:
        return this.#receiveSegment(packet);
      case PROTOCOL.ICMP:
      case PROTOCOL.ICMPV6:
        return this.#receiveIcmp(packet, frame);
    }
  }

  #receiveIcmp(packet: Packet, frame: Uint8Array): void {
    if ((packet.protocol === PROTOCOL.ICMPV6) !== (typeof packet.source === "string")) return;
    const icmp = parseIcmp(packet);
    if (!icmp) return;
    if (packet.protocol === PROTOCOL.ICMPV6 && this.#discovery.receive(packet, icmp, frame)) return;
    const { source, destination } = packet;
    if (!isLocal(source) || !isEcho(packet, icmp)) return;
    if (isOwn(destination)) return sendEchoReply(this.#outputs, destination, source, icmp);
    if (isLocal(destination) || !isForwardable(destination)) return;
    if (this.options.restrict) return this.#unreachable("prohibited", packet);
    const cause = causeOf(packet);
    this.p.armed();
    void this.#echo.forward(source, destination, icmp).then((sent) => {
      if (!sent) this.#tell("prohibited", cause);
    });
  }

  #receiveSegment(packet: Packet): void {
    // Only stations of this network are answered: nobody else is on the cable.
    if (!isLocal(packet.source)) return;
    const segment = parseSegment(packet);
    if (!segment || !this.#mayLeave(packet, segment.destinationPort)) return;
    // Of a restricted guest, only what answers clients of published ports passes.
    if (this.options.restrict && !this.#tcp.knows(packet, segment)) return this.#unreachable("prohibited", packet);
    this.#tcp.receive(packet, segment);
  }

  #receiveDatagram(packet: Packet): void {
    const datagram = parseDatagram(packet);
    if (!datagram) return;
    const { cutBytes } = packet, { data } = datagram;
    if (cutBytes === 0) return this.#receiveOne(packet, datagram);
    for (let at = 0; at < data.length; at += cutBytes) {
      this.#receiveOne(packet, { ...datagram, data: data.subarray(at, at + cutBytes) });
    }
  }

  #receiveOne(packet: Packet, { sourcePort, destinationPort, data }: Datagram): void {
    const { source, destination } = packet;
    const group = destination === 0xffffffff || destination === NETWORK.broadcast ||
      (typeof destination === "string" && destination.charCodeAt(0) >>> 8 === 0xff);
    const guest = { address: source, port: sourcePort }, to = { address: destination, port: destinationPort };
    if (group || isGateway(destination)) {
      if (typeof source === "number" && destinationPort === DHCP_SERVER_PORT) return this.#answerDhcp(data);
      if (typeof source === "string" && destinationPort === DHCP6_SERVER_PORT) return this.#answerDhcp6(guest, data);
    }
    if (group || !isLocal(source) || !this.#mayLeave(packet, destinationPort)) return;
    if (isResolver(destination)) {
      this.#dns.ask(data, (answer) => sendDatagram(this.#outputs, to, guest, answer));
      return;
    }
    if (isGateway(destination) && this.#tftp?.receive(guest, destinationPort, data)) return;
    if (this.options.restrict && !this.#udp.answers(sourcePort, to)) return this.#unreachable("prohibited", packet);
    this.#udp.forward(guest, to, data);
    this.p.armed();
  }

  /** Whether there is anything at the packet's destination; the sender hears of a resolver's other ports. */
  #mayLeave(packet: Packet, port: number): boolean {
    const { destination } = packet;
    if (!isLocal(destination)) return isForwardable(destination);
    if (isGateway(destination)) return true;
    if (!isResolver(destination)) return false;
    const resolver = port === DNS_PORT && !this.options.restrict;
    if (!resolver) this.#unreachable("port", packet);
    return resolver;
  }

  #unreachable(why: Unreachable, packet: Packet): void {
    this.#tell(why, causeOf(packet));
  }

  #tell(why: Unreachable, cause: Uint8Array): void {
    const from = cause[0]! >> 4 === 6 ? NETWORK6.gateway : NETWORK.gateway;
    sendUnreachable(this.#outputs, why, from, cause);
  }

  #answerDhcp6(client: Endpoint, message: Uint8Array): void {
    const reply = answerDhcp6(message, GATEWAY_MAC, this.options.restrict ? null : NETWORK6.dns);
    if (!reply) return;
    const from = { address: NETWORK6.router, port: DHCP6_SERVER_PORT };
    sendDatagram(this.#outputs, from, { address: client.address, port: DHCP6_CLIENT_PORT }, reply);
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
      bootFile: (architecture) => this.#bootFile(architecture),
    });
    if (!reply) return;
    const from = { address: NETWORK.gateway, port: DHCP_SERVER_PORT };
    sendDatagram(this.#outputs, from, { address: reply.to, port: DHCP_CLIENT_PORT }, reply.bytes);
  }

  /** Firmware that starts from HTTP asks by architectures of its own, which are given nothing. */
  #bootFile(architecture: number): string | null {
    const { bootFile = null, bootFileUefi = bootFile } = this.options;
    if (UEFI_ARCHITECTURES.includes(architecture)) return bootFileUefi;
    return architecture === BIOS_ARCHITECTURE ? bootFile : null;
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
    this.#input6.clear();
    this.#discovery.clear();
    this.#echo.clear();
    this.#neighbours.clear();
    this.#tcp.clear();
    this.#udp.clear();
    this.#dns.clear();
    this.#tftp?.clear();
  }

  tick(): number {
    return Math.min(
      this.#tcp.tick(),
      this.#udp.tick(),
      this.#dns.tick(),
      this.#tftp?.tick() ?? Infinity,
      this.#echo.tick(),
      this.#discovery.tick(),
    );
  }

  close(): void {
    this.guestReset();
    this.#tcp.close();
    this.#udp.close();
  }
}
