/**
 * The guests that are measured. The bench's own programs come as a second archive behind the default guest's: the kernel
 * unpacks one after the other.
 */
import { join } from "@std/path";
import { HostError } from "../../src/base/errors.ts";
import { debianPackages } from "../../src/guest/apt.ts";
import { cacheRoot, fingerprint, isFile, locked, withScratch } from "../../src/guest/cache.ts";
import { CpioWriter } from "../../src/guest/cpio.ts";
import { DebPackage } from "../../src/guest/deb.ts";
import type { Guest } from "../../src/guest/default_guest.ts";
import type { Progress } from "../../src/guest/progress.ts";
import { firstLine } from "./contenders.ts";
import { GROUPS, TEXT_FILE, TEXT_MIB } from "./suite.ts";

const SOURCES = new URL("../../tests/bench/programs/", import.meta.url).pathname;
const CFLAGS = ["-O2", "-static", "-no-pie", "-Wl,--build-id=none", "-Wall", "-Wextra"];
/** No part of the bench's own program: what the script `tcc` compiles, beside integer.c and bench.h; what the host runs. */
const APART = ["compiled.c", "exits.c"];

/** Debian's package → which of its files. */
const FILES: Readonly<Record<string, RegExp>> = {
  "libc6": /^(usr\/)?lib(64)?\/.*\.so(\.\d+)*$/,
  "libcrypt1": /^(usr\/)?lib\/.*\.so(\.\d+)*$/,
  "libc6-dev": /^usr\/include\/|^usr\/lib\/.*\/(crt[1in]\.o|libc\.so|libc_nonshared\.a|libm\.so)$/,
  "linux-libc-dev": /^usr\/include\/(linux\/(limits|errno|types|stddef|posix_types)\.h|asm-generic\/|.*\/asm\/)/,
  "tcc": /^usr\/bin\/(.*-)?tcc$|^usr\/lib\//,
  "perl-base": /^usr\/bin\/perl$|^usr\/lib\//,
};

/** Runs the programs named in its arguments. `timeout` is a guest's that still works; the watcher has one of its own. */
const RUN = `#!/bin/sh
limit=$1; shift
for name in "$@"; do
  case $name in
    gzip|sha256sum) [ -f ${TEXT_FILE} ] || /bench/bench text ${TEXT_FILE} ${TEXT_MIB} ;;
  esac
  echo "BENCH-RUN $name"
  if [ -f /bench/scripts/$name ]; then
    timeout -s KILL $limit /bench/bench time $name sh /bench/scripts/$name
  else
    timeout -s KILL $limit /bench/bench $name
  fi
  status=$?
  [ $status = 0 ] || echo "BENCH-FAIL $name status $status"
done
`;

/** The initial file system of `guest` with the bench's programs, and what the scripts of `tools` need. */
export async function benchInitrd(guest: Guest, tools: boolean, progress: Progress): Promise<string> {
  const root = cacheRoot();
  const gcc = await firstLine("gcc", "--version");
  if (gcc === null) {
    throw new HostError("Cannot build the bench's programs: this host has no gcc (Debian's package gcc)");
  }
  const sources = await readSources();
  const packages = tools ? await debianPackages(root, Object.keys(FILES), { progress }) : [];
  const recipe = [guest.initrd, gcc, ...CFLAGS, ...[...sources].flat(), RUN, JSON.stringify(GROUPS), ...packages];
  const path = join(root, "bench", `${tools ? "tools" : "programs"}-${await fingerprint(...recipe)}.cpio`);
  if (await isFile(path) && await isFile(programOf(path))) return path;
  return await locked(root, () =>
    withScratch(root, async (scratch) => {
      progress("building the bench's programs", 0);
      const cpio = new CpioWriter();
      const program = await compile([...sources.keys()], scratch);
      cpio.file("bench/bench", program, 0o755);
      cpio.file("bench/run", RUN, 0o755);
      for (const { programs } of GROUPS) {
        for (const { name, script } of programs) if (script) cpio.file(`bench/scripts/${name}`, `${script}\n`);
      }
      for (const [name, text] of sources) cpio.file(`bench/src/${name}`, text);
      for (const one of packages) await addPackage(cpio, await DebPackage.open(one));
      const first = await Deno.readFile(guest.initrd), second = cpio.finish();
      const whole = new Uint8Array(first.length + second.length);
      whole.set(first);
      whole.set(second, first.length); // archives begin at a multiple of 4; the first is padded to 512
      await Deno.mkdir(join(root, "bench"), { recursive: true });
      await Deno.writeFile(programOf(path), program);
      await Deno.writeFile(join(scratch, "initrd"), whole);
      await Deno.rename(join(scratch, "initrd"), path);
      progress("building the bench's programs", 1);
      return path;
    }));
}

/** The bench's own program, as an ELF file with symbols, of an archive made here. */
export function programOf(initrd: string): string {
  return initrd.replace(/\.cpio$/, ".elf");
}

export async function readSources(): Promise<Map<string, string>> {
  const names: string[] = [];
  for await (const { name } of Deno.readDir(SOURCES)) if (/\.[ch]$/.test(name)) names.push(name);
  const sources = new Map<string, string>();
  for (const name of names.sort()) sources.set(name, await Deno.readTextFile(SOURCES + name));
  return sources;
}

export async function compile(names: readonly string[], folder: string): Promise<Uint8Array> {
  const out = join(folder, "bench");
  const files = names.filter((name) => name.endsWith(".c") && !APART.includes(name));
  const args = [...CFLAGS, "-o", out, ...files, "-lm", "-lpthread"];
  const { success, stderr } = await new Deno.Command("gcc", { args, cwd: SOURCES, stdout: "null", stderr: "piped" })
    .output();
  if (success) return await Deno.readFile(out);
  const complaint = new TextDecoder().decode(stderr).trim();
  const missing = /cannot find -l|\w+\.h: No such file|crt1\.o/.test(complaint) ? " (Debian's package libc6-dev)" : "";
  throw new HostError(`Cannot build the bench's programs${missing}: gcc says: ${complaint.slice(0, 500)}`);
}

async function addPackage(cpio: CpioWriter, deb: DebPackage): Promise<void> {
  const name = (await deb.control()).get("Package")!;
  const wanted = FILES[name]!;
  const files = await deb.files((path) => wanted.test(path));
  for (const [path, entry] of files) {
    // the default guest's /usr/bin is a link to /bin
    const to = path.replace(/^usr\/bin\//, "bin/").replace(/\/$/, "");
    if (cpio.has(to)) continue;
    if (entry.kind === "symlink") cpio.symlink(to, entry.target);
    else if (entry.kind === "file") cpio.file(to, entry.data, /(^|\/)bin\/|\.so/.test(path) ? 0o755 : 0o644);
  }
}

/** The command line that runs programs and powers off. */
export function benchAppend(guest: Guest, limit: number, names: readonly string[]): string {
  return `${guest.append} trike.exec=${btoa(`sh /bench/run ${limit} ${names.join(" ")}`)}`;
}
