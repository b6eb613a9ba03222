import { assertEquals } from "@std/assert";
import { desEncrypt, vncResponse } from "./des.ts";

const bytes = (hex: string) => Uint8Array.from(hex.match(/../g)!, (x) => parseInt(x, 16));

// Of NBS Special Publication 500-20, "Validating the Correctness of Hardware Implementations of the NBS DES".
for (
  const [key, plain, cipher] of [
    ["0101010101010101", "95f8a5e5dd31d900", "8000000000000000"],
    ["0101010101010101", "0000000000000001", "166b40b44aba4bd6"],
    ["8001010101010101", "0000000000000000", "95a8d72813daa94d"],
    ["1046913489980131", "0000000000000000", "88d55e54f54c97b4"],
    ["7ca110454a1a6e57", "01a1d6d039776742", "690f5b0d9a26939b"],
    ["0131d9619dc1376e", "5cd54ca83def57da", "7a389d10354bd271"],
    ["07a1133e4a0b2686", "0248d43806f67172", "868ebb51cab4599a"],
    ["3849674c2602319e", "51454b582ddf440a", "7178876e01f19b2a"],
    ["04b915ba43feb5b6", "42fd443059577fa2", "af37fb421f8c4095"],
    ["0113b970fd34f2ce", "059b5e0851cf143a", "86a560f10ec6d85b"],
  ] as const
) {
  Deno.test(`DES: ${plain} under ${key}`, () => assertEquals(desEncrypt(bytes(key), bytes(plain)), bytes(cipher)));
}

Deno.test("VNC authentication: the password's bytes are the key, each with its bits reversed", () => {
  // "e" is 65h, reversed A6h.
  const key = Uint8Array.of(0xa6, 0, 0, 0, 0, 0, 0, 0), half = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
  const answer = vncResponse(new TextEncoder().encode("e"), Uint8Array.of(...half, ...half));
  assertEquals(answer, Uint8Array.of(...desEncrypt(key, half), ...desEncrypt(key, half)));
});
