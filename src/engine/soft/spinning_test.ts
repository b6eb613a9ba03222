import { assert, assertEquals } from "@std/assert";
import type { VcpuParts } from "../engine.ts";
import type { CodeNotices } from "./code_notices.ts";
import type { CpuView } from "./cpu_view.ts";
import { Spinning } from "./spinning.ts";

/** A vCPU whose sleeps take the time they may, unless an event has risen. */
function fixture(vcpus = 2) {
  const state = { pauses: 0, tscKnown: 1, rises: 0, nowNs: 0 }, slept: number[] = [], told: (boolean | number)[] = [];
  type Field = "pauses" | "tscKnown";
  const cpu = {
    get: (field: Field) => state[field],
    put: (field: Field, value: number) => void (state[field] = value),
  } as unknown as CpuView;
  const parts = {
    vcpus,
    clock: { nowNs: () => state.nowNs },
    sleeper: {
      rises: () => state.rises,
      wait: (rises: number, ms: number) => {
        told.push(ms);
        if (rises === state.rises) {
          slept.push(ms);
          state.nowNs += ms * 1e6;
        }
      },
    },
  } as unknown as VcpuParts;
  const code = { report: (running: boolean) => void told.push(running) } as unknown as CodeNotices;
  return { state, slept, told, spinning: Spinning.of(cpu, parts, code) };
}

Deno.test("a vCPU that only spins rests, longer each time up to 0.2 ms", () => {
  const { state, slept, spinning } = fixture();
  for (let n = 0; n < 8; n++) {
    spinning!.look();
    state.pauses = 5000;
    spinning!.rest(Infinity);
    assertEquals([state.pauses, state.tscKnown], [0, 0]);
  }
  assertEquals(slept.length, 8);
  for (let n = 1; n < 8; n++) assert(slept[n]! >= slept[n - 1]!);
  assert(slept[0]! < 0.05 && slept[7] === 0.2, `${slept}`);
  // One slice of work, and it has all its patience again.
  state.pauses = 3;
  spinning!.rest(Infinity);
  state.pauses = 5000;
  spinning!.rest(Infinity);
  assertEquals(slept.at(-1), slept[0]);
});

Deno.test("a vCPU that works does not rest, whatever few PAUSEs it meets", () => {
  const { state, told, spinning } = fixture();
  for (const pauses of [0, 1, 100, 500]) {
    state.pauses = pauses;
    spinning!.rest(Infinity);
    assertEquals(state.pauses, 0);
  }
  assertEquals(told, []);
});

Deno.test("an event that has risen since the last look ends a rest, and the time at which it is wanted", () => {
  const { state, slept, spinning } = fixture();
  spinning!.look();
  state.rises++;
  state.pauses = 5000;
  spinning!.rest(Infinity);
  assertEquals(slept, []);
  spinning!.look();
  state.pauses = 5000;
  spinning!.rest(state.nowNs + 7000);
  assertEquals(slept, [0.007]);
  state.pauses = 5000;
  spinning!.rest(state.nowNs - 1);
  assertEquals(slept, [0.007]);
});

Deno.test("while it rests nobody waits for it to obey", () => {
  const { state, told, spinning } = fixture();
  spinning!.look();
  state.pauses = 5000;
  spinning!.rest(Infinity);
  assertEquals(told.map((what) => typeof what === "number" ? "sleep" : what), [false, "sleep", true]);
});

Deno.test("a vCPU that is alone never rests", () => {
  assertEquals(fixture(1).spinning, null);
});
