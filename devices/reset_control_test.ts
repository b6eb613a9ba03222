import { assertEquals } from "@std/assert";
import { TestIrq } from "../src/base/irq.ts";
import { ResetControl, ResetControlRecord } from "./reset_control.ts";

function fixture() {
  const a20 = new TestIrq();
  const count = { resets: 0 };
  const dev = new ResetControl(ResetControlRecord.create(), { a20, onReset: () => count.resets++ });
  return { a20, count, dev };
}

Deno.test("RST_CPU resets; SYS_RST and FULL_RST only say how", () => {
  const { count, dev } = fixture();
  dev.reset.write(0, 1, 0x0a);
  assertEquals([count.resets, dev.reset.read(0, 1)], [0, 0x0a]);
  dev.reset.write(0, 1, 0x0e);
  assertEquals([count.resets, dev.reset.read(0, 1)], [1, 0x0a]);
  dev.reset.write(0, 1, 0x06);
  assertEquals(count.resets, 2);
});

Deno.test("Port 92h drives A20 and resets on a rise of INIT_NOW", () => {
  const { a20, count, dev } = fixture();
  dev.port92.write(0, 1, 0xfe);
  assertEquals([a20.level, count.resets, dev.port92.read(0, 1)], [true, 0, 0x02]);
  dev.port92.write(0, 1, 0x01);
  assertEquals([a20.level, count.resets], [false, 1]);
  dev.port92.write(0, 1, 0x01);
  assertEquals(count.resets, 1);
});
