/** ICMP: echoes of the gateway's own addresses, and word of packets that went nowhere. Spec: [rfc792]. */
import { checksum, put16, sum16 } from "./address.ts";
import { type Ip4Output, type Packet, PAYLOAD_AT, PROTOCOL } from "./ip4.ts";

const ECHO_REPLY = 0;
const UNREACHABLE = 3;
const ECHO = 8;
export const ICMP_CODE = { NET: 0, HOST: 1, PORT: 3, PROHIBITED: 13 } as const;
/** What an error carries of its cause: the header and eight bytes. */
const CAUSE_BYTES = 8;

/** Answers an echo request; false if it is none. */
export function answerEcho(packet: Packet, out: Ip4Output): boolean {
  const icmp = packet.bytes.subarray(packet.headerBytes);
  if (icmp.length < 8 || icmp[0] !== ECHO || icmp[1] !== 0 || sum16(icmp, 0, icmp.length) !== 0xffff) return false;
  const { frame } = out;
  frame.set(icmp, PAYLOAD_AT);
  frame[PAYLOAD_AT] = ECHO_REPLY;
  put16(frame, PAYLOAD_AT + 2, 0);
  put16(frame, PAYLOAD_AT + 2, checksum(frame, PAYLOAD_AT, PAYLOAD_AT + icmp.length));
  out.send(PROTOCOL.ICMP, packet.destination, packet.source, icmp.length);
  return true;
}

/** Tells the guest that `cause`, the start of a packet of its own, did not arrive. */
export function sendUnreachable(code: number, from: number, to: number, cause: Uint8Array, out: Ip4Output): void {
  const { frame } = out;
  const size = 8 + cause.length;
  frame.fill(0, PAYLOAD_AT, PAYLOAD_AT + 8);
  frame[PAYLOAD_AT] = UNREACHABLE;
  frame[PAYLOAD_AT + 1] = code;
  frame.set(cause, PAYLOAD_AT + 8);
  put16(frame, PAYLOAD_AT + 2, checksum(frame, PAYLOAD_AT, PAYLOAD_AT + size));
  out.send(PROTOCOL.ICMP, from, to, size);
}

/** What an error about `packet` carries of it; a copy. */
export function causeOf(packet: Packet): Uint8Array {
  return packet.bytes.slice(0, packet.headerBytes + CAUSE_BYTES);
}
