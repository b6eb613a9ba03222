/** A program with words put in front of its arguments, and variables behind its own: what C sees of it. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { HostError } from "../../src/base/errors.ts";
import { alignedEnd, entryPatches, readElf, type Words } from "../../scripts/build/elf.ts";
import { run, withFolder } from "./build.ts";

/** Prints what main, the C library and the auxiliary vector say. */
const C = `
#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>
extern char **environ;
int main(int argc, char **argv, char **envp) {
  printf("%d\\n", argc);
  for (char **p = argv; *p; p++) printf("argument %s\\n", *p);
  for (char **p = environ; *p; p++) printf("variable %s\\n", *p);
  char **end = envp;
  while (*end) end++;
  unsigned long *aux = (unsigned long *)(end + 1), entry = 0;
  for (; *aux; aux += 2) if (*aux == AT_ENTRY) entry = aux[1];
  printf("%d %d %d\\n", envp == environ, entry != 0 && entry == getauxval(AT_ENTRY), getenv("LAST") != NULL);
  return 0;
}
`;

async function compiled(folder: string): Promise<string | null> {
  const path = `${folder}/program`;
  try {
    await Deno.writeTextFile(`${path}.c`, C);
    const { success, stderr } = await new Deno.Command("gcc", {
      args: ["-O1", "-fPIC", "-pie", "-o", path, `${path}.c`],
      stdout: "null",
      stderr: "piped",
    }).output();
    if (success) return path;
    console.log(
      `skipped: words put into a program of C's: gcc says: ${new TextDecoder().decode(stderr).split("\n")[0]}`,
    );
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    console.log("skipped: words put into a program of C's: gcc is not installed");
  }
  return null;
}

function patched(path: string, words: Words): Uint8Array {
  const bytes = Deno.readFileSync(path);
  const patches = entryPatches(readElf(path, bytes), alignedEnd(bytes.length), words);
  const file = new Uint8Array(Math.max(...patches.map(({ at, bytes }) => at + bytes.length)));
  file.set(bytes);
  for (const { at, bytes } of patches) file.set(bytes, at);
  return file;
}

Deno.test({
  name: "words go between a program's name and its arguments, variables behind those it has; all else is as it was",
  ignore: Deno.build.os !== "linux",
  async fn() {
    await withFolder(async (cwd) => {
      const path = await compiled(cwd);
      if (path === null) return;
      const env = ["ONE=1", "LAST=x y", "HOME=/else"];
      for (const args of [["a"], ["run", "--flag=ä", "", "x".repeat(200_000)]]) {
        await Deno.writeFile(`${cwd}/patched`, patched(path, { args, env }), { mode: 0o755 });
        // Odd and even numbers of words: the stack is aligned either way.
        for (const own of [[], ["b"], ["b", "c d"], Array.from({ length: 999 }, (_, i) => `${i}`)]) {
          for (const given of [{}, { HOME: "/home" }, { HOME: "/home", X: "", Y: "z" }] as Record<string, string>[]) {
            const { code, stdout, stderr } = await run(`${cwd}/patched`, own, { cwd, env: given });
            const variables = [...Object.entries(given).map(([name, value]) => `${name}=${value}`), ...env];
            assertEquals([code, stderr], [0, ""]);
            const lines = stdout.trimEnd().split("\n");
            assertEquals(lines[0], String(1 + args.length + own.length));
            const after = lines.slice(1, -1);
            const words = after.filter((line) => line.startsWith("argument ")).map((line) => line.slice(9));
            assertEquals(words, [`${cwd}/patched`, ...args, ...own]);
            const seen = after.filter((line) => line.startsWith("variable ")).map((line) => line.slice(9));
            assertEquals(seen.toSorted(), variables.toSorted());
            assertEquals(seen.slice(-env.length), env);
            assertEquals(lines.at(-1), "1 1 1");
          }
        }
      }
    });
  },
});

Deno.test("files into which no program can be put are refused in a sentence", () => {
  const own = Deno.readFileSync(Deno.execPath());
  const changed = (change: (view: DataView) => void) => {
    const bytes = own.slice(0, 1 << 16);
    change(new DataView(bytes.buffer));
    return bytes;
  };
  const files: Uint8Array[] = [
    new Uint8Array(0),
    new TextEncoder().encode("#!/bin/sh\n".repeat(10)),
    own.slice(0, 63),
  ];
  if (Deno.build.os === "linux") {
    files.push(
      own.slice(0, 100), // the program header table is cut off
      changed((view) => view.setUint16(18, 3, true)), // EM_386
      changed((view) => view.setUint8(4, 1)), // 32 bits
      changed((view) => view.setUint16(56, 0, true)), // no segments
      own.slice(0, 1 << 20), // the dynamic section is cut off
    );
  }
  for (const [i, bytes] of files.entries()) {
    const { message } = assertThrows(() => readElf("a file", bytes), HostError, undefined, `file ${i}`);
    assert(message.startsWith('Cannot put a program into "a file": '), message);
  }
});
