/** The engine hvf through its double, as a subject of the conformance suite. */
import type { Subject } from "../conformance.ts";
import { doubledEngine, refusal } from "./double.ts";

export function hvfSubject(): Subject {
  return { name: "hvf", engine: doubledEngine, refusal, missing: {} };
}
