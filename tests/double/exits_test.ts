/** Which instructions exit, and what the exit tells: [sdm3 §26.1, §28.2]. */
import { assertEquals } from "@std/assert";
import { CODE, code, DATA, Guest, REG } from "./guest.ts";
import { ok, openRig, said } from "./rig.ts";
import { CPU, CPU2, F, SEGMENT } from "./vmcs.ts";

const hv = openRig();

/** What the exit tells: reason, place behind CODE, length, qualification. */
function tells(g: Guest): [number, number, number, bigint] {
  const reason = g.run();
  return [reason, Number(g.get(REG.RIP)) - CODE, Number(g.read(F.EXIT_INSTR_LEN)), g.read(F.QUALIFICATION)];
}
const out = new BigUint64Array(1);

Deno.test("CPUID, INVD, XSETBV and VMCALL exit whatever the controls", () => {
  using g = new Guest(hv);
  // mov eax, cr4; or eax, 1 << 18; mov cr4, rax; cpuid; invd; xor ecx, ecx; xsetbv; vmcall
  g.long(code("0f20e0 0d00000400 0f22e0 0fa2 0f08 31c9 0f01d1 0f01c1"));
  assertEquals(tells(g), [10, 11, 2, 0n]);
  g.skip();
  assertEquals(tells(g), [13, 13, 2, 0n]);
  g.skip();
  assertEquals(tells(g), [55, 17, 3, 0n]);
  g.skip();
  assertEquals(tells(g), [18, 20, 3, 0n]);
});

Deno.test("HLT exits if the control asks for it, and else sleeps until the host interrupts", () => {
  using g = new Guest(hv);
  g.long(code("90 f4 f4"));
  assertEquals(tells(g), [12, 1, 1, 0n]);
  g.skip();
  g.control(F.CPU, CPU.UNCOND_IO | CPU.SECONDARY);
  const started = performance.now();
  ok(hv.hv_vcpu_run_until(g.id, hv.mach_absolute_time!() + 20_000_000n));
  assertEquals(g.read(F.EXIT_REASON), 52n);
  assertEquals([g.read(F.ACTIVITY), Number(g.get(REG.RIP)) - CODE], [1n, 3]);
  assertEquals(performance.now() - started >= 19, true);
  ok(hv.hv_vcpu_get_idle_time!(g.id, out));
  assertEquals(out[0]! > 0n, true);
});

Deno.test("port accesses tell direction, size, port, and how the port was named", () => {
  using g = new Guest(hv);
  g.long(code("e471 ed 66ef ee f4"));
  g.set(REG.RDX, 0xcf8);
  assertEquals(tells(g), [30, 0, 2, 0x710048n]);
  g.skip();
  assertEquals(tells(g), [30, 2, 1, 0xcf8000bn]);
  g.skip();
  assertEquals(tells(g), [30, 3, 2, 0xcf80001n]);
  g.skip();
  assertEquals(tells(g), [30, 5, 1, 0xcf80000n]);
});

Deno.test("OUTS and INS tell of their string, and REP INS with no count does nothing", () => {
  using g = new Guest(hv);
  g.long(code("f36e 6d f36c f4"));
  g.set(REG.RDX, 0x3f8);
  g.set(REG.RCX, 5);
  g.set(REG.RSI, DATA);
  g.set(REG.RDI, DATA + 8);
  assertEquals(tells(g), [30, 0, 2, 0x3f80030n]);
  assertEquals([g.read(F.GUEST_LINEAR), g.read(F.IO_RCX), g.read(F.IO_RSI)], [BigInt(DATA), 5n, BigInt(DATA)]);
  assertEquals((g.read(F.INSTR_INFO) >> 7n) & 7n, 2n);
  g.skip();
  assertEquals(tells(g), [30, 2, 1, 0x3f8001bn]);
  assertEquals(g.read(F.GUEST_LINEAR), BigInt(DATA + 8));
  g.skip();
  g.set(REG.RCX, 0);
  assertEquals(tells(g), [12, 5, 1, 0n]);
});

Deno.test("MSRs exit unless they were made native, and those of the guest's own read back", () => {
  using g = new Guest(hv);
  // rdmsr; wrmsr; rdmsr; hlt
  g.long(code("0f32 0f30 0f32 f4"));
  g.set(REG.RCX, 0xc000_0082);
  assertEquals(tells(g), [31, 0, 2, 0n]);
  g.skip();
  assertEquals(tells(g), [32, 2, 2, 0n]);
  ok(hv.hv_vcpu_enable_native_msr(g.id, 0xc000_0082, true));
  g.set(REG.RAX, 0x1234);
  g.set(REG.RDX, 0xffff_8000);
  assertEquals(tells(g), [12, 6, 1, 0n]);
  assertEquals([g.get(REG.RAX), g.get(REG.RDX)], [0x1234n, 0xffff_8000n]);
  ok(hv.hv_vcpu_read_msr(g.id, 0xc000_0082, out));
  assertEquals(out[0], 0xffff_8000_0000_1234n);
  assertEquals(said(hv.hv_vcpu_enable_native_msr(g.id, 0x1b, true)), "BAD_ARGUMENT");
  assertEquals(said(hv.hv_vcpu_read_msr(g.id, 0x1b, out)), "BAD_ARGUMENT");
});

