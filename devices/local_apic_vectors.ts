/**
 * The vectors of a local APIC: requested, in service, and which of them may interrupt the processor.
 *
 * Spec: [sdm3 §11.8.3] priorities, [sdm3 §11.8.4] acceptance, [sdm3 §11.8.5] end of interrupt.
 */
import type { View } from "../src/base/record.ts";
import type { LocalApicRecord } from "./local_apic_registers.ts";

export class LocalApicVectors {
  constructor(private readonly s: View<typeof LocalApicRecord>) {}

  /** Into the IRR; the TMR remembers the trigger mode. */
  request(vector: number, level: boolean): void {
    const { irr, tmr } = this.s, word = vector >> 5, bit = 1 << (vector & 31);
    irr[word]! |= bit;
    if (level) tmr[word]! |= bit;
    else tmr[word]! &= ~bit;
  }

  /** From the IRR into the ISR. */
  take(vector: number): void {
    const { irr, isr } = this.s, word = vector >> 5, bit = 1 << (vector & 31);
    irr[word]! &= ~bit;
    isr[word]! |= bit;
  }

  /** Ends the highest interrupt in service and returns its vector, or -1. */
  end(): number {
    const { isr } = this.s, vector = highest(isr);
    if (vector >= 0) isr[vector >> 5]! &= ~(1 << (vector & 31));
    return vector;
  }

  isLevel(vector: number): boolean {
    return (this.s.tmr[vector >> 5]! & (1 << (vector & 31))) !== 0;
  }

  /** The requested vector whose class beats the processor's priority, or -1. */
  deliverable(): number {
    const vector = highest(this.s.irr);
    return vector >= 0 && (vector & 0xf0) > (this.processorPriority() & 0xf0) ? vector : -1;
  }

  /** PPR. [sdm3 §11.8.3.1] */
  processorPriority(): number {
    const inService = classOf(this.s.isr);
    return (this.s.tpr & 0xf0) >= inService ? this.s.tpr : inService;
  }

  /** APR, by which a lowest-priority interrupt finds its processor: the lower, the readier. [sdm3 §11.6.2.4] */
  arbitrationPriority(): number {
    const { tpr, irr, isr } = this.s;
    const requested = classOf(irr), inService = classOf(isr), task = tpr & 0xf0;
    if (task >= requested && task > inService) return tpr;
    return Math.max(task, requested, inService);
  }
}

/** The priority class of the highest vector set. */
function classOf(words: Uint32Array): number {
  return Math.max(0, highest(words)) & 0xf0;
}

/** The highest vector set, or -1. */
function highest(words: Uint32Array): number {
  for (let i = 7; i >= 0; i--) {
    const w = words[i]!;
    if (w !== 0) return i * 32 + 31 - Math.clz32(w);
  }
  return -1;
}
