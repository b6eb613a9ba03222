/** Answers with its idea of guest time whenever asked. */
import { CLOCK_BYTES, HostClock } from "../../src/host/host_clock.ts";

const scope = self as unknown as {
  onmessage: ((e: MessageEvent<SharedArrayBuffer>) => void) | null;
  postMessage(message: string): void;
};

scope.onmessage = (e) => {
  const clock = new HostClock(e.data, 0);
  const word = new Int32Array(e.data, CLOCK_BYTES, 2);
  scope.postMessage("ready");
  for (let i = 0; i < 5; i++) {
    Atomics.wait(word, 0, 0);
    new Float64Array(e.data, 56, 1)[0] = clock.nowNs();
    Atomics.store(word, 0, 0);
    Atomics.notify(word, 0);
  }
};
