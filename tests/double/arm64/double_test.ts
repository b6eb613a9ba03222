/** Hypervisor.framework of Apple silicon, call by call: each rule of the reference broken once. */
import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { DARWIN_SYMBOLS } from "../../../ffi/darwin.ts";
import * as A from "../../../ffi/hypervisor_arm64.ts";
import { hostMemory } from "../rig.ts";
import { attachDoubleArm64, HV, writeDoubleArm64 } from "./double.ts";

const path = writeDoubleArm64(Deno.makeTempDirSync({ prefix: "double-" }));
attachDoubleArm64(path);
const { hv_vcpu_set_simd_fp_reg: _, ...CALLED } = A.HYPERVISOR_SYMBOLS;
const hv = Deno.dlopen(path, {
  ...CALLED,
  ...A.LIBSYSTEM_SYMBOLS,
  ...DARWIN_SYMBOLS,
  hv_vcpu_set_simd_fp_reg: { parameters: ["u64", "u32", "f64"], result: "u32" },
}).symbols;

const NAMES = Object.fromEntries(Object.entries(HV).map(([name, code]) => [code, name]));
const said = (code: number) => NAMES[code] ?? code.toString(16);
const ok = (code: number) => assertEquals(said(code), "SUCCESS");
const PAGE = 16384n, RWX = 7n;
const out = new BigUint64Array(16), out32 = new Uint32Array(2), out8 = new Uint8Array(1);
const aligned = () => {
  const { u8, dv } = hostMemory(8 << 16), at = Deno.UnsafePointer.value(Deno.UnsafePointer.of(u8)!);
  const skip = Number((PAGE - BigInt(at) % PAGE) % PAGE);
  return { dv: new DataView(dv.buffer, skip), pointer: Deno.UnsafePointer.of(u8.subarray(skip))! };
};

class Vm implements Disposable {
  readonly id: bigint;
  readonly exit: DataView;
  readonly ram = aligned();
  constructor(prepare: () => void = () => {}, config: Deno.PointerValue = null) {
    ok(hv.hv_vm_create(config));
    ok(hv.hv_vm_map(this.ram.pointer, 0x4000_0000n, PAGE, RWX));
    prepare();
    const exit = new BigUint64Array(1);
    ok(hv.hv_vcpu_create(out, exit, null));
    this.id = out[0]!;
    this.exit = new DataView(Deno.UnsafePointerView.getArrayBuffer(Deno.UnsafePointer.create(exit[0]!)!, 32));
  }
  [Symbol.dispose](): void {
    ok(hv.hv_vcpu_destroy(this.id));
    ok(hv.hv_vm_destroy());
  }
  code(...words: number[]): void {
    words.forEach((word, i) => this.ram.dv.setUint32(4 * i, word, true));
    ok(hv.hv_vcpu_set_reg(this.id, 31, 0x4000_0000n));
  }
  get(reg: number): bigint {
    ok(hv.hv_vcpu_get_reg(this.id, reg, out));
    return out[0]!;
  }
  /** Reason, class and syndrome bits of an exit, its address. */
  run(): [number, number, number, bigint] {
    ok(hv.hv_vcpu_run(this.id));
    const syndrome = this.exit.getUint32(8, true);
    return [this.exit.getUint32(0, true), syndrome >>> 26, syndrome & 0x1ff_ffff, this.exit.getBigUint64(24, true)];
  }
}

Deno.test("arm64: every function of the binding is there", () => {
  const every = Deno.dlopen(path, A.HYPERVISOR_SYMBOLS);
  for (const [name, symbol] of Object.entries(every.symbols)) assertNotEquals(symbol, null, name);
  every.close();
});

Deno.test("arm64: configurations are objects that are made, asked, set and released", () => {
  const config = hv.hv_vm_config_create!()!;
  ok(hv.hv_vm_config_get_default_ipa_size!(out32));
  const usual = out32[0]!;
  ok(hv.hv_vm_config_get_max_ipa_size!(out32));
  const most = out32[0]!;
  assert(usual < most);
  assertEquals(said(hv.hv_vm_config_set_ipa_size!(config, most + 1)), "BAD_ARGUMENT");
  ok(hv.hv_vm_config_set_ipa_size!(config, most));
  ok(hv.hv_vm_config_get_ipa_size!(config, out32));
  assertEquals(out32[0], most);
  assertEquals(said(hv.hv_vm_config_set_ipa_granule!(config, 2)), "BAD_ARGUMENT");
  hv.os_release(config);
  assertEquals(said(hv.hv_vm_config_get_ipa_size!(config, out32)), "BAD_ARGUMENT");
  assertEquals(said(hv.hv_vm_create(config)), "BAD_ARGUMENT");
});

