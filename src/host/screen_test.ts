import { assertEquals } from "@std/assert";
import { screenText } from "./screen.ts";

Deno.test("a text screen's characters are those of code page 437, without blanks at the ends", () => {
  const codes = new Uint8Array(10 * 3).fill(0x20);
  codes.set([0xc9, 0xcd, 0xbb, 0x41, 0x00, 0x80], 0);
  codes.set([0xe1, 0x9b, 0xfb, 0x01], 10);
  assertEquals(screenText({ textCells: () => ({ columns: 10, rows: 3, codes }) }), "╔═╗A Ç\nß¢√☺\n");
  assertEquals(screenText({ textCells: () => null }), null);
});
