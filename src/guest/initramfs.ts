/** The default guest's initial root file system: BusyBox, the drivers of the board's devices, and the scripts that start it. */
import { HostError } from "../base/errors.ts";
import { CpioWriter } from "./cpio.ts";
import type { DebPackage } from "./deb.ts";
import { FILESYSTEMS, INIT, INITTAB, POWER_BUTTON, PROFILE, RC_SHUTDOWN } from "./init_script.ts";
import { type KernelModule, kernelModules, modulesAlias, modulesDep } from "./modules.ts";

/** Drivers and file systems a guest may want on this board. Only those for devices that are there get loaded. */
export const MODULES: readonly string[] = [
  ...[
    "virtio_pci",
    "virtio_blk",
    "virtio_net",
    "virtio_console",
    "virtio_rng",
    "virtio_balloon",
    "virtio_scsi",
    "sd_mod",
  ],
  ...["vmw_vsock_virtio_transport", "9pnet_virtio", "9p", "virtiofs"],
  ...["button", "evdev", "pvpanic_mmio", "pvpanic_pci"],
  ...["ext4", "crc32c_generic", "crc32c_intel", "vfat", "nls_cp437", "nls_ascii", "nls_iso8859_1", "isofs", "squashfs"],
  ...["loop", "overlay", "af_packet"],
];

/** What the above need in the kernels of Debian 11 to 13. */
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
  ...["scsi_common", "t10_pi", "crc_t10dif", "crct10dif_common", "crct10dif_generic", "crc64", "crc64_rocksoft"],
  ...["crc64_rocksoft_generic", "vsock", "vmw_vsock_virtio_transport_common", "9pnet", "netfs", "fscache", "fuse"],
  ...["pvpanic", "jbd2", "mbcache", "crc16", "libcrc32c", "crypto_hash", "fat", "cdrom", "rng_core"],
];

export interface InitramfsParts {
  readonly busybox: DebPackage;
  readonly kernel: DebPackage;
  /** Modules to load whatever the machine has, by name; they and what they need are added. */
  readonly modules?: readonly string[];
}

export interface Initramfs {
  readonly cpio: Uint8Array<ArrayBuffer>;
  readonly modules: readonly KernelModule[];
}

/**
 * The archive is not compressed: the loader copies it into the guest at the speed of memory, while a guest on the software
 * CPU would spend its first second on unpacking.
 */
export async function buildInitramfs(parts: InitramfsParts): Promise<Initramfs> {
  const modules = await kernelModules(parts.kernel, [...MODULES, ...parts.modules ?? []], LIKELY);
  const cpio = new CpioWriter();
  addUserland(cpio, await busyboxOf(parts.busybox));

  cpio.file("init", INIT, 0o755);
  cpio.file("etc/inittab", INITTAB);
  cpio.file("etc/rc.shutdown", RC_SHUTDOWN, 0o755);
  cpio.file("etc/acpi/PWRF/00000080", POWER_BUTTON, 0o755);
  cpio.file("etc/profile", PROFILE);
  cpio.file("etc/filesystems", FILESYSTEMS);
  cpio.file("etc/passwd", "root::0:0:root:/root:/bin/sh\n");
  cpio.file("etc/group", "root:x:0:\n");
  cpio.symlink("etc/mtab", "/proc/mounts");

  cpio.directory("root", 0o700);
  for (const path of ["proc", "sys", "dev", "run", "mnt", "newroot"]) cpio.directory(path);
  cpio.directory("tmp", 0o1777);
  // the kernel opens it for init's input and output before anything is mounted
  cpio.device("dev/console", "char", 5, 1, 0o600);

  addModules(cpio, modules);
  return { cpio: cpio.finish(), modules };
}

function addModules(cpio: CpioWriter, modules: readonly KernelModule[]): void {
  if (modules.length === 0) return; // a kernel with everything built in
  const folder = modules[0]!.path.split("/").slice(0, 3).join("/");
  for (const module of modules) cpio.file(module.path, module.elf);
  cpio.file(`${folder}/modules.dep`, modulesDep(modules));
  cpio.file(`${folder}/modules.alias`, modulesAlias(modules));
  cpio.file(`${folder}/modules.symbols`, "");
}

/** BusyBox and its commands, all in one folder that has four names. */
export function addUserland(cpio: CpioWriter, busybox: Uint8Array): void {
  cpio.file("bin/busybox", busybox, 0o755);
  for (const applet of appletNames(busybox)) {
    if (applet !== "busybox") cpio.symlink(`bin/${applet}`, "busybox");
  }
  cpio.symlink("sbin", "bin");
  cpio.symlink("usr/bin", "../bin");
  cpio.symlink("usr/sbin", "../bin");
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
