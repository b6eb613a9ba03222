/**
 * The module that Deno runs in the portable form: it takes the program out of the file. The program is evaluated, not
 * imported: Deno would look at each imported module for what it imports, which takes five times as long as all else
 * (0.22 s and 0.03 s for the main thread's, and as much for each Worker).
 */

/** Before the names of files that are no scripts. */
export const CARRIED = "carried/";

/** A script of the program, or another file that it carries, and where its bytes are in the file. */
export interface Script {
  readonly at: number;
  readonly bytes: number;
}

/** By the path of the module that it is made of; the others by CARRIED and their name. */
export type Scripts = Readonly<Record<string, Script>>;

export interface Start {
  /** The main thread's script. */
  readonly main: string;
  /** Expressions for the file's path, and for the user's words. */
  readonly file: string;
  readonly args: string;
}

export function starterUrl(scripts: Scripts, { main, file, args }: Start): string {
  const source = `(${start})(${JSON.stringify(scripts)}, ${JSON.stringify(main)}, ${file}, ${args});`;
  return `data:text/javascript;base64,${btoa(source)}`;
}

/**
 * Runs in the portable form, in each of its threads, and there is nothing around it. A Worker has no words, and is told which
 * file the main thread has read: it may have been replaced since.
 */
function start(scripts: Scripts, name: string, path: string, args: readonly string[] | null, known?: string): void {
  let text = "", identity = known;
  const read = ({ at, bytes }: Script) => {
    using file = Deno.openSync(path);
    const { dev, ino, size, mtime } = file.statSync();
    const found = `${dev} ${ino} ${size} ${mtime?.getTime()}`;
    if (found !== (identity ??= found)) throw new Error("it was replaced meanwhile");
    const buffer = new Uint8Array(bytes);
    file.seekSync(at, 0);
    for (let n = 0; n < bytes;) {
      const count = file.readSync(buffer.subarray(n));
      if (count === null) throw new Error("it is cut short");
      n += count;
    }
    return buffer;
  };
  try {
    text = new TextDecoder().decode(read(scripts[name]!));
  } catch (error) {
    const why = `Cannot read the program in "${path}": ${error instanceof Error ? error.message : error}`;
    if (args === null) throw new Error(why);
    console.error(`trike: ${why}`);
    Deno.exit(1);
  }
  const carried = (file: string) => {
    const where = scripts[`carried/${file}`];
    return where === undefined ? null : read(where);
  };
  const workers = new Proxy({}, {
    get: (_, worker: string) => {
      const words = [scripts, worker, path, null, identity].map((word) => JSON.stringify(word)).join();
      return URL.createObjectURL(new Blob([`(${start})(${words});`], { type: "text/javascript" }));
    },
  });
  // What a script asks for Deno's built-in modules, the addresses of Workers' modules, the user's words, files it carries.
  const parameters = ["__require", "TRIKE_WORKERS", "TRIKE_ARGS", "TRIKE_FILE"];
  const evaluate = new Function(...parameters, `${text}\n//# sourceURL=trike/${name}`);
  evaluate(process.getBuiltinModule, workers, args, carried);
}