Deno.test("arm64: the size of guest addresses is the configuration's", () => {
  const { pointer } = aligned();
  ok(hv.hv_vm_create(null));
  assertEquals(said(hv.hv_vm_create(null)), "BUSY");
  assertEquals(said(hv.hv_vm_map(pointer, 1n << 36n, PAGE, RWX)), "BAD_ARGUMENT");
  ok(hv.hv_vm_destroy());
  const config = hv.hv_vm_config_create!()!;
  ok(hv.hv_vm_config_set_ipa_size!(config, 40));
  ok(hv.hv_vm_create(config));
  ok(hv.hv_vm_map(pointer, 1n << 36n, PAGE, RWX));
  ok(hv.hv_vm_destroy());
  hv.os_release(config);
});

Deno.test("arm64: mappings are multiples of 16 KiB, do not overlap, and go as they came", () => {
  const { pointer } = aligned();
  assertEquals(said(hv.hv_vm_map(pointer, 0n, PAGE, RWX)), "ERROR");
  ok(hv.hv_vm_create(null));
  assertEquals(said(hv.hv_vm_map(pointer, 4096n, PAGE, RWX)), "BAD_ARGUMENT");
  assertEquals(said(hv.hv_vm_map(pointer, 0n, 4096n, RWX)), "BAD_ARGUMENT");
  assertEquals(said(hv.hv_vm_map(pointer, 0n, PAGE, 8n)), "BAD_ARGUMENT");
  const off = Deno.UnsafePointer.create(BigInt(Deno.UnsafePointer.value(pointer)) + 4096n)!;
  assertEquals(said(hv.hv_vm_map(off, 0n, PAGE, RWX)), "BAD_ARGUMENT");
  ok(hv.hv_vm_map(pointer, 0n, 4n * PAGE, RWX));
  assertEquals(said(hv.hv_vm_map(pointer, 3n * PAGE, PAGE, RWX)), "EXISTS");
  ok(hv.hv_vm_protect(PAGE, PAGE, 1n));
  ok(hv.hv_vm_unmap(PAGE, 2n * PAGE));
  assertEquals(said(hv.hv_vm_unmap(PAGE, PAGE)), "BAD_ARGUMENT");
  assertEquals(said(hv.hv_vm_protect(0n, 2n * PAGE, 1n)), "BAD_ARGUMENT");
  ok(hv.hv_vm_destroy());
});

Deno.test("arm64: a thread has one vCPU, whose registers are those of the lists", () => {
  using vm = new Vm();
  assertEquals(said(hv.hv_vcpu_create(out, new BigUint64Array(1), null)), "BUSY");
  assertEquals(said(hv.hv_vm_destroy()), "BUSY");
  assertEquals(said(hv.hv_vcpu_run(vm.id + 1n)), "BAD_ARGUMENT");
  for (let reg = 0; reg <= 34; reg++) ok(hv.hv_vcpu_set_reg(vm.id, reg, BigInt(reg) << 40n));
  for (let reg = 0; reg <= 34; reg++) assertEquals(vm.get(reg), BigInt(reg) << 40n);
  assertEquals(said(hv.hv_vcpu_get_reg(vm.id, 35, out)), "BAD_ARGUMENT");
  ok(hv.hv_vcpu_set_sys_reg(vm.id, A.hv_sys_reg_t.HV_SYS_REG_VBAR_EL1, 0x800n));
  ok(hv.hv_vcpu_get_sys_reg(vm.id, A.hv_sys_reg_t.HV_SYS_REG_VBAR_EL1, out));
  assertEquals(out[0], 0x800n);
  // Debug register 15; one that is nowhere; EL2's, the GIC's and SME's, none of which this VM has.
  ok(hv.hv_vcpu_set_sys_reg(vm.id, 0x8007 + 8 * 15, 1n));
  const absent = [0xdf02, A.hv_sys_reg_t.HV_SYS_REG_HCR_EL2, A.hv_sys_reg_t.HV_SYS_REG_CNTP_CTL_EL0, 0xc096];
  for (const reg of absent) assertEquals(said(hv.hv_vcpu_get_sys_reg(vm.id, reg, out)), "BAD_ARGUMENT");
  ok(hv.hv_vcpu_set_simd_fp_reg(vm.id, 3, 1.5));
  ok(hv.hv_vcpu_get_simd_fp_reg(vm.id, 3, out));
  assertEquals([out[0], out[1]], [0x3ff8_0000_0000_0000n, 0n]);
  assertEquals(said(hv.hv_vcpu_get_simd_fp_reg(vm.id, 32, out)), "BAD_ARGUMENT");
});

