/**
 * A disk image with Debian's systemd on ext4: the packages unpacked, and the few files that their installation would have
 * made. It boots to a login prompt on the serial line, where root has no password.
 *
 * No script of a package is run, so that no privilege is needed and no code of a package's is trusted on this host. Absent for
 * that reason: ld.so.cache (the loader finds Debian's folders without), udev's compiled hardware database, message catalogs.
 */
import { dirname, join } from "@std/path";
import { HostError } from "../../src/base/errors.ts";
import { debianClosure } from "../../src/guest/apt.ts";
import { cacheRoot, fingerprint, isFile, locked, withScratch } from "../../src/guest/cache.ts";
import { DebPackage } from "../../src/guest/deb.ts";
import { FolderWriter, makeExt4, mke2fsCommand } from "../../src/guest/ext4_root.ts";
import type { Progress } from "../../src/guest/progress.ts";
import type { TarEntry } from "../../src/guest/tar.ts";

/** What to add to the kernel's command line to boot the image as the first disk. */
export const SYSTEMD_APPEND = "root=/dev/vda rootfstype=ext4 rw init=/usr/lib/systemd/systemd";

export const SYSTEMD_PACKAGES = [
  "systemd",
  "systemd-sysv",
  "udev",
  "dbus",
  "libpam-systemd",
  "login",
  "passwd",
  "util-linux",
  "mount",
  "kmod",
  "base-files",
  "base-passwd",
  "bash",
  "dash",
  "coreutils",
  "findutils",
  "grep",
  "sed",
  "ncurses-base",
  "hostname",
  "libc-bin",
  "usr-is-merged",
] as const;

const SIZE_BYTES = 256 << 20;

/** No boot reads them. */
const LEFT_OUT = /^usr\/share\/(doc|doc-base|man|info|locale|lintian|bug|bash-completion|zsh|gettext)\/|\/gconv\//;

/** Folders of the root that are links into /usr ("merged /usr"), whatever the packages' paths say. */
const MERGED = ["bin", "sbin", "lib", "lib64"] as const;

/** What the packages' scripts would have written, in short. Users and groups are made at boot by systemd-sysusers. */
const FILES: Readonly<Record<string, string>> = {
  "etc/hostname": "trike\n",
  "etc/hosts": "127.0.0.1 localhost trike\n",
  "etc/fstab": "/dev/vda / ext4 defaults 0 0\n",
  "etc/environment": "",
  "etc/default/locale": "LANG=C.UTF-8\n",
  "etc/machine-id": "7472696b652d62656e63682d726f6f74\n", // some, so that it is no first boot, which asks questions
  "etc/sysusers.d/udev.conf": "g input -\ng kvm -\ng render -\ng sgx -\n", // that udev's rules name
  "etc/pam.d/common-auth": "auth required pam_unix.so nullok\n",
  "etc/pam.d/common-account": "account required pam_unix.so\n",
  "etc/pam.d/common-password": "password required pam_unix.so nullok yescrypt\n",
  "etc/pam.d/common-session": "session required pam_unix.so\nsession optional pam_systemd.so\n",
  "etc/pam.d/common-session-noninteractive": "session required pam_unix.so\n",
};

const UNITS = "etc/systemd/system";

const SYMLINKS: Readonly<Record<string, string>> = {
  bin: "usr/bin",
  sbin: "usr/sbin",
  lib: "usr/lib",
  lib64: "usr/lib64",
  "usr/bin/sh": "dash",
  "var/run": "/run",
  "var/lock": "/run/lock",
  "etc/mtab": "../proc/self/mounts",
  "etc/os-release": "../usr/lib/os-release",
  [`${UNITS}/default.target`]: "/lib/systemd/system/multi-user.target",
  [`${UNITS}/getty.target.wants/serial-getty@ttyS0.service`]: "/lib/systemd/system/serial-getty@.service",
  // made when the packages are installed, not at a boot
  [`${UNITS}/systemd-hwdb-update.service`]: "/dev/null",
  [`${UNITS}/systemd-journal-catalog-update.service`]: "/dev/null",
};

