/** fio of Debian's package, with the libraries it is linked to, behind a guest's initial file system. */
import { basename, join } from "@std/path";
import { HostError } from "../../src/base/errors.ts";
import { debianClosure } from "../../src/guest/apt.ts";
import { cacheRoot, fingerprint, isFile, locked, withScratch } from "../../src/guest/cache.ts";
import { CpioWriter } from "../../src/guest/cpio.ts";
import { DebPackage } from "../../src/guest/deb.ts";
import type { Guest } from "../../src/guest/default_guest.ts";
import type { Progress } from "../../src/guest/progress.ts";
import { neededLibraries } from "./elf_needed.ts";

const LOADER = "ld-linux-x86-64.so.2";
/** Where Debian keeps libraries: the loader's folders, and one of those that a program names itself. */
const LIBRARY = /^(usr\/)?lib(64)?\/(x86_64-linux-gnu\/)?(ceph\/)?[^/]+\.so(\.[0-9.]+)*$/;
const PROGRAM = "usr/bin/fio";

/** The path of an initial file system in the cache; in it fio is /bin/fio. */
export async function fioInitrd(guest: Guest, progress: Progress, root = cacheRoot()): Promise<string> {
  const debs = await debianClosure(root, ["fio"], progress);
  const path = join(root, "bench", `fio-${await fingerprint(guest.initrd, ...debs, "1")}.cpio`);
  if (await isFile(path)) return path;
  return await locked(root, () =>
    withScratch(root, async (scratch) => {
      if (await isFile(path)) return path;
      const cpio = new CpioWriter();
      for (const [name, data] of await programWithLibraries(debs, progress)) cpio.file(name, data, 0o755);
      await Deno.mkdir(join(root, "bench"), { recursive: true });
      const out = join(scratch, "initrd");
      await Deno.copyFile(guest.initrd, out);
      await Deno.writeFile(out, cpio.finish(), { append: true }); // archives begin at a multiple of 4
      await Deno.rename(out, path);
      return path;
    }));
}

/** Path in the guest → bytes. */
async function programWithLibraries(debs: readonly string[], progress: Progress): Promise<Map<string, Uint8Array>> {
  const libraries = new Map<string, Uint8Array>(), links = new Map<string, string>();
  let program: Uint8Array | null = null;
  for (const [n, deb] of debs.entries()) {
    progress("unpacking fio", n / debs.length);
    const files = await (await DebPackage.open(deb)).files((path) => path === PROGRAM || LIBRARY.test(path));
    for (const [path, entry] of files) {
      if (entry.kind === "symlink") links.set(basename(path), basename(entry.target));
      else if (entry.kind === "file" && path === PROGRAM) program = entry.data;
      else if (entry.kind === "file") libraries.set(basename(path), entry.data);
    }
  }
  progress("unpacking fio", 1);
  if (program === null) throw new HostError(`Cannot find ${PROGRAM} in Debian's package fio`);
  const found = new Map([["bin/fio", program]]);
  const wanted = [...neededLibraries(program)];
  for (let name = wanted.pop(); name !== undefined; name = wanted.pop()) {
    const to = name === LOADER ? `lib64/${name}` : `lib/x86_64-linux-gnu/${name}`;
    if (found.has(to)) continue;
    const data = libraries.get(name) ?? libraries.get(links.get(name) ?? "");
    if (data === undefined) throw new HostError(`Cannot find the library ${name} in the packages that fio depends on`);
    found.set(to, data);
    wanted.push(...neededLibraries(data));
  }
  return found;
}
