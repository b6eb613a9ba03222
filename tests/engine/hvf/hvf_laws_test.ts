import { conformanceTests, MISSING_OF_STEPS } from "../conformance.ts";
import { doubledEngine, refusal } from "./double.ts";

const missing = {
  ...MISSING_OF_STEPS,
  "ROM is read and run, and a write to it reaches the board; what the map names none stays RAM":
    "the engine hvf maps RAM alone",
};

conformanceTests({ name: "hvf", engine: doubledEngine, refusal, missing });
