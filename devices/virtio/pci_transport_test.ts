import { assertEquals, assertNotEquals } from "@std/assert";
import { Arena } from "../../src/base/arena.ts";
import { TestIrq } from "../../src/base/irq.ts";
import { GuestRam } from "../../src/base/ram.ts";
import { CAPABILITY, COMMAND, PCI } from "../pci/function.ts";
import { PciHost, PciHostRecord } from "../pci/host.ts";
import { pirqOf, PirqRouter } from "../pci/pirq.ts";
import { PciDriver } from "./pci_driver.ts";
import { VirtioPci } from "./pci_transport.ts";
import { CFG_TYPE, DEVICE_STATUS, FEATURE, VIRTIO_COMMON } from "./registers.ts";

const { RING_INDIRECT_DESC, RING_EVENT_IDX, VERSION_1 } = FEATURE;
const { ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK, DEVICE_NEEDS_RESET } = DEVICE_STATUS;
const SCRATCH = { value: { at: 0, width: 4, access: "rw" }, byte: { at: 4, width: 1, access: "ro" } } as const;

/** Gives every chain back at once, full of its readable bytes. */
class Echo extends VirtioPci {
  readonly doorbells: number[] = [];
  inline = true;
  resets = 0;
  scratch = 0;
  constructor(arena: Arena, ram: GuestRam, readonly messages: number[]) {
    super(
      arena,
      "echo",
      { ram, msi: { send: (_lo, _hi, data) => messages.push(data) } },
      { type: 30, classCode: 0xff0000, features: [3, 40], queues: 2, queueSize: 64 },
    );
    this.showConfig<typeof SCRATCH>({
      registers: SCRATCH,
      readRegister: (r) => r === "value" ? this.scratch : 0x5a,
      writeRegister: (_r, v) => this.scratch = v,
    });
  }
  protected override notified(index: number): void {
    this.doorbells.push(index);
    if (this.inline) this.serve(index);
  }
  protected override wasReset(): void {
    this.resets++;
  }
  change(): void {
    this.configChanged();
  }
  hold(index: number): boolean {
    return this.acquire(index) !== null;
  }
  letGo(index: number): void {
    this.release(index);
  }
  serve(index: number): void {
    const q = this.acquire(index);
    if (!q) return;
    while (q.pop()) {
      const bytes = new Uint8Array(q.chain.readableBytes);
      q.chain.read(0, bytes);
      q.push(q.chain.head, q.chain.write(0, bytes));
      this.signalUsed(index);
    }
    this.release(index);
  }
}

function fixture() {
  const arena = Arena.private();
  const ram = GuestRam.private();
  const host = new PciHost(arena.place("host", PciHostRecord));
  const messages: number[] = [];
  const gsi = Array.from({ length: 8 }, () => new TestIrq());
  const dev = host.add(5, 0, new Echo(arena, ram, messages));
  new PirqRouter(host, { gsi });
  arena.powerOn();
  host.assignResources({ base: 0xc0000000, end: 0xc1000000 }, { base: 0x1000, end: 0x2000 });
  const drv = new PciDriver({ ecam: host.ecam, memory: host.memoryWindow(0), ram, devfn: 40, ringsAt: 0x10000 });
  return { arena, ram, host, dev, drv, messages, irq: gsi[pirqOf(5, 1)]! };
}

const hello = new TextEncoder().encode("hello");

Deno.test("the capabilities name all five structures, and the identity is virtio 1.x", () => {
  const { drv } = fixture();
  assertEquals(drv.config(0, 4), 0x105e1af4);
  assertEquals(drv.config(PCI.REVISION_ID, 1) >= 1, true);
  assertEquals([...drv.structures.keys()].sort(), [1, 2, 3, 4, 5]);
  assertNotEquals(drv.capabilities.get(CAPABILITY.MSIX), undefined);
  assertEquals(drv.common("num_queues"), 2);
});

