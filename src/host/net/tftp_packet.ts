/** TFTP's packets in bytes. Spec: [rfc1350 §5], options [rfc2347]. */
import { put16, u16 } from "./address.ts";

export const TFTP_OPCODE = { RRQ: 1, WRQ: 2, DATA: 3, ACK: 4, ERROR: 5, OACK: 6 } as const;
export const TFTP_ERROR = {
  NOT_DEFINED: 0,
  FILE_NOT_FOUND: 1,
  ACCESS_VIOLATION: 2,
  ILLEGAL_OPERATION: 4,
} as const;

/** Of DATA, before what it carries. */
export const DATA_HEADER_BYTES = 4;
/** A request is one packet; nobody needs to hear of more options. */
const MAX_WORDS = 64;

export interface ReadRequest {
  readonly name: string;
  readonly mode: "octet" | "netascii";
  /** By name, in small letters; the first of a name counts. */
  readonly options: ReadonlyMap<string, string>;
}

/** What an RRQ asks for, or null if it is none that can be understood. */
export function parseReadRequest(packet: Uint8Array): ReadRequest | null {
  const words: string[] = [];
  for (let at = 2; at < packet.length && words.length < MAX_WORDS;) {
    const end = packet.indexOf(0, at);
    if (end < 0) return null;
    words.push(decoder.decode(packet.subarray(at, end)));
    at = end + 1;
  }
  const [name = "", mode = "", ...rest] = words;
  const kind = mode.toLowerCase();
  if (name === "" || (kind !== "octet" && kind !== "netascii")) return null;
  const options = new Map<string, string>();
  for (let i = 0; i + 1 < rest.length; i += 2) {
    const option = rest[i]!.toLowerCase();
    if (!options.has(option)) options.set(option, rest[i + 1]!);
  }
  return { name, mode: kind, options };
}

export function dataPacket(block: number, data: Uint8Array): Uint8Array {
  const packet = new Uint8Array(DATA_HEADER_BYTES + data.length);
  put16(packet, 0, TFTP_OPCODE.DATA);
  put16(packet, 2, block & 0xffff);
  packet.set(data, DATA_HEADER_BYTES);
  return packet;
}

export function errorPacket(code: number, message: string): Uint8Array {
  const packet = withWords(4, [message]);
  put16(packet, 0, TFTP_OPCODE.ERROR);
  put16(packet, 2, code);
  return packet;
}

export function optionsPacket(options: readonly (readonly [string, number])[]): Uint8Array {
  const packet = withWords(2, options.flatMap(([name, value]) => [name, String(value)]));
  put16(packet, 0, TFTP_OPCODE.OACK);
  return packet;
}

export function opcodeOf(packet: Uint8Array): number {
  return packet.length >= 2 ? u16(packet, 0) : 0;
}

function withWords(headerBytes: number, words: readonly string[]): Uint8Array {
  const text = encoder.encode(words.map((word) => `${word}\0`).join(""));
  const packet = new Uint8Array(headerBytes + text.length);
  packet.set(text, headerBytes);
  return packet;
}

const decoder = new TextDecoder(), encoder = new TextEncoder();
