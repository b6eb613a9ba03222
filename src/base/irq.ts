/** One interrupt wire. Devices drive a level; what an edge is, the controller at the other end decides. */
export interface IrqLine {
  set(level: boolean): void;
}

/** A wire that remembers: for tests. */
export class TestIrq implements IrqLine {
  level = false;
  /** Rises seen so far. */
  rises = 0;
  set(level: boolean): void {
    if (level && !this.level) this.rises++;
    this.level = level;
  }
}

/** Sends a message-signalled interrupt: a 32-bit `data` written to guest-physical address `addressHi:addressLo`. */
export interface MsiSink {
  send(addressLo: number, addressHi: number, data: number): void;
}
