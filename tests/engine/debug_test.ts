/** Breakpoints, and what holds events back: [sdm3 §7.7.1, §7.8.3, §18.2, §18.3]. Each on both tiers. */
import { assertEquals } from "@std/assert";
import { VcpuRecord } from "../../src/engine/vcpu_state.ts";
import { VcpuEvent } from "../../src/engine/engine.ts";
import { EVENT_NMI } from "../../src/cpu/x86/system/attention.ts";
import { CODE, DATA, HLT, load, reg, STACK } from "./code_rig.ts";
import type { SoftFixture } from "./fixture.ts";

const RBX = 3, RCX = 1, RSP = 4, RBP = 5, RSI = 6, RDI = 7, R15 = 15;
const LOG = 0x40000, DB = 1, NMI = 2, RF = 1 << 16, IF = 1 << 9;
const B0 = 1, B1 = 2, BS = 1 << 14;
/** R/W and LEN of DR7. */
const EXECUTE = 0, WRITE = 1, IO = 2, ACCESS = 3;
const LEN = { 1: 0, 2: 1, 4: 3, 8: 2 } as const;

/** Notes DR6, RIP and RFLAGS at R15, clears DR6, returns. */
const NOTE = [
  "410f21f6 4d8937", // mov r14,dr6; mov [r15],r14
  "4c8b3424 4d897708", // mov r14,[rsp]; mov [r15+8],r14
  "4c8b742410 4d897710", // mov r14,[rsp+16]; mov [r15+16],r14
  "4983c718 4531f6 410f23f6", // add r15,24; xor r14d,r14d; mov dr6,r14
  "48cf", // iretq
];

interface Break {
  readonly at: number;
  readonly on: number;
  readonly bytes?: 1 | 2 | 4 | 8;
}

/** Loads code that has the breakpoints, enabled by their L bits, and a handler that notes what #DB tells. */
function armed(lines: readonly string[], breaks: readonly Break[], handlers: Record<number, readonly string[]> = {}) {
  const f = load(lines, { [DB]: NOTE, ...handlers }), { vcpu } = f;
  arm(f, breaks);
  vcpu.put64("gpr", LOG, R15);
  vcpu.put64("gpr", DATA, RSI);
  return f;
}
function arm({ vcpu }: SoftFixture, breaks: readonly Break[]): void {
  let control = 0x400;
  breaks.forEach(({ at, on, bytes = 1 }, n) => {
    vcpu.put64("dr", at, n);
    control |= 1 << (2 * n) | on << (16 + 4 * n) | LEN[bytes] << (18 + 4 * n);
  });
  vcpu.put64("dr", control >>> 0, 7);
  vcpu.exports.updateBreakpoints(vcpu.base);
}

/** What the handler has noted: DR6 without its fixed bits, RIP from CODE on, RFLAGS. */
function noted(f: SoftFixture): [dr6: number, rip: number, rflags: number][] {
  const end = Number(reg(f, R15));
  const list: [number, number, number][] = [];
  for (let at = LOG; at < end; at += 24) {
    list.push([(f.ram.read(at, 4) & ~0xffff_0ff0) >>> 0, f.ram.read(at + 8, 4) - CODE, f.ram.read(at + 16, 4)]);
  }
  return list;
}
const where = (f: SoftFixture) => noted(f).map(([dr6, rip]) => [dr6, rip]);

function bothTiers(name: string, test: (start: (f: SoftFixture) => void) => void): void {
  Deno.test(`${name}: interpreted`, () => test(() => {}));
  Deno.test(`${name}: compiled`, () => test((f) => void f.vcpu.compileHere()));
}

bothTiers(
  "an instruction breakpoint is a fault before its instruction, once each time, and RF lets it pass",
  (start) => {
    // mov ecx,3; again: inc ebx; dec ecx; jnz again; hlt
    const f = armed(["b903000000 ffc3 ffc9 75fa", HLT], [{ at: CODE + 5, on: EXECUTE }]);
    start(f);
    assertEquals(f.vcpu.run(1e9), "halt");
    assertEquals(where(f), [[B0, 5], [B0, 5], [B0, 5]]);
    for (const [, , flags] of noted(f)) assertEquals(flags & RF, RF);
    assertEquals(reg(f, RBX), 3n);
  },
);

