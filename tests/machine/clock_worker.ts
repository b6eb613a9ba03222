/** Answers with its idea of guest time whenever asked. */
import { CLOCK_BYTES, HostClock } from "../../src/host/host_clock.ts";

self.onmessage = (e: MessageEvent<SharedArrayBuffer>) => {
  const clock = new HostClock(e.data, 0);
  const word = new Int32Array(e.data, CLOCK_BYTES, 2);
  self.postMessage("ready");
  for (let i = 0; i < 5; i++) {
    Atomics.wait(word, 0, 0);
    new Float64Array(e.data, 56, 1)[0] = clock.nowNs();
    Atomics.store(word, 0, 0);
    Atomics.notify(word, 0);
  }
};
