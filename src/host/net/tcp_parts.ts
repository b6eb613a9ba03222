/** What a connection is made of and lives among, and the arithmetic of sequence numbers. */
import type { Address } from "./address.ts";
import type { TcpConnection } from "./tcp_connection.ts";
import { FLAG, type Outgoing, type Segment } from "./tcp_segment.ts";

/** Of the queue in each direction; and where there are many connections, so that all of them together stay bounded. */
export const BUFFER_BYTES = 256 * 1024;
export const SMALL_BUFFER_BYTES = 64 * 1024;
/** BUFFER_BYTES in 16 bits. */
export const WINDOW_SCALE = 3;
export const DEFAULT_MSS = 536; // [rfc9293 §3.7.1]
/** A smaller one is an attack on whoever cuts. */
export const LEAST_MSS = 64;
/** What a packet holds beside its headers, those of IPv6 being the longer. */
const MAX_SEGMENT_BYTES = 65535 - 60;

/** The most data of a segment that is to be cut into segments of `mss` bytes, all of them full. */
export function mostCut(mss: number): number {
  return Math.floor(MAX_SEGMENT_BYTES / mss) * mss;
}

export interface ConnectionParts {
  readonly key: string;
  /** As the guest sees it: its own end, and the other. */
  readonly guest: Address;
  readonly guestPort: number;
  readonly peer: Address;
  readonly peerPort: number;
  readonly initialSeq: number;
  readonly mss: number;
  readonly bufferBytes: number;
  now(): number;
  /** The guest takes segments that are to be cut. */
  readonly cut: boolean;
  /** Nothing waits on the way to the guest. */
  readonly ready: boolean;
  send(segment: Outgoing): void;
  /** The connection wants `flush` at the end of the burst. */
  touched(c: TcpConnection): void;
  /** `deadlineMs` is earlier than it was. */
  armed(): void;
  /** The connection is no more. */
  closed(c: TcpConnection): void;
}

export type Phase = "syn-sent" | "syn-received" | "open" | "time-wait" | "closed";

/** Whether `a` comes after `b`. */
export function after(a: number, b: number): boolean {
  return ((a - b) | 0) > 0;
}

/** Whether a segment touches the receive window from `next` to `edge` [rfc9293 §3.4]. */
export function acceptable(s: Segment, next: number, edge: number): boolean {
  const length = s.data.length + (s.flags & FLAG.SYN ? 1 : 0) + (s.flags & FLAG.FIN ? 1 : 0);
  const window = (edge - next) >>> 0;
  const first = (s.seq - next) | 0;
  if (length === 0) return first === 0 || (first > 0 && first < window);
  return window > 0 && first < window && first + length > 0;
}
