/**
 * One client of the VNC server, from its greeting to its end.
 *
 * Spec: [rfc6143 §7.1] the handshake, also of protocol versions 3.3 and 3.7; [rfc6143 §7.5] messages.
 * The client is no more trusted than a guest: what it sends is bounded, and what is not understood ends the connection.
 */
import type { Screen } from "../screen.ts";
import { vncResponse } from "./des.ts";
import { encodeHextile, encodeRaw, ENCODING, type Picture, type Rect, ZrleEncoder } from "./encodings.ts";
import { FRAME_MS, type Frames, Shown } from "./frames.ts";
import { codesOf } from "./keys.ts";
import { colorMap, decodeFormat, encodeFormat, FORMAT_BYTES, NATIVE, PixelWriter } from "./pixel_format.ts";

/** What a connection reads and writes: a TCP connection, or a test's two ends. */
export interface Stream {
  read(into: Uint8Array): Promise<number | null>;
  write(bytes: Uint8Array): Promise<number>;
  close(): void;
}

export interface ConnectionParts {
  readonly screen: Screen;
  readonly frames: Frames;
  readonly pointer: Pointer;
  readonly name: string;
  /** Null: none is asked for. */
  readonly password: Uint8Array | null;
}

const SECURITY = { NONE: 1, VNC: 2 } as const;
const TO_SERVER = {
  SET_PIXEL_FORMAT: 0,
  SET_ENCODINGS: 2,
  UPDATE_REQUEST: 3,
  KEY: 4,
  POINTER: 5,
  CUT_TEXT: 6,
} as const;
const TO_CLIENT = { UPDATE: 0, COLOR_MAP: 1 } as const;
const MAX_CUT_TEXT = 1 << 20;
/** How long to wait before a wrong password is answered. */
const REFUSAL_MS = 1000;
/** A display that does not change is looked at less often. */
const IDLE_FRAMES = 30, IDLE_MS = 100;

/** The connection is over: by its client, or because of what that sent. */
export class Disconnect extends Error {}

/** Where the pointer is, for all clients: RFB tells places, as a guest's tablet does; a guest's mouse tells ways. */
export class Pointer {
  #x = -1;
  #y = -1;
  #buttons = 0;

  constructor(private readonly screen: Screen) {}

