import { assertEquals, assertThrows } from "@std/assert";
import { Arena } from "../../src/base/arena.ts";
import { Bug, RestoreError } from "../../src/base/errors.ts";
import { GuestRam } from "../../src/base/ram.ts";
import { record } from "../../src/base/record.ts";
import { CLOCK_BYTES, HostClock } from "../../src/host/host_clock.ts";
import { Lifecycle, type LifeState, restoreMachine, saveMachine } from "../../src/machine/lifecycle.ts";

const Part = record("part", 1, { value: { type: "u8", max: 9 } });

function parts(ramBytes = 256 * 1024 + 4096) {
  const arena = Arena.private();
  const part = arena.place("part", Part);
  const ram = GuestRam.private(ramBytes);
  const written: [number, number][] = [];
  ram.onWrite = (gpa, size) => written.push([gpa, size]);
  const clock = new HostClock(arena.buffer, arena.raw(CLOCK_BYTES));
  let settled = 0;
  return { arena, part, ram, clock, written, settle: () => settled++, settled: () => settled };
}

Deno.test("Lifecycle allows what its table says and nothing else", () => {
  const states: LifeState[] = ["created", "running", "paused", "resetting", "ended"];
  const legal = new Set([
    "created>running",
    "created>ended",
    "running>paused",
    "running>resetting",
    "running>ended",
    "paused>running",
    "paused>resetting",
    "paused>ended",
    "resetting>running",
    "resetting>ended",
  ]);
  const wayTo: Record<LifeState, LifeState[]> = {
    created: [],
    running: ["running"],
    paused: ["running", "paused"],
    resetting: ["running", "resetting"],
    ended: ["ended"],
  };
  for (const from of states) {
    for (const to of states) {
      const life = new Lifecycle();
      for (const step of wayTo[from]) life.to(step);
      if (legal.has(`${from}>${to}`)) {
        life.to(to);
        assertEquals(life.state, to);
      } else {
        assertThrows(() => life.to(to), Bug, `${from} cannot become ${to}`);
        assertEquals(life.state, from);
      }
    }
  }
});

Deno.test("a restored machine has the records, the memory and the time of the saved one", () => {
  const a = parts(), b = parts();
  a.part.value = 7;
  a.clock.set(123e9);
  a.ram.write(5, 1, 0xaa);
  a.ram.write(65536 * 3 - 1, 1, 0xbb);
  a.ram.write(256 * 1024 + 4095, 1, 0xcc);
  const saved = saveMachine(a);
  assertEquals(saved.ram.map((c) => [c.gpa, c.bytes.length]), [[0, 65536], [131072, 65536], [262144, 4096]]);

  b.part.value = 1;
  b.ram.write(70000, 4, 0x12345678); // where the snapshot is zero
  b.written.length = 0;
  restoreMachine(b, saved);
  assertEquals([b.part.value, b.clock.nowNs(), b.settled()], [7, 123e9, 1]);
  assertEquals(b.ram.bytes(0, b.ram.sizeBytes), a.ram.bytes(0, a.ram.sizeBytes));
  // Decoded code must be dropped wherever bytes changed, and untouched memory must stay so.
  assertEquals(b.written, [[0, 65536], [65536, 65536], [131072, 65536], [262144, 4096]]);
});

Deno.test("a snapshot is doubted, field by field, and a bad one changes nothing", () => {
  const a = parts();
  a.part.value = 7;
  a.ram.write(0, 1, 1);
  const good = saveMachine(a);
  const chunk = good.ram[0]!;
  const record = good.records[0]!;
  const bad: [string, Partial<typeof good>][] = [
    ["version 2", { version: 2 }],
    ["RAM: found 4096 bytes", { ramBytes: 4096 }],
    ["time", { timeNs: -1 }],
    ["time", { timeNs: NaN }],
    ["time", { timeNs: Infinity }],
    ["RAM", { ram: [{ ...chunk, gpa: 1 }] }],
    ["RAM", { ram: [{ ...chunk, gpa: -65536 }] }],
    ["RAM", { ram: [{ ...chunk, gpa: 2 ** 40 }] }],
    ["RAM", { ram: [chunk, chunk] }],
    ["RAM", { ram: [{ ...chunk, bytes: chunk.bytes.subarray(1) }] }],
    ["RAM", { ram: [{ gpa: 262144, bytes: chunk.bytes }] }],
    ["part.value", { records: [{ ...record, bytes: Uint8Array.of(10, 0, 0, 0, 0, 0, 0, 0) }] }],
    ["part", { records: [] }],
  ];
  for (const [message, change] of bad) {
    const b = parts();
    b.part.value = 3;
    b.ram.write(0, 1, 0x55);
    assertThrows(() => restoreMachine(b, { ...good, ...change }), RestoreError, message);
    assertEquals([b.part.value, b.ram.read(0, 1), b.clock.nowNs(), b.settled()], [3, 0x55, 0, 0], message);
  }
});
