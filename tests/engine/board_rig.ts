/** For the laws of engines: one vCPU of any engine on the machine's own board. */
import { assertEquals } from "@std/assert";
import type { Timer } from "../../src/base/timers.ts";
import type { Engine, HostChips, IrqChip } from "../../src/engine/engine.ts";
import { PcBoard } from "../../src/machine/board.ts";
import { EndCause, RunState } from "../../src/machine/control.ts";
import { attachHostChips } from "../../src/machine/host_chips.ts";
import { allocateMachineMemory } from "../../src/machine/memory.ts";
import { assemblePc, type Pc } from "../../src/machine/pc.ts";
import type { MachineSpec } from "../../src/machine/spec.ts";
import { runVcpu } from "../../src/machine/vcpu_loop.ts";
import { type ClosableVcpu, EXTRA_BYTES, RAM_BYTES, Rig } from "./law_rig.ts";

/** A guest that takes longer hangs. */
const LIMIT_NS = 10e9;

/** An engine, and who is the interrupt controllers. */
export interface Board {
  readonly engine: Engine;
  readonly irqchip?: IrqChip;
}

export class BoardRig implements Disposable {
  readonly memory: WebAssembly.Memory;
  readonly pc: Pc;
  readonly vcpu: ClosableVcpu;
  readonly #chips: HostChips | null;
  readonly #board: PcBoard;
  readonly #limit: Timer;

  private constructor(board: Board, pc: Pc, memory: WebAssembly.Memory, chips: HostChips | null) {
    this.memory = memory;
    this.pc = pc;
    this.#chips = chips;
    this.#limit = pc.timers.timer("limit", () => pc.control.end(EndCause.STOPPED));
    const { lock, ports, mmio, apics, counters, control, ram, clock, codeMap, memoryMap } = pc;
    this.#board = new PcBoard(lock, ports, mmio, apics, 0, counters.of(0), null);
    this.vcpu = board.engine.openVcpu({
      index: 0,
      memory,
      ram,
      memoryMap,
      board: this.#board,
      clock,
      codeMap,
      events: control.events,
      eventsIndex: control.eventsIndex(0),
      icount: null,
      chips: pc.chips,
      ...(board.irqchip ? { irqchip: board.irqchip } : {}),
      poked: chips !== null,
    });
  }

  static async open(board: Board): Promise<BoardRig> {
    const spec = specOf(board), memory = allocateMachineMemory(RAM_BYTES, EXTRA_BYTES);
    const pc = assemblePc({ memory, spec, disks: [] });
    pc.powerOn();
    return new BoardRig(board, pc, memory, await attachHostChips(pc, spec, memory));
  }

  [Symbol.dispose](): void {
    this.vcpu.close?.();
  }

  /** 64-bit mode at `program`, with handlers by vector. */
  long(program: Uint8Array, handlers: Readonly<Record<number, Uint8Array>>): void {
    const rig = { ram: this.pc.ram, vcpu: this.vcpu, pageTables: Rig.prototype.pageTables } as unknown as Rig;
    Rig.prototype.long.call(rig, program, handlers);
  }

  /** Lets the vCPU run until `until`, told each write to a port, says that it is to stop; or the machine ends. */
  run(until: (port: number, value: number) => boolean = () => false): void {
    const { clock, control, timers, lock, counters } = this.pc;
    clock.start();
    this.#limit.arm(clock.nowNs() + LIMIT_NS);
    lock.with(() => this.#chips?.load());
    const ioWrite = PcBoard.prototype.ioWrite;
    this.#board.ioWrite = (port, size, value) => {
      ioWrite.call(this.#board, port, size, value);
      if (until(port, value)) control.change(RunState.RUN, RunState.LEAVE);
    };
    control.change(RunState.LEAVE, RunState.RUN);
    const { vcpu } = this;
    assertEquals(
      runVcpu({ index: 0, vcpu, control, clock, icount: null, timers, lock, counters: counters.of(0) }),
      null,
    );
    lock.with(() => this.#chips?.store());
    clock.stop();
    this.#limit.disarm();
  }

  /** Runs until the guest writes 21 to the debug-exit port. */
  toExit(): void {
    this.run();
    const { control } = this.pc;
    assertEquals([control.endCause, control.endCode], [EndCause.DEBUG_EXIT, 21]);
  }

  /** Under the machine lock, after the chips have been handed over: what another thread does while the guest runs. */
  meanwhile(body: (pc: Pc) => void): (port: number) => boolean {
    return (port) => {
      if (port === 0x80) this.pc.lock.with(() => body(this.pc));
      return false;
    };
  }
}

function specOf({ engine, irqchip }: Board): MachineSpec {
  return {
    engine: engine.name,
    ...(irqchip ? { irqchip } : {}),
    memoryBytes: RAM_BYTES,
    cpus: 1,
    kernel: "",
    initrd: null,
    append: "",
    disks: [],
    serial: [{ kind: "none" }],
    noReboot: true,
    icount: false,
    trace: null,
  };
}
