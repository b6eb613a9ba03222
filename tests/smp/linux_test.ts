/** Linux on several vCPUs: boots, finds them all, and runs jobs on each. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { guestOrSkip, runGuest, script, trike } from "../boot/guests.ts";

const { guest, ignore } = await guestOrSkip("cloud");

for (const cpus of [2, 4]) {
  Deno.test({ name: `Linux on ${cpus} processors`, ignore }, async () => {
    const { code, stdout, stderr } = await trike(runGuest(
      guest,
      script(`
        echo processors $(nproc)
        for i in $(seq 0 ${cpus - 1}); do
          taskset -c $i sh -c 'seq 20000 | awk "{ s += \\$1 } END { print \\"sum\\", s }"' &
        done
        wait
        for i in $(seq 0 ${cpus - 1}); do
          taskset -c $i sh -c 'echo ran on $(awk "{ print \\$39 }" /proc/self/stat)'
        done
        grep RES: /proc/interrupts
      `),
      "--cpus",
      String(cpus),
    ));
    assertEquals(code, 0, stderr);
    assertMatch(stdout, new RegExp(`^processors ${cpus}$`, "m"));
    assertEquals(stdout.match(/^sum 200010000$/gm)?.length, cpus, stdout);
    for (let i = 0; i < cpus; i++) assertMatch(stdout, new RegExp(`^ran on ${i}$`, "m"));
    const sent = /RES: +([\d ]+)/.exec(stdout)![1]!.trim().split(/ +/).map(Number);
    assertEquals(sent.length, cpus);
    assert(sent.some((n) => n > 0), "interrupts between processors");
    assert(!/BUG|WARNING|stall|lockup/.test(stdout), stdout);
  });
}
