/** What a vCPU and its VMCS refuse, and what VM entry refuses: each rule broken once. */
import { assertEquals } from "@std/assert";
import { code, Guest, REG } from "./guest.ts";
import { ok, openRig, said } from "./rig.ts";
import { CPU, F, PIN, SEGMENT, SS, TR } from "./vmcs.ts";

const hv = openRig();
const out = new BigUint64Array(2), other = new BigUint64Array(2), out32 = new Uint32Array(1);
const VALID = 0x8000_0000;
const BAD_GUEST = 0x8000_0021n;

Deno.test("vCPUs are numbered from 0, and options that do not exist are refused", () => {
  using g = new Guest(hv);
  assertEquals(g.id, 0);
  assertEquals(said(hv.hv_vcpu_create(out32, 4n)), "BAD_ARGUMENT");
  assertEquals(said(hv.hv_vcpu_create(null, 0n)), "BAD_ARGUMENT");
  ok(hv.hv_vcpu_create(out32, 0n));
  assertEquals(out32[0], 1);
  assertEquals(said(hv.hv_vm_destroy()), "BUSY");
  ok(hv.hv_vcpu_destroy(1));
  assertEquals(said(hv.hv_vcpu_destroy(1)), "BAD_ARGUMENT");
});

Deno.test("registers that do not exist are refused, the others keep what is written", () => {
  using g = new Guest(hv);
  for (let id = 0; id < 51; id++) {
    const exists = ![37, 45, 46].includes(id);
    assertEquals(said(hv.hv_vcpu_read_register(g.id, id, out)), exists ? "SUCCESS" : "BAD_ARGUMENT", `${id}`);
  }
  assertEquals(said(hv.hv_vcpu_read_register(g.id, 51, out)), "BAD_ARGUMENT");
  assertEquals(said(hv.hv_vcpu_write_register(g.id, 37, 0n)), "BAD_ARGUMENT");
  for (let id = 2; id < 18; id++) g.set(id, 0x1111_2222_3333_0000n + BigInt(id));
  for (let id = 2; id < 18; id++) assertEquals(g.get(id), 0x1111_2222_3333_0000n + BigInt(id));
});

Deno.test("registers have the numbers of hv_x86_reg_t, not those of instructions", () => {
  using g = new Guest(hv);
  // mov eax, 1; mov ecx, 2; mov edx, 3; mov ebx, 4; mov ebp, 5; mov esi, 6; mov edi, 7; mov r15d, 8; hlt
  g.long(code("b801000000 b902000000 ba03000000 bb04000000 bd05000000 be06000000 bf07000000 41bf08000000 f4"));
  g.run();
  assertEquals([2, 3, 4, 5, 9, 6, 7, 17].map((id) => g.get(id)), [1n, 2n, 3n, 4n, 5n, 6n, 7n, 8n]);
});

Deno.test("fields are refused that do not exist, are read-only, or are the framework's own", () => {
  using g = new Guest(hv);
  const read = (field: number) => said(hv.hv_vmx_vcpu_read_vmcs(g.id, field, out));
  const write = (field: number) => said(hv.hv_vmx_vcpu_write_vmcs(g.id, field, 0n));
  assertEquals([read(0x6d00), write(0x6d00), read(0x4024)], ["BAD_ARGUMENT", "BAD_ARGUMENT", "BAD_ARGUMENT"]);
  for (const field of [F.EXIT_REASON, F.QUALIFICATION, F.GPA, F.IDT_VECTOR_INFO]) {
    assertEquals([read(field), write(field)], ["SUCCESS", "BAD_ARGUMENT"]);
  }
  // EPTP, VPID, MSR bitmaps, the link pointer, the host's RIP.
  for (const field of [0x201a, 0x0, 0x2004, 0x2800, 0x6c16]) assertEquals(write(field), "BAD_ARGUMENT");
  assertEquals(said(hv.hv_vmx_vcpu_get_cap_write_vmcs(g.id, F.EXIT_REASON, out, other)), "BAD_ARGUMENT");
});

