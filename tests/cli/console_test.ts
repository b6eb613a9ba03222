/** The parts between a byte and a person that need no host: keys, line feeds, marks, back-logs. */
import { assert, assertEquals } from "@std/assert";
import { ConsoleWatch, statsJson } from "../../src/cli/stats.ts";
import { Backlog } from "../../src/host/serial_port.ts";
import { type Key, KeyFilter, LineFeedFilter } from "../../src/host/terminal_keys.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const text = (b: Uint8Array) => new TextDecoder().decode(b);

/** Every way to cut `whole` into three pieces. */
function* cuts(whole: string): Generator<string[]> {
  for (let i = 0; i <= whole.length; i++) {
    for (let j = i; j <= whole.length; j++) yield [whole.slice(0, i), whole.slice(i, j), whole.slice(j)];
  }
}

Deno.test("Ctrl-A: x leaves, h helps, Ctrl-A is sent, anything else is dropped; however the bytes arrive", () => {
  for (const pieces of cuts("a\x01xb\x01\x01\x01cd\x01h\x01\x01xe")) {
    const keys: Key[] = [];
    const filter = new KeyFilter((key) => keys.push(key));
    const out = pieces.map((piece) => text(filter.filter(bytes(piece)))).join("");
    assertEquals([out, keys], ["ab\x01d\x01xe", ["leave", "help"]], JSON.stringify(pieces));
  }
});

Deno.test("all other bytes pass the key filter unchanged", () => {
  const all = Uint8Array.from({ length: 256 }, (_, i) => i);
  const filter = new KeyFilter(() => {
    throw new Error("no key was meant");
  });
  assertEquals(filter.filter(all), all.filter((b) => b !== 1 && b !== 2)); // Ctrl-A Ctrl-B is an unknown key
  assertEquals(filter.filter(all.slice(2)), all.slice(2));
});

Deno.test("a bare LF becomes VT, CR LF stays, wherever the output is cut", () => {
  for (const pieces of cuts("\na\r\nb\nc\r\n\n\r")) {
    const filter = new LineFeedFilter();
    const out = pieces.map((piece) => text(filter.filter(bytes(piece)))).join("");
    assertEquals(out, "\x0ba\r\nb\x0bc\r\n\x0b\r", JSON.stringify(pieces));
  }
});

Deno.test("marks are found across pieces, once each, and end where their names do", () => {
  const output =
    "TRIKE-MARK:\nTTRIKE-MARK:init\r\nTRIKE-TRIKE-MARK:a.b_c-1 x\nTRIKE-MARK:init\nTRIKE-MARK:TRIKE-MARK:b\n";
  for (let size = 1; size < output.length; size++) {
    let now = 0;
    const watch = new ConsoleWatch(() => now);
    for (let at = 0; at < output.length; at += size) {
      now = at;
      watch.see(bytes(output.slice(at, at + size)));
    }
    assertEquals(Object.keys(watch.marks), ["init", "a.b_c-1", "TRIKE-MARK"], `pieces of ${size}`);
    const initEnds = output.indexOf("\r");
    assertEquals(watch.marks["init"], initEnds - initEnds % size);
    assertEquals(watch.firstByteSeconds, 0);
  }
});

Deno.test("a guest cannot make marks grow without bound", () => {
  const watch = new ConsoleWatch(() => 1);
  for (let i = 0; i < 5000; i++) watch.see(bytes(`TRIKE-MARK:m${i}\n`));
  assertEquals(Object.keys(watch.marks).length, 256);
  watch.see(bytes("TRIKE-MARK:" + "x".repeat(1_000_000)));
  assertEquals(Object.keys(watch.marks).filter((name) => name.length > 64), []);
});

Deno.test("marks named as Object's own properties are only names", () => {
  const watch = new ConsoleWatch(() => 2);
  watch.see(bytes("TRIKE-MARK:__proto__\nTRIKE-MARK:constructor\n"));
  const stats = JSON.parse(
    statsJson({ stats: () => ({}) }, watch, { engine: "soft", wallSeconds: 3, end: "poweroff" }),
  );
  assertEquals(Object.entries(stats.marks), [["__proto__", 2], ["constructor", 2]]);
  assertEquals(stats.wallSeconds, 3);
});

Deno.test("a back-log keeps the last bytes, in order", () => {
  for (const limit of [1, 5, 64]) {
    const backlog = new Backlog(limit);
    let whole = "";
    for (let i = 0; i < 40; i++) {
      const piece = String(i).repeat(i % 9);
      whole += piece;
      backlog.add(bytes(piece));
    }
    const kept = text(backlog.take());
    assertEquals(kept, whole.slice(-limit));
    assertEquals(backlog.take().length, 0);
    assert(kept.length <= limit);
  }
});
