/**
 * A NOR flash chip with Intel's command set: what firmware keeps its variables in.
 *
 * Spec: [cfi §2] the query structure; [jesd137] the basic command set of vendor 0001h, the one common to Intel's chips.
 * Emulated: read array, status and identifier, the query; programming of bytes and by buffer; erasing of blocks; clearing of
 * the status. An access of several bytes is one of each, low first: a chip of eight bits.
 * Absent: locking (its commands are accepted), suspending, time: what is started is done at once.
 *
 * DEVIATION(OVMF): a cleared status reads as 0, without the ready bit, by which that firmware tells flash from RAM.
 */
import type { Region } from "../src/base/bus.ts";
import { record, type View } from "../src/base/record.ts";

export const FLASH_BLOCK_BYTES = 4096;
const BUFFER_BYTES = 32;

const COMMAND = {
  PROGRAM: 0x10,
  PROGRAM_ALTERNATE: 0x40,
  ERASE_BLOCK: 0x20,
  CLEAR_STATUS: 0x50,
  LOCK_SETUP: 0x60,
  READ_STATUS: 0x70,
  READ_IDENTIFIER: 0x90,
  QUERY: 0x98,
  CONFIRM: 0xd0,
  WRITE_BUFFER: 0xe8,
  READ_ARRAY: 0xff,
} as const;
export const FLASH_COMMAND = COMMAND;

export const FLASH_STATUS = { PROGRAM_ERROR: 1 << 4, ERASE_ERROR: 1 << 5, READY: 1 << 7 } as const;
/** Manufacturer and device, as READ_IDENTIFIER gives them. */
const IDENTIFIER = [0x89, 0x18] as const;

/** What the next write means. */
const STEP = { COMMAND: 0, PROGRAM: 1, ERASE: 2, LOCK: 3, COUNT: 4, BUFFER: 5, CONFIRM: 6 } as const;

export const FlashRecord = record("flash", 1, {
  /** What reads give: one of READ_ARRAY, READ_STATUS, READ_IDENTIFIER, QUERY. */
  mode: { type: "u8", reset: COMMAND.READ_ARRAY },
  step: { type: "u8", max: STEP.CONFIRM },
  status: { type: "u8", reset: FLASH_STATUS.READY },
  /** Of a buffered write: where it goes, bytes to come, bytes that came. */
  bufferAt: "u32",
  bufferLeft: { type: "u8", max: BUFFER_BYTES },
  bufferCount: { type: "u8", max: BUFFER_BYTES },
  buffer: { array: "u8", length: BUFFER_BYTES },
});

export interface FlashParts {
  /** The array: whole blocks. Shared by every thread. */
  readonly bytes: Uint8Array;
  /** Bytes of the array have changed. */
  readonly onChange: () => void;
}

export class Flash {
  readonly region: Region;
  readonly #query: Uint8Array;

  constructor(private readonly s: View<typeof FlashRecord>, private readonly parts: FlashParts) {
    this.#query = query(parts.bytes.length);
    this.region = {
      read: (offset, size) => {
        let value = 0;
        for (let i = 0; i < size; i++) value = (value | (this.#read(offset + i) << (8 * i))) >>> 0;
        return value;
      },
      write: (offset, size, value) => {
        for (let i = 0; i < size; i++) this.#write(offset + i, (value >>> (8 * i)) & 0xff);
      },
    };
  }

  #read(offset: number): number {
    switch (this.s.mode) {
      case COMMAND.READ_STATUS:
        return this.s.status;
      case COMMAND.READ_IDENTIFIER:
        return IDENTIFIER[offset & 0xff] ?? 0;
      case COMMAND.QUERY:
        return this.#query[(offset & 0xff) - 0x10] ?? 0;
      default:
        return this.parts.bytes[offset] ?? 0xff;
    }
  }

  #write(offset: number, value: number): void {
    const s = this.s;
    switch (s.step) {
      case STEP.COMMAND:
        return this.#command(offset, value);
      case STEP.PROGRAM:
        this.#program(offset, value);
        return this.#done(0);
      case STEP.ERASE:
        if (value !== COMMAND.CONFIRM) return this.#done(FLASH_STATUS.ERASE_ERROR | FLASH_STATUS.PROGRAM_ERROR);
        this.#erase(offset);
        return this.#done(0);
      case STEP.LOCK:
        return this.#done(0);
      case STEP.COUNT:
        // One less than the number of bytes.
        if (value >= BUFFER_BYTES) return this.#done(FLASH_STATUS.PROGRAM_ERROR);
        s.bufferLeft = value + 1;
        s.bufferCount = 0;
        s.step = STEP.BUFFER;
        return;
      case STEP.BUFFER:
        if (s.bufferCount === 0) s.bufferAt = offset;
        s.buffer[s.bufferCount++] = value;
        if (--s.bufferLeft === 0) s.step = STEP.CONFIRM;
        return;
      case STEP.CONFIRM:
        if (value !== COMMAND.CONFIRM) return this.#done(FLASH_STATUS.PROGRAM_ERROR);
        for (let i = 0; i < s.bufferCount; i++) this.#program(s.bufferAt + i, s.buffer[i]!);
        return this.#done(0);
    }
  }