Deno.test("a field keeps as many bits as it has", () => {
  using g = new Guest(hv);
  for (const [field, kept] of [[SEGMENT.SELECTOR, 0xbeefn], [F.EXC_BITMAP, 0xdead_beefn]] as const) {
    g.write(field, 0x1234_5678_dead_beefn);
    assertEquals(g.read(field), kept);
  }
  g.write(F.RIP, 0x1234_5678_dead_beefn);
  assertEquals([g.read(F.RIP), g.get(REG.RIP)], [0x1234_5678_dead_beefn, 0x1234_5678_dead_beefn]);
});

Deno.test("a control field takes what its masks allow and nothing else", () => {
  using g = new Guest(hv);
  for (const [field, n] of [[F.PIN, 0], [F.CPU, 1], [F.CPU2, 2], [F.ENTRY, 3], [F.EXIT, 4]] as const) {
    const both = g.capability(n), must = both & 0xffff_ffffn, may = both >> 32n;
    ok(hv.hv_vmx_vcpu_get_cap_write_vmcs(g.id, field, out, other));
    assertEquals([out[0], other[0]], [must, may]);
    assertEquals(must & ~may, 0n);
    g.write(field, must);
    g.write(field, may);
    const lowest = must & -must, missing = ~may & 0xffff_ffffn;
    if (must !== 0n) assertEquals(said(hv.hv_vmx_vcpu_write_vmcs(g.id, field, may & ~lowest)), "BAD_ARGUMENT");
    assertEquals(said(hv.hv_vmx_vcpu_write_vmcs(g.id, field, must | (missing & -missing))), "BAD_ARGUMENT");
  }
  assertEquals(said(hv.hv_vmx_read_capability(17, out)), "BAD_ARGUMENT");
});

Deno.test("with late checks a wrong control is written, and the entry fails", () => {
  openRig({ lateChecks: true });
  {
    using g = new Guest(hv);
    g.long(code("f4"));
    assertEquals(said(hv.hv_vcpu_vmx_status!(g.id, out32)), "ERROR");
    g.write(F.PIN, 0);
    assertEquals(said(hv.hv_vcpu_run(g.id)), "ERROR");
    ok(hv.hv_vcpu_vmx_status!(g.id, out32));
    // VMfailValid: ZF; error 7: entry with invalid control fields.
    assertEquals([out32[0], g.read(F.INSTR_ERROR)], [0x40, 7n]);
    g.control(F.PIN, PIN.INTR | PIN.NMI);
    assertEquals(g.run(), 12);
  }
  openRig({});
});

Deno.test("controls that do not go together fail the entry", () => {
  using g = new Guest(hv);
  g.long(code("f4"));
  const fails = () => assertEquals([said(hv.hv_vcpu_run(g.id)), g.read(F.INSTR_ERROR)], ["ERROR", 7n]);
  g.control(F.PIN, 0);
  g.control(F.CPU, CPU.NMI_WINDOW | CPU.HLT);
  fails();
  g.controls();
  g.control(F.ENTRY, 0x8200);
  g.write(F.CR3_COUNT, 5);
  fails();
  g.write(F.CR3_COUNT, 0);
  for (
    const [info, error, length] of [
      [0x0000_0100, 0, 0], // a reserved type
      [0x0000_0203, 0, 0], // an NMI that is not vector 2
      [0x0000_0320, 0, 0], // a hardware exception above 31
      [0x0000_030d, 0, 0], // #GP without an error code
      [0x0000_0b06, 0, 0], // #UD with one
      [0x0000_0b0d, 0x1_0000, 0], // an error code of 17 bits
      [0x0000_0480, 0, 0], // a software interrupt without a length
      [0x0000_1040, 0, 0], // a reserved bit
    ] as const
  ) {
    g.write(F.ENTRY_IRQ_INFO, VALID | info);
    g.write(F.ENTRY_EXC_ERROR, error);
    g.write(F.ENTRY_INSTR_LEN, length);
    fails();
  }
  g.write(F.ENTRY_IRQ_INFO, 0);
  assertEquals(g.run(), 12);
});

