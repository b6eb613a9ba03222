/** System instructions as machine code, through the decoder and the interpreter. */
import { assertEquals } from "@std/assert";
import { AC, CR0, CR4, FS, IF, TR } from "../../src/cpu/x86/state.ts";
import { VcpuEvent } from "../../src/engine/engine.ts";
import { CODE, DATA, HLT, load, put, reg, STACK } from "./code_rig.ts";
import { type SoftFixture, softFixture } from "./fixture.ts";

const RAX = 0, RCX = 1, RDX = 2, RBX = 3, RSI = 6, RDI = 7;

Deno.test("CPUID's OSXSAVE follows CR4, and XGETBV is there with it", () => {
  const f = load([
    "b801000000 0fa2 89ce", // mov eax,1; cpuid; mov esi,ecx
    "0f20e0 480fbae812 0f22e0", // mov rax,cr4; bts rax,18; mov cr4,rax
    "b801000000 0fa2 89cf", // mov eax,1; cpuid; mov edi,ecx
    "31c9 0f01d0", // xor ecx,ecx; xgetbv
    HLT,
  ]);
  assertEquals(f.vcpu.run(1e9), "halt");
  assertEquals([(reg(f, RSI) >> 27n) & 1n, (reg(f, RDI) >> 27n) & 1n], [0n, 1n]);
  assertEquals([reg(f, RAX) & 1n, reg(f, RDX)], [1n, 0n]);
});

Deno.test("WRMSR moves the base of FS under the next access", () => {
  const f = load([
    "b9000100c0 b800000200 31d2 0f30", // mov ecx,c0000100h; mov eax,DATA; xor edx,edx; wrmsr
    "64488b1c2508000000", // mov rbx,[fs:8]
    "0f32", // rdmsr
    HLT,
  ]);
  f.ram.write64(DATA + 8, 0x1234_5678_9abc);
  assertEquals(f.vcpu.run(1e9), "halt");
  assertEquals([reg(f, RBX), reg(f, RAX), f.vcpu.get64("segBase", FS)], [
    0x1234_5678_9abcn,
    BigInt(DATA),
    BigInt(DATA),
  ]);
});

Deno.test("an MSR that does not exist gives #GP(0) at its RDMSR", () => {
  const f = load(["b934120000", "0f32", HLT], { 13: ["5b 5e f4"] }); // handler: pop rbx; pop rsi; hlt
  assertEquals(f.vcpu.run(1e9), "halt");
  assertEquals([reg(f, RBX), reg(f, RSI)], [0n, BigInt(CODE + 5)]);
});

Deno.test("IN, OUT, INS, OUTS reach the board in their order", () => {
  const f = load([
    "66baf803 b041 ee ec", // mov dx,3f8h; mov al,41h; out dx,al; in al,dx
    "be00000200 b903000000 f36e", // mov esi,DATA; mov ecx,3; rep outsb
    "bf10000200 b902000000 f3666d", // mov edi,DATA+16; mov ecx,2; rep insw
    "e560 66e780", // in eax,60h; out 80h,ax
    HLT,
  ]);
  put(f, DATA, "616263");
  f.board.value = 0xbeef;
  assertEquals(f.vcpu.run(1e9), "halt");
  assertEquals(f.board.log, [
    "out 3f8.1 41",
    "in 3f8.1",
    "out 3f8.1 61",
    "out 3f8.1 62",
    "out 3f8.1 63",
    "in 3f8.2",
    "in 3f8.2",
    "in 60.4",
    "out 80.2 beef",
  ]);
  assertEquals(f.ram.read(DATA + 16, 4), 0xbeefbeef);
  assertEquals([reg(f, RCX), reg(f, RSI), reg(f, RDI)], [0n, BigInt(DATA + 3), BigInt(DATA + 20)]);
});

