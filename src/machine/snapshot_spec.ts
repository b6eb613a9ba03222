/**
 * What a snapshot says of its machine, in JSON: read as if an enemy had written it.
 *
 * Fields that this page does not name pass as plain data: who reads them checks them, as after the command line.
 */
import { P9_MAX_MESSAGE_BYTES, P9_MAX_TAG_BYTES } from "../../devices/virtio/p9.ts";
import { RestoreError } from "../base/errors.ts";
import { changedShare, isWalkedPath, MAX_FIDS, MAX_LOCKS, type SavedShare } from "../host/share/saved.ts";
import { MAX_RAM_BYTES, MAX_VCPUS, PAGE_BYTES } from "./memory.ts";
import {
  BOOT_SOURCES,
  DISK_CONTROLLERS,
  type DiskSpec,
  type MachineSpec,
  MAX_DISKS,
  MAX_NET_PAIRS,
  MAX_SHARES,
  NET_MODELS,
  type ShareSpec,
} from "./spec.ts";

/** A disk's file as it was: a snapshot goes with what was in it then. */
export interface DiskIdentity {
  readonly sizeBytes: number;
  /** When it was last written, in ms since 1970; null where that says nothing (block devices). */
  readonly writtenMs: number | null;
  /** Of the image with what was written to an overlay. */
  readonly layer?: Omit<DiskIdentity, "layer">;
}

/** The section "machine". */
export interface SavedMachine {
  /** Of trike. */
  readonly version: string;
  readonly savedAtMs: number;
  /** Guest time. */
  readonly timeNs: number;
  /** RAM and what lies behind it. */
  readonly ramBytes: number;
  readonly spec: MachineSpec;
  readonly disks: readonly DiskIdentity[];
  /** One a shared folder, if there are any. */
  readonly shares?: readonly SavedShare[];
}

/** Says what was expected instead, or null. */
type Check = (value: unknown) => string | null;

const text: Check = (v) => typeof v === "string" && v.length <= 65536 && !v.includes("\0") ? null : "text";
const boolean: Check = (v) => typeof v === "boolean" ? null : "true or false";
const number = (min: number, max: number): Check => (v) =>
  typeof v === "number" && v >= min && v <= max ? null : `a number from ${min} to ${max}`;
const whole = (min: number, max: number, multipleOf = 1): Check => (v) =>
  typeof v === "number" && v >= min && v <= max && v % multipleOf === 0
    ? null
    : `a whole number from ${min} to ${max}${multipleOf > 1 ? `, of ${multipleOf}s` : ""}`;
const one = (...values: readonly string[]): Check => (v) =>
  values.some((value) => value === v) ? null : values.join(" or ");
const nullOr = (check: Check): Check => (v) => v === null ? null : check(v);
const optional = (check: Check): Check => (v) => v === undefined ? null : check(v);
const list = (min: number, max: number, check: Check): Check => (v) =>
  Array.isArray(v) && v.length >= min && v.length <= max
    ? v.map((item, i) => within(`${i}`, check(item))).find((e) => e !== null) ?? null
    : `a list of ${min} to ${max}`;
const fields = (checks: Readonly<Record<string, Check>>): Check => (v) =>
  isObject(v)
    ? Object.entries(checks).map(([name, check]) => within(name, check(v[name]))).find((e) => e !== null) ?? null
    : "an object";
/** By the field `kind`. */
const variant = (kinds: Readonly<Record<string, Readonly<Record<string, Check>>>>): Check => (v) => {
  if (!isObject(v)) return "an object";
  const kind = Object.keys(kinds).find((k) => k === v.kind);
  return kind === undefined ? within("kind", Object.keys(kinds).join(" or ")) : fields(kinds[kind]!)(v);
};

function isObject(v: unknown): v is Record<string, unknown> {
  return typeof v === "object" && v !== null && !Array.isArray(v);
}
/** An expectation with the name of the field it is about before it: "spec.disks.0.path: text". */
function within(name: string, expected: string | null): string | null {
  if (expected === null) return null;
  return /^[\w.]+: /.test(expected) ? `${name}.${expected}` : `${name}: ${expected}`;
}

