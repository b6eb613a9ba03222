/** A guest that rings for its disk does not leave the processor, wherever the disk's registers are; nothing it asks for is lost. */
import { assert, assertEquals } from "@std/assert";
import { COMMAND, PCI } from "../../../devices/pci/function.ts";
import { PciDriver } from "../../../devices/virtio/pci_driver.ts";
import { CFG_TYPE, FEATURE, STRUCTURES_BAR } from "../../../devices/virtio/registers.ts";
import { KvmBell } from "../../../src/engine/kvm/doorbell.ts";
import { probeKvm } from "../../../src/engine/kvm/probe.ts";
import type { InitialState } from "../../../src/engine/engine.ts";
import { SLOT } from "../../../src/machine/addresses.ts";
import { type Machine, startMachine } from "../../../src/machine/machine.ts";
import { allocateMachineMemory } from "../../../src/machine/memory.ts";
import type { Pc } from "../../../src/machine/pc.ts";
import { CODE, code, DATA, RAM_BYTES } from "../law_rig.ts";

const { refusal } = probeKvm();
const test = (name: string, body: () => Promise<void> | void) =>
  Deno.test(name, () => refusal === null ? body() : console.log(`skipped: ${refusal}`));

const SECTOR = 512, HEADER_AT = 0x180000, SECTOR_AT = 0x181000, STATUS_AT = 0x182000, RINGS_AT = 0x100000;
const DESC_NEXT = 1, DESC_WRITE = 2;
const DEVFN = SLOT.FIRST_DISK * 8;

const le32 = (value: number) =>
  Array.from({ length: 4 }, (_, i) => ((value >>> (8 * i)) & 255).toString(16).padStart(2, "0")).join("");
/** EBX: where to ring; ESI, EDI: the index of the available and of the used ring. */
const RING = [
  "66ff06", // inc word [esi]
  "66c7030000", // mov word [ebx], 0
  "ff05", // inc dword [DATA]
  le32(DATA),
];
const AWAIT = [
  "f390", // pause
  "668b07", // mov ax, [edi]
  "663b06", // cmp ax, [esi]
  "75f6", // jne back to pause
];
const EXIT = ["b015", "e6f4", "f4"]; // out 0xf4, 21; hlt
/** `count` requests, each waited for. */
function requests(count: number): string[] {
  const body = [...RING, ...AWAIT].join("");
  const back = (-(body.length / 2 + 3) & 255).toString(16);
  return [`b9${le32(count)}`, body, "49", `75${back}`]; // mov ecx, count; ...; dec ecx; jnz
}
function writeConfig(at: number, value: number): string[] {
  return ["66baf80c", `b8${le32(0x8000_0000 + DEVFN * 256 + at)}`, "ef", "66bafc0c", `b8${le32(value)}`, "ef"];
}

interface Guest {
  readonly machine: Machine;
  /** Requests made, requests done. */
  counts(): [rung: number, used: number];
}

/** A machine with one virtio disk, whose driver has one request for its first sector, to be made again and again. */
async function start(program: (notify: number, bar: number) => string[]): Promise<Guest> {
  const path = Deno.makeTempFileSync({ prefix: "trike-doorbell-" });
  Deno.writeFileSync(path, new Uint8Array(1 << 20).fill(0x5a));
  let used = 0;
  const boot = (pc: Pc): InitialState => {
    const { ram, mmio, pci } = pc;
    const driver = new PciDriver({ ecam: pci.ecam, memory: busOf(mmio), ram, devfn: DEVFN, ringsAt: RINGS_AT });
    assert(driver.negotiate([FEATURE.VERSION_1]));
    driver.start(16);
    const queue = driver.queues[0]!;
    used = queue.used + 2;
    const parts = [[HEADER_AT, 16, DESC_NEXT], [SECTOR_AT, SECTOR, DESC_NEXT | DESC_WRITE], [STATUS_AT, 1, DESC_WRITE]];
    for (const [i, [at, bytes, flags]] of parts.entries()) {
      ram.write64(queue.desc + 16 * i, at!);
      ram.write(queue.desc + 16 * i + 8, 4, bytes!);
      ram.write(queue.desc + 16 * i + 12, 2, flags!);
      ram.write(queue.desc + 16 * i + 14, 2, i + 1);
    }
    ram.write(STATUS_AT, 1, 0xff);
    ram.write(queue.avail, 2, 1); // no interrupts
    const notify = driver.structures.get(CFG_TYPE.NOTIFY)!;
    ram.copyIn(CODE, code(...program(notify, driver.config(PCI.BAR0 + 4 * STRUCTURES_BAR, 4))));
    const data = { selector: 16, base: 0, limit: 0xffff_ffff, rights: 0xc093 };
    return {
      rip: CODE,
      rflags: 2,
      cr0: 0x11,
      cr3: 0,
      cr4: 0,
      efer: 0,
      gpr: { rbx: notify, rsi: queue.avail + 2, rdi: used },
      segments: { cs: { ...data, selector: 8, rights: 0xc09b }, ds: data, es: data, ss: data, fs: data, gs: data },
      gdtr: { base: 0, limit: 0 },
      idtr: { base: 0, limit: 0 },
    };
  };
  const disk = { path, readonly: false, format: "raw", formatAsked: true } as const;
  const spec = {
    engine: "kvm",
    memoryBytes: RAM_BYTES,
    cpus: 1,
    kernel: "",
    initrd: null,
    append: "",
    disks: [disk],
    serial: [{ kind: "none" }],
    noReboot: true,
    icount: false,
    trace: null,
  } as const;
  try {
    const machine = await startMachine(spec, { boot });
    machine.ended.finally(() => Deno.removeSync(path));
    const { ram } = machine.pc;
    return { machine, counts: () => [ram.read(DATA, 4), ram.read(used, 2)] };
  } catch (error) {
    Deno.removeSync(path);
    throw error;
  }
}