bothTiers("data breakpoints are traps behind the accesses that touch their bytes", (start) => {
  const f = armed([
    "895e04", // mov [rsi+4],ebx: beside it
    "8b2e", // mov ebp,[rsi]: a read
    "885e03", // mov [rsi+3],bl
    "48895efc", // mov [rsi - 4],rbx
    "011e", // add [rsi],ebx
    HLT,
  ], [{ at: DATA, on: WRITE, bytes: 4 }]);
  start(f);
  assertEquals(f.vcpu.run(1e9), "halt");
  assertEquals(where(f), [[B0, 8], [B0, 12], [B0, 14]]);
  // Behind an instruction that has ended RF is clear.
  for (const [, , flags] of noted(f)) assertEquals(flags & RF, 0);
});

bothTiers("a breakpoint at reads and writes tells which of two it was, and both", (start) => {
  // mov ebp,[rsi - 3]; mov ebp,[rsi]; hlt
  const f = armed(["8b6efd 8b2e", HLT], [{ at: DATA, on: ACCESS }, { at: DATA + 2, on: ACCESS, bytes: 2 }]);
  start(f);
  assertEquals(f.vcpu.run(1e9), "halt");
  assertEquals(where(f), [[B0, 3], [B0 | B1, 5]]);
});

bothTiers("a loop meets its breakpoint in the one iteration that it is about", (start) => {
  // mov ecx,1000; again: mov [rsi],cl; inc rsi; dec ecx; jnz again; hlt
  const f = armed(["b9e8030000 880e 48ffc6 ffc9 75f7", HLT], [{ at: DATA + 700, on: WRITE }]);
  start(f);
  assertEquals(f.vcpu.run(1e9), "halt");
  assertEquals(where(f), [[B0, 7]]);
  assertEquals([reg(f, RCX), reg(f, RSI)], [0n, BigInt(DATA + 1000)]);
  assertEquals(f.ram.read(DATA + 700, 1), 300 & 0xff);
});

bothTiers("a repeated move stops behind the iteration that meets it, and goes on", (start) => {
  const f = armed(["f3a4", HLT], [{ at: DATA + 0x1005, on: WRITE }]); // rep movsb
  f.vcpu.put64("gpr", DATA + 0x1000, RDI);
  f.vcpu.put64("gpr", 32, RCX);
  for (let i = 0; i < 32; i++) f.ram.write(DATA + i, 1, i + 1);
  start(f);
  assertEquals(f.vcpu.run(1e9), "halt");
  assertEquals(where(f), [[B0, 0]]);
  assertEquals([reg(f, RCX), f.ram.read(DATA + 0x101f, 1)], [0n, 32]);
});

Deno.test("breakpoints at ports are those of CR4.DE", () => {
  // in al,41h; out 40h,al; in ax,42h; hlt
  const f = armed(["e441 e640 66e542", HLT], [{ at: 0x40, on: IO }, { at: 0x42, on: IO, bytes: 2 }]);
  assertEquals(f.vcpu.run(1e9), "halt");
  assertEquals(where(f), []);
  const g = armed(["e441 e640 66e542", HLT], []);
  g.vcpu.put64("cr4", g.vcpu.get64("cr4") | 8n);
  arm(g, [{ at: 0x40, on: IO }, { at: 0x43, on: IO, bytes: 2 }]);
  assertEquals(g.vcpu.run(1e9), "halt");
  // 43h with two bytes is 42h: addresses align to the length.
  assertEquals(where(g), [[B0, 4], [B1, 7]]);
  assertEquals(g.board.log, ["in 41.1", "out 40.1 0", "in 42.2"]);
});

Deno.test("what MOV SS meets is told behind the next instruction, and a breakpoint there does not fire", () => {
  // mov ss,[rsi]; mov ebx,7; inc ebx; hlt
  const f = armed(["8e16 bb07000000 ffc3", HLT], [{ at: DATA, on: ACCESS }, { at: CODE + 2, on: EXECUTE }]);
  f.ram.write(DATA, 2, 0x18);
  assertEquals(f.vcpu.run(1e9), "halt");
  assertEquals(where(f), [[B0, 7]]);
});

Deno.test("a single step and a data breakpoint are one trap; MOV SS is not stepped behind", () => {
  // pushfq; or dword [rsp],100h; popfq; mov [rsi],ebx; mov ss,eax; inc ebx; pushfq; and dword [rsp],~100h; popfq; hlt
  const f = armed(["9c 810c2400010000 9d 891e 8ed0 ffc3 9c 812424fffeffff 9d", HLT], [{ at: DATA, on: WRITE }]);
  f.vcpu.put64("gpr", 0x18, 0);
  assertEquals(f.vcpu.run(1e9), "halt");
  assertEquals(where(f), [[BS | B0, 11], [BS, 15], [BS, 16], [BS, 23], [BS, 24]]);
});

