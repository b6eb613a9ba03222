import { assert, assertEquals } from "@std/assert";
import { buildAcpiTables } from "../../src/boot/acpi/acpi.ts";
import { PcBoard } from "../../src/machine/board.ts";
import { describeBoard } from "../../src/machine/boot.ts";
import { allocateMachineMemory } from "../../src/machine/memory.ts";
import { assemblePc, type PcOptions, SLOT } from "../../src/machine/pc.ts";
import type { MachineSpec } from "../../src/machine/spec.ts";

const SPEC: MachineSpec = {
  engine: "soft",
  memoryBytes: 16 << 20,
  cpus: 2,
  kernel: "none",
  initrd: null,
  append: "",
  disks: [{ path: "none", readonly: true, format: "raw" }],
  serial: [{ kind: "none" }, { kind: "none" }, { kind: "none" }, { kind: "none" }],
  noReboot: false,
  icount: true,
  trace: null,
};

function fixture() {
  const options: PcOptions = {
    memory: allocateMachineMemory(SPEC.memoryBytes),
    spec: SPEC,
    disks: [{ sectors: 8, readonly: true, note: null }],
  };
  const pc = assemblePc(options);
  pc.powerOn();
  const board = (vcpu: number) => new PcBoard(pc.lock, pc.ports, pc.mmio, pc.apics, vcpu, pc.counters.of(vcpu), null);
  return { options, pc, board };
}

Deno.test("every port and address that the ACPI tables name answers with the device they name", () => {
  const { pc } = fixture();
  const b = describeBoard(SPEC);
  const named: [number, string][] = [
    [b.pm.event, "acpi-pm"],
    [b.pm.event + 3, "acpi-pm"],
    [b.pm.control, "acpi-pm"],
    [b.pm.timer + 3, "acpi-pm"],
    [b.pm.smiCommand, "smi-cmd"],
    [b.reset.port, "pci-config"],
    [b.pci.io[0]!.base, "pci-io"],
    [b.pci.io[0]!.base + b.pci.io[0]!.length - 1, "pci-io"],
    [b.pic!.master, "pic master"],
    [b.pic!.slave, "pic slave"],
    [b.pic!.elcr, "elcr"],
    [b.pit!.port, "pit"],
    [b.pit!.speaker, "nmi-sc"],
    [b.rtc!.ports.base + b.rtc!.ports.length - 1, "rtc"],
    [b.ps2!.data, "keyboard data"],
    [b.ps2!.command, "keyboard command"],
    [b.pvpanic!.port, "pvpanic"],
    ...b.serial.map(({ port }, i): [number, string] => [port, `com${i + 1}`]),
  ];
  for (const [port, name] of named) assertEquals(pc.ports.nameAt(port), name, port.toString(16));
  assertEquals(pc.mmio.nameAt(b.ioApic.base), "ioapic");
  assertEquals(pc.mmio.nameAt(b.pci.ecam.base), "ecam");
  assertEquals(pc.mmio.nameAt(b.vmGeneration!.base), "vm-generation");
  const [window] = b.pci.memory32;
  assertEquals(pc.mmio.nameAt(window!.base), "pci-memory");
  assertEquals(pc.mmio.nameAt(window!.base + window!.length - 1), "pci-memory");
  assertEquals(pc.apics.map((apic) => apic.pageAt()), [b.localApicBase, b.localApicBase]);
});

Deno.test("what the LPC bridge claims by PMBASE is in a window of the host bridge [ich9 §13.1.13]", () => {
  const { pc } = fixture();
  const pmBase = pc.pci.ecam.read((SLOT.LPC << 15) | 0x40, 4) & 0xff80;
  const { io } = describeBoard(SPEC).pci;
  assert(io.some((w) => w.base <= pmBase && pmBase + 128 <= w.base + w.length), `${pmBase}: ${JSON.stringify(io)}`);
});

Deno.test("no interrupt of the board has two owners, and the tables can be built", () => {
  const b = describeBoard(SPEC);
  const isa = [b.pit!.irq, b.rtc!.irq, b.pm.sci, b.ps2!.keyboardIrq, b.ps2!.mouseIrq, ...b.serial.map((s) => s.irq)];
  isa.push(b.vmGeneration!.gsi);
  assertEquals(new Set(isa).size, isa.length);
  for (let device = 0; device < 32; device++) {
    for (let pin = 0; pin < 4; pin++) assert(b.pci.gsi(device, pin) >= 16 && b.pci.gsi(device, pin) < 24);
  }
  const { bytes, rsdp } = buildAcpiTables(b, 0xe0000);
  assertEquals(new TextDecoder().decode(bytes.subarray(rsdp - 0xe0000, rsdp - 0xe0000 + 8)), "RSD PTR ");
});

