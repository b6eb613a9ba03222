/** A guest on another processor: Linux finds AVX2, FMA and F16C, and its programs share the wide registers. */
import { assertEquals } from "@std/assert";
import { guestOrSkip, runGuest, script, sha256, trike } from "./guests.ts";

const { guest, ignore } = await guestOrSkip("cloud");
const PROGRAMS = 3, LINES = 1000;

Deno.test({ name: "Linux on --cpu x86-64-v3", ignore }, async () => {
  // The C library of the guest's programs copies and compares with AVX2 where there is any; several at a time, so that the
  // kernel saves and restores what they have in the registers.
  const text =
    `grep -owE 'avx|avx2|fma|f16c|bmi2|movbe|aes' /proc/cpuinfo | sort -u | tr '\\n' ' ' | sed 's/^/has /'; echo
for i in ${Array.from({ length: PROGRAMS }, (_, i) => i + 1).join(" ")}; do
  (seq $i ${LINES} | sort -r | sort -n | sha256sum | sed "s/^/sum $i /") &
done
wait
`;
  const { code, stdout } = await trike(runGuest(guest, script(text), "--cpu", "x86-64-v3"));
  assertEquals(code, 0, stdout);
  assertEquals(/^has (.*?) *$/m.exec(stdout)?.[1], "avx avx2 bmi2 f16c fma movbe", stdout);
  for (let i = 1; i <= PROGRAMS; i++) {
    const lines = Array.from({ length: LINES - i + 1 }, (_, k) => `${i + k}\n`).join("");
    const sum = await sha256(new TextEncoder().encode(lines) as Uint8Array<ArrayBuffer>);
    assertEquals(new RegExp(`^sum ${i} ([0-9a-f]+)`, "m").exec(stdout)?.[1], sum, stdout);
  }
});
