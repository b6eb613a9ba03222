/** Violations of what is mapped: [sdm3 §28.2.1, table 28-7], and changes of it while the guest runs. */
import { assert, assertEquals } from "@std/assert";
import { CODE, code, DATA, Guest, REG, STACK } from "./guest.ts";
import { hostMemory, ok, openRig } from "./rig.ts";
import { F, SEGMENT } from "./vmcs.ts";

const hv = openRig({ seed: 3 });
const HOLE = 0xc000_0000, PAGE = 4096n;
/** Of the qualification: linear address valid, final translation. */
const DATA_ACCESS = 0x180n, TABLE_ACCESS = 0x80n;

function tells(g: Guest): unknown[] {
  return [g.run(), Number(g.get(REG.RIP)) - CODE, g.read(F.QUALIFICATION), g.read(F.GPA), g.read(F.GUEST_LINEAR)];
}

Deno.test("accesses to what is not mapped tell what they are and where, with nothing done", () => {
  using g = new Guest(hv);
  // mov eax, [rbx + 8]; mov [rbx + 16], eax; add dword [rbx + 20], eax; push qword [rbx]; movsb
  g.long(code("8b4308 894310 014314 ff33 a4"));
  g.set(REG.RBX, HOLE);
  g.set(REG.RAX, 7);
  const at = (n: number) => BigInt(HOLE + n);
  const expected: [number, bigint, number][] = [[0, 1n, 8], [3, 2n, 16], [6, 3n, 20], [9, 1n, 0]];
  for (const [rip, access, offset] of expected) {
    assertEquals(tells(g), [48, rip, DATA_ACCESS | access, at(offset), at(offset)]);
    assertEquals([g.get(REG.RAX), g.get(REG.RSP)], [7n, BigInt(STACK)]);
    g.set(REG.RIP, CODE + rip + (rip === 9 ? 2 : 3));
  }
  g.set(REG.RSI, DATA);
  g.set(REG.RDI, HOLE + 5);
  assertEquals(tells(g), [48, 11, DATA_ACCESS | 2n, at(5), at(5)]);
  assertEquals([g.get(REG.RSI), g.get(REG.RDI)], [BigInt(DATA), at(5)]);
});

Deno.test("instructions cannot be fetched from what is not mapped", () => {
  using g = new Guest(hv);
  g.long(code("ffe3"));
  g.set(REG.RBX, HOLE + 0x123);
  assertEquals(g.run(), 48);
  assertEquals([g.get(REG.RIP), g.read(F.GPA)], [BigInt(HOLE + 0x123), BigInt(HOLE + 0x123)]);
  assertEquals(g.read(F.QUALIFICATION), DATA_ACCESS | 4n);
});

Deno.test("a page table that is not mapped is told as such", () => {
  using g = new Guest(hv);
  g.long(code("8b03"));
  // The entry for 1 GiB points to a table in the hole.
  g.ram.dv.setBigUint64(0x2000 + 8, 0xd000_0003n, true);
  g.set(REG.RBX, 0x4000_0000 + 0x20_0000 * 5);
  assertEquals(tells(g).slice(0, 4), [48, 0, TABLE_ACCESS | 1n, 0xd000_0028n]);
});

Deno.test("a protected page tells what it allows; allowed again, the guest goes on where it was", () => {
  using g = new Guest(hv);
  // inc dword [rbx]; mov eax, [rbx]; inc dword [rbx]; hlt
  g.long(code("ff03 8b03 ff03 f4"));
  g.set(REG.RBX, DATA);
  ok(hv.hv_vm_protect(BigInt(DATA), PAGE, 1n));
  assertEquals(tells(g).slice(0, 4), [48, 0, DATA_ACCESS | 3n | (1n << 3n), BigInt(DATA)]);
  ok(hv.hv_vm_protect(BigInt(DATA), PAGE, 7n));
  assertEquals(g.run(), 12);
  assertEquals(g.ram.dv.getUint32(DATA, true), 2);
  // Without the right to execute.
  ok(hv.hv_vm_protect(BigInt(CODE), PAGE, 3n));
  g.set(REG.RIP, CODE);
  assertEquals(tells(g).slice(0, 3), [48, 0, DATA_ACCESS | 4n | (3n << 3n)]);
});

Deno.test("a ROM below 4 GiB is where the processor starts, read-only, and gives its place up", () => {
  using g = new Guest(hv);
  const rom = hostMemory(65536);
  // At the reset vector: mov al, [cs:0xff00]; mov [cs:0xff00], al
  rom.u8.set(code("2ea000ff 2ea200ff"), 0xfff0);
  rom.u8[0xff00] = 0x5a;
  g.real(code("f4"));
  g.write(SEGMENT.SELECTOR + 2, 0xf000);
  g.write(SEGMENT.BASE + 2, 0xffff_0000);
  g.set(REG.RIP, 0xfff0);
  assertEquals([g.run(), g.read(F.GPA), g.read(F.QUALIFICATION) & 7n], [48, 0xffff_fff0n, 4n]);
  ok(hv.hv_vm_map(rom.pointer, 0xffff_0000n, 65536n, 5n));
  assertEquals([g.run(), g.get(REG.RIP), g.get(REG.RAX) & 0xffn], [48, 0xfff4n, 0x5an]);
  assertEquals([g.read(F.GPA), g.read(F.QUALIFICATION)], [0xffff_ff00n, DATA_ACCESS | 2n | (5n << 3n)]);
  ok(hv.hv_vm_unmap(0xffff_0000n, 65536n));
  g.set(REG.RIP, 0xfff0);
  assertEquals([g.run(), g.read(F.QUALIFICATION) & 7n], [48, 4n]);
  // Other memory elsewhere in its place.
  const other = hostMemory(65536);
  other.u8.set(code("f4"), 0xfff0);
  ok(hv.hv_vm_map(other.pointer, 0xfffe_0000n, 65536n, 7n));
  ok(hv.hv_vm_map(rom.pointer, 0xffff_0000n, 65536n, 5n));
  g.write(SEGMENT.BASE + 2, 0xfffe_0000);
  assertEquals(g.run(), 12);
});

