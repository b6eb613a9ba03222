import { assert, assertEquals, assertInstanceOf, assertRejects } from "@std/assert";
import { ConfigError, HostError } from "../../src/base/errors.ts";
import type { InitialState } from "../../src/engine/engine.ts";
import { type Machine, startMachine } from "../../src/machine/machine.ts";
import type { DiskSpec, MachineSpec } from "../../src/machine/spec.ts";
import type { SCRIPTS } from "./scripts.ts";

const SCRIPTED = new URL("./scripted_worker.ts", import.meta.url);

const ENTRY: InitialState = {
  rip: 0x100000,
  rflags: 2,
  cr0: 1,
  cr3: 0,
  cr4: 0,
  efer: 0,
  gpr: {},
  segments: {},
  gdtr: { base: 0, limit: 0 },
  idtr: { base: 0, limit: 0 },
};

function spec(change: Partial<MachineSpec> = {}): MachineSpec {
  return {
    engine: "soft",
    memoryBytes: 16 << 20,
    cpus: 1,
    kernel: "none",
    initrd: null,
    append: "",
    disks: [],
    serial: [{ kind: "none" }],
    noReboot: false,
    icount: false,
    trace: null,
    ...change,
  };
}

async function start(script: keyof typeof SCRIPTS, change: Partial<MachineSpec> = {}) {
  let boots = 0;
  const machine = await startMachine(spec({ append: script, ...change }), {
    vcpuWorker: SCRIPTED,
    boot: () => {
      boots++;
      return ENTRY;
    },
  });
  return { machine, boots: () => boots };
}

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

/** Runs a script to its end: how it ended and what it printed. */
async function run(script: keyof typeof SCRIPTS, change: Partial<MachineSpec> = {}) {
  const { machine, boots } = await start(script, change);
  const end = await machine.ended;
  return { end, out: text(machine.serial[0]!.tx.read()), boots: boots(), stats: machine.stats() };
}

async function until(machine: Machine, wanted: string): Promise<string> {
  let out = "";
  for (let i = 0; !out.includes(wanted) && i < 1000; i++) {
    out += text(machine.serial[0]!.tx.read());
    if (!out.includes(wanted)) await machine.serial[0]!.tx.whenReadable(10);
  }
  return out;
}

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

Deno.test("bytes written to COM1 arrive; PM1_CNT with SLP_TYP 5 ends the machine", async () => {
  const { end, out, boots, stats } = await run("hello");
  assertEquals([end, out, boots], [{ kind: "poweroff" }, "hello", 1]);
  const exits = stats.exits as Record<string, number>;
  assertEquals([exits.pioRead, exits.pioWrite], [5, 6]);
  assertEquals([stats.engine, stats.reboots], ["soft", 0]);
});

Deno.test("the PIT's interrupts reach the INTA cycle through the 8259A and LINT0", async () => {
  const { end, out, stats } = await run("pit");
  assertEquals([end.kind, out], ["poweroff", "20 20 20 in time"]);
  assertEquals(stats.interrupts, { "20": 3 });
});

Deno.test("the RTC shows the host's time and the memory size", async () => {
  const before = Date.now() - 1000;
  const { out } = await run("rtc");
  const [, digits, kib] = /^([0-9 ]+) extended (\d+) KiB$/.exec(out)!;
  const [century, year, month, day, hour, minute, second] = digits!.split(" ").map(Number);
  const told = Date.UTC(century! * 100 + year!, month! - 1, day, hour, minute, second);
  assert(told >= before - 1000 && told <= Date.now(), out);
  assertEquals(Number(kib), 15 * 1024);
});

Deno.test("PCI enumeration finds the same functions by both mechanisms", async () => {
  const { out } = await run("pci");
  assertEquals(out, "0:8086:29c0 1:1af4:1044 2:1af4:1043 31:8086:2918 ");
});

