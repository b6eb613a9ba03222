import { assertEquals } from "@std/assert";
import { Arena } from "../../src/base/arena.ts";
import { TestIrq } from "../../src/base/irq.ts";
import { CAPABILITY, COMMAND, PCI, PciFunction, PciFunctionRecord, type PciFunctionSpec } from "./function.ts";
import { PciHost, PciHostRecord } from "./host.ts";
import { Ich9Lpc, LPC } from "./lpc.ts";
import { MemoryController } from "./mch.ts";
import { Msix, msixRecord } from "./msix.ts";
import { pirqOf, PirqRouter } from "./pirq.ts";

const SPEC: PciFunctionSpec = {
  vendor: 0x1234,
  device: 0x5678,
  revision: 9,
  classCode: 0x0c0330,
  subsystemVendor: 0xabcd,
  subsystem: 0xef01,
  interruptPin: 1,
  bars: {
    0: { kind: "memory32", sizeBytes: 4096 },
    1: { kind: "io", sizeBytes: 32 },
    2: { kind: "memory64", sizeBytes: 1 << 16, prefetchable: true },
  },
};

/** Remembers what reached its BARs. */
class Probe extends PciFunction {
  readonly seen: string[] = [];
  override barRead(bar: number, offset: number, size: number): number {
    this.seen.push(`r${bar}+${offset}/${size}`);
    return 0x42;
  }
  override barWrite(bar: number, offset: number, size: number, value: number): void {
    this.seen.push(`w${bar}+${offset}/${size}=${value}`);
  }
}

function board() {
  const arena = Arena.private();
  const host = new PciHost(arena.place("host", PciHostRecord));
  const add = (device: number, fn = 0, spec = SPEC) =>
    host.add(device, fn, new Probe(arena.place(`f${device}.${fn}`, PciFunctionRecord), spec));
  const mch = host.add(
    0,
    0,
    new MemoryController(arena.place("mch", PciFunctionRecord), { ecamBase: 0xe0000000 }),
  );
  const lpc = host.add(31, 0, new Ich9Lpc(arena.place("lpc", PciFunctionRecord), { pmBase: 0x600 }));
  return { arena, host, add, mch, lpc };
}

/** Configuration mechanism #1. */
function ports(host: PciHost) {
  const select = (devfn: number, at: number) => host.configPorts.write(0, 4, 0x80000000 + devfn * 256 + (at & 0xfc));
  return {
    read(devfn: number, at: number, size: number) {
      select(devfn, at);
      return host.configPorts.read(4 + (at & 3), size);
    },
    write(devfn: number, at: number, size: number, value: number) {
      select(devfn, at);
      host.configPorts.write(4 + (at & 3), size, value);
    },
  };
}

Deno.test("configuration space reads the same through the ports and through ECAM, at every width", () => {
  const { host, add } = board();
  add(3);
  const p = ports(host);
  for (let at = 0; at < 256; at += 4) {
    const whole = host.ecam.read(24 * 4096 + at, 4);
    assertEquals(p.read(24, at, 4), whole);
    for (let i = 0; i < 4; i++) assertEquals(p.read(24, at + i, 1), (whole >>> (8 * i)) & 0xff);
    for (let i = 0; i < 4; i += 2) assertEquals(host.ecam.read(24 * 4096 + at + i, 2), (whole >>> (8 * i)) & 0xffff);
  }
  assertEquals(p.read(24, 0, 4), 0x56781234);
  assertEquals(p.read(24, PCI.CLASS_CODE - 1, 4), 0x0c033009);
  assertEquals(p.read(24, PCI.SUBSYSTEM_VENDOR_ID, 4), 0xef01abcd);
  assertEquals(host.ecam.read(24 * 4096 + 0x100, 4), 0, "no extended capability");
});

