/** The values of --net and --publish, and the network of a machine that was told nothing of it. */
import { parseIp4, parseMac } from "../host/net/address.ts";
import type { NetSpec, PublishSpec } from "../machine/spec.ts";
import { countOption, hint, list, mistake, quoted, splitAtSingleCommas } from "./values.ts";

const KINDS = ["user", "none", "stream:PATH"] as const;
const KEYS = { user: ["restrict", "pcap=FILE", "mac=MAC", "dns=ADDRESS"], stream: ["pcap=FILE", "mac=MAC"] } as const;
const DNS_PORT = 53;
const MAX_PUBLISHED = 256;
/** The length of sun_path on macOS, less the terminating zero; Linux allows four bytes more. */
const MAX_SOCKET_PATH = 103;

/** What --net asks for; `mac` is null for one that trike makes. */
export type NetRequest =
  | { readonly kind: "none" }
  | {
    readonly kind: "user";
    readonly mac: readonly number[] | null;
    readonly pcap: string | null;
    readonly restrict: boolean;
    readonly dns: { readonly address: string; readonly port: number } | null;
  }
  | {
    readonly kind: "stream";
    readonly mac: readonly number[] | null;
    readonly pcap: string | null;
    readonly path: string;
  };

export function netOption(flag: string, text: string): NetRequest {
  const [first, ...more] = splitAtSingleCommas(text) as [string, ...string[]];
  if (first === "none" && more.length === 0) return { kind: "none" };
  const stream = first.startsWith("stream:");
  if (first !== "user" && !stream) {
    throw mistake(flag, text, list(KINDS) + hint(first, ["user", "none", "stream:"]));
  }
  let pcap: string | null = null, mac: readonly number[] | null = null, restrict = false;
  let dns: { address: string; port: number } | null = null;
  for (const part of more) {
    const equals = part.indexOf("=");
    const key = equals < 0 ? part : part.slice(0, equals), value = equals < 0 ? "" : part.slice(equals + 1);
    if (part === "restrict" && !stream) restrict = true;
    else if (key === "pcap" && value !== "") pcap = value;
    else if (key === "mac" && equals > 0) {
      const bytes = parseMac(value);
      if (!bytes) throw mistake(flag, text, `the address of one station, such as 02:00:00:12:34:56, after "mac="`);
      mac = [...bytes];
    } else if (key === "dns" && equals > 0 && !stream) {
      const [address = "", port, ...rest] = value.split(":");
      if (parseIp4(address) === null || rest.length > 0) {
        throw mistake(flag, text, `an IPv4 address, with or without ":PORT", after "dns="`);
      }
      dns = { address, port: port === undefined ? DNS_PORT : portOption(flag, port) };
    } else {
      const keys = KEYS[stream ? "stream" : "user"];
      throw mistake(flag, text, `${list(keys)} after the comma and found ${quoted(part)}${hint(part, keys)}`);
    }
  }
  if (!stream) return { kind: "user", mac, pcap, restrict, dns };
  const path = first.slice("stream:".length);
  if (path === "") throw mistake(flag, text, 'a path after "stream:"');
  if (new TextEncoder().encode(path).length > MAX_SOCKET_PATH) {
    throw mistake(flag, text, `a socket path of at most ${MAX_SOCKET_PATH} bytes`);
  }
  return { kind: "stream", mac, pcap, path };
}

const PUBLISH = /^(?:([\d.]+):)?(\d+):(\d+)(?:\/(tcp|udp))?$/;

/** `[ADDRESS:]PORT:GUESTPORT[/tcp|/udp]`; without an address, this host's own users only. */
export function publishOptions(flag: string, values: readonly string[]): PublishSpec[] {
  if (values.length > MAX_PUBLISHED) throw mistake(flag, values[MAX_PUBLISHED]!, `at most ${MAX_PUBLISHED} ports`);
  const seen = new Set<string>();
  return values.map((text) => {
    const found = PUBLISH.exec(text);
    if (!found) throw mistake(flag, text, "[ADDRESS:]PORT:GUESTPORT[/tcp or /udp], such as 8080:80");
    const [, address = "127.0.0.1", port = "", guestPort = "", protocol = "tcp"] = found;
    if (parseIp4(address) === null) throw mistake(flag, text, `an IPv4 address and found ${quoted(address)}`);
    const one: PublishSpec = {
      protocol: protocol === "udp" ? "udp" : "tcp",
      address,
      port: portOption(flag, port),
      guestPort: portOption(flag, guestPort),
    };
    const name = `${one.protocol} ${address} ${one.port}`;
    if (seen.has(name)) throw mistake(flag, text, "a port of the host once, and found it twice");
    seen.add(name);
    return one;
  });
}

function portOption(flag: string, text: string): number {
  return countOption(flag, text, 1, 65535);
}

export interface NetWishes {
  /** Null: --net was not given. */
  readonly net: NetRequest | null;
  readonly publish: readonly PublishSpec[];
  readonly icount: boolean;
  /** What tells this machine from others: its MAC address comes of it. */
  readonly name: string;
  /** Whether this process may use the network. */
  readonly allowed: boolean;
}

/** The network of a machine; undefined for none, and then why, if that is worth a word. */
export function chooseNet(w: NetWishes): { net: NetSpec | undefined; note: string | null } {
  const { net, publish, icount } = w;
  if (icount && net !== null && net.kind !== "none") {
    throw mistake("--net", net.kind, "none with --icount: what comes from a network does not repeat");
  }
  const first = publish[0];
  if (first && (icount || (net !== null && net.kind !== "user"))) {
    throw mistake("--publish", `${first.port}:${first.guestPort}`, "--net user beside it");
  }
  if (icount || net?.kind === "none") return { net: undefined, note: null };
  if (net === null && first === undefined && !w.allowed) {
    return { net: undefined, note: "no network: trike runs without --allow-net" };
  }
  const mac = net?.mac ?? macOf(w.name);
  if (net?.kind === "stream") return { net: { ...net, mac }, note: null };
  const { pcap = null, restrict = false, dns = null } = net ?? {};
  const note = w.allowed ? null : "the network goes no further than --allow-net does";
  return { net: { kind: "user", mac, pcap, restrict, dns, publish }, note };
}

/** A locally administered address that stays the same for the same name. */
export function macOf(name: string): number[] {
  // FNV-1a, 32 bits.
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(name)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return [0x02, 0x74, hash >>> 24, (hash >>> 16) & 255, (hash >>> 8) & 255, hash & 255];
}