async function withDisk(body: (disk: DiskSpec) => Promise<void>): Promise<void> {
  const path = await Deno.makeTempFile();
  try {
    const bytes = new Uint8Array(4 * 512);
    bytes.set(new TextEncoder().encode("sector"), 512);
    await Deno.writeFile(path, bytes);
    await body({ path, readonly: false, format: "raw" });
  } finally {
    await Deno.remove(path);
  }
}

Deno.test("virtio-blk requests complete through the disk worker, with level interrupts", async () => {
  await withDisk(async (disk) => {
    const { end, out } = await run("disk", { disks: [disk] });
    assertEquals(end, { kind: "poweroff" });
    // The driver finds a completion before it sleeps, or after an interrupt.
    assertEquals(out.replaceAll("51/1 ", ""), "read 0 sector write 0 flush 0 beyond 1");
    const after = await Deno.readFile(disk.path);
    assertEquals(text(after.subarray(1024, 1030)), "Mector");
    assertEquals(text(after.subarray(512, 518)), "sector");
  });
});

Deno.test("a reset amid disk requests leaves a disk that works", async () => {
  await withDisk(async (disk) => {
    const { end, out } = await run("resetAmidIo", { disks: [disk] });
    assertEquals([end.kind, out], ["poweroff", "2 sector 0"]);
  });
});

Deno.test("a second processor waits for INIT and SIPI, and its interrupts reach the first", async () => {
  const { end, out } = await run("twoProcessors", { cpus: 2 });
  assertEquals([end.kind, out], ["poweroff", "44 from 9"]);
});

Deno.test("icount: disk requests are complete when the doorbell's write returns", async () => {
  await withDisk(async (disk) => {
    const { end, out } = await run("disk", { disks: [disk], icount: true });
    assertEquals([end.kind, out], ["poweroff", "read 0 sector write 0 flush 0 beyond 1"]);
    assertEquals(text((await Deno.readFile(disk.path)).subarray(1024, 1030)), "Mector");
  });
});

Deno.test("icount: two runs see the same times and the same random bytes", async () => {
  const [a, b] = [await run("deterministic", { icount: true }), await run("deterministic", { icount: true })];
  assertEquals(a.out, b.out);
  // Four periods of 1193 ticks of 1193182 Hz, rounded up to the nanosecond.
  const times = a.out.split(" ").slice(0, 4).map(Number);
  for (const [i, t] of times.slice(1).entries()) assert(Math.abs(t - times[i]! - 1193e9 / 1193182) < 1000, a.out);
});

Deno.test("the entropy device's MSI-X message reaches the local APIC", async () => {
  const { out } = await run("entropy");
  const [vector, length, bytes] = out.split(" ");
  assertEquals([vector, length], ["61", "32"]);
  assert(new Set(bytes!.match(/../g)).size > 8, bytes);
});

Deno.test("a reset by CF9h restarts the guest with power-on devices and the memory it had", async () => {
  const { end, out, boots, stats } = await run("reset");
  assertEquals([end.kind, out], ["poweroff", "1 scratch 0;2 scratch 0;3 scratch 0;"]);
  assertEquals([boots, stats.reboots], [3, 2]);
});

Deno.test("with noReboot a reset ends the machine, by the keyboard controller too", async () => {
  assertEquals((await run("reset", { noReboot: true })).end, { kind: "reset" });
  assertEquals((await run("keyboardReset", { noReboot: true })).end, { kind: "reset" });
});

Deno.test("a guest's death is told in one line", async () => {
  assertEquals((await run("tripleFault")).end, {
    kind: "died",
    message: "triple fault on vCPU 0: rip=0000000000000007",
  });
  const { end, out } = await run("panic");
  assertEquals([end, out], [
    { kind: "died", message: "guest panic, vCPU 0 at rip=0000000000000007" },
    "Kernel panic",
  ]);
});

Deno.test("the debug exit port ends the machine with its value", async () => {
  assertEquals((await run("debugExit")).end, { kind: "debug-exit", code: 0x2a });
});

