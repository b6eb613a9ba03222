import { conformanceTests, softSubject } from "./conformance.ts";

conformanceTests(softSubject());
