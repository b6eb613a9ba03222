/**
 * The 16550A serial port, between a guest and two streams of bytes.
 *
 * Spec: [pc16550d §8.0] registers, [pc16550d §8.6] interrupts, [pc16550d §8.4] FIFOs.
 * Emulated: both FIFOs, trigger levels, the character timeout, the four interrupts with their order and their ways to clear,
 * loopback, divisor latch, scratch, OUT2 as the interrupt's gate.
 * Absent: baud (a byte leaves at once; only the character timeout follows the divisor), word length, parity, framing errors
 * and break: the far end is a stream of whole bytes.
 *
 * No byte is lost: what the sink cannot take yet waits in the transmitter, with THRE clear; bytes leave the source only when
 * the receiver has room, and while a guest that has used RTS holds it up. They come in bursts with a pause between them, as no
 * driver expects a line faster than itself: its interrupt handler would read for ever and have nowhere to put the bytes.
 */
import { type Region, registerBank } from "../src/base/bus.ts";
import type { Clock } from "../src/base/clock.ts";
import type { IrqLine } from "../src/base/irq.ts";
import { record, type View } from "../src/base/record.ts";
import type { ByteSink, ByteSource } from "../src/base/ring.ts";
import type { Timer } from "../src/base/timers.ts";
import { ByteFifo } from "./byte_fifo.ts";

/** Ports of COM1 to COM4; their interrupts are 4, 3, 4 and 3. */
export const COM_PORTS = [0x3f8, 0x2f8, 0x3e8, 0x2e8] as const;
export const COM_IRQS = [4, 3, 4, 3] as const;

export const UART16550 = {
  /** RBR when read, THR when written, DLL while LCR.DLAB is set. */
  RBR_THR_DLL: { at: 0, width: 1, access: "rw" },
  IER_DLM: { at: 1, width: 1, access: "rw" },
  IIR_FCR: { at: 2, width: 1, access: "rw" },
  LCR: { at: 3, width: 1, access: "rw" },
  MCR: { at: 4, width: 1, access: "rw" },
  LSR: { at: 5, width: 1, access: "ro" },
  MSR: { at: 6, width: 1, access: "ro" },
  SCR: { at: 7, width: 1, access: "rw" },
} as const;

const IER = { ERBFI: 1 << 0, ETBEI: 1 << 1, ELSI: 1 << 2, EDSSI: 1 << 3 } as const;
const IIR = { NONE: 0x01, MSR: 0x00, THRE: 0x02, DATA: 0x04, LSR: 0x06, TIMEOUT: 0x0c, FIFOS: 0xc0 } as const;
const FCR = { ENABLE: 1 << 0, CLEAR_RX: 1 << 1, CLEAR_TX: 1 << 2, DMA_MODE: 1 << 3, TRIGGER: 0xc0 } as const;
const LCR = { WLS: 3, STB: 1 << 2, PEN: 1 << 3, DLAB: 1 << 7 } as const;
const MCR = { DTR: 1 << 0, RTS: 1 << 1, OUT1: 1 << 2, OUT2: 1 << 3, LOOP: 1 << 4 } as const;
const LSR = { DR: 1 << 0, OE: 1 << 1, THRE: 1 << 5, TEMT: 1 << 6 } as const;
const MSR = {
  DCTS: 1 << 0,
  DDSR: 1 << 1,
  TERI: 1 << 2,
  DDCD: 1 << 3,
  CTS: 1 << 4,
  DSR: 1 << 5,
  RI: 1 << 6,
  DCD: 1 << 7,
} as const;

const FIFO_BYTES = 16;
const TRIGGERS = [1, 4, 8, 14] as const;
const TX_RETRY_NS = 100_000;
/** After a FIFO's worth of bytes was read: four times as fast as 115200 baud, and most of the time is the guest's own. */
const RX_PAUSE_NS = 200_000;
const CRYSTAL_HZ = 1_843_200;

export const Uart16550Record = record("uart16550", 1, {
  ier: { type: "u8", max: 0x0f },
  fcr: { type: "u8", max: 0xc9 },
  lcr: "u8",
  mcr: { type: "u8", max: 0x1f },
  scr: "u8",
  divisor: { type: "u16", reset: 12 },
  overrun: { type: "u8", max: 1 },
  /** DCTS, DDSR, TERI, DDCD. */
  deltas: { type: "u8", max: 0x0f },
  rx: { array: "u8", length: FIFO_BYTES },
  rxControl: { array: "u8", length: 2, max: FIFO_BYTES },
  /** Holds bytes only while the sink has no room. */
  tx: { array: "u8", length: FIFO_BYTES },
  txControl: { array: "u8", length: 2, max: FIFO_BYTES },
  /** Bytes that may still come before the next pause, which ends at `rxNextNs`. */
  burst: { type: "u8", max: FIFO_BYTES },
  rxNextNs: { type: "f64", max: Infinity },
  /** The guest has raised RTS since power-on: from then on it counts. */
  flow: { type: "u8", max: 1 },
  /** The transmitter became empty and nobody was told yet. */
  threPending: { type: "u8", max: 1 },
  timeoutPending: { type: "u8", max: 1 },
  rxTimeoutNs: { type: "f64", max: Infinity, reset: Infinity },
  txRetryNs: { type: "f64", max: Infinity, reset: Infinity },
});

