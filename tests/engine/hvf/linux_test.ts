/** Linux under the engine hvf, on the double of the framework: two processors, to the shell and off again. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { isMapped } from "../../../src/engine/hvf/vm.ts";
import { bootPc } from "../../../src/machine/boot.ts";
import { startMachine } from "../../../src/machine/machine.ts";
import type { MachineSpec } from "../../../src/machine/spec.ts";
import { guestOrSkip, script } from "../../boot/guests.ts";
import { doubleWorker } from "../../double/double.ts";
import { library, refusal } from "./double.ts";

if (refusal !== null) console.log(`skipped: ${refusal}`);
const { guest, ignore } = refusal === null
  ? await guestOrSkip("cloud")
  : { guest: { kernel: "", initrd: "", append: "" }, ignore: true };

const LIMIT_MS = 180_000;

Deno.test({ name: "hvf: Linux on 2 processors", ignore }, async () => {
  const commands = script(`
    echo processors $(nproc)
    for i in 0 1; do taskset -c $i sh -c 'seq 2000 | awk "{ s += \\$1 / 4 } END { print \\"sum\\", s }"' & done
    wait
    grep RES: /proc/interrupts
    dmesg | grep -E 'BUG|WARNING|stall|lockup|unchecked MSR'
    true
  `);
  const spec: MachineSpec = {
    engine: "hvf",
    memoryBytes: 256 << 20,
    cpus: 2,
    kernel: guest.kernel,
    initrd: guest.initrd,
    append: `${guest.append} ${commands}`,
    disks: [],
    serial: [{ kind: "none" }],
    noReboot: true,
    icount: false,
    trace: null,
  };
  const machine = await startMachine(spec, {
    vcpuWorker: doubleWorker(library),
    boot: (pc, asked) => {
      // The double moves the memory that it is given: what is loaded meanwhile would stay behind.
      const never = new Int32Array(new SharedArrayBuffer(4));
      while (!isMapped(pc.ram.buffer)) Atomics.wait(never, 0, 0, 5);
      return bootPc(pc, asked);
    },
  });
  const parts: Uint8Array[] = [], { tx } = machine.serial[0]!;
  const reading = setInterval(() => parts.push(tx.read().slice()), 20);
  const limit = setTimeout(() => machine.stop(), LIMIT_MS);
  const end = await machine.ended;
  clearInterval(reading);
  clearTimeout(limit);
  parts.push(tx.read().slice());
  const text = parts.map((bytes) => new TextDecoder().decode(bytes)).join("").replaceAll("\r", "");
  assertEquals(end, { kind: "poweroff" }, text);
  assertMatch(text, /^processors 2$/m);
  assertEquals(text.match(/^sum 500250$/gm)?.length, 2, text);
  const sent = /RES: +(\d+) +(\d+)/.exec(text)!.slice(1).map(Number);
  assert(sent.some((n) => n > 0), "interrupts between processors");
  assert(!/BUG|WARNING|stall|lockup|unchecked MSR/.test(text), text);
});