Deno.test("MOV to DR7 holds from the next instruction on, in its own page too, and #DB clears GD", () => {
  // mov dr0,rax; mov dr7,rdx; inc ebx; hlt
  const f = armed(["0f23c0 0f23fa ffc3", HLT], []);
  f.vcpu.put64("gpr", CODE + 6, 0);
  f.vcpu.put64("gpr", 0x401, 2);
  assertEquals(f.vcpu.run(1e9), "halt");
  assertEquals(where(f), [[B0, 6]]);
});

Deno.test("the frame of an exception meets a data breakpoint: a trap at the handler", () => {
  // ud2; hlt. The frame's RIP is 40 bytes below the stack's top.
  const f = armed(["0f0b", HLT], [{ at: STACK - 40, on: WRITE, bytes: 8 }], { 6: ["ffc3 f4"] });
  assertEquals(f.vcpu.run(1e9), "halt");
  assertEquals([reg(f, RBX), where(f).length], [1n, 1]);
});

Deno.test("an NMI is blocked until IRET, and taken right behind it", () => {
  assertEquals(EVENT_NMI, VcpuEvent.NMI);
  // out 21h,al; inc ebp; inc ebp; hlt. Handler: inc ebx; out 20h,al; mov [rdi+rcx*4],ebx; inc ecx; iretq
  const f = load(["e621 ffc5 ffc5", HLT], { [NMI]: ["ffc3 e620 891c8f ffc1 48cf"] });
  f.vcpu.put64("gpr", LOG, RDI);
  let raised = 0;
  f.board.onWrite = () => {
    if (raised++ < 2) Atomics.or(f.events, 0, VcpuEvent.NMI);
  };
  assertEquals(f.vcpu.run(1e9), "halt");
  assertEquals([f.ram.read(LOG, 4), f.ram.read(LOG + 4, 4), reg(f, RCX), reg(f, RBP)], [1, 2, 2n, 2n]);
  assertEquals(f.vcpu.get64("gpr", RSP), BigInt(STACK));
});

Deno.test("HLT in the handler of an NMI sleeps through the next one; saved, that is known", () => {
  const f = load(["e621", HLT], { [NMI]: ["e620", HLT, "48cf"] }); // out 20h,al; hlt; iretq
  f.board.onWrite = () => void Atomics.or(f.events, 0, VcpuEvent.NMI);
  assertEquals(f.vcpu.run(1e9), "halt");
  assertEquals(f.vcpu.run(1e9), "halt");
  const state = VcpuRecord.create();
  f.vcpu.save(state);
  assertEquals([state.nmiBlocked, state.nmiPending], [1, 1]);
  f.vcpu.restore(state);
  assertEquals(f.vcpu.run(1e9), "halt");
  assertEquals(f.vcpu.get("nmiBlocked"), 1);
});

bothTiers("IRET that sets IF takes what waits before the next instruction", (start) => {
  const f = load(["48cf ffc3", HLT], { 0x20: ["89dd e620 48cf"] }); // iretq; inc ebx; hlt. mov ebp,ebx; out 20h,al; iretq
  const frame = STACK - 40;
  [CODE + 2, 0x10, 2 | IF, STACK, 0x18].forEach((v, i) => f.ram.write64(frame + 8 * i, v));
  f.vcpu.put64("gpr", frame, RSP);
  f.vcpu.put64("gpr", 99, RBP);
  f.board.vector = 0x20;
  f.board.onWrite = () => void Atomics.store(f.events, 0, 0);
  start(f);
  Atomics.store(f.events, 0, VcpuEvent.INTR);
  assertEquals(f.vcpu.run(1e9), "halt");
  assertEquals([reg(f, RBP), reg(f, RBX)], [0n, 1n]);
});

Deno.test("the shadow of STI is saved for the instruction behind it, and for no other", () => {
  for (const [lines, shadow] of [[["fb 0f0b"], 1], [["fb ffc3 0f0b"], 0]] as const) {
    const f = load(lines);
    for (let n = 0; n < (shadow ? 1 : 2); n++) f.vcpu.step();
    const state = VcpuRecord.create();
    f.vcpu.save(state);
    assertEquals(state.shadow, shadow);
  }
});