Deno.test("arm64: EL2's registers exist in a VM that has EL2", () => {
  const config = hv.hv_vm_config_create!()!;
  ok(hv.hv_vm_config_set_el2_enabled!(config, true));
  ok(hv.hv_vm_config_get_el2_enabled!(config, out8));
  assertEquals(out8[0], 1);
  using vm = new Vm(() => {}, config);
  ok(hv.hv_vcpu_get_sys_reg(vm.id, A.hv_sys_reg_t.HV_SYS_REG_HCR_EL2, out));
});

Deno.test("arm64: pending interrupts fall when a run returns, and an exit that is asked for comes once", () => {
  using vm = new Vm();
  ok(hv.hv_vcpu_set_pending_interrupt(vm.id, 0, true));
  assertEquals(said(hv.hv_vcpu_set_pending_interrupt(vm.id, 2, true)), "BAD_ARGUMENT");
  ok(hv.hv_vcpu_get_pending_interrupt(vm.id, 0, out8));
  assertEquals(out8[0], 1);
  ok(hv.hv_vcpus_exit(BigUint64Array.of(vm.id), 1));
  assertEquals(vm.run()[0], 0);
  ok(hv.hv_vcpu_get_pending_interrupt(vm.id, 0, out8));
  assertEquals(out8[0], 0);
  // PC is 0, where nothing is: an instruction abort from a lower level, a translation fault.
  assertEquals(vm.run(), [1, 0x20, 7, 0n]);
  assertEquals(said(hv.hv_vcpus_exit(BigUint64Array.of(9n), 1)), "BAD_ARGUMENT");
});

Deno.test("arm64: HVC leaves PC behind it, SMC and WFI at it, and each tells its immediate", () => {
  using vm = new Vm();
  // hvc #1; smc #2; wfi; wfe; brk #3
  vm.code(0xd400_0022, 0xd400_0043, 0xd503_207f, 0xd503_205f, 0xd420_0060);
  assertEquals([...vm.run().slice(0, 3), vm.get(31)], [1, 0x16, 1, 0x4000_0004n]);
  assertEquals([...vm.run().slice(0, 3), vm.get(31)], [1, 0x17, 2, 0x4000_0004n]);
  ok(hv.hv_vcpu_set_reg(vm.id, 31, 0x4000_0008n));
  assertEquals([vm.run()[1], vm.get(31)], [1, 0x4000_0008n]);
  ok(hv.hv_vcpu_set_reg(vm.id, 31, 0x4000_000cn));
  assertEquals(vm.run()[2] & 3, 1);
  ok(hv.hv_vcpu_set_reg(vm.id, 31, 0x4000_0010n));
  assertEquals(vm.run().slice(1, 3), [0x3c, 3]);
});

Deno.test("arm64: data aborts tell size, register and direction; memory is the host's", () => {
  using vm = new Vm();
  // x1 = 0900_0000H; w2 = 55H; STRB w2 at x1 + 3; LDRSH x3 from x1 + 6; STR xzr at x1
  vm.code(0xd2a1_2001, 0x5280_0aa2, 0x3900_0c22, 0x7980_0c23, 0xf900_003f);
  const ISV = 1 << 24, abort = (sas: number, rt: number, more: number) => ISV | (sas << 22) | (rt << 16) | more | 7;
  assertEquals(vm.run(), [1, 0x24, abort(0, 2, 1 << 6), 0x900_0003n]);
  ok(hv.hv_vcpu_set_reg(vm.id, 31, 0x4000_000cn));
  assertEquals(vm.run(), [1, 0x24, abort(1, 3, (1 << 21) | (1 << 15)), 0x900_0006n]);
  ok(hv.hv_vcpu_set_reg(vm.id, 31, 0x4000_0010n));
  assertEquals(vm.run(), [1, 0x24, abort(3, 31, (1 << 15) | (1 << 6)), 0x900_0000n]);
  // x1 = 4000_0000H; STR w2 at x1 + 100H; HVC 0
  vm.code(0xd2a8_0001, 0xb901_0022, 0xd400_0002);
  assertEquals(vm.run()[1], 0x16);
  assertEquals(vm.ram.dv.getUint32(0x100, true), 0x55);
  // Without the right to write: a permission fault.
  ok(hv.hv_vm_protect(0x4000_0000n, PAGE, 5n));
  ok(hv.hv_vcpu_set_reg(vm.id, 31, 0x4000_0000n));
  assertEquals(vm.run()[2] & 0x3f, 0x0f);
});

