/**
 * What every engine owes, one suite for all of them: small guests, and what the board and their memory saw of them.
 */
import { assert, assertEquals } from "@std/assert";
import { type Engine, VcpuEvent } from "../../src/engine/engine.ts";
import type { KickOrder } from "./kick_worker.ts";
import * as P from "./law_programs.ts";
import { DATA, longState, MMIO_BASE, realState, Rig } from "./law_rig.ts";

const INTERRUPT = 0x40;
const SIPI_AT_8 = VcpuEvent.SIPI | (0x08 << 8);

export const LAWS: Readonly<Record<string, (engine: Engine) => void | Promise<void>>> = {
  "IN and OUT reach the board in their sizes, and 32-bit IN clears the upper half"(engine) {
    using rig = new Rig(engine);
    rig.board.inputs.push(0x5a, 0x1234, 0x8765_4321);
    rig.long(P.PIO);
    rig.toHalt();
    assertEquals(rig.board.log, [
      "out 80.1 12",
      "out 1234.1 ef",
      "out 1234.2 cdef",
      "out 1234.4 89abcdef",
      "in 81.1",
      "in 1234.2",
      "in 1234.4",
    ]);
    assertEquals(rig.data(3), [0x5an, 0xffff_ffff_ffff_1234n, 0x8765_4321n]);
  },

  "INS and OUTS move through memory, with REP and backwards too"(engine) {
    using rig = new Rig(engine);
    rig.board.inputs.push(0x1111, 0x2222, 0x3333_4444);
    rig.long(P.STRINGS);
    rig.ram.copyIn(DATA + 0x100, Uint8Array.of(1, 2, 3, 4, 5, 6, 7));
    rig.toHalt();
    assertEquals(rig.board.log, [
      "out 1f0.1 1",
      "out 1f0.1 2",
      "out 1f0.1 3",
      "in 1f0.2",
      "in 1f0.2",
      "out 1f0.4 7060504",
      "in 1f0.4",
    ]);
    assertEquals(rig.data(5), [0x2222_1111n, 0x3333_4444_0000_0000n, BigInt(DATA + 0x107), BigInt(DATA + 8), 0n]);
  },

  "memory-mapped accesses reach the board in their sizes, 64-bit ones as two halves"(engine) {
    using rig = new Rig(engine);
    rig.board.inputs.push(0x81, 0x8001, 0x9000_0000, 0x7654_3210, 0xfedc_ba98, 0xf0, 0x80);
    rig.long(P.MMIO);
    rig.toHalt();
    assertEquals(rig.board.log, [
      "write c1000000.1 88",
      "write c1000002.2 7788",
      "write c1000004.4 55667788",
      "write c1000008.4 55667788",
      "write c100000c.4 11223344",
      "write c1000001.1 5a",
      "write c1000004.4 deadbeef",
      "read c1000000.1",
      "read c1000002.2",
      "read c1000004.4",
      "read c1000008.4",
      "read c100000c.4",
      "read c1000010.4",
      "write c1000010.4 f1",
      "read c1000014.1",
    ]);
    assertEquals(rig.data(5), [0x81n, 0xffff_ffff_ffff_8001n, 0x9000_0000n, 0xfedc_ba98_7654_3210n, 1n]);
  },

  "HLT ends the run, and the next, until something wakes it"(engine) {
    using rig = new Rig(engine);
    rig.long(P.HALT);
    for (let i = 0; i < 3; i++) rig.toHalt();
    assertEquals(rig.board.log, []);
  },

  "a run ends when its time is over"(engine) {
    using rig = new Rig(engine);
    rig.long(P.ENDLESS);
    const untilNs = rig.nowNs + 3e6;
    assertEquals(rig.vcpu.run(untilNs), "slice");
    assert(rig.nowNs >= untilNs);
  },

  "a kick ends the run before it begins, once"(engine) {
    using rig = new Rig(engine);
    rig.long(P.ENDLESS);
    rig.raise(VcpuEvent.KICK);
    assertEquals(rig.run(), "kick");
    assertEquals(rig.run(2), "slice");
  },

  async "a kick by another thread ends a run that would not end"(engine) {
    using rig = new Rig(engine);
    rig.long(P.ENDLESS);
    const worker = new Worker(new URL("./kick_worker.ts", import.meta.url), { type: "module" });
    try {
      const order: KickOrder = { events: rig.events, bits: VcpuEvent.KICK, afterMs: 5 };
      worker.postMessage(order);
      await new Promise((resolve) => setTimeout(resolve, 0));
      assertEquals(rig.vcpu.run(Infinity), "kick");
    } finally {
      worker.terminate();
    }
  },

  "an interrupt wakes HLT, and IRET goes on behind it"(engine) {
    using rig = new Rig(engine);
    rig.long(P.WAKE, { [INTERRUPT]: P.HANDLER });
    rig.toHalt();
    rig.interrupt(INTERRUPT);
    rig.toHalt();
    assertEquals(rig.board.log, ["acknowledge", "out 20.1 77", "out 10.1 1"]);
  },

  "a request that is withdrawn before it is acknowledged leaves HLT alone"(engine) {
    using rig = new Rig(engine);
    rig.long(P.WAKE, { [INTERRUPT]: P.HANDLER });
    rig.toHalt();
    rig.interrupt(-1);
    rig.toHalt();
    rig.interrupt(INTERRUPT);
    rig.toHalt();
    assertEquals(rig.board.log, ["acknowledge", "acknowledge", "out 20.1 77", "out 10.1 1"]);
  },

  "an interrupt waits for STI and for the instruction after it"(engine) {
    using rig = new Rig(engine);
    rig.long(P.MASKED, { [INTERRUPT]: P.HANDLER });
    rig.board.onWrite = (port) => port === 0x10 && rig.interrupt(INTERRUPT);
    rig.toHalt();
    const log = rig.board.log.map((line) => line.split(" ").slice(0, 2).join(" "));
    assertEquals(log, ["out 10.1", "out 11.1", "out 12.1", "acknowledge", "out 20.1", "out 13.1"]);
  },

  "an interrupt stays with the board while IF is 0, in HLT too"(engine) {
    using rig = new Rig(engine);
    rig.long(P.HALT, { [INTERRUPT]: P.HANDLER });
    rig.interrupt(INTERRUPT);
    for (let i = 0; i < 2; i++) rig.toHalt();
    assertEquals(rig.board.log, []);
  },

  "an NMI is taken though IF is 0, at HLT at the latest"(engine) {
    using rig = new Rig(engine);
    rig.long(P.NMI, { 2: P.HANDLER });
    rig.board.onWrite = (port) => port === 0x10 && rig.raise(VcpuEvent.NMI);
    rig.toHalt();
    const ports = rig.board.log.map((line) => line.split(" ")[1]!);
    assertEquals(ports[0], "10.1");
    assertEquals(ports.filter((port) => port === "20.1").length, 1);
    assertEquals(Atomics.load(rig.events, 0), 0);
  },

  "an exception without a handler, and one of that, and one of that, is a shutdown"(engine) {
    using rig = new Rig(engine);
    rig.long(P.TRIPLE);
    assertEquals(rig.run(), "shutdown");
    assert(rig.vcpu.describe().includes("rip 0000000000010000"));
  },

  "exceptions reach their handlers with their error codes"(engine) {
    using rig = new Rig(engine);
    rig.long(P.FAULTS, { 6: P.FAULT_UD, 0: P.FAULT_DE, 14: P.FAULT_PF, 13: P.FAULT_GP });
    rig.toHalt();
    const ports = rig.board.log.map((line) => line.split(" ")[1]!);
    assertEquals(ports, ["6.1", "0.1", "e.1", "d.1"]);
    assertEquals(rig.data(4), [0x4000_0000n, 0n, 0n, 0x1234_5678n]);
  },

  "instructions that CPUID does not announce are #UD, and jumps out of memory #GP"(engine) {
    for (
      const [program, port] of [[P.MONITOR_WAIT, "6.1"], [P.JUMP_TO_MMIO, "d.1"], [
        P.JUMP_NON_CANONICAL,
        "d.1",
      ]] as const
    ) {
      using rig = new Rig(engine);
      rig.long(program, { 6: P.STOP_UD, 13: P.STOP_GP });
      rig.toHalt();
      assertEquals(rig.board.log.map((line) => line.split(" ")[1]), [port]);
    }
  },

  "vector registers and locked accesses reach the board in halves"(engine) {
    using rig = new Rig(engine);
    rig.board.inputs.push(1, 2, 3, 4, 0x77, 0);
    rig.long(P.WIDE_MMIO);
    rig.toHalt();
    assertEquals(rig.board.log, [
      "read c1000000.4",
      "read c1000004.4",
      "read c1000008.4",
      "read c100000c.4",
      "write c1000010.4 1",
      "write c1000014.4 2",
      "write c1000018.4 3",
      "write c100001c.4 4",
      "read c1000020.4",
      "read c1000024.4",
      "write c1000020.4 55",
      "write c1000024.4 0",
    ]);
  },

  "page tables where no memory is end in a shutdown, as an interrupt table there does"(engine) {
    using rig = new Rig(engine);
    rig.long(P.CR3_TO_MMIO);
    assertEquals(rig.run(), "shutdown");
    rig.long(P.TRIPLE);
    rig.vcpu.setState({ ...longState(0xfff), idtr: { base: MMIO_BASE, limit: 0xfff } });
    assertEquals(rig.run(), "shutdown");
  },

  "CR8 is the board's task priority"(engine) {
    using rig = new Rig(engine);
    rig.long(P.TPR);
    const seen: number[] = [];
    rig.board.onWrite = (port) => {
      seen.push(rig.board.tpr);
      if (port === 0x12) rig.board.tpr = 3;
    };
    rig.toHalt();
    assertEquals(seen, [5, 0, 0]);
    assertEquals(rig.data(2), [5n, 3n]);
  },

  "the local APIC's MSRs are the board's"(engine) {
    using rig = new Rig(engine);
    rig.board.msrs.set(0x802, 0x1234);
    rig.long(P.APIC_MSRS);
    rig.toHalt();
    assertEquals(rig.board.log, ["wrmsr 1b 0:fee00d00", "wrmsr 80b 0:0"]);
    assertEquals(rig.data(2), [0xfee0_0900n, 0x1234n]);
  },

  "CPUID tells the APIC ID, x2APIC, and the clocks' frequencies"(engine) {
    using rig = new Rig(engine);
    rig.long(P.IDENTITY);
    rig.toHalt();
    const [ebx, ecx, edx, denominator, numerator, crystal] = Array.from(
      { length: 6 },
      (_, i) => rig.ram.read(DATA + 4 * i, 4),
    ) as [number, number, number, number, number, number];
    assertEquals(ebx >>> 24, 0);
    const bit = (word: number, n: number) => (word >>> n) & 1;
    assertEquals([bit(ecx, 21), bit(ecx, 31), bit(edx, 9)], [1, 1, 1]);
    assertEquals(crystal, 1_000_000_000);
    assert(denominator > 0 && numerator > 0 && numerator * 1_000_000 < 2 ** 32);
  },

  "one guest goes through real, protected, 64-bit and compatibility mode"(engine) {
    using rig = new Rig(engine);
    rig.pageTables();
    rig.ram.copyIn(0x7c00, P.MODES);
    rig.vcpu.setState(realState());
    rig.toHalt();
    assertEquals(rig.board.log, ["out 10.1 1", "out 10.1 2", "out 10.1 3", "out 10.1 4"]);
    assertEquals(rig.data(1), [0x1234_5678_9abc_def0n]);
  },

  "a reset forgets an access that was under way"(engine) {
    using rig = new Rig(engine);
    rig.board.inputs.push(0x77);
    rig.long(P.PIO);
    rig.board.onWrite = () => rig.raise(VcpuEvent.KICK);
    assertEquals(rig.run(), "kick");
    rig.board.onWrite = () => {};
    rig.board.log.length = 0;
    rig.long(P.HALT);
    rig.toHalt();
    assertEquals(rig.board.log, []);
  },

  "a processor that is not the first waits for a start-up IPI, and takes no other event before"(engine) {
    using rig = new Rig(engine, 1);
    rig.ram.copyIn(0x8000, P.START);
    rig.toHalt();
    rig.raise(VcpuEvent.NMI);
    rig.toHalt();
    assertEquals(rig.board.log, []);
    rig.lower(VcpuEvent.NMI);
    rig.raise(SIPI_AT_8);
    rig.toHalt();
    assertEquals(rig.board.log, ["out 10.1 f4"]);
  },

  "a start-up IPI to a processor that runs changes nothing; INIT sends it back to wait"(engine) {
    using rig = new Rig(engine, 1);
    rig.ram.copyIn(0x8000, P.START);
    rig.raise(SIPI_AT_8);
    rig.toHalt();
    rig.raise(SIPI_AT_8);
    rig.toHalt();
    assertEquals(rig.board.log.length, 1);
    rig.raise(VcpuEvent.INIT);
    rig.toHalt();
    rig.raise(SIPI_AT_8);
    rig.toHalt();
    assertEquals(rig.board.log, ["out 10.1 f4", "out 10.1 f4"]);
  },

  "an INIT and a start-up IPI that come together are taken in this order"(engine) {
    using rig = new Rig(engine, 1);
    rig.ram.copyIn(0x8000, P.START);
    rig.raise(SIPI_AT_8);
    rig.toHalt();
    rig.raise(VcpuEvent.INIT | SIPI_AT_8);
    rig.toHalt();
    assertEquals(rig.board.log.length, 2);
  },
};
