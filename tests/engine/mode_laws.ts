/** What every engine owes in each mode of the processor, and of each kind of access to a device. */
import { assertEquals } from "@std/assert";
import { DEVICE } from "../../src/base/memory_map.ts";
import { type Engine, VcpuEvent } from "../../src/engine/engine.ts";
import { RAM_BASE } from "../../src/machine/memory.ts";
import { DATA, EXTRA_BYTES, RAM_BYTES, realState, Rig } from "./law_rig.ts";
import * as M from "./mode_programs.ts";
import * as P from "./law_programs.ts";

const BOOT = 0x7c00;

/** A boot sector, in real mode. */
function boot(engine: Engine, program: Uint8Array): Rig {
  const rig = new Rig(engine);
  rig.ram.copyIn(BOOT, program);
  rig.vcpu.setState(realState());
  return rig;
}

function words({ ram }: Rig, count: number): number[] {
  return Array.from({ length: count }, (_, i) => ram.read(DATA + 4 * i, 4));
}

export const MODE_LAWS: Readonly<Record<string, (engine: Engine) => void>> = {
  "string instructions move between memory and a device, element by element"(engine) {
    using rig = new Rig(engine);
    rig.board.inputs.push(0x11111111, 0x22222222, 0x33, 0x4444, 0x5a, 1, 2);
    rig.long(M.MMIO_STRINGS);
    rig.ram.copyIn(DATA + 0x100, Uint8Array.of(1, 2, 3, 4));
    rig.toHalt();
    assertEquals(rig.board.log, [
      "read c1000000.4",
      "read c1000004.4",
      "read c1000008.1",
      "write c1000010.2 201",
      "write c1000012.2 403",
      "write c1000014.4 5a5a5a5a",
      "write c1000018.4 5a5a5a5a",
      "read c1000020.2",
      "read c1000024.1",
      "read c1000028.1",
      "read c100002c.1",
    ]);
    // SCASB compared 44h with 5Ah; CMPSB 1 with 2.
    assertEquals(words(rig, 6), [0x11111111, 0x22222222, 0x33, 0, 0x4444, 0x0100]);
  },

  "an instruction that updates a register of a device reads it once and writes it once"(engine) {
    using rig = new Rig(engine);
    rig.board.inputs.push(0xff, 0x1000, 0x0f0f0f0f, 41, 0x99, 37, 0, 0x0f);
    rig.long(M.MMIO_UPDATES);
    rig.toHalt();
    assertEquals(rig.board.log, [
      "read c1000000.1",
      "write c1000000.1 0",
      "read c1000002.2",
      "write c1000002.2 ffe",
      "read c1000004.4",
      "write c1000004.4 f0f0f0f0",
      "read c1000008.4",
      "write c1000008.4 2a",
      "read c100000c.4",
      "write c100000c.4 77",
      "read c1000010.4",
      "write c1000010.4 2a",
      "read c1000014.4",
      "write c1000014.4 8",
      "read c1000018.1",
      "write c1000018.1 f0",
    ]);
    assertEquals(words(rig, 3), [0x99, 37, 0]);
  },

  "32-bit paging maps 4-KiB pages, and tells what an access to another met"(engine) {
    using rig = boot(engine, M.PAGING_32);
    rig.toHalt();
    // Error codes: a write to a present page, a read of one that is not.
    assertEquals(rig.board.log, ["out e.1 3", "out f.4 101000", "out e.1 0", "out f.4 102000"]);
    assertEquals(rig.ram.read(DATA, 4), 0x11223344);
    assertEquals(rig.ram.read(DATA + 0x1000, 4), 0);
  },

  "a virtual-8086 task reaches ports its bitmap allows, and leaves by an interrupt"(engine) {
    using rig = boot(engine, M.VM86);
    rig.toHalt();
    assertEquals(rig.board.log, ["out 10.1 86", "out 10.1 87", "out 10.1 3"]);
    // DS was a segment of paragraphs; VM was set in the flags that the interrupt pushed, and IOPL 3.
    assertEquals([rig.ram.read(DATA + 0x10, 2), rig.ram.read(DATA + 4, 4) & 0x23000], [0x2000, 0x23000]);
  },

  "an NMI that comes while one is served waits for IRET"(engine) {
    using rig = new Rig(engine);
    rig.long(M.NMI_NEST, { 2: M.NMI_NEST_HANDLER });
    let nested = 0;
    rig.board.onWrite = (port) => {
      if (port === 0x10 && rig.board.log.length === 1) rig.raise(VcpuEvent.NMI);
      if (port === 0x11 && nested++ === 0) rig.raise(VcpuEvent.NMI);
    };
    rig.toHalt();
    const ports = rig.board.log.map((line) => line.split(" ")[1]).filter((port) => port !== "10.1");
    assertEquals(ports, ["11.1", "12.1", "11.1", "12.1"]);
  },

  "an NMI wakes HLT"(engine) {
    using rig = new Rig(engine);
    rig.long(P.HALT, { 2: P.HANDLER });
    rig.toHalt();
    rig.raise(VcpuEvent.NMI);
    rig.toHalt();
    assertEquals(rig.board.log.map((line) => line.split(" ")[1]), ["20.1", "10.1"]);
  },

  "ROM is read and run, and a write to it reaches the board; what the map names none stays RAM"(engine) {
    const rom = RAM_BYTES / 4096;
    const mapped = (backing: number) => [
      { first: 0xb0, pages: 1, backing, writable: false },
      { first: 0xb1, pages: 1, backing: DEVICE, writable: false },
    ];
    using rig = new Rig(engine, 0, mapped(rom));
    const after = new Uint8Array(rig.memory.buffer, RAM_BASE + RAM_BYTES, EXTRA_BYTES);
    after.set([0x44, 0x33, 0x22, 0x11, 0x88, 0x77, 0x66, 0x55]);
    after.set([0xc3], 0x100); // ret
    after.set([0x0d, 0xf0], 0x1000);
    rig.board.inputs.push(0xdead);
    rig.long(M.ROM);
    // The map changes while the guest runs: another ROM is there.
    rig.board.onWrite = (port) => port === 0x10 && rig.memoryMap!.set(mapped(rom + 1));
    rig.toHalt();
    assertEquals(rig.board.log, ["write b0004.4 99", "read b1000.4", "out 10.1 1"]);
    assertEquals(words(rig, 5), [0x11223344, 0x55667788, 0xdead, 0x1234, 0xf00d]);
  },

  "a log of written pages names each that the guest wrote to, and none it did not"(engine) {
    using rig = new Rig(engine);
    const log = engine.dirtyLog?.(rig);
    if (!log) return; // an engine that keeps none owes nothing
    const pages = new Uint8Array(RAM_BYTES / 4096 / 8);
    const written = () => {
      pages.fill(0);
      log.take(pages);
      return [0x40, 0x80, 0x300, 0x41, 0x500].map((page) => (pages[page >> 3]! >> (page & 7)) & 1);
    };
    rig.long(M.DIRTY);
    log.start();
    rig.board.onWrite = () => rig.raise(VcpuEvent.KICK);
    assertEquals([rig.run(), ...written()], ["kick", 1, 1, 1, 0, 0]);
    assertEquals(written(), [0, 0, 0, 0, 0]);
    assertEquals([rig.run(), ...written()], ["kick", 0, 1, 0, 0, 0]);
    log.stop();
    rig.toHalt();
  },

  "MSRs of system calls keep what is written to them, and one that nobody knows faults"(engine) {
    using rig = new Rig(engine);
    rig.long(M.SYSCALLS, { 13: P.STOP_GP });
    rig.toHalt();
    assertEquals(rig.board.log.map((line) => line.split(" ")[1]), ["d.1"]);
    assertEquals(words(rig, 4), [0x10, 0x89abcdef, 0xffff8000, 0x47700]);
  },
};