interface Parts {
  readonly clock: Clock;
  readonly timer: Timer;
  readonly irq: IrqLine;
  readonly tx: ByteSink;
  readonly rx: ByteSource;
}

export class Uart16550 {
  readonly region: Region;
  readonly #rx: ByteFifo;
  readonly #tx: ByteFifo;

  constructor(private readonly s: View<typeof Uart16550Record>, private readonly parts: Parts) {
    this.#rx = new ByteFifo(s.rx, s.rxControl);
    this.#tx = new ByteFifo(s.tx, s.txControl);
    this.region = registerBank<typeof UART16550>({
      registers: UART16550,
      readRegister: (name) => {
        this.settle();
        const value = this.#read(name);
        this.settle();
        return value;
      },
      writeRegister: (name, value) => {
        this.settle();
        this.#write(name, value);
        this.settle();
      },
    });
  }

  /** Bytes have come to the source: takes what there is room for. Called under the machine lock. */
  receive(): void {
    this.settle();
  }

  /** Moves bytes where there is room, notices a timeout, drives the interrupt. Also the timer's callback. */
  settle(): void {
    const s = this.s, now = this.parts.clock.nowNs();
    this.#drain(now);
    this.#fill(now);
    if (now >= s.rxTimeoutNs) {
      s.rxTimeoutNs = Infinity;
      s.timeoutPending = 1;
    }
    this.#drive();
    const nextBurst = s.burst === 0 && this.#listening && this.parts.rx.available > 0 ? s.rxNextNs : Infinity;
    const next = Math.min(s.txRetryNs, nextBurst, s.ier & IER.ERBFI ? s.rxTimeoutNs : Infinity);
    if (next === Infinity) this.parts.timer.disarm();
    else this.parts.timer.arm(next);
  }

