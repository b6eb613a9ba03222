/**
 * A virtio input device that is a tablet: a pointer which tells places, so that a guest's is where its user's is.
 *
 * Spec: [virtio §5.8], with the event types and codes of [evdev].
 * Emulated: ABS_X and ABS_Y over the whole display, three buttons, a wheel; names, IDs and bitmaps to select.
 * Absent: what the driver sends on the statusq changes nothing, as a tablet has no lights.
 *
 * It works under the machine lock. Nothing is queued here: what the guest has not fetched yet is the difference between where
 * the pointer is and what was told of it.
 */
import type { Arena } from "../../src/base/arena.ts";
import type { RegisterDevice, RegisterTable } from "../../src/base/bus.ts";
import { record, type View } from "../../src/base/record.ts";
import { type VirtioParts, VirtioPci } from "./pci_transport.ts";
import { DEVICE_STATUS } from "./registers.ts";

const QUEUE = { EVENT: 0, STATUS: 1 } as const;
const QUEUE_SIZE = 64;
const EVENT_BYTES = 8;

/** Values of `select` [virtio §5.8.4]. */
export const INPUT_CFG = {
  UNSET: 0x00,
  ID_NAME: 0x01,
  ID_SERIAL: 0x02,
  ID_DEVIDS: 0x03,
  PROP_BITS: 0x10,
  EV_BITS: 0x11,
  ABS_INFO: 0x12,
} as const;

/** Event types and codes [evdev]. */
export const EV = { SYN: 0, KEY: 1, REL: 2, ABS: 3 } as const;
export const SYN_REPORT = 0, REL_WHEEL = 8, ABS_X = 0, ABS_Y = 1;
/** Left, right, middle: in the order of the bits by which a mouse tells them. */
export const BTN = [0x110, 0x111, 0x112] as const;

/** Places run from 0 to this. */
export const TABLET_MAX = 0x7fff;

const UNION_AT = 8, UNION_BYTES = 128;
/** The device configuration structure: the union a byte each. */
const VIRTIO_INPUT_CONFIG: RegisterTable = {
  select: { at: 0, width: 1, access: "rw" },
  subsel: { at: 1, width: 1, access: "rw" },
  size: { at: 2, width: 1, access: "ro" },
  ...Object.fromEntries(
    Array.from({ length: UNION_BYTES }, (_, i) => [`u${i}`, { at: UNION_AT + i, width: 1, access: "ro" }] as const),
  ),
};

export const VirtioTabletRecord = record("virtio-tablet", 1, {
  select: "u8",
  subsel: "u8",
  /** Where the pointer is, and where the guest was told that it is; -1 before that. */
  x: { type: "i32", reset: -1 },
  y: { type: "i32", reset: -1 },
  toldX: { type: "i32", reset: -1 },
  toldY: { type: "i32", reset: -1 },
  buttons: { type: "u8", max: 7 },
  toldButtons: { type: "u8", max: 7 },
  /** Turns of the wheel that were not told yet, away from the user. */
  wheel: "i32",
  /** Events were told, and not yet that they belong together. */
  unfinished: { type: "u8", max: 1 },
});

const text = (s: string) => new TextEncoder().encode(s);

/** Little-endian values of 2 or 4 bytes. */
function little(width: 2 | 4, ...values: readonly number[]): Uint8Array {
  return Uint8Array.from(values.flatMap((v) => Array.from({ length: width }, (_, i) => (v >>> (8 * i)) & 255)));
}

/** A bitmap without the zeros at its end. */
function bits(...set: readonly number[]): Uint8Array {
  const bytes = new Uint8Array((Math.max(...set) >> 3) + 1);
  for (const bit of set) bytes[bit >> 3]! |= 1 << (bit & 7);
  return bytes;
}

const NOTHING = new Uint8Array();
const AXIS = little(4, 0, TABLET_MAX, 0, 0, 0); // min, max, fuzz, flat, res
const BITS: Readonly<Record<number, Uint8Array>> = {
  [EV.KEY]: bits(...BTN),
  [EV.REL]: bits(REL_WHEEL),
  [EV.ABS]: bits(ABS_X, ABS_Y),
};
const NAME = text("trike tablet");
const BUS_VIRTUAL = 6;
const IDS = little(2, BUS_VIRTUAL, 0x1af4, 18, 1); // bus type, vendor, product, version

