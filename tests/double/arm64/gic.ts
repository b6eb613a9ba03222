/** The GIC of the framework, call by call: its configuration, its place among the other objects, its registers as they are kept. */
import * as A from "../../../ffi/hypervisor_arm64.ts";
import { viewOf } from "../host.ts";
import { put32, put64 } from "../out.ts";
import type { Functions } from "../thread.ts";
import { HV } from "./codes.ts";
import { Handles, L, type Shared, W } from "./shared.ts";
import type { ArmVcpu } from "./vcpu.ts";

interface GicConfig {
  distributor: bigint;
  redistributor: bigint;
  msi: bigint;
  msiFirst: number;
  msiCount: number;
}

const ALIGNMENT = 0x1_0000n;
const SIZE = { distributor: 0x1_0000n, redistributor: 0x2_0000n, region: 0x200_0000n, msi: 0x1_0000n } as const;
const FIRST_SPI = 32, SPIS = 988;
const SET_SPI_NSR = 0x40n;
const MPIDR_SET = 1n << 31n;
/** Architecture revision 3 in PIDR2; the number of lines, in blocks of 32, in TYPER. */
const PIDR2 = 0x3bn, TYPER = 0x1fn | (15n << 19n);
const MAGIC = 0x31_43_49_47, HEADER = 8;

/** Arrays: first offset, count, step. */
const DISTRIBUTOR: readonly (readonly [number, number, number])[] = [
  [0x0, 1, 4],
  [0x4, 1, 4],
  [0x80, 32, 4],
  [0x100, 32, 4],
  [0x180, 32, 4],
  [0x200, 32, 4],
  [0x280, 32, 4],
  [0x300, 32, 4],
  [0x380, 32, 4],
  [0x400, 255, 4],
  [0xc00, 64, 4],
  [0x6100, 988, 8],
  [0xffe8, 1, 4],
];
const READ_ONLY = [0x4, 0x8, 0xffe8];
const inArrays = (reg: number) =>
  DISTRIBUTOR.some(([at, n, step]) => reg >= at && reg < at + n * step && !((reg - at) % step));
const values = (table: Readonly<Record<string, number>>): readonly number[] => Object.values(table);

/** Registers that are kept as they are written; those that set and clear bits share what they set and clear. */
class RegisterFile {
  readonly kept = new Map<number, bigint>();
  constructor(private readonly fixed: ReadonlyMap<number, bigint>, private readonly pairs: readonly number[]) {}
  #pair(reg: number): { base: number; clears: boolean } | undefined {
    for (const base of this.pairs) {
      if (reg >= base && reg < base + 0x80) return { base: reg, clears: false };
      if (reg >= base + 0x80 && reg < base + 0x100) return { base: reg - 0x80, clears: true };
    }
    return undefined;
  }
  read(reg: number): bigint {
    return this.fixed.get(reg) ?? this.kept.get(this.#pair(reg)?.base ?? reg) ?? 0n;
  }
  write(reg: number, value: bigint): void {
    const pair = this.#pair(reg);
    if (!pair) this.kept.set(reg, value);
    else this.kept.set(pair.base, pair.clears ? this.read(pair.base) & ~value : this.read(pair.base) | value);
  }
}

const PAIRS = [0x100, 0x200, 0x300];