  get #fifos(): boolean {
    return (this.s.fcr & FCR.ENABLE) !== 0;
  }

  #capacity(): number {
    return this.#fifos ? FIFO_BYTES : 1;
  }

  #drive(): void {
    // On a PC, OUT2 opens the way to the interrupt controller; loopback closes that pin.
    const gate = (this.s.mcr & (MCR.OUT2 | MCR.LOOP)) === MCR.OUT2;
    this.parts.irq.set(gate && this.#cause() !== IIR.NONE);
  }

  /** The most urgent of the enabled interrupts, as IIR tells it. */
  #cause(): number {
    const s = this.s;
    if (s.ier & IER.ELSI && s.overrun) return IIR.LSR;
    if (s.ier & IER.ERBFI) {
      if (this.#rx.count >= (this.#fifos ? TRIGGERS[s.fcr >> 6]! : 1)) return IIR.DATA;
      if (this.#fifos && s.timeoutPending) return IIR.TIMEOUT;
    }
    if (s.ier & IER.ETBEI && s.threPending) return IIR.THRE;
    if (s.ier & IER.EDSSI && s.deltas) return IIR.MSR;
    return IIR.NONE;
  }

  #read(name: keyof typeof UART16550): number {
    const s = this.s, dlab = (s.lcr & LCR.DLAB) !== 0;
    switch (name) {
      case "RBR_THR_DLL":
        return dlab ? s.divisor & 0xff : this.#readRbr();
      case "IER_DLM":
        return dlab ? s.divisor >> 8 : s.ier;
      case "IIR_FCR": {
        const cause = this.#cause();
        if (cause === IIR.THRE) s.threPending = 0;
        return cause | (this.#fifos ? IIR.FIFOS : 0);
      }
      case "LCR":
        return s.lcr;
      case "MCR":
        return s.mcr;
      case "LSR": {
        const empty = this.#tx.count === 0 ? LSR.THRE | LSR.TEMT : 0;
        const lsr = empty | (s.overrun ? LSR.OE : 0) | (this.#rx.count > 0 ? LSR.DR : 0);
        s.overrun = 0;
        return lsr;
      }
      case "MSR": {
        const msr = this.#modemLines() | s.deltas;
        s.deltas = 0;
        return msr;
      }
      case "SCR":
        return s.scr;
    }
  }

  #write(name: keyof typeof UART16550, value: number): void {
    const s = this.s, dlab = (s.lcr & LCR.DLAB) !== 0;
    switch (name) {
      case "RBR_THR_DLL":
        if (dlab) s.divisor = (s.divisor & 0xff00) | value;
        else this.#transmit(value);
        return;
      case "IER_DLM":
        if (dlab) s.divisor = (s.divisor & 0xff) | (value << 8);
        else {
          // Enabling the interrupt while the transmitter is empty asks for it at once.
          if (value & ~s.ier & IER.ETBEI && this.#tx.count === 0) s.threPending = 1;
          s.ier = value & 0x0f;
        }
        return;
      case "IIR_FCR":
        return this.#writeFcr(value);
      case "LCR":
        s.lcr = value;
        return;
      case "MCR": {
        const before = this.#modemLines();
        s.mcr = value & 0x1f;
        if ((value & (MCR.RTS | MCR.LOOP)) === MCR.RTS) s.flow = 1; // in loopback the pin stays where it is
        const after = this.#modemLines(), changed = before ^ after;
        s.deltas |= (changed & MSR.CTS ? MSR.DCTS : 0) | (changed & MSR.DSR ? MSR.DDSR : 0) |
          (changed & MSR.DCD ? MSR.DDCD : 0) | (before & ~after & MSR.RI ? MSR.TERI : 0);
        return;
      }
      case "SCR":
        s.scr = value;
    }
  }

  /** The far end is there and ready; in loopback the outputs are the inputs. */
  #modemLines(): number {
    const mcr = this.s.mcr;
    if (!(mcr & MCR.LOOP)) return MSR.CTS | MSR.DSR | MSR.DCD;
    return (mcr & MCR.RTS ? MSR.CTS : 0) | (mcr & MCR.DTR ? MSR.DSR : 0) | (mcr & MCR.OUT1 ? MSR.RI : 0) |
      (mcr & MCR.OUT2 ? MSR.DCD : 0);
  }

  #writeFcr(value: number): void {
    const s = this.s;
    const toggled = ((value ^ s.fcr) & FCR.ENABLE) !== 0;
    if (toggled || value & FCR.CLEAR_RX) {
      this.#rx.clear();
      s.timeoutPending = 0;
      s.rxTimeoutNs = Infinity;
    }
    if ((toggled || value & FCR.CLEAR_TX) && this.#tx.count > 0) {
      this.#tx.clear();
      this.#transmitterEmpty();
    }
    // The other bits are programmed only together with the enable.
    s.fcr = value & FCR.ENABLE ? value & (FCR.ENABLE | FCR.DMA_MODE | FCR.TRIGGER) : 0;
  }

  #transmit(byte: number): void {
    const s = this.s;
    // Writing ends the request, be it raised again at once: a controller that senses edges must see it fall.
    s.threPending = 0;
    this.#drive();
    if (s.mcr & MCR.LOOP) {
      this.#loopBack(byte);
      this.#transmitterEmpty();
    } else if (this.#tx.count === 0 && this.parts.tx.put(byte)) this.#transmitterEmpty();
    else {
      // A guest that heeds THRE never writes past the end; one that does not loses bytes as on the chip.
      if (!this.#fifos) this.#tx.clear();
      this.#tx.push(byte);
      if (s.txRetryNs === Infinity) s.txRetryNs = this.parts.clock.nowNs() + TX_RETRY_NS;
    }
  }

  #drain(now: number): void {
    const s = this.s;
    if (this.#tx.count === 0 || now < s.txRetryNs) return;
    while (this.#tx.count > 0 && this.parts.tx.put(this.#tx.peek())) this.#tx.shift();
    if (this.#tx.count === 0) this.#transmitterEmpty();
    else s.txRetryNs = now + TX_RETRY_NS;
  }

  #transmitterEmpty(): void {
    this.s.threPending = 1;
    this.s.txRetryNs = Infinity;
  }

  /** The line is not looped back, nor held up. */
  get #listening(): boolean {
    const { mcr, flow } = this.s;
    return !(mcr & MCR.LOOP) && (flow === 0 || (mcr & MCR.RTS) !== 0);
  }

  #fill(now: number): void {
    const s = this.s;
    if (!this.#listening) return;
    if (s.burst === 0 && now >= s.rxNextNs) s.burst = FIFO_BYTES;
    while (s.burst > 0 && this.#rx.count < this.#capacity() && this.parts.rx.available > 0) {
      this.#rx.push(this.parts.rx.get() & 0xff);
      s.burst--;
      s.rxNextNs = now + RX_PAUSE_NS;
      this.#restartTimeout(now);
    }
  }

  #loopBack(byte: number): void {
    if (this.#rx.count >= this.#capacity()) {
      this.s.overrun = 1;
      if (this.#fifos) return; // the FIFO keeps what it has; a lone RBR is written over
      this.#rx.clear();
    }
    this.#rx.push(byte);
    this.#restartTimeout(this.parts.clock.nowNs());
  }

  #readRbr(): number {
    const s = this.s, byte = this.#rx.shift(), now = this.parts.clock.nowNs();
    s.timeoutPending = 0;
    if (this.#rx.count > 0) this.#restartTimeout(now);
    else {
      s.rxTimeoutNs = Infinity;
      s.rxNextNs = now + RX_PAUSE_NS;
    }
    return byte < 0 ? 0 : byte;
  }

  /** Four characters' time after the last byte came or was read, the FIFO's bytes are asked for however few. */
  #restartTimeout(now: number): void {
    const lcr = this.s.lcr;
    const bits = 1 + 5 + (lcr & LCR.WLS) + (lcr & LCR.PEN ? 1 : 0) + (lcr & LCR.STB ? 2 : 1);
    this.s.rxTimeoutNs = now + Math.ceil((4 * bits * 16 * Math.max(1, this.s.divisor) * 1e9) / CRYSTAL_HZ);
  }
}
