import { assertEquals } from "@std/assert";
import { Flash, FLASH_BLOCK_BYTES, FLASH_COMMAND as C, FLASH_STATUS, FlashRecord } from "./flash.ts";

function chip() {
  const bytes = new Uint8Array(4 * FLASH_BLOCK_BYTES).fill(0xff);
  let changes = 0;
  const { region } = new Flash(FlashRecord.create(), { bytes, onChange: () => changes++ });
  const write = (at: number, ...values: number[]) => values.forEach((v) => region.write(at, 1, v));
  return { bytes, region, write, changes: () => changes };
}

Deno.test("flash: it starts as an array, read at any width", () => {
  const { region, bytes } = chip();
  bytes.set([1, 2, 3, 4], 0x100);
  assertEquals([region.read(0x100, 4), region.read(0x101, 2)], [0x04030201, 0x0302]);
});

Deno.test("flash: programming clears bits, ends in the status, and the array shows it", () => {
  const { region, write, changes } = chip();
  write(0x10, C.PROGRAM, 0x5a);
  assertEquals(region.read(0x10, 1), FLASH_STATUS.READY);
  write(0x10, C.PROGRAM_ALTERNATE, 0xf0);
  write(0x10, C.READ_ARRAY);
  assertEquals([region.read(0x10, 1), changes()], [0x50, 2]);
});

Deno.test("flash: erasing sets all bits of the block, and of no other", () => {
  const { region, write, bytes } = chip();
  bytes.fill(0);
  write(FLASH_BLOCK_BYTES + 7, C.ERASE_BLOCK, C.CONFIRM);
  write(0, C.READ_ARRAY);
  const ends = [FLASH_BLOCK_BYTES - 1, FLASH_BLOCK_BYTES, 2 * FLASH_BLOCK_BYTES - 1, 2 * FLASH_BLOCK_BYTES];
  assertEquals(ends.map((at) => region.read(at, 1)), [0, 0xff, 0xff, 0]);
});

Deno.test("flash: an erase that is not confirmed is a wrong sequence, until the status is cleared", () => {
  const { region, write, bytes } = chip();
  bytes.fill(0);
  write(0, C.ERASE_BLOCK, C.READ_ARRAY);
  assertEquals(region.read(0, 1), FLASH_STATUS.READY | FLASH_STATUS.ERASE_ERROR | FLASH_STATUS.PROGRAM_ERROR);
  write(0, C.CLEAR_STATUS, C.READ_STATUS);
  assertEquals([region.read(0, 1), bytes[0]], [0, 0]);
});

Deno.test("flash: a buffered write of n + 1 bytes takes effect when it is confirmed", () => {
  const { region, write, bytes } = chip();
  write(0x200, C.WRITE_BUFFER, 2);
  [0x11, 0x22, 0x33].forEach((v, i) => write(0x200 + i, v));
  assertEquals(bytes[0x200], 0xff);
  write(0x200, C.CONFIRM);
  assertEquals(region.read(0x200, 1), FLASH_STATUS.READY);
  assertEquals([...bytes.subarray(0x200, 0x204)], [0x11, 0x22, 0x33, 0xff]);
});

Deno.test("flash: the query tells QRY, Intel's command set, the size and the blocks [cfi §2.4]", () => {
  const { region, write } = chip();
  write(0x55, C.QUERY);
  const q = (at: number) => region.read(at, 1);
  assertEquals([0x10, 0x11, 0x12].map(q), [0x51, 0x52, 0x59]);
  assertEquals(q(0x13) | (q(0x14) << 8), 1);
  assertEquals(2 ** q(0x27), 4 * FLASH_BLOCK_BYTES);
  assertEquals(q(0x2c), 1);
  assertEquals([(q(0x2d) | (q(0x2e) << 8)) + 1, (q(0x2f) | (q(0x30) << 8)) * 256], [4, FLASH_BLOCK_BYTES]);
});

Deno.test("flash: it is neither RAM nor ROM to who looks as OVMF does", () => {
  const { region, write } = chip();
  const before = region.read(0, 1);
  write(0, C.CLEAR_STATUS);
  assertEquals(region.read(0, 1), before); // RAM would show the command
  write(0, C.READ_STATUS);
  assertEquals(region.read(0, 1), 0); // ROM would show what it did
  write(0, C.READ_ARRAY);
  assertEquals(region.read(0, 1), before);
});
