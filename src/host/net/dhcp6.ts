/** A stateless DHCPv6 server: the guest's addresses come of the prefix, and what else it wants to know from here. Spec: [rfc8415]. */
import { type Ip6, put16, putIp6, u16 } from "./address.ts";

export const DHCP6_SERVER_PORT = 547;
export const DHCP6_CLIENT_PORT = 546;
export const DHCP6_TYPE = { REPLY: 7, INFORMATION_REQUEST: 11 } as const;
export const DHCP6_OPTION = { CLIENT_ID: 1, SERVER_ID: 2, ORO: 6, DNS: 23, REFRESH: 32 } as const;
/** DUID-LL: a link-layer address of hardware type 1, Ethernet [rfc8415 §11.4]. */
const DUID_LL = [0, 3, 0, 1];
const REFRESH_SECONDS = 86_400;
const MAX_CLIENT_ID = 128 + 2; // [rfc8415 §11.1]

/** The server's answer to a client's message, or null if it has none. `dns` is null without a way out. */
export function answerDhcp6(message: Uint8Array, ownMac: Uint8Array, dns: Ip6 | null): Uint8Array | null {
  if (message.length < 4 || message[0] !== DHCP6_TYPE.INFORMATION_REQUEST) return null;
  const serverId = Uint8Array.of(...DUID_LL, ...ownMac);
  let client: Uint8Array | null = null;
  for (let at = 4; at < message.length;) {
    if (at + 4 > message.length) return null;
    const code = u16(message, at), size = u16(message, at + 2), value = message.subarray(at + 4, at + 4 + size);
    if (value.length < size) return null;
    if (code === DHCP6_OPTION.CLIENT_ID && size <= MAX_CLIENT_ID) client = value;
    // For another server [rfc8415 §16.12].
    if (code === DHCP6_OPTION.SERVER_ID && (size !== 10 || !serverId.every((b, i) => b === value[i]))) return null;
    at += 4 + size;
  }
  const reply = new Uint8Array(256);
  reply.set(message.subarray(0, 4));
  reply[0] = DHCP6_TYPE.REPLY;
  let at = 4;
  const option = (code: number, value: Uint8Array) => {
    put16(reply, at, code);
    put16(reply, at + 2, value.length);
    reply.set(value, at + 4);
    at += 4 + value.length;
  };
  if (client) option(DHCP6_OPTION.CLIENT_ID, client);
  option(DHCP6_OPTION.SERVER_ID, serverId);
  if (dns !== null) {
    const bytes = new Uint8Array(16);
    putIp6(bytes, 0, dns);
    option(DHCP6_OPTION.DNS, bytes);
  }
  option(
    DHCP6_OPTION.REFRESH,
    Uint8Array.of(0, REFRESH_SECONDS >> 16, (REFRESH_SECONDS >> 8) & 255, REFRESH_SECONDS & 255),
  );
  return reply.subarray(0, at);
}