Deno.test("memory that can be written and not read is a misconfiguration", () => {
  using g = new Guest(hv);
  g.long(code("8b03 f4"));
  g.set(REG.RBX, DATA);
  ok(hv.hv_vm_protect(BigInt(DATA), PAGE, 2n));
  assertEquals(tells(g).slice(0, 2), [49, 0]);
});

Deno.test("a page taken away is missing from then on, also for a guest that has used it", () => {
  using g = new Guest(hv);
  g.long(code("8b03 f4 8b03 f4"));
  g.set(REG.RBX, DATA);
  g.ram.dv.setUint32(DATA, 99, true);
  assertEquals([g.run(), g.get(REG.RAX)], [12, 99n]);
  g.skip();
  ok(hv.hv_vm_unmap(BigInt(DATA), PAGE));
  assertEquals(tells(g).slice(0, 3), [48, 3, DATA_ACCESS | 1n]);
  // Other memory in its place.
  const other = hostMemory(65536);
  other.dv.setUint32(0, 1234, true);
  ok(hv.hv_vm_map(other.pointer, BigInt(DATA), PAGE, 7n));
  assertEquals([g.run(), g.get(REG.RAX)], [12, 1234n]);
  // And other code: hlt, where mov eax, [rbx] has run.
  const program = hostMemory(65536);
  program.u8.set(code("90 f4"));
  ok(hv.hv_vm_unmap(BigInt(CODE), PAGE));
  ok(hv.hv_vm_map(program.pointer, BigInt(CODE), PAGE, 7n));
  g.set(REG.RIP, CODE);
  assertEquals([g.run(), g.get(REG.RIP)], [12, BigInt(CODE + 1)]);
});

Deno.test("host and guest see each other's writes, code among them", () => {
  using g = new Guest(hv);
  g.long(code("8b03 ffc0 8903 f4"));
  g.set(REG.RBX, DATA);
  for (const value of [5, 100]) {
    g.ram.dv.setUint32(DATA, value, true);
    g.set(REG.RIP, CODE);
    assertEquals(g.run(), 12);
    assertEquals(g.ram.dv.getUint32(DATA, true), value + 1);
  }
});

Deno.test("a page is another one in another address space", () => {
  using g = new Guest(hv);
  const space = new Uint32Array(1), other = hostMemory(1 << 20);
  ok(hv.hv_vm_space_create(space));
  g.long(code("8b03 f4 8b03 f4"));
  g.set(REG.RBX, DATA);
  other.u8.set(g.ram.u8);
  other.dv.setUint32(DATA, 2, true);
  g.ram.dv.setUint32(DATA, 1, true);
  ok(hv.hv_vm_map_space(space[0]!, other.pointer, 0n, 1n << 20n, 7n));
  assertEquals([g.run(), g.get(REG.RAX)], [12, 1n]);
  g.skip();
  ok(hv.hv_vcpu_set_space(g.id, space[0]!));
  assertEquals([g.run(), g.get(REG.RAX)], [12, 2n]);
});

Deno.test("hv_vcpu_run also returns for the first touch of a page and for the host's interrupts; run_until does not", () => {
  using g = new Guest(hv);
  // Touches 64 pages from 256 KiB on, then counts for a while.
  // mov ecx, 64; next: mov [rbx], ecx; add rbx, 4096; dec ecx; jnz next; mov ecx, 30000000; again: dec ecx; jnz again; hlt
  g.long(code("b940000000 890b 4881c300100000 ffc9 75f3 b98096980 0 ffc9 75fc f4"));
  g.set(REG.RBX, 0x40000);
  let touches = 0, interrupts = 0, reason = -1;
  while (reason !== 12) {
    ok(hv.hv_vcpu_run(g.id));
    reason = Number(g.read(F.EXIT_REASON));
    if (reason === 48) {
      touches++;
      const gpa = g.read(F.GPA), allowed = (g.read(F.QUALIFICATION) >> 3n) & 7n;
      assert(gpa < 1n << 20n && allowed === 0n, "not a first touch");
    } else if (reason === 1) interrupts++;
    else assertEquals(reason, 12);
  }
  assertEquals(g.get(REG.RBX), 0x40000n + 64n * PAGE);
  assert(touches > 0 && interrupts > 0, `${touches} touches, ${interrupts} interrupts`);
});

Deno.test("the APIC access page exits as such, if it is enabled", () => {
  using g = new Guest(hv);
  g.long(code("8b4320 894330 f4"));
  g.set(REG.RBX, HOLE);
  ok(hv.hv_vmx_vcpu_set_apic_address(g.id, BigInt(HOLE)));
  assertEquals(g.run(), 48);
  g.write(F.CPU2, g.read(F.CPU2) | 1n);
  assertEquals([g.run(), g.read(F.QUALIFICATION)], [44, 0x0020n]);
  g.set(REG.RIP, CODE + 3);
  assertEquals([g.run(), g.read(F.QUALIFICATION)], [44, 0x1030n]);
});
