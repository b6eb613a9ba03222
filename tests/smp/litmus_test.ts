/**
 * Litmus tests: what several vCPUs may see of each other's loads and stores: [sdm3 §9.2]. Each shape runs on 100,000 cells; no
 * outcome that the manual forbids may appear in one of them.
 */
import { assertEquals } from "@std/assert";
import { ARRAY, CELL, Guest, type Thread } from "./guest.ts";

const CELLS = 100_000;
const X = ARRAY, Y = X + CELLS * CELL, RESULTS = Y + CELLS * CELL;

const STORE_X = [0x41, 0xc7, 0x04, 0x1c, 1, 0, 0, 0]; // mov dword [r12 + rbx], 1
const STORE_Y = [0x41, 0xc7, 0x44, 0x1d, 0, 1, 0, 0, 0];
const STORE_X2 = [0x41, 0xc7, 0x04, 0x1c, 2, 0, 0, 0];
const A_FROM_X = [0x41, 0x8b, 0x04, 0x1c], C_FROM_X = [0x41, 0x8b, 0x0c, 0x1c]; // mov eax (ecx), [r12 + rbx]
const A_FROM_Y = [0x41, 0x8b, 0x44, 0x1d, 0], C_FROM_Y = [0x41, 0x8b, 0x4c, 0x1d, 0];
/** Results of vCPU n: EAX at 8n of the cell's result, ECX at 8n + 4. */
const keepA = (n: number) => [0x41, 0x89, 0x44, 0x1e, 8 * n],
  keepC = (n: number) => [0x41, 0x89, 0x4c, 0x1e, 8 * n + 4];
const MFENCE = [0x0f, 0xae, 0xf0], LOCK_ADD = [0xf0, 0x83, 0x04, 0x24, 0]; // lock add dword [rsp], 0
const XCHG_X = [0xb8, 1, 0, 0, 0, 0x41, 0x87, 0x04, 0x1c], XCHG_Y = [0xb8, 1, 0, 0, 0, 0x41, 0x87, 0x44, 0x1d, 0];

/** Runs a shape; how often each outcome came: the kept registers of all vCPUs, in order. */
async function outcomes(bodies: number[][], kept: readonly number[]): Promise<Map<string, number>> {
  const guest = new Guest();
  await guest.run(bodies.map((body): Thread => ({ body, r12: X, r13: Y, r14: RESULTS })), CELLS);
  const counts = new Map<string, number>();
  for (let i = 0; i < CELLS; i++) {
    const key = kept.map((at) => guest.ram.read(RESULTS + i * CELL + at, 4)).join("");
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  return counts;
}

async function forbids(bodies: number[][], kept: readonly number[], forbidden: string): Promise<void> {
  const counts = await outcomes(bodies, kept);
  assertEquals(counts.get(forbidden) ?? 0, 0, JSON.stringify([...counts]));
  assertEquals([...counts.values()].reduce((a, b) => a + b), CELLS);
}

Deno.test("store buffering: both may miss the other's store, unless something orders them", async (t) => {
  const shape = (between: number[]) => [
    [...STORE_X, ...between, ...A_FROM_Y, ...keepA(0)],
    [...STORE_Y, ...between, ...A_FROM_X, ...keepA(1)],
  ];
  const counts = await outcomes(shape([]), [0, 8]);
  console.log(`store buffering was seen ${counts.get("00") ?? 0} times in ${CELLS}`);
  await t.step("MFENCE", () => forbids(shape(MFENCE), [0, 8], "00"));
  await t.step("a locked instruction", () => forbids(shape(LOCK_ADD), [0, 8], "00"));
  await t.step(
    "XCHG",
    () => forbids([[...XCHG_X, ...A_FROM_Y, ...keepA(0)], [...XCHG_Y, ...A_FROM_X, ...keepA(1)]], [0, 8], "00"),
  );
});

Deno.test("load buffering: a store is not seen before the load in front of it", () =>
  forbids([[...A_FROM_X, ...STORE_Y, ...keepA(0)], [...A_FROM_Y, ...STORE_X, ...keepA(1)]], [0, 8], "11"));

Deno.test("message passing: stores are seen in their order", () =>
  forbids([[...STORE_X, ...STORE_Y], [...A_FROM_Y, ...C_FROM_X, ...keepA(1), ...keepC(1)]], [8, 12], "10"));

Deno.test("coherence: of two loads of a cell the second does not see the older value", async () => {
  const bodies = [[...STORE_X, ...STORE_X2], [...A_FROM_X, ...C_FROM_X, ...keepA(1), ...keepC(1)]];
  const counts = await outcomes(bodies, [8, 12]);
  for (const forbidden of ["10", "20", "21"]) {
    assertEquals(counts.get(forbidden), undefined, JSON.stringify([...counts]));
  }
});

Deno.test("independent reads of independent writes: all see stores in one order", () =>
  forbids(
    [
      STORE_X,
      STORE_Y,
      [...A_FROM_X, ...C_FROM_Y, ...keepA(2), ...keepC(2)],
      [...A_FROM_Y, ...C_FROM_X, ...keepA(3), ...keepC(3)],
    ],
    [16, 20, 24, 28],
    "1010",
  ));
