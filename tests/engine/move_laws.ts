/**
 * A guest that goes from one engine to another and back, in each mode: what it finds afterwards is what it left.
 */
import { assertEquals } from "@std/assert";
import { type Engine, VcpuEvent } from "../../src/engine/engine.ts";
import { VcpuRecord } from "../../src/engine/vcpu_state.ts";
import { restoreMachine, saveMachine } from "../../src/machine/lifecycle.ts";
import { checkTicks } from "./board_laws.ts";
import * as B from "./board_programs.ts";
import { type Board, BoardRig } from "./board_rig.ts";
import { DATA, RAM_BYTES, realState, Rig } from "./law_rig.ts";
import * as M from "./move_programs.ts";

const INTERRUPT = 0x40, TIMER = 0x30;
const BOOT = 0x7c00;

export const MOVE_LAWS: Readonly<Record<string, (from: Engine, to: Engine) => void>> = {
  "registers of every kind move in 64-bit mode"(from, to) {
    using rigs = new Moving(from);
    rigs.rig.long(M.MOVE_LONG);
    rigs.rig.ram.write64(DATA + 0x400, 0x5151);
    rigs.toMark(1);
    rigs.moveTo(to);
    rigs.toMark(2);
    rigs.moveTo(from);
    const { rig } = rigs;
    rig.toHalt();
    const [carry, pushed, r15, rbp, xmm3, xmm14, log2e, one, pi, lstar, gs, dr2, cr4] = rig.data(13);
    assertEquals([carry, pushed, r15, rbp], [1n, 0x1122334455667788n, 0xfedcba9876543210n, 0x0102030405060708n]);
    assertEquals([xmm3, xmm14], [0x1122334455667788n, 0xfedcba9876543210n]);
    assertEquals([log2e, one, pi].map(asDouble), [Math.LOG2E, 1, Math.PI]);
    assertEquals([lstar, gs, dr2], [0xffff800012345678n, 0x5151n, 0x20500n]);
    assertEquals(cr4! & 0x620n, 0x620n);
  },

  "real mode moves, with a segment that protected mode has left behind"(from, to) {
    using rigs = bootOn(from, M.MOVE_REAL);
    rigs.toMark(1);
    rigs.moveTo(to);
    rigs.toMark(2);
    rigs.moveTo(from);
    rigs.rig.toHalt();
    const { ram } = rigs.rig;
    assertEquals([0, 4, 8].map((at) => ram.read(DATA + at, 4)), [0x600df00d, 0x87654321, 0x2000]);
  },

  "protected mode moves, without paging and with pages of 4 MiB"(from, to) {
    using rigs = bootOn(from, M.MOVE_PROTECTED);
    rigs.toMark(1);
    rigs.moveTo(to);
    rigs.toMark(2);
    rigs.moveTo(from);
    rigs.toMark(3);
    rigs.moveTo(to);
    rigs.rig.toHalt();
    const { ram } = rigs.rig;
    assertEquals([ram.read(DATA, 4), ram.read(DATA + 0xc, 4)], [0xa5a5a5a5, 0xb16b00b5]);
  },

  "PAE paging moves"(from, to) {
    using rigs = bootOn(from, M.MOVE_PAE);
    rigs.toMark(1);
    rigs.moveTo(to);
    rigs.toMark(2);
    rigs.moveTo(from);
    rigs.rig.toHalt();
    const { ram } = rigs.rig;
    assertEquals([ram.read(DATA, 4), ram.read(DATA + 4, 4) & 0x20], [0x5eed5eed, 0x20]);
    assertEquals(ram.read(0x600010, 4), 0x5eed5eed);
  },

  "a processor that sleeps goes on sleeping, until the interrupt that wakes it"(from, to) {
    using rigs = new Moving(from);
    rigs.rig.long(M.MOVE_HALTED, { [INTERRUPT]: M.COUNT_HANDLER });
    rigs.rig.toHalt();
    rigs.moveTo(to);
    rigs.rig.toHalt();
    assertEquals(rigs.rig.data(1), [0n]);
    rigs.moveTo(from);
    rigs.rig.interrupt(INTERRUPT);
    rigs.rig.toHalt();
    assertEquals(rigs.rig.data(1), [0x123456789an]);
  },

  "an interrupt that is masked waits through the move"(from, to) {
    using rigs = new Moving(from);
    rigs.rig.long(M.MOVE_MASKED, { [INTERRUPT]: M.COUNT_HANDLER });
    rigs.toMark(1);
    rigs.moveTo(to);
    rigs.rig.interrupt(INTERRUPT);
    rigs.rig.board.onWrite = (port) => port === 0x11 && rigs.rig.raise(VcpuEvent.KICK);
    assertEquals(rigs.rig.run(), "kick");
    rigs.moveTo(from);
    rigs.rig.interrupt(INTERRUPT);
    rigs.rig.toHalt();
    assertEquals(rigs.rig.data(1), [1n]);
    assertEquals(rigs.rig.board.log.at(-1), "acknowledge");
  },

  "an NMI that waits moves"(from, to) {
    using rigs = new Moving(from);
    rigs.rig.long(M.MOVE_MASKED, { 2: M.COUNT_HANDLER });
    rigs.toMark(1);
    rigs.rig.raise(VcpuEvent.NMI);
    rigs.moveTo(to);
    rigs.rig.toHalt();
    assertEquals(rigs.rig.data(1), [1n]);
  },

  "a processor that waits for a start-up IPI waits on, and one that has it starts"(from, to) {
    for (const early of [true, false]) {
      using rigs = new Moving(from, 1);
      rigs.rig.ram.copyIn(0x8000, Uint8Array.of(0xb0, 7, 0xe6, 0x10, 0xf4)); // mov al, 7; out 10h, al; hlt
      rigs.rig.toHalt();
      if (early) rigs.rig.raise(VcpuEvent.SIPI | (8 << 8));
      rigs.moveTo(to);
      if (!early) {
        rigs.rig.toHalt();
        rigs.rig.raise(VcpuEvent.SIPI | (8 << 8));
      }
      rigs.rig.toHalt();
      assertEquals(rigs.rig.board.log, ["out 10.1 7"]);
    }
  },
};

