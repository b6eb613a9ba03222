/** Linux under the engine hvf, on the double of the framework: two processors, to the shell, and on under the engine soft. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { type Machine, startMachine } from "../../../src/machine/machine.ts";
import { Snapshot } from "../../../src/machine/snapshot.ts";
import type { MachineSpec } from "../../../src/machine/spec.ts";
import { guestOrSkip, script, withFolder } from "../../boot/guests.ts";
import { refusal } from "./double.ts";
import { doubled } from "./machine.ts";

if (refusal !== null) console.log(`skipped: ${refusal}`);
const { guest, ignore } = refusal === null
  ? await guestOrSkip("cloud")
  : { guest: { kernel: "", initrd: "", append: "" }, ignore: true };

const LIMIT_MS = 300_000;
const COMMANDS = script(`
  echo processors $(nproc)
  for i in 0 1; do taskset -c $i sh -c 'seq 2000 | awk "{ s += \\$1 / 4 } END { print \\"sum\\", s }"' & done
  wait
  grep RES: /proc/interrupts
  i=0
  while [ $i -lt 8 ]; do i=$((i + 1)); echo tick $i $(awk 'BEGIN { print 1.5 * 2 }'); sleep 0.2; done
  for i in 0 1; do taskset -c $i echo still on $i; done
  dmesg | grep -E 'BUG|WARNING|stall|lockup|unchecked MSR'
  true
`);

/** What the machine says until it says `wanted` or ends. */
async function said(machine: Machine, wanted?: RegExp): Promise<string> {
  const { tx } = machine.serial[0]!, decoder = new TextDecoder();
  let text = "", over = false;
  machine.ended.then(() => over = true);
  for (;;) {
    const last = over, bytes = tx.read();
    text += decoder.decode(bytes);
    if (wanted?.test(text) || (last && bytes.length === 0)) return text.replaceAll("\r", "");
    await tx.whenReadable(50);
  }
}

Deno.test(
  { name: "hvf: Linux on 2 processors, and its processes go on under the software engine", ignore },
  () =>
    withFolder(async (folder) => {
      const spec: MachineSpec = {
        engine: "hvf",
        memoryBytes: 128 << 20,
        cpus: 2,
        kernel: guest.kernel,
        initrd: guest.initrd,
        append: `${guest.append} ${COMMANDS}`,
        disks: [],
        serial: [{ kind: "none" }],
        noReboot: true,
        icount: false,
        trace: null,
      };
      const one = await startMachine(spec, doubled);
      const limit = setTimeout(() => one.stop(), LIMIT_MS);
      const first = await said(one, /^tick 3/m);
      clearTimeout(limit);
      assertMatch(first, /^processors 2$/m);
      assertEquals(first.match(/^sum 500250$/gm)?.length, 2, first);
      const sent = /RES: +(\d+) +(\d+)/.exec(first)!.slice(1).map(Number);
      assert(sent.some((n) => n > 0), "interrupts between processors");
      await one.snapshot(`${folder}/machine`, { compress: false, stop: true });
      const second = await said(one);

      const two = await startMachine({ ...spec, engine: "soft" }, { snapshot: new Snapshot(`${folder}/machine`) });
      const rest = await said(two), text = first + second + rest;
      assertEquals(await two.ended, { kind: "poweroff" }, text);
      assertEquals([...text.matchAll(/^tick (\d) 3$/gm)].map(([, n]) => n).join(""), "12345678", text);
      assertMatch(rest, /^still on 0\nstill on 1$/m);
      assert(!/BUG|WARNING|stall|lockup|unchecked MSR/.test(text), text);
    }),
);