Deno.test("a guest state that no processor can be in fails the entry with reason 33", () => {
  using g = new Guest(hv);
  g.long(code("f4"));
  const breaks: [number, bigint][] = [
    [F.CR0, 0x8000_0013n], // NE
    [F.CR0, 0x8000_0032n], // paging without protection
    [F.CR4, 0x620n], // VMXE
    [F.CR4, 0x2600n], // IA-32e mode without PAE
    [F.CR4, 0x80_2620n], // a reserved bit
    [F.CR3, 1n << 45n],
    [F.EFER, 0x100n], // LMA against the entry control
    [F.EFER, 0x502n], // a reserved bit
    [F.RFLAGS, 0x2_0002n], // VM86 in IA-32e mode
    [F.RFLAGS, 0x2n | (1n << 15n)],
    [F.RIP, 1n << 47n],
    [F.GDTR_LIMIT, 0x1_0000n],
    [F.IDTR_BASE, 1n << 63n],
    [F.SYSENTER_EIP, 1n << 50n],
    [SEGMENT.AR + 2 * TR, 0x89n], // a TSS that is not busy
    [SEGMENT.AR + 2 * TR, 0x1_008bn], // unusable
    [SEGMENT.SELECTOR + 2 * TR, 4n], // in the LDT
    [SEGMENT.AR + 2 * 1, 0xe09bn], // L and D
    [SEGMENT.AR + 2 * 1, 0xa09an], // CS: not accessed
    [SEGMENT.AR + 2 * SS, 0xc0f3n], // its DPL is not CS's
    [SEGMENT.LIMIT + 2 * 3, 0xfff0_0000n], // granularity
    [SEGMENT.BASE + 2 * 5, 1n << 48n],
    [F.ACTIVITY, 4n],
    [F.INTERRUPTIBILITY, 3n],
    [F.INTERRUPTIBILITY, 1n], // the shadow of STI without IF
    [F.INTERRUPTIBILITY, 0x20n],
  ];
  for (const [field, value] of breaks) {
    const good = g.read(field);
    g.write(field, value);
    ok(hv.hv_vcpu_run(g.id));
    assertEquals(g.read(F.EXIT_REASON), BAD_GUEST, `${field.toString(16)} = ${value.toString(16)}`);
    g.write(field, good);
  }
  g.write(F.ENTRY_IRQ_INFO, VALID | 0x40);
  ok(hv.hv_vcpu_run(g.id));
  assertEquals(g.read(F.EXIT_REASON), BAD_GUEST, "an interrupt while IF is 0");
  g.write(F.ENTRY_IRQ_INFO, 0);
  assertEquals(g.run(), 12);
});

Deno.test("with PAE paging the entry takes the page-directory pointers from the VMCS, and an exit leaves them there", () => {
  using g = new Guest(hv);
  // 32-bit code: mov eax, cr3; mov cr3, eax; hlt
  g.long(code("0f20d8 0f22d8 f4"));
  g.controls();
  g.write(SEGMENT.AR + 2 * 1, 0xc09b);
  g.write(F.EFER, 0);
  g.write(F.CR3, 0x6000);
  g.ram.dv.setBigUint64(0x6000, 0x3001n, true);
  ok(hv.hv_vcpu_run(g.id));
  assertEquals([g.read(F.EXIT_REASON), g.read(F.QUALIFICATION)], [BAD_GUEST, 2n]);
  g.write(F.PDPTE0, 0x3001);
  assertEquals(g.run(), 12);
  g.ram.dv.setBigUint64(0x6008, 0x3001n, true);
  g.set(REG.RIP, 0x8000);
  g.write(F.PDPTE0 + 2, 0x3001);
  assertEquals([g.run(), g.read(F.PDPTE0), g.read(F.PDPTE0 + 2)], [12, 0x3001n, 0x3001n]);
});

Deno.test("without a preemption timer a deadline is not supported", () => {
  openRig({ noTimer: true });
  {
    using g = new Guest(hv);
    g.long(code("f4"));
    assertEquals(said(hv.hv_vcpu_run_until(g.id, 1n)), "UNSUPPORTED");
    assertEquals(g.run(), 12);
  }
  openRig({});
});