Deno.test("the status handshake reaches DRIVER_OK and buffers go round, by INTx", () => {
  const { drv, irq, dev } = fixture();
  assertEquals(drv.offered(), [0x30000008, 0x101]);
  assertEquals(drv.negotiate([VERSION_1, RING_INDIRECT_DESC]), true);
  drv.start();
  assertEquals(drv.common("device_status"), ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
  drv.queues[1]!.add([hello, 5], true);
  assertEquals(irq.level, false);
  drv.notify(1);
  assertEquals(irq.level, true);
  assertEquals(dev.doorbells, [0, 1, 1], "each queue as it comes alive, then the doorbell");
  assertEquals(drv.isr(), 1);
  assertEquals([irq.level, drv.isr()], [false, 0], "reading ISR acknowledges");
  assertEquals(new TextDecoder().decode(drv.queues[1]!.collect()!.bytes), "hello");
});

Deno.test("FEATURES_OK does not stick without VERSION_1 or with what was not offered", () => {
  const { drv } = fixture();
  assertEquals(drv.negotiate([]), false);
  assertEquals(drv.negotiate([VERSION_1, 4]), false);
  assertEquals(drv.negotiate([VERSION_1, 63]), false);
  drv.common("device_status", ACKNOWLEDGE | DRIVER | DRIVER_OK);
  assertEquals(drv.common("device_status") & DRIVER_OK, 0, "no DRIVER_OK without FEATURES_OK");
  assertEquals(drv.negotiate([VERSION_1, 3]), true);
  drv.common("driver_feature_select", 0);
  drv.common("driver_feature", 0);
  assertEquals(drv.common("driver_feature"), 8, "features are settled");
  drv.common("driver_feature_select", 7);
  drv.common("driver_feature", 1);
  assertEquals(drv.common("driver_feature"), 0);
  drv.common("device_feature_select", 2);
  assertEquals(drv.common("device_feature"), 0);
});

Deno.test("no buffer is used before DRIVER_OK, or before the queue is enabled", () => {
  const { drv, dev } = fixture();
  drv.negotiate([VERSION_1]);
  drv.notify(0);
  assertEquals(dev.doorbells, []);
  assertEquals(dev.hold(0), false);
});

Deno.test("queue registers: selection, bounds, and nothing moves once enabled", () => {
  const { drv } = fixture();
  drv.negotiate([VERSION_1]);
  drv.common("queue_select", 9);
  assertEquals([drv.common("queue_size"), drv.common("queue_enable")], [0, 0]);
  drv.common("queue_size", 8);
  drv.common("queue_select", 1);
  assertEquals([drv.common("queue_size"), drv.common("queue_notify_off")], [64, 1]);
  for (const bad of [0, 3, 128]) drv.common("queue_size", bad);
  assertEquals(drv.common("queue_size"), 64);
  drv.common("queue_size", 32);
  drv.common("queue_msix_vector", 3);
  assertEquals(drv.common("queue_msix_vector"), 0xffff, "there are three vectors");
  drv.common("queue_msix_vector", 2);
  assertEquals(drv.common("queue_msix_vector"), 2);
  drv.common("queue_desc_lo", 0x1000);
  drv.common("queue_enable", 1);
  drv.common("queue_desc_lo", 0x2000);
  drv.common("queue_size", 16);
  drv.common("queue_enable", 0);
  assertEquals([drv.common("queue_desc_lo"), drv.common("queue_size"), drv.common("queue_enable")], [0x1000, 32, 1]);
});

Deno.test("with MSI-X each queue and the configuration send their own message, and INTx stays quiet", () => {
  const { drv, messages, irq, dev } = fixture();
  drv.negotiate([VERSION_1]);
  drv.common("config_msix_vector", 0);
  drv.enableMsix(0x40);
  drv.start(16, (q) => q + 1);
  for (const q of [0, 1]) {
    drv.queues[q]!.add([hello, 5]);
    drv.notify(q);
  }
  dev.change();
  assertEquals(messages, [0x41, 0x42, 0x40]);
  assertEquals([irq.rises, drv.isr()], [0, 0]);
});

Deno.test("without bus mastering nothing is read or sent; granting it makes up for lost doorbells", () => {
  const { drv, messages } = fixture();
  drv.negotiate([VERSION_1]);
  drv.enableMsix(0x40);
  drv.start(16, () => 1);
  drv.config(PCI.COMMAND, 2, COMMAND.MEMORY_SPACE);
  drv.queues[0]!.add([hello, 5]);
  drv.notify(0);
  assertEquals(drv.queues[0]!.collect(), null);
  drv.config(PCI.COMMAND, 2, COMMAND.MEMORY_SPACE | COMMAND.BUS_MASTER);
  assertEquals(drv.queues[0]!.collect()!.written, 5);
  assertEquals(messages, [0x41]);
});

Deno.test("a configuration change raises config_generation and the configuration interrupt", () => {
  const { drv, dev, irq } = fixture();
  drv.negotiate([VERSION_1]);
  dev.change();
  assertEquals(irq.level, false, "not before DRIVER_OK");
  drv.start();
  const before = drv.common("config_generation");
  dev.change();
  assertNotEquals(drv.common("config_generation"), before);
  assertEquals([irq.level, drv.isr()], [true, 2]);
});

Deno.test("a broken ring sets DEVICE_NEEDS_RESET with a configuration interrupt, and reset brings the device back", () => {
  const { drv, irq, dev } = fixture();
  drv.negotiate([VERSION_1]);
  drv.start();
  drv.queues[0]!.publish(999);
  drv.notify(0);
  assertEquals(drv.common("device_status") & DEVICE_NEEDS_RESET, DEVICE_NEEDS_RESET);
  assertEquals([irq.level, drv.isr()], [true, 2]);
  dev.doorbells.length = 0;
  drv.notify(1);
  assertEquals(dev.doorbells, [], "the other queue rests too");
  drv.negotiate([VERSION_1]);
  drv.start();
  drv.queues[0]!.add([hello, 5]);
  drv.notify(0);
  assertEquals(drv.queues[0]!.collect()!.written, 5);
});

Deno.test("a reset is complete only when the thread that serves a queue has let go", () => {
  const { drv, dev } = fixture();
  drv.negotiate([VERSION_1]);
  dev.inline = false;
  drv.start();
  assertEquals(dev.hold(0), true);
  dev.resets = 0;
  drv.common("device_status", 0);
  assertNotEquals(drv.common("device_status"), 0);
  drv.common("device_status", ACKNOWLEDGE);
  drv.common("queue_select", 1);
  drv.common("queue_enable", 1);
  assertEquals(dev.resets, 0);
  dev.letGo(0);
  assertEquals(drv.common("device_status"), 0);
  assertEquals(dev.resets, 1);
  assertEquals(drv.common("queue_enable"), 0);
  drv.common("queue_select", 1);
  assertEquals([drv.common("queue_enable"), drv.common("queue_size")], [0, 64]);
});

Deno.test("a driver that does not wait for the reset is served once the queue is free", () => {
  const { drv, dev } = fixture();
  drv.negotiate([VERSION_1]);
  dev.inline = false;
  drv.start();
  dev.hold(0);
  drv.common("device_status", 0);
  dev.letGo(0);
  drv.common("device_status", ACKNOWLEDGE);
  assertEquals(drv.common("device_status"), ACKNOWLEDGE);
});

Deno.test("the device-specific structure is read and written through its registers", () => {
  const { drv, dev } = fixture();
  drv.structure(CFG_TYPE.DEVICE, 0, 4, 0x12345678);
  assertEquals(dev.scratch, 0x12345678);
  assertEquals(drv.structure(CFG_TYPE.DEVICE, 2, 1), 0x34);
  assertEquals(drv.structure(CFG_TYPE.DEVICE, 4, 1), 0x5a);
  assertEquals(drv.structure(CFG_TYPE.DEVICE, 0x800, 1), 0xff);
});

Deno.test("PCI configuration access reaches a structure without memory decoding", () => {
  const { drv, dev } = fixture();
  drv.config(PCI.COMMAND, 2, COMMAND.BUS_MASTER);
  const at = drv.capabilities.get(CAPABILITY.VENDOR_SPECIFIC)!;
  const point = (bar: number, offset: number, length: number) => {
    drv.config(at + 4, 1, bar);
    drv.config(at + 8, 4, offset);
    drv.config(at + 12, 4, length);
  };
  point(0, VIRTIO_COMMON.num_queues.at, 2);
  assertEquals(drv.config(at + 16, 2), 2);
  point(0, 0x2000, 4);
  drv.config(at + 16, 4, 0xcafe);
  assertEquals(dev.scratch, 0xcafe);
  assertEquals(drv.config(at + 16, 4), 0xcafe);
  for (
    const [bar, offset, length] of [[0, 0x2000, 3], [0, 0x2002, 4], [0, 0x4000, 4], [5, 0, 4], [255, 0, 4], [
      0,
      0xfffffffc,
      4,
    ]]
  ) {
    point(bar!, offset!, length!);
    drv.config(at + 16, 4, 1);
  }
  assertEquals(dev.scratch, 0xcafe, "an access outside the rules does nothing");
});

Deno.test("a saved device goes on where it was, in another machine", () => {
  const a = fixture(), b = fixture();
  a.drv.negotiate([VERSION_1, RING_EVENT_IDX]);
  a.drv.start();
  a.drv.queues[0]!.add([hello, 5]);
  a.drv.notify(0);
  a.drv.queues[0]!.collect();
  a.drv.queues[0]!.add([hello, 5]);
  b.arena.restore(a.arena.save());
  b.ram.bytes(0, b.ram.sizeBytes)!.set(a.ram.bytes(0, a.ram.sizeBytes)!);
  b.drv.notify(0);
  for (const { dev } of [a, b]) dev.renotify();
  for (const q of ["lastAvail", "usedIdx", "signalled"] as const) {
    assertEquals(b.dev.queues[0]!.s[q], a.dev.queues[0]!.s[q]);
  }
  assertEquals(b.ram.bytes(0x10000, 0x1000), a.ram.bytes(0x10000, 0x1000));
});

Deno.test("random accesses to every structure and configuration byte never throw", () => {
  const { drv, host, dev } = fixture();
  let seed = 99;
  const random = (n: number) => (seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0) % n;
  const memory = host.memoryWindow(0xc0000000);
  for (let i = 0; i < 30000; i++) {
    const size = [1, 2, 4][random(3)]!;
    const value = random(2) ? random(16) : seed;
    switch (random(4)) {
      case 0:
        assertEquals(memory.read(random(0x5000), size) < 2 ** (8 * size), true);
        break;
      case 1:
        memory.write(random(2) ? random(0x40) : random(0x5000), size, (value & (2 ** (8 * size) - 1)) >>> 0);
        break;
      case 2:
        assertEquals(drv.config(random(256), size) < 2 ** (8 * size), true);
        break;
      default:
        // The BARs stay, so that the rest keeps reaching the device.
        drv.config(0x40 + random(0xc0), size, value);
    }
    if (random(500) === 0) drv.config(PCI.COMMAND, 2, 6);
    if (random(200) === 0 && drv.negotiate([VERSION_1, RING_INDIRECT_DESC])) drv.start();
    dev.doorbells.length = 0;
  }
});