export function gicFunctions(shared: Shared, mine: Map<bigint, ArmVcpu>): Functions {
  const { words, longs } = shared, configs = new Handles<GicConfig>(3), states = new Handles<Uint8Array>(4);
  const done = (written: boolean) => written ? HV.SUCCESS : HV.BAD_ARGUMENT;
  const distributor = new RegisterFile(new Map([[0x4, TYPER], [0xffe8, PIDR2]]), PAIRS);
  const perVcpu = new Map<number, { redistributor: RegisterFile; icc: RegisterFile; ich: RegisterFile }>();
  const filesOf = (v: ArmVcpu) => {
    const last = v.id === shared.vcpus() - 1 ? 1n << 4n : 0n;
    const typer = (BigInt(v.id) << 32n) | (BigInt(v.id) << 8n) | last;
    const fixed = new Map([[0x8, typer], [0xffe8, PIDR2]]);
    const made = perVcpu.get(v.id) ??
      {
        redistributor: new RegisterFile(fixed, PAIRS.map((at) => at + 0x1_0000)),
        icc: new RegisterFile(new Map(), []),
        ich: new RegisterFile(new Map(), []),
      };
    perVcpu.set(v.id, made);
    return made;
  };
  const withGic = (body: () => number) => shared.hasGic ? body() : HV.ERROR;
  const own = (id: bigint, body: (v: ArmVcpu) => number) =>
    withGic(() => {
      const v = mine.get(id);
      return v ? body(v) : HV.BAD_ARGUMENT;
    });
  const base = (key: "distributor" | "redistributor" | "msi") => (handle: bigint, ipa: bigint) => {
    const config = configs.get(handle);
    if (!config || ipa % ALIGNMENT !== 0n) return HV.BAD_ARGUMENT;
    config[key] = ipa;
    return HV.SUCCESS;
  };
  const size = (bytes: bigint) => (out: bigint) => done(put64(out, bytes));
  /** get and set of registers of a vCPU that are in a list. */
  const registers = (
    name: string,
    exists: (reg: number) => boolean,
    file: (v: ArmVcpu) => RegisterFile,
    el2 = false,
  ): Functions => {
    const check = (id: bigint, reg: number, body: (v: ArmVcpu) => number) =>
      own(id, (v) => {
        if (el2 && words[W.EL2] === 0) return HV.UNSUPPORTED;
        return exists(reg) ? body(v) : HV.BAD_ARGUMENT;
      });
    return {
      [`hv_gic_get_${name}`]: (id: bigint, reg: number, out: bigint) =>
        check(id, reg, (v) => done(put64(out, file(v).read(reg)))),
      [`hv_gic_set_${name}`]: (id: bigint, reg: number, value: bigint) =>
        check(id, reg, (v) => {
          if (name === "redistributor_reg" && READ_ONLY.includes(reg)) return HV.BAD_ARGUMENT;
          file(v).write(reg, value);
          return HV.SUCCESS;
        }),
    };
  };
  const inMsiRange = (intid: number) =>
    words[W.MSI_COUNT]! > 0 && intid >= words[W.MSI_FIRST]! && intid < words[W.MSI_FIRST]! + words[W.MSI_COUNT]!;

  return {
    hv_gic_config_create: () =>
      shared.hasVm ? configs.add({ distributor: -1n, redistributor: -1n, msi: -1n, msiFirst: 0, msiCount: 0 }) : 0n,
    hv_gic_config_set_distributor_base: base("distributor"),
    hv_gic_config_set_redistributor_base: base("redistributor"),
    hv_gic_config_set_msi_region_base: base("msi"),
    hv_gic_config_set_msi_interrupt_range: (handle: bigint, first: number, count: number) => {
      const config = configs.get(handle);
      if (!config || first < FIRST_SPI || count === 0 || first + count > FIRST_SPI + SPIS) return HV.BAD_ARGUMENT;
      config.msiFirst = first;
      config.msiCount = count;
      return HV.SUCCESS;
    },
    hv_gic_create: (handle: bigint) => {
      if (!shared.hasVm) return HV.ERROR;
      const config = configs.get(handle);
      if (!config || config.distributor < 0n || config.redistributor < 0n) return HV.BAD_ARGUMENT;
      // Both or neither.
      if ((config.msi >= 0n) !== (config.msiCount > 0)) return HV.BAD_ARGUMENT;
      const places = [[config.distributor, SIZE.distributor], [config.redistributor, SIZE.region]];
      if (config.msi >= 0n) places.push([config.msi, SIZE.msi]);
      const overlap = places.some(([a, n], i) => places.some(([b, m], k) => k > i && a! < b! + m! && b! < a! + n!));
      const limit = 1n << BigInt(words[W.IPA_BITS]!);
      if (overlap || places.some(([a, n]) => a! + n! > limit)) return HV.BAD_ARGUMENT;
      return shared.locked(() => {
        if (shared.hasGic) return HV.BUSY;
        // Before any vCPU.
        if (shared.vcpus() > 0) return HV.ERROR;
        longs.set([config.distributor, config.redistributor, config.msi], L.DISTRIBUTOR);
        words[W.MSI_FIRST] = config.msiFirst;
        words[W.MSI_COUNT] = config.msiCount;
        words[W.GIC] = 1;
        return HV.SUCCESS;
      });
    },
    hv_gic_set_spi: (intid: number, level: boolean) =>
      withGic(() => {
        if (intid < FIRST_SPI || intid >= FIRST_SPI + SPIS || inMsiRange(intid)) return HV.BAD_ARGUMENT;
        Atomics.store(words, W.SPI + intid, level ? 1 : 0);
        return HV.SUCCESS;
      }),
    hv_gic_send_msi: (address: bigint, intid: number) =>
      withGic(() => {
        if (longs[L.MSI]! < 0n || address !== longs[L.MSI]! + SET_SPI_NSR || !inMsiRange(intid)) return HV.BAD_ARGUMENT;
        Atomics.store(words, W.SPI + intid, 1);
        return HV.SUCCESS;
      }),
    hv_gic_get_distributor_reg: (reg: number, out: bigint) =>
      withGic(() => done(inArrays(reg) && put64(out, distributor.read(reg) | levels(reg)))),
    hv_gic_set_distributor_reg: (reg: number, value: bigint) =>
      withGic(() => {
        if (!inArrays(reg) || READ_ONLY.includes(reg)) return HV.BAD_ARGUMENT;
        distributor.write(reg, value);
        return HV.SUCCESS;
      }),
    hv_gic_get_redistributor_base: (id: bigint, out: bigint) =>
      own(id, (v) => {
        const mpidr = v.system.get(A.hv_sys_reg_t.HV_SYS_REG_MPIDR_EL1) ?? 0n;
        if (!(mpidr & MPIDR_SET)) return HV.ERROR;
        return done(put64(out, longs[L.REDISTRIBUTOR]! + (mpidr & 0xffn) * SIZE.redistributor));
      }),
    ...registers(
      "redistributor_reg",
      (reg) => values(A.hv_gic_redistributor_reg_t).includes(reg),
      (v) => filesOf(v).redistributor,
    ),
    ...registers("icc_reg", (reg) => values(A.hv_gic_icc_reg_t).includes(reg), (v) => filesOf(v).icc),
    ...registers("ich_reg", (reg) => values(A.hv_gic_ich_reg_t).includes(reg), (v) => filesOf(v).ich, true),
    ...registers("icv_reg", (reg) => values(A.hv_gic_icv_reg_t).includes(reg), (v) => filesOf(v).ich, true),
    hv_gic_get_msi_reg: (reg: number, out: bigint) =>
      withGic(() => {
        const typer = BigInt(words[W.MSI_FIRST]! << 16 | words[W.MSI_COUNT]!);
        return done(values(A.hv_gic_msi_reg_t).includes(reg) && put64(out, reg === 8 ? typer : 0n));
      }),
    hv_gic_set_msi_reg: (reg: number, value: bigint) =>
      withGic(() => {
        if (reg !== Number(SET_SPI_NSR) || !inMsiRange(Number(value))) return HV.BAD_ARGUMENT;
        Atomics.store(words, W.SPI + Number(value), 1);
        return HV.SUCCESS;
      }),
    hv_gic_reset: () =>
      withGic(() => {
        distributor.kept.clear();
        perVcpu.clear();
        words.fill(0, W.SPI, W.SPI + FIRST_SPI + SPIS);
        return HV.SUCCESS;
      }),
    hv_gic_state_create: () => shared.hasGic ? states.add(save(distributor)) : 0n,
    hv_gic_state_get_size: (handle: bigint, out: bigint) => {
      const state = states.get(handle);
      return done(state !== undefined && put64(out, state.length));
    },
    hv_gic_state_get_data: (handle: bigint, out: bigint) => {
      const state = states.get(handle);
      if (!state || out === 0n) return HV.BAD_ARGUMENT;
      new Uint8Array(viewOf(out, state.length)).set(state);
      return HV.SUCCESS;
    },
    hv_gic_set_state: (data: bigint, bytes: bigint) =>
      withGic(() =>
        data !== 0n && load(distributor, new DataView(viewOf(data, Number(bytes)))) ? HV.SUCCESS : HV.BAD_ARGUMENT
      ),
    hv_gic_get_distributor_size: size(SIZE.distributor),
    hv_gic_get_distributor_base_alignment: size(ALIGNMENT),
    hv_gic_get_redistributor_region_size: size(SIZE.region),
    hv_gic_get_redistributor_size: size(SIZE.redistributor),
    hv_gic_get_redistributor_base_alignment: size(ALIGNMENT),
    hv_gic_get_msi_region_size: size(SIZE.msi),
    hv_gic_get_msi_region_base_alignment: size(ALIGNMENT),
    hv_gic_get_spi_interrupt_range: (first: bigint, count: bigint) =>
      done(put32(first, FIRST_SPI) && put32(count, SPIS)),
    hv_gic_get_intid: (which: number, out: bigint) => {
      const I = A.hv_gic_intid_t,
        ofEl2 = which === I.HV_GIC_INT_MAINTENANCE || which === I.HV_GIC_INT_EL2_PHYSICAL_TIMER;
      if (!values(I).includes(which)) return HV.BAD_ARGUMENT;
      return ofEl2 && words[W.EL2] === 0 ? HV.UNSUPPORTED : done(put32(out, which));
    },
    release_gic: (handle: bigint) => Number(configs.release(handle) || states.release(handle)),
  };

  /** Of ISPENDR: lines that are up are pending. */
  function levels(reg: number): bigint {
    if (reg < 0x200 || reg >= 0x280) return 0n;
    let bits = 0n;
    for (let i = 0; i < 32; i++) if (words[W.SPI + (reg - 0x200) * 8 + i]) bits |= 1n << BigInt(i);
    return bits;
  }
}

/** A blob that nobody else is to understand: a mark, a count, registers. */
function save(file: RegisterFile): Uint8Array {
  const bytes = new Uint8Array(HEADER + file.kept.size * 12), dv = new DataView(bytes.buffer);
  dv.setUint32(0, MAGIC, true);
  dv.setUint32(4, file.kept.size, true);
  [...file.kept].forEach(([reg, value], i) => {
    dv.setUint32(HEADER + 12 * i, reg, true);
    dv.setBigUint64(HEADER + 12 * i + 4, value, true);
  });
  return bytes;
}
function load(file: RegisterFile, dv: DataView): boolean {
  if (dv.byteLength < HEADER || dv.getUint32(0, true) !== MAGIC) return false;
  const count = dv.getUint32(4, true);
  if (dv.byteLength !== HEADER + 12 * count) return false;
  file.kept.clear();
  for (let i = 0; i < count; i++) {
    file.kept.set(dv.getUint32(HEADER + 12 * i, true), dv.getBigUint64(HEADER + 12 * i + 4, true));
  }
  return true;
}
