/** Bytes of 64-bit code with labels. */
export class Asm {
  readonly bytes: number[] = [];
  readonly labels = new Map<string, number>();
  readonly #fixups: { at: number; label: string; size: 1 | 4; add: number }[] = [];

  /** `origin`: where in the address space the first byte is, less what labels of other places count from. */
  constructor(readonly origin = 0) {}

  get at(): number {
    return this.origin + this.bytes.length;
  }
  label(name: string): void {
    this.labels.set(name, this.at);
  }
  /** An address that is no place in this code: offsets count from the same base as `origin`. */
  place(name: string, at: number): void {
    this.labels.set(name, at);
  }

  /** Bytes in hexadecimal, blanks between them as one likes. */
  hex(text: string): void {
    for (const pair of text.replaceAll(" ", "").match(/../g) ?? []) this.bytes.push(parseInt(pair, 16));
  }
  raw(bytes: readonly number[]): void {
    this.bytes.push(...bytes);
  }
  u32(value: number): void {
    for (let n = 0; n < 32; n += 8) this.bytes.push((value >>> n) & 0xff);
  }
  u64(value: bigint): void {
    for (let n = 0n; n < 64n; n += 8n) this.bytes.push(Number((value >> n) & 0xffn));
  }

  /** A 32-bit displacement to a label from `add` bytes behind the field: the instruction's end. */
  rel32(label: string, add = 0): void {
    this.#fixups.push({ at: this.bytes.length, label, size: 4, add });
    this.u32(0);
  }
  jmp(label: string): void {
    this.hex("E9");
    this.rel32(label);
  }
  jcc(cc: number, label: string): void {
    this.hex("0F");
    this.bytes.push(0x80 | cc);
    this.rel32(label);
  }
  /** With an 8-bit displacement: the label must be near. */
  short(opcode: number, label: string): void {
    this.bytes.push(opcode);
    this.#fixups.push({ at: this.bytes.length, label, size: 1, add: 0 });
    this.bytes.push(0);
  }
  call(label: string): void {
    this.hex("E8");
    this.rel32(label);
  }
  /** LEA r64, [RIP + label]. */
  lea(r: number, label: string): void {
    this.raw([0x48 | ((r >> 3) << 2), 0x8d, 0x05 | ((r & 7) << 3)]);
    this.rel32(label);
  }
  /** MOV r64, imm64. */
  mov(r: number, value: bigint): void {
    this.raw([0x48 | (r >> 3), 0xb8 | (r & 7)]);
    this.u64(BigInt.asUintN(64, value));
  }
  /** MOV r32, imm32. */
  mov32(r: number, value: number): void {
    if (r > 7) this.raw([0x41]);
    this.raw([0xb8 | (r & 7)]);
    this.u32(value);
  }

  /** Settles displacements; throws if a short one does not reach. */
  finish(): Uint8Array {
    for (const { at, label, size, add } of this.#fixups) {
      const to = this.labels.get(label);
      if (to === undefined) throw new Error(`no label ${label}`);
      const d = to - (this.origin + at + size + add);
      if (size === 1 && (d < -128 || d > 127)) throw new Error(`${label} is ${d} away`);
      for (let n = 0; n < size; n++) this.bytes[at + n] = (d >> (8 * n)) & 0xff;
    }
    return Uint8Array.from(this.bytes);
  }
}