Deno.test("nothing runs behind the OUT that stops the machine", () => {
  const f = load(["e664 bb07000000", HLT]); // out 64h,al; mov ebx,7
  f.board.onWrite = () => void Atomics.or(f.events, 0, VcpuEvent.KICK);
  assertEquals(f.vcpu.run(1e9), "kick");
  assertEquals([reg(f, RBX), f.vcpu.get64("rip")], [0n, BigInt(CODE + 2)]);
  assertEquals(f.vcpu.run(1e9), "halt");
  assertEquals(reg(f, RBX), 7n);
});

Deno.test("STI lets one more instruction run before the interrupt", () => {
  // sti; inc ebx; inc ebx; hlt. Handler: mov esi,ebx; out 20h,al; iretq.
  const f = load(["fb ffc3 ffc3", HLT], { 0x20: ["89de e620 48cf"] });
  f.board.vector = 0x20;
  f.board.onWrite = () => void Atomics.store(f.events, 0, 0);
  Atomics.store(f.events, 0, VcpuEvent.INTR);
  assertEquals(f.vcpu.run(1e9), "halt");
  assertEquals([reg(f, RSI), reg(f, RBX), f.vcpu.get("eflags") & IF], [1n, 2n, IF]);
});

Deno.test("STI; HLT with an interrupt pending does not sleep", () => {
  const f = load(["fb f4 bb05000000 faf4"], { 0x20: ["e620 48cf"] }); // sti; hlt; mov ebx,5; cli; hlt
  f.board.vector = 0x20;
  f.board.onWrite = () => void Atomics.store(f.events, 0, 0);
  Atomics.store(f.events, 0, VcpuEvent.INTR);
  assertEquals(f.vcpu.run(1e9), "halt");
  assertEquals([reg(f, RBX), f.vcpu.get64("rip")], [5n, BigInt(CODE + 9)]);
});

Deno.test("a start-up IPI is taken with its vector: nothing is left to do", () => {
  const f = softFixture(undefined, 1), vector = 0x11;
  put(f, vector << 12, "40 f4"); // inc ax; hlt
  assertEquals(f.vcpu.run(1e9), "halt");
  Atomics.store(f.events, 0, VcpuEvent.SIPI | vector << 8);
  assertEquals(f.vcpu.run(1e9), "halt");
  assertEquals([reg(f, RAX) & 0xffffn, Atomics.load(f.events, 0)], [1n, 0]);
});

Deno.test("POPF that sets TF traps behind the next instruction", () => {
  const f = load([
    "9c 810c2400010000 9d", // pushfq; or dword [rsp],100h; popfq
    "ffc3 ffc3", // inc ebx; inc ebx
    HLT,
  ], { 1: ["89de 5f f4"] }); // mov esi,ebx; pop rdi; hlt
  assertEquals(f.vcpu.run(1e9), "halt");
  assertEquals([reg(f, RSI), reg(f, RDI)], [1n, BigInt(CODE + 11)]);
});

Deno.test("hints, fences and cache instructions have the right lengths and do nothing", () => {
  const f = load([
    "f390 f30f1efa 90 6690 0f1f00 660f1f840078563412", // pause; endbr64; nop in four lengths
    "0faef0 0faee8 0faef8 0f1808 0f0d08 0f19c0", // mfence; lfence; sfence; prefetcht0; prefetchw; a reserved NOP
    "0fae3c2500000200 660fae3c2500000200 660fae342500000200", // clflush, clflushopt, clwb [DATA]
    "0f09 0f08 0f06 0f013c2500000200", // wbinvd; invd; clts; invlpg [DATA]
    HLT,
  ]);
  const before = f.vcpu.describe().replace(/rip \S+/, "");
  assertEquals(f.vcpu.run(1e9), "halt");
  assertEquals(f.vcpu.describe().replace(/rip \S+/, ""), before);
  assertEquals(f.vcpu.get64("rip"), BigInt(CODE + 80));
});

