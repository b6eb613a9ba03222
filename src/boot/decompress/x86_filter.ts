/**
 * The x86 branch filter of .xz: the packer replaced the relative target of each CALL and JMP by the absolute one, so that
 * calls of one function look alike; this puts the relative ones back, in place.
 *
 * Spec: [xz §5.3.2] filter 04h; the rules for opcodes that lie inside a target are those of the LZMA SDK's BCJ filter.
 */

/** Whether the top byte of a target is one that the filter handles: a jump of less than 16 MiB either way. */
function isNear(top: number): boolean {
  return top === 0x00 || top === 0xff;
}

/** Undoes the filter on `bytes[from..to)`, which is everything one block holds; `position` is what its first byte counts as. */
export function unfilterX86(bytes: Uint8Array, from: number, to: number, position = 0): void {
  // Which of the three bytes before this one looked like opcodes and were left alone: bit 0 is the nearest.
  let before = 0;
  let last = from - 5;
  const end = to - 4;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = from; at < end; at++) {
    if ((bytes[at]! & 0xfe) !== 0xe8) {
      // Most stretches have none: four bytes a step. The sum carries into a top bit wherever a byte of `x` is not zero.
      while (at + 5 <= end) {
        const x = (view.getInt32(at + 1, true) & 0xfefefefe) ^ 0xe8e8e8e8;
        if (((((x & 0x7f7f7f7f) + 0x7f7f7f7f) | x) & 0x80808080) !== (0x80808080 | 0)) break;
        at += 4;
      }
      continue;
    }
    const distance = at - last;
    last = at;
    before = distance > 3 ? 0 : (before << (distance - 1)) & 7;
    // How many of the target's low bytes such an earlier opcode would own.
    const shared = before >= 4 ? 3 : before >= 2 ? 2 : before;
    const ambiguous = before === 3 || before > 4;
    if (!isNear(bytes[at + 4]!) || (before !== 0 && (ambiguous || isNear(bytes[at + 4 - shared]!)))) {
      before = ((before << 1) & 7) | 1;
      continue;
    }
    const next = position + (at - from) + 5;
    let target = bytes[at + 1]! | bytes[at + 2]! << 8 | bytes[at + 3]! << 16 | bytes[at + 4]! << 24;
    for (;;) {
      target = (target - next) | 0;
      if (before === 0) break;
      const bits = 32 - shared * 8;
      if (!isNear((target >>> (bits - 8)) & 0xff)) break;
      target ^= 2 ** bits - 1;
    }
    bytes[at + 1] = target;
    bytes[at + 2] = target >> 8;
    bytes[at + 3] = target >> 16;
    bytes[at + 4] = (target & 0x01000000) !== 0 ? 0xff : 0;
    at += 4;
    before = 0;
    last = at - 4;
  }
}
