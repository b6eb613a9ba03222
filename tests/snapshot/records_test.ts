import { assert, assertEquals } from "@std/assert";
import { describeRecords, readGolden } from "./golden.ts";

const ACCEPT = "deno run --allow-read --allow-write=tests/snapshot tests/snapshot/golden.ts";
const firstLine = (text: string) => text.split("\n")[0];

Deno.test("no record changes its fields and keeps its version", () => {
  const golden = readGolden();
  for (const [kind, text] of describeRecords()) {
    const known = golden.get(kind);
    if (known === undefined || firstLine(known) !== firstLine(text)) continue;
    assertEquals(text, known, `record "${kind}" has changed: raise its version, then ${ACCEPT}`);
  }
});

Deno.test("the list of records is that of the machine", () => {
  const golden = readGolden(), now = describeRecords();
  const versions = (records: Map<string, string>) => [...records.values()].map(firstLine);
  assertEquals(versions(now), versions(golden), `to take the records as they are: ${ACCEPT}`);
  assert(now.size > 15);
});