Deno.test("an absent function, another bus and a disabled CONFIG_ADDRESS read as all ones", () => {
  const { host } = board();
  const p = ports(host);
  assertEquals(p.read(8, 0, 4), 0xffffffff);
  assertEquals(host.ecam.read(8 * 4096, 2), 0xffff);
  assertEquals(host.ecam.read((1 << 20) + 0, 4), 0xffffffff);
  host.configPorts.write(0, 4, 0x80010000);
  assertEquals(host.configPorts.read(4, 4), 0xffffffff);
  host.configPorts.write(0, 4, 0x00000000);
  assertEquals(host.configPorts.read(4, 4), 0xffffffff);
});

Deno.test("CONFIG_ADDRESS takes doublewords only, and CF9h reaches reset control", () => {
  const seen: number[] = [];
  const host = new PciHost(PciHostRecord.create(), {
    resetControl: { read: () => 0x06, write: (_o, _s, v) => seen.push(v) },
  });
  host.configPorts.write(0, 4, 0xffffffff);
  assertEquals(host.configPorts.read(0, 4), 0x80fffffc);
  host.configPorts.write(0, 1, 0x12);
  host.configPorts.write(2, 2, 0x12);
  host.configPorts.write(1, 1, 0x0e);
  assertEquals(host.configPorts.read(0, 4), 0x80fffffc);
  assertEquals(seen, [0x0e]);
  assertEquals(host.configPorts.read(1, 1), 0x06);
});

Deno.test("BARs answer sizing by all ones as [pci §6.2.5.1] says", () => {
  const { host, add } = board();
  add(3);
  const p = ports(host);
  const size = (i: number) => {
    p.write(24, PCI.BAR0 + 4 * i, 4, 0xffffffff);
    return p.read(24, PCI.BAR0 + 4 * i, 4);
  };
  assertEquals([0, 1, 2, 3, 4, 5].map(size), [0xfffff000, 0xffffffe1, 0xffff000c, 0xffffffff, 0, 0]);
});

Deno.test("a read-only bit cannot be changed by a write nor by a snapshot", () => {
  const { host, add, arena } = board();
  const f = add(3);
  for (let at = 0; at < 256; at++) host.ecam.write(24 * 4096 + at, 1, 0xff);
  const bits = Array.from({ length: 64 }, (_, i) => f.readConfig(4 * i, 4));
  assertEquals(bits[0], 0x56781234);
  assertEquals(bits[1], 0x00000547, "command bits of a plain function; status is untouched");
  assertEquals(bits[15], 0x000001ff);
  for (const r of arena.save()) if (r.id === "f3.0") r.bytes.fill(0xff, 0, 256), arena.restore(replaced(arena, r));
  assertEquals(f.readConfig(0, 4), 0x56781234);
  assertEquals(f.readConfig(PCI.REVISION_ID, 4), 0x0c033009);
});

function replaced(arena: Arena, by: ReturnType<Arena["save"]>[number]) {
  return arena.save().map((r) => r.id === by.id ? by : r);
}

Deno.test("windows follow BARs as they move, and only while the command register enables them", () => {
  const { host, add } = board();
  const f = add(3);
  const memory = host.memoryWindow(0x80000000), high = host.memoryWindow(2 ** 33), io = host.ioWindow(0x1000);
  const at = 24 * 4096;
  host.ecam.write(at + PCI.BAR0, 4, 0x80004000);
  host.ecam.write(at + PCI.BAR0 + 4, 4, 0x1040);
  host.ecam.write(at + PCI.BAR0 + 8, 4, 0x00010000);
  host.ecam.write(at + PCI.BAR0 + 12, 4, 2);
  assertEquals(memory.read(0x4000, 4), 0xffffffff);
  host.ecam.write(at + PCI.COMMAND, 2, COMMAND.MEMORY_SPACE);
  assertEquals(memory.read(0x4ffc, 4), 0x42);
  assertEquals(memory.read(0x4ffe, 4), 0xffffffff, "past the end of the BAR");
  assertEquals(io.read(0x40, 1), 0xff);
  host.ecam.write(at + PCI.COMMAND, 1, COMMAND.IO_SPACE | COMMAND.MEMORY_SPACE);
  io.write(0x5f, 1, 7);
  high.write(0x1fff0, 4, 5);
  host.ecam.write(at + PCI.BAR0, 4, 0x80009000);
  assertEquals(memory.read(0x4000, 2), 0xffff);
  assertEquals(memory.read(0x9000, 2), 0x42);
  assertEquals(f.seen, ["r0+4092/4", "w1+31/1=7", "w2+65520/4=5", "r0+0/2"]);
});

