/**
 * A PS/2 mouse with a wheel: what is at the other end of the keyboard controller's second wire.
 *
 * Spec: [ps2 §Mouse] commands, answers and packets; the sample-rate sequences 200, 100, 80 and 200, 200, 80 that turn it
 * into a wheel mouse (3) and a five-button one (4).
 * Emulated: reset with its self test, identification, rates, resolution, scaling (kept; 2:1 acts in stream mode), stream,
 * remote and wrap mode, resend.
 * Absent: the pace of the sample rate: a packet leaves as soon as there is room, and movement until then adds up.
 */
import { record, type View } from "../src/base/record.ts";
import { ByteFifo } from "./byte_fifo.ts";

const ACK = 0xfa;
const NACK = 0xfe;
const BAT_OK = 0xaa;
const QUEUE_BYTES = 32;
/** Packets leave the rest of the queue to answers. */
const PACKET_QUEUE_BYTES = 16;
const MOVE_LIMIT = 0x7fff;

export const Ps2MouseRecord = record("ps2-mouse", 1, {
  queue: { array: "u8", length: QUEUE_BYTES },
  queueControl: { array: "u8", length: 2, max: QUEUE_BYTES },
  /** The command whose argument is awaited, or 0. */
  awaiting: "u8",
  lastSent: "u8",
  rate: { type: "u8", reset: 100 },
  /** The two rates set before this one. */
  rates: { array: "u8", length: 2 },
  resolution: { type: "u8", max: 3, reset: 2 },
  scaling2: { type: "u8", max: 1 },
  remote: { type: "u8", max: 1 },
  wrap: { type: "u8", max: 1 },
  reporting: { type: "u8", max: 1 },
  id: { type: "u8", max: 4 },
  /** Left, right, middle, fourth, fifth. */
  buttons: { type: "u8", max: 0x1f },
  /** The buttons changed, or it moved, since the last packet. */
  changed: { type: "u8", max: 1 },
  dx: "i32",
  dy: "i32",
  dz: "i32",
});

export class Ps2Mouse {
  readonly #queue: ByteFifo;

  constructor(private readonly s: View<typeof Ps2MouseRecord>) {
    this.#queue = new ByteFifo(s.queue, s.queueControl);
  }

  get hasByte(): boolean {
    return this.#queue.count > 0;
  }

  /** The next byte to the controller, or -1. */
  take(): number {
    const byte = this.#queue.shift();
    if (byte >= 0) this.s.lastSent = byte;
    this.#report();
    return byte;
  }

  /** Moves right by `dx`, up by `dy`, turns the wheel towards the user by `dz`; `buttons` is what is down now. */
  move(dx: number, dy: number, dz: number, buttons: number): void {
    const s = this.s;
    s.dx = clamp(s.dx + Math.trunc(dx), MOVE_LIMIT);
    s.dy = clamp(s.dy + Math.trunc(dy), MOVE_LIMIT);
    s.dz = clamp(s.dz + Math.trunc(dz), MOVE_LIMIT);
    s.buttons = buttons & 0x1f;
    s.changed = 1;
    this.#report();
  }

