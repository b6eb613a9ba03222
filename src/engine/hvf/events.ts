/**
 * Events on their way into a guest: what the next entry injects, deliveries that an exit broke off, and the windows that tell
 * when the guest can take the next one: [sdm3 §27.6], [sdm3 §25.9.5].
 */
import { CPU_BASED, INTERRUPTIBILITY, VMCS } from "../../../ffi/vmx.ts";
import { EXC, IF } from "../../cpu/x86/state.ts";
import { EventType, type VcpuState } from "../vcpu_state.ts";
import { eventToRepeat, Info, isSoftware } from "./exits.ts";
import type { VcpuHandle } from "./handle.ts";

const SHADOW = INTERRUPTIBILITY.STI | INTERRUPTIBILITY.MOV_SS;

/** Exceptions that push an error code outside of real mode: [sdm3 table 6-1]. */
export const WITH_ERROR: readonly number[] = [EXC.DF, EXC.TS, EXC.NP, EXC.SS, EXC.GP, EXC.PF, EXC.AC];

export class HvfEvents {
  /** The next entry injects something. */
  pending = false;
  /** CTRL_CPU_BASED as it was last written. */
  #cpu: number;

  constructor(private readonly handle: VcpuHandle, cpuControls: number) {
    this.#cpu = cpuControls;
  }

  /** Nothing is on its way, no window is waited for. */
  reset(): void {
    this.handle.setVmcs(VMCS.CTRL_VMENTRY_IRQ_INFO, 0);
    this.pending = false;
    this.awaitWindows(0);
  }

  /** After a run: whether what was to be injected is still to be, because the guest was not entered. */
  settle(): void {
    if (this.pending) this.pending = Info.isValid(this.handle.vmcs(VMCS.CTRL_VMENTRY_IRQ_INFO));
  }

  get canInterrupt(): boolean {
    if (this.pending || (this.handle.vmcs(VMCS.GUEST_RFLAGS) & IF) === 0) return false;
    return (this.handle.vmcs(VMCS.GUEST_INTERRUPTIBILITY) & SHADOW) === 0;
  }

  get canNmi(): boolean {
    return !this.pending && (this.handle.vmcs(VMCS.GUEST_INTERRUPTIBILITY) & (SHADOW | INTERRUPTIBILITY.NMI)) === 0;
  }

  interrupt(vector: number): void {
    this.#inject(Info.of(EventType.INTERRUPT, vector, false));
  }
  nmi(): void {
    this.#inject(Info.of(EventType.NMI, EXC.NMI, false));
  }
  /** `error`: -1 if there is none. Real mode pushes none: [sdm3 §27.2.1.3]. */
  exception(vector: number, error = -1): void {
    const withError = error >= 0 && (this.handle.vmcs(VMCS.GUEST_CR0) & 1) !== 0;
    if (withError) this.handle.setVmcs(VMCS.CTRL_VMENTRY_EXC_ERROR, error);
    this.#inject(Info.of(EventType.EXCEPTION, vector, withError));
  }

  #inject(info: number): void {
    this.handle.setVmcs(VMCS.CTRL_VMENTRY_IRQ_INFO, info);
    this.pending = true;
  }

  /** The event whose delivery the exit broke off, as an entry would have it; 0 if there is none. */
  get broken(): number {
    return eventToRepeat(this.handle.vmcs(VMCS.RO_IDT_VECTOR_INFO));
  }
  get brokenError(): number {
    return this.handle.vmcs(VMCS.RO_IDT_VECTOR_ERROR);
  }

  /** The next entry delivers it again. */
  repeat(info: number): void {
    const { handle } = this;
    if (Info.hasError(info)) handle.setVmcs(VMCS.CTRL_VMENTRY_EXC_ERROR, this.brokenError);
    if (isSoftware(info)) handle.setVmcs(VMCS.CTRL_VMENTRY_INSTR_LEN, handle.vmcs(VMCS.RO_VMEXIT_INSTR_LEN));
    // The delivery had begun to block NMIs, which an entry that injects one does not allow.
    if (Info.type(info) === EventType.NMI) this.setNmiBlocking(false);
    this.#inject(info);
  }

  /** The next entry delivers what a saved state was in the middle of. */
  restore(s: VcpuState): void {
    if (s.eventHasError) this.handle.setVmcs(VMCS.CTRL_VMENTRY_EXC_ERROR, s.eventError);
    if (s.eventType >= EventType.SOFTWARE_INTERRUPT) this.handle.setVmcs(VMCS.CTRL_VMENTRY_INSTR_LEN, s.eventLength);
    if (s.eventType === EventType.NMI) this.setNmiBlocking(false);
    this.#inject(Info.of(s.eventType, s.eventVector, s.eventHasError !== 0));
  }

  setNmiBlocking(on: boolean): void {
    const old = this.handle.vmcs(VMCS.GUEST_INTERRUPTIBILITY);
    const next = on ? old | INTERRUPTIBILITY.NMI : old & ~INTERRUPTIBILITY.NMI;
    if (next !== old) this.handle.setVmcs(VMCS.GUEST_INTERRUPTIBILITY, next);
  }

  /** Exits as soon as the guest can take an interrupt, an NMI: bits of CPU_BASED. */
  awaitWindows(bits: number): void {
    const windows = CPU_BASED.IRQ_WND | CPU_BASED.VIRTUAL_NMI_WND;
    const next = ((this.#cpu & ~windows) | bits) >>> 0;
    if (next === this.#cpu) return;
    this.#cpu = next;
    this.handle.setVmcs(VMCS.CTRL_CPU_BASED, next);
  }
}
