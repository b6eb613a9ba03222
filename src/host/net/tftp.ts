/**
 * A TFTP server that only gives files. Spec: [rfc1350]; options [rfc2347]: blksize [rfc2348], tsize and timeout [rfc2349],
 * windowsize [rfc7440].
 *
 * A transfer is known by the client's address and port and by the server's port, which is a new one for each. Block numbers
 * go on with 0 after 65535, so a file may be of any size.
 */
import { u16 } from "./address.ts";
import { MTU } from "./ip.ts";
import {
  DATA_HEADER_BYTES,
  dataPacket,
  errorPacket,
  opcodeOf,
  optionsPacket,
  parseReadRequest,
  type ReadRequest,
  TFTP_ERROR,
  TFTP_OPCODE,
} from "./tftp_packet.ts";
import type { Endpoint } from "./udp.ts";

export const TFTP_PORT = 69;
/** [rfc1350 §2] Without the option. */
const DEFAULT_BLOCK_BYTES = 512;
/** [rfc2348] allows 8 to 65464; here a block fits into one packet. */
const MIN_BLOCK_BYTES = 8, MAX_BLOCK_BYTES = MTU - 20 - 8 - DATA_HEADER_BYTES;
const MAX_WINDOW = 16;
const MAX_TIMEOUT_SECONDS = 255;
const DEFAULT_TIMEOUT_MS = 1000;
const MAX_TRIES = 6;
/** Transfers at a time; for another one, the least recently used ends. */
export const MAX_TRANSFERS = 16;
/** How long a transfer's ports are known after its end, for acknowledgements that come late. */
const LINGER_MS = 10_000;
const FIRST_PORT = 49152, PORTS = 16384;

/** A file that is open: its bytes in order. */
export interface TftpFile {
  readonly sizeBytes: number;
  /** Fills `into` but at the end of the file; how many bytes there were. */
  read(into: Uint8Array): Promise<number>;
  close(): void;
}

export interface TftpFiles {
  /** Null: there is none of that name; "forbidden": it is not to be had. */
  open(name: string): Promise<TftpFile | null | "forbidden">;
}

export interface TftpParts {
  readonly files: TftpFiles;
  /** Milliseconds. */
  now(): number;
  random(): number;
  /** Something is due earlier than the last `tick` said. */
  armed(): void;
  /** Sends from a port of the server's. */
  send(fromPort: number, to: Endpoint, packet: Uint8Array): void;
}

interface Limits {
  readonly blockBytes: number;
  readonly window: number;
  readonly timeoutMs: number;
}

class Transfer {
  /** Sent and not yet acknowledged, in order. */
  #flight: Uint8Array[] = [];
  /** The number of the first of those, not cut to 16 bits. 0 is the OACK's. */
  #first = 1;
  /** The last block has been made. */
  #complete = false;
  #reading = false;
  #tries = 0;
  #file: TftpFile | null = null;
  #limits: Limits = { blockBytes: DEFAULT_BLOCK_BYTES, window: 1, timeoutMs: DEFAULT_TIMEOUT_MS };
  ended = false;
  deadlineMs = Infinity;

  constructor(private readonly p: TftpParts, readonly port: number, private readonly client: Endpoint) {}

  async start(request: ReadRequest): Promise<void> {
    const file = await this.p.files.open(request.name);
    if (this.ended) return close(file);
    if (file === null) return this.#refuse(TFTP_ERROR.FILE_NOT_FOUND, "File not found");
    if (file === "forbidden") return this.#refuse(TFTP_ERROR.ACCESS_VIOLATION, "Access violation");
    const { accepted, limits } = negotiate(request, file);
    this.#limits = limits;
    this.#file = request.mode === "netascii" ? new Netascii(file) : file;
    if (accepted.length === 0) return await this.#fill();
    this.#first = 0;
    this.#flight.push(optionsPacket(accepted));
    this.#sendFlight();
  }

