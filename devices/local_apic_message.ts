/**
 * What travels between APICs, and which local APIC it is for.
 *
 * Spec: [sdm3 §11.6.2] destinations, [sdm3 §11.12.10] destinations in x2APIC mode.
 */
import type { View } from "../src/base/record.ts";
import { ApicMode, type LocalApicRecord } from "./local_apic_registers.ts";

/** A destination that means every processor. */
export const BROADCAST = 0xffffffff;

/** An interrupt on its way to local APICs. Plain numbers, as in an ICR. */
export interface InterruptMessage {
  /** A `DeliveryMode`. */
  readonly mode: number;
  readonly vector: number;
  /** Level-triggered: its EOI is broadcast. */
  readonly level: boolean;
  /** How to read `destination`: a set of logical IDs, or one APIC ID. */
  readonly logical: boolean;
  readonly destination: number;
}

/** An 8-bit destination as a 32-bit one. */
export function wide(destination: number): number {
  return destination === 0xff ? BROADCAST : destination;
}

/** The logical x2APIC ID: cluster and place in it. [sdm3 §11.12.10.2] */
export function logicalX2(id: number): number {
  return (((id >>> 4) << 16) | (1 << (id & 15))) >>> 0;
}

/** Whether the APIC of ID `id` with the registers `s` is, or is among, what `destination` names. */
export function isDestination(
  s: View<typeof LocalApicRecord>,
  id: number,
  destination: number,
  logical: boolean,
): boolean {
  if (s.mode === ApicMode.DISABLED) return false;
  if (destination === BROADCAST) return true;
  if (!logical) return destination === id;
  if (s.mode === ApicMode.X2APIC) {
    const own = logicalX2(id);
    return (own >>> 16) === (destination >>> 16) && (own & destination & 0xffff) !== 0;
  }
  const own = s.ldr >>> 24;
  switch (s.dfr >>> 28) {
    case 0xf: // flat
      return (own & destination & 0xff) !== 0;
    case 0: // cluster
      return ((destination & 0xf0) === 0xf0 || ((own ^ destination) & 0xf0) === 0) && (own & destination & 0xf) !== 0;
  }
  return false;
}
