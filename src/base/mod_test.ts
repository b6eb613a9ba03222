import { assertEquals, assertThrows } from "@std/assert";
import { Arena } from "./arena.ts";
import { registerBank } from "./bus.ts";
import { nsOfTick, ticksAt } from "./clock.ts";
import { RestoreError } from "./errors.ts";
import { record } from "./record.ts";
import { ByteRing } from "./ring.ts";
import { TestTime, Timers } from "./timers.ts";

const R = record("r", 1, { a: "u8", b: { type: "u32", max: 9, reset: 3 }, c: { array: "u16", length: 3 }, d: "f64" });

Deno.test("record lays fields out at their natural alignment", () => {
  assertEquals(R.offsets, { a: 0, b: 4, c: 8, d: 16 });
  assertEquals(R.sizeBytes, 24);
});

Deno.test("Arena.restore rejects a field out of range and changes nothing", () => {
  const arena = Arena.private();
  const r = arena.place("x", R);
  arena.powerOn();
  assertEquals(r.b, 3);
  const saved = arena.save();
  r.b = 7;
  new DataView(saved[0]!.bytes.buffer).setUint32(4, 10, true);
  assertThrows(() => arena.restore(saved), RestoreError, "r.b");
  assertEquals(r.b, 7);
});

Deno.test("ticksAt and nsOfTick agree at every edge", () => {
  for (const hz of [1, 1193182, 3579545, 32768, 1_000_000_000]) {
    for (let t = 0; t < 1000; t += 7) {
      assertEquals(ticksAt(nsOfTick(t, hz), hz), t);
      if (t > 0) assertEquals(ticksAt(nsOfTick(t, hz) - 1, hz), t - 1);
    }
  }
});

Deno.test("registerBank reads a spanning access from both registers and ones from the gap", () => {
  const bank = registerBank({
    registers: { A: { at: 0, width: 2, access: "rw" }, B: { at: 2, width: 1, access: "rw" } },
    readRegister: (n: string) => n === "A" ? 0x1234 : 0x56,
    writeRegister: () => {},
  });
  assertEquals(bank.read(0, 4), 0xff561234);
  assertEquals(bank.read(1, 1), 0x12);
});

Deno.test("TestTime.advance runs a periodic timer at each of its times", () => {
  const timers = new Timers(Arena.private());
  const time = new TestTime(timers);
  const seen: number[] = [];
  const t = timers.timer("t", () => {
    seen.push(time.nowNs());
    t.arm(time.nowNs() + 10);
  });
  t.arm(10);
  time.advance(35);
  assertEquals(seen, [10, 20, 30]);
});

Deno.test("ByteRing loses nothing when it is full", () => {
  const ring = ByteRing.private(8);
  assertEquals(ring.write(new Uint8Array([1, 2, 3, 4, 5, 6, 7, 8, 9])), 8);
  assertEquals(ring.put(9), false);
  assertEquals([...ring.read(3)], [1, 2, 3]);
  assertEquals(ring.put(9), true);
  assertEquals([...ring.read()], [4, 5, 6, 7, 8, 9]);
});
