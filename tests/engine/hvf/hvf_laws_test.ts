import { hvfEngine } from "../../../src/engine/hvf/hvf.ts";
import { conformanceTests } from "../conformance.ts";
import { refusal } from "./double.ts";

conformanceTests({ name: "hvf", engine: hvfEngine, refusal, missing: {} });