Deno.test("arm64: system registers that the framework keeps do not trap, the others tell themselves", () => {
  using vm = new Vm();
  // mrs x4, tpidr_el0; mrs x5, pmccntr_el0
  vm.code(0xd53b_d044, 0xd53b_9d05);
  ok(hv.hv_vcpu_set_sys_reg(vm.id, A.hv_sys_reg_t.HV_SYS_REG_TPIDR_EL0, 77n));
  const [reason, ec, iss] = vm.run();
  assertEquals([reason, ec, vm.get(4)], [1, 0x18, 77n]);
  // op0 3, op2 0, op1 3, CRn 9, Rt 5, CRm 13, a read.
  assertEquals(iss, (3 << 20) | (0 << 17) | (3 << 14) | (9 << 10) | (5 << 5) | (13 << 1) | 1);
});

Deno.test("arm64: features, caches and the timer", () => {
  const config = hv.hv_vcpu_config_create()!;
  for (let reg = 0; reg <= 17; reg++) ok(hv.hv_vcpu_config_get_feature_reg(config, reg, out));
  assertEquals(said(hv.hv_vcpu_config_get_feature_reg(config, 18, out)), "BAD_ARGUMENT");
  ok(hv.hv_vcpu_config_get_ccsidr_el1_sys_reg_values(config, 1, out));
  assertEquals(said(hv.hv_vcpu_config_get_ccsidr_el1_sys_reg_values(config, 2, out)), "BAD_ARGUMENT");
  hv.os_release(config);
  using vm = new Vm();
  ok(hv.hv_vcpu_set_vtimer_mask(vm.id, true));
  ok(hv.hv_vcpu_get_vtimer_mask(vm.id, out8));
  ok(hv.hv_vcpu_set_vtimer_offset(vm.id, 123n));
  ok(hv.hv_vcpu_get_vtimer_offset(vm.id, out));
  assertEquals([out8[0], out[0]], [1, 123n]);
  assertEquals(said(hv.hv_vcpu_get_sme_state!(vm.id, out8)), "UNSUPPORTED");
  assertEquals(hv.mach_timebase_info!(out32), 0);
  assertEquals([...out32], [125, 3]);
});

function gicConfig(): Deno.PointerObject {
  const config = hv.hv_gic_config_create!()!;
  ok(hv.hv_gic_config_set_distributor_base!(config, 0x800_0000n));
  ok(hv.hv_gic_config_set_redistributor_base!(config, 0xa00_0000n));
  return config;
}

