/**
 * Every record that a snapshot holds, field by field: so that a change is noticed, and goes with a new version.
 *
 * `deno run --allow-read --allow-write=tests/snapshot tests/snapshot/golden.ts` takes the records as they are.
 */
import type { Field } from "../../src/base/record.ts";
import { assemblePc } from "../../src/machine/pc.ts";
import { allocateMachineMemory } from "../../src/machine/memory.ts";
import { SMALL } from "./fixture.ts";

export const GOLDEN = new URL("records.golden.txt", import.meta.url);

/** By kind: the version, then a line for each field. */
export function describeRecords(): Map<string, string> {
  const disks = [0, 1, 2].map(() => ({ sectors: 2048, readonly: false, note: null }));
  const controllers = ["virtio", "ahci", "nvme"] as const;
  const spec = {
    ...SMALL,
    disks: controllers.map((controller) => ({ path: "disk.img", readonly: false, format: "raw", controller }) as const),
  };
  const pc = assemblePc({ memory: allocateMachineMemory(spec.memoryBytes), spec, disks });
  const kinds = new Map<string, string>();
  for (const type of pc.arena.types()) {
    const fields = Object.entries(type.fields).map(([name, field]) => `  ${name} ${describeField(field as Field)}`);
    kinds.set(type.kind, [`${type.kind} ${type.version}`, ...fields].join("\n"));
  }
  return new Map([...kinds].sort(([a], [b]) => a < b ? -1 : 1));
}

function describeField(field: Field): string {
  if (typeof field === "string") return field;
  const type = "array" in field ? `${field.array}[${field.length}]` : field.type;
  return field.max === undefined ? type : `${type} max ${field.max}`;
}

export function readGolden(): Map<string, string> {
  const records = Deno.readTextFileSync(GOLDEN).trim().split("\n\n");
  return new Map(records.map((text) => [text.slice(0, text.indexOf(" ")), text]));
}

if (import.meta.main) Deno.writeTextFileSync(GOLDEN, [...describeRecords().values()].join("\n\n") + "\n");
