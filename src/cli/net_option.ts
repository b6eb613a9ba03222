/** The values of --net and --publish, and the network of a machine that was told nothing of it. */
import { MAX_BOOT_FILE } from "../host/net/dhcp.ts";
import { parseIp4, parseIp6, parseMac } from "../host/net/address.ts";
import {
  MAX_NET_PAIRS,
  NET_MODELS,
  type NetBackendSpec,
  type NetDeviceSpec,
  type NetModel,
  type NetSpec,
  type PublishSpec,
} from "../machine/spec.ts";
import { countOption, hint, list, mistake, quoted, splitAtSingleCommas } from "./values.ts";

const KINDS = ["user", "none", "stream:PATH", "dgram:PATH", "switch:NAME", "tap:NAME", "vmnet[:MODE]"] as const;
const COMMON_KEYS = ["model=MODEL", "queues=N", "pcap=FILE", "mac=MAC", "rom=FILE"] as const;
const BOOT_KEYS = ["tftp=FOLDER", "bootfile=NAME", "bootfile-uefi=NAME"] as const;
const USER_KEYS = ["restrict", "dns=ADDRESS", ...BOOT_KEYS, ...COMMON_KEYS] as const;
const DNS_PORT = 53;
const MAX_PUBLISHED = 256;
/** The length of sun_path on macOS, less the terminating zero; Linux allows four bytes more. */
const MAX_SOCKET_PATH = 103;
/** IFNAMSIZ, less the terminating zero. */
const MAX_INTERFACE_NAME = 15;

/** What --net asks for; `mac` is null for one that trike makes. */
export type NetRequest =
  | { readonly kind: "none" }
  | NetDeviceRequest & Exclude<NetBackendSpec, { kind: "user" }>
  | NetDeviceRequest & Omit<Extract<NetBackendSpec, { kind: "user" }>, "publish">;

type NetDeviceRequest = Omit<NetDeviceSpec, "mac"> & { readonly mac: readonly number[] | null };

export function netOption(flag: string, text: string): NetRequest {
  const [first, ...more] = splitAtSingleCommas(text) as [string, ...string[]];
  if (first === "none" && more.length === 0) return { kind: "none" };
  const user = first === "user";
  const backend = user ? null : backendOption(flag, text, first);
  let pcap: string | null = null, mac: readonly number[] | null = null, restrict = false;
  let model: NetModel | undefined, queues: number | undefined;
  let dns: { address: string; port: number } | null = null;
  let rom: string | undefined, tftp: string | undefined;
  const bootFiles: { bootFile?: string; bootFileUefi?: string } = {};
  for (const part of more) {
    const equals = part.indexOf("=");
    const key = equals < 0 ? part : part.slice(0, equals), value = equals < 0 ? "" : part.slice(equals + 1);
    if (part === "restrict" && user) restrict = true;
    else if (key === "pcap" && value !== "") pcap = value;
    else if (key === "mac" && equals > 0) {
      const bytes = parseMac(value);
      if (!bytes) throw mistake(flag, text, `the address of one station, such as 02:00:00:12:34:56, after "mac="`);
      mac = [...bytes];
    } else if (key === "model" && equals > 0) {
      model = NET_MODELS.find((name) => name === value);
      if (!model) throw mistake(flag, text, `${list(NET_MODELS)} after "model="${hint(value, NET_MODELS)}`);
    } else if (key === "queues" && equals > 0) queues = countOption(flag, value, 1, MAX_NET_PAIRS);
    else if (key === "dns" && equals > 0 && user) dns = dnsOption(flag, text, value);
    else if (key === "rom" && value !== "") rom = value;
    else if (key === "tftp" && value !== "" && user) tftp = value;
    else if (key === "bootfile" && equals > 0 && user) bootFiles.bootFile = bootFileOption(flag, text, value);
    else if (key === "bootfile-uefi" && equals > 0 && user) bootFiles.bootFileUefi = bootFileOption(flag, text, value);
    else {
      const keys = user ? USER_KEYS : COMMON_KEYS;
      throw mistake(flag, text, `${list(keys)} after the comma and found ${quoted(part)}${hint(part, keys)}`);
    }
  }
  if (model === "e1000" && queues !== undefined) {
    throw mistake(flag, text, "no queues= beside model=e1000, which has one pair");
  }
  if (tftp === undefined && Object.keys(bootFiles).length > 0) {
    throw mistake(flag, text, "tftp=FOLDER beside a bootfile, which is in that folder");
  }
  const device = { mac, pcap, ...(model ? { model } : {}), ...(queues ? { queues } : {}), ...(rom ? { rom } : {}) };
  return backend
    ? { ...backend, ...device }
    : { kind: "user", ...device, restrict, dns, ...(tftp ? { tftp } : {}), ...bootFiles };
}

