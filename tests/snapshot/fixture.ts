/** A machine without vCPUs, of a few pages of RAM, and its snapshot. */
import { allocateMachineMemory } from "../../src/machine/memory.ts";
import { assemblePc, type Pc } from "../../src/machine/pc.ts";
import { writeSnapshot } from "../../src/machine/snapshot.ts";
import type { MachineSpec } from "../../src/machine/spec.ts";

export const RAM_BYTES = 1 << 20;

export const SMALL: MachineSpec = {
  engine: "soft",
  memoryBytes: RAM_BYTES,
  cpus: 2,
  kernel: "vmlinuz",
  initrd: null,
  append: "console=ttyS0",
  disks: [],
  serial: [{ kind: "stdio" }, { kind: "none" }],
  net: { kind: "user", mac: [2, 0, 0, 0, 0, 1], pcap: null, restrict: false, publish: [], dns: null },
  noReboot: false,
  icount: false,
  trace: null,
};

/** Powered on, and standing still. */
export function smallPc(spec = SMALL): Pc {
  const pc = assemblePc({ memory: allocateMachineMemory(spec.memoryBytes), spec, disks: [] });
  pc.powerOn();
  return pc;
}

/** Devices in use, three pages of RAM, a moment of time, and typed bytes nobody has read. */
export function usedPc(spec = SMALL): Pc {
  const pc = smallPc(spec);
  pc.clock.set(123_456_789);
  pc.ports.write(0x20, 1, 0x11); // the 8259A waits for ICW2
  pc.ports.write(0x43, 1, 0x34);
  pc.ports.write(0x40, 1, 0x9c); // half of the 8254's count
  pc.ports.write(0x3fb, 1, 0x83); // COM1's divisor latch
  pc.ram.write(0x1234, 4, 0xdeadbeef);
  pc.ram.write(0x2ffc, 4, 1);
  pc.ram.write(RAM_BYTES - 4, 4, 0x12345678);
  pc.serial[0]!.rx.write(new TextEncoder().encode("typed"));
  pc.vcpuRecords[1]!.gpr[0] = 0x55aa;
  for (const record of pc.vcpuRecords) record.xcr0[0] = 1;
  return pc;
}

export function write(path: string, pc = usedPc(), compress = false, spec = SMALL): void {
  writeSnapshot(path, pc, spec, { compress });
}

/** Runs `body` with a folder of its own. */
export function inFolder(body: (folder: string) => void): void {
  const folder = Deno.makeTempDirSync({ prefix: "trike-snapshot-" });
  try {
    body(folder);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}
