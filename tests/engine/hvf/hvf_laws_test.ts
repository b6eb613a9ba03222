import { conformanceTests, MISSING_OF_STEPS } from "../conformance.ts";
import { doubledEngine, refusal } from "./double.ts";

conformanceTests({ name: "hvf", engine: doubledEngine, refusal, missing: MISSING_OF_STEPS });
