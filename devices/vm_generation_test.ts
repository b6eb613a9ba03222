import { assertEquals, assertNotEquals } from "@std/assert";
import { TestIrq } from "../src/base/irq.ts";
import { VM_GENERATION_BYTES, VmGeneration, VmGenerationRecord } from "./vm_generation.ts";

function fixture() {
  const irq = new TestIrq(), record = VmGenerationRecord.create();
  let next = 0;
  const dev = new VmGeneration(record, { irq, entropy: { fill: (into) => into.forEach((_, i) => into[i] = ++next) } });
  const read = () => Array.from({ length: VM_GENERATION_BYTES }, (_, i) => dev.region.read(i, 1));
  return { irq, dev, read };
}

Deno.test("the number is there from power-on, in every width, and cannot be written", () => {
  const { dev, irq, read } = fixture();
  dev.powerOn();
  const guid = read();
  assertEquals(guid, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
  assertEquals([dev.region.read(4, 4), dev.region.read(14, 2)], [0x08070605, 0x100f]);
  dev.region.write(0, 4, 0xffffffff);
  assertEquals(read(), guid);
  assertEquals(irq.rises, 0);
});

Deno.test("another number comes with an edge, and the line is left low for the next", () => {
  const { dev, irq, read } = fixture();
  dev.powerOn();
  const guid = read();
  dev.renew();
  assertNotEquals(read(), guid);
  assertEquals([irq.rises, irq.level], [1, false]);
  dev.renew();
  assertEquals(irq.rises, 2);
});
