/** What holds for any device, whatever it does: tried with seeded random accesses, inputs and passing time. */
import { assert, assertEquals } from "@std/assert";
import { ones } from "../../src/base/bus.ts";
import { RestoreError } from "../../src/base/errors.ts";
import { Bench, Random, type Subject, type Target } from "./bench.ts";
import { INTERRUPT_SUBJECTS } from "./interrupt_subjects.ts";
import { FIRMWARE_SUBJECTS } from "./firmware_subjects.ts";
import { LEGACY_SUBJECTS } from "./legacy_subjects.ts";
import { NET_SUBJECTS } from "./net_subjects.ts";
import { PCI_SUBJECTS } from "./pci_subjects.ts";
import { SERVICE_SUBJECTS } from "./service_subjects.ts";
import { STORAGE_SUBJECTS } from "./storage_subjects.ts";

const SUBJECTS: readonly Subject[] = [
  ...LEGACY_SUBJECTS,
  ...FIRMWARE_SUBJECTS,
  ...INTERRUPT_SUBJECTS,
  ...PCI_SUBJECTS,
  ...STORAGE_SUBJECTS,
  ...NET_SUBJECTS,
  ...SERVICE_SUBJECTS,
];

const SEEDS = [1, 2, 3, 4];
const STEPS = 1500;

for (const subject of SUBJECTS) {
  Deno.test(`${subject.name}: no access throws, and what is read fits its width`, () => {
    for (const seed of SEEDS) run(new Bench(subject), new Random(seed), STEPS);
  });

  Deno.test(`${subject.name}: its state can be restored at any time`, () => {
    const bench = new Bench(subject), random = new Random(6);
    for (let i = 0; i < STEPS; i++) {
      run(bench, random, 1);
      bench.arena.restore(bench.arena.save());
    }
  });

  Deno.test(`${subject.name}: equal seeds give equal traces`, () => {
    const once = run(new Bench(subject), new Random(9), STEPS);
    assertEquals(run(new Bench(subject), new Random(9), STEPS), once);
  });

  Deno.test(`${subject.name}: a restored device goes on as the saved one does`, () => {
    // Many short runs: what a restore missed shows soon after, or is soon overwritten.
    for (let seed = 1; seed <= 40; seed++) {
      const first = new Bench(subject), second = new Bench(subject);
      run(first, new Random(seed), 100 + 7 * seed);
      run(second, new Random(seed + 100), 50); // its state is another's
      first.mounted.settle?.();
      first.takeTrace();
      const saved = first.arena.save();
      // Armed timers, too, must follow from the device's record.
      for (const s of saved) if (s.kind === "timer") new Float64Array(s.bytes.buffer)[0] = Infinity;
      second.arena.restore(saved);
      second.time.jump(Math.max(0, first.time.nowNs() - second.time.nowNs()));
      first.time.jump(second.time.nowNs() - first.time.nowNs());
      first.mounted.settle?.();
      second.mounted.settle?.();
      first.takeTrace();
      second.takeTrace();
      assertEquals(second.levels(), first.levels(), `seed ${seed}: lines after restore`);
      compare(run(second, new Random(seed + 200), 150), run(first, new Random(seed + 200), 150), seed);
    }
  });

  Deno.test(`${subject.name}: power-on values make a used device a new one`, () => {
    for (const seed of SEEDS) {
      const used = new Bench(subject), fresh = new Bench(subject);
      run(used, new Random(seed), STEPS);
      fresh.time.jump(used.time.nowNs());
      used.powerOn();
      fresh.powerOn();
      used.takeTrace();
      fresh.takeTrace();
      assertEquals(used.levels(), fresh.levels());
      compare(run(used, new Random(seed), 400), run(fresh, new Random(seed), 400), seed);
    }
  });

  Deno.test(`${subject.name}: its state neither grows nor shrinks`, () => {
    const bench = new Bench(subject);
    const sizes = () => bench.arena.save().map((s) => [s.id, s.bytes.length]);
    const before = sizes();
    run(bench, new Random(5), STEPS);
    assertEquals(sizes(), before);
  });

  Deno.test(`${subject.name}: a corrupt snapshot is refused or does no harm`, () => {
    const saved = new Bench(subject).arena.save();
    if (saved.length === 0) return;
    let accepted = 0;
    for (let seed = 1; seed <= 40; seed++) {
      const random = new Random(seed);
      const corrupt = saved.map((s) => ({ ...s, bytes: s.bytes.slice() }));
      for (let i = random.below(8); i >= 0; i--) {
        const bytes = random.pick(corrupt).bytes;
        bytes[random.below(bytes.length)] = random.pick([0xff, 0x7f, random.below(256)]);
      }
      const bench = new Bench(subject);
      try {
        bench.arena.restore(corrupt);
      } catch (error) {
        assert(error instanceof RestoreError, `${error}`);
        continue;
      }
      accepted++;
      bench.mounted.settle?.();
      bench.takeTrace();
      run(bench, random, 100);
    }
    assert(accepted > 0, "every corruption was refused: the law tried nothing");
  });
}