function bootFileOption(flag: string, text: string, value: string): string {
  const { length } = new TextEncoder().encode(value);
  if (length >= 1 && length <= MAX_BOOT_FILE) return value;
  throw mistake(flag, text, `a name of 1 to ${MAX_BOOT_FILE} bytes after "bootfile="`);
}

/** All but `user` and `none`. */
function backendOption(flag: string, text: string, first: string): Exclude<NetBackendSpec, { kind: "user" }> {
  const colon = first.indexOf(":");
  const kind = colon < 0 ? first : first.slice(0, colon), value = colon < 0 ? "" : first.slice(colon + 1);
  switch (colon < 0 && kind !== "vmnet" ? "" : kind) {
    case "stream":
    case "dgram":
      if (value === "") throw mistake(flag, text, `a path after "${kind}:"`);
      if (new TextEncoder().encode(value).length > MAX_SOCKET_PATH) {
        throw mistake(flag, text, `a socket path of at most ${MAX_SOCKET_PATH} bytes`);
      }
      return { kind: kind as "stream" | "dgram", path: value };
    case "switch":
      if (/^[\w-][\w.-]{0,31}$/.test(value)) return { kind: "switch", name: value };
      throw mistake(flag, text, 'a name of at most 32 letters, digits, "-", "_" and "." after "switch:"');
    case "tap":
      if (/^[^\s/:]+$/.test(value) && new TextEncoder().encode(value).length <= MAX_INTERFACE_NAME) {
        return { kind: "tap", name: value };
      }
      throw mistake(flag, text, `the name of an interface, such as tap0, after "tap:"`);
    case "vmnet": {
      if (colon < 0 || value === "shared" || value === "host") {
        return { kind: "vmnet", mode: value === "host" ? "host" : "shared", interface: null };
      }
      const bridged = /^bridged=([\w.-]+)$/.exec(value)?.[1];
      if (bridged !== undefined) return { kind: "vmnet", mode: "bridged", interface: bridged };
      throw mistake(flag, text, 'shared, host or bridged=INTERFACE after "vmnet:"');
    }
  }
  throw mistake(
    flag,
    text,
    list(KINDS) + hint(first, ["user", "none", "stream:", "dgram:", "switch:", "tap:", "vmnet"]),
  );
}

function dnsOption(flag: string, text: string, value: string): { address: string; port: number } {
  const [, six, four, port] = /^(?:\[([^\]]+)\]|([\d.]+))(?::(\d+))?$/.exec(value) ?? [];
  const address = six ?? four ?? (parseIp6(value) !== null ? value : "");
  if (parseIp4(address) === null && parseIp6(address) === null) {
    throw mistake(flag, text, `an IPv4 address or an IPv6 address in brackets, with or without ":PORT", after "dns="`);
  }
  return { address, port: port === undefined ? DNS_PORT : portOption(flag, port) };
}

const PUBLISH = /^(?:(?:\[([^\]]+)\]|([\d.]+)):)?(\d+):(\d+)(?:\/(tcp|udp))?$/;

/** `[ADDRESS:]PORT:GUESTPORT[/tcp|/udp]`; without an address, this host's own users only. */
export function publishOptions(flag: string, values: readonly string[]): PublishSpec[] {
  if (values.length > MAX_PUBLISHED) throw mistake(flag, values[MAX_PUBLISHED]!, `at most ${MAX_PUBLISHED} ports`);
  const seen = new Set<string>();
  return values.map((text) => {
    const found = PUBLISH.exec(text);
    if (!found) throw mistake(flag, text, "[ADDRESS:]PORT:GUESTPORT[/tcp or /udp], such as 8080:80");
    const [, six, four, port = "", guestPort = "", protocol = "tcp"] = found;
    const address = six ?? four ?? "127.0.0.1";
    if (six === undefined ? parseIp4(address) === null : parseIp6(six) === null) {
      throw mistake(flag, text, `an IPv4 address, or an IPv6 address in brackets, and found ${quoted(address)}`);
    }
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
  if (net !== null && net.kind !== "user") return { net: { ...net, mac }, note: null };
  const { pcap = null, restrict = false, dns = null, ...device } = net ?? {};
  const note = w.allowed ? null : "the network goes no further than --allow-net does";
  return { net: { ...device, kind: "user", mac, pcap, restrict, dns, publish }, note };
}

/** A locally administered address that stays the same for the same name. */
export function macOf(name: string): number[] {
  // FNV-1a, 32 bits.
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(name)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return [0x02, 0x74, hash >>> 24, (hash >>> 16) & 255, (hash >>> 8) & 255, hash & 255];
}
