import { assert, assertEquals } from "@std/assert";
import { Arena } from "../../src/base/arena.ts";
import { MachineLock } from "../../src/base/lock.ts";
import { Timers } from "../../src/base/timers.ts";
import { type ExitReason, type Vcpu, VcpuEvent } from "../../src/engine/engine.ts";
import { CLOCK_BYTES, HostClock, IcountClock } from "../../src/host/host_clock.ts";
import { Control, EndCause, RunState } from "../../src/machine/control.ts";
import { Counters, Exit } from "../../src/machine/counters.ts";
import { runVcpu } from "../../src/machine/vcpu_loop.ts";

/** A machine of one vCPU whose every `run` is a step of `script`; when the steps are over, it asks the machine to leave. */
function machine(script: ((untilNs: number) => ExitReason)[], icount = false) {
  const arena = Arena.private();
  const control = new Control(arena, 1);
  const counters = new Counters(arena, 1);
  const clockAt = arena.raw(CLOCK_BYTES);
  const ic = icount ? new IcountClock(arena.buffer, clockAt) : null;
  const clock = ic ?? new HostClock(arena.buffer, clockAt);
  const timers = new Timers(arena);
  timers.onEarlier = (ns) => {
    if (ns < control.untilNs) control.raise(0, VcpuEvent.KICK);
  };
  const vcpu: Vcpu = {
    reset() {},
    setState() {},
    run(untilNs) {
      const step = script.shift();
      if (step) return step(untilNs);
      control.end(EndCause.STOPPED);
      return "kick";
    },
    stats: () => ({}),
    describe: () => "rip=0000000000001234\nand more",
    lastError: new Error("no luck"),
  };
  const go = () => {
    clock.start();
    control.change(RunState.LEAVE, RunState.RUN);
    return runVcpu({
      index: 0,
      vcpu,
      control,
      clock,
      icount: ic,
      timers,
      lock: MachineLock.private(),
      counters: counters.of(0),
    });
  };
  return { control, counters, clock, timers, go };
}

Deno.test("HLT sleeps until the next timer, whose callback runs before the guest does", () => {
  const seen: string[] = [];
  const m = machine([() => "halt", () => {
    seen.push("guest");
    return "slice";
  }]);
  const timer = m.timers.timer("t", () => {
    seen.push("timer");
    m.control.raise(0, VcpuEvent.INTR);
  });
  timer.arm(3e6);
  const t0 = performance.now();
  assertEquals(m.go(), null);
  assert(performance.now() - t0 >= 2.9, "slept too little");
  assertEquals(seen, ["timer", "guest"]);
  assertEquals(m.counters.of(0)[Exit.halt], 1);
});

Deno.test("HLT with an event that came in during run does not sleep", () => {
  const m = machine([() => {
    m.control.raise(0, VcpuEvent.INTR);
    return "halt";
  }]);
  const t0 = performance.now();
  m.timers.timer("far", () => {}).arm(60e9);
  m.go();
  assert(performance.now() - t0 < 1000, "overslept");
});

Deno.test("HLT does not sleep through a second interrupt that leaves the event word as the first found it", () => {
  const m = machine([() => {
    m.control.lower(0, VcpuEvent.INTR); // the first is taken
    m.control.raise(0, VcpuEvent.INTR);
    return "halt";
  }]);
  m.control.raise(0, VcpuEvent.INTR);
  const t0 = performance.now();
  m.timers.timer("far", () => {}).arm(3e9);
  m.go();
  assert(performance.now() - t0 < 1000, "overslept");
});

Deno.test("HLT with a masked interrupt sleeps instead of spinning", () => {
  let runs = 0;
  const masked = () => {
    runs++;
    return "halt" as const;
  };
  const m = machine([masked, masked, masked, masked]);
  const timer = m.timers.timer("tick", () => timer.arm(m.clock.nowNs() + 2e6));
  timer.arm(2e6);
  m.control.raise(0, VcpuEvent.INTR);
  const t0 = performance.now();
  m.go();
  assert(performance.now() - t0 >= 3 * 1.9, "spun");
  assertEquals(runs, 4);
});

Deno.test("a timer armed during run for before the slice's end makes the loop look again", () => {
  const slices: number[] = [];
  const m = machine([(until) => {
    slices.push(until);
    timer.arm(1);
    assert(Atomics.load(m.control.events, 0) & VcpuEvent.KICK, "not kicked");
    return "kick";
  }]);
  let fired = 0;
  const timer = m.timers.timer("t", () => fired++);
  m.go();
  assertEquals([slices, fired], [[Infinity], 1]);
  assertEquals(Atomics.load(m.control.events, 0) & ~VcpuEvent.KICK, 0);
});

Deno.test("a timer that is always due leaves the guest a slice", () => {
  const lengths: number[] = [];
  const step = (until: number): ExitReason => {
    lengths.push(until - m.clock.nowNs());
    return "slice";
  };
  const m = machine([step, step, step], true);
  const timer = m.timers.timer("storm", () => timer.arm(0));
  timer.arm(0);
  m.go();
  assertEquals(lengths, [1000, 1000, 1000]);
});

Deno.test("icount: HLT moves guest time to exactly the next deadline", () => {
  const times: number[] = [];
  const m = machine([() => "halt", () => {
    times.push(m.clock.nowNs());
    return "slice";
  }], true);
  m.timers.timer("t", () => times.push(m.clock.nowNs())).arm(123_457);
  m.go();
  assertEquals(times, [123_457, 123_457]);
});

Deno.test("shutdown ends the machine and says where", () => {
  const m = machine([() => "shutdown"]);
  assertEquals(m.go(), "triple fault on vCPU 0: rip=0000000000001234");
  assertEquals(m.control.endCause, EndCause.SHUTDOWN);
});

Deno.test("an engine's failure ends the machine with its message", () => {
  const m = machine([() => "error"]);
  assertEquals(m.go(), "vCPU 0 failed: no luck");
  assertEquals(m.control.endCause, EndCause.HOST_ERROR);
});

Deno.test("the first cause of the end counts", () => {
  const control = new Control(Arena.private(), 1);
  assert(control.end(EndCause.DEBUG_EXIT, 7));
  assert(!control.end(EndCause.POWEROFF));
  assertEquals([control.endCause, control.endCode], [EndCause.DEBUG_EXIT, 7]);
});
