/** Moves that are done without the software CPU, beside the software engine that runs the same program. */
import { assert, assertEquals } from "@std/assert";
import { DEVICE } from "../../../src/base/memory_map.ts";
import type { Engine } from "../../../src/engine/engine.ts";
import type { HvfVcpu } from "../../../src/engine/hvf/hvf.ts";
import { Move } from "../../../src/engine/hvf/moves.ts";
import { softEngine } from "../../../src/engine/soft/soft.ts";
import { DATA, MMIO_BASE, RAM_BYTES, Rig } from "../law_rig.ts";
import { doubledEngine, refusal } from "./double.ts";

let seed = 20240607;
const random = (n: number) => (seed = (seed * 1103515245 + 12345) % 0x8000_0000) % n;
const pick = <T>(list: readonly T[]): T => list[random(list.length)]!;
const bytes32 = (value: number) => [value & 255, (value >> 8) & 255, (value >> 16) & 255, (value >> 24) & 255];

/** Registers whose values make addresses: RBX and R13 the device's page and half a page on, RCX 3, R9 10h. */
const BASES = [3, 13], INDEXES = [1, 9, 4];
/** Registers that moves read and write. */
const OTHERS = [0, 2, 6, 7, 8, 10, 11, 12, 14, 15];

/** MOV r64, imm: [sdm2 MOV]. */
function set(register: number, value: number): number[] {
  return [0x48 | (register >> 3), 0xb8 | (register & 7), ...bytes32(value), 0, 0, 0, 0];
}

/** A move of any kind, size and address; where it goes is inside the device's first page. */
function move(): number[] {
  const register = pick(OTHERS), base = pick(BASES), index = pick(INDEXES);
  const form = pick(["88", "89", "8a", "8b", "c6", "c7", "b6", "b7", "be", "bf"]);
  const wide = random(3) === 0, rexW = random(2) === 0;
  // Without REX the registers 4 to 7 are AH to BH for bytes.
  const rex = 0x40 | (rexW ? 8 : 0) | (register & 8 ? 4 : 0) | (index & 8 ? 2 : 0) | (base & 8 ? 1 : 0);
  const mod = pick([1, 2]), displacement = mod === 1 ? random(64) * 2 : random(0x600);
  const isImmediate = form === "c6" || form === "c7";
  const reg = isImmediate ? 0 : register & 7;
  const out = wide ? [0x66, rex] : [rex];
  if (form[0] === "b") out.push(0x0f);
  out.push(parseInt(form, 16));
  if (random(2) === 0) out.push((mod << 6) | (reg << 3) | (base & 7));
  else out.push((mod << 6) | (reg << 3) | 4, (random(3) << 6) | ((index & 7) << 3) | (base & 7));
  out.push(...mod === 1 ? [displacement] : bytes32(displacement));
  if (form === "c6") out.push(random(256));
  else if (form === "c7") out.push(...bytes32(random(0x7fff_ffff) * 2 + 1).slice(0, wide && !rexW ? 2 : 4));
  return out;
}

const MOVES = 300;
function program(): Uint8Array {
  const out = [...set(3, MMIO_BASE), ...set(13, MMIO_BASE + 0x800), ...set(1, 3), ...set(9, 0x10)];
  OTHERS.forEach((register, i) => out.push(...set(register, 0x0102_0304 * (i + 1))));
  for (let i = 0; i < MOVES; i++) out.push(...move());
  // MOV [DATA + 8n], register, for each but RSP and RBP.
  for (const n of OTHERS) out.push(0x48 | (n & 8 ? 4 : 0), 0x89, 0x04 | ((n & 7) << 3), 0x25, ...bytes32(DATA + 8 * n));
  return Uint8Array.from([...out, 0xf4]);
}

function outcome(engine: Engine, code: Uint8Array, inputs: readonly number[]) {
  // With a map of memory, what is behind RAM is the board's.
  using rig = new Rig(engine, 0, [{ first: 0xb0, pages: 1, backing: DEVICE, writable: false }]);
  rig.board.inputs.push(...inputs);
  rig.long(code);
  rig.toHalt();
  return { log: [...rig.board.log], registers: rig.data(16), stats: (rig.vcpu as HvfVcpu).stats() };
}

