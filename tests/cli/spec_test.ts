/** What machine a request makes. */
import { assert, assertEquals } from "@std/assert";
import { runMachine } from "../../src/cli/run.ts";
import type { EngineInfo } from "../../src/cli/engines.ts";
import { parseCommandLine } from "../../src/cli/parse.ts";
import type { MachineSpec } from "../../src/machine/spec.ts";
import { startLoopback } from "./loopback.ts";
import { withFiles } from "./trike.ts";

const ENGINES: readonly EngineInfo[] = [
  { name: "hvf", what: "", refusal: "not today", refusedBy: "trike", reluctance: null },
  { name: "kvm", what: "", refusal: "not today", refusedBy: "trike", reluctance: null },
  { name: "soft", what: "", refusal: null, reluctance: null },
];

async function specOf(...args: string[]): Promise<{ spec: MachineSpec; said: string[]; guests: boolean[] }> {
  const command = parseCommandLine(["run", "--serial", "none", ...args]);
  if (command.kind !== "run") throw new Error(`expected run, got ${command.kind}`);
  const specs: MachineSpec[] = [];
  const said: string[] = [];
  const guests: boolean[] = [];
  const status = await runMachine(command.request, {
    start: (spec) => {
      specs.push(spec);
      return startLoopback({ ...spec, append: "then=poweroff" });
    },
    defaultGuest: (quiet) => {
      guests.push(quiet);
      return Promise.resolve({ kernel: "/cache/vmlinuz", initrd: "/cache/initrd", append: "console=ttyS0 quiet" });
    },
    say: (line) => said.push(line),
    engines: () => Promise.resolve(ENGINES),
  });
  assertEquals([status, specs.length], [0, 1]);
  return { spec: specs[0]!, said, guests };
}

Deno.test("without --kernel the default guest runs; --append adds to its command line, --initrd replaces its own", () =>
  withFiles(async ({ kernel }) => {
    const plain = await specOf();
    assertEquals(plain.spec, {
      engine: "soft",
      memoryBytes: 512 * 2 ** 20,
      cpus: 1,
      kernel: "/cache/vmlinuz",
      initrd: "/cache/initrd",
      append: "console=ttyS0 quiet",
      disks: [],
      net: { kind: "user", mac: plain.spec.net!.mac, pcap: null, restrict: false, dns: null, publish: [] },
      serial: [{ kind: "none" }],
      noReboot: false,
      icount: false,
      trace: null,
    });
    assertEquals(plain.guests, [false]);
    assertEquals(plain.said.length, 1);
    const own = await specOf("--append", "trike.marks", "--initrd", kernel, "-q");
    assertEquals(own.spec.append, "console=ttyS0 quiet trike.marks");
    assertEquals([own.spec.kernel, own.spec.initrd], ["/cache/vmlinuz", kernel]);
    assertEquals([own.said, own.guests], [[], [true]]);
  }));

Deno.test("a kernel of the user's own brings nothing of the default guest", () =>
  withFiles(async ({ kernel }) => {
    const { spec, guests } = await specOf("--kernel", kernel, "--engine", "soft", "--icount", "--no-reboot");
    assertEquals([spec.kernel, spec.initrd, spec.append], [kernel, null, "console=ttyS0"]);
    assertEquals([spec.icount, spec.noReboot], [true, true]);
    assertEquals(guests, []);
    assertEquals((await specOf("--kernel", kernel, "--append", "")).spec.append, "");
  }));

Deno.test("--engine auto says what it chose and why, a named engine says nothing", () =>
  withFiles(async ({ kernel }) => {
    const auto = await specOf("--kernel", kernel);
    assert(/^engine soft \(hvf and kvm: not today\)$/.test(auto.said.join("\n")), auto.said.join("\n"));
    assertEquals((await specOf("--kernel", kernel, "--engine", "soft")).said, []);
  }));
