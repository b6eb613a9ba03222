/** `--share`, `--vsock` and `--balloon`: text in, plain data out. */
import { parseSize } from "../base/size.ts";
import { PAGE_BYTES } from "../machine/memory.ts";
import { type BalloonSpec, type MachineSpec, MAX_SHARES, type ShareSpec, type VsockSpec } from "../machine/spec.ts";
import { list, mistake, quoted, splitAtSingleCommas } from "./values.ts";
import type { Given } from "./config.ts";

const KEYS = ["readonly", "owner=host", "owner=UID[:GID]"] as const;
const MAX_ID = 0xffff_fffe;
/** 0 to 2 are those of hypervisor, loop-back and host, and all ones is any. */
const MIN_CID = 3, MAX_CID = 0xffff_fffe;
const MIB = 1 << 20;

export type Services = Pick<MachineSpec, "shares" | "vsock" | "balloon">;

export function readServices(given: Given, memoryBytes: number): Services {
  const vsock = given.get("vsock")?.[0], balloon = given.get("balloon")?.[0];
  const shares = shareOptions("--share", given.get("share") ?? []);
  return {
    ...(shares.length > 0 ? { shares } : {}),
    ...(vsock === undefined ? {} : { vsock: vsockOption("--vsock", vsock) }),
    ...(balloon === undefined ? {} : { balloon: balloonOption("--balloon", balloon, memoryBytes) }),
  };
}

export function shareOptions(flag: string, values: readonly string[]): ShareSpec[] {
  if (values.length > MAX_SHARES) {
    throw mistake(flag, values[MAX_SHARES]!, `at most ${MAX_SHARES} folders, and found ${values.length}`);
  }
  const shares = values.map((value, i) => shareOption(flag, value, `share${i}`));
  for (const [i, { tag }] of shares.entries()) {
    if (shares.findIndex((other) => other.tag === tag) < i) throw mistake(flag, values[i]!, "a tag of its own");
  }
  return shares;
}

/** `DIR[:TAG][,readonly][,owner=host|UID[:GID]]`; a comma in the name is written twice. */
function shareOption(flag: string, text: string, defaultTag: string): ShareSpec {
  const [where = "", ...words] = splitAtSingleCommas(text);
  // What follows the last colon is a tag unless it goes on with the path.
  const colon = where.lastIndexOf(":");
  const tagged = colon >= 0 && !where.slice(colon).includes("/");
  const path = tagged ? where.slice(0, colon) : where, tag = tagged ? where.slice(colon + 1) : defaultTag;
  if (path === "") throw mistake(flag, text, "DIR[:TAG][,readonly][,owner=host|UID[:GID]]");
  if (!/^[\w.-]{1,31}$/.test(tag)) throw mistake(flag, text, "a tag of 1 to 31 letters, digits, '.', '_' and '-'");
  let readonly = false;
  let owner: ShareSpec["owner"];
  for (const word of words) {
    if (word === "readonly" && !readonly) readonly = true;
    else if (word.startsWith("owner=") && owner === undefined) owner = ownerOf(flag, text, word.slice(6));
    else throw mistake(flag, text, `${list(KEYS)} after the comma, each once, and found ${quoted(word)}`);
  }
  return { path, tag, readonly, ...(owner === undefined ? {} : { owner }) };
}

function ownerOf(flag: string, text: string, who: string): NonNullable<ShareSpec["owner"]> {
  if (who === "host") return "host";
  const ids = /^(\d{1,10})(?::(\d{1,10}))?$/.exec(who);
  const uid = Number(ids?.[1]), gid = Number(ids?.[2] ?? ids?.[1]);
  if (!ids || uid > MAX_ID || gid > MAX_ID) throw mistake(flag, text, "owner=host or owner=UID[:GID], in numbers");
  return { uid, gid };
}

/** `CID,PATH`. */
function vsockOption(flag: string, text: string): VsockSpec {
  const [, cid = "", path = ""] = /^(\d{1,10}),(.+)$/s.exec(text) ?? [];
  if (!(Number(cid) >= MIN_CID && Number(cid) <= MAX_CID && path !== "")) {
    throw mistake(flag, text, `CID,PATH with a CID from ${MIN_CID} to ${MAX_CID}`);
  }
  return { cid: Number(cid), path };
}

function balloonOption(flag: string, text: string, memoryBytes: number): BalloonSpec {
  const sizeBytes = balloonSize(flag, text);
  if (sizeBytes > memoryBytes) throw mistake(flag, text, `at most the machine's memory of ${memoryBytes / MIB} MiB`);
  return { sizeBytes };
}

/** MiB, or a size with its unit. */
export function balloonSize(flag: string, text: string): number {
  const sizeBytes = /^\d{1,9}$/.test(text) ? Number(text) * MIB : parseSize(text);
  if (sizeBytes === undefined || sizeBytes % PAGE_BYTES !== 0) throw mistake(flag, text, "MiB, or a size such as 256M");
  return sizeBytes;
}