  #command(offset: number, value: number): void {
    const s = this.s;
    switch (value) {
      case COMMAND.PROGRAM:
      case COMMAND.PROGRAM_ALTERNATE:
        s.step = STEP.PROGRAM;
        break;
      case COMMAND.ERASE_BLOCK:
        s.step = STEP.ERASE;
        break;
      case COMMAND.LOCK_SETUP:
        s.step = STEP.LOCK;
        break;
      case COMMAND.WRITE_BUFFER:
        s.step = STEP.COUNT;
        s.bufferAt = offset;
        s.status |= FLASH_STATUS.READY;
        break;
      case COMMAND.CLEAR_STATUS:
        s.status = 0;
        s.mode = COMMAND.READ_ARRAY;
        return;
      case COMMAND.READ_STATUS:
      case COMMAND.READ_IDENTIFIER:
      case COMMAND.QUERY:
        s.mode = value;
        return;
      default:
        // READ_ARRAY, and what is no command.
        s.mode = COMMAND.READ_ARRAY;
        return;
    }
    s.mode = COMMAND.READ_STATUS;
  }

  #done(error: number): void {
    this.s.status |= FLASH_STATUS.READY | error;
    this.s.step = STEP.COMMAND;
    this.s.mode = COMMAND.READ_STATUS;
  }

  /** Programming makes zeroes of ones and nothing else. */
  #program(offset: number, value: number): void {
    const { bytes, onChange } = this.parts;
    if (offset >= bytes.length || (bytes[offset]! & value) === bytes[offset]) return;
    bytes[offset]! &= value;
    onChange();
  }

  #erase(offset: number): void {
    const at = offset - offset % FLASH_BLOCK_BYTES;
    this.parts.bytes.fill(0xff, at, at + FLASH_BLOCK_BYTES);
    this.parts.onChange();
  }
}

/** The query structure from 10h on. [cfi §2.4] */
function query(sizeBytes: number): Uint8Array {
  const blocks = sizeBytes / FLASH_BLOCK_BYTES;
  const word = (v: number) => [v & 0xff, (v >> 8) & 0xff];
  return Uint8Array.from([
    ...[0x51, 0x52, 0x59], // "QRY"
    ...word(0x0001), // Intel's command set
    ...word(0x0031), // its extended query, which is absent
    ...[0, 0, 0, 0], // no other set
    ...[0x45, 0x55, 0x00, 0x00], // 4.5 V to 5.5 V, no programming voltage
    ...[0x07, 0x07, 0x0a, 0x00, 0x04, 0x04, 0x04, 0x00], // typical and greatest times, powers of two
    Math.ceil(Math.log2(sizeBytes)),
    ...word(0), // eight bits wide
    ...word(Math.log2(BUFFER_BYTES)),
    1, // one kind of block
    ...word(blocks - 1),
    ...word(FLASH_BLOCK_BYTES >> 8),
  ]);
}
