/**
 * From interrupt pins to interrupt wires: eight PIRQs, each the wired OR of the pins that lead to it.
 *
 * Spec: [ich9 §5.8, §13.1.10] PIRQ[A..H]# go to inputs 16 to 23 of the I/O APIC, and to the ISA interrupt that PIRQx_ROUT names.
 * A level is computed from the functions' records each time; nothing is kept here.
 */
import type { IrqLine } from "../../src/base/irq.ts";
import type { PciFunction } from "./function.ts";
import type { PciHost } from "./host.ts";
import type { Ich9Lpc } from "./lpc.ts";

export const PIRQS = 8;
const ROUTING_DISABLED = 1 << 7; // in PIRQx_ROUT
/** ISA interrupts a PIRQ may be routed to: 3 to 7, 9 to 12, 14, 15. */
const ROUTABLE = 0b1101_1110_1111_1000;

/** The PIRQ (0 for A) that pin `pin` (1 for INTA#) of `device` leads to on this board; _PRT must say the same. */
export function pirqOf(device: number, pin: number): number {
  return (device + pin - 1) % PIRQS;
}

export class PirqRouter {
  /** `gsi` are the I/O APIC's inputs 16 to 23; `isa`, if given, sixteen wires to the 8259A pair that only PCI drives. */
  constructor(
    private readonly host: PciHost,
    private readonly lines: { readonly gsi: readonly IrqLine[]; readonly isa?: readonly IrqLine[] },
    private readonly lpc: Ich9Lpc | null = null,
  ) {
    host.onIntx = (fn) => this.#changed(fn);
    if (lpc) lpc.onRoute = () => this.#routeChanged();
  }

  /** Drives every wire from the records: after a restore. */
  settle(): void {
    for (let pirq = 0; pirq < PIRQS; pirq++) this.lines.gsi[pirq]?.set(this.#level(pirq));
    this.#routeChanged();
  }

  #changed(fn: PciFunction): void {
    if (fn.interruptPin === 0) return;
    const pirq = pirqOf(fn.devfn >> 3, fn.interruptPin);
    this.lines.gsi[pirq]?.set(this.#level(pirq));
    const irq = this.#isaOf(pirq);
    if (irq >= 0) this.lines.isa?.[irq]?.set(this.#isaLevel(irq));
  }

  #routeChanged(): void {
    for (let irq = 0; irq < 16; irq++) {
      if ((ROUTABLE >> irq) & 1) this.lines.isa?.[irq]?.set(this.#isaLevel(irq));
    }
  }

  #level(pirq: number): boolean {
    return this.host.functions.some((f) => f.intxLevel && pirqOf(f.devfn >> 3, f.interruptPin) === pirq);
  }

  #isaLevel(irq: number): boolean {
    for (let pirq = 0; pirq < PIRQS; pirq++) if (this.#isaOf(pirq) === irq && this.#level(pirq)) return true;
    return false;
  }

  #isaOf(pirq: number): number {
    const route = this.lpc?.pirqRoute(pirq) ?? ROUTING_DISABLED;
    const irq = route & 0xf;
    return route & ROUTING_DISABLED || !((ROUTABLE >> irq) & 1) ? -1 : irq;
  }
}
