/**
 * The portable form: one file that is Deno's executable and carries trike. Nothing need be installed where it runs, and to
 * make it nothing is needed but Deno itself.
 */
import { HostError } from "../../src/base/errors.ts";
import { bundleProgram, MAIN } from "./bundle.ts";
import { alignedEnd, entryPatches, readElf } from "./elf.ts";
import { carriedImages } from "./images.ts";
import { RUN_FLAGS } from "./permissions.ts";
import { scriptHeader } from "./script.ts";
import { CARRIED, type Script, type Scripts, starterUrl } from "./starter.ts";

/** Nothing of the user's folders, files and network has a say in how the program starts, and nothing is left behind. */
const ISOLATION = ["--quiet", "--no-config", "--no-lock", "--no-remote", "--no-npm", "--no-code-cache"];
/**
 * What the environment gets where it says nothing itself: a file in place of Deno's cache folder, so that there is none; no
 * look for a newer Deno; a path, without which Deno does not start if it has a list of programs that may be run.
 */
const ENVIRONMENT = ["DENO_DIR=/dev/null", "DENO_NO_UPDATE_CHECK=1", "PATH=/usr/bin:/bin"];

/** Puts trike into a copy of `runtime`, an ELF executable of Deno's. */
export async function buildElf(runtime: string, output: string, arch: string): Promise<void> {
  const elf = readElf(runtime, await Deno.readFile(runtime));
  if (elf.arch !== arch) {
    throw new HostError(`Cannot use the runtime "${runtime}": its code is ${elf.arch}, not ${arch}`);
  }
  const at = alignedEnd(elf.sizeBytes);
  const { scripts, bytes } = await program(at);
  const start = starterUrl(scripts, { main: MAIN, file: "Deno.execPath()", args: "Deno.args" });
  const words = { args: ["run", ...ISOLATION, ...RUN_FLAGS, start], env: ENVIRONMENT };
  const patches = entryPatches(elf, alignedEnd(at + bytes.length), words);
  await replaceFile(output, async (path) => {
    await Deno.copyFile(runtime, path);
    using file = await Deno.open(path, { write: true });
    for (const patch of [{ at, bytes }, ...patches]) await writeAt(file, patch.at, patch.bytes);
  });
}

/** The same for executables that are no ELF files: a shell script that carries the executable, which it unpacks once. */
export async function buildScript(runtime: string, output: string): Promise<void> {
  const executable = await Deno.readFile(runtime);
  const programAt = alignedEnd(1);
  const { scripts, bytes } = await program(programAt);
  const start = starterUrl(scripts, { main: MAIN, file: "Deno.args[0]", args: "Deno.args.slice(1)" });
  const at = alignedEnd(programAt + bytes.length);
  const words = ["run", ...ISOLATION, ...RUN_FLAGS, start];
  const header = await scriptHeader({ executable, at, words, env: ENVIRONMENT });
  if (header.length > programAt) throw new HostError("Cannot make the script: its first lines are too long");
  await replaceFile(output, async (path) => {
    using file = await Deno.open(path, { write: true, create: true, mode: 0o755 });
    await writeAt(file, 0, header);
    await writeAt(file, programAt, bytes);
    await writeAt(file, at, executable);
  });
}

/** All scripts and images, one behind the other, from position `at` of the file on. */
async function program(at: number): Promise<{ scripts: Scripts; bytes: Uint8Array<ArrayBuffer> }> {
  const scripts: Record<string, Script> = {};
  const texts = (await bundleProgram()).map(({ name, text }) => ({ name, bytes: new TextEncoder().encode(text) }));
  const images = (await carriedImages()).map(({ name, bytes }) => ({ name: `${CARRIED}${name}`, bytes }));
  const files = [...texts, ...images];
  const bytes = new Uint8Array(files.reduce((sum, file) => sum + file.bytes.length, 0));
  let end = 0;
  for (const file of files) {
    bytes.set(file.bytes, end);
    scripts[file.name] = { at: at + end, bytes: file.bytes.length };
    end += file.bytes.length;
  }
  return { scripts, bytes };
}

/** A file appears under its name at once and whole, also where the old one runs. */
async function replaceFile(output: string, write: (path: string) => Promise<void>): Promise<void> {
  const temporary = `${output}.${Deno.pid}.tmp`;
  try {
    await write(temporary);
    await Deno.chmod(temporary, 0o755);
    await Deno.rename(temporary, output);
  } catch (error) {
    await Deno.remove(temporary).catch(() => {});
    throw error;
  }
}

async function writeAt(file: Deno.FsFile, at: number, bytes: Uint8Array): Promise<void> {
  await file.seek(at, Deno.SeekMode.Start);
  for (let n = 0; n < bytes.length;) n += await file.write(bytes.subarray(n));
}
