/** Registers of Apple silicon as Hypervisor.framework has them: which there are, and who may have them. */
import * as A from "../../../ffi/hypervisor_arm64.ts";

/** Values of the identification registers, those of a processor without SME and with EL2. */
const FEATURES: Readonly<Record<number, bigint>> = {
  [A.hv_feature_reg_t.HV_FEATURE_REG_ID_AA64DFR0_EL1]: 0x0000_0000_10305f06n,
  [A.hv_feature_reg_t.HV_FEATURE_REG_ID_AA64ISAR0_EL1]: 0x0221_1000_1111_2120n,
  [A.hv_feature_reg_t.HV_FEATURE_REG_ID_AA64ISAR1_EL1]: 0x0000_0111_1111_1101n,
  [A.hv_feature_reg_t.HV_FEATURE_REG_ID_AA64MMFR0_EL1]: 0x0000_0101_1012_1023n,
  [A.hv_feature_reg_t.HV_FEATURE_REG_ID_AA64MMFR1_EL1]: 0x0000_0000_1021_1121n,
  [A.hv_feature_reg_t.HV_FEATURE_REG_ID_AA64MMFR2_EL1]: 0x1000_1100_1000_1011n,
  [A.hv_feature_reg_t.HV_FEATURE_REG_ID_AA64PFR0_EL1]: 0x1101_0000_1111_0011n,
  [A.hv_feature_reg_t.HV_FEATURE_REG_ID_AA64PFR1_EL1]: 0x0000_0000_0000_0020n,
  [A.hv_feature_reg_t.HV_FEATURE_REG_CTR_EL0]: 0x0000_0000_8444_c004n,
  [A.hv_feature_reg_t.HV_FEATURE_REG_CLIDR_EL1]: 0x0000_0000_8123_0123n,
  [A.hv_feature_reg_t.HV_FEATURE_REG_DCZID_EL0]: 4n,
};
const LAST_FEATURE = 17;

/** Undefined beyond the last; registers that this processor does not fill in are 0. */
export function featureRegister(id: number): bigint | undefined {
  return id > LAST_FEATURE ? undefined : FEATURES[id] ?? 0n;
}

/** CCSIDR_EL1 of the caches of each level: sets, ways, lines of 64 bytes. */
export function cacheSizes(type: number): bigint[] | undefined {
  if (type > 1) return undefined;
  const ccsidr = (sets: number, ways: number) => (BigInt(sets - 1) << 13n) | (BigInt(ways - 1) << 3n) | 2n;
  return [type === 0 ? ccsidr(256, 8) : ccsidr(512, 6), ccsidr(4096, 12), 0n, 0n, 0n, 0n, 0n, 0n];
}

const SYSTEM = new Map(Object.entries(A.hv_sys_reg_t).map(([name, id]) => [id as number, name]));
for (let n = 0; n < 16; n++) {
  for (const first of [0x8004, 0x8005, 0x8006, 0x8007]) SYSTEM.set(first + 8 * n, `DEBUG${first & 3}_${n}`);
}
const { hv_sys_reg_t: R } = A;
const WITH_GIC: readonly number[] = [
  R.HV_SYS_REG_CNTP_TVAL_EL0,
  R.HV_SYS_REG_CNTP_CTL_EL0,
  R.HV_SYS_REG_CNTP_CVAL_EL0,
];
/** SMPRI, SMCR, TPIDR2, which come with SME. */
const WITH_SME: readonly number[] = [R.HV_SYS_REG_SMPRI_EL1, R.HV_SYS_REG_SMCR_EL1, R.HV_SYS_REG_TPIDR2_EL0];

export interface Has {
  readonly gic: boolean;
  readonly el2: boolean;
}

export function hasSystemRegister(id: number, has: Has): boolean {
  const name = SYSTEM.get(id);
  if (name === undefined || WITH_SME.includes(id)) return false;
  if (WITH_GIC.includes(id)) return has.gic;
  // SP_EL1 is the one register of EL2's encoding space that EL1 has.
  const ofEl2 = name.endsWith("_EL2");
  return !ofEl2 || has.el2;
}

/** Values at creation: MIDR of this processor; the features that the configuration tells. */
export function initialSystemRegisters(): Map<number, bigint> {
  const F = A.hv_feature_reg_t;
  return new Map<number, bigint>([
    [R.HV_SYS_REG_MIDR_EL1, 0x610f_0000n],
    [R.HV_SYS_REG_ID_AA64PFR0_EL1, FEATURES[F.HV_FEATURE_REG_ID_AA64PFR0_EL1]!],
    [R.HV_SYS_REG_ID_AA64PFR1_EL1, FEATURES[F.HV_FEATURE_REG_ID_AA64PFR1_EL1]!],
    [R.HV_SYS_REG_ID_AA64DFR0_EL1, FEATURES[F.HV_FEATURE_REG_ID_AA64DFR0_EL1]!],
    [R.HV_SYS_REG_ID_AA64ISAR0_EL1, FEATURES[F.HV_FEATURE_REG_ID_AA64ISAR0_EL1]!],
    [R.HV_SYS_REG_ID_AA64ISAR1_EL1, FEATURES[F.HV_FEATURE_REG_ID_AA64ISAR1_EL1]!],
    [R.HV_SYS_REG_ID_AA64MMFR0_EL1, FEATURES[F.HV_FEATURE_REG_ID_AA64MMFR0_EL1]!],
    [R.HV_SYS_REG_ID_AA64MMFR1_EL1, FEATURES[F.HV_FEATURE_REG_ID_AA64MMFR1_EL1]!],
    [R.HV_SYS_REG_ID_AA64MMFR2_EL1, FEATURES[F.HV_FEATURE_REG_ID_AA64MMFR2_EL1]!],
  ]);
}