Deno.test("BARs restored under a running machine are decoded where the snapshot has them", () => {
  const { host, add, arena } = board();
  add(3);
  const memory = host.memoryWindow(0x80000000);
  host.ecam.write(24 * 4096 + PCI.COMMAND, 1, COMMAND.MEMORY_SPACE);
  const saved = arena.save();
  host.ecam.write(24 * 4096 + PCI.BAR0, 4, 0x80001000);
  assertEquals(memory.read(0x1000, 1), 0x42);
  arena.restore(saved);
  host.ecam.write(24 * 4096 + PCI.BAR0, 4, 0x80002000); // as many writes, another past
  assertEquals(memory.read(0x1000, 1), 0xff);
  assertEquals(memory.read(0x2000, 1), 0x42);
});

Deno.test("of two BARs at one address the lower device number answers", () => {
  const { host, add } = board();
  const a = add(3), b = add(4);
  for (const f of [b, a]) {
    f.writeConfig(PCI.BAR0, 4, 0x80000000);
    f.writeConfig(PCI.COMMAND, 2, COMMAND.MEMORY_SPACE);
  }
  host.memoryWindow(0x80000000).write(0, 1, 1);
  assertEquals([a.seen.length, b.seen.length], [1, 0]);
});

Deno.test("assignResources gives every BAR a place of its own, aligned, and enables it", () => {
  const { host, add } = board();
  const fns = [add(3), add(4), add(5)];
  host.assignResources({ base: 0x80000000, end: 0x80100000 }, { base: 0x1000, end: 0x2000 });
  const ranges: [number, number][] = [];
  for (const f of fns) {
    for (const i of [0, 1, 2]) {
      const base = f.barBase(i), size = f.bars[i]!.sizeBytes;
      assertEquals(base % size, 0);
      assertEquals(i === 1 ? base >= 0x1000 && base + size <= 0x2000 : base >= 0x80000000, true);
      for (const [from, to] of ranges) assertEquals(base >= to || base + size <= from, true);
      ranges.push([base, base + size]);
    }
  }
});

Deno.test("a device with a second function says so in the header of its first", () => {
  const { host, add } = board();
  add(3);
  assertEquals(host.ecam.read(24 * 4096 + PCI.HEADER_TYPE, 1), 0);
  add(3, 1);
  assertEquals(host.ecam.read(24 * 4096 + PCI.HEADER_TYPE, 1), 0x80);
  assertEquals(host.ecam.read(25 * 4096 + PCI.HEADER_TYPE, 1), 0);
});

Deno.test("host bridge and LPC bridge identify themselves and hold the chip's power-on values", () => {
  const { mch, lpc } = board();
  assertEquals(mch.readConfig(0, 4), 0x29c08086);
  assertEquals(mch.readConfig(PCI.REVISION_ID, 4) >>> 8, 0x060000);
  assertEquals([mch.readConfig(0x60, 4), mch.readConfig(0x64, 4)], [0xe0000001, 0]);
  mch.writeConfig(0x60, 4, 0);
  assertEquals(mch.readConfig(0x60, 4), 0xe0000001);
  assertEquals(lpc.readConfig(0, 4), 0x29188086);
  assertEquals(lpc.readConfig(PCI.REVISION_ID, 4) >>> 8, 0x060100);
  assertEquals(lpc.readConfig(LPC.PMBASE, 4), 0x601);
  lpc.writeConfig(LPC.PMBASE, 4, 0xffffffff);
  assertEquals(lpc.readConfig(LPC.PMBASE, 4), 0xff81);
  assertEquals([lpc.readConfig(0x60, 4), lpc.readConfig(0x68, 4)], [0x80808080, 0x80808080]);
  lpc.writeConfig(LPC.RCBA, 4, 0xffffffff);
  assertEquals(lpc.readConfig(LPC.RCBA, 4), 0xffffc001);
});

