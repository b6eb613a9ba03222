/** The conformance suite: every engine that there is, and every law that it owes. */
import { assert } from "@std/assert";
import type { Engine, IrqChip } from "../../src/engine/engine.ts";
import { kvmEngine } from "../../src/engine/kvm/kvm.ts";
import { probeKvm } from "../../src/engine/kvm/probe.ts";
import { softEngine } from "../../src/engine/soft/soft.ts";
import { BOARD_LAWS } from "./board_laws.ts";
import { LAWS } from "./engine_laws.ts";
import { missingOfKvm } from "./kvm/limits.ts";
import { MODE_LAWS } from "./mode_laws.ts";
import { boardMoves, MOVE_LAWS } from "./move_laws.ts";

/** An engine as it is put to the test. */
export interface Subject {
  readonly name: string;
  readonly engine: Engine;
  readonly irqchip?: IrqChip;
  /** Why this host has no such engine, or null. */
  readonly refusal: string | null;
  /** Laws that this host cannot keep, by name, and why. */
  readonly missing: Readonly<Record<string, string>>;
}

/** What a law is about: `registers` have a board that remembers, `board` the machine's own. */
export interface Case {
  readonly name: string;
  readonly kind: "registers" | "board";
  /** A move that for the software CPU itself is the same as its opposite. */
  readonly opposite?: true;
  run(subject: Subject): void | Promise<void>;
}

const MISSING_OF_SOFT: Subject["missing"] = {
  "an NMI that comes while one is served waits for IRET": "the software CPU does not block NMIs while one is served",
};

export const CASES: readonly Case[] = [
  ...Object.entries(LAWS).map(([name, law]): Case => ({ name, kind: "registers", run: ({ engine }) => law(engine) })),
  ...Object.entries(MODE_LAWS).map(([name, law]): Case => ({
    name,
    kind: "registers",
    run: ({ engine }) => law(engine),
  })),
  ...Object.entries(MOVE_LAWS).map(([name, law]): Case => ({
    name: `from the software CPU and back: ${name}`,
    kind: "registers",
    run: ({ engine }) => law(softEngine, engine),
  })),
  ...Object.entries(MOVE_LAWS).map(([name, law]): Case => ({
    name: `to the software CPU and back: ${name}`,
    kind: "registers",
    opposite: true,
    run: ({ engine }) => law(engine, softEngine),
  })),
  ...Object.entries(BOARD_LAWS).map(([name, law]): Case => ({ name, kind: "board", run: (subject) => law(subject) })),
  {
    name: "from the software CPU and back: a periodic timer moves",
    kind: "board",
    run: (subject) => boardMoves({ engine: softEngine }, subject),
  },
  {
    name: "to the software CPU and back: a periodic timer moves",
    kind: "board",
    opposite: true,
    run: (subject) => boardMoves(subject, { engine: softEngine }),
  },
];

/** Not where a subject's interrupt controllers make no difference, or a move has been made the other way round already. */
export function asked({ engine, irqchip }: Subject, { kind, opposite }: Case): boolean {
  if (opposite && engine === softEngine) return false;
  return kind === "board" || irqchip === undefined || irqchip === "user";
}

export function subjects(): Subject[] {
  return [softSubject(), ...kvmSubjects()];
}

export function softSubject(): Subject {
  return { name: "soft", engine: softEngine, refusal: null, missing: MISSING_OF_SOFT };
}

export function kvmSubjects(): Subject[] {
  const { refusal } = probeKvm();
  return (["user", "split", "kernel"] as const).map((irqchip) => ({
    name: `kvm ${irqchip}`,
    engine: kvmEngine,
    irqchip,
    refusal,
    missing: refusal === null ? missingOfKvm(irqchip) : {},
  }));
}

/** Registers a test for each law that a subject owes. */
export function conformanceTests(subject: Subject): void {
  const { name: engine, refusal, missing } = subject;
  for (const name of Object.keys(missing)) assert(CASES.some((c) => c.name === name), `There is no law "${name}"`);
  for (const law of CASES) {
    if (!asked(subject, law)) continue;
    Deno.test(`${engine}: ${law.name}`, async () => {
      const why = refusal ?? missing[law.name];
      if (why !== undefined) {
        console.log(`skipped: ${why}`);
        return;
      }
      await law.run(subject);
    });
  }
}
