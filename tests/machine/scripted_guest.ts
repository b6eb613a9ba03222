/** A guest written in TypeScript: it sees the board through the seam of the engines, as guest code does. */
import type { Board, Engine, ExitReason, Vcpu, VcpuParts } from "../../src/engine/engine.ts";
import { VcpuEvent } from "../../src/engine/engine.ts";

/** Runs until it yields why `run` shall return. */
export type Script = (g: Guest) => Generator<ExitReason, void, void>;

const COM1 = 0x3f8;
const PM1_CNT = 0x604;

export class Guest {
  readonly board: Board;
  constructor(readonly parts: VcpuParts) {
    this.board = parts.board;
  }

  in8(port: number): number {
    return this.board.ioRead(port, 1);
  }
  out8(port: number, value: number): void {
    this.board.ioWrite(port, 1, value);
  }

  /** Prints on COM1. */
  print(text: string): void {
    for (const byte of new TextEncoder().encode(text)) {
      while (!(this.in8(COM1 + 5) & 0x20));
      this.out8(COM1, byte);
    }
  }

  /** Soft-off by SLP_TYP 5 and SLP_EN. */
  powerOff(): void {
    this.board.ioWrite(PM1_CNT, 2, (5 << 10) | (1 << 13));
  }

  get interrupted(): boolean {
    return (Atomics.load(this.parts.events, this.parts.eventsIndex) & VcpuEvent.INTR) !== 0;
  }

  /** HLT with interrupts on: the vector that ended it. */
  *hlt(): Generator<ExitReason, number, void> {
    for (;;) {
      while (!this.interrupted) yield "halt";
      const vector = this.board.acknowledge(0);
      if (vector >= 0) return vector;
    }
  }

  /** Sets the 8259A pair up with vectors 20h to 2Fh and the given inputs open. */
  openPic(...irqs: number[]): void {
    for (const [port, base, icw3] of [[0x20, 0x20, 4], [0xa0, 0x28, 2]] as const) {
      this.out8(port, 0x11);
      this.out8(port + 1, base);
      this.out8(port + 1, icw3);
      this.out8(port + 1, 0x01);
    }
    const mask = irqs.reduce((m, irq) => m & ~(1 << irq), 0xffff) & (irqs.some((irq) => irq > 7) ? ~4 : ~0);
    this.out8(0x21, mask & 0xff);
    this.out8(0xa1, mask >> 8);
  }

  endOfInterrupt(vector: number): void {
    if (vector >= 0x28) this.out8(0xa0, 0x20);
    this.out8(0x20, 0x20);
  }

  readPci(device: number, at: number): number {
    this.board.ioWrite(0xcf8, 4, (0x80000000 | (device << 11) | at) >>> 0);
    return this.board.ioRead(0xcfc, 4);
  }
  writePci(device: number, at: number, value: number): void {
    this.board.ioWrite(0xcf8, 4, (0x80000000 | (device << 11) | at) >>> 0);
    this.board.ioWrite(0xcfc, 4, value >>> 0);
  }
}

/** An engine whose vCPU runs `script` from its start at every reset. When it is over, the vCPU halts. */
export function scriptedEngine(script: Script): Engine {
  return {
    name: "soft",
    openVcpu(parts): Vcpu {
      const guest = new Guest(parts);
      let run = script(guest);
      let steps = 0;
      return {
        reset: () => run = script(guest),
        setState() {},
        run() {
          steps++;
          // The scripts poll nothing but events, so a kick is over as soon as it is seen.
          if (Atomics.and(parts.events, parts.eventsIndex, ~VcpuEvent.KICK) & VcpuEvent.KICK) return "kick";
          const step = run.next();
          return step.done ? "halt" : step.value;
        },
        stats: () => ({ instructions: steps }),
        describe: () => `rip=${"0".repeat(15)}7\nsecond line`,
        lastError: new Error("the script gave up"),
      };
    },
  };
}
