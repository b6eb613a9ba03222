/** MONITOR and MWAIT: [sdm2 MONITOR, MWAIT], [sdm3 §9.10.5]. */
import { assertEquals } from "@std/assert";
import { Arena } from "../../src/base/arena.ts";
import { CodeMap } from "../../src/base/code_map.ts";
import { GuestRam } from "../../src/base/ram.ts";
import { parseCpuModel } from "../../src/cpu/x86/system/cpu_model.ts";
import { VcpuEvent } from "../../src/engine/engine.ts";
import { SoftVcpu } from "../../src/engine/soft/soft.ts";
import { Activity, VcpuRecord } from "../../src/engine/vcpu_state.ts";
import { allocateMachineMemory, ARENA_BASE, ARENA_BYTES, RAM_BASE } from "../../src/machine/memory.ts";
import { CODE, DATA, put, reg, STACK } from "./code_rig.ts";
import { longMode, RAM_BYTES, type SoftFixture, TestBoard } from "./fixture.ts";

const RBX = 3;
/** mov eax,DATA; xor ecx,ecx; xor edx,edx; monitor */
const MONITOR = "b800000200 31c9 31d2 0f01c8";
/** xor eax,eax; mwait; mov ebx,7; hlt */
const MWAIT = "31c0 0f01c9 bb07000000 f4";

/** Processors of one machine, at code of their own, in one thread: each rests while another runs. */
function machine(codes: readonly string[], cpu = "default,+monitor") {
  const memory = allocateMachineMemory(RAM_BYTES);
  const arena = new Arena(memory.buffer, ARENA_BASE, ARENA_BYTES);
  const ram = new GuestRam(memory.buffer, RAM_BASE, RAM_BYTES);
  const codeMap = new CodeMap(memory.buffer, arena.raw(CodeMap.sizeBytes(RAM_BYTES)), RAM_BYTES);
  ram.onWrite = (gpa, size) => codeMap.wrote(gpa, size);
  const woken: number[] = [];
  codeMap.onAwaited = (vcpu) => void woken.push(vcpu);
  const cpus = codes.map((code, index): SoftFixture => {
    const board = new TestBoard(), events = new Int32Array(memory.buffer, arena.raw(64), 1);
    const parts = { index, vcpus: codes.length, memory, ram, board, codeMap, events, eventsIndex: 0, icount: null };
    const vcpu = new SoftVcpu({ ...parts, clock: { nowNs: () => 0 }, cpu: parseCpuModel(cpu) });
    const f = { vcpu, ram, board, events, time: 0 };
    longMode(f, CODE + 0x1000 * index, STACK + 0x1000 * index);
    put(f, CODE + 0x1000 * index, code);
    return f;
  });
  return { cpus, ram, woken };
}

Deno.test("MWAIT sleeps until another processor stores to the line, and the sleeper is woken", () => {
  // mov dword [DATA+8],5; hlt
  const { cpus, woken } = machine([MONITOR + MWAIT, "c704250800020005000000 f4"]), [a, b] = cpus;
  assertEquals(a!.vcpu.run(1e9), "halt");
  assertEquals(a!.vcpu.run(1e9), "halt");
  assertEquals([reg(a!, RBX), woken], [0n, []]);
  assertEquals(b!.vcpu.run(1e9), "halt");
  assertEquals(woken, [0]);
  assertEquals(a!.vcpu.run(1e9), "halt");
  assertEquals(reg(a!, RBX), 7n);
});

Deno.test("a device's write ends MWAIT, one elsewhere does not", () => {
  const { cpus: [f], ram, woken } = machine([MONITOR + MWAIT]);
  assertEquals(f!.vcpu.run(1e9), "halt");
  ram.write(DATA + 0x3000, 4, 1);
  assertEquals(f!.vcpu.run(1e9), "halt");
  assertEquals([reg(f!, RBX), woken], [0n, []]);
  ram.write(DATA + 4, 4, 1);
  assertEquals(woken, [0]);
  assertEquals(f!.vcpu.run(1e9), "halt");
  assertEquals(reg(f!, RBX), 7n);
});

Deno.test("MWAIT does not wait for a store that has come since MONITOR, nor without MONITOR", () => {
  const { cpus: [f], ram } = machine([`${MONITOR} e680 ${MWAIT}`]); // out 80h,al
  f!.board.onWrite = () => ram.write(DATA, 4, 1);
  assertEquals(f!.vcpu.run(1e9), "halt");
  assertEquals(reg(f!, RBX), 7n);
  const { cpus: [g] } = machine([`31c9 ${MWAIT}`]);
  assertEquals(g!.vcpu.run(1e9), "halt");
  assertEquals(reg(g!, RBX), 7n);
});

Deno.test("an interrupt ends MWAIT while IF is 0 only if ECX says so, and is not taken", () => {
  for (const ecx of [0, 1]) {
    const { cpus: [f] } = machine([`${MONITOR} b90${ecx}000000 ${MWAIT}`]);
    assertEquals(f!.vcpu.run(1e9), "halt");
    f!.board.vector = 0x20;
    Atomics.store(f!.events, 0, VcpuEvent.INTR);
    assertEquals(f!.vcpu.run(1e9), "halt");
    assertEquals(reg(f!, RBX), ecx ? 7n : 0n);
    assertEquals(f!.vcpu.stats().interrupts, 0);
  }
});

Deno.test("who waits in MWAIT is saved as one that runs: the line may have changed by then", () => {
  const { cpus: [f] } = machine([MONITOR + MWAIT]), state = VcpuRecord.create();
  assertEquals(f!.vcpu.run(1e9), "halt");
  f!.vcpu.save!(state);
  assertEquals(state.activity, Activity.RUNNING);
});

Deno.test("MONITOR and MWAIT have no extensions but one, and do not exist unless they are announced", () => {
  const faults = (code: string, cpu?: string) => {
    const { cpus: [f] } = machine([code], cpu);
    f!.vcpu.run(1e9);
    return f!.vcpu.get("faultVector");
  };
  assertEquals(faults("b800000200 b901000000 0f01c8 f4"), 13); // mov ecx,1; monitor
  assertEquals(faults(`${MONITOR} b902000000 0f01c9 f4`), 13); // mov ecx,2; mwait
  assertEquals([faults(MONITOR, "default"), faults("0f01c9", "max")], [6, 6]);
  // mov eax,5; cpuid; mov edi,ecx; mov eax,1; cpuid; hlt
  const leaves = "b805000000 0fa2 89cf b801000000 0fa2 f4";
  for (const [cpu, announced, extensions] of [["default,+monitor", 1n, 3n], ["default", 0n, 0n]] as const) {
    const { cpus: [f] } = machine([leaves], cpu);
    assertEquals(f!.vcpu.run(1e9), "halt");
    assertEquals([reg(f!, 1) >> 3n & 1n, reg(f!, 7)], [announced, extensions]);
  }
});