  receive(packet: Uint8Array): void {
    switch (opcodeOf(packet)) {
      case TFTP_OPCODE.ACK:
        if (packet.length >= 4) this.#acknowledged(u16(packet, 2));
        return;
      case TFTP_OPCODE.ERROR:
        return this.end();
      default:
        this.#refuse(TFTP_ERROR.ILLEGAL_OPERATION, "Illegal TFTP operation");
    }
  }

  /** The client has all blocks up to `block`; one that it has told of before says nothing [rfc1123 §4.2.3.1]. */
  #acknowledged(block: number): void {
    const taken = (block - this.#first + 1) & 0xffff;
    if (taken === 0 || taken > this.#flight.length || this.#reading) return;
    this.#flight.splice(0, taken);
    this.#first += taken;
    this.#tries = 0;
    if (this.#complete && this.#flight.length === 0) return this.end();
    void this.#fill();
  }

  /** Makes as many blocks as the window has room for, and sends what is in it. */
  async #fill(): Promise<void> {
    const { blockBytes, window } = this.#limits;
    this.#reading = true;
    this.deadlineMs = Infinity;
    try {
      while (!this.#complete && this.#flight.length < window) {
        const block = new Uint8Array(blockBytes), size = await this.#file!.read(block);
        if (this.ended) return;
        this.#flight.push(dataPacket(this.#first + this.#flight.length, block.subarray(0, size)));
        this.#complete = size < blockBytes;
      }
    } catch {
      return this.#refuse(TFTP_ERROR.NOT_DEFINED, "The file cannot be read");
    } finally {
      this.#reading = false;
    }
    this.#sendFlight();
  }

  #sendFlight(): void {
    for (const packet of this.#flight) this.p.send(this.port, this.client, packet);
    this.deadlineMs = this.p.now() + this.#limits.timeoutMs;
    this.p.armed();
  }

  /** The deadline has passed. True: forget this transfer. */
  late(): boolean {
    if (this.ended) return true;
    if (++this.#tries < MAX_TRIES) this.#sendFlight();
    else this.end();
    return false;
  }

  #refuse(code: number, message: string): void {
    if (this.ended) return;
    this.p.send(this.port, this.client, errorPacket(code, message));
    this.end();
  }

  end(): void {
    if (this.ended) return;
    this.ended = true;
    this.#flight = [];
    // A read that goes on keeps the file until it is done.
    close(this.#file);
    this.deadlineMs = this.p.now() + LINGER_MS;
    this.p.armed();
  }
}

export class TftpServer {
  /** The least recently used first. */
  readonly #transfers = new Map<string, Transfer>();
  #ports = -1;
  /** Requests whose file is being opened, those of ended transfers too. */
  #opening = 0;

  constructor(private readonly p: TftpParts) {}

  /** A datagram for a port of the server's host; false if it is none of this server's. */
  receive(client: Endpoint, port: number, packet: Uint8Array): boolean {
    if (port === TFTP_PORT) {
      this.#request(client, packet);
      return true;
    }
    const key = keyOf(client, port), transfer = this.#transfers.get(key);
    if (!transfer) return false;
    this.#transfers.delete(key);
    this.#transfers.set(key, transfer);
    if (!transfer.ended) transfer.receive(packet);
    return true;
  }

  #request(client: Endpoint, packet: Uint8Array): void {
    const opcode = opcodeOf(packet);
    const refuse = (code: number, message: string) => this.p.send(TFTP_PORT, client, errorPacket(code, message));
    if (opcode === TFTP_OPCODE.WRQ) return refuse(TFTP_ERROR.ACCESS_VIOLATION, "Files are only given");
    const request = opcode === TFTP_OPCODE.RRQ ? parseReadRequest(packet) : null;
    // An error is never answered with one.
    if (!request) {
      return opcode === TFTP_OPCODE.ERROR ? undefined : refuse(TFTP_ERROR.ILLEGAL_OPERATION, "Illegal TFTP operation");
    }
    if (this.#opening >= MAX_TRANSFERS) return;
    // Who asks again from the same port has not heard the answer.
    for (const [key, transfer] of this.#transfers) {
      if (key.startsWith(keyOf(client, ""))) transfer.end();
    }
    while (this.#transfers.size >= MAX_TRANSFERS) {
      const [oldest, transfer] = this.#transfers.entries().next().value!;
      transfer.end();
      this.#transfers.delete(oldest);
    }
    const port = this.#nextPort(), transfer = new Transfer(this.p, port, client);
    this.#transfers.set(keyOf(client, port), transfer);
    this.#opening++;
    void transfer.start(request).finally(() => this.#opening--);
  }

  #nextPort(): number {
    if (this.#ports < 0) this.#ports = this.p.random();
    this.#ports = (this.#ports + 1) % PORTS;
    return FIRST_PORT + this.#ports;
  }

  /** Sends again what was not acknowledged; when to look again. */
  tick(): number {
    const nowMs = this.p.now();
    let next = Infinity;
    for (const [key, transfer] of this.#transfers) {
      if (transfer.deadlineMs <= nowMs && transfer.late()) this.#transfers.delete(key);
      else next = Math.min(next, transfer.deadlineMs);
    }
    return next;
  }

  clear(): void {
    for (const transfer of this.#transfers.values()) transfer.end();
    this.#transfers.clear();
  }
}

function keyOf(client: Endpoint, port: number | ""): string {
  return `${client.address} ${client.port} ${port}`;
}

function close(file: TftpFile | null | "forbidden"): void {
  if (file !== null && file !== "forbidden") file.close();
}

/** What of the options asked for is agreed to; an option with a value that is none is left out [rfc2347]. */
function negotiate({ mode, options }: ReadRequest, file: TftpFile) {
  const accepted: [string, number][] = [];
  const take = (name: string, min: number, max: number, cap = max): number | null => {
    const text = options.get(name) ?? "";
    const value = /^\d{1,9}$/.test(text) ? Number(text) : -1;
    if (value < min || value > max) return null;
    accepted.push([name, Math.min(value, cap)]);
    return Math.min(value, cap);
  };
  const blockBytes = take("blksize", MIN_BLOCK_BYTES, 65464, MAX_BLOCK_BYTES) ?? DEFAULT_BLOCK_BYTES;
  const timeout = take("timeout", 1, MAX_TIMEOUT_SECONDS);
  const window = take("windowsize", 1, 65535, MAX_WINDOW) ?? 1;
  // Of a text whose lines are rewritten, nobody knows the size before its end.
  if (mode === "octet" && options.get("tsize") !== undefined) accepted.push(["tsize", file.sizeBytes]);
  const limits: Limits = { blockBytes, window, timeoutMs: timeout === null ? DEFAULT_TIMEOUT_MS : timeout * 1000 };
  return { accepted, limits };
}

const CR = 13, LF = 10;

/** A file of lines as netascii: LF becomes CR LF, CR becomes CR NUL [rfc764 p. 10]. */
class Netascii implements TftpFile {
  readonly #chunk = new Uint8Array(4096);
  #at = 0;
  #end = 0;
  /** The second byte of a pair, if it is still to come. */
  #owed = -1;

  constructor(private readonly file: TftpFile) {}

  get sizeBytes(): number {
    return this.file.sizeBytes;
  }

  async read(into: Uint8Array): Promise<number> {
    let n = 0;
    while (n < into.length) {
      if (this.#owed >= 0) {
        into[n++] = this.#owed;
        this.#owed = -1;
        continue;
      }
      if (this.#at === this.#end) {
        this.#at = 0;
        this.#end = await this.file.read(this.#chunk);
        if (this.#end === 0) break;
      }
      const byte = this.#chunk[this.#at++]!;
      if (byte === LF) this.#owed = LF;
      else if (byte === CR) this.#owed = 0;
      into[n++] = byte === LF ? CR : byte;
    }
    return n;
  }

  close(): void {
    this.file.close();
  }
}
