/** `--disk FILE[,KEY]…`: text in, a disk's description out. */
import { formatOfName, type ImageFormat } from "../host/disk/format_name.ts";
import { DISK_CONTROLLERS, type DiskController, type DiskSpec } from "../machine/spec.ts";
import { hint, list, mistake, quoted, splitAtSingleCommas } from "./values.ts";

const SWITCHES = ["readonly", "overlay"] as const;
const VALUES: Readonly<Record<string, readonly string[] | null>> = {
  format: ["raw", "qcow2"],
  controller: DISK_CONTROLLERS,
  serial: null,
  discard: ["on", "off"],
};
const KEYS = [...SWITCHES, ...Object.keys(VALUES).map((key) => `${key}=`)];

/** What a virtio disk can tell as its name; AHCI and NVMe have as much room. */
const MAX_SERIAL = 20;

/** `FILE[,readonly][,overlay][,format=][,controller=][,serial=][,discard=]`; a comma in the name is written twice. A CD-ROM drive without a file is empty. */
export function diskOption(flag: string, text: string): DiskSpec {
  const [path = "", ...words] = splitAtSingleCommas(text);
  if (path === "" && !words.includes("controller=cdrom")) {
    throw mistake(flag, text, "FILE[,readonly][,overlay][,format=raw|qcow2] and so on");
  }
  const given = new Map<string, string>();
  for (const word of words) {
    const equals = word.indexOf("=");
    const key = equals < 0 ? word : word.slice(0, equals), value = equals < 0 ? "" : word.slice(equals + 1);
    const isSwitch = equals < 0 && (SWITCHES as readonly string[]).includes(key);
    if (!isSwitch && (equals < 0 || !Object.hasOwn(VALUES, key))) {
      throw mistake(flag, text, `${list(KEYS)} after the comma and found ${quoted(word)}${hint(word, KEYS)}`);
    }
    const known = VALUES[key];
    if (known && !known.includes(value)) {
      throw mistake(flag, text, `${key}=${list(known)}, and found ${quoted(value)}${hint(value, known)}`);
    }
    if (key === "serial" && !/^[\x21-\x7e]{1,20}$/.test(value)) {
      throw mistake(flag, text, `serial= with 1 to ${MAX_SERIAL} characters of ASCII and no space`);
    }
    if (given.has(key)) throw mistake(flag, text, `${key} once`);
    given.set(key, value);
  }
  const controller = given.get("controller") as DiskController | undefined;
  const format = given.get("format") as ImageFormat | undefined;
  const cdrom = controller === "cdrom";
  if (given.has("overlay") && (given.has("readonly") || cdrom)) {
    throw mistake(flag, text, `overlay or ${cdrom ? "controller=cdrom" : "readonly"}, not both`);
  }
  return {
    path,
    readonly: given.has("readonly") || cdrom,
    format: format ?? formatOfName(path),
    ...format === undefined ? {} : { formatAsked: true },
    ...given.has("overlay") ? { overlay: true } : {},
    ...controller === undefined ? {} : { controller },
    ...given.has("serial") ? { serial: given.get("serial")! } : {},
    ...given.has("discard") ? { discard: given.get("discard") === "on" } : {},
  };
}
