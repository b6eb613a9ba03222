import { assertEquals } from "@std/assert";
import { Bus } from "../../src/base/bus.ts";
import { ManualClock } from "../../src/base/clock.ts";
import type { Board, ExitReason, Vcpu } from "../../src/engine/engine.ts";
import { TraceLog, TracingBoard, TracingVcpu } from "../../src/machine/trace.ts";

function setup(categories: string[]) {
  const ports = new Bus(), addresses = new Bus();
  ports.add("uart", 0x3f8, 8, { read: () => 0x60, write() {} });
  let text = "";
  const clock = new ManualClock();
  clock.jump(1_500_000_000);
  const log = new TraceLog(0, clock, categories, (bytes) => text += new TextDecoder().decode(bytes));
  const inner: Board = {
    ioRead: (port, size) => ports.read(port, size),
    ioWrite: (port, size, value) => ports.write(port, size, value),
    mmioRead: () => 0xffffffff,
    mmioWrite() {},
    acknowledge: () => 0x30,
    readTpr: () => 0,
    writeTpr() {},
    readMsr: () => false,
    writeMsr: () => true,
    msrLo: 0,
    msrHi: 0,
  };
  return {
    board: new TracingBoard(inner, log, ports, addresses),
    lines: () => {
      log.flush();
      return text.split("\n").slice(0, -1);
    },
  };
}

Deno.test("a trace has a line for each access of the categories asked for, and passes values through", () => {
  const { board, lines } = setup(["pio", "irq"]);
  assertEquals(board.ioRead(0x3fd, 1), 0x60);
  board.ioWrite(0x80, 1, 0x41);
  assertEquals(board.mmioRead(0xfee00000, 4), 0xffffffff);
  assertEquals(board.acknowledge(0), 0x30);
  assertEquals(lines(), [
    "1.500000000 0 pio 3fd read 1 = 60 uart",
    "1.500000000 0 pio 80 write 1 = 41 nothing",
    "1.500000000 0 irq vector 30",
  ]);
});

Deno.test("a trace of MSRs tells faults", () => {
  const { board, lines } = setup(["msr"]);
  assertEquals([board.readMsr(0, 0x803), board.writeMsr(0, 0x80b, 0, 0)], [false, true]);
  assertEquals(lines(), ["1.500000000 0 msr 803 read faults", "1.500000000 0 msr 80b write = 0:0"]);
});

Deno.test("samples tell where the vCPU is each half a millisecond, up to the end of its slice", () => {
  const clock = new ManualClock();
  let text = "";
  const log = (categories: string[]) =>
    new TraceLog(0, clock, categories, (bytes) => text += new TextDecoder().decode(bytes));
  const vcpu = (end: ExitReason | null): Vcpu => ({
    run(untilNs) {
      if (end !== null) return end;
      clock.jump(untilNs - clock.nowNs());
      return "slice";
    },
    describe: () => "rip 00000000deadbeef, cpl 3\nmore",
    reset() {},
    setState() {},
    stats: () => ({}),
    lastError: null,
  });

  const samples = log(["samples"]);
  assertEquals(new TracingVcpu(vcpu(null), samples).run(1_200_000), "slice");
  assertEquals(clock.nowNs(), 1_200_000);
  samples.flush();
  const where = "0 samples rip 00000000deadbeef, cpl 3";
  assertEquals(text, `0.000500000 ${where}\n0.001000000 ${where}\n0.001200000 ${where}\n`);

  text = "";
  assertEquals(new TracingVcpu(vcpu("halt"), samples).run(Infinity), "halt");
  assertEquals(text, "");
  // "all" goes without
  const all = log(["all"]);
  assertEquals(new TracingVcpu(vcpu(null), all).run(2_000_000), "slice");
  all.flush();
  assertEquals(text, "0.002000000 0 exits slice\n");
});
