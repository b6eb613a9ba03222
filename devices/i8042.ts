/**
 * The 8042 keyboard controller of a PC, at ports 60h and 64h, with a keyboard and a mouse on its two wires.
 *
 * Spec: [i8042 §Commands] of the AT and PS/2; [ps2] the devices.
 * Emulated: self test, interface tests, the configuration byte and the controller's RAM, translation to set 1, output port
 * with A20 and reset, both wires with their interrupts.
 * Absent: timing: a byte moves on as soon as the one before is read; the keyboard lock; the password commands answer that
 * there is no password.
 */
import { type Region, registerBank } from "../src/base/bus.ts";
import type { IrqLine } from "../src/base/irq.ts";
import { record, type View } from "../src/base/record.ts";
import { ByteFifo } from "./byte_fifo.ts";
import { Ps2Keyboard, type Ps2KeyboardRecord, set1OfSet2 } from "./ps2_keyboard.ts";
import { Ps2Mouse, type Ps2MouseRecord } from "./ps2_mouse.ts";

export const I8042_DATA_PORT = 0x60;
export const I8042_COMMAND_PORT = 0x64;

export const I8042_DATA = { DATA: { at: 0, width: 1, access: "rw" } } as const;
/** Status when read, command when written. */
export const I8042_COMMAND = { STATUS_COMMAND: { at: 0, width: 1, access: "rw" } } as const;

const STATUS = { OBF: 1 << 0, SYS: 1 << 2, A2: 1 << 3, UNLOCKED: 1 << 4, AUX_OBF: 1 << 5 } as const;
const CONFIG = { INT: 1 << 0, INT2: 1 << 1, SYS: 1 << 2, DISABLE: 1 << 4, DISABLE2: 1 << 5, XLAT: 1 << 6 } as const;
const OUTPUT = { NOT_RESET: 1 << 0, A20: 1 << 1, OBF: 1 << 4, AUX_OBF: 1 << 5, CLOCKS: 0xc0 } as const;
const INPUT_PORT = 0xa0; // keyboard not inhibited, manufacturing jumper not installed
const SELF_TEST_OK = 0x55;
const INTERFACE_OK = 0x00;
const NO_PASSWORD = 0xf1;
const BREAK = 0xf0;

/** Who the byte in the output buffer is from. */
const NOBODY = 0, CONTROLLER = 1, KEYBOARD = 2, MOUSE = 3;
const REPLY_BYTES = 8;

export const I8042Record = record("i8042", 1, {
  /** Byte 0 of the controller's RAM. It starts as firmware leaves it for the simplest of guests: with set 1 codes. */
  config: { type: "u8", reset: CONFIG.XLAT },
  /** The bytes after it. */
  ram: { array: "u8", length: 31 },
  outputPort: { type: "u8", reset: OUTPUT.NOT_RESET | OUTPUT.A20 },
  buffer: "u8",
  source: { type: "u8", max: MOUSE },
  /** The command whose argument port 60h takes next, or 0. */
  awaiting: "u8",
  lastWasCommand: { type: "u8", max: 1 },
  reply: { array: "u8", length: REPLY_BYTES },
  replyControl: { array: "u8", length: 2, max: REPLY_BYTES },
  /** Translation: F0h came, and makes the next code a break code. */
  breaking: { type: "u8", max: 1 },
});

/** The three records of the controller and its devices. */
export interface I8042Views {
  readonly controller: View<typeof I8042Record>;
  readonly keyboard: View<typeof Ps2KeyboardRecord>;
  readonly mouse: View<typeof Ps2MouseRecord>;
}

interface Parts {
  readonly irq1: IrqLine;
  readonly irq12: IrqLine;
  /** The output port's wish; port 92h has another, and either opens A20. */
  readonly a20: IrqLine;
  /** The reset line was pulsed. */
  readonly onReset: () => void;
}

export class I8042 {
  readonly data: Region;
  readonly command: Region;
  readonly keyboard: Ps2Keyboard;
  readonly mouse: Ps2Mouse;
  readonly #reply: ByteFifo;
  readonly #s: View<typeof I8042Record>;

  constructor(views: I8042Views, private readonly parts: Parts) {
    const s = this.#s = views.controller;
    this.keyboard = new Ps2Keyboard(views.keyboard);
    this.mouse = new Ps2Mouse(views.mouse);
    this.#reply = new ByteFifo(s.reply, s.replyControl);
    this.data = registerBank<typeof I8042_DATA>({
      registers: I8042_DATA,
      readRegister: () => this.#readData(),
      writeRegister: (_name, value) => {
        s.lastWasCommand = 0;
        this.#writeData(value);
        this.settle();
      },
    });
    this.command = registerBank<typeof I8042_COMMAND>({
      registers: I8042_COMMAND,
      readRegister: () => this.#status(),
      writeRegister: (_name, value) => {
        s.lastWasCommand = 1;
        s.awaiting = 0;
        this.#writeCommand(value);
        this.settle();
      },
    });
  }

  /** A key went down or up: its make or break code in scan code set 2, prefixes included. */
  injectKey(codes: readonly number[]): void {
    this.keyboard.press(codes);
    this.settle();
  }

  /** The mouse moved right by `dx`, up by `dy`, its wheel towards the user by `dz`; `buttons`: left 1, right 2, middle 4. */
  injectMouse(dx: number, dy: number, dz: number, buttons: number): void {
    this.mouse.move(dx, dy, dz, buttons);
    this.settle();
  }

