/**
 * LZ4 as WebAssembly over guest RAM: the packed bytes are put at the end of the room that the kernel asks for and unpacked
 * towards them, as the kernel's own loader does it. A kernel of 53 MB takes 96 ms, 28 of them for fresh pages;
 * `decompressLz4` takes 124 ms.
 *
 * This only ever succeeds or gives up: what is wrong with the data, `decompressLz4` says.
 *
 * Spec: [lz4-block] sequences; [lz4-frame §legacy].
 */
import type { Code } from "../../wasm/code.ts";
import { Module } from "../../wasm/module.ts";
import { LZ4_BLOCK_BYTES, LZ4_MAGIC } from "./lz4.ts";

/** What the 16-byte moves may read or write past what they were asked for. */
const SLACK = 32;
/** How much one call unpacks, about: V8 replaces its quick first code by fast code only between calls. */
const STEP_BYTES = 128 << 10;
/**
 * One function: unpacks the block that ends at `end` from `at` on, to `to`, where the block started at `start` and may go up
 * to `limit`; gives up its turn at `pause`. Returns where it stands in both; zeros: it gives up.
 */
type Block = (at: number, end: number, to: number, start: number, limit: number, pause: number) => [number, number];

/**
 * Unpacks `input` to exactly `sizeBytes` at `base` of `memory`, using the `roomBytes` from there. False: not done, and the
 * room is in no certain state.
 */
export function decompressLz4InPlace(
  memory: WebAssembly.Memory,
  base: number,
  sizeBytes: number,
  roomBytes: number,
  input: Uint8Array,
): boolean {
  const inputAt = base + roomBytes - SLACK - input.length;
  if (inputAt < base + 2 * SLACK || base + roomBytes > memory.buffer.byteLength) return false;
  new Uint8Array(memory.buffer, inputAt, input.length).set(input);
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(build()), { env: { memory } });
  const block = exports["block"] as Block;
  const view = new DataView(input.buffer, input.byteOffset, input.byteLength);
  const end = base + sizeBytes;
  let to = base;
  for (let at = 0; at + 4 <= input.length;) {
    const size = view.getUint32(at, true);
    at += 4;
    if (size === LZ4_MAGIC) continue;
    if (size > input.length - at) return false;
    const start = to;
    const limit = Math.min(end, start + LZ4_BLOCK_BYTES);
    for (let from = inputAt + at; from !== inputAt + at + size;) {
      [from, to] = block(from, inputAt + at + size, to, start, limit, to + STEP_BYTES);
      [from, to] = [from >>> 0, to >>> 0]; // WebAssembly's integers come back signed
      if (from === 0) return false;
    }
    at += size;
  }
  return to === end;
}

function build(): Uint8Array<ArrayBuffer> {
  const module = new Module();
  module.importMemory("env", "memory", 1, 65536);
  module.export(module.func("block", ["i32", "i32", "i32", "i32", "i32", "i32"], ["i32", "i32"], emitBlock));
  return module.bytes(false);
}

function emitBlock(c: Code): void {
  const at = c.paramVar(0);
  const end = c.param(1);
  const to = c.paramVar(2);
  const start = c.param(3);
  const limit = c.param(4);
  const pause = c.param(5);
  const lastFastIn = c.let(end.sub(SLACK));
  const length = c.variable("i32");
  const from = c.variable("i32");
  const last = c.variable("i32");
  const more = c.variable("i32");

  const giveUpIf = (condition: ReturnType<typeof at.get>) => c.if(condition, () => c.return(0, 0));
  /** A length of 15 goes on in the next byte, and one of 255 in the one after that. */
  const readLength = () =>
    c.if(length.get().eq(15), () =>
      c.loop((again) => {
        giveUpIf(at.get().geU(end));
        more.set(c.ld8u(at.get()));
        at.set(at.get().add(1));
        length.set(length.get().add(more.get()));
        c.brIf(again, more.get().eq(255));
      }));

  c.loop((next) => {
    c.if(at.get().geU(end).or(to.get().geU(pause)), () => c.return(at.get(), to.get()));
    const token = c.ld8u(at.get());
    at.set(at.get().add(1));
    length.set(token.shrU(4));
    readLength();
    giveUpIf(length.get().gtU(end.sub(at.get())).or(length.get().gtU(limit.sub(to.get()))));
    c.if(length.get().leU(16).and(at.get().ltU(lastFastIn)), () => {
      c.stV(to.get(), c.ldV(at.get()));
    }, () => {
      c.copy(to.get(), at.get(), length.get());
    });
    at.set(at.get().add(length.get()));
    to.set(to.get().add(length.get()));
    c.if(at.get().eq(end), () => c.return(at.get(), to.get())); // the last sequence has no match

    giveUpIf(end.sub(at.get()).ltU(2));
    const distance = c.ld16u(at.get());
    at.set(at.get().add(2));
    length.set(token.and(15));
    readLength();
    length.set(length.get().add(4));
    giveUpIf(distance.eqz().or(distance.gtU(to.get().sub(start))).or(length.get().gtU(limit.sub(to.get()))));
    last.set(to.get().add(length.get()));
    // The next sequence's literals may be written 16 bytes beyond this, and nothing unread may be overwritten.
    giveUpIf(last.get().add(2 * SLACK).gtU(at.get()));
    from.set(to.get().sub(distance));
    const move = (bytes: 1 | 16) =>
      c.loop((again) => {
        if (bytes === 16) c.stV(to.get(), c.ldV(from.get()));
        else c.st8(to.get(), c.ld8u(from.get()));
        from.set(from.get().add(bytes));
        to.set(to.get().add(bytes));
        c.brIf(again, to.get().ltU(last.get()));
      });
    c.if(distance.geU(16), () => move(16), () => move(1));
    to.set(last.get());
    c.br(next);
  });
  c.unreachable();
}
