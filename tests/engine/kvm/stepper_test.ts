/** The software CPU in KVM's place for single instructions: whoever executes which, the guest ends in the same state. */
import { assertEquals } from "@std/assert";
import { kvmEngine, type KvmVcpu } from "../../../src/engine/kvm/kvm.ts";
import { probeKvm } from "../../../src/engine/kvm/probe.ts";
import { BREAKPOINT, EXCHANGE, MIXED } from "./programs.ts";
import { code, DATA, Rig } from "../law_rig.ts";

const { refusal } = probeKvm();
const FXSAVE = DATA + 0x1000;

function test(name: string, body: () => void): void {
  Deno.test(`kvm: ${name}`, () => refusal === null ? body() : console.log(`skipped: ${refusal}`));
}

/** Everything MIXED leaves in memory when the first `steps` instructions are the software CPU's; null if it halts before. */
function outcome(steps: number): string[] | null {
  using rig = new Rig(kvmEngine);
  rig.long(MIXED);
  rig.ram.write(DATA + 0x300, 4, 0xffff_fff6); // FILD
  rig.ram.copyIn(DATA + 0x310, code("2700", "0080000000000000")); // LGDT
  rig.ram.write(DATA + 0x320, 4, 0x1fa0); // LDMXCSR
  rig.ram.write(DATA + 0x328, 2, 0x0c7f); // FLDCW
  rig.ram.write64(0x5008, 0x1234); // behind the base of GS
  const vcpu = rig.vcpu as KvmVcpu;
  for (let i = 0; i < steps; i++) if (vcpu.step() !== "done") return null;
  rig.toHalt();
  const hex = (gpa: number, size: number) => rig.ram.bytes(gpa, size)!.slice().toHex();
  // Without the pointers of the last x87 instruction, that processors keep or not.
  return [hex(DATA, 0x70), hex(FXSAVE, 5), hex(FXSAVE + 24, 4), hex(FXSAVE + 32, 8 * 16 + 16 * 16)];
}

test("registers of every kind move between KVM and the software CPU, after any instruction", () => {
  const expected = outcome(0);
  let steps = 1;
  for (let found; (found = outcome(steps)) !== null; steps++) assertEquals(found, expected, `after ${steps} steps`);
  assertEquals(steps, MIXED_INSTRUCTIONS);
});

/** The last one is HLT. */
const MIXED_INSTRUCTIONS = 61;

test("instructions that KVM may not know work all the same", () => {
  using rig = new Rig(kvmEngine);
  rig.long(EXCHANGE, { 3: BREAKPOINT });
  rig.ram.write64(DATA + 0x100, 1);
  rig.ram.write64(DATA + 0x108, 2);
  rig.toHalt();
  assertEquals([rig.read64(DATA + 0x100), rig.read64(DATA + 0x108)], [3n, 4n]);
  assertEquals([...rig.ram.bytes(DATA, 3)!], [1, 0, 1]);
  assertEquals(Number(rig.read64(DATA + 8)), 0x10000 + EXCHANGE.length - 9);
});
