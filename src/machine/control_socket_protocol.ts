/**
 * What is said on a machine's control socket: lines of JSON, a greeting from the machine first, then a reply to each request
 * (docs/machines.md). Each side takes the other for hostile: lines have a limit, and every field is looked at.
 */
import type { PublishSpec } from "./spec.ts";

export const PROTOCOL_VERSION = 1;
export const MAX_LINE_BYTES = 64 * 1024;

export interface Greeting {
  readonly trike: number;
  readonly name: string;
  readonly pid: number;
}

export type Request =
  | { readonly do: "status" | "stop" | "kill" | "wait" | "console" | "published" | "media" }
  | { readonly do: "snapshot"; readonly path: string; readonly compress: boolean }
  | { readonly do: "screenshot"; readonly path: string }
  /** `drive` is cd0 and so on; a path of null takes the disc out. */
  | { readonly do: "medium"; readonly drive: string; readonly path: string | null; readonly force: boolean }
  /** Without `up` it only asks. */
  | { readonly do: "link"; readonly up?: boolean }
  | { readonly do: "publish" | "unpublish"; readonly forward: PublishSpec }
  /** Without a size it only asks. */
  | { readonly do: "balloon"; readonly sizeBytes?: number };

export type Reply = { readonly ok: true; readonly result: unknown } | { readonly ok: false; readonly error: string };

/** What `status` answers. */
export interface MachineStatus {
  readonly name: string;
  readonly pid: number;
  readonly state: string;
  readonly engine: string;
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly uptimeSeconds: number;
  /** What the network device is plugged into; null without one. */
  readonly network: string | null;
  /** The guest's address, where the network gives it one. */
  readonly address: string | null;
}

const PLAIN = ["status", "stop", "kill", "wait", "console", "published", "media"] as const;
const WITH_FIELDS = ["snapshot", "screenshot", "medium", "link", "publish", "unpublish", "balloon"] as const;
const MAX_PATH = 4096;
const PATH_WANTED = "path: expected a path from the root";

/** A line's request, or the sentence that says what is wrong with it. */
export function parseRequest(line: string): Request | string {
  const value = parseObject(line);
  if (value === null) return "expected an object of JSON";
  const name = value.do;
  const plain = PLAIN.find((one) => one === name);
  if (plain) return { do: plain };
  switch (name) {
    case "snapshot": {
      const { path, compress } = value;
      if (!isPath(path)) return PATH_WANTED;
      if (typeof compress !== "boolean") return "compress: expected true or false";
      return { do: name, path, compress };
    }
    case "screenshot":
      return isPath(value.path) ? { do: name, path: value.path } : PATH_WANTED;
    case "medium": {
      const { drive, path, force } = value;
      if (typeof drive !== "string" || !/^cd\d{1,2}$/.test(drive)) return "drive: expected cd0 and so on";
      if (path !== null && !isPath(path)) return `${PATH_WANTED} or null`;
      return typeof force === "boolean" ? { do: name, drive, path, force } : "force: expected true or false";
    }
    case "link": {
      const { up } = value;
      if (up === undefined) return { do: name };
      return typeof up === "boolean" ? { do: name, up } : "up: expected true or false";
    }
    case "publish":
    case "unpublish": {
      const forward = parseForward(value.forward);
      return forward === null ? "forward: expected protocol, address, port and guestPort" : { do: name, forward };
    }
    case "balloon": {
      const { sizeBytes } = value;
      if (sizeBytes === undefined) return { do: name };
      if (typeof sizeBytes !== "number" || !Number.isSafeInteger(sizeBytes)) {
        return "sizeBytes: expected a whole number";
      }
      return { do: name, sizeBytes };
    }
    default:
      return `do: expected one of ${[...PLAIN, ...WITH_FIELDS].join(", ")}`;
  }
}

function isPath(value: unknown): value is string {
  return typeof value === "string" && value.startsWith("/") && value.length <= MAX_PATH && !value.includes("\0");
}

function parseForward(value: unknown): PublishSpec | null {
  if (!isObject(value)) return null;
  const { protocol, address, port, guestPort } = value;
  const isPort = (n: unknown): n is number => typeof n === "number" && Number.isInteger(n) && n > 0 && n <= 65535;
  if (protocol !== "tcp" && protocol !== "udp") return null;
  if (typeof address !== "string" || !/^[\d.]{7,15}$/.test(address) || !isPort(port) || !isPort(guestPort)) return null;
  return { protocol, address, port, guestPort };
}

/** A machine's greeting, or null. */
export function parseGreeting(line: string): Greeting | null {
  const value = parseObject(line);
  if (value === null) return null;
  const { trike, name, pid } = value;
  return typeof trike === "number" && typeof name === "string" && typeof pid === "number" ? { trike, name, pid } : null;
}

/** A machine's reply, or null. */
export function parseReply(line: string): Reply | null {
  const value = parseObject(line);
  if (value?.ok === true) return { ok: true, result: value.result };
  return value?.ok === false && typeof value.error === "string" ? { ok: false, error: value.error } : null;
}

/** What a machine said of itself, or null. */
export function parseStatus(value: unknown): MachineStatus | null {
  if (!isObject(value)) return null;
  const texts = ["name", "state", "engine"], numbers = ["pid", "cpus", "memoryBytes", "uptimeSeconds"];
  const fits = texts.every((name) => typeof value[name] === "string") &&
    numbers.every((name) => typeof value[name] === "number") &&
    ["network", "address"].every((name) => value[name] === null || typeof value[name] === "string");
  return fits ? value as unknown as MachineStatus : null;
}

function parseObject(line: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(line);
    return isObject(value) ? value : null;
  } catch {
    return null;
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

const NEWLINE = 0x0a;

/** Lines out of a stream of bytes. */
export class LineReader {
  #held = new Uint8Array(0);
  readonly #buffer = new Uint8Array(4096);

  constructor(private readonly stream: { read(into: Uint8Array): Promise<number | null> }) {}

  /** The next line; null at the end of the stream, or when a line is longer than any should be. */
  async next(): Promise<string | null> {
    for (;;) {
      const end = this.#held.indexOf(NEWLINE);
      if (end >= 0) {
        const line = new TextDecoder().decode(this.#held.subarray(0, end));
        this.#held = this.#held.slice(end + 1);
        return line;
      }
      if (this.#held.length > MAX_LINE_BYTES) return null;
      const n = await this.stream.read(this.#buffer).catch(() => null);
      if (n === null) return null;
      const both = new Uint8Array(this.#held.length + n);
      both.set(this.#held);
      both.set(this.#buffer.subarray(0, n), this.#held.length);
      this.#held = both;
    }
  }

  /** What was read beyond the last line: once lines have come to an end. */
  rest(): Uint8Array {
    const rest = this.#held;
    this.#held = new Uint8Array(0);
    return rest;
  }
}

export function encodeLine(value: unknown): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(JSON.stringify(value) + "\n");
}
