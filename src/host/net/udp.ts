/** UDP datagrams in bytes. Spec: [rfc768]. */
import { type Address, checksum, pseudoSum, put16, sum16, u16 } from "./address.ts";
import { type Outputs, type Packet, PROTOCOL } from "./ip.ts";

const HEADER_BYTES = 8;
export const MAX_DATAGRAM_BYTES = 65535 - 20 - HEADER_BYTES;

export interface Endpoint {
  readonly address: Address;
  readonly port: number;
}

export interface Datagram {
  readonly sourcePort: number;
  readonly destinationPort: number;
  /** Belongs to the packet. */
  readonly data: Uint8Array;
}

/** Null if it is no datagram, or damaged. */
export function parseDatagram(packet: Packet): Datagram | null {
  const udp = packet.bytes.subarray(packet.headerBytes);
  if (udp.length < HEADER_BYTES) return null;
  const size = u16(udp, 4);
  if (size < HEADER_BYTES || size > udp.length) return null;
  // A checksum of 0 says that there is none; over IPv6 there is always one [rfc8200 §8.1].
  if (typeof packet.source === "string" && packet.verify && u16(udp, 6) === 0) return null;
  if (packet.verify && u16(udp, 6) !== 0) {
    const pseudo = pseudoSum(packet.source, packet.destination, PROTOCOL.UDP, size);
    if (sum16(udp, 0, size, pseudo) !== 0xffff) return null;
  }
  return { sourcePort: u16(udp, 0), destinationPort: u16(udp, 2), data: udp.subarray(HEADER_BYTES, size) };
}

export function sendDatagram(outputs: Outputs, from: Endpoint, to: Endpoint, data: Uint8Array): void {
  if (data.length > MAX_DATAGRAM_BYTES) return;
  const out = outputs.to(to.address), { frame, payloadAt: at } = out, size = HEADER_BYTES + data.length;
  put16(frame, at, from.port);
  put16(frame, at + 2, to.port);
  put16(frame, at + 4, size);
  put16(frame, at + 6, 0);
  frame.set(data, at + HEADER_BYTES);
  const pseudo = pseudoSum(from.address, to.address, PROTOCOL.UDP, size);
  put16(frame, at + 6, checksum(frame, at, at + size, pseudo) || 0xffff);
  out.send(PROTOCOL.UDP, from.address, to.address, size);
}