Deno.test("a deadline ends a run that nothing else ends", () => {
  using g = new Guest(hv);
  g.long(code("ebfe"));
  const started = performance.now();
  ok(hv.hv_vcpu_run_until(g.id, hv.mach_absolute_time!() + 10_000_000n));
  assertEquals(g.read(F.EXIT_REASON), 52n);
  const elapsedMs = performance.now() - started;
  assertEquals(elapsedMs >= 9, true);
  ok(hv.hv_vcpu_get_exec_time(g.id, out));
  assertEquals(out[0]! > 0n && Number(out[0]) <= elapsedMs * 1e6, true);
});

Deno.test("the floating-point state is XSAVE's, and what XRSTOR would refuse is refused", () => {
  using g = new Guest(hv);
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
  const state = new Uint8Array(memory.buffer as unknown as ArrayBuffer), dv = new DataView(memory.buffer);
  const size = 4096n;
  // movups xmm3, [rbx]; fld1; hlt; movups [rbx], xmm3; hlt
  g.long(code("0f101b d9e8 f4 0f111b f4"));
  g.write(F.CR4, 0x2620);
  g.set(REG.XCR0, 3);
  g.set(REG.RBX, 0x9000);
  g.ram.dv.setBigUint64(0x9000, 0x1122_3344_5566_7788n, true);
  g.run();
  ok(hv.hv_vcpu_read_fpstate(g.id, state.subarray(0, 4096), size));
  assertEquals(dv.getBigUint64(160 + 48, true), 0x1122_3344_5566_7788n);
  // ST(0) is 1.0: exponent 3FFFH, significand 8000000000000000H; TOP is 7, one register in use.
  assertEquals([dv.getBigUint64(32, true), dv.getUint16(40, true)], [1n << 63n, 0x3fff]);
  assertEquals([(dv.getUint16(2, true) >> 11) & 7, dv.getUint8(4)], [7, 0x80]);
  assertEquals(dv.getBigUint64(512, true) & 3n, 3n);
  dv.setBigUint64(160 + 48, 99n, true);
  ok(hv.hv_vcpu_write_fpstate(g.id, state.subarray(0, 4096), size));
  g.skip();
  g.run();
  assertEquals(g.ram.dv.getBigUint64(0x9000, true), 99n);
  const bad = (break_: () => void) => {
    ok(hv.hv_vcpu_read_fpstate(g.id, state.subarray(0, 4096), size));
    break_();
    return said(hv.hv_vcpu_write_fpstate(g.id, state.subarray(0, 4096), size));
  };
  assertEquals(bad(() => dv.setBigUint64(512, 1n << 40n, true)), "BAD_ARGUMENT");
  assertEquals(bad(() => dv.setBigUint64(520, 1n << 63n, true)), "BAD_ARGUMENT");
  assertEquals(bad(() => dv.setUint32(24, 0x1_0000, true)), "BAD_ARGUMENT");
  assertEquals(said(hv.hv_vcpu_read_fpstate(g.id, state.subarray(0, 100), 100n)), "BAD_ARGUMENT");
  assertEquals(said(hv.hv_vcpu_read_fpstate(g.id, state.subarray(8, 4096), 4088n)), "BAD_ARGUMENT");
});

Deno.test("what this processor does not have, or macOS has withdrawn, is unsupported", () => {
  using g = new Guest(hv);
  assertEquals(said(hv.hv_vcpu_flush(g.id)), "UNSUPPORTED");
  assertEquals(said(hv.hv_vmx_vcpu_read_shadow_vmcs(g.id, F.RIP, out)), "UNSUPPORTED");
  assertEquals(said(hv.hv_vm_lapic_msi!(0xfee0_0000n, 0x40n)), "UNSUPPORTED");
  assertEquals(said(hv.hv_vmx_vcpu_set_apic_address(g.id, 0xfee0_0010n)), "BAD_ARGUMENT");
  for (let n = 0n; n < 9n; n++) ok(hv.hv_vmx_get_msr_info(n, out));
  assertEquals(said(hv.hv_vmx_get_msr_info(9n, out)), "BAD_ARGUMENT");
});
