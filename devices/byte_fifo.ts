/**
 * A first-in first-out queue of bytes over two fields of a record: the bytes, and [head, count].
 *
 * Declare the fields as `{ array: "u8", length: N }` and `{ array: "u8", length: 2, max: N }`, so that a restored count is
 * never more than there are bytes.
 */
export class ByteFifo {
  constructor(private readonly bytes: Uint8Array, private readonly control: Uint8Array) {}

  get count(): number {
    return this.control[1]!;
  }

  get space(): number {
    return this.bytes.length - this.count;
  }

  /** Appends a byte; false if there is no room. */
  push(byte: number): boolean {
    if (this.space === 0) return false;
    this.bytes[(this.control[0]! + this.count) % this.bytes.length] = byte;
    this.control[1]!++;
    return true;
  }

  /** The oldest byte, left where it is, or -1. */
  peek(): number {
    return this.count === 0 ? -1 : this.bytes[this.control[0]! % this.bytes.length]!;
  }

  /** Takes the oldest byte, or -1. */
  shift(): number {
    const byte = this.peek();
    if (byte < 0) return -1;
    this.control[0] = (this.control[0]! + 1) % this.bytes.length;
    this.control[1]!--;
    return byte;
  }

  clear(): void {
    this.control.fill(0);
  }
}
