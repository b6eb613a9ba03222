/** The module that Deno runs in the portable form: it takes the program out of the file. */

/** A module of the program, and where its bytes are in the file. */
export interface Module {
  readonly name: string;
  readonly at: number;
  readonly bytes: number;
}

/** What a bundle calls the table of the modules in front of it. */
export const MODULE_TABLE = "TRIKE_MODULES";

/** `file` is an expression for the file's path, `args` one for the user's arguments. */
export function starterUrl(modules: readonly Module[], { file, args }: { file: string; args: string }): string {
  const source = `await (${start})(${JSON.stringify(modules)}, ${JSON.stringify(MODULE_TABLE)}, ${file}, ${args});`;
  return `data:text/javascript;base64,${btoa(source)}`;
}

/**
 * Runs in the portable form, and there is nothing around it. The last module is the program; each knows where those in
 * front of it are, and so may start Workers with them.
 */
async function start(modules: readonly Module[], table: string, path: string, args: readonly string[]): Promise<void> {
  const urls: Record<string, string> = {};
  let last = "";
  try {
    using file = Deno.openSync(path);
    for (const { name, at, bytes } of modules) {
      const text = new Uint8Array(bytes);
      file.seekSync(at, 0);
      for (let n = 0; n < bytes;) {
        const read = file.readSync(text.subarray(n));
        if (read === null) throw new Error("it is cut short");
        n += read;
      }
      const parts = [`const ${table} = ${JSON.stringify(urls)};`, text, `\n//# sourceURL=trike/${name}`];
      last = urls[name] = URL.createObjectURL(new Blob(parts, { type: "text/javascript" }));
    }
  } catch (error) {
    console.error(`trike: Cannot read the program in "${path}": ${error instanceof Error ? error.message : error}`);
    Deno.exit(1);
  }
  (await import(last)).start(args);
}