Deno.test("an engine that fails, and one that throws, end the machine as the host's errors", async () => {
  for (const [script, message] of [["engineError", "the script gave up"], ["engineThrows", "unforeseen"]] as const) {
    const { end } = await run(script);
    const error = end.kind === "host-error" ? end.error : null;
    assertInstanceOf(error, HostError);
    assertEquals(error?.message, `vCPU 0 failed: ${message}`);
  }
});

Deno.test("stop ends a guest that sleeps and one that spins", async () => {
  for (const script of ["idle", "spin"] as const) {
    const { machine } = await start(script);
    await sleep(20);
    machine.stop();
    assertEquals(await machine.ended, { kind: "stopped" });
    assertEquals(machine.state, "ended");
  }
});

Deno.test("an idle guest does not run", async () => {
  const { machine } = await start("idle");
  await sleep(300);
  const { exits } = machine.stats() as { exits: Record<string, number> };
  machine.stop();
  await machine.ended;
  assert(exits.halt! <= 3 && exits.slice === 0 && exits.kick! <= 3, JSON.stringify(exits));
});

Deno.test("bytes put into a serial port's ring reach a guest that sleeps", async () => {
  const { machine } = await start("echo");
  assertEquals(await until(machine, "ready "), "ready ");
  const { rx, notifyInput } = machine.serial[0]!;
  // More than the receiver's FIFO holds.
  rx.write(new TextEncoder().encode("the quick brown fox jumps over"));
  notifyInput();
  assertEquals(await until(machine, "OVER"), "THE QUICK BROWN FOX JUMPS OVER");
  rx.write(new TextEncoder().encode("."));
  notifyInput();
  assertEquals((await machine.ended).kind, "poweroff");
  assert(rx.closed);
});

Deno.test("the power button raises SCI, and the guest turns itself off", async () => {
  const { machine } = await start("powerButton");
  await until(machine, "ready ");
  machine.pressPowerButton();
  assertEquals(await machine.ended, { kind: "poweroff" });
  assertEquals(text(machine.serial[0]!.tx.read()), "29 PM1_STS 0100");
});

Deno.test("pause stops time and the guest; resume goes on where it was", async () => {
  const { machine } = await start("ticks");
  await until(machine, "...");
  assert(await machine.pause());
  assertEquals(machine.state, "paused");
  const at = (machine.stats() as { guestSeconds: number }).guestSeconds;
  machine.serial[0]!.tx.read();
  await sleep(30);
  assertEquals((machine.stats() as { guestSeconds: number }).guestSeconds, at);
  assertEquals(machine.serial[0]!.tx.available, 0);
  assert(!await machine.pause());
  assert(machine.resume());
  assert((await until(machine, "...")).startsWith("..."));
  machine.stop();
  assertEquals((await machine.ended).kind, "stopped");
});

Deno.test("stop ends a paused machine", async () => {
  const { machine } = await start("ticks");
  assert(await machine.pause());
  machine.stop();
  assertEquals((await machine.ended).kind, "stopped");
  assert(!machine.resume());
});

Deno.test("a stop that overtakes a pause ends the machine, and the pause says so", async () => {
  for (let i = 0; i < 5; i++) {
    const { machine } = await start("ticks");
    const pausing = machine.pause();
    machine.stop();
    assertEquals([await pausing, (await machine.ended).kind], [false, "stopped"]);
  }
});

Deno.test("a restored machine goes on from the saved moment", async () => {
  const { machine } = await start("ticks");
  await until(machine, "...");
  await machine.pause();
  const saved = machine.save();
  machine.resume();
  await until(machine, "...");
  await machine.pause();
  machine.restore(saved);
  assertEquals(machine.pc.clock.nowNs(), saved.timeNs);
  // What depends on the time was brought up to it; from there on saving and restoring changes nothing.
  const once = machine.save();
  machine.restore(once);
  const twice = machine.save();
  for (const [i, { id, bytes }] of once.records.entries()) assertEquals([id, twice.records[i]!.bytes], [id, bytes]);
  machine.serial[0]!.tx.read();
  machine.resume();
  assert((await until(machine, "...")).startsWith("..."));
  machine.stop();
  await machine.ended;
});

