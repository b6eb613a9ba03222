import { conformanceTests } from "../conformance.ts";
import { hvfSubject } from "./subject.ts";

conformanceTests(hvfSubject());
