import { assert, assertEquals } from "@std/assert";
import { CLOCK_BYTES, HostClock, IcountClock } from "../../src/host/host_clock.ts";

function sleep(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

Deno.test("HostClock stands still until started and while stopped", () => {
  const clock = new HostClock(new SharedArrayBuffer(CLOCK_BYTES), 0);
  assertEquals(clock.nowNs(), 0);
  clock.start();
  sleep(3);
  clock.stop();
  const at = clock.nowNs();
  assert(at >= 2.9e6 && at < 2e9, `${at}`);
  sleep(3);
  assertEquals(clock.nowNs(), at);
  clock.start();
  const again = clock.nowNs();
  assert(again >= at && again < at + 1e9, `${again} after ${at}`);
});

Deno.test("HostClock: two views of one clock agree and never go back", () => {
  const memory = new SharedArrayBuffer(CLOCK_BYTES);
  const a = new HostClock(memory, 0), b = new HostClock(memory, 0);
  a.start();
  let last = 0;
  for (let i = 0; i < 1000; i++) {
    for (const clock of [a, b]) {
      const now = clock.nowNs();
      assert(Number.isInteger(now) && now >= last);
      last = now;
    }
  }
});

Deno.test("HostClock.set moves guest time, and it goes on from there", () => {
  const clock = new HostClock(new SharedArrayBuffer(CLOCK_BYTES), 0);
  clock.start();
  clock.stop();
  clock.set(5e12);
  assertEquals(clock.nowNs(), 5e12);
  clock.start();
  const now = clock.nowNs();
  assert(now >= 5e12 && now < 5e12 + 1e9);
});

Deno.test("HostClock: a Worker's origin differs, its guest time does not", async () => {
  const memory = new SharedArrayBuffer(CLOCK_BYTES + 8);
  const clock = new HostClock(memory, 0);
  clock.start();
  const worker = new Worker(new URL("./clock_worker.ts", import.meta.url), { type: "module" });
  const word = new Int32Array(memory, CLOCK_BYTES, 2);
  await new Promise<void>((resolve) => {
    worker.onmessage = () => resolve();
    worker.postMessage(memory);
  });
  for (let i = 0; i < 5; i++) {
    const before = clock.nowNs();
    Atomics.store(word, 0, 1);
    Atomics.notify(word, 0);
    Atomics.wait(word, 0, 1, 5000);
    const after = clock.nowNs();
    const theirs = new Float64Array(memory, 56, 1)[0]!;
    assert(theirs >= before - 20_000 && theirs <= after + 20_000, `${before} ${theirs} ${after}`);
  }
  worker.terminate();
});

Deno.test("IcountClock shows what the engine says and nothing else", () => {
  const clock = new IcountClock(new SharedArrayBuffer(CLOCK_BYTES), 0);
  clock.start();
  sleep(2);
  assertEquals(clock.nowNs(), 0);
  clock.setNs(77);
  assertEquals(clock.nowNs(), 77);
  assert(clock.hostNsUntil(60e9) > 0);
  assertEquals(clock.hostNsUntil(1), 0);
});
