/** `--vnc`: where the display can be seen, and who may see it. */
import { ConfigError, messageOf } from "../base/errors.ts";
import { VncServer } from "../host/vnc/server.ts";
import { mistake, quoted, splitAtSingleCommas } from "./values.ts";

export interface VncRequest {
  readonly address: string;
  readonly port: number;
  /** A file with the password, or null: none is asked for. */
  readonly password: string | null;
}

const LOCAL = "127.0.0.1";
const FORM = "[ADDR:]PORT[,password=FILE]";
/** The protocol's limit. */
const MAX_PASSWORD_BYTES = 8;

export function vncOption(flag: string, text: string): VncRequest {
  const [where, ...rest] = splitAtSingleCommas(text) as [string, ...string[]];
  const colon = where.lastIndexOf(":");
  const port = where.slice(colon + 1), address = colon < 0 ? LOCAL : where.slice(0, colon).replace(/^\[(.*)\]$/, "$1");
  if (!/^\d{1,5}$/.test(port) || Number(port) > 65535) {
    throw mistake(flag, text, `a port from 0 to 65535 in ${FORM}`);
  }
  if (address === "") throw mistake(flag, text, `an address before ":" in ${FORM}`);
  let password: string | null = null;
  for (const part of rest) {
    const file = /^password=(.+)$/.exec(part)?.[1];
    if (file === undefined) throw mistake(flag, text, `password=FILE after the comma and found ${quoted(part)}`);
    password = file;
  }
  return { address, port: Number(port), password };
}

/** Listens. Throws ConfigError or HostError. */
export function openVnc({ address, port, password }: VncRequest): VncServer {
  return new VncServer({ address, port, password: password === null ? null : readPassword(password) });
}

function readPassword(path: string): Uint8Array {
  let line: string;
  try {
    line = Deno.readTextFileSync(path).split("\n")[0]!.replace(/\r$/, "");
  } catch (error) {
    throw new ConfigError(`Cannot read the password of --vnc from ${quoted(path)}: ${messageOf(error)}`, {
      cause: error,
    });
  }
  const bytes = new TextEncoder().encode(line);
  if (bytes.length === 0 || bytes.length > MAX_PASSWORD_BYTES) {
    throw mistake("--vnc", path, `a password of 1 to ${MAX_PASSWORD_BYTES} bytes in the file's first line`);
  }
  return bytes;
}
