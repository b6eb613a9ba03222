import { assertEquals, assertStringIncludes } from "@std/assert";
import { VarsKeeper } from "../../src/machine/vars_keeper.ts";

Deno.test("firmware variables are written once they have changed, whole, and at the end", async () => {
  const dir = await Deno.makeTempDir();
  try {
    const path = `${dir}/vars.fd`, bytes = new Uint8Array(new SharedArrayBuffer(8192)).fill(0xff);
    const changes = new Int32Array(new SharedArrayBuffer(4)), troubles: string[] = [];
    await Deno.writeFile(path, new Uint8Array(8192));
    const keeper = new VarsKeeper(path, bytes, changes, (sentence) => troubles.push(sentence));
    await new Promise((resolve) => setTimeout(resolve, 300));
    assertEquals((await Deno.readFile(path))[0], 0, "nothing has changed yet");
    bytes[0] = 1;
    Atomics.add(changes, 0, 1);
    await new Promise((resolve) => setTimeout(resolve, 500));
    assertEquals((await Deno.readFile(path)).slice(0, 2), Uint8Array.of(1, 0xff));
    bytes[1] = 2;
    Atomics.add(changes, 0, 1);
    keeper.close();
    assertEquals((await Deno.readFile(path)).slice(0, 2), Uint8Array.of(1, 2));
    assertEquals([[...Deno.readDirSync(dir)].length, troubles], [1, []]);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("firmware variables that cannot be kept are the user's to know, in a sentence with the file's name", () => {
  const troubles: string[] = [], changes = new Int32Array(new SharedArrayBuffer(4));
  const keeper = new VarsKeeper("/nowhere/vars.fd", new Uint8Array(4096), changes, (s) => troubles.push(s));
  Atomics.add(changes, 0, 1);
  keeper.close();
  assertEquals(troubles.length, 1);
  assertStringIncludes(troubles[0]!, 'Cannot keep firmware variables in "/nowhere/vars.fd": ');
});