/** A vmlinux whose one segment, at 4 MiB, is a HLT. */
function vmlinux(): Uint8Array {
  const bytes = new Uint8Array(64 + 56 + 1);
  const v = new DataView(bytes.buffer);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  v.setUint16(16, 2, true); // ET_EXEC
  v.setUint16(18, 62, true); // EM_X86_64
  v.setUint32(20, 1, true);
  v.setBigUint64(24, 0x400000n, true); // e_entry
  v.setBigUint64(32, 64n, true); // e_phoff
  v.setUint16(52, 64, true);
  v.setUint16(54, 56, true);
  v.setUint16(56, 1, true);
  v.setUint32(64, 1, true); // PT_LOAD
  v.setUint32(68, 5, true);
  v.setBigUint64(72, 120n, true); // p_offset
  v.setBigUint64(80, 0x400000n, true);
  v.setBigUint64(88, 0x400000n, true); // p_paddr
  v.setBigUint64(96, 1n, true);
  v.setBigUint64(104, 0x1000n, true); // p_memsz
  v.setBigUint64(112, 0x1000n, true);
  bytes[120] = 0xf4;
  return bytes;
}

Deno.test("the kernel is loaded again for each reset; its boot parameters lead to the ACPI tables", async () => {
  const kernel = await Deno.makeTempFile();
  try {
    await Deno.writeFile(kernel, vmlinux());
    const machine = await startMachine(spec({ append: "reset", kernel }), { vcpuWorker: SCRIPTED });
    assertEquals(await machine.ended, { kind: "poweroff" });
    assertEquals(text(machine.serial[0]!.tx.read()), "1 scratch 0;2 scratch 0;3 scratch 0;");
    const { ram } = machine.pc;
    assertEquals(ram.read(0x400000, 1), 0xf4);
    const bootParams = 0x7000;
    assertEquals(text(ram.bytes(ram.read(bootParams + 0x228, 4), 5)!.slice()), "reset"); // cmd_line_ptr
    const rsdp = ram.read(bootParams + 0x70, 4); // acpi_rsdp_addr
    assertEquals(text(ram.bytes(rsdp, 8)!.slice()), "RSD PTR ");
    // E820: what the board occupies below 4 GiB is reserved.
    const map = Array.from({ length: ram.read(bootParams + 0x1e8, 1) }, (_, i) => {
      const at = bootParams + 0x2d0 + 20 * i;
      return [ram.read64(at), ram.read64(at + 8), ram.read(at + 16, 4)];
    });
    assert(map.some(([gpa, size, type]) => gpa === 0xe0000000 && size === 256 << 20 && type === 2), `${map}`);
  } finally {
    await Deno.remove(kernel);
  }
});

Deno.test("a disk that is not there is the user's mistake, told before anything runs", async () => {
  const disks: DiskSpec[] = [{ path: "tests/machine/no such disk", readonly: true, format: "raw" }];
  await assertRejects(() => start("hello", { disks }), ConfigError, "no such disk");
});

Deno.test("a loader's error is passed on, and no Worker stays behind", async () => {
  const starting = startMachine(spec({ append: "hello" }), {
    vcpuWorker: SCRIPTED,
    boot: () => {
      throw new ConfigError("Cannot load kernel");
    },
  });
  await assertRejects(() => starting, ConfigError, "Cannot load kernel");
});

Deno.test("a trace holds the accesses of the run", async () => {
  const path = await Deno.makeTempFile();
  try {
    await run("hello", { trace: { categories: ["pio", "exits"], path } });
    const lines = (await Deno.readTextFile(path)).trimEnd().split("\n").map((l) => l.replace(/^\S+ /, ""));
    assertEquals(lines.slice(0, 2), ["0 pio 3fd read 1 = 60 com1", "0 pio 3f8 write 1 = 68 com1"]);
    assertEquals(lines.at(-2), "0 pio 604 write 2 = 3400 acpi-pm");
    assertEquals(lines.at(-1), "0 exits kick");
  } finally {
    await Deno.remove(path);
  }
});
