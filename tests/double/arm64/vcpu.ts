/**
 * vCPUs of Apple silicon, call by call. There is no Arm processor behind them: a run ends at the first instruction, with what
 * that brings about if it is one that exits (guest.ts), or as cancelled.
 */
import { createShared, mapShared, PAGE } from "../host.ts";
import { at, put64, put8 } from "../out.ts";
import type { Functions } from "../thread.ts";
import { machNs } from "../time.ts";
import { HV } from "./codes.ts";
import { runGuest } from "./guest.ts";
import { cacheSizes, featureRegister, hasSystemRegister, initialSystemRegisters } from "./registers.ts";
import { Handles, MAX_VCPUS, type Shared, W } from "./shared.ts";

const LAST_REG = 34;
const LAST_INTERRUPT = 1;
const TLB_OPERATIONS = [0x11, 0x13, 0x15, 0x17, 0x18, 0x19, 0x1a, 0x1b, 0x1d, 0x1f];
/** Mach time on Apple silicon: 24 MHz. */
export const machTicks = (): bigint => machNs() * 3n / 125n;

export class ArmVcpu {
  readonly regs = new BigUint64Array(LAST_REG + 1);
  readonly simd = new BigUint64Array(64);
  readonly system = initialSystemRegisters();
  readonly pending = [false, false];
  readonly exit: DataView;
  trapsExceptions = false;
  trapsAccesses = false;
  timerMask = false;
  timerOffset = 0n;
  serror = false;
  ranTicks = 0n;
  constructor(readonly id: number, readonly exitAddress: bigint) {
    this.exit = at(exitAddress, 32);
  }
}