Deno.test("STAC opens user pages to the supervisor, CLAC closes them", () => {
  const f = load([
    "0f01cb 8b042500000200", // stac; mov eax,[DATA]
    "0f01ca 8b1c2500000200", // clac; mov ebx,[DATA]
    HLT,
  ], { 14: ["5f 5e f4"] }); // pop rdi; pop rsi; hlt
  // Everything is mapped for the user: code and stack must be supervisor's under SMAP, so only DATA stays in a user page.
  splitForSmap(f);
  f.ram.write64(DATA, 0x77);
  f.vcpu.put64("cr4", f.vcpu.get("cr4") | CR4.SMAP);
  f.vcpu.exports.flushTlb(f.vcpu.base);
  f.vcpu.exports.updateMode(f.vcpu.base);
  assertEquals(f.vcpu.run(1e9), "halt");
  assertEquals([reg(f, RAX), reg(f, RDI), reg(f, RSI)], [0x77n, 1n, BigInt(CODE + 13)]);
  assertEquals(f.vcpu.get64("cr2"), BigInt(DATA));
  assertEquals(f.vcpu.get("eflags") & AC, 0);
});

/** Maps the first 2 MiB in pages of 4 KiB, only DATA's for the user. */
function splitForSmap(f: SoftFixture): void {
  const table = 0x40000, directory = 0x3000;
  for (let i = 0; i < 512; i++) f.ram.write64(table + 8 * i, i * 4096 + (i * 4096 === DATA ? 0x67 : 0x63));
  f.ram.write64(directory, table + 7);
}

Deno.test("random numbers, time and the processor's number", () => {
  const f = load([
    "0fc7f0 0f92c3 480fc7f9 0f92c7", // rdrand eax; setc bl; rdseed rcx; setc bh
    "0f31 0f01f9 f30fc7fe", // rdtsc; rdtscp; rdpid rsi
    HLT,
  ]);
  f.vcpu.put64("tscAux", 0x1_0005 & 0xffff_ffff);
  f.time = 5_000_000_123;
  assertEquals(f.vcpu.run(1e10), "halt");
  assertEquals([reg(f, RBX), reg(f, RCX), reg(f, RSI)], [0x0101n, 0x1_0005n, 0x1_0005n]);
  assertEquals((reg(f, RDX) << 32n) | reg(f, RAX), 5_000_000_123n);
});

Deno.test("MOV to CR0 and CR3 go on at the next instruction", () => {
  const f = load([
    "0f20c0 0f20c3 480fbaf010 0f22c0 0f20c1", // mov rax,cr0; mov rbx,cr0; btr rax,16; mov cr0,rax; mov rcx,cr0
    "0f20d8 0f22d8", // mov rax,cr3; mov cr3,rax
    HLT,
  ]);
  assertEquals(f.vcpu.run(1e9), "halt");
  assertEquals(reg(f, RBX) ^ reg(f, RCX), BigInt(CR0.WP));
  assertEquals(reg(f, RAX), f.vcpu.get64("cr3"));
});

Deno.test("a reserved flag of CR4 faults at its MOV, and CR4 stays", () => {
  const f = load(["b878563412 0f22e0", HLT], { 13: ["5b 5e f4"] });
  const before = f.vcpu.get64("cr4");
  assertEquals(f.vcpu.run(1e9), "halt");
  assertEquals([reg(f, RBX), reg(f, RSI), f.vcpu.get64("cr4")], [0n, BigInt(CODE + 5), before]);
});

Deno.test("LAHF, SAHF and the carry instructions between them", () => {
  const f = load(["fa f9 9f f5 0f92c3 fd fc 9e 0f92c1", HLT]); // cli; stc; lahf; cmc; setc bl; std; cld; sahf; setc cl
  assertEquals(f.vcpu.run(1e9), "halt");
  assertEquals([reg(f, RBX) & 0xffn, reg(f, RCX) & 0xffn], [0n, 1n]);
});