/** Does `steps` random things to the device; returns what came of each. */
function run(bench: Bench, random: Random, steps: number): string[] {
  const trace: string[] = [];
  for (let i = 0; i < steps; i++) {
    const what = step(bench, random);
    trace.push(`${what}: ${bench.takeTrace()}`);
  }
  trace.push(bench.levels());
  return trace;
}

function step(bench: Bench, random: Random): string {
  const { targets, inputs } = bench.mounted;
  const kind = random.below(100);
  if (kind < 65) return access(random.pick(targets), random);
  if (kind < 80 && inputs && inputs.length > 0) {
    const n = random.below(inputs.length);
    inputs[n]!(random);
    return `input ${n}`;
  }
  if (kind < 95) { // from nanoseconds to a millisecond, with the timers on time
    const ns = random.below(10 ** random.below(7));
    advance(bench, ns);
    return `advance ${ns}`;
  }
  // The host stalls: up to half an hour, and the timers are late.
  const ns = random.below(2000) * 10 ** random.below(10);
  bench.time.jump(ns);
  if (random.chance(70)) bench.timers.runDue(bench.time.nowNs());
  return `jump ${ns}`;
}

/** Lets time pass in small bites, so that the bound on what a device does is one for each. */
function advance(bench: Bench, ns: number): void {
  const end = bench.time.nowNs() + ns;
  for (let i = 0; bench.time.nowNs() < end; i++) {
    assert(i < 100, "the device arms timers without end");
    bench.time.advance(Math.min(50_000, end - bench.time.nowNs()));
  }
}

function access(target: Target, random: Random): string {
  const size = random.pick([1, 1, 1, 2, 4]);
  const registers = Object.values(target.registers ?? {});
  const offset = registers.length > 0 && random.chance(80) ? random.pick(registers).at : random.below(target.bytes);
  if (random.chance(50)) {
    const value = target.region.read(offset, size);
    assert(
      Number.isInteger(value) && value >= 0 && value <= ones(size),
      `${target.name}+${offset} read ${value} in ${size} bytes`,
    );
    return `${target.name}+${offset} read ${size} ${value}`;
  }
  const value = (valueFor(random) & ones(size)) >>> 0;
  target.region.write(offset, size, value);
  return `${target.name}+${offset} write ${size} ${value}`;
}

function valueFor(random: Random): number {
  switch (random.below(5)) {
    case 0:
      return 0;
    case 1:
      return 1 << random.below(32);
    case 2:
      return random.below(16);
    case 3:
      return ~(1 << random.below(32));
    default:
      return random.next();
  }
}

/** Shows the first step that differs, not thousands of equal ones. */
function compare(actual: string[], expected: string[], seed: number): void {
  const n = actual.findIndex((line, i) => line !== expected[i]);
  if (n >= 0) {
    assertEquals(
      actual.slice(Math.max(0, n - 3), n + 1),
      expected.slice(Math.max(0, n - 3), n + 1),
      `seed ${seed}, step ${n}`,
    );
  }
  assertEquals(actual.length, expected.length);
}
