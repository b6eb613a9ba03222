/** The second tier does what the first does: a slice of `deno task fuzz:tiers`, and what it has found. */
import { assert, assertEquals } from "@std/assert";
import { Asm } from "./asm.ts";
import { Duel, type Manner } from "./duel.ts";
import { CODE, DATA, DATA_PAGES, PAGE, VECTOR } from "./layout.ts";
import type { Program } from "./program.ts";
import { Rig } from "./rig.ts";

const SEED = 20_261_122, PROGRAMS = 30;
const INTERPRETED: Manner = { compile: "none", again: false, slice: 1000, atStops: 0, atLooks: 0 };
const MANNERS: readonly Manner[] = [
  INTERPRETED,
  { ...INTERPRETED, slice: 1 },
  { ...INTERPRETED, compile: "leaders" },
  { ...INTERPRETED, compile: "everywhere", slice: 1 },
];

const duel = new Duel();

/** A program in user mode that `emit` writes and that then ends. */
function program(emit: (a: Asm) => void, registers: readonly bigint[] = []): Program {
  const a = new Asm(CODE);
  a.raw(new Array(64).fill(0x90));
  a.label("start");
  emit(a);
  a.hex(`CD ${VECTOR.END.toString(16)}`);
  const leaders = [...a.labels.values()].filter((at) => at < PAGE);
  const data = new Uint8Array(DATA_PAGES * PAGE), base = 0x40_0000n;
  const all = Array.from({ length: 16 }, (_, n) => registers[n] ?? 0n);
  const start = a.labels.get("start")!;
  const code = a.finish(), instructions = leaders;
  return {
    seed: 1,
    user: true,
    base,
    code,
    data,
    start,
    recoveries: [start],
    leaders,
    instructions,
    registers: all,
    pieces: [],
  };
}

function agree(p: Program): void {
  for (const manner of MANNERS) {
    const { differences, regions } = duel.compare(p, manner);
    assertEquals(differences, [], JSON.stringify(manner));
    if (manner.compile === "leaders") assert(regions > 0, "nothing was compiled");
  }
}

/** Programs that both tiers run alike; `flag` of fuzz:tiers makes such a duel. */
function fuzz(duel: Duel, programs: number, flag: string): void {
  let regions = 0, interrupts = 0, exceptions = 0;
  for (let n = 0; n < programs; n++) {
    const outcome = duel.run(SEED + n);
    assertEquals(outcome.differences, [], `deno task fuzz:tiers --seed ${SEED + n} --programs 1${flag}`);
    regions += outcome.regions;
    interrupts += outcome.interrupts;
    exceptions += outcome.exceptions;
  }
  // Else it shows nothing.
  assert(regions > 20 * programs && interrupts > 5 * programs && exceptions > 5 * programs);
}

Deno.test("random programs end alike on both tiers, and are alike wherever one of them stops", () => {
  fuzz(duel, PROGRAMS, "");
});

Deno.test("so they do where the compiled code is such as several vCPUs share", () => {
  fuzz(new Duel(false, undefined, 2), 10, " --several");
});

Deno.test("code that loads FS and GS from the stack is compiled", () => {
  agree(program((a) => {
    a.hex("B9 05 00 00 00");
    a.label("again");
    a.hex("6A 00 0F A1 6A 00 0F A9"); // push 0; pop fs; push 0; pop gs
    a.hex("0F A0 58 48 01 C2 FF C9"); // push fs; pop rax; add rdx, rax; dec ecx
    a.jcc(5, "again");
  }));
});

Deno.test("TF that IRET brings back traps after the next instruction", () => {
  agree(program((a) => {
    a.hex("9C 81 0C 24 00 01 00 00 9D"); // pushfq; or dword [rsp], 100h; popfq
    for (let n = 0; n < 5; n++) a.hex("48 FF C0"); // inc rax: a debug exception each, and back by IRET
    a.label("after");
    a.hex("9C 81 24 24 FF FE FF FF 9D 90 90 90");
  }));
});

Deno.test("flags of a store into code are those of the store, whatever its successor was", () => {
  agree(program((a) => {
    a.hex("31 C0 31 DB FF C3"); // xor eax, eax; xor ebx, ebx; inc ebx
    a.label("store");
    a.hex("80 05 00 00 00 00 1B"); // add byte [RIP], 1Bh: sets SF
    a.hex("84 F8"); // test al, bh, which kills the flags; with 1Bh added it is lahf; clc
    a.hex("48 01 C3 90 90"); // add rbx, rax
  }));
});

Deno.test("the counters say which tier has retired how much", () => {
  const TURNS = 300, BODY = 4;
  const p = program((a) => {
    a.hex("B9");
    a.u32(TURNS);
    a.label("again");
    a.hex("48 01 C8 48 31 C2 FF C9"); // add rax, rcx; xor rdx, rax; dec ecx
    a.jcc(5, "again");
  });
  const none = duel.compare(p, INTERPRETED), all = duel.compare(p, { ...INTERPRETED, compile: "leaders", slice: 7 });
  assertEquals(none.compiled, 0);
  assert(
    all.compiled >= (TURNS - 1) * BODY && all.compiled <= all.instructions,
    `${all.compiled} of ${all.instructions}`,
  );
  assertEquals(all.instructions, none.instructions);
});

Deno.test("a trace tells which code is compiled, by guest-physical address, and when it is ready", () => {
  const rig = new Rig(), told: string[] = [];
  rig.onTrace = (what) => told.push(what);
  const p = program((a) => a.hex("48 01 C8 48 31 C2 FF C9"));
  rig.load(p);
  assert(rig.vcpu.compileHere());
  // The first page of code lies at 43000H; three instructions and the INT, which ends the block.
  assertEquals(told, ["all code forgotten", "43040 compiling, 4 instructions in 1 blocks", "43040 ready"]);
});

Deno.test("PAUSEs are counted in both tiers", () => {
  const TURNS = 300;
  const p = program((a) => {
    a.hex("B9");
    a.u32(TURNS);
    a.label("again");
    a.hex("F3 90 FF C9"); // pause; dec ecx
    a.jcc(5, "again");
  });
  for (const vcpus of [1, 2]) {
    for (const compile of [false, true]) {
      const rig = new Rig(false, undefined, vcpus);
      rig.load(p);
      rig.vcpu.put64("rip", p.base + BigInt(p.leaders.at(-1)!));
      if (compile) assert(rig.vcpu.compileHere());
      rig.vcpu.put64("rip", p.base + BigInt(p.start));
      while (rig.vcpu.run(rig.ns + 100) === "slice");
      assertEquals(rig.vcpu.get("pauses"), TURNS, `${vcpus} vCPUs, compiled ${compile}`);
    }
  }
});

Deno.test("a disagreement is seen: a register, a flag, a byte of memory", () => {
  const p = program((a) => {
    a.mov(3, 0x40_0000n + BigInt(DATA));
    a.hex("48 FF C0 48 FF C0 48 89 03"); // inc rax; inc rax; mov [rbx], rax
  });
  const spoilt = (change: (p: Program) => Program) => duel.compare(p, MANNERS[2]!, change(p)).differences.length;
  assertEquals(spoilt((q) => q), 0);
  assert(spoilt((q) => ({ ...q, registers: q.registers.map((v, n) => n === 13 ? 1n : v) })) > 0);
  assert(spoilt((q) => ({ ...q, code: q.code.map((byte, at) => at === q.start + 12 ? 0xc8 : byte) })) > 0);
  assert(spoilt((q) => ({ ...q, data: q.data.map((byte, at) => at === 5000 ? 1 : byte) })) > 0);
});
