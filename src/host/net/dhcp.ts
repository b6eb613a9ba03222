/**
 * A DHCP server with one address to give, for ever to the same guest. Spec: [rfc2131], options [rfc2132], those of network boot
 * [rfc4578].
 */
import { formatIp4, put32, u16, u32 } from "./address.ts";

export const DHCP_SERVER_PORT = 67;
export const DHCP_CLIENT_PORT = 68;
const HEADER_BYTES = 236;
const MAGIC = 0x63825363;
const SIADDR = 20, FILE = 108, FILE_BYTES = 128;
const LEAST_REPLY_BYTES = 300; // [rfc1542 §2.1]
/** What every client takes [rfc2131 §2], less the headers of IP and UDP. */
const LARGEST_REPLY_BYTES = 576 - 28;
const BROADCAST_FLAG = 0x80;
const BROADCAST = 0xffffffff;

export const DHCP_OPTION = {
  PAD: 0,
  MASK: 1,
  ROUTER: 3,
  DNS: 6,
  MTU: 26,
  REQUESTED: 50,
  LEASE: 51,
  TYPE: 53,
  SERVER: 54,
  TFTP_SERVER: 66,
  BOOT_FILE: 67,
  ARCHITECTURE: 93,
  END: 255,
} as const;
export const DHCP_TYPE = {
  DISCOVER: 1,
  OFFER: 2,
  REQUEST: 3,
  DECLINE: 4,
  ACK: 5,
  NAK: 6,
  RELEASE: 7,
  INFORM: 8,
} as const;

/** What a client's option 93 says it runs: the BIOS of a PC, if it has none [rfc4578 §2.1]. */
export const BIOS_ARCHITECTURE = 0;
/** x86 with UEFI, in 32 and 64 bits: 7 is what firmware of 64 bits says, 9 what the registry has for it. */
export const UEFI_ARCHITECTURES: readonly number[] = [6, 7, 9];
/** The longest name that fits into the field "file". */
export const MAX_BOOT_FILE = FILE_BYTES - 1;

export interface DhcpConfig {
  readonly server: number;
  readonly client: number;
  readonly mask: number;
  readonly router: number;
  /** None without a way out. */
  readonly dns: number | null;
  readonly leaseSeconds: number;
  readonly mtu: number;
  /** What a client of an architecture is to load from this server, by TFTP; no name is longer than MAX_BOOT_FILE bytes. */
  readonly bootFile?: (architecture: number) => string | null;
}

export interface DhcpReply {
  readonly to: number;
  readonly bytes: Uint8Array;
}

/** The server's answer to a client's message, or null if it has none. */
export function answerDhcp(message: Uint8Array, c: DhcpConfig): DhcpReply | null {
  if (message.length < HEADER_BYTES + 4 || message[0] !== 1 || message[1] !== 1 || message[2] !== 6) return null;
  if (u32(message, HEADER_BYTES) !== MAGIC) return null;
  const options = parseOptions(message.subarray(HEADER_BYTES + 4));
  const addressOf = (code: number) => {
    const value = options.get(code);
    return value?.length === 4 ? u32(value, 0) : null;
  };
  const asked = options.get(DHCP_OPTION.TYPE)?.[0];
  const server = addressOf(DHCP_OPTION.SERVER);
  const current = u32(message, 12); // ciaddr
  let type: number;
  switch (asked) {
    case DHCP_TYPE.DISCOVER:
      type = DHCP_TYPE.OFFER;
      break;
    case DHCP_TYPE.REQUEST: {
      if (server !== null && server !== c.server) return null; // another's offer was taken
      const wanted = addressOf(DHCP_OPTION.REQUESTED) ?? current;
      type = wanted === c.client ? DHCP_TYPE.ACK : DHCP_TYPE.NAK;
      break;
    }
    case DHCP_TYPE.INFORM:
      type = DHCP_TYPE.ACK;
      break;
    default:
      return null;
  }
  const nak = type === DHCP_TYPE.NAK, inform = asked === DHCP_TYPE.INFORM;
  const reply = new Uint8Array(LARGEST_REPLY_BYTES);
  reply[0] = 2;
  reply[1] = 1;
  reply[2] = 6;
  reply.set(message.subarray(4, 8), 4); // xid
  reply.set(message.subarray(10, 12), 10); // flags
  if (!nak) put32(reply, 12, current);
  if (!nak && !inform) put32(reply, 16, c.client);
  reply.set(message.subarray(28, 44), 28); // chaddr
  put32(reply, HEADER_BYTES, MAGIC);
  let at = HEADER_BYTES + 4;
  const option = (code: number, ...value: number[]) => {
    reply.set([code, value.length, ...value], at);
    at += 2 + value.length;
  };
  const four = (value: number) => [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255];
  option(DHCP_OPTION.TYPE, type);
  option(DHCP_OPTION.SERVER, ...four(c.server));
  if (!nak) {
    if (!inform) option(DHCP_OPTION.LEASE, ...four(c.leaseSeconds));
    option(DHCP_OPTION.MASK, ...four(c.mask));
    option(DHCP_OPTION.ROUTER, ...four(c.router));
    if (c.dns !== null) option(DHCP_OPTION.DNS, ...four(c.dns));
    option(DHCP_OPTION.MTU, c.mtu >> 8, c.mtu & 255);
    const file = bootFileFor(options, c);
    if (file !== null) {
      put32(reply, SIADDR, c.server);
      reply.set(file, FILE);
      option(DHCP_OPTION.TFTP_SERVER, ...encoder.encode(formatIp4(c.server)));
      option(DHCP_OPTION.BOOT_FILE, ...file);
    }
  }
  reply[at++] = DHCP_OPTION.END;
  // Where the client can hear it [rfc2131 §4.1].
  const to = current !== 0 && !nak ? current : reply[10]! & BROADCAST_FLAG || nak ? BROADCAST : c.client;
  return { to, bytes: reply.subarray(0, Math.max(at, LEAST_REPLY_BYTES)) };
}

/** What a client is to load; one that does not tell its architecture is a BIOS's. */
function bootFileFor(options: ReadonlyMap<number, Uint8Array>, { bootFile }: DhcpConfig): Uint8Array | null {
  const told = options.get(DHCP_OPTION.ARCHITECTURE);
  const name = bootFile?.(told && told.length >= 2 ? u16(told, 0) : BIOS_ARCHITECTURE) ?? null;
  return name === null ? null : encoder.encode(name);
}

const encoder = new TextEncoder();

function parseOptions(bytes: Uint8Array): Map<number, Uint8Array> {
  const options = new Map<number, Uint8Array>();
  for (let at = 0; at < bytes.length && bytes[at] !== DHCP_OPTION.END;) {
    if (bytes[at] === DHCP_OPTION.PAD) {
      at++;
      continue;
    }
    const length = bytes[at + 1];
    if (length === undefined || at + 2 + length > bytes.length) break;
    options.set(bytes[at]!, bytes.subarray(at + 2, at + 2 + length));
    at += 2 + length;
  }
  return options;
}
