/** The events of a software vCPU as engine-neutral data: what waits in its event word, and what was being delivered. */
import { VcpuEvent } from "../engine.ts";
import { EventType, type VcpuState } from "../vcpu_state.ts";
import type { SoftVcpu } from "./soft.ts";

const SIPI_VECTOR_SHIFT = 8, SIPI_VECTOR = 0xff << SIPI_VECTOR_SHIFT;

/** `word`: the event word. The request for an interrupt is the local APIC's to repeat. */
export function saveEvents(word: number, s: VcpuState): void {
  s.nmiPending = word & VcpuEvent.NMI ? 1 : 0;
  s.initPending = word & VcpuEvent.INIT ? 1 : 0;
  s.sipiPending = word & VcpuEvent.SIPI ? 1 : 0;
  s.sipiVector = word & VcpuEvent.SIPI ? word >>> SIPI_VECTOR_SHIFT : 0;
}

/** Replaces what waits in the event word, but for interrupts and kicks. */
export function restoreEvents(s: VcpuState, events: Int32Array, at: number): void {
  Atomics.and(events, at, ~(VcpuEvent.NMI | VcpuEvent.INIT | VcpuEvent.SIPI | SIPI_VECTOR));
  Atomics.or(
    events,
    at,
    (s.nmiPending ? VcpuEvent.NMI : 0) | (s.initPending ? VcpuEvent.INIT : 0) |
      (s.sipiPending ? VcpuEvent.SIPI | s.sipiVector << SIPI_VECTOR_SHIFT : 0),
  );
}

const FIELDS = ["eventValid", "eventType", "eventVector", "eventHasError", "eventError", "eventLength"] as const;

/** Copies the event that was being delivered; gives `to`. */
export function copyEvent(from: VcpuState, to: VcpuState): VcpuState {
  for (const name of FIELDS) to[name] = from[name];
  return to;
}

/**
 * Delivers what another engine was interrupted at; gives a STATUS. What software raised needs nothing: RIP is still at its
 * instruction, which will do so again.
 */
export function finishDelivery(v: SoftVcpu, s: VcpuState): number {
  v.put("watching", 1);
  const status = deliver(v, s);
  v.put("watching", 0);
  return status;
}

function deliver(v: SoftVcpu, s: VcpuState): number {
  switch (s.eventType) {
    case EventType.INTERRUPT:
      return v.exports.interrupt(v.base, s.eventVector);
    case EventType.NMI:
      return v.exports.nmi(v.base);
    case EventType.EXCEPTION:
      v.put("excVector", s.eventVector);
      v.put("excError", s.eventHasError ? s.eventError : -1);
      return v.exports.deliver(v.base);
    default:
      return 0;
  }
}
