/** Whole machines on KVM: Workers, the board's interrupt controllers, resets. */
import { assert, assertEquals } from "@std/assert";
import { probeKvm } from "../../../src/engine/kvm/probe.ts";
import type { InitialState, IrqChip } from "../../../src/engine/engine.ts";
import { startMachine } from "../../../src/machine/machine.ts";
import type { Pc } from "../../../src/machine/pc.ts";
import type { MachineSpec } from "../../../src/machine/spec.ts";
import { ENDLESS } from "../law_programs.ts";
import { CODE, DATA, longState, RAM_BYTES, Rig } from "../law_rig.ts";
import { FIRST_START, RESET_ONCE, SECOND_START, SEND_STARTUP } from "./programs.ts";

const { refusal } = probeKvm();

/** With each kind of interrupt controllers. */
function test(name: string, body: (irqchip: IrqChip) => Promise<void>): void {
  for (const irqchip of ["user", "split", "kernel"] as const) {
    Deno.test(
      `kvm ${irqchip}: ${name}`,
      () => refusal === null ? body(irqchip) : console.log(`skipped: ${refusal}`),
    );
  }
}

function spec(irqchip: IrqChip, cpus: number): MachineSpec {
  return {
    engine: "kvm",
    irqchip,
    memoryBytes: RAM_BYTES,
    cpus,
    kernel: "",
    initrd: null,
    append: "",
    disks: [],
    serial: [{ kind: "none" }],
    noReboot: false,
    icount: false,
    trace: null,
  };
}

/** Starts a machine with programs at addresses, the one at CODE first. */
async function start(irqchip: IrqChip, cpus: number, programs: Readonly<Record<number, Uint8Array>>) {
  let boots = 0;
  const boot = ({ ram }: Pc): InitialState => {
    boots++;
    Rig.prototype.pageTables.call({ ram } as unknown as Rig);
    for (const [gpa, program] of Object.entries(programs)) ram.copyIn(Number(gpa), program);
    return longState(0);
  };
  const machine = await startMachine(spec(irqchip, cpus), { boot });
  return { machine, boots: () => boots };
}

test("the first of two processors starts the second, and starts it again while it runs", async (irqchip) => {
  const { machine } = await start(irqchip, 2, { [CODE]: SEND_STARTUP, 0x8000: FIRST_START, 0x9000: SECOND_START });
  assertEquals(await machine.ended, { kind: "debug-exit", code: 21 });
  assertEquals([machine.pc.ram.read(DATA, 1), machine.pc.ram.read(DATA + 4, 1)], [1, 1]);
});

test("a guest that resets the machine starts again, though its write was still to be completed", async (irqchip) => {
  const { machine, boots } = await start(irqchip, 1, { [CODE]: RESET_ONCE });
  assertEquals(await machine.ended, { kind: "debug-exit", code: 21 });
  assertEquals([boots(), machine.stats().reboots], [2, 1]);
});

test("a machine whose guest never leaves the processor can be stopped, paused and resumed", async (irqchip) => {
  const { machine } = await start(irqchip, 1, { [CODE]: ENDLESS });
  assert(await machine.pause());
  assert(machine.resume());
  machine.stop();
  assertEquals(await machine.ended, { kind: "stopped" });
});
