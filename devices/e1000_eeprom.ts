/**
 * The EEPROM beside the 82545EM: 64 words behind a Microwire bus that software drives bit by bit, and behind EERD.
 *
 * Spec: [e1000 §5.2] (bus), §5.6 (contents), [at93c46] (instructions).
 * Emulated: reading, one word or many.
 * Absent: writing; it is told to be done, and changes nothing.
 */
import type { View } from "../src/base/record.ts";
import { type E1000Record, EECD } from "./e1000_registers.ts";

const WORDS = 64;
const CHECKSUM = 0xbaba;
/** A start bit, two bits of instruction and six of address. */
const COMMAND_BITS = 9;
const READ = 0b110;
const READY = 1 << 16;

/** What the EEPROM of a card with this address holds. */
export function eepromContents(mac: Uint8Array, device: number): Uint16Array {
  const words = new Uint16Array(WORDS);
  for (let i = 0; i < 3; i++) words[i] = mac[2 * i]! | (mac[2 * i + 1]! << 8);
  words[0x0a] = 0x4408; // Initialization Control 1: power management, subsystem and device IDs are read from here
  words[0x0b] = device;
  words[0x0c] = 0x8086;
  words[0x0d] = device;
  words[0x0e] = 0x8086;
  words[0x0f] = 0x3000; // Initialization Control 2: pause both ways
  const sum = words.subarray(0, WORDS - 1).reduce((a, b) => a + b, 0);
  words[WORDS - 1] = CHECKSUM - sum;
  return words;
}

export class Eeprom {
  constructor(private readonly s: View<typeof E1000Record>, private readonly words: Uint16Array) {}

  word(address: number): number {
    return this.words[address] ?? 0xffff;
  }

  /** The lines change: `before` and `now` are values of EECD. */
  drive(before: number, now: number): void {
    const s = this.s;
    if (!(now & EECD.CS)) {
      s.eepromIn = s.eepromBits = s.eepromAddress = 0;
      s.eepromOut = READY; // of a write that takes no time
      return;
    }
    if (before & EECD.SK || !(now & EECD.SK)) return;
    if (s.eepromBits >= COMMAND_BITS) return this.#shiftOut();
    const bit = now & EECD.DI ? 1 : 0;
    if (s.eepromBits === 0 && bit === 0) return; // no start yet
    s.eepromIn = (s.eepromIn << 1) | bit;
    if (++s.eepromBits < COMMAND_BITS) return;
    s.eepromAddress = s.eepromIn & (WORDS - 1);
    // A zero goes before the first bit.
    if (s.eepromIn >> 6 === READ) this.#load();
    else s.eepromOut = READY;
  }

  /** The word in bits 15 to 0, with a mark behind the last; what is on the line is in bit 16. */
  #load(): void {
    this.s.eepromOut = this.word(this.s.eepromAddress);
    this.s.eepromBits = COMMAND_BITS;
  }

  #shiftOut(): void {
    const s = this.s;
    if (s.eepromIn >> 6 !== READ) return;
    if (s.eepromBits === COMMAND_BITS + 16) {
      // More clocks bring the next word.
      s.eepromAddress = (s.eepromAddress + 1) & (WORDS - 1);
      this.#load();
    }
    s.eepromOut = (s.eepromOut << 1) & 0x1_ffff;
    s.eepromBits++;
  }

  /** The level of DO. */
  get output(): number {
    return this.s.eepromOut & READY ? EECD.DO : 0;
  }
}
