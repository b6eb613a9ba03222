/**
 * The virtio console: one port, with the size of its window.
 *
 * Spec: [virtio §5.3].
 * Emulated: receiveq, transmitq, VIRTIO_CONSOLE_F_SIZE with a configuration change on resize.
 * Absent: several ports and their control queues, emergency write.
 *
 * Back-pressure both ways: input stays in its ring until the guest gives buffers, output stays on the transmitq until its ring
 * has room. It works under the machine lock; whoever feeds or drains a ring calls `process`, and where nobody does, a timer
 * looks again after a while.
 */
import type { Arena } from "../../src/base/arena.ts";
import type { RegisterDevice } from "../../src/base/bus.ts";
import type { Clock } from "../../src/base/clock.ts";
import { record, type View } from "../../src/base/record.ts";
import type { Timer } from "../../src/base/timers.ts";
import { type VirtioParts, VirtioPci } from "./pci_transport.ts";

const RECEIVEQ = 0;
const TRANSMITQ = 1;
const F_SIZE = 0;
const CHUNK_BYTES = 4096;
const RETRY_NS = 2_000_000;
/** Output moved at one go, so that a guest with much to say does not keep the lock from everybody else. */
const BURST_BYTES = 64 * 1024;

/** The device configuration structure [virtio §5.3.4]. */
export const VIRTIO_CONSOLE_CONFIG = {
  cols: { at: 0, width: 2, access: "ro" },
  rows: { at: 2, width: 2, access: "ro" },
  max_nr_ports: { at: 4, width: 4, access: "ro" },
} as const;

export const VirtioConsoleRecord = record("virtio-console", 1, {
  cols: { type: "u16", reset: 80 },
  rows: { type: "u16", reset: 25 },
  /** Bytes of the chain at the head of the transmitq that have gone out already. */
  sent: { type: "f64", max: 2 ** 53 },
});

/** A ByteRing, seen from its reading end. */
export interface ConsoleInput {
  readonly available: number;
  read(max: number): Uint8Array;
}

/** A ByteRing, seen from its writing end. */
export interface ConsoleOutput {
  readonly space: number;
  write(bytes: Uint8Array): number;
}

export interface VirtioConsoleParts extends VirtioParts {
  readonly input: ConsoleInput;
  readonly output: ConsoleOutput;
  readonly clock: Clock;
  /** Calls `process` when due. */
  readonly timer: Timer;
}

export class VirtioConsole extends VirtioPci {
  readonly #c: View<typeof VirtioConsoleRecord>;
  readonly #bytes = new Uint8Array(CHUNK_BYTES);

  constructor(arena: Arena, id: string, private readonly consoleParts: VirtioConsoleParts) {
    super(arena, id, consoleParts, { type: 3, classCode: 0x078000, features: [F_SIZE], queues: 2, queueSize: 64 });
    this.#c = arena.place(`${id}.console`, VirtioConsoleRecord);
    const config: RegisterDevice<typeof VIRTIO_CONSOLE_CONFIG> = {
      registers: VIRTIO_CONSOLE_CONFIG,
      readRegister: (reg) => reg === "cols" ? this.#c.cols : reg === "rows" ? this.#c.rows : 0,
      writeRegister: () => {},
    };
    this.showConfig(config);
  }

  protected override notified(): void {
    this.process();
  }

  protected override wasReset(): void {
    this.#c.sent = 0;
  }

  /** The window has another size now. Under the machine lock. */
  resize(cols: number, rows: number): void {
    if (this.#c.cols === cols && this.#c.rows === rows) return;
    this.#c.cols = cols;
    this.#c.rows = rows;
    this.configChanged();
  }

  /** Moves bytes both ways as far as they go. Under the machine lock. */
  process(): void {
    const later = this.#receive();
    const { timer, clock } = this.consoleParts;
    if (this.#transmit() || later) timer.arm(clock.nowNs() + RETRY_NS);
    else timer.disarm();
  }

  /** From the input ring into the guest's buffers. True: look again later. */
  #receive(): boolean {
    const input = this.consoleParts.input;
    const q = input.available > 0 ? this.acquire(RECEIVEQ) : null;
    if (!q) return false;
    while (input.available > 0 && q.pop()) {
      const bytes = input.read(Math.min(CHUNK_BYTES, q.chain.writableBytes));
      q.push(q.chain.head, q.chain.write(0, bytes));
    }
    this.signalUsed(RECEIVEQ);
    return this.release(RECEIVEQ) && input.available > 0;
  }

  /** From the guest's buffers into the output ring. True: there is more, when there is room or when others had their turn. */
  #transmit(): boolean {
    const output = this.consoleParts.output;
    const q = this.acquire(TRANSMITQ);
    if (!q) return false;
    let room = output.space > 0;
    let burst = BURST_BYTES;
    while (room && q.peek()) {
      const chain = q.chain;
      const total = chain.readableBytes;
      while (room && burst > 0 && this.#c.sent < total) {
        const n = chain.read(this.#c.sent, this.#bytes);
        const taken = output.write(this.#bytes.subarray(0, n));
        this.#c.sent += taken;
        burst -= taken;
        room = taken === n;
      }
      if (this.#c.sent < total) break;
      this.#c.sent = 0;
      q.take();
      q.push(chain.head, 0);
      room = burst > 0 && output.space > 0;
    }
    this.signalUsed(TRANSMITQ);
    return this.release(TRANSMITQ);
  }
}
