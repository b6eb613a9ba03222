/**
 * The guest that runs when no kernel is named: Debian's cloud kernel and BusyBox, made on first use and then kept in the
 * user's cache.
 */
import { join } from "@std/path";
import { HostError, messageOf } from "../base/errors.ts";
import { debianPackages } from "./apt.ts";
import { cacheRoot, fingerprint, isFile, locked, readJson, withScratch, writeWhole } from "./cache.ts";
import { DebPackage } from "./deb.ts";
import * as scripts from "./init_script.ts";
import { buildInitramfs, guestKernel, MODULES } from "./initramfs.ts";
import { type Progress, stderrProgress } from "./progress.ts";

export interface Guest {
  /** Paths of files in the cache, never changed once they are there. */
  readonly kernel: string;
  readonly initrd: string;
  /** The kernel command line. */
  readonly append: string;
}

export interface GuestOptions {
  /** Ask Debian for newer packages. */
  readonly refresh?: boolean;
  readonly root?: string;
}

/** "cloud": small, virtio only, quick to boot. "generic": with the drivers of physical machines. */
export type GuestKind = "cloud" | "generic";

const KERNELS: Readonly<Record<GuestKind, string>> = {
  cloud: "linux-image-cloud-amd64",
  generic: "linux-image-amd64",
};

/**
 * The console is COM1, as a terminal is the one thing every host has. `quiet` keeps the kernel's two hundred lines off it:
 * each byte on a serial line is an exit, and what the user came for is the prompt.
 */
export const APPEND = "console=ttyS0 quiet";

export function defaultGuest(progress: Progress = stderrProgress(), options: GuestOptions = {}): Promise<Guest> {
  return debianGuest("cloud", progress, options);
}

/** A kernel of Debian's with the default initial file system. */
export async function debianGuest(kind: GuestKind, progress: Progress, options: GuestOptions = {}): Promise<Guest> {
  try {
    const root = options.root ?? cacheRoot();
    const recipe = await fingerprint(...Object.values(scripts), ...MODULES);
    if (!options.refresh) {
      const made = await lookUp(root, kind, recipe);
      if (made) return made;
    }
    const refresh = options.refresh ?? false;
    const [kernel, busybox] = await debianPackages(root, [KERNELS[kind], "busybox-static"], { refresh, progress });
    return await locked(root, async () =>
      await lookUp(root, kind, recipe, `${kernel} ${busybox}`) ??
        await withScratch(root, (scratch) =>
          build({ root, scratch, kind, recipe, kernel: kernel!, busybox: busybox!, progress })));
  } catch (error) {
    if (error instanceof HostError || !(error instanceof Error)) throw error;
    throw new HostError(
      `Cannot make the default guest: ${messageOf(error)} (to run a kernel of your own, pass --kernel FILE)`,
      { cause: error },
    );
  }
}

/** The file that says which guest of a kind is the current one. */
function pointerPath(root: string, kind: GuestKind): string {
  return join(root, "guests", `${kind}.json`);
}

/** The guest made last, if its files are there, this version's recipe made it, and from these packages (if any are given). */
async function lookUp(root: string, kind: GuestKind, recipe: string, from?: string): Promise<Guest | null> {
  const pointer = await readJson(pointerPath(root, kind)) as
    | { folder?: unknown; recipe?: unknown; from?: unknown }
    | null;
  if (pointer === null || pointer.recipe !== recipe || typeof pointer.folder !== "string") return null;
  if (from !== undefined && pointer.from !== from) return null;
  const guest = guestIn(join(root, "guests", pointer.folder));
  return await isFile(guest.kernel) && await isFile(guest.initrd) ? guest : null;
}

function guestIn(folder: string): Guest {
  return { kernel: join(folder, "vmlinuz"), initrd: join(folder, "initrd.cpio"), append: APPEND };
}

async function build(parts: {
  readonly root: string;
  readonly scratch: string;
  readonly kind: GuestKind;
  readonly recipe: string;
  readonly kernel: string;
  readonly busybox: string;
  readonly progress: Progress;
}): Promise<Guest> {
  parts.progress("making the initial file system", 0);
  const deb = await DebPackage.open(parts.kernel);
  const version = (await deb.control()).get("Version") ?? "unknown";
  const { image, modules } = await guestKernel(deb);
  parts.progress("making the initial file system", 0.8);
  const cpio = await buildInitramfs(await DebPackage.open(parts.busybox), modules);

  const from = `${parts.kernel} ${parts.busybox}`;
  const id = await fingerprint(parts.recipe, from);
  const folder = `${parts.kind}-${version.replaceAll(/[^\w.+~-]/g, "_")}-${id}`;
  const half = guestIn(parts.scratch);
  await Deno.writeFile(half.kernel, image);
  await Deno.writeFile(half.initrd, cpio);
  const guests = join(parts.root, "guests");
  await Deno.mkdir(guests, { recursive: true });
  await Deno.remove(join(guests, folder), { recursive: true }).catch(ignoreMissing); // only if its files were lost
  await Deno.rename(parts.scratch, join(guests, folder));
  const pointer = { folder, recipe: parts.recipe, from };
  await writeWhole(pointerPath(parts.root, parts.kind), JSON.stringify(pointer));
  parts.progress("making the initial file system", 1);
  return guestIn(join(guests, folder));
}

function ignoreMissing(error: unknown): void {
  if (!(error instanceof Deno.errors.NotFound)) throw error;
}
