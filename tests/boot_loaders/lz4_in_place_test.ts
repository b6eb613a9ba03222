import { assert, assertEquals } from "@std/assert";
import { GuestRam } from "../../src/base/ram.ts";
import { decompressLz4InPlace } from "../../src/boot/decompress/lz4_in_place.ts";
import { loadKernel } from "../../src/boot/load_kernel.ts";
import { Bench, bzImageFile, codeLike, vmlinuxFile, withSize } from "./images.ts";
import { pack, PACKERS } from "./packers.ts";

const MIB = 1 << 20;
const BASE = 65536;
const GUARD = 0xa5;

/** What no packer makes shorter. */
function noise(length: number): Uint8Array {
  let x = 1;
  return new Uint8Array(length).map(() => (x = (Math.imul(x, 1664525) + 1013904223) >>> 0) >>> 24);
}

/** Unpacks in a memory full of GUARD; what it says, and whether the result is `plain` and nothing outside the room changed. */
function run(
  packed: Uint8Array,
  plain: Uint8Array,
  roomBytes: number,
): { done: boolean; right: boolean; kept: boolean } {
  const pages = Math.ceil((BASE + roomBytes) / 65536) + 1;
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  const bytes = new Uint8Array(memory.buffer).fill(GUARD);
  const done = decompressLz4InPlace(memory, BASE, plain.length, roomBytes, packed);
  return {
    done,
    right: plain.every((byte, i) => bytes[BASE + i] === byte),
    kept: bytes.subarray(0, BASE).every((byte) => byte === GUARD) &&
      bytes.subarray(BASE + roomBytes).every((byte) => byte === GUARD),
  };
}

for (const packer of PACKERS.filter(({ packing }) => packing === "lz4")) {
  Deno.test(`decompressLz4InPlace restores what ${packer.line} packed, or gives up if the room is small`, async () => {
    // More than one block of 8 MiB, and few repetitions: the packed bytes are nearly as long.
    for (
      const plain of [
        codeLike(9 * MIB),
        codeLike(100),
        new Uint8Array(3 * MIB),
        noise(60_000),
      ]
    ) {
      const packed = await pack(packer, plain);
      if (packed === null) return void console.log(`skipped: ${packer.command} is not installed`);
      assertEquals(run(packed, plain, plain.length + packed.length + 200), { done: true, right: true, kept: true });
      if (plain.length > MIB) continue;
      assertEquals(run(packed, plain.subarray(1), plain.length + packed.length + 200).done, false);
      for (const room of [0, 40, packed.length, packed.length + 64, plain.length, plain.length + 100]) {
        const { done, right, kept } = run(packed, plain, room);
        assert(kept && (right || !done), `with a room of ${room} bytes`);
      }
    }
  });

  Deno.test(`decompressLz4InPlace keeps to its room whatever byte of ${packer.line} is damaged`, async () => {
    const plain = codeLike(2000);
    const packed = await pack(packer, plain);
    if (packed === null) return void console.log(`skipped: ${packer.command} is not installed`);
    const memory = new WebAssembly.Memory({ initial: 2, maximum: 2, shared: true });
    const bytes = new Uint8Array(memory.buffer).fill(GUARD);
    const room = plain.length + packed.length + 200;
    for (let at = 0; at < packed.length; at++) {
      const damaged = packed.slice();
      damaged[at]! ^= at % 2 === 0 ? 0xff : 0x0f;
      decompressLz4InPlace(memory, BASE, plain.length, room, damaged);
    }
    assert(bytes.subarray(0, BASE).every((byte) => byte === GUARD));
    assert(bytes.subarray(BASE + room).every((byte) => byte === GUARD));
  });
}

Deno.test("loadKernel leaves the same RAM with and without a memory to unpack in", async () => {
  const vmlinux = vmlinuxFile(codeLike(600_000));
  const packed = await pack(PACKERS.find(({ packing }) => packing === "lz4")!, vmlinux);
  if (packed === null) return void console.log("skipped: lz4 is not installed");
  using bench = new Bench();
  const path = bench.file("vmlinuz", bzImageFile({ payload: withSize(packed, vmlinux.length) }));
  loadKernel(bench.ram, bench.options(path));
  const memory = new WebAssembly.Memory({ initial: 257, maximum: 257, shared: true });
  const ram = new GuestRam(memory.buffer, 65536, 16 * MIB);
  ram.bytes(0, 16 * MIB)!.fill(0xff);
  loadKernel(ram, bench.options(path, { memory }));
  const [a, b] = [bench.ram.bytes(0, 16 * MIB)!, ram.bytes(0, 16 * MIB)!];
  assert(a.every((byte, i) => byte === b[i]));
});
