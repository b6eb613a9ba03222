/**
 * The PHY behind MDIC: a copper transceiver whose other end always answers, at 1000 Mb/s in full duplex.
 *
 * Spec: [e1000 §13.4.5] (MDIC), [ieee8023 §22.2.4] (registers 0 to 15).
 * Emulated: what drivers read of the link, negotiation and reset that take no time; page and vendor registers keep what is written.
 */
import type { View } from "../src/base/record.ts";
import { type E1000Record, MDIC } from "./e1000_registers.ts";

export const PHY = { CONTROL: 0, STATUS: 1, ID1: 2, ID2: 3, ADVERTISE: 4, PARTNER: 5, GIGABIT: 9, SPECIFIC_STATUS: 17 };
const ADDRESS = 1;
const RESET = 1 << 15, RESTART = 1 << 9;

/** Power-on values. The identifiers are those of the transceiver of this chip. */
const POWER_ON: Readonly<Record<number, number>> = {
  [PHY.CONTROL]: 0x1140,
  [PHY.STATUS]: 0x7949,
  [PHY.ID1]: 0x0141,
  [PHY.ID2]: 0x0c20,
  [PHY.ADVERTISE]: 0x0de1,
  [PHY.PARTNER]: 0xcde1,
  6: 0x0001,
  [PHY.GIGABIT]: 0x0e00,
  10: 0x7c00,
  15: 0x3000,
  16: 0x0360,
  [PHY.SPECIFIC_STATUS]: 0xa800,
};
const READ_ONLY = new Set([PHY.STATUS, PHY.ID1, PHY.ID2, PHY.PARTNER, 6, 10, 15, PHY.SPECIFIC_STATUS]);
const LINK = 1 << 2, NEGOTIATED = 1 << 5; // in STATUS
const REAL_TIME_LINK = 1 << 10; // in SPECIFIC_STATUS

export class Phy {
  /** `renegotiated` hears that the link comes up anew. */
  constructor(private readonly s: View<typeof E1000Record>, private readonly renegotiated: () => void) {}

  read(register: number): number {
    const value = this.s.phy[register]! ^ (POWER_ON[register] ?? 0);
    if (this.s.linkDown) return value;
    if (register === PHY.STATUS) return value | LINK | NEGOTIATED;
    return register === PHY.SPECIFIC_STATUS ? value | REAL_TIME_LINK : value;
  }

  write(register: number, value: number): void {
    if (READ_ONLY.has(register)) return;
    if (register === PHY.CONTROL) {
      const again = (value & (RESET | RESTART)) !== 0;
      if (value & RESET) this.reset();
      else this.s.phy[register] = (value & ~RESTART) ^ POWER_ON[register]!;
      if (again) this.renegotiated();
      return;
    }
    this.s.phy[register] = value ^ (POWER_ON[register] ?? 0);
  }

  reset(): void {
    this.s.phy.fill(0);
  }

  /** Carries out a command in MDIC; returns what the register shows then. */
  command(value: number): number {
    const operation = (value >>> 26) & 3, address = (value >>> 21) & 31, register = (value >>> 16) & 31;
    const known = address === ADDRESS && (operation === MDIC.OP_READ || operation === MDIC.OP_WRITE);
    if (!known) return (value | MDIC.READY | MDIC.ERROR) >>> 0;
    if (operation === MDIC.OP_WRITE) {
      this.write(register, value & 0xffff);
      return (value | MDIC.READY) >>> 0;
    }
    return ((value & 0xffff_0000) | MDIC.READY | this.read(register)) >>> 0;
  }
}