/** The image's path in the cache. It is made once: whoever boots it copies it first. */
export async function systemdRoot(progress: Progress, root = cacheRoot()): Promise<string> {
  const parts = [SYSTEMD_PACKAGES, FILES, SYMLINKS, LEFT_OUT.source, MERGED, SIZE_BYTES, "3"];
  const image = join(root, "guests", `systemd-${await fingerprint(JSON.stringify(parts))}.ext4`);
  if (await isFile(image)) return image;
  const debs = await debianClosure(root, SYSTEMD_PACKAGES, progress);
  const mke2fs = await mke2fsCommand(root, progress, "host");
  return await locked(root, () =>
    withScratch(root, async (scratch) => {
      if (await isFile(image)) return image;
      await unpackSystemd(join(scratch, "tree"), debs, progress);
      // all files belong to root, who is, for mke2fs, whoever runs this
      const asRoot = (await Deno.stat(scratch)).uid === 0 ? [] : ["unshare", "--map-root-user"];
      await makeExt4(
        [...asRoot, ...await mke2fs(scratch)],
        scratch,
        { label: "trike-root", sizeBytes: SIZE_BYTES },
        image,
      );
      return image;
    }));
}

/** The files of SYSTEMD_PACKAGES, and those of their installation, below `folder`. */
export async function unpackSystemd(folder: string, debs: readonly string[], progress: Progress): Promise<void> {
  const entries = new Map<string, TarEntry>();
  for (const [n, deb] of debs.entries()) {
    progress("unpacking Debian's systemd", n / debs.length);
    const files = await (await DebPackage.open(deb)).files((path) => !LEFT_OUT.test(path));
    for (const [path, entry] of files) {
      if (!(MERGED as readonly string[]).includes(path)) entries.set(merged(path), entry);
    }
  }
  writeTree(folder, entries);
  progress("unpacking Debian's systemd", 1);
}

function merged(path: string): string {
  return MERGED.some((name) => path.startsWith(`${name}/`)) ? `usr/${path}` : path;
}

/**
 * The packages' files and what their installation would have added, as a tree below `folder`. Directories get their
 * permissions last, as one may be closed to its owner.
 *
 * @throws {HostError} if a package would write through a symbolic link, or holds a device
 */
export function writeTree(folder: string, entries: ReadonlyMap<string, TarEntry>): void {
  const tree = new FolderWriter(folder);
  const directories: [string, number][] = [];
  for (const [path, { kind, mode, target, data }] of entries) {
    for (let up = dirname(path); up !== "."; up = dirname(up)) {
      // it would be written to wherever the link leads, on this host
      if (entries.get(up)?.kind === "symlink") {
        throw new HostError(`Cannot unpack "${path}": "${up}" is a symbolic link`);
      }
    }
    if (kind === "directory") {
      tree.directory(path);
      directories.push([path, mode]);
    } else if (kind === "file") tree.file(path, data, mode);
    else if (kind === "symlink") tree.symlink(path, target);
    else throw new HostError(`Cannot unpack "${path}": expected a file, a directory or a link, found a ${kind}`);
  }
  for (const name of ["dev", "proc", "sys", "run", "tmp", "etc", "var", "root", "newroot"]) tree.directory(name);
  for (const [path, text] of Object.entries(FILES)) tree.file(path, text);
  for (const [path, target] of Object.entries(SYMLINKS)) {
    if (!entries.has(path)) tree.symlink(path, target);
  }
  const text = (path: string) => new TextDecoder().decode(entries.get(path)?.data);
  const users = text("usr/share/base-passwd/passwd.master").replace(/^root:[^:]*:/m, "root::");
  tree.file("etc/passwd", users.replaceAll(/^([^:]+):[^:]*:/gm, "$1:x:"));
  tree.file("etc/group", text("usr/share/base-passwd/group.master"));
  tree.file("etc/shadow", users.replaceAll(/^([^:]+):([^:]*):.*$/gm, "$1:$2:20000:0:99999:7:::"), 0o640);
  for (const [path, mode] of directories.reverse()) tree.directory(path, mode);
}