/** On the board: a timer and its interrupts go with the guest. `from` and `to` may have chips of their own. */
export async function boardMoves(from: Board, to: Board): Promise<void> {
  let rig = await BoardRig.open(from);
  try {
    rig.long(B.TICKING, { [TIMER]: B.APIC_HANDLER });
    for (const [stop, next] of [[2, to], [4, from]] as const) {
      rig.run((port, value) => port === 0x3ff && value >= stop);
      checkTicks(rig.pc, stop);
      const moved = await BoardRig.open(next), state = VcpuRecord.create();
      rig.vcpu.save!(state);
      const snapshot = rig.pc.lock.with(() => saveMachine(rig.pc));
      rig[Symbol.dispose]();
      rig = moved;
      rig.pc.lock.with(() => restoreMachine(rig.pc, snapshot));
      rig.vcpu.restore!(state);
    }
    rig.toExit();
    checkTicks(rig.pc, 6);
  } finally {
    rig[Symbol.dispose]();
  }
}

/** A guest on one engine after the other. */
class Moving implements Disposable {
  rig: Rig;

  constructor(engine: Engine, private readonly index = 0) {
    this.rig = new Rig(engine, index);
  }

  [Symbol.dispose](): void {
    this.rig[Symbol.dispose]();
  }

  /** Runs to the write of `n` to port 10h, which is completed and no more. */
  toMark(n: number): void {
    const { board } = this.rig;
    board.onWrite = (port) => port === 0x10 && this.rig.raise(VcpuEvent.KICK);
    const reason = this.rig.run();
    board.onWrite = () => {};
    const where = `${this.rig.vcpu.lastError?.message ?? ""} ${this.rig.vcpu.describe()}`;
    assertEquals([reason, board.log.at(-1)], ["kick", `out 10.1 ${n}`], where);
  }

  moveTo(engine: Engine): void {
    const { rig } = this, state = VcpuRecord.create();
    rig.vcpu.save!(state);
    const next = new Rig(engine, this.index);
    for (let gpa = 0; gpa < RAM_BYTES; gpa += 4096) {
      const page = rig.ram.bytes(gpa, 4096)!;
      if (page.some((byte) => byte !== 0)) next.ram.copyIn(gpa, page);
    }
    next.vcpu.restore!(state);
    next.board.log.push(...rig.board.log);
    rig[Symbol.dispose]();
    this.rig = next;
  }
}

function bootOn(engine: Engine, program: Uint8Array): Moving {
  const moving = new Moving(engine);
  moving.rig.ram.copyIn(BOOT, program);
  moving.rig.vcpu.setState(realState());
  return moving;
}

function asDouble(bits: bigint): number {
  const dv = new DataView(new ArrayBuffer(8));
  dv.setBigUint64(0, bits);
  return dv.getFloat64(0);
}