export function vcpuFunctions(shared: Shared, mine: Map<bigint, ArmVcpu>): Functions {
  const { words } = shared, configs = new Handles<true>(2);
  const done = (written: boolean) => written ? HV.SUCCESS : HV.BAD_ARGUMENT;
  const own = (id: bigint, body: (v: ArmVcpu) => number) => {
    const v = mine.get(id);
    return v ? body(v) : HV.BAD_ARGUMENT;
  };
  const has = () => ({ gic: shared.hasGic, el2: words[W.EL2] !== 0 });
  /** A pair of functions that get and set a bool. */
  const flag = (name: string, key: "trapsExceptions" | "trapsAccesses" | "timerMask" | "serror"): Functions => ({
    [`hv_vcpu_get_${name}`]: (id: bigint, out: bigint) => own(id, (v) => done(put8(out, v[key]))),
    [`hv_vcpu_set_${name}`]: (id: bigint, on: boolean) =>
      own(id, (v) => {
        v[key] = on;
        return HV.SUCCESS;
      }),
  });
  /** SME: this processor has none. */
  const sme = Object.fromEntries(
    ["state", "z_reg", "p_reg", "za_reg", "zt0_reg"].flatMap((name) =>
      ["get", "set"].map((verb) => [`hv_vcpu_${verb}_sme_${name}`, (id: bigint) => own(id, () => HV.UNSUPPORTED)])
    ),
  );

  return {
    ...sme,
    ...flag("trap_debug_exceptions", "trapsExceptions"),
    ...flag("trap_debug_reg_accesses", "trapsAccesses"),
    ...flag("vtimer_mask", "timerMask"),
    ...flag("serror", "serror"),
    hv_sme_config_get_max_svl_bytes: () => HV.UNSUPPORTED,
    hv_vcpu_create: (out: bigint, exit: bigint, config: bigint) => {
      if (!shared.hasVm) return HV.ERROR;
      if (out === 0n || exit === 0n || (config !== 0n && !configs.get(config))) return HV.BAD_ARGUMENT;
      // One a thread.
      if (mine.size > 0) return HV.BUSY;
      const id = shared.locked(() => {
        const free = words.subarray(W.USED, W.USED + MAX_VCPUS).indexOf(0);
        if (free >= 0) words[W.USED + free] = 1, words[W.CANCEL + free] = 0;
        return free;
      });
      if (id < 0) return HV.NO_RESOURCES;
      const v = new ArmVcpu(id, mapShared(createShared(PAGE), 0, PAGE));
      mine.set(BigInt(id), v);
      put64(out, id);
      put64(exit, v.exitAddress);
      return HV.SUCCESS;
    },
    hv_vcpu_destroy: (id: bigint) =>
      own(id, () => {
        mine.delete(id);
        words[W.USED + Number(id)] = 0;
        return HV.SUCCESS;
      }),
    hv_vcpu_run: (id: bigint) =>
      own(id, (v) => {
        const began = machTicks();
        runGuest(shared, v, Atomics.exchange(words, W.CANCEL + v.id, 0) !== 0);
        v.ranTicks += machTicks() - began;
        // Lines fall each time a run returns.
        v.pending.fill(false);
        return HV.SUCCESS;
      }),
    hv_vcpus_exit: (list: bigint, count: number) => {
      if (!shared.hasVm) return HV.ERROR;
      if (list === 0n || count === 0 || count > MAX_VCPUS) return HV.BAD_ARGUMENT;
      const ids = Array.from({ length: count }, (_, i) => Number(at(list, 8 * count).getBigUint64(8 * i, true)));
      if (ids.some((id) => id >= MAX_VCPUS || words[W.USED + id] === 0)) return HV.BAD_ARGUMENT;
      for (const id of ids) Atomics.store(words, W.CANCEL + id, 1);
      return HV.SUCCESS;
    },
    hv_vcpu_get_reg: (id: bigint, reg: number, out: bigint) =>
      own(id, (v) => done(reg <= LAST_REG && put64(out, v.regs[reg]!))),
    hv_vcpu_set_reg: (id: bigint, reg: number, value: bigint) =>
      own(id, (v) => {
        if (reg > LAST_REG) return HV.BAD_ARGUMENT;
        v.regs[reg] = value;
        return HV.SUCCESS;
      }),
    hv_vcpu_get_simd_fp_reg: (id: bigint, reg: number, out: bigint) =>
      own(id, (v) => done(reg < 32 && put64(out, v.simd[2 * reg]!) && put64(out + 8n, v.simd[2 * reg + 1]!))),
    /** Of the vector, which comes in a vector register, this host's calls tell the low half. */
    hv_vcpu_set_simd_fp_reg: (id: bigint, reg: number, low: number) =>
      own(id, (v) => {
        if (reg >= 32) return HV.BAD_ARGUMENT;
        v.simd[2 * reg] = new BigUint64Array(Float64Array.of(low).buffer)[0]!;
        v.simd[2 * reg + 1] = 0n;
        return HV.SUCCESS;
      }),
    hv_vcpu_get_sys_reg: (id: bigint, reg: number, out: bigint) =>
      own(id, (v) => done(hasSystemRegister(reg, has()) && put64(out, v.system.get(reg) ?? 0n))),
    hv_vcpu_set_sys_reg: (id: bigint, reg: number, value: bigint) =>
      own(id, (v) => {
        if (!hasSystemRegister(reg, has())) return HV.BAD_ARGUMENT;
        v.system.set(reg, value);
        return HV.SUCCESS;
      }),
    hv_vcpu_get_pending_interrupt: (id: bigint, type: number, out: bigint) =>
      own(id, (v) => {
        if (shared.hasGic) return HV.UNSUPPORTED;
        return done(type <= LAST_INTERRUPT && put8(out, v.pending[type]!));
      }),
    hv_vcpu_set_pending_interrupt: (id: bigint, type: number, on: boolean) =>
      own(id, (v) => {
        if (shared.hasGic) return HV.UNSUPPORTED;
        if (type > LAST_INTERRUPT) return HV.BAD_ARGUMENT;
        v.pending[type] = on;
        return HV.SUCCESS;
      }),
    hv_vcpu_get_exec_time: (id: bigint, out: bigint) => own(id, (v) => done(put64(out, v.ranTicks))),
    hv_vcpu_get_vtimer_offset: (id: bigint, out: bigint) => own(id, (v) => done(put64(out, v.timerOffset))),
    hv_vcpu_set_vtimer_offset: (id: bigint, offset: bigint) =>
      own(id, (v) => {
        v.timerOffset = offset;
        return HV.SUCCESS;
      }),
    hv_vcpu_get_wait_for_interrupt_time: (id: bigint, out: bigint) =>
      own(id, () => shared.hasGic ? done(put64(out, 0n)) : HV.UNSUPPORTED),
    hv_vcpu_invalidate_tlb: (id: bigint, operation: number) => own(id, () => done(TLB_OPERATIONS.includes(operation))),
    hv_vcpu_config_create: () => configs.add(true),
    hv_vcpu_config_get_feature_reg: (config: bigint, reg: number, out: bigint) => {
      const value = featureRegister(reg);
      return done(configs.get(config) !== undefined && value !== undefined && put64(out, value));
    },
    hv_vcpu_config_get_ccsidr_el1_sys_reg_values: (config: bigint, type: number, out: bigint) => {
      const values = cacheSizes(type);
      if (!configs.get(config) || !values || out === 0n) return HV.BAD_ARGUMENT;
      values.forEach((value, i) => put64(out + BigInt(8 * i), value));
      return HV.SUCCESS;
    },
    release_vcpu_config: (handle: bigint) => Number(configs.release(handle)),
  };
}
