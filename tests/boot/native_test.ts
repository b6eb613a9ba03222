/** Linux in native code: programs on two vCPUs give what they should, and it is native code that has run them. */
import { assert, assertEquals } from "@std/assert";
import { nativeRefusal } from "../../src/engine/soft/native/available.ts";
import { guestOrSkip, runGuest, script, sha256, trike, withFolder } from "./guests.ts";

const { guest, ignore } = await guestOrSkip("cloud");
const refusal = nativeRefusal();
if (refusal) console.log(`skipped: a boot in native code: ${refusal.why}`);
const PROGRAMS = 4, LINES = 2000;

Deno.test(
  { name: "Linux in native code, on two vCPUs", ignore: ignore || refusal !== null },
  () =>
    withFolder(async (folder) => {
      const text = `for i in ${Array.from({ length: PROGRAMS }, (_, i) => i + 1).join(" ")}; do
  (seq $i ${LINES} | sort -r | gzip | gunzip | sort -n | sha256sum | sed "s/^/sum $i /") &
done
wait
`;
      const stats = `${folder}/stats.json`, allow = ["--allow-read", "--allow-write", "--allow-env", "--allow-ffi"];
      const words = runGuest(guest, script(text), "--cpus", "2", "--stats", stats);
      const { code, stdout, stderr } = await trike(words.map((word) => word === "soft" ? "soft:native" : word), allow);
      assertEquals(code, 0, stdout + stderr);
      for (let i = 1; i <= PROGRAMS; i++) {
        const lines = Array.from({ length: LINES - i + 1 }, (_, k) => `${i + k}\n`).join("");
        const sum = await sha256(new TextEncoder().encode(lines) as Uint8Array<ArrayBuffer>);
        assertEquals(new RegExp(`^sum ${i} ([0-9a-f]+)`, "m").exec(stdout)?.[1], sum, stdout);
      }
      const { vcpus } = JSON.parse(await Deno.readTextFile(stats)) as { vcpus: Record<string, number>[] };
      for (const { instructions, compiledInstructions, nativeBytes } of vcpus) {
        assert(
          nativeBytes! > 0 && compiledInstructions! > instructions! / 2,
          `${compiledInstructions} of ${instructions}`,
        );
      }
    }),
);
