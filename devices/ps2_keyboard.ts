/**
 * A PS/2 keyboard: what is at the other end of the keyboard controller's first wire.
 *
 * Spec: [ps2 §Keyboard] commands and answers; [scancodes §Set 2] what it sends.
 * Emulated: reset with its self test, identification, LEDs, typematic settings (kept, not acted on), enable and disable,
 * resend, echo, scan code sets 1 and 2.
 * Absent: set 3, which is answered with RESEND as by keyboards that lack it; typematic repeat, which is the host's to do.
 */
import { record, type View } from "../src/base/record.ts";
import { ByteFifo } from "./byte_fifo.ts";

const ACK = 0xfa;
const RESEND = 0xfe;
const BAT_OK = 0xaa;
const OVERRUN = [0x00, 0xff, 0x00] as const; // by scan code set
const ID = [0xab, 0x83] as const;
const FIRST_COMMAND = 0xed;
const QUEUE_BYTES = 32;
/** Keys leave the rest of the queue to answers. */
const KEY_BYTES = 16;
const BREAK = 0xf0;

export const Ps2KeyboardRecord = record("ps2-keyboard", 1, {
  queue: { array: "u8", length: QUEUE_BYTES },
  queueControl: { array: "u8", length: 2, max: QUEUE_BYTES },
  /** The command whose argument is awaited, or 0. */
  awaiting: "u8",
  lastSent: "u8",
  leds: { type: "u8", max: 7 },
  typematic: { type: "u8", max: 0x7f, reset: 0x2b },
  set: { type: "u8", max: 2, reset: 2 },
  /** Set 1: a break prefix of set 2 came, to be folded into the next code. */
  breaking: { type: "u8", max: 1 },
  scanning: { type: "u8", max: 1, reset: 1 },
});

/** What a code of set 2 is in set 1: the 8042's own table, by the code up to 7Fh. */
const SET1_OF_SET2 = Uint8Array.from(
  ("ff 43 41 3f 3d 3b 3c 58 64 44 42 40 3e 0f 29 59 65 38 2a 70 1d 10 02 5a 66 71 2c 1f 1e 11 03 5b " +
    "67 2e 2d 20 12 05 04 5c 68 39 2f 21 14 13 06 5d 69 31 30 23 22 15 07 5e 6a 72 32 24 16 08 09 5f " +
    "6b 33 25 17 18 0b 0a 60 6c 34 35 26 27 19 0c 61 6d 73 28 74 1a 0d 62 6e 3a 36 1c 1b 75 2b 63 76 " +
    "55 56 77 78 79 7a 0e 7b 7c 4f 7d 4b 47 7e 7f 6f 52 53 50 4c 4d 48 01 45 57 4e 51 4a 37 49 46 54")
    .split(" "),
  (byte) => parseInt(byte, 16),
);

/** Translates one byte from set 2 to set 1. F7 and SysRq have codes past the table; answers and prefixes stay as they are. */
export function set1OfSet2(byte: number): number {
  if (byte === 0x83) return 0x41;
  if (byte === 0x84) return 0x54;
  return byte < 0x80 ? SET1_OF_SET2[byte]! : byte;
}

export class Ps2Keyboard {
  readonly #queue: ByteFifo;

  constructor(private readonly s: View<typeof Ps2KeyboardRecord>) {
    this.#queue = new ByteFifo(s.queue, s.queueControl);
  }

  /** Scroll, Num and Caps Lock, in bits 0, 1 and 2. */
  get leds(): number {
    return this.s.leds;
  }

  get hasByte(): boolean {
    return this.#queue.count > 0;
  }

  /** The next byte to the controller, or -1. */
  take(): number {
    const byte = this.#queue.shift();
    if (byte >= 0) this.s.lastSent = byte;
    return byte;
  }

  /** A key went down or up: its make or break code in set 2. A full buffer gets one overrun code and drops the key. */
  press(codes: readonly number[]): void {
    const s = this.s;
    if (!s.scanning) return;
    const bytes: number[] = [];
    for (const code of codes.slice(0, KEY_BYTES)) {
      if (s.set !== 1) bytes.push(code & 0xff);
      else if (code === BREAK) s.breaking = 1;
      else {
        const translated = set1OfSet2(code & 0xff);
        bytes.push(code < 0xe0 && s.breaking ? translated | 0x80 : translated);
        if (code < 0xe0) s.breaking = 0;
      }
    }
    const space = KEY_BYTES - this.#queue.count;
    if (bytes.length < space) bytes.forEach((byte) => this.#queue.push(byte));
    else if (space > 0) this.#queue.push(OVERRUN[s.set]!);
  }

  /** A byte from the controller. */
  receive(byte: number): void {
    const s = this.s;
    if (s.awaiting !== 0) {
      const command = s.awaiting;
      s.awaiting = 0;
      // A command in place of an argument takes over.
      if (byte < FIRST_COMMAND) return this.#argument(command, byte);
    }
    switch (byte) {
      case 0xed: // set LEDs
      case 0xf0: // scan code set
      case 0xf3: // typematic rate and delay
      case 0xfb: // set 3 key types: the keys follow
      case 0xfc:
      case 0xfd:
        s.awaiting = byte;
        return this.#answer(ACK);
      case 0xee:
        return this.#answer(0xee);
      case 0xf2:
        return this.#answer(ACK, ...ID);
      case 0xf4:
        this.#queue.clear();
        s.scanning = 1;
        return this.#answer(ACK);
      case 0xf5:
        this.#defaults();
        s.scanning = 0;
        return this.#answer(ACK);
      case 0xf6:
        this.#defaults();
        s.scanning = 1;
        return this.#answer(ACK);
      case 0xf7: // set 3, all keys
      case 0xf8:
      case 0xf9:
      case 0xfa:
        return this.#answer(ACK);
      case 0xfe:
        return this.#answer(s.lastSent);
      case 0xff:
        this.#defaults();
        s.leds = 0;
        s.scanning = 1;
        return this.#answer(ACK, BAT_OK);
      default:
        return this.#answer(RESEND);
    }
  }

  #argument(command: number, byte: number): void {
    const s = this.s;
    switch (command) {
      case 0xed:
        s.leds = byte & 7;
        return this.#answer(ACK);
      case 0xf3:
        s.typematic = byte & 0x7f;
        return this.#answer(ACK);
      case 0xf0:
        if (byte === 0) return this.#answer(ACK, s.set);
        if (byte > 2) return this.#answer(RESEND);
        s.set = byte;
        s.breaking = 0;
        this.#queue.clear();
        return this.#answer(ACK);
      default: // a key of set 3: more may follow
        s.awaiting = command;
        return this.#answer(ACK);
    }
  }

  #defaults(): void {
    const s = this.s;
    s.set = 2;
    s.typematic = 0x2b;
    s.breaking = 0;
    this.#queue.clear();
  }

  #answer(...bytes: number[]): void {
    for (const byte of bytes) this.#queue.push(byte);
  }
}