Deno.test("INTx is the OR of the functions on a PIRQ, follows Interrupt Disable, and shows in the status register", () => {
  const { host, add, lpc } = board();
  const gsi = Array.from({ length: 8 }, () => new TestIrq()), isa = Array.from({ length: 16 }, () => new TestIrq());
  new PirqRouter(host, { gsi, isa }, lpc);
  const a = add(3), b = add(11);
  const pirq = pirqOf(3, 1);
  assertEquals(pirq, pirqOf(11, 1));
  a.setIntx(true);
  b.setIntx(true);
  assertEquals(gsi.map((l) => l.level).indexOf(true), pirq);
  assertEquals(a.readConfig(PCI.STATUS, 2) & 8, 8);
  a.setIntx(false);
  assertEquals(gsi[pirq]!.level, true);
  b.writeConfig(PCI.COMMAND, 2, COMMAND.INTERRUPT_DISABLE);
  assertEquals(gsi[pirq]!.level, false);
  assertEquals(b.readConfig(PCI.STATUS, 2) & 8, 8, "the status bit does not look at Interrupt Disable");
  b.writeConfig(PCI.COMMAND, 2, 0);
  lpc.writeConfig(LPC.PIRQA_ROUT + pirq, 1, 11);
  assertEquals(isa[11]!.level, true);
  lpc.writeConfig(LPC.PIRQA_ROUT + pirq, 1, 10);
  assertEquals([isa[10]!.level, isa[11]!.level], [true, false]);
  lpc.writeConfig(LPC.PIRQA_ROUT + pirq, 1, 2); // reserved: no interrupt
  assertEquals(isa.some((l) => l.level), false);
});

class WithMsix extends Probe {
  readonly capability: number;
  readonly sent: number[][] = [];
  readonly msix: Msix;
  constructor() {
    super(PciFunctionRecord.create(), SPEC);
    const layout = { vectors: 33, bar: 0, tableAt: 0, pbaAt: 0x800 };
    const sink = { send: (...m: number[]) => this.sent.push(m) };
    this.msix = new Msix(msixRecord(33).create(), layout, sink, () => this.readConfig(this.capability + 2, 2));
    this.addCapability(CAPABILITY.VENDOR_SPECIFIC, new Uint8Array([5, 0, 0]));
    this.capability = this.addCapability(CAPABILITY.MSIX, this.msix.capabilityBody, this.msix.capabilityMask);
  }
  protected override configWritten(): void {
    this.msix.deliver();
  }
}

Deno.test("the capabilities list leads through every capability and ends", () => {
  const f = new WithMsix();
  assertEquals(f.readConfig(PCI.STATUS, 2), 0x10);
  const first = f.readConfig(PCI.CAPABILITIES, 1), second = f.readConfig(first + 1, 1);
  assertEquals([first, second], [0x40, 0x48]);
  assertEquals(f.readConfig(second, 4), 0x00200011);
  assertEquals([f.readConfig(second + 4, 4), f.readConfig(second + 8, 4)], [0, 0x800]);
  f.writeConfig(second, 4, 0xffffffff);
  assertEquals(f.readConfig(second, 4), 0xc0200011);
});

Deno.test("MSI-X holds a masked vector's message pending and sends it once when unmasked", () => {
  const f = new WithMsix();
  const m = f.msix;
  m.write(32 * 16, 4, 0xfee00003);
  m.write(32 * 16 + 4, 4, 1);
  m.write(32 * 16 + 8, 4, 0x41);
  assertEquals([0, 4, 8, 12].map((at) => m.read(32 * 16 + at, 4)), [0xfee00000, 1, 0x41, 1]);
  m.fire(32);
  assertEquals(m.read(0x804, 4), 0, "nothing happens while MSI-X is off");
  f.writeConfig(f.capability + 2, 2, 0xc000);
  m.fire(32);
  m.fire(32);
  m.fire(33);
  assertEquals([m.read(0x800, 4), m.read(0x804, 4)], [0, 1]);
  m.write(32 * 16 + 12, 4, 0);
  assertEquals(f.sent, [], "the function is still masked");
  f.writeConfig(f.capability + 2, 2, 0x8000);
  assertEquals(f.sent, [[0xfee00000, 1, 0x41]]);
  assertEquals(m.read(0x804, 4), 0);
  m.fire(32);
  assertEquals(f.sent.length, 2);
  m.write(32 * 16 + 12, 4, 1);
  m.fire(32);
  m.write(32 * 16 + 12, 4, 0);
  assertEquals(f.sent.length, 3);
});