const NOTHING: Check = (v) => v === undefined ? null : "none";
const PORT = whole(0, 65535);
const DISK = fields({
  path: text,
  readonly: boolean,
  format: one("raw", "qcow2"),
  formatAsked: optional(boolean),
  overlay: optional(boolean),
  layer: optional(text),
  controller: optional(one(...DISK_CONTROLLERS)),
  serial: optional(text),
  discard: optional(boolean),
});

/** What every network device has. */
const NET_DEVICE = {
  mac: list(6, 6, whole(0, 255)),
  pcap: nullOr(text),
  model: optional(one(...NET_MODELS)),
  queues: optional(whole(1, MAX_NET_PAIRS)),
  rom: optional(text),
} as const;

const ID = whole(0, 0xffff_ffff);
const SHARE = fields({
  path: text,
  tag: (v) =>
    typeof v === "string" && v.length > 0 && new TextEncoder().encode(v).length <= P9_MAX_TAG_BYTES ? null : "a tag",
  readonly: boolean,
  owner: (v) => v === undefined || v === "host" ? null : fields({ uid: ID, gid: ID })(v),
});
/** What the guest had of a shared folder. */
const SAVED_SHARE = fields({
  inode: number(0, Number.MAX_VALUE),
  messageBytes: whole(0, P9_MAX_MESSAGE_BYTES),
  fids: list(
    0,
    MAX_FIDS,
    fields({
      id: whole(0, 0xffff_fffe),
      path: (v) => isWalkedPath(v) ? null : "a path in the folder",
      uid: ID,
      flags: nullOr(ID),
      inode: nullOr(number(0, Number.MAX_VALUE)),
    }),
  ),
  locks: list(
    0,
    MAX_LOCKS,
    fields({
      fid: ID,
      type: whole(0, 1),
      start: number(0, Number.MAX_VALUE),
      end: nullOr(number(0, Number.MAX_VALUE)),
      process: ID,
      client: text,
    }),
  ),
});

const UUID = /^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/i;

const SPEC = {
  engine: one("hvf", "kvm", "soft"),
  irqchip: optional(one("user", "split", "kernel")),
  // A library to load: nothing that a file from elsewhere may name.
  hypervisor: NOTHING,
  // Nor does it say what may run beside the sandbox.
  native: NOTHING,
  memoryBytes: whole(PAGE_BYTES, MAX_RAM_BYTES, PAGE_BYTES),
  cpus: whole(1, MAX_VCPUS),
  cpu: optional(fields({ name: text, features: list(0, 256, text) })),
  kernel: text,
  initrd: nullOr(text),
  append: text,
  modules: optional(list(0, 64, fields({ path: text, type: text }))),
  env: optional(list(0, 1024, text)),
  disks: list(0, MAX_DISKS, DISK),
  firmware: optional(
    fields({ path: text, vars: nullOr(text), boot: optional(list(1, BOOT_SOURCES.length, one(...BOOT_SOURCES))) }),
  ),
  vga: optional(fields({ bios: nullOr(text) })),
  uuid: (v) => v === undefined || (typeof v === "string" && UUID.test(v)) ? null : "a UUID",
  serial: list(
    0,
    8,
    variant({
      stdio: {},
      none: {},
      pty: { link: optional(text) },
      tty: { path: text },
      file: { path: text },
      unix: { path: text },
    }),
  ),
  net: optional(variant({
    user: {
      ...NET_DEVICE,
      restrict: boolean,
      publish: list(
        0,
        1024,
        fields({ protocol: one("tcp", "udp"), address: text, port: PORT, guestPort: PORT }),
      ),
      dns: nullOr(fields({ address: text, port: PORT })),
      // A folder to give away: nothing that a file from elsewhere may name.
      tftp: NOTHING,
      bootFile: optional(text),
      bootFileUefi: optional(text),
    },
    stream: { ...NET_DEVICE, path: text },
    dgram: { ...NET_DEVICE, path: text },
    switch: { ...NET_DEVICE, name: text },
    tap: { ...NET_DEVICE, name: text },
    vmnet: { ...NET_DEVICE, mode: one("shared", "host", "bridged"), interface: nullOr(text) },
  })),
  shares: optional(list(0, MAX_SHARES, SHARE)),
  vsock: optional(fields({ cid: whole(3, 0xffff_fffe), path: text })),
  balloon: optional(fields({ sizeBytes: whole(0, MAX_RAM_BYTES, PAGE_BYTES) })),
  noReboot: boolean,
  icount: boolean,
} as const satisfies Partial<Record<keyof MachineSpec, Check>>;

