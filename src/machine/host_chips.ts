/**
 * The host's kernel in the place of the board's interrupt controllers and PIT, where the machine's engine has that: each thread
 * of a machine that drives wires, sends messages or raises events of vCPUs attaches itself.
 */
import type { HostBell, HostChips } from "../engine/engine.ts";
import type { Pc } from "./pc.ts";
import type { MachineSpec } from "./spec.ts";

/** Null where the board's own models are always in charge. Throws HostError. */
export async function attachHostChips(
  pc: Pc,
  spec: MachineSpec,
  memory: WebAssembly.Memory,
): Promise<HostChips | null> {
  if (spec.engine !== "kvm") return null;
  const { KvmChips } = await import("../engine/kvm/chips.ts");
  const chips = new KvmChips({ memory, clock: pc.clock, records: pc.chips });
  pc.router.others = chips;
  pc.control.onRise = (vcpu) => chips.poke(vcpu);
  const { KvmBell } = await import("../engine/kvm/doorbell.ts");
  const bell = new KvmBell(memory);
  pc.control.onDiskRing = () => bell.wake();
  return chips;
}

/** What the disks' thread sleeps on; null where words of shared memory are all there is. Throws HostError. */
export async function createHostBell(spec: MachineSpec, memory: WebAssembly.Memory): Promise<HostBell | null> {
  return spec.engine === "kvm" ? (await import("../engine/kvm/doorbell.ts")).KvmBell.create(memory) : null;
}
