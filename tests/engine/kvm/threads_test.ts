/** How threads bring each other out of KVM_RUN. */
import { assertEquals } from "@std/assert";
import { Alarm } from "../../../src/engine/kvm/alarm.ts";
import { Host } from "../../../src/engine/kvm/host.ts";
import { Threads } from "../../../src/engine/kvm/threads.ts";
import { allocateMachineMemory } from "../../../src/machine/memory.ts";

Deno.test({
  name: "a thread in KVM_RUN is signalled by another's poke, one outside of it is not, and none signals itself",
  ignore: Deno.build.os !== "linux" || Deno.build.arch !== "x86_64",
  async fn() {
    const memory = allocateMachineMemory(65536), host = new Host();
    const alarm = new Alarm(host, 250_000), threads = new Threads(host, memory);
    const worker = new Worker(new URL("./poke_worker.ts", import.meta.url), { type: "module" });
    const poked = async () => {
      const answer = new Promise((resolve) => worker.onmessage = resolve);
      worker.postMessage(memory);
      await answer;
      return alarm.take();
    };
    try {
      assertEquals(await poked(), false);
      threads.enter(0);
      assertEquals(await poked(), true);
      assertEquals(alarm.take(), false, "the signal is taken once");
      threads.poke(0);
      assertEquals(alarm.take(), false);
      threads.leave(0);
      assertEquals(await poked(), false);
    } finally {
      worker.terminate();
      alarm.close();
    }
  },
});

Deno.test({
  name: "an alarm ticks until it is disarmed",
  ignore: Deno.build.os !== "linux" || Deno.build.arch !== "x86_64",
  async fn() {
    const alarm = new Alarm(new Host(), 250_000);
    const wait = () => new Promise((resolve) => setTimeout(resolve, 20));
    try {
      assertEquals(alarm.take(), false);
      for (let i = 0; i < 2; i++) {
        alarm.arm(0, Infinity);
        await wait();
        assertEquals(alarm.take(), true);
      }
      alarm.disarm();
      alarm.take();
      await wait();
      assertEquals(alarm.take(), false);
    } finally {
      alarm.close();
    }
  },
});
