/** The default guest's initial root file system: BusyBox, the drivers of the board's devices, and the scripts that start it. */
import { HostError } from "../base/errors.ts";
import { CpioWriter } from "./cpio.ts";
import type { DebPackage } from "./deb.ts";
import {
  FILESYSTEMS,
  INIT,
  INITTAB,
  POWER_BUTTON,
  PROFILE,
  RC,
  RC_SHUTDOWN,
  SHRC,
  UDHCPC_SCRIPT,
} from "./init_script.ts";
import { type KernelFiles, kernelFiles, type KernelModule, modulesAlias, modulesDep } from "./modules.ts";

/** Drivers and file systems a guest may want on this board. Only those for devices that are there get loaded. */
export const MODULES: readonly string[] = [
  ...[
    "virtio_pci",
    "virtio_blk",
    "virtio_net",
    "e1000",
    "virtio_console",
    "virtio_rng",
    "virtio_balloon",
    "virtio_scsi",
    "sd_mod",
  ],
  ...["ahci", "nvme", "sr_mod"],
  ...["vmw_vsock_virtio_transport", "9pnet_virtio", "9p", "virtiofs"],
  ...["button", "evdev", "virtio_input", "pvpanic_mmio", "pvpanic_pci"],
  ...["ext4", "crc32c_generic", "crc32c_intel", "vfat", "nls_cp437", "nls_ascii", "nls_iso8859_1", "isofs", "squashfs"],
  ...["loop", "overlay", "af_packet"],
];

/** What the above need, or say they would like, in the kernels of Debian 11 to 13; some of it exists in none. */
const LIKELY: readonly string[] = [
  ...[
    "virtio",
    "virtio_ring",
    "virtio_pci_modern_dev",
    "virtio_pci_legacy_dev",
    "net_failover",
    "failover",
    "scsi_mod",
  ],
  ...["libahci", "libata", "nvme_core", "nvme_common", "nvme_keyring", "nvme_auth"],
  ...["scsi_common", "t10_pi", "crc_t10dif", "crct10dif_common", "crct10dif_generic", "crc64", "crc64_rocksoft"],
  ...["crc64_rocksoft_generic", "vsock", "vmw_vsock_virtio_transport_common", "9pnet", "netfs", "fscache", "fuse"],
  ...[
    "crc32c",
    "crypto_crc32c",
    "crct10dif",
    "pvpanic",
    "jbd2",
    "mbcache",
    "crc16",
    "libcrc32c",
    "crypto_hash",
    "fat",
    "cdrom",
    "rng_core",
  ],
];

/** The kernel in Debian's package, with the modules a guest may want. */
export function guestKernel(deb: DebPackage): Promise<KernelFiles> {
  return kernelFiles(deb, MODULES, LIKELY);
}

/**
 * The archive is not compressed: the loader copies it into the guest at the speed of memory, while a guest on the software
 * CPU would spend its first second on unpacking.
 */
export async function buildInitramfs(
  busybox: DebPackage,
  modules: readonly KernelModule[],
): Promise<Uint8Array<ArrayBuffer>> {
  const cpio = new CpioWriter();
  addUserland(cpio, await busyboxOf(busybox));

  cpio.file("init", INIT, 0o755);
  cpio.directory("newroot");
  // the kernel opens it for init's input and output before anything is mounted
  cpio.device("dev/console", "char", 5, 1, 0o600);

  addModules(cpio, modules);
  return cpio.finish();
}

function addModules(cpio: CpioWriter, modules: readonly KernelModule[]): void {
  if (modules.length === 0) return; // a kernel with everything built in
  const folder = modules[0]!.path.split("/").slice(0, 3).join("/");
  for (const module of modules) cpio.file(module.path, module.elf);
  cpio.file(`${folder}/modules.dep`, modulesDep(modules));
  cpio.file(`${folder}/modules.alias`, modulesAlias(modules));
  cpio.file(`${folder}/modules.symbols`, "");
}

/** What a tree of files is written through: an archive, or a folder of the host. */
export interface TreeWriter {
  directory(path: string, permissions?: number): void;
  file(path: string, data: Uint8Array | string, permissions?: number): void;
  symlink(path: string, target: string): void;
}

/** BusyBox, its commands in one folder that has four names, and the files its init and shell read. */
export function addUserland(tree: TreeWriter, busybox: Uint8Array): void {
  tree.file("bin/busybox", busybox, 0o755);
  for (const applet of appletNames(busybox)) {
    if (applet !== "busybox") tree.symlink(`bin/${applet}`, "busybox");
  }
  tree.symlink("sbin", "bin");
  tree.symlink("usr/bin", "../bin");
  tree.symlink("usr/sbin", "../bin");

  tree.file("etc/rc", RC);
  tree.file("etc/inittab", INITTAB);
  tree.file("etc/rc.shutdown", RC_SHUTDOWN, 0o755);
  tree.file("etc/udhcpc.script", UDHCPC_SCRIPT, 0o755);
  tree.file("etc/acpi/PWRF/00000080", POWER_BUTTON, 0o755);
  tree.file("etc/profile", PROFILE);
  tree.file("etc/shrc", SHRC);
  tree.file("etc/filesystems", FILESYSTEMS);
  // busybox wants every field filled; the prompt shows "~" for the home found here
  tree.file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n");
  tree.file("etc/group", "root:x:0:\n");
  tree.symlink("etc/mtab", "/proc/mounts");

  tree.directory("root", 0o700);
  for (const path of ["proc", "sys", "dev", "run", "mnt"]) tree.directory(path);
  tree.directory("tmp", 0o1777);
}

export async function busyboxOf(deb: DebPackage): Promise<Uint8Array> {
  const files = await deb.files((path) => /^(usr\/)?bin\/busybox$/.test(path));
  const busybox = [...files.values()].find((file) => file.kind === "file");
  if (!busybox) throw new HostError(`Cannot find bin/busybox in the package "${deb.name}"`);
  return busybox.data;
}

/**
 * The commands a busybox binary has, without running it: it keeps their names as one sorted list of strings with an empty
 * string at the end, which starts with "[" and "[[".
 */
export function appletNames(busybox: Uint8Array): string[] {
  const start = indexOf(busybox, new TextEncoder().encode("\0[\0[[\0"));
  const names: string[] = [];
  const ascii = new TextDecoder("latin1");
  for (let at = start + 1; start >= 0 && at < busybox.length && names.length < 1000;) {
    const end = busybox.indexOf(0, at);
    const name = ascii.decode(busybox.subarray(at, end));
    if (!/^[\w[.+-]+$/.test(name) || (names.length > 0 && name <= names.at(-1)!)) break;
    names.push(name);
    at = end + 1;
  }
  if (!names.includes("sh")) throw new HostError("Cannot find the list of commands in the busybox binary");
  return names;
}

function indexOf(bytes: Uint8Array, wanted: Uint8Array): number {
  for (let at = bytes.indexOf(wanted[0]!); at >= 0; at = bytes.indexOf(wanted[0]!, at + 1)) {
    if (wanted.every((byte, n) => bytes[at + n] === byte)) return at;
  }
  return -1;
}