  /** Buttons as RFB has them: left 1, middle 2, right 4, wheel up 8, wheel down 16. */
  at(x: number, y: number, buttons: number): void {
    const dx = this.#x < 0 ? 0 : x - this.#x, dy = this.#y < 0 ? 0 : this.#y - y;
    const pressed = buttons & ~this.#buttons;
    const wheel = (pressed & 16 ? 1 : 0) - (pressed & 8 ? 1 : 0);
    const ps2 = (buttons & 1) | ((buttons & 4) >> 1) | ((buttons & 2) << 1);
    const acted = dx !== 0 || dy !== 0 || wheel !== 0 || ((buttons ^ this.#buttons) & 7) !== 0;
    const pointed = (acted || this.#x < 0) && this.screen.point(x, y, wheel, ps2);
    if (acted && !pointed) this.screen.mouse(dx, dy, wheel, ps2);
    this.#x = x;
    this.#y = y;
    this.#buttons = buttons;
  }
}

export class Connection {
  readonly #shown = new Shown();
  readonly #zrle = new ZrleEncoder();
  #writer = new PixelWriter(NATIVE);
  #encoding: number = ENCODING.RAW;
  #resizes = false;
  #wanted = false;
  #wake: () => void = () => {};
  #ended = false;
  /** Keysyms that are down: they come up when the client goes. */
  readonly #down = new Set<number>();
  #buffer: Uint8Array = new Uint8Array();
  #written: Promise<void> = Promise.resolve();

  constructor(private readonly stream: Stream, private readonly parts: ConnectionParts) {}

  /** Serves the client until it goes. Does not throw. */
  async serve(): Promise<void> {
    try {
      await this.#handshake();
      const sending = this.#sendUpdates();
      try {
        for (;;) await this.#message();
      } finally {
        this.#ended = true;
        this.#wake();
        await sending;
      }
    } catch {
      // Whatever went wrong with a client is its own affair; the guest and other clients go on.
    } finally {
      for (const keysym of this.#down) this.parts.screen.key(codesOf(keysym, false));
      this.close();
    }
  }

  close(): void {
    this.#ended = true;
    this.#wake();
    try {
      this.stream.close();
    } catch {
      // closed already
    }
  }

  /** Exactly `n` bytes. */
  async #read(n: number): Promise<DataView> {
    while (this.#buffer.length < n) {
      const chunk = new Uint8Array(4096);
      const got = await this.stream.read(chunk);
      if (got === null) throw new Disconnect();
      const joined = new Uint8Array(this.#buffer.length + got);
      joined.set(this.#buffer);
      joined.set(chunk.subarray(0, got), this.#buffer.length);
      this.#buffer = joined;
    }
    const bytes = this.#buffer.slice(0, n);
    this.#buffer = this.#buffer.subarray(n);
    return new DataView(bytes.buffer);
  }

  /** Writes one message; those of the reading and the updating side do not mix. */
  #write(...parts: readonly (Uint8Array | readonly number[])[]): Promise<void> {
    const all = parts.map((part) => part instanceof Uint8Array ? part : Uint8Array.from(part));
    return this.#written = this.#written.then(async () => {
      for (const bytes of all) {
        for (let at = 0; at < bytes.length;) at += await this.stream.write(bytes.subarray(at));
      }
    });
  }

  async #handshake(): Promise<void> {
    await this.#write(ascii("RFB 003.008\n"));
    const version = text(await this.#read(12));
    const minor = /^RFB 003\.00(\d)\n$/.exec(version)?.[1];
    if (minor === undefined) throw new Disconnect();
    const type = this.parts.password === null ? SECURITY.NONE : SECURITY.VNC;
    // Who says 3.5 is to be treated as 3.3. [rfc6143 §7.1.1]
    const old = Number(minor) < 7, newest = Number(minor) >= 8;
    if (old) await this.#write(u32(type));
    else {
      await this.#write([1, type]);
      if ((await this.#read(1)).getUint8(0) !== type) throw new Disconnect();
    }
    if (this.parts.password !== null) await this.#authenticate(this.parts.password, newest);
    else if (newest) await this.#write(u32(0));
    await this.#read(1); // ClientInit: whether others may stay; they always may
    const { width, height } = this.parts.screen.size;
    this.#shown.resize(width, height);
    const name = new TextEncoder().encode(this.parts.name);
    await this.#write(u16(width), u16(height), encodeFormat(NATIVE), u32(name.length), name);
  }

  async #authenticate(password: Uint8Array, newest: boolean): Promise<void> {
    const challenge = crypto.getRandomValues(new Uint8Array(16));
    await this.#write(challenge);
    const answer = new Uint8Array((await this.#read(16)).buffer);
    const right = vncResponse(password, challenge);
    if (answer.every((byte, i) => byte === right[i])) return await this.#write(u32(0));
    await new Promise((resolve) => setTimeout(resolve, REFUSAL_MS));
    const reason = ascii("Wrong password");
    await this.#write(u32(1), ...(newest ? [u32(reason.length), reason] : []));
    throw new Disconnect();
  }

  async #message(): Promise<void> {
    const type = (await this.#read(1)).getUint8(0);
    switch (type) {
      case TO_SERVER.SET_PIXEL_FORMAT: {
        const body = await this.#read(3 + FORMAT_BYTES);
        const format = decodeFormat(new Uint8Array(body.buffer, 3));
        if (format === null) throw new Disconnect();
        this.#writer = new PixelWriter(format);
        if (!format.trueColor) {
          const colors = [...colorMap()].flatMap((v) => [v >> 8, v & 255]);
          await this.#write([TO_CLIENT.COLOR_MAP, 0, ...u16(0), ...u16(256), ...colors]);
        }
        return;
      }
      case TO_SERVER.SET_ENCODINGS: {
        const count = (await this.#read(3)).getUint16(1);
        const body = await this.#read(4 * count);
        const asked = Array.from({ length: count }, (_, i) => body.getInt32(4 * i));
        const known: readonly number[] = [ENCODING.ZRLE, ENCODING.HEXTILE, ENCODING.RAW];
        this.#encoding = asked.find((e) => known.includes(e)) ?? ENCODING.RAW;
        this.#resizes = asked.includes(ENCODING.DESKTOP_SIZE);
        return;
      }
      case TO_SERVER.UPDATE_REQUEST: {
        const b = await this.#read(9);
        const [x, y, width, height] = [1, 3, 5, 7].map((at) => b.getUint16(at)) as [number, number, number, number];
        if (b.getUint8(0) === 0) this.#shown.forget({ x, y, width, height });
        this.#wanted = true;
        return this.#wake();
      }
      case TO_SERVER.KEY: {
        const b = await this.#read(7);
        const keysym = b.getUint32(3), down = b.getUint8(0) !== 0;
        const codes = codesOf(keysym, down);
        if (codes.length === 0) return;
        if (down) this.#down.add(keysym);
        else this.#down.delete(keysym);
        return this.parts.screen.key(codes);
      }
      case TO_SERVER.POINTER: {
        const b = await this.#read(5);
        return this.parts.pointer.at(b.getUint16(1), b.getUint16(3), b.getUint8(0));
      }
      case TO_SERVER.CUT_TEXT: {
        let left = (await this.#read(7)).getUint32(3);
        if (left > MAX_CUT_TEXT) throw new Disconnect();
        for (; left > 0; left -= Math.min(left, 4096)) await this.#read(Math.min(left, 4096));
        return;
      }
      default:
        throw new Disconnect();
    }
  }

  /** Answers requests as soon as there is something to answer with. */
  async #sendUpdates(): Promise<void> {
    try {
      for (let unchanged = 0; !this.#ended;) {
        if (!this.#wanted) {
          await new Promise<void>((resolve) => this.#wake = resolve);
          continue;
        }
        const sent = await this.#update();
        unchanged = sent ? 0 : unchanged + 1;
        await new Promise((resolve) => setTimeout(resolve, unchanged > IDLE_FRAMES ? IDLE_MS : FRAME_MS));
      }
    } catch {
      this.close();
    }
  }

  /** False if there was nothing to tell. */
  async #update(): Promise<boolean> {
    const picture = this.parts.frames.take();
    const { width, height } = picture;
    if (this.#resizes && (width !== this.#shown.width || height !== this.#shown.height)) {
      this.#shown.resize(width, height);
      this.#wanted = false;
      await this.#write(header(1), rectHeader({ x: 0, y: 0, width, height }, ENCODING.DESKTOP_SIZE));
      return true;
    }
    const rects = this.#shown.update(picture);
    if (rects.length === 0) return false;
    this.#wanted = false;
    const parts = rects.flatMap((r) => [rectHeader(r, this.#encoding), this.#encode(this.#shown.picture, r)]);
    await this.#write(header(rects.length), ...parts);
    return true;
  }

  #encode(picture: Picture, r: Rect): Uint8Array {
    if (this.#encoding === ENCODING.ZRLE) return this.#zrle.encode(picture, r, this.#writer);
    return this.#encoding === ENCODING.HEXTILE
      ? encodeHextile(picture, r, this.#writer)
      : encodeRaw(picture, r, this.#writer);
  }
}

function header(rects: number): number[] {
  return [TO_CLIENT.UPDATE, 0, ...u16(rects)];
}
function rectHeader(r: Rect, encoding: number): number[] {
  return [r.x, r.y, r.width, r.height].flatMap(u16).concat(u32(encoding >>> 0));
}
function u16(v: number): number[] {
  return [v >> 8, v & 255];
}
function u32(v: number): number[] {
  return [v >>> 24, (v >> 16) & 255, (v >> 8) & 255, v & 255];
}
function ascii(s: string): Uint8Array {
  return new TextEncoder().encode(s);
}
function text(view: DataView): string {
  return new TextDecoder().decode(view);
}