Deno.test("the MSI-X table is read at any width and written as doublewords only", () => {
  const m = new WithMsix().msix;
  m.write(0, 4, 0xfee01230);
  m.write(4, 4, 0x89abcdef);
  m.write(2, 2, 0);
  m.write(1, 4, 0);
  assertEquals(m.read(1, 2), 0xe012);
  assertEquals(m.read(3, 4), 0xabcdeffe);
  assertEquals(m.read(0x7fe, 4), 0);
});

Deno.test("PCIEXBAR: where firmware may move it, it starts disabled, and its length says what it claims", () => {
  const mch = new MemoryController(PciFunctionRecord.create(), { ecamBase: 0xe0000000, movableEcam: true });
  let changes = 0;
  mch.onChange = () => changes++;
  assertEquals(mch.ecam, null);
  mch.writeConfig(0x60, 4, 0xb0000001);
  assertEquals(mch.ecam, { base: 0xb0000000, sizeBytes: 256 << 20 });
  mch.writeConfig(0x60, 4, 0xb4000000 | (2 << 1) | 1);
  assertEquals(mch.ecam, { base: 0xb4000000, sizeBytes: 64 << 20 });
  mch.writeConfig(0x60, 4, 0xb0000007); // a length that is reserved
  assertEquals([mch.ecam, changes], [null, 3]);
});

Deno.test("PAM: each half of a register says who answers reads and takes writes [g33 §5.1.17]", () => {
  const mch = new MemoryController(PciFunctionRecord.create(), { ecamBase: 0xe0000000 });
  const at = (base: number) => {
    const { sizeBytes, readsRam, writesRam } = mch.pam.find((r) => r.base === base)!;
    return [sizeBytes, readsRam, writesRam];
  };
  assertEquals(mch.pam.reduce((sum, r) => sum + r.sizeBytes, 0), 0x40000);
  mch.writeConfig(0x90, 1, 0x30);
  mch.writeConfig(0x91, 1, 0x21);
  mch.writeConfig(0x96, 1, 0x10);
  assertEquals(at(0xf0000), [0x10000, true, true]);
  assertEquals([at(0xc0000), at(0xc4000)], [[0x4000, true, false], [0x4000, false, true]]);
  assertEquals([at(0xe8000), at(0xec000)], [[0x4000, false, false], [0x4000, true, false]]);
});

Deno.test("an expansion ROM is sized like a BAR, and answers while its enable bit and memory space are set", () => {
  const { host, add } = board();
  const rom = Uint8Array.from({ length: 0x1000 }, (_, i) => i * 7);
  const fn = add(5, 0, { ...SPEC, bars: {}, rom });
  const window = host.memoryWindow(0xc0000000);
  fn.writeConfig(PCI.EXPANSION_ROM, 4, 0xffffffff);
  assertEquals(fn.readConfig(PCI.EXPANSION_ROM, 4), 0xfffff001);
  fn.writeConfig(PCI.EXPANSION_ROM, 4, 0xc0010000);
  fn.writeConfig(PCI.COMMAND, 2, COMMAND.MEMORY_SPACE);
  assertEquals(window.read(0x10004, 4), 0xffffffff);
  fn.writeConfig(PCI.EXPANSION_ROM, 4, 0xc0010001);
  assertEquals(window.read(0x10004, 4), 0x312a231c);
  window.write(0x10004, 4, 0);
  assertEquals([window.read(0x10004, 2), window.read(0x10fff, 1), fn.seen], [0x231c, 0xf9, []]);
  fn.writeConfig(PCI.COMMAND, 2, 0);
  assertEquals(window.read(0x10004, 4), 0xffffffff);
});