function busOf(mmio: Pc["mmio"]) {
  return {
    read: (at: number, size: number) => mmio.read(at, size),
    write: (at: number, size: number, value: number) => mmio.write(at, size, value),
  };
}

/** Times the vCPU left the guest for a memory-mapped register. */
function mmioExits(machine: Machine): number {
  return (machine.stats().vcpus as { mmio: number }[])[0]!.mmio;
}

test("kvm doorbell: a guest's requests are served, and none makes it leave the processor", async () => {
  const { machine, counts } = await start(() => [...requests(100), ...EXIT]);
  assertEquals(await machine.ended, { kind: "debug-exit", code: 21 });
  assertEquals([...counts(), mmioExits(machine)], [100, 100, 0]);
  const { ram } = machine.pc;
  assertEquals(ram.read(STATUS_AT, 1), 0);
  assert(ram.bytes(SECTOR_AT, SECTOR)!.every((byte) => byte === 0x5a));
});

test("kvm doorbell: it moves with the disk's base address, and is gone where the device answers no more", async () => {
  const MOVE = 0x100_0000;
  const { machine, counts } = await start((_, bar) => [
    ...requests(5),
    ...writeConfig(PCI.BAR0 + 4 * STRUCTURES_BAR, bar + MOVE),
    "66c7030000", // to the old place: an exit
    `81c3${le32(MOVE)}`, // add ebx, MOVE
    ...requests(5),
    ...writeConfig(PCI.COMMAND, COMMAND.BUS_MASTER),
    "66c7030000", // memory space is off: an exit
    ...writeConfig(PCI.COMMAND, COMMAND.BUS_MASTER | COMMAND.MEMORY_SPACE),
    ...requests(5),
    ...EXIT,
  ]);
  assertEquals(await machine.ended, { kind: "debug-exit", code: 21 });
  assertEquals([...counts(), mmioExits(machine)], [15, 15, 2]);
});

test("kvm doorbell: what was rung for before a pause is done once it is, and nothing moves until the end of it", async () => {
  const { machine, counts } = await start(() => requests(0)); // counts down from 2^32
  for (let round = 0; round < 20; round++) {
    await new Promise((resolve) => setTimeout(resolve, 1 + round % 4));
    assert(await machine.pause());
    const [rung, used] = counts();
    assert(((used - rung) & 0xffff) < 2, `${rung} rung for, ${used} used`);
    await new Promise((resolve) => setTimeout(resolve, 2));
    assertEquals(counts(), [rung, used]);
    assert(machine.resume());
  }
  assert(counts()[0] > 20);
  machine.stop();
  assertEquals(await machine.ended, { kind: "stopped" });
});

test("kvm doorbell: our own rings wake a sleeper, are not the guest's, and cost nothing while nobody sleeps", () => {
  const memory = allocateMachineMemory(65536), bell = KvmBell.create(memory);
  try {
    bell.wake();
    assertEquals(bell.take(), false);
    // Whoever rings between the look and the sleep is not missed: else this would not return.
    let looks = 0;
    const rung = bell.wait(() => {
      looks++;
      new KvmBell(memory).wake();
      return true;
    });
    assertEquals([rung, looks], [false, 1]);
    assertEquals(bell.wait(() => false), false);
    assertEquals(bell.take(), false);
  } finally {
    bell.close();
  }
});
