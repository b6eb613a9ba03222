import { assert, assertEquals } from "@std/assert";
import { watch } from "./watch.ts";

Deno.test("a prompt is seen before its line has an end, and the process ends with it", async () => {
  const lines: string[] = [];
  const started = performance.now();
  const { end } = await watch(["sh", "-c", "printf 'issue\\r\\n\\r\\ntrike login: '; exec sleep 60"], {
    line: (text) => void lines.push(text),
    unfinished: (text) => text.endsWith("login: ") ? "stop" : undefined,
  }, 50);
  assertEquals({ end, lines }, { end: "stopped", lines: ["issue", ""] });
  assert(performance.now() - started < 40_000, "it waited for the process");
});

Deno.test("a process that ends without the prompt is told by what it said last", async () => {
  const unfinished = (text: string) => text.endsWith("login: ") ? "stop" as const : undefined;
  const watched = await watch(["sh", "-c", "echo 'login: refused'"], { line: () => {}, unfinished }, 50);
  assertEquals(watched, { end: "ended", said: "login: refused" });
});
