/** Litmus shapes: what several vCPUs do to two cells, and what the manual does not let them see: [sdm3 §9.2]. */
import { ARRAY, CELL, Guest, RAM_BYTES, type Thread } from "./guest.ts";

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

export interface Shape {
  readonly name: string;
  readonly bodies: readonly (readonly number[])[];
  /** Which words of a cell's result make the outcome, in this order. */
  readonly kept: readonly number[];
  readonly forbidden: readonly string[];
}

const storeBuffering = (between: number[]) => [
  [...STORE_X, ...between, ...A_FROM_Y, ...keepA(0)],
  [...STORE_Y, ...between, ...A_FROM_X, ...keepA(1)],
];

/** Both may miss the other's store: the one shape with nothing to forbid. */
export const STORE_BUFFERING: Shape = {
  name: "store buffering",
  bodies: storeBuffering([]),
  kept: [0, 8],
  forbidden: [],
};

export const SHAPES: readonly Shape[] = [
  { name: "store buffering with MFENCE", bodies: storeBuffering(MFENCE), kept: [0, 8], forbidden: ["00"] },
  {
    name: "store buffering with a locked instruction",
    bodies: storeBuffering(LOCK_ADD),
    kept: [0, 8],
    forbidden: ["00"],
  },
  {
    name: "store buffering with XCHG",
    bodies: [[...XCHG_X, ...A_FROM_Y, ...keepA(0)], [...XCHG_Y, ...A_FROM_X, ...keepA(1)]],
    kept: [0, 8],
    forbidden: ["00"],
  },
  {
    name: "load buffering: a store is not seen before the load in front of it",
    bodies: [[...A_FROM_X, ...STORE_Y, ...keepA(0)], [...A_FROM_Y, ...STORE_X, ...keepA(1)]],
    kept: [0, 8],
    forbidden: ["11"],
  },
  {
    name: "message passing: stores are seen in their order",
    bodies: [[...STORE_X, ...STORE_Y], [...A_FROM_Y, ...C_FROM_X, ...keepA(1), ...keepC(1)]],
    kept: [8, 12],
    forbidden: ["10"],
  },
  {
    name: "coherence: of two loads of a cell the second does not see the older value",
    bodies: [[...STORE_X, ...STORE_X2], [...A_FROM_X, ...C_FROM_X, ...keepA(1), ...keepC(1)]],
    kept: [8, 12],
    forbidden: ["10", "20", "21"],
  },
  {
    name: "independent reads of independent writes: all see stores in one order",
    bodies: [
      STORE_X,
      STORE_Y,
      [...A_FROM_X, ...C_FROM_Y, ...keepA(2), ...keepC(2)],
      [...A_FROM_Y, ...C_FROM_X, ...keepA(3), ...keepC(3)],
    ],
    kept: [16, 20, 24, 28],
    forbidden: ["1010"],
  },
];

/** The most cells that a guest has room for. */
export const MAX_CELLS = Math.floor((RAM_BYTES - ARRAY) / 3 / CELL);

/** Runs a shape; how often each outcome came. */
export async function outcomes(shape: Shape, cells: number, compiled: boolean): Promise<Map<string, number>> {
  const guest = new Guest(), x = ARRAY, y = x + cells * CELL, results = y + cells * CELL;
  await guest.run(
    shape.bodies.map((body): Thread => ({ body, r12: x, r13: y, r14: results })),
    cells,
    { compiled },
  );
  const counts = new Map<string, number>();
  for (let i = 0; i < cells; i++) {
    const key = shape.kept.map((at) => guest.ram.read(results + i * CELL + at, 4)).join("");
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  return counts;
}