Deno.test("assembling a running machine once more changes nothing", () => {
  const { options, pc, board } = fixture();
  board(0).ioWrite(0x43, 1, 0x34);
  board(0).ioWrite(0x40, 1, 0xa9);
  board(0).ioWrite(0x40, 1, 0x04);
  const before = pc.arena.save();
  const other = assemblePc(options);
  assertEquals(pc.arena.save().map((r) => [r.id, r.bytes]), before.map((r) => [r.id, r.bytes]));
  // And it is the same machine.
  new PcBoard(other.lock, other.ports, other.mmio, other.apics, 0, other.counters.of(0), null).ioWrite(0x3ff, 1, 0x5a);
  assertEquals(board(0).ioRead(0x3ff, 1), 0x5a);
});

Deno.test("each processor's accesses to the local APIC page reach its own", () => {
  const { board } = fixture();
  assertEquals(board(0).mmioRead(0xfee00020, 4), 0);
  assertEquals(board(1).mmioRead(0xfee00020, 4), 0x01000000);
});

Deno.test("IA32_APIC_BASE moves the page: its old address answers nothing", () => {
  const { board } = fixture();
  const b = board(0);
  assert(b.readMsr(0, 0x1b));
  assertEquals([b.msrHi, b.msrLo], [0, 0xfee00900]); // BSP, EN
  assert(b.writeMsr(0, 0x1b, 0xfed00900, 0));
  assertEquals(b.mmioRead(0xfee00030, 4), 0xffffffff);
  assertEquals(b.mmioRead(0xfed00030, 4) & 0xff, 0x14);
  assert(b.writeMsr(0, 0x1b, 0xfed00d00, 0)); // EXTD: x2APIC mode
  assertEquals(b.mmioRead(0xfed00030, 4), 0xffffffff);
  assert(b.readMsr(0, 0x803) && (b.msrLo & 0xff) === 0x14);
  assert(!b.readMsr(0, 0x8ff), "a reserved x2APIC MSR faults");
});

Deno.test("what nobody answers reads as ones, and the lock is free after every call", () => {
  const { pc, board } = fixture();
  const b = board(0);
  assertEquals([b.ioRead(0x1234, 1), b.ioRead(0x1234, 2), b.ioRead(0x1234, 4)], [0xff, 0xffff, 0xffffffff]);
  assertEquals(b.mmioRead(0xd0000000, 4), 0xffffffff);
  assertEquals(b.mmioRead(2 ** 40, 4), 0xffffffff);
  b.mmioWrite(2 ** 51, 4, 1);
  assertEquals(b.acknowledge(0), -1);
  assertEquals(b.readTpr(0), 0);
  let ran = false;
  pc.lock.with(() => ran = true);
  assert(ran);
});

Deno.test("port CF9h is reset control and not a part of CONFIG_ADDRESS", () => {
  const { pc, board } = fixture();
  const b = board(0);
  b.ioWrite(0xcf8, 4, 0x80000000);
  b.ioWrite(0xcf9, 1, 0x02);
  assertEquals([b.ioRead(0xcf8, 4), b.ioRead(0xcf9, 1), pc.control.endCause], [0x80000000, 0x02, 0]);
  b.ioWrite(0xcf9, 1, 0x06);
  assertEquals(pc.control.endCause, 2);
});

Deno.test("every BAR has an address in its window that no other has", () => {
  const { pc } = fixture();
  const taken: [number, number][] = [];
  for (const f of pc.pci.functions) {
    for (const [i, bar] of f.bars.entries()) {
      if (!bar) continue;
      const base = f.barBase(i), end = base + bar.sizeBytes;
      assert(base >= 0xc0000000 && end <= 0xe0000000 && base % bar.sizeBytes === 0, base.toString(16));
      assert(taken.every(([b, e]) => end <= b || base >= e));
      taken.push([base, end]);
    }
  }
  assertEquals(taken.length, 6);
});
