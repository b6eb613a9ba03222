/**
 * IA32_TSC_DEADLINE where the board has the local APIC. The guest counts by its time-stamp counter, the board by guest time:
 * they meet at the moment of the access. 0 is no deadline to both.
 */
import * as K from "../../../ffi/kvm.ts";
import type { VcpuParts } from "../engine.ts";
import { IA32_TSC_DEADLINE } from "./msr_access.ts";

/** The rate of guest time in kHz. */
const GUEST_KHZ = 1_000_000;
const TWO32 = 0x1_0000_0000;

export interface TscOfVcpu {
  readonly tsc: number;
}

export class TscDeadline {
  constructor(
    private readonly run: DataView,
    private readonly parts: Pick<VcpuParts, "board" | "clock" | "index">,
    private readonly registers: TscOfVcpu,
    private readonly tscKhz: number,
  ) {}

  /** The write that kvm_run tells of; false: #GP. */
  write(): boolean {
    const { board, clock, index } = this.parts;
    const tsc = Number(this.run.getBigUint64(K.kvm_run.msr_data, true));
    let ns = 0;
    if (tsc !== 0) {
      ns = Math.max(1, Math.ceil(clock.nowNs() + (tsc - this.registers.tsc) * GUEST_KHZ / this.tscKhz));
      ns = Math.min(ns, Number.MAX_SAFE_INTEGER);
    }
    return board.writeMsr(index, IA32_TSC_DEADLINE, ns >>> 0, Math.floor(ns / TWO32));
  }

  /** Into kvm_run; false: #GP. */
  read(): boolean {
    const { board, clock, index } = this.parts;
    if (!board.readMsr(index, IA32_TSC_DEADLINE)) return false;
    const ns = board.msrLo + board.msrHi * TWO32;
    const tsc = ns === 0 ? 0 : this.registers.tsc + (ns - clock.nowNs()) * this.tscKhz / GUEST_KHZ;
    this.run.setBigUint64(K.kvm_run.msr_data, BigInt(Math.max(0, Math.floor(tsc))), true);
    return true;
  }
}
