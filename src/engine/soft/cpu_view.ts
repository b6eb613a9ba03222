/** The state of a software vCPU in shared memory, field by field: for tests, loaders and messages; what loops goes to the views. */
import { STATUS } from "../../cpu/x86/ops.ts";
import { CS, IF, MODE_64, S } from "../../cpu/x86/state.ts";

const COUNTERS = ["tlbMisses", "pageFaults", "exceptions", "interrupts"] as const;

export class CpuView {
  readonly i32: Int32Array;
  readonly f64: Float64Array;
  readonly dv: DataView;

  constructor(buffer: ArrayBufferLike, readonly base: number) {
    this.i32 = new Int32Array(buffer);
    this.f64 = new Float64Array(buffer, 0, Math.floor(buffer.byteLength / 8));
    this.dv = new DataView(buffer);
  }

  /** A 32-bit field of the state. */
  get(field: keyof typeof S, index = 0): number {
    return this.i32[(this.base + S[field] + index * 4) >> 2]!;
  }
  put(field: keyof typeof S, value: number, index = 0): void {
    this.i32[(this.base + S[field] + index * 4) >> 2] = value;
  }
  get64(field: keyof typeof S, index = 0): bigint {
    return this.dv.getBigUint64(this.base + S[field] + index * 8, true);
  }
  put64(field: keyof typeof S, value: bigint | number, index = 0): void {
    this.dv.setBigUint64(this.base + S[field] + index * 8, BigInt.asUintN(64, BigInt(value)), true);
  }

  /** Where the next instruction is, in linear addresses. */
  linearRip(): { lo: number; hi: number } {
    const lo = this.get("rip"), hi = this.get("rip", 1);
    if ((this.get("mode") & 3) === MODE_64) return { lo, hi };
    return { lo: (lo + this.get("segBase", 2 * CS)) | 0, hi: 0 };
  }

  /** Whether it would take an interrupt now. */
  interruptible(): boolean {
    return (this.get("eflags") & IF) !== 0 && this.get("inhibit") === 0;
  }

  /**
   * What the generated code counts. Of instructions, those that compiled regions have retired, having been given `extended` while
   * they ran; and why regions were left, of which "jump" is: for code that is not compiled, and "resume": native code for what the
   * interpreter does.
   */
  counters(extended = 0): Record<string, number> {
    const left = (status: number) => Number(this.get64("regionsLeft", status));
    return {
      ...Object.fromEntries(COUNTERS.map((name) => [name, this.get(name) >>> 0])),
      compiledInstructions: Number(BigInt.asIntN(64, this.get64("tierRetired"))) + extended,
      leftByJump: left(STATUS.JUMP),
      leftByFault: left(STATUS.FAULT),
      leftBySlice: left(STATUS.SLICE),
      leftByResync: left(STATUS.RESYNC),
      leftByResume: left(STATUS.RESUME),
      leftOtherwise: left(STATUS.NEXT) + left(STATUS.TRANSLATE) + left(STATUS.HALT) + left(STATUS.SHUTDOWN) +
        left(STATUS.FALL),
    };
  }
}
