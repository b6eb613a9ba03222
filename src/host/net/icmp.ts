/** ICMP of both families: echoes of the gateway's own addresses, and word of packets that went nowhere. Spec: [rfc792], [rfc4443]. */
import { type Address, checksum, ip6, pseudoSum, put16, sum16, u16, u32 } from "./address.ts";
import { type Outputs, type Packet, PROTOCOL } from "./ip.ts";

export const ICMP = { ECHO_REPLY: 0, UNREACHABLE: 3, ECHO: 8 } as const;
export const ICMPV6 = { UNREACHABLE: 1, ECHO: 128, ECHO_REPLY: 129 } as const;
const ECHO_HEADER_BYTES = 8;

/** Why a packet went nowhere, with the codes of both families. */
export const UNREACHABLE = {
  host: { ip4: 1, ip6: 3 },
  port: { ip4: 3, ip6: 4 },
  prohibited: { ip4: 13, ip6: 1 },
} as const;
export type Unreachable = keyof typeof UNREACHABLE;

/** What an error carries of its cause: the header and eight bytes, or all that the smallest link takes. */
const CAUSE_BYTES = 8;
const CAUSE6_BYTES = 1280 - 40 - 8;

/** The message in a packet of ICMP or ICMPv6; null if it is damaged. */
export function parseIcmp(packet: Packet): Uint8Array | null {
  const icmp = packet.bytes.subarray(packet.headerBytes);
  if (icmp.length < 8) return null;
  const six = packet.protocol === PROTOCOL.ICMPV6;
  const pseudo = six ? pseudoSum(packet.source, packet.destination, PROTOCOL.ICMPV6, icmp.length) : 0;
  return !packet.verify || sum16(icmp, 0, icmp.length, pseudo) === 0xffff ? icmp : null;
}

export function isEcho(packet: Packet, icmp: Uint8Array): boolean {
  return icmp[0] === (packet.protocol === PROTOCOL.ICMPV6 ? ICMPV6.ECHO : ICMP.ECHO) && icmp[1] === 0;
}

/** Sends what is already at the output's payloadAt, but for its checksum. */
export function sendIcmp(outputs: Outputs, from: Address, to: Address, sizeBytes: number): void {
  const out = outputs.to(to), { frame, payloadAt: at } = out;
  const six = typeof to === "string";
  const protocol = six ? PROTOCOL.ICMPV6 : PROTOCOL.ICMP;
  put16(frame, at + 2, 0);
  const pseudo = six ? pseudoSum(from, to, protocol, sizeBytes) : 0;
  put16(frame, at + 2, checksum(frame, at, at + sizeBytes, pseudo));
  out.send(protocol, from, to, sizeBytes);
}

/** Answers an echo request, or tells the answer to one, with the identifier that the guest gave it. */
export function sendEchoReply(outputs: Outputs, from: Address, to: Address, request: Uint8Array, id?: number): void {
  if (request.length < ECHO_HEADER_BYTES) return;
  const { frame, payloadAt: at } = outputs.to(to);
  frame.set(request, at);
  frame[at] = typeof to === "string" ? ICMPV6.ECHO_REPLY : ICMP.ECHO_REPLY;
  if (id !== undefined) put16(frame, at + 4, id);
  sendIcmp(outputs, from, to, request.length);
}

/** Tells the guest that `cause`, the start of a packet of its own, did not arrive. */
export function sendUnreachable(outputs: Outputs, why: Unreachable, from: Address, cause: Uint8Array): void {
  const six = cause[0]! >> 4 === 6;
  const to = six ? ip6(cause, 8) : u32(cause, 12);
  const { frame, payloadAt: at } = outputs.to(to);
  frame.fill(0, at, at + 8);
  frame[at] = six ? ICMPV6.UNREACHABLE : ICMP.UNREACHABLE;
  frame[at + 1] = six ? UNREACHABLE[why].ip6 : UNREACHABLE[why].ip4;
  frame.set(cause, at + 8);
  sendIcmp(outputs, from, to, 8 + cause.length);
}

/** What an error about `packet` carries of it; a copy. */
export function causeOf(packet: Packet): Uint8Array {
  const size = typeof packet.source === "string" ? CAUSE6_BYTES : packet.headerBytes + CAUSE_BYTES;
  return packet.bytes.slice(0, size);
}

/** The identifier of an echo. */
export function echoId(icmp: Uint8Array): number {
  return u16(icmp, 4);
}