Deno.test("arm64: the GIC comes after the VM, once, complete, and before any vCPU", () => {
  assertEquals(hv.hv_gic_config_create!(), null);
  {
    using vm = new Vm();
    assertEquals(said(hv.hv_gic_create!(gicConfig())), "ERROR");
    assertEquals(said(hv.hv_gic_set_spi!(40, true)), "ERROR");
    assertEquals(said(hv.hv_gic_get_icc_reg!(vm.id, 0xc230, out)), "ERROR");
  }
  ok(hv.hv_vm_create(null));
  const empty = hv.hv_gic_config_create!()!;
  assertEquals(said(hv.hv_gic_create!(empty)), "BAD_ARGUMENT");
  assertEquals(said(hv.hv_gic_config_set_distributor_base!(empty, 0x1000n)), "BAD_ARGUMENT");
  ok(hv.hv_gic_config_set_distributor_base!(empty, 0xa00_0000n));
  ok(hv.hv_gic_config_set_redistributor_base!(empty, 0xa00_0000n));
  assertEquals(said(hv.hv_gic_create!(empty)), "BAD_ARGUMENT", "they overlap");
  const config = gicConfig();
  ok(hv.hv_gic_config_set_msi_region_base!(config, 0x700_0000n));
  assertEquals(said(hv.hv_gic_create!(config)), "BAD_ARGUMENT", "MSIs without their range");
  assertEquals(said(hv.hv_gic_config_set_msi_interrupt_range!(config, 16, 4)), "BAD_ARGUMENT");
  ok(hv.hv_gic_config_set_msi_interrupt_range!(config, 64, 32));
  ok(hv.hv_gic_create!(config));
  assertEquals(said(hv.hv_gic_create!(config)), "BUSY");
  // SPIs by their line, MSIs by their address only.
  ok(hv.hv_gic_set_spi!(40, true));
  ok(hv.hv_gic_get_distributor_reg!(0x204, out));
  assertEquals(out[0], 1n << 8n);
  assertEquals(said(hv.hv_gic_set_spi!(70, true)), "BAD_ARGUMENT");
  assertEquals(said(hv.hv_gic_set_spi!(31, true)), "BAD_ARGUMENT");
  ok(hv.hv_gic_send_msi!(0x700_0040n, 70));
  assertEquals(said(hv.hv_gic_send_msi!(0x700_0000n, 70)), "BAD_ARGUMENT");
  assertEquals(said(hv.hv_gic_send_msi!(0x700_0040n, 40)), "BAD_ARGUMENT");
  ok(hv.hv_vm_destroy());
});

Deno.test("arm64: with a GIC, its registers and state can be had, and interrupts are not the program's to set", () => {
  using vm = new Vm(() => ok(hv.hv_gic_create!(gicConfig())));
  assertEquals(said(hv.hv_vcpu_set_pending_interrupt(vm.id, 0, true)), "UNSUPPORTED");
  assertEquals(said(hv.hv_gic_get_redistributor_base!(vm.id, out)), "ERROR");
  ok(hv.hv_vcpu_set_sys_reg(vm.id, A.hv_sys_reg_t.HV_SYS_REG_MPIDR_EL1, 0x8000_0000n));
  ok(hv.hv_gic_get_redistributor_base!(vm.id, out));
  assertEquals(out[0], 0xa00_0000n);
  // What is enabled reads back from both registers, and is disabled by the other.
  ok(hv.hv_gic_set_distributor_reg!(0x104, 0xf0n));
  ok(hv.hv_gic_set_distributor_reg!(0x184, 0x30n));
  ok(hv.hv_gic_get_distributor_reg!(0x104, out));
  assertEquals(out[0], 0xc0n);
  assertEquals(said(hv.hv_gic_set_distributor_reg!(0x4, 1n)), "BAD_ARGUMENT");
  assertEquals(said(hv.hv_gic_get_distributor_reg!(0x7, out)), "BAD_ARGUMENT");
  ok(hv.hv_gic_set_icc_reg!(vm.id, A.hv_gic_icc_reg_t.HV_GIC_ICC_REG_PMR_EL1, 0xf0n));
  assertEquals(said(hv.hv_gic_get_icc_reg!(vm.id, 0xc231, out)), "BAD_ARGUMENT");
  assertEquals(said(hv.hv_gic_get_ich_reg!(vm.id, 0xe658, out)), "UNSUPPORTED");
  ok(hv.hv_gic_get_redistributor_reg!(vm.id, 0xffe8, out));
  const state = hv.hv_gic_state_create!()!;
  ok(hv.hv_gic_state_get_size!(state, out));
  const blob = new Uint8Array(Number(out[0]));
  ok(hv.hv_gic_state_get_data!(state, blob));
  ok(hv.hv_gic_reset!());
  ok(hv.hv_gic_get_distributor_reg!(0x104, out));
  assertEquals(out[0], 0n);
  ok(hv.hv_gic_set_state!(blob, BigInt(blob.length)));
  ok(hv.hv_gic_get_distributor_reg!(0x104, out));
  assertEquals(out[0], 0xc0n);
  blob[0]!++;
  assertEquals(said(hv.hv_gic_set_state!(blob, BigInt(blob.length))), "BAD_ARGUMENT");
  hv.os_release(state);
  ok(hv.hv_gic_get_intid!(27, out32));
  assertEquals([out32[0], said(hv.hv_gic_get_intid!(25, out32))], [27, "UNSUPPORTED"]);
  ok(hv.hv_gic_get_spi_interrupt_range!(out32, new Uint32Array(1)));
  assertEquals(out32[0], 32);
});