  /** A byte from the controller. */
  receive(byte: number): void {
    const s = this.s;
    if (s.wrap && byte !== 0xec && byte !== 0xff) return this.#answer(byte);
    if (s.awaiting !== 0) {
      const command = s.awaiting;
      s.awaiting = 0;
      if (byte <= 200) return this.#argument(command, byte);
    }
    switch (byte) {
      case 0xe6:
      case 0xe7:
        s.scaling2 = byte & 1;
        return this.#answer(ACK);
      case 0xe8: // resolution
      case 0xf3: // sample rate
        s.awaiting = byte;
        return this.#answer(ACK);
      case 0xe9:
        return this.#answer(ACK, this.#status(), s.resolution, s.rate);
      case 0xea:
      case 0xf0:
        s.remote = byte === 0xf0 ? 1 : 0;
        this.#forget();
        return this.#answer(ACK);
      case 0xeb:
        this.#answer(ACK);
        return this.#packet(false);
      case 0xec:
      case 0xee:
        s.wrap = byte === 0xee ? 1 : 0;
        this.#forget();
        return this.#answer(ACK);
      case 0xf2:
        return this.#answer(ACK, s.id);
      case 0xf4:
      case 0xf5:
        s.reporting = byte === 0xf4 ? 1 : 0;
        this.#forget();
        return this.#answer(ACK);
      case 0xf6:
        this.#defaults();
        return this.#answer(ACK);
      case 0xfe:
        return this.#answer(s.lastSent);
      case 0xff:
        this.#defaults();
        s.wrap = 0;
        s.id = 0;
        return this.#answer(ACK, BAT_OK, 0);
      default:
        return this.#answer(NACK);
    }
  }

  #argument(command: number, byte: number): void {
    const s = this.s;
    if (command === 0xe8) {
      if (byte > 3) return this.#answer(NACK);
      s.resolution = byte;
      return this.#answer(ACK);
    }
    if (s.rates[0] === 200 && byte === 80) {
      if (s.rates[1] === 100) s.id = 3;
      else if (s.rates[1] === 200) s.id = 4;
    }
    s.rates[0] = s.rates[1]!;
    s.rates[1] = byte;
    s.rate = byte;
    this.#answer(ACK);
  }

  #status(): number {
    const s = this.s;
    const buttons = (s.buttons & 1 ? 4 : 0) | (s.buttons & 4 ? 2 : 0) | (s.buttons & 2 ? 1 : 0);
    return buttons | (s.scaling2 << 4) | (s.reporting << 5) | (s.remote << 6);
  }

  /** In stream mode: a packet, if there is something to tell and room. */
  #report(): void {
    const s = this.s;
    if (!s.changed || !s.reporting || s.remote || s.wrap) return;
    if (this.#queue.count + 4 <= PACKET_QUEUE_BYTES) this.#packet(true);
  }

  #packet(stream: boolean): void {
    const s = this.s;
    const dx = clamp(s.dx, 255), dy = clamp(s.dy, 255), dz = clamp(s.dz, 7);
    s.dx -= dx;
    s.dy -= dy;
    s.dz -= dz;
    const x = this.#scale(dx, stream), y = this.#scale(dy, stream);
    const bytes = [(s.buttons & 7) | 0x08 | (x < 0 ? 0x10 : 0) | (y < 0 ? 0x20 : 0), x & 0xff, y & 0xff];
    if (s.id === 3) bytes.push(dz & 0xff);
    if (s.id === 4) bytes.push((dz & 0x0f) | ((s.buttons & 0x18) << 1));
    if (s.id === 0) s.dz = 0;
    s.changed = s.dx !== 0 || s.dy !== 0 || s.dz !== 0 ? 1 : 0;
    this.#answer(...bytes);
  }

  /** Scaling 2:1 doubles what is past five counts and evens out what is below. */
  #scale(d: number, stream: boolean): number {
    if (!stream || !this.s.scaling2) return d;
    const size = Math.abs(d);
    return clamp(Math.sign(d) * (size > 5 ? 2 * size : [0, 1, 1, 3, 6, 9][size]!), 255);
  }

  #forget(): void {
    const s = this.s;
    s.dx = s.dy = s.dz = 0;
    s.changed = 0;
    this.#queue.clear();
  }

  #defaults(): void {
    const s = this.s;
    s.rate = 100;
    s.rates.fill(0);
    s.resolution = 2;
    s.scaling2 = 0;
    s.remote = 0;
    s.reporting = 0;
    this.#forget();
  }

  #answer(...bytes: number[]): void {
    for (const byte of bytes) this.#queue.push(byte);
  }
}

function clamp(value: number, limit: number): number {
  return Math.max(-limit, Math.min(limit, value));
}