Deno.test("hvf: moves to and from a device are the same without the software CPU as with it", () => {
  if (refusal !== null) return console.log(`skipped: ${refusal}`);
  const code = program(), inputs = Array.from({ length: 2 * MOVES }, () => random(0x7fff_ffff) * 2 + 1);
  const hvf = outcome(doubledEngine, code, inputs), soft = outcome(softEngine, code, inputs);
  assertEquals(hvf.log, soft.log);
  assertEquals(hvf.registers, soft.registers);
  const { mmio, direct, steps } = hvf.stats;
  assert(direct! >= MOVES && steps! + direct! === mmio, JSON.stringify({ mmio, direct, steps }));
});

Deno.test("hvf: an access that begins in RAM and ends in a device's page reaches both", () => {
  if (refusal !== null) return console.log(`skipped: ${refusal}`);
  const code = Uint8Array.from([
    ...[0xbb, ...bytes32(RAM_BYTES)], // mov ebx, RAM_BYTES
    ...[0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8], // mov rax, 0x0807060504030201
    ...[0x48, 0x89, 0x43, 0xfd], // mov [rbx - 3], rax
    ...[0x8b, 0x43, 0xfe], // mov eax, [rbx - 2]
    ...[0x89, 0x04, 0x25, ...bytes32(DATA)], // mov [DATA], eax
    ...[0x48, 0x8b, 0x03], // mov rax, [rbx]
    ...[0x89, 0x03], // mov [rbx], eax
    ...[0x48, 0x89, 0x04, 0x25, ...bytes32(DATA + 8)], // mov [DATA + 8], rax
    0xf4,
  ]);
  const inputs = [0x11, 0x2211, 0x8877_6655, 0x4433_2211, 0x1122_3344, 0x5566_7788];
  const hvf = outcome(doubledEngine, code, inputs), soft = outcome(softEngine, code, inputs);
  assertEquals([hvf.log, hvf.registers.slice(0, 2)], [soft.log, soft.registers.slice(0, 2)]);
  assert(hvf.log.length > 4, hvf.log.join());
});

Deno.test("what is no plain move in 64-bit code is left to the software CPU, as is what is cut off", () => {
  const refused = {
    "ADD [rbx], al": "0003",
    "LOCK prefix": "f08803",
    "segment FS": "648803",
    "32-bit address": "678803",
    "two prefixes 66H": "66668903",
    "between registers": "88c3",
    "MOV [rbx], ah": "8823",
    "MOV dh, [rbx]": "8a33",
    "opcode C7 /1": "c70b00000000",
    "XABORT": "c6f800",
    "absolute address": "a00000000000000000",
    "MOVZX between registers": "0fb6c3",
    "PUSH [rbx]": "ff33",
    "MOVAPS": "0f2803",
    "cut off in the displacement": "898311",
    "cut off in the immediate": "c70311",
    "cut off before ModRM": "48",
    "nothing": "",
  };
  const move = new Move();
  for (const [name, hex] of Object.entries(refused)) {
    const bytes = Uint8Array.fromHex(hex);
    assertEquals(move.read(bytes, 0, bytes.length), false, name);
  }
});

Deno.test("lengths of moves are those of their encodings", () => {
  const move = new Move();
  for (
    const hex of [
      "8803",
      "668903",
      "48894308",
      "4889840b00010000",
      "c643ff12",
      "66c7033412",
      "c70311223344",
      "48c743081122334",
      "0fb603",
      "480fbf4b02",
      "8a0425000000c1",
      "890500100000",
      "440fb64c8b10",
      "41c6450055",
    ]
  ) {
    const whole = hex.length % 2 === 0 ? hex : `${hex}4`, bytes = Uint8Array.fromHex(`${whole}cccccccccccc`);
    assert(move.read(bytes, 0, bytes.length), whole);
    assertEquals(move.length, whole.length / 2, whole);
  }
});
