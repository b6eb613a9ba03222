/** KVM's clock goes with a guest that uses it, and an engine that has none refuses such a guest. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { RestoreError } from "../../../src/base/errors.ts";
import { VcpuEvent } from "../../../src/engine/engine.ts";
import { kvmEngine } from "../../../src/engine/kvm/kvm.ts";
import { probeKvm } from "../../../src/engine/kvm/probe.ts";
import { softEngine } from "../../../src/engine/soft/soft.ts";
import { u64, VcpuRecord } from "../../../src/engine/vcpu_state.ts";
import { DATA, Rig } from "../law_rig.ts";
import { KVM_CLOCK } from "./programs.ts";

const CLOCK = 0x26000;

Deno.test("kvm: a guest that uses KVM's clock finds it after a move, and the software CPU refuses it", () => {
  const { refusal } = probeKvm();
  if (refusal !== null) return console.log(`skipped: ${refusal}`);
  using from = new Rig(kvmEngine), to = new Rig(kvmEngine), soft = new Rig(softEngine);
  from.long(KVM_CLOCK);
  from.board.onWrite = () => from.raise(VcpuEvent.KICK);
  assertEquals(from.run(), "kick");
  const state = VcpuRecord.create();
  from.vcpu.save!(state);
  assertEquals(u64(state.kvmSystemTime), BigInt(CLOCK | 1));
  for (let gpa = 0; gpa < 0x30000; gpa += 4096) to.ram.copyIn(gpa, from.ram.bytes(gpa, 4096)!);
  // The clock is no part of memory: it has to be written there again.
  to.ram.copyIn(CLOCK, new Uint8Array(64));
  to.vcpu.restore!(state);
  to.toHalt();
  assert(to.ram.read(DATA, 4) > 0 && to.read64(DATA + 8) > 0n, "the clock is not written after the move");
  assertThrows(() => soft.vcpu.restore!(state), RestoreError, "kvmSystemTime");
});
