/** A disk image that is one ext4 file system with a BusyBox user land: a root for kernels that expect one on /dev/vda. */
import { dirname, join } from "@std/path";
import { HostError } from "../base/errors.ts";
import { debianPackages } from "./apt.ts";
import { cacheRoot, fingerprint, isFile, locked, withScratch } from "./cache.ts";
import { DebPackage } from "./deb.ts";
import * as scripts from "./init_script.ts";
import { addUserland, busyboxOf, type TreeWriter } from "./initramfs.ts";
import { type Progress, stderrProgress } from "./progress.ts";

export interface Ext4RootOptions {
  readonly root?: string;
  readonly sizeBytes?: number;
  /** Take mke2fs from Debian's package even if the host has one. */
  readonly mke2fs?: "host" | "package";
}

/** What to add to the kernel's command line to have the image, as the first disk, for its root. */
export const EXT4_ROOT_APPEND = "root=/dev/vda rootfstype=ext4 rw init=/etc/init";

/** The image's path in the cache. It is made once: whoever means to write to it copies it first. */
export async function ext4Root(progress: Progress = stderrProgress(), options: Ext4RootOptions = {}): Promise<string> {
  const root = options.root ?? cacheRoot();
  const sizeBytes = options.sizeBytes ?? 64 << 20;
  const recipe = await fingerprint(...Object.values(scripts), String(sizeBytes));
  const image = join(root, "guests", `root-${recipe}.ext4`);
  if (await isFile(image)) return image;
  const [deb] = await debianPackages(root, ["busybox-static"], { progress });
  const mke2fs = await mke2fsCommand(root, progress, options.mke2fs ?? "host");
  const busybox = await busyboxOf(await DebPackage.open(deb!));
  return await locked(root, () =>
    withScratch(root, async (scratch) => {
      if (await isFile(image)) return image;
      progress("making the root file system", 0);
      const tree = new FolderWriter(join(scratch, "tree"));
      addUserland(tree, busybox);
      tree.file("etc/init", scripts.ROOT_INIT, 0o755);
      await makeExt4(await mke2fs(scratch), scratch, { label: "trike-root", sizeBytes }, image);
      progress("making the root file system", 1);
      return image;
    }));
}

/**
 * Makes the folder `tree` of `scratch` an ext4 file system, which appears whole as `image`.
 *
 * @throws {HostError} with what mke2fs says
 */
export async function makeExt4(
  mke2fs: readonly string[],
  scratch: string,
  { label, uuid, sizeBytes }: { readonly label: string; readonly uuid?: string; readonly sizeBytes: number },
  image: string,
): Promise<void> {
  const file = join(scratch, "image");
  const args = ["-q", "-F", "-t", "ext4", "-L", label, "-E", "root_owner=0:0", "-d", join(scratch, "tree")];
  if (uuid !== undefined) args.push("-U", uuid);
  await run([...mke2fs, ...args, file, `${sizeBytes >> 10}k`]);
  await Deno.mkdir(dirname(image), { recursive: true });
  await Deno.rename(file, image);
}

/** The tree as files of the host's, which may all be the user's: nothing here is a device or has another owner. */
export class FolderWriter implements TreeWriter {
  constructor(private readonly folder: string) {
    Deno.mkdirSync(folder, { recursive: true });
  }

  directory(path: string, permissions = 0o755): void {
    Deno.mkdirSync(this.#at(path), { recursive: true });
    Deno.chmodSync(this.#at(path), permissions);
  }

  file(path: string, data: Uint8Array | string, permissions = 0o644): void {
    const bytes = typeof data === "string" ? new TextEncoder().encode(data) : data;
    Deno.writeFileSync(this.#at(path), bytes);
    Deno.chmodSync(this.#at(path), permissions);
  }

  symlink(path: string, target: string): void {
    Deno.symlinkSync(target, this.#at(path));
  }

  #at(path: string): string {
    const at = join(this.folder, path);
    Deno.mkdirSync(dirname(at), { recursive: true });
    return at;
  }
}

/** Makes the words to start mke2fs with, given a folder to work in. */
export type CommandMaker = (scratch: string) => Promise<string[]>;

/** mke2fs of the host, or from Debian's package where the host has none. */
export async function mke2fsCommand(root: string, progress: Progress, from: "host" | "package"): Promise<CommandMaker> {
  if (from === "host") {
    for (const path of ["/usr/sbin/mke2fs", "/sbin/mke2fs", "/usr/local/sbin/mke2fs"]) {
      if (await isFile(path)) return () => Promise.resolve([path]);
    }
  }
  const [deb] = await debianPackages(root, ["e2fsprogs"], { progress });
  const e2fsprogs = await DebPackage.open(deb!);
  const control = await e2fsprogs.control();
  const libraries = `${control.get("Pre-Depends") ?? ""},${control.get("Depends") ?? ""}`
    .split(",").map((one) => one.trim().split(/[\s:(]/)[0]!).filter((name) => /^lib/.test(name) && name !== "libc6");
  const packages = [e2fsprogs];
  for (const path of await debianPackages(root, libraries, { progress })) packages.push(await DebPackage.open(path));

  return async (scratch) => {
    const folder = join(scratch, "mke2fs");
    await Deno.mkdir(folder);
    for (const one of packages) {
      const files = await one.files((path) => /(^|\/)sbin\/mke2fs$|(^|\/)lib\/.*\/lib[^/]+\.so\.[^/]+$/.test(path));
      for (const [path, file] of files) {
        const to = join(folder, path.slice(path.lastIndexOf("/") + 1));
        if (file.kind === "symlink") await Deno.symlink(file.target.slice(file.target.lastIndexOf("/") + 1), to);
        else if (file.kind === "file") await Deno.writeFile(to, file.data, { mode: 0o755 });
      }
    }
    // the loader by name, as the environment variable that says the same needs a wider permission
    return ["/lib64/ld-linux-x86-64.so.2", "--library-path", folder, join(folder, "mke2fs")];
  };
}

async function run(command: readonly string[]): Promise<void> {
  const [program, ...args] = command;
  const { code, stderr } = await new Deno.Command(program!, { args, stdin: "null", stdout: "null", stderr: "piped" })
    .output();
  if (code !== 0) {
    throw new HostError(
      `Cannot make an ext4 file system: ${program} ended with status ${code}: ${
        new TextDecoder().decode(stderr).trim()
      }`,
    );
  }
}
