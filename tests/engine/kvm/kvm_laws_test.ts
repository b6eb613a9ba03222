import { conformanceTests, kvmSubjects } from "../conformance.ts";

for (const subject of kvmSubjects()) conformanceTests(subject);
