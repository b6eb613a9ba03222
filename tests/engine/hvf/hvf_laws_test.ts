import { conformanceTests } from "../conformance.ts";
import { doubledEngine, refusal } from "./double.ts";

conformanceTests({ name: "hvf", engine: doubledEngine, refusal, missing: {} });
