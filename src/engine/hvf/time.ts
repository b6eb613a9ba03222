/** Deadlines of runs, and the guest's time-stamp counter. */
import { HV_DEADLINE_FOREVER, hv_vcpu_options_t } from "../../../ffi/hypervisor_x86_64.ts";
import type { VcpuHandle } from "./handle.ts";
import { check, type Hypervisor, refusal, SUCCESS } from "./library.ts";
import { VMCS } from "../../../ffi/vmx.ts";

/** Between two looks at the events of a vCPU that never exits by itself: others may raise them that cannot poke. */
const TICK_NS = 250_000;
/** The least that a run is given. */
const LEAST_NS = 5000;

/** Mach absolute time, which is nanoseconds on Intel processors. */
type MachClock = () => bigint;

/** Where a library has no such clock, which is then a test's, the same is told by the time-stamp counter. */
function machClock(hv: Hypervisor, hz: number): MachClock {
  const perSecond = BigInt(hz);
  return hv.mach_absolute_time ?? (() => hv.hv_tsc_clock() * 1_000_000_000n / perSecond);
}

/** When a run is to end at the latest. It is worked out once a tick, not at each entry. */
export class Deadline {
  /** In the units of hv_vcpu_run_until. */
  mach = HV_DEADLINE_FOREVER;
  /** The same in guest time. */
  #atNs = -1;
  #untilNs = -1;
  readonly #now: MachClock;

  constructor(hv: Hypervisor, hz: number) {
    this.#now = machClock(hv, hz);
  }

  /** Sets `mach` to the next tick, or to guest time `untilNs` if that comes before. */
  arm(nowNs: number, untilNs: number): void {
    if (nowNs < this.#atNs && this.#untilNs === untilNs) return;
    const ns = Math.max(LEAST_NS, Math.min(TICK_NS, untilNs - nowNs));
    this.#atNs = nowNs + ns;
    this.#untilNs = untilNs;
    this.mach = this.#now() + BigInt(Math.floor(ns));
  }

  /** Whether the deadline has passed at guest time `nowNs`. */
  passed(nowNs: number): boolean {
    return nowNs >= this.#atNs;
  }
}

const NS = 1e9, SAMPLE_MS = 10, TRIES = 8;
const measured = new WeakMap<Hypervisor, number>();

/** Ticks of the host's time-stamp counter a second: as the host tells, or else as measured, in whole MHz. */
export function tscHz(hv: Hypervisor, told: number): number {
  if (told > 0) return told;
  let hz = measured.get(hv);
  if (hz === undefined) {
    const start = moment(hv);
    while (performance.now() < start.ms + SAMPLE_MS);
    const end = moment(hv);
    hz = Math.max(1, Math.round(Number(end.ticks - start.ticks) / (end.ms - start.ms) / 1000)) * 1e6;
    measured.set(hv, hz);
  }
  return hz;
}

/** Both clocks at once: of several tries the one that took least. */
function moment(hv: Hypervisor): { ms: number; ticks: bigint } {
  let best = { ms: 0, ticks: 0n }, least = Infinity;
  for (let i = 0; i < TRIES; i++) {
    const before = performance.now(), ticks = hv.hv_tsc_clock(), after = performance.now();
    if (after - before >= least) continue;
    least = after - before;
    best = { ms: (before + after) / 2, ticks };
  }
  return best;
}

/** What the counter of a guest that has run for `nowNs` shows, less the host's now. */
export function tscOffsetAt(hv: Hypervisor, nowNs: number, hz: number): bigint {
  return BigInt(Math.floor(nowNs / NS * hz)) - hv.hv_tsc_clock();
}

/**
 * The time-stamp counter of one vCPU: the host's and an offset, which is the VM's until the guest writes the counter.
 *
 * Where the framework does not know counters relative to the host's, hv_vm_sync_tsc sets all of them at once, and a guest's
 * write moves the offset that the VMCS has.
 */
export class GuestTsc {
  #offset = 0n;

  private constructor(
    readonly handle: VcpuHandle,
    private readonly relative: boolean,
    readonly hz: number,
    /** The VM's offset. */
    private readonly shared: () => bigint,
  ) {}

  /** The vCPU belongs to the calling thread. */
  static createVcpu(hv: Hypervisor, hz: number, make: (options: number) => VcpuHandle | number, shared: () => bigint) {
    const { HV_VCPU_DEFAULT, HV_VCPU_TSC_RELATIVE } = hv_vcpu_options_t;
    let made = make(HV_VCPU_TSC_RELATIVE);
    const relative = typeof made !== "number";
    if (!relative) made = make(HV_VCPU_DEFAULT);
    if (typeof made === "number") throw refusal("hv_vcpu_create", made);
    const tsc = new GuestTsc(made, relative, hz, shared);
    if (!relative) check("hv_vm_sync_tsc", hv.hv_vm_sync_tsc(BigInt.asUintN(64, hv.hv_tsc_clock() + shared())));
    return tsc;
  }

  get khz(): number {
    return this.hz / 1000;
  }

  /** After a reset all vCPUs' counters are equal. */
  reset(): void {
    this.#set(this.shared());
  }

  get ticks(): bigint {
    return this.ticksAt(this.handle.hv.hv_tsc_clock());
  }
  set ticks(value: bigint) {
    this.setTicksAt(this.handle.hv.hv_tsc_clock(), value);
  }

  /** What the counter shows, is to show, when the host's shows `host`. */
  ticksAt(host: bigint): bigint {
    return BigInt.asUintN(64, host + this.#offset);
  }
  setTicksAt(host: bigint, value: bigint): void {
    this.#set(BigInt.asIntN(64, value - host));
  }

  #set(offset: bigint): void {
    const { hv, id } = this.handle;
    if (this.relative) {
      const code = hv.hv_vcpu_set_tsc_relative(id, offset);
      if (code !== SUCCESS) check("hv_vcpu_set_tsc_relative", code);
    } else if (offset !== this.#offset && this.#offset !== 0n) {
      const moved = BigInt.asUintN(64, this.#vmcsOffset() + offset - this.#offset);
      this.handle.setVmcs(VMCS.CTRL_TSC_OFFSET, Number(moved & 0xffff_ffffn), Number(moved >> 32n));
    }
    this.#offset = offset;
  }

  #vmcsOffset(): bigint {
    const lo = this.handle.vmcs(VMCS.CTRL_TSC_OFFSET);
    return (BigInt(this.handle.hi) << 32n) | BigInt(lo);
  }
}