Deno.test("a managed MSR is bound first, and then opened as far as its kind allows", () => {
  using g = new Guest(hv);
  g.long(code("0f32 0f30 f4"));
  assertEquals(said(hv.hv_vcpu_set_msr_access(g.id, 0x48, 3)), "BAD_ARGUMENT");
  assertEquals(said(hv.hv_vcpu_enable_managed_msr(g.id, 0x10, true)), "BAD_ARGUMENT");
  ok(hv.hv_vcpu_enable_managed_msr(g.id, 0x48, true));
  ok(hv.hv_vcpu_enable_managed_msr(g.id, 0x186, true));
  assertEquals(said(hv.hv_vcpu_set_msr_access(g.id, 0x186, 2)), "BAD_ARGUMENT");
  ok(hv.hv_vcpu_set_msr_access(g.id, 0x48, 1));
  ok(hv.hv_vcpu_write_msr(g.id, 0x48, 5n));
  g.set(REG.RCX, 0x48);
  assertEquals(tells(g), [32, 2, 2, 0n]);
  assertEquals(g.get(REG.RAX), 5n);
  ok(hv.hv_vcpu_enable_managed_msr(g.id, 0x48, false));
  assertEquals(said(hv.hv_vcpu_read_msr(g.id, 0x48, out)), "BAD_ARGUMENT");
});

Deno.test("CR0 and CR4 show the shadow where the mask owns a bit, and exit when such a bit would change", () => {
  using g = new Guest(hv);
  // mov rax, cr0; mov rbx, cr4; mov cr0, rax; xor eax, 10000h; mov cr0, rax; xor eax, 40000000h; mov cr0, rax
  g.long(code("0f20c0 0f20e3 0f22c0 3500000100 0f22c0 3500000040 0f22c0"));
  assertEquals(tells(g), [28, 22, 3, 0n]);
  assertEquals([g.get(REG.RAX), g.get(REG.RBX)], [0xc001_0033n, 0x620n]);
  // WP belongs to the guest, and went in without an exit.
  assertEquals(g.read(F.CR0), 0x8001_0033n);
});

Deno.test("MOV to CR4 exits for VMXE, keeps VMXE really set, and faults for reserved bits", () => {
  using g = new Guest(hv);
  // mov rax, cr4; or eax, 80h; mov cr4, rax; hlt; or eax, 2000h; mov cr4, rbx
  g.long(code("0f20e0 0c80 0f22e0 f4 0d00200000 0f22e0"));
  assertEquals(tells(g)[0], 12);
  assertEquals([g.get(REG.RAX), g.read(F.CR4)], [0x620n | 0x80n, 0x26a0n]);
  g.skip();
  assertEquals(tells(g), [28, 14, 3, 4n]);
});

Deno.test("CLTS and LMSW obey the mask", () => {
  using g = new Guest(hv);
  g.long(code("0f06 0f06 66b80900 0f01f0 f4"));
  assertEquals(tells(g).slice(0, 2), [12, 11]);
  // TS is the program's now, and set in the shadow.
  g.write(F.CR0_MASK, 0x6000_0038);
  g.write(F.CR0_SHADOW, 0x8000_003b);
  g.set(REG.RIP, CODE);
  assertEquals(tells(g), [28, 0, 2, 0x20n]);
  g.write(F.CR0_SHADOW, 0x8000_0033);
  g.set(REG.RIP, CODE + 2);
  // CLTS changes nothing; LMSW wants TS.
  assertEquals(tells(g), [28, 8, 3, 0x90030n]);
});

Deno.test("CR3 exits by its controls, but not for a target value", () => {
  using g = new Guest(hv);
  g.long(code("0f20d8 0f22d8 0f20db f4"));
  assertEquals(tells(g)[0], 12);
  g.controls(CPU.CR3_LOAD | CPU.CR3_STORE, 0x200);
  g.set(REG.RIP, CODE);
  assertEquals(tells(g), [28, 0, 3, 0x13n]);
  g.skip();
  assertEquals(tells(g), [28, 3, 3, 0x03n]);
  g.write(F.CR3_COUNT, 1);
  g.write(F.CR3_TARGET0, 0x1000);
  assertEquals(tells(g), [28, 6, 3, 0x313n]);
  assertEquals(said(hv.hv_vmx_vcpu_write_vmcs(g.id, 0x6010, 0n)), "BAD_ARGUMENT");
});