  /** Moves the next byte into an empty output buffer; drives the interrupts and A20. */
  settle(): void {
    this.#fill();
    const config = this.#s.config, full = this.#full, aux = this.#s.source === MOUSE;
    this.parts.irq1.set(full && !aux && (config & CONFIG.INT) !== 0);
    this.parts.irq12.set(full && aux && (config & CONFIG.INT2) !== 0);
    this.parts.a20.set((this.#s.outputPort & OUTPUT.A20) !== 0);
  }

  get #full(): boolean {
    return this.#s.source !== NOBODY;
  }

  #fill(): void {
    if (this.#full) return;
    if (this.#reply.count > 0) this.#put(this.#reply.shift(), CONTROLLER);
    else {
      // A prefix that translation swallows leaves the buffer empty: the queue behind it is finite.
      while (!this.#full && !(this.#s.config & CONFIG.DISABLE) && this.keyboard.hasByte) this.#fromKeyboard();
      if (!this.#full && !(this.#s.config & CONFIG.DISABLE2) && this.mouse.hasByte) this.#put(this.mouse.take(), MOUSE);
    }
  }

  #fromKeyboard(): void {
    const s = this.#s, byte = this.keyboard.take();
    if (!(this.#s.config & CONFIG.XLAT)) return this.#put(byte, KEYBOARD);
    if (byte === BREAK) {
      s.breaking = 1;
      return;
    }
    this.#put(set1OfSet2(byte) | (s.breaking && byte < 0xe0 ? 0x80 : 0), KEYBOARD);
    if (byte < 0xe0) s.breaking = 0;
  }

  #put(byte: number, source: number): void {
    this.#s.buffer = byte;
    this.#s.source = source;
  }

  #readData(): number {
    const s = this.#s;
    s.source = NOBODY;
    const byte = s.buffer;
    // The lines fall before the next byte raises them: each byte is an edge.
    this.parts.irq1.set(false);
    this.parts.irq12.set(false);
    this.settle();
    return byte;
  }

  #status(): number {
    const s = this.#s;
    return (this.#full ? STATUS.OBF : 0) | (this.#s.config & CONFIG.SYS ? STATUS.SYS : 0) |
      (s.lastWasCommand ? STATUS.A2 : 0) | STATUS.UNLOCKED | (s.source === MOUSE ? STATUS.AUX_OBF : 0);
  }

  #writeCommand(value: number): void {
    const s = this.#s;
    if (value >= 0x20 && value < 0x40) return this.#answer(value === 0x20 ? s.config : s.ram[(value & 0x1f) - 1]!);
    if (value >= 0x60 && value < 0x80) {
      s.awaiting = value;
      return;
    }
    if (value >= 0xf0) { // pulses the output port's low four lines where the bit is clear
      if (!(value & OUTPUT.NOT_RESET)) this.parts.onReset();
      return;
    }
    switch (value) {
      case 0xa4:
        return this.#answer(NO_PASSWORD);
      case 0xa7:
        s.config |= CONFIG.DISABLE2;
        return;
      case 0xa8:
        s.config &= ~CONFIG.DISABLE2;
        return;
      case 0xa9:
      case 0xab:
        return this.#answer(INTERFACE_OK);
      case 0xaa:
        this.#reply.clear();
        s.source = NOBODY;
        s.config |= CONFIG.SYS;
        return this.#answer(SELF_TEST_OK);
      case 0xad:
        s.config |= CONFIG.DISABLE;
        return;
      case 0xae:
        s.config &= ~CONFIG.DISABLE;
        return;
      case 0xc0:
        return this.#answer(INPUT_PORT);
      case 0xd0:
        return this.#answer(this.#outputPort());
      case 0xd1: // write output port
      case 0xd2: // write as if from the keyboard
      case 0xd3: // write as if from the mouse
      case 0xd4: // write to the mouse
        s.awaiting = value;
        return;
      case 0xdd:
        s.outputPort &= ~OUTPUT.A20;
        return;
      case 0xdf:
        s.outputPort |= OUTPUT.A20;
        return;
      case 0xe0: // test inputs: the two clock lines, low while an interface is disabled
        return this.#answer((this.#s.config & CONFIG.DISABLE ? 0 : 1) | (this.#s.config & CONFIG.DISABLE2 ? 0 : 2));
    }
  }

  #writeData(value: number): void {
    const s = this.#s, command = s.awaiting;
    s.awaiting = 0;
    if (command >= 0x60 && command < 0x80) {
      if (command === 0x60) s.config = value;
      else s.ram[(command & 0x1f) - 1] = value;
      return;
    }
    switch (command) {
      case 0xd1:
        s.outputPort = value | OUTPUT.NOT_RESET;
        if (!(value & OUTPUT.NOT_RESET)) this.parts.onReset();
        return;
      case 0xd2:
        return this.#put(value, KEYBOARD);
      case 0xd3:
        return this.#put(value, MOUSE);
      case 0xd4:
        s.config &= ~CONFIG.DISABLE2;
        return this.mouse.receive(value);
      default: // talking to the keyboard enables its interface
        s.config &= ~CONFIG.DISABLE;
        return this.keyboard.receive(value);
    }
  }

  #outputPort(): number {
    const buffer = !this.#full ? 0 : this.#s.source === MOUSE ? OUTPUT.AUX_OBF : OUTPUT.OBF;
    return (this.#s.outputPort & (OUTPUT.NOT_RESET | OUTPUT.A20 | 0x0c)) | OUTPUT.CLOCKS | buffer;
  }

  /** An answer of the controller's own goes before what the devices send. A guest that reads none loses the last. */
  #answer(byte: number): void {
    this.#reply.push(byte);
  }
}
