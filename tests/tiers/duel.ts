/**
 * The second tier beside the first: a program on a vCPU whose code is compiled as soon as it is found, and on one that is
 * interpreted one instruction at a time. Whenever the first comes to a stop, or takes an interrupt, the second goes on until it
 * has retired as many instructions, and must be in the same state.
 */
import { VcpuEvent } from "../../src/engine/engine.ts";
import { Random } from "../diff/random.ts";
import type { MakeCompiler } from "../../src/engine/soft/native/tier.ts";
import { STATUS } from "../../src/cpu/x86/ops.ts";
import { makeProgram, type Program } from "./program.ts";
import { Rig } from "./rig.ts";

/** Instructions of a program, at most. */
const LIMIT = 4000;
/** Steps between two stops that retire nothing, exceptions apart. */
const EXTRA = 16;
/** Looks between two stops at all of the state. */
const THOROUGH = 40;

/** How a program is run. */
export interface Manner {
  /** Which places are compiled before it starts: the interpreter's own run; targets of jumps; those and any instruction. */
  readonly compile: "none" | "leaders" | "everywhere";
  /** Whatever a stop finds not yet compiled is. */
  readonly again: boolean;
  /** Instructions between two looks at events. */
  readonly slice: number;
  /** Of 256 stops, so many are followed by an interrupt or an NMI; and so many looks by an interrupt while code runs. */
  readonly atStops: number;
  readonly atLooks: number;
}

export interface Outcome {
  readonly instructions: number;
  readonly stops: number;
  readonly interrupts: number;
  readonly regions: number;
  /** Of the instructions, those that compiled code has retired. */
  readonly compiled: number;
  readonly exceptions: number;
  /** Empty if both agree. */
  readonly differences: readonly string[];
}

export function mannerOf(seed: number): Manner {
  const random = new Random(seed ^ 0x5bd1_e995);
  return {
    compile: random.pick(["none", "leaders", "leaders", "everywhere", "everywhere"]),
    again: random.once(2),
    slice: random.pick([1, 1, 2, 3, 7, 20, 100, 1000]),
    atStops: random.pick([0, 8, 64, 200]),
    atLooks: random.pick([0, 0, 4, 32]),
  };
}

export class Duel {
  readonly #subject: Rig;
  readonly #reference = new Rig();

  /** As for Rig: what the subject's code is compiled to, and of how many vCPUs the subject is one. */
  constructor(native = false, make?: MakeCompiler, vcpus = 1) {
    this.#subject = new Rig(native, make, vcpus);
  }

  /** Programs of one seed. */
  run(seed: number, manner = mannerOf(seed)): Outcome {
    return this.compare(makeProgram(seed), manner);
  }

  /** `other`: what the interpreter gets instead, for tests of the comparison itself. */
  compare(program: Program, manner: Manner, other = program): Outcome {
    const a = this.#subject, b = this.#reference, random = new Random(program.seed + 1);
    a.load(program);
    b.load(other);
    const before = regionsOf(a), start = a.vcpu.retired, retired = () => a.vcpu.retired - start;
    let stops = 0, interrupts = 0, agreed = 0, where = "the start", differences: string[] = [];
    a.parts.sliceInstructions = manner.slice;
    this.#compile(program, manner, random);
    const meet = (thorough: boolean) => {
      if (differences.length > 0) return;
      stops++;
      if (!this.#follow(retired() - agreed + EXTRA)) {
        differences = [
          `not a state that the interpreter comes to within ${retired() - agreed} instructions after ${where}`,
        ];
        differences.push(...a.differences(b));
      } else if (thorough) differences = a.allDifferences(b);
      agreed = retired();
      where = a.vcpu.get64("rip").toString(16);
    };
    a.board.onAcknowledge = () => {
      // Between two instructions, with all state in place.
      a.events[0] &= ~VcpuEvent.INTR;
      meet(false);
      interrupts++;
      b.events[0] |= VcpuEvent.INTR;
      b.vcpu.run(0);
    };
    b.board.onAcknowledge = () => void (b.events[0] &= ~VcpuEvent.INTR);
    a.onLook = () => {
      if (random.below(256) < manner.atLooks) a.events[0] |= VcpuEvent.INTR;
    };
    let end: string = "slice";
    while (end === "slice" && retired() < LIMIT && differences.length === 0) {
      end = a.vcpu.run(a.ns + 1 + (random.once(2) ? 1 : random.below(12)));
      meet(stops % THOROUGH === 0);
      if (end !== "slice" || differences.length > 0) break;
      if (manner.again && a.events[0] === 0) a.vcpu.compileHere(random.once(2));
      const ready = ({ vcpu }: Rig) => vcpu.get("inhibit") === 0 && vcpu.get("nmiBlocked") === 0;
      if (random.below(256) < manner.atStops && ready(a) && ready(b)) {
        if (random.once(2)) {
          interrupts++;
          meet(false);
          for (const rig of [a, b]) {
            rig.events[0] |= VcpuEvent.NMI;
            rig.vcpu.run(0);
          }
        } else a.events[0] |= VcpuEvent.INTR;
      }
    }
    if (differences.length === 0) meet(true);
    return {
      instructions: retired(),
      stops,
      interrupts,
      regions: regionsOf(a) - before,
      compiled: a.vcpu.stats().compiledInstructions ?? 0,
      exceptions: a.vcpu.get("exceptions"),
      differences: end === "error" ? [`error ${a.vcpu.lastError?.stack}`, ...differences] : differences,
    };
  }

  #compile(program: Program, { compile }: Manner, random: Random): void {
    if (compile === "none") return;
    const v = this.#subject.vcpu, places = [...program.leaders];
    if (compile === "everywhere") places.push(...program.instructions.filter(() => random.once(2)));
    for (const at of places) {
      v.put64("rip", program.base + BigInt(at));
      v.compileHere();
    }
    if (random.once(2)) this.#subject.compileHandlers();
    v.put64("rip", program.base + BigInt(program.start));
  }

  /**
   * The interpreter, one instruction, repetition or exception at a time, to the state that the other is in; in so many steps at
   * most that are no exceptions.
   */
  #follow(steps: number): boolean {
    const a = this.#subject, b = this.#reference;
    if (a.equals(b)) return true;
    for (let laps = 0, n = 0; n < steps && laps < steps + 2 * LIMIT; laps++) {
      const exceptions = b.vcpu.get("exceptions");
      if (b.vcpu.step() === STATUS.SHUTDOWN) return false;
      if (a.equals(b)) return true;
      if (b.vcpu.get("exceptions") === exceptions) n++;
    }
    return false;
  }
}

function regionsOf(rig: Rig): number {
  return rig.vcpu.stats().regions ?? 0;
}