Deno.test("CR8 exits by its controls; with a TPR shadow it stays in the guest down to the threshold", () => {
  using g = new Guest(hv);
  g.long(code("440f20c0 440f22c0 31c0 440f22c0 f4"));
  assertEquals(tells(g), [28, 0, 4, 0x18n]);
  g.skip();
  assertEquals(tells(g), [28, 4, 4, 0x08n]);
  g.control(F.CPU, CPU.HLT | CPU.UNCOND_IO | CPU.TPR_SHADOW);
  g.set(REG.RAX, 7);
  g.set(REG.TPR, 0x70);
  g.write(F.TPR_THRESHOLD, 3);
  assertEquals(tells(g).slice(0, 2), [43, 14]);
  assertEquals(g.get(REG.TPR), 0n);
});

Deno.test("debug registers, INVLPG, RDTSC and RDPMC exit by their controls", () => {
  using g = new Guest(hv);
  // mov rax, dr7; mov dr0, rbx; invlpg [rsi + rcx * 4 + 16]; rdtsc; rdtscp; rdpmc
  g.long(code("0f21f8 0f23c3 0f017c8e10 0f31 0f01f9 0f33"));
  g.controls(CPU.MOV_DR | CPU.INVLPG | CPU.RDTSC | CPU.RDPMC, 0x200);
  g.set(REG.RSI, 0x1000);
  g.set(REG.RCX, 2);
  const seen: unknown[] = [];
  for (let i = 0; i < 6; i++) {
    seen.push(tells(g));
    g.skip();
  }
  assertEquals(seen, [[29, 0, 3, 0x17n], [29, 3, 3, 0x300n], [14, 6, 5, 0x1018n], [16, 11, 2, 0n], [51, 13, 3, 0n], [
    15,
    16,
    2,
    0n,
  ]]);
});

Deno.test("RDTSCP and INVPCID do not exist unless the secondary controls enable them", () => {
  using g = new Guest(hv);
  g.long(code("0f01f9"));
  g.control(F.CPU2, CPU2.EPT | CPU2.UNRESTRICTED);
  g.write(F.EXC_BITMAP, 1 << 6);
  assertEquals(tells(g).slice(0, 2), [0, 0]);
  assertEquals(g.read(F.EXIT_IRQ_INFO), 0x8000_0306n);
});

Deno.test("the guest's counter is the host's with offsets: the VM's, the vCPU's, the VMCS's", () => {
  using g = new Guest(hv);
  g.long(code("0f31 f4 0f31 f4"));
  const tsc = () => g.get(REG.RAX) | (g.get(REG.RDX) << 32n);
  ok(hv.hv_vm_sync_tsc(0n));
  g.run();
  assertEquals(tsc() < 1_000_000_000n, true);
  g.skip();
  g.controls(CPU.TSC_OFFSET, 0x200);
  g.write(F.TSC_OFFSET, 1n << 50n);
  g.run();
  assertEquals(tsc() >> 40n, 1n << 10n);
  assertEquals(said(hv.hv_vcpu_set_tsc_relative(g.id, 0n)), "ERROR");
});

Deno.test("a vCPU made with TSC_RELATIVE takes its offset from the program", () => {
  using g = new Guest(hv, 2n);
  g.long(code("0f31 f4"));
  const before = hv.hv_tsc_clock();
  ok(hv.hv_vcpu_set_tsc_relative(g.id, 1n << 60n));
  g.run();
  const tsc = g.get(REG.RAX) | (g.get(REG.RDX) << 32n);
  assertEquals(tsc > before + (1n << 60n) && tsc < hv.hv_tsc_clock() + (1n << 60n), true);
});

Deno.test("the monitor trap flag stops after each instruction", () => {
  using g = new Guest(hv);
  g.long(code("90 48ffc0 48ffc0 f4"));
  g.controls(CPU.MTF, 0x200);
  const seen = [1, 2, 3].map(() => [g.run(), Number(g.get(REG.RIP)) - CODE]);
  assertEquals(seen, [[37, 1], [37, 4], [37, 7]]);
  assertEquals(g.get(REG.RAX), 2n);
});

Deno.test("real mode runs as it is, and entering protected mode exits where the mask says so", () => {
  using g = new Guest(hv);
  // mov ax, cs; mov eax, cr0; or al, 1; mov cr0, eax
  g.real(code("8cc8 0f20c0 0c01 0f22c0"));
  g.write(SEGMENT.SELECTOR + 2, 0);
  assertEquals(tells(g), [28, 7, 3, 0n]);
  assertEquals(g.get(REG.RAX), 0x11n);
});