/** What the union holds for a selection; nothing where there is none [virtio §5.8.5.2]. */
function selected(select: number, subsel: number): Uint8Array {
  if (select === INPUT_CFG.EV_BITS) return BITS[subsel] ?? NOTHING;
  if (select === INPUT_CFG.ABS_INFO) return subsel === ABS_X || subsel === ABS_Y ? AXIS : NOTHING;
  if (subsel !== 0) return NOTHING;
  return select === INPUT_CFG.ID_NAME ? NAME : select === INPUT_CFG.ID_DEVIDS ? IDS : NOTHING;
}

export class VirtioTablet extends VirtioPci {
  readonly #t: View<typeof VirtioTabletRecord>;
  readonly #event = new Uint8Array(EVENT_BYTES);
  readonly #view = new DataView(this.#event.buffer);

  constructor(arena: Arena, id: string, parts: VirtioParts) {
    super(arena, id, parts, { type: 18, classCode: 0x098000, features: [], queues: 2, queueSize: QUEUE_SIZE });
    const t = this.#t = arena.place(`${id}.tablet`, VirtioTabletRecord);
    const config: RegisterDevice = {
      registers: VIRTIO_INPUT_CONFIG,
      readRegister: (reg) => {
        if (reg === "select" || reg === "subsel") return t[reg];
        const value = selected(t.select, t.subsel);
        return reg === "size" ? value.length : value[Number(reg.slice(1))] ?? 0;
      },
      writeRegister: (reg, value) => {
        if (reg === "select" || reg === "subsel") t[reg] = value;
      },
    };
    this.showConfig(config);
  }

  /** Whether the guest has a driver for it: else its user had better use another pointer. */
  get used(): boolean {
    return (this.status & DEVICE_STATUS.DRIVER_OK) !== 0 && this.queues[QUEUE.EVENT]!.live;
  }

  /**
   * The pointer is at `x`, `y` of 0 to TABLET_MAX; buttons: left 1, right 2, middle 4; the wheel turned so often away from the
   * user. Under the machine lock.
   */
  point(x: number, y: number, buttons: number, wheel: number): void {
    const t = this.#t, limit = (v: number) => Math.max(0, Math.min(TABLET_MAX, v));
    t.x = limit(x);
    t.y = limit(y);
    t.buttons = buttons & 7;
    t.wheel = Math.max(-TABLET_MAX, Math.min(TABLET_MAX, t.wheel + wheel));
    this.#tell();
  }

  protected override notified(index: number): void {
    if (index === QUEUE.EVENT) this.#tell();
    else this.#takeStatus();
  }

  protected override wasReset(): void {
    VirtioTabletRecord.reset(this.#t);
  }

  /** An event a buffer, until all is told or no buffer is left: the driver then notifies of more. */
  #tell(): void {
    for (let more = true; more;) {
      const q = this.acquire(QUEUE.EVENT);
      if (!q) return;
      while (this.#pending && q.pop()) {
        this.#next();
        q.push(q.chain.head, q.chain.write(0, this.#event));
      }
      this.signalUsed(QUEUE.EVENT);
      more = this.release(QUEUE.EVENT) && this.#pending;
    }
  }

  get #pending(): boolean {
    const t = this.#t;
    return t.unfinished !== 0 || t.wheel !== 0 || t.buttons !== t.toldButtons || t.x !== t.toldX || t.y !== t.toldY;
  }

  /** Makes the next event, which then counts as told: the place comes first, for a click to be where it is. */
  #next(): void {
    const t = this.#t;
    const event = (type: number, code: number, value: number) => {
      t.unfinished = type === EV.SYN ? 0 : 1;
      this.#view.setUint16(0, type, true);
      this.#view.setUint16(2, code, true);
      this.#view.setInt32(4, value, true);
    };
    if (t.x !== t.toldX) return event(EV.ABS, ABS_X, t.toldX = t.x);
    if (t.y !== t.toldY) return event(EV.ABS, ABS_Y, t.toldY = t.y);
    const changed = t.buttons ^ t.toldButtons;
    if (changed !== 0) {
      const button = 31 - Math.clz32(changed & -changed);
      t.toldButtons ^= 1 << button;
      return event(EV.KEY, BTN[button]!, (t.buttons >> button) & 1);
    }
    if (t.wheel !== 0) {
      event(EV.REL, REL_WHEEL, t.wheel);
      t.wheel = 0;
      return;
    }
    event(EV.SYN, SYN_REPORT, 0);
  }

  #takeStatus(): void {
    const q = this.acquire(QUEUE.STATUS);
    if (!q) return;
    while (q.pop()) q.push(q.chain.head, 0);
    this.signalUsed(QUEUE.STATUS);
    this.release(QUEUE.STATUS);
  }
}
