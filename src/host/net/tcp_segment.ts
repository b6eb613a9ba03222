/** TCP segments in bytes. Spec: [rfc9293 §3.1], window scale [rfc7323 §2], SACK [rfc2018]. */
import { type FrameOffload, NET_HDR_GSO, NO_OFFLOAD } from "../../../devices/virtio/net_header.ts";
import { type Address, checksum, pseudoSum, put16, put32, sum16, u16, u32 } from "./address.ts";
import { type Outputs, type Packet, PROTOCOL } from "./ip.ts";
import type { Wire } from "./wire.ts";

export const FLAG = { FIN: 1, SYN: 2, RST: 4, PSH: 8, ACK: 16 } as const;
export const TCP_HEADER_BYTES = 20;
const OPTION = { END: 0, NOP: 1, MSS: 2, WINDOW_SCALE: 3, SACK_PERMITTED: 4, SACK: 5 } as const;
const MAX_WINDOW_SCALE = 14;

/** A segment of the guest's. `data` belongs to the packet. */
export interface Segment {
  sourcePort: number;
  destinationPort: number;
  seq: number;
  ack: number;
  flags: number;
  window: number;
  /** Of a SYN; 0 and -1 if it has no such option. */
  mss: number;
  windowScale: number;
  sackPermitted: boolean;
  /** Edges of what the sender has beyond `ack`, in pairs. */
  sack: readonly number[];
  data: Uint8Array;
}

const NOTHING: readonly number[] = [];

/** Null if it is not a segment, or damaged. */
export function parseSegment(packet: Packet): Segment | null {
  const tcp = packet.bytes.subarray(packet.headerBytes);
  if (tcp.length < TCP_HEADER_BYTES) return null;
  const headerBytes = (tcp[12]! >> 4) * 4;
  if (headerBytes < TCP_HEADER_BYTES || headerBytes > tcp.length) return null;
  const pseudo = pseudoSum(packet.source, packet.destination, PROTOCOL.TCP, tcp.length);
  if (packet.verify && sum16(tcp, 0, tcp.length, pseudo) !== 0xffff) return null;
  const segment: Segment = {
    sourcePort: u16(tcp, 0),
    destinationPort: u16(tcp, 2),
    seq: u32(tcp, 4),
    ack: u32(tcp, 8),
    flags: tcp[13]! & 0x3f,
    window: u16(tcp, 14),
    mss: 0,
    windowScale: -1,
    sackPermitted: false,
    sack: NOTHING,
    data: tcp.subarray(headerBytes),
  };
  if (headerBytes > TCP_HEADER_BYTES) parseOptions(tcp, headerBytes, segment);
  return segment;
}

function parseOptions(tcp: Uint8Array, end: number, into: Segment): void {
  for (let at = TCP_HEADER_BYTES; at < end;) {
    const kind = tcp[at]!;
    if (kind === OPTION.END) return;
    if (kind === OPTION.NOP) {
      at++;
      continue;
    }
    const length = tcp[at + 1]!;
    if (at + 2 > end || length < 2 || at + length > end) return;
    if (into.flags & FLAG.SYN) {
      if (kind === OPTION.MSS && length === 4) into.mss = u16(tcp, at + 2);
      if (kind === OPTION.WINDOW_SCALE && length === 3) into.windowScale = Math.min(MAX_WINDOW_SCALE, tcp[at + 2]!);
      if (kind === OPTION.SACK_PERMITTED && length === 2) into.sackPermitted = true;
    } else if (kind === OPTION.SACK) {
      into.sack = Array.from({ length: (length - 2) >> 3 << 1 }, (_, i) => u32(tcp, at + 2 + 4 * i));
    }
    at += length;
  }
}

/** What goes into a segment for the guest. */
export interface Outgoing {
  readonly source: Address;
  readonly sourcePort: number;
  readonly destination: Address;
  readonly destinationPort: number;
  readonly seq: number;
  readonly ack: number;
  readonly flags: number;
  readonly window: number;
  /** Of a SYN; a scale below 0 is left out. */
  readonly mss?: number;
  readonly windowScale?: number;
  readonly sackPermitted?: boolean;
  /** Of a segment without data: as Segment's. */
  readonly sack?: readonly number[];
  /** Copies `dataBytes` bytes of data to where they belong. */
  readonly dataBytes: number;
  readonly fill?: (to: Uint8Array) => void;
  /** With more data than this the guest is asked to cut the segment. */
  readonly segmentBytes?: number;
}

export class SegmentOutput {
  readonly #offload: FrameOffload = { ...NO_OFFLOAD };

  constructor(private readonly outputs: Outputs, private readonly wire: Wire) {}

  send(s: Outgoing): void {
    const out = this.outputs.to(s.destination), { frame, payloadAt: at } = out;
    let headerBytes = TCP_HEADER_BYTES;
    if (s.mss !== undefined) {
      frame.set([OPTION.MSS, 4, s.mss >> 8, s.mss & 255], at + headerBytes);
      headerBytes += 4;
    }
    if (s.windowScale !== undefined && s.windowScale >= 0) {
      frame.set([OPTION.NOP, OPTION.WINDOW_SCALE, 3, s.windowScale], at + headerBytes);
      headerBytes += 4;
    }
    if (s.sackPermitted) {
      frame.set([OPTION.NOP, OPTION.NOP, OPTION.SACK_PERMITTED, 2], at + headerBytes);
      headerBytes += 4;
    }
    if (s.sack !== undefined && s.sack.length > 0) {
      frame.set([OPTION.NOP, OPTION.NOP, OPTION.SACK, 2 + 4 * s.sack.length], at + headerBytes);
      headerBytes += 4;
      for (const edge of s.sack) {
        put32(frame, at + headerBytes, edge);
        headerBytes += 4;
      }
    }
    put16(frame, at, s.sourcePort);
    put16(frame, at + 2, s.destinationPort);
    put32(frame, at + 4, s.seq);
    put32(frame, at + 8, s.flags & FLAG.ACK ? s.ack : 0);
    frame[at + 12] = (headerBytes / 4) << 4;
    frame[at + 13] = s.flags;
    put16(frame, at + 14, s.window);
    put32(frame, at + 16, 0); // checksum and urgent pointer
    s.fill?.(frame.subarray(at + headerBytes, at + headerBytes + s.dataBytes));
    const size = headerBytes + s.dataBytes;
    const pseudo = pseudoSum(s.source, s.destination, PROTOCOL.TCP, size);
    const o = this.#offload;
    const cut = s.segmentBytes !== undefined && s.dataBytes > s.segmentBytes;
    o.gsoSize = cut ? s.segmentBytes! : 0;
    o.gsoType = !cut ? NET_HDR_GSO.NONE : typeof s.source === "number" ? NET_HDR_GSO.TCPV4 : NET_HDR_GSO.TCPV6;
    o.headerBytes = cut ? at + headerBytes : 0;
    if (this.wire.checksums) {
      o.csumStart = at;
      o.csumOffset = 16;
      put16(frame, at + 16, pseudo);
    } else {
      o.csumStart = -1;
      o.csumOffset = 0;
      put16(frame, at + 16, checksum(frame, at, at + size, pseudo));
    }
    out.send(PROTOCOL.TCP, s.source, s.destination, size, o);
  }
}