Deno.test("INVPCID of everything goes on at the next instruction", () => {
  const f = load(["b802000000 66480f3882042500000200", HLT]);
  f.ram.write64(DATA, 0);
  f.ram.write64(DATA + 8, 0);
  assertEquals(f.vcpu.run(1e9), "halt");
  assertEquals(f.vcpu.get64("rip"), BigInt(CODE + 17));
});

Deno.test("what this processor does not have is #UD, with RIP at it", () => {
  const absent = {
    "RSM": "0faa",
    "VMCALL": "0f01c1",
    "VMLAUNCH": "0f01c2",
    "VMREAD": "0f78c0",
    "VMXON": "f30fc730",
    "VMMCALL": "0f01d9",
    "VMRUN": "0f01d8",
    "CLGI": "0f01dd",
    "MONITOR": "0f01c8",
    "MWAIT": "0f01c9",
    "ENCLS": "0f01cf",
    "RDPKRU": "0f01ee",
    "XRSTORS": "0fc718",
    "GETSEC": "0f37",
    "MOV from TR3": "0f24d8",
    "MOV from CR1": "0f20c8",
    "UD2": "0f0b",
    "UD1": "0fb9c0",
    "UD0": "0fffc0",
    "LOCK NOP": "f00f1f00",
    "INVLPG of a register": "0f01fc",
    "XGETBV without OSXSAVE": "0f01d0",
  };
  for (const [name, code] of Object.entries(absent)) {
    const f = load(["90", code, HLT], { 6: ["5b f4"], 13: ["bb0d000000 f4"] }); // pop rbx; hlt
    assertEquals(f.vcpu.run(1e9), "halt", name);
    assertEquals(reg(f, RBX), BigInt(CODE + 1), name);
  }
});

Deno.test("user code gets #GP(0) for what is the supervisor's", () => {
  const privileged = {
    "HLT": "f4",
    "CLI": "fa",
    "STI": "fb",
    "IN": "ec",
    "OUT": "ee",
    "INS": "6c",
    "REP OUTS": "f36e",
    "MOV from CR0": "0f20c0",
    "MOV to CR3": "0f22d8",
    "MOV from CR8": "440f20c0",
    "MOV from DR7": "0f21f8",
    "MOV to DR0": "0f23c0",
    "CLTS": "0f06",
    "INVD": "0f08",
    "WBINVD": "0f09",
    "INVLPG": "0f013c2500000200",
    "INVPCID": "660f3882042500000200",
    "RDMSR": "0f32",
    "WRMSR": "0f30",
    "RDPMC": "0f33",
  };
  for (const [name, code] of Object.entries(privileged)) {
    const f = load([
      "6a1b 6800000300 6802000000 6a23 6800020100 48cf", // push 1bh; push STACK; push 2; push 23h; push CODE+200h; iretq
    ], { 13: ["58 5b f4"] }); // pop rax; pop rbx; hlt
    userSegments(f);
    put(f, CODE + 0x200, code);
    f.vcpu.put64("gpr", 1, RCX);
    assertEquals(f.vcpu.run(1e9), "halt", name);
    assertEquals([reg(f, RAX), reg(f, RBX)], [0n, BigInt(CODE + 0x200)], name);
    assertEquals(f.board.log, [], name);
  }
});

/** A GDT with user segments and a task state, which user mode needs to come back. */
function userSegments(f: SoftFixture): void {
  const GDT = 0x5000, TSS = 0x7000;
  f.ram.write(GDT + 0x18, 4, 0x0000ffff), f.ram.write(GDT + 0x1c, 4, 0x00cff300);
  f.ram.write(GDT + 0x20, 4, 0x0000ffff), f.ram.write(GDT + 0x24, 4, 0x00affb00);
  f.vcpu.put("gdtrLimit", 0x2f);
  f.vcpu.put("segRights", 0x8b, TR), f.vcpu.put("segLimit", 0x67, TR), f.vcpu.put64("segBase", TSS, TR);
  f.ram.write64(TSS + 4, STACK - 0x1000);
}
