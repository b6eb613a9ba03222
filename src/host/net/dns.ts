/**
 * Queries to the network's resolver go to the host's: each from a socket of its own, with a port of its own [rfc5452 §9.2].
 * The query and the answer are passed on as they are; who asks again after a while is sent to the next resolver.
 */
import type { HostSockets } from "./host_sockets.ts";
import { u16 } from "./address.ts";

export const DNS_PORT = 53;
const HEADER_BYTES = 12;
const MAX_QUERIES = 64;
const TRY_MS = 2000;
const MAX_TRIES = 4;
const RESPONSE = 0x80;
const SERVER_FAILURE = 2;

export interface Resolver {
  readonly address: string;
  readonly port: number;
}

interface Query {
  readonly bytes: Uint8Array;
  readonly answer: (bytes: Uint8Array) => void;
  readonly resolvers: readonly Resolver[];
  tries: number;
  nextAtMs: number;
  close: () => void;
  done: boolean;
}

export class DnsForwarder {
  readonly #queries = new Set<Query>();

  constructor(
    private readonly sockets: HostSockets,
    private readonly now: () => number,
    private readonly armed: () => void,
    /** The first one first. */
    private readonly resolvers: () => readonly Resolver[],
  ) {}

  /** Passes a query on; `answer` is called at most once. */
  ask(query: Uint8Array, answer: (bytes: Uint8Array) => void): void {
    if (query.length < HEADER_BYTES || query[2]! & RESPONSE) return;
    const bytes = query.slice();
    const resolvers = this.resolvers();
    if (resolvers.length === 0) return answer(failure(bytes));
    if (this.#queries.size >= MAX_QUERIES) return;
    const q: Query = { bytes, answer, resolvers, tries: 0, nextAtMs: 0, close: () => {}, done: false };
    this.#queries.add(q);
    this.#try(q);
  }

  #try(q: Query): void {
    const resolver = q.resolvers[q.tries % q.resolvers.length]!;
    q.tries++;
    q.nextAtMs = this.now() + TRY_MS;
    this.armed();
    q.close();
    const received = (answer: Uint8Array, from: string, fromPort: number) => {
      if (q.done || from !== resolver.address || fromPort !== resolver.port) return;
      if (answer.length < HEADER_BYTES || u16(answer, 0) !== u16(q.bytes, 0) || !(answer[2]! & RESPONSE)) return;
      this.#end(q);
      q.answer(answer);
    };
    let left = false;
    q.close = () => left = true;
    this.sockets.datagrams(resolver.address.includes(":") ? "::" : "0.0.0.0", 0, received).then((socket) => {
      if (left || q.done) return socket.close();
      q.close = () => socket.close();
      socket.send(q.bytes, resolver.address, resolver.port);
    }, () => {});
  }

  #end(q: Query): void {
    q.done = true;
    q.close();
    this.#queries.delete(q);
  }

  /** Asks again where no answer came; when to look again. */
  tick(): number {
    const nowMs = this.now();
    let next = Infinity;
    for (const q of [...this.#queries]) {
      if (q.nextAtMs <= nowMs) {
        if (q.tries < MAX_TRIES) this.#try(q);
        else {
          this.#end(q);
          q.answer(failure(q.bytes));
        }
      }
      if (!q.done) next = Math.min(next, q.nextAtMs);
    }
    return next;
  }

  clear(): void {
    for (const q of [...this.#queries]) this.#end(q);
  }
}

/** The answer to a query that nobody could answer [rfc1035 §4.1.1]. */
function failure(query: Uint8Array): Uint8Array {
  const bytes = query.slice();
  bytes[2]! |= RESPONSE;
  bytes[3] = SERVER_FAILURE;
  return bytes;
}