const MAX_MS = 8.64e15;
const IDENTITY = { sizeBytes: number(0, Number.MAX_SAFE_INTEGER), writtenMs: nullOr(number(-MAX_MS, MAX_MS)) } as const;
const MACHINE = fields({
  version: text,
  savedAtMs: number(0, MAX_MS),
  timeNs: number(0, Number.MAX_SAFE_INTEGER),
  ramBytes: whole(PAGE_BYTES, 2 * MAX_RAM_BYTES, PAGE_BYTES),
  spec: fields({ ...SPEC, trace: (v) => v === null ? null : "null" }),
  disks: list(
    0,
    MAX_DISKS,
    fields({ ...IDENTITY, layer: optional(fields(IDENTITY)) }),
  ),
  shares: optional(list(0, MAX_SHARES, SAVED_SHARE)),
});

/** Throws RestoreError that names the field. */
export function parseMachine(json: Uint8Array): SavedMachine {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(json));
  } catch {
    throw new RestoreError("it is not JSON");
  }
  const wrong = MACHINE(value);
  if (wrong !== null) {
    const [name, expected] = /^([\w.]+): (.*)$/s.exec(wrong)?.slice(1) ?? ["it", wrong];
    throw new RestoreError(`${name}: expected ${expected}`);
  }
  const machine = value as SavedMachine;
  if (machine.disks.length !== machine.spec.disks.length) {
    throw new RestoreError(`disks: found ${machine.disks.length}, expected ${machine.spec.disks.length}`);
  }
  const shares = machine.shares?.length ?? 0, wanted = machine.spec.shares?.length ?? 0;
  if (shares !== wanted) throw new RestoreError(`shares: found ${shares}, expected ${wanted}`);
  for (const [i, { fids }] of (machine.shares ?? []).entries()) {
    if (new Set(fids.map(({ id }) => id)).size !== fids.length) {
      throw new RestoreError(`shares.${i}.fids: expected a number for each`);
    }
  }
  if (machine.ramBytes < machine.spec.memoryBytes) {
    throw new RestoreError(`ramBytes: found ${machine.ramBytes}, expected at least ${machine.spec.memoryBytes}`);
  }
  return machine;
}

/** What the host says of the disks' files now. */
export function identify(disks: readonly DiskSpec[]): DiskIdentity[] {
  return disks.map(({ path, layer }) =>
    layer === undefined ? identityOf(path) : { ...identityOf(path), layer: identityOf(layer) }
  );
}

function identityOf(path: string): Omit<DiskIdentity, "layer"> {
  try {
    const info = Deno.statSync(path);
    return { sizeBytes: info.size, writtenMs: info.isFile ? info.mtime?.getTime() ?? null : null };
  } catch {
    return { sizeBytes: 0, writtenMs: null }; // whoever opens it says why
  }
}

/** Says which disk is not what it was, or null. */
export function changedDisk(then: readonly DiskIdentity[], disks: readonly DiskSpec[]): string | null {
  const now = identify(disks);
  for (const [i, { path, layer }] of disks.entries()) {
    const changed = changedFile(path, then[i]!, now[i]!) ??
      (layer === undefined ? null : changedFile(layer, then[i]!.layer ?? NO_FILE, now[i]!.layer!));
    if (changed !== null) return changed;
  }
  return null;
}

/** Says which shared folder is not what the guest had open in it, or null. */
export function changedShares(then: readonly SavedShare[], shares: readonly ShareSpec[]): string | null {
  for (const [i, saved] of then.entries()) {
    const changed = changedShare(saved, shares[i]!.path);
    if (changed !== null) return changed;
  }
  return null;
}

const NO_FILE = { sizeBytes: 0, writtenMs: null };

function changedFile(path: string, then: DiskIdentity, now: DiskIdentity): string | null {
  if (then.sizeBytes !== now.sizeBytes) {
    return `"${path}" has ${now.sizeBytes} bytes, and had ${then.sizeBytes} when the machine was saved`;
  }
  const written = then.writtenMs !== now.writtenMs && then.writtenMs !== null;
  return written ? `"${path}" was written after the machine was saved` : null;
}
