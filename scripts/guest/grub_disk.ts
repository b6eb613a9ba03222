/**
 * A disk that boots as an installed Debian does: a GUID partition table with GRUB for a BIOS (its boot sector, the BIOS boot
 * partition) and for UEFI (the EFI system partition), and an ext4 root with Debian's generic kernel, the initial file system
 * of the default guest, and GRUB's menu. Kernel and root are found by the file system's UUID, whatever the disk is behind.
 *
 * GRUB comes from Debian's packages; the host gives grub-mkimage, which puts its parts together, and mtools.
 */
import { join } from "@std/path";
import { HostError } from "../../src/base/errors.ts";
import { debianClosure, debianPackages } from "../../src/guest/apt.ts";
import { cacheRoot, fingerprint, isFile, locked, withScratch } from "../../src/guest/cache.ts";
import { DebPackage } from "../../src/guest/deb.ts";
import { debianGuest, type Guest } from "../../src/guest/default_guest.ts";
import { FolderWriter, makeExt4, mke2fsCommand } from "../../src/guest/ext4_root.ts";
import * as scripts from "../../src/guest/init_script.ts";
import { addUserland, busyboxOf } from "../../src/guest/initramfs.ts";
import type { Progress } from "../../src/guest/progress.ts";
import { SYSTEMD_PACKAGES, unpackSystemd } from "../bench/systemd_root.ts";
import { GPT_SECTORS, guidPartitionTable, type Partition, PARTITION_TYPE, SECTOR } from "./gpt.ts";

/** "busybox": a shell on the console at once. "systemd": a login on COM1, where root has no password. */
export type RootKind = "busybox" | "systemd";

export const ROOT_UUID = "7472696b-652d-4752-8542-2d726f6f7421";

/** Programs of the host's that the disk is made with, and the packages they come in. */
export const DISK_TOOLS = { "grub-mkimage": "grub-common", mformat: "mtools", mmd: "mtools", mcopy: "mtools" } as const;

const MIB = 1 << 20;
const BIOS_BOOT_BYTES = 1 * MIB;
const ESP_BYTES = 36 * MIB; // FAT32 wants 65525 clusters
const ROOT_BYTES: Readonly<Record<RootKind, number>> = { busybox: 64 * MIB, systemd: 320 * MIB };

/** What the core images need to reach /boot/grub, where the other modules are. */
const CORE_MODULES = ["part_gpt", "ext2", "search_fs_uuid"];

const KERNEL_ARGUMENTS: Readonly<Record<RootKind, string>> = {
  busybox: "rw init=/etc/init trike.marks",
  systemd: "ro init=/usr/lib/systemd/systemd",
};

/** An emulated processor on a busy host takes longer than systemd waits for a terminal or a service to appear. */
const PATIENCE = "[Manager]\nDefaultTimeoutStartSec=15min\nDefaultDeviceTimeoutSec=15min\n";

const EARLY_CONFIG = `search.fs_uuid ${ROOT_UUID} root
set prefix=($root)/boot/grub
`;

const menu = (kind: RootKind) =>
  `serial --unit=0 --speed=115200
terminal_input serial
terminal_output serial
set timeout=0
menuentry "Debian" {
  search --no-floppy --fs-uuid --set=root ${ROOT_UUID}
  echo "GRUB on $grub_cpu-$grub_platform from $root"
  linux /boot/vmlinuz root=UUID=${ROOT_UUID} rootfstype=ext4 console=ttyS0 quiet ${KERNEL_ARGUMENTS[kind]}
  initrd /boot/initrd.img
}
`;

/**
 * The image's path in the cache: raw, and made once; whoever boots it copies it or has an overlay.
 *
 * @throws {HostError} if a package cannot be had or a program of DISK_TOOLS is missing or fails
 */
export async function grubDisk(kind: RootKind, progress: Progress, root = cacheRoot()): Promise<string> {
  const guest = await debianGuest("generic", progress);
  const names = ["grub-pc-bin", "grub-efi-amd64-bin", "busybox-static"];
  const [pc, efi, busybox] = await debianPackages(root, names, { progress });
  const debs = kind === "systemd" ? await debianClosure(root, SYSTEMD_PACKAGES, progress) : [];
  const mke2fs = await mke2fsCommand(root, progress, "host");
  const parts = [guest.kernel, guest.initrd, pc!, efi!, busybox!, ...debs, menu(kind), EARLY_CONFIG, PATIENCE];
  const recipe = await fingerprint(...parts, ...Object.values(scripts), `${ROOT_BYTES[kind]} ${ESP_BYTES} 1`);
  const image = join(root, "guests", `grub-${kind}-${recipe}.img`);
  if (await isFile(image)) return image;
  return await locked(root, () =>
    withScratch(root, async (scratch) => {
      if (await isFile(image)) return image; // another run may just have made it
      progress("making the disk", 0);
      const tree = new FolderWriter(join(scratch, "tree"));
      if (kind === "systemd") {
        await unpackSystemd(join(scratch, "tree"), debs, progress);
        tree.file("etc/fstab", `UUID=${ROOT_UUID} / ext4 errors=remount-ro 0 1\n`);
        tree.file("etc/systemd/system.conf.d/patience.conf", PATIENCE);
      } else {
        addUserland(tree, await busyboxOf(await DebPackage.open(busybox!)));
        tree.file("etc/init", scripts.ROOT_INIT, 0o755);
      }
      const grub = await addBoot(tree, guest, menu(kind), await DebPackage.open(pc!), await DebPackage.open(efi!));
      const options = { label: "trike-root", uuid: ROOT_UUID, sizeBytes: ROOT_BYTES[kind] };
      // all files belong to root, who is, for mke2fs, whoever runs this
      const asRoot = (await Deno.stat(scratch)).uid === 0 ? [] : ["unshare", "--map-root-user"];
      const rootImage = join(scratch, "root.ext4");
      await makeExt4([...asRoot, ...await mke2fs(scratch)], scratch, options, rootImage);
      progress("making the disk", 0.7);
      const disk = join(scratch, "disk.img");
      await assemble(disk, grub, join(scratch, "tree", "boot", "grub"), rootImage, scratch);
      await Deno.rename(disk, image);
      progress("making the disk", 1);
      return image;
    }));
}

/** Puts kernel, initial file system, menu and GRUB's modules into /boot; returns GRUB's boot sector. */
async function addBoot(
  tree: FolderWriter,
  guest: Guest,
  menu: string,
  pc: DebPackage,
  efi: DebPackage,
): Promise<Uint8Array> {
  tree.file("boot/vmlinuz", await Deno.readFile(guest.kernel));
  tree.file("boot/initrd.img", await Deno.readFile(guest.initrd));
  tree.file("boot/grub/grub.cfg", menu);
  let bootSector: Uint8Array | undefined;
  for (const [deb, platform] of [[pc, "i386-pc"], [efi, "x86_64-efi"]] as const) {
    const prefix = `usr/lib/grub/${platform}/`;
    const files = await deb.files((path) => path.startsWith(prefix) && /\.(mod|lst|img)$/.test(path));
    for (const { path, kind, data } of files.values()) {
      if (kind === "file") tree.file(`boot/grub/${platform}/${path.slice(prefix.length)}`, data);
    }
    bootSector ??= files.get(`${prefix}boot.img`)?.data;
  }
  if (bootSector?.length !== SECTOR) throw new HostError(`Cannot find boot.img in the package "${pc.name}"`);
  return bootSector;
}

async function assemble(
  disk: string,
  bootSector: Uint8Array,
  grub: string,
  rootImage: string,
  scratch: string,
): Promise<void> {
  const early = join(scratch, "early.cfg"), core = join(scratch, "core.img"), program = join(scratch, "bootx64.efi");
  await Deno.writeTextFile(early, EARLY_CONFIG);
  const mkimage = (platform: string, out: string, more: readonly string[]) =>
    run("grub-mkimage", [
      ...["-O", platform, "-d", join(grub, platform), "-p", "/boot/grub", "-c", early, "-o", out],
      ...CORE_MODULES,
      ...more,
    ]);
  await mkimage("i386-pc", core, ["biosdisk"]);
  await mkimage("x86_64-efi", program, []);
  const esp = join(scratch, "esp.img");
  await Deno.writeFile(esp, new Uint8Array(0));
  await Deno.truncate(esp, ESP_BYTES);
  await run("mformat", ["-i", esp, "-F", "-v", "ESP", "-N", "7472696b", "::"]);
  await run("mmd", ["-i", esp, "::/EFI", "::/EFI/BOOT"]);
  await run("mcopy", ["-i", esp, program, "::/EFI/BOOT/BOOTX64.EFI"]);

  const rootBytes = (await Deno.stat(rootImage)).size;
  const sizes = [BIOS_BOOT_BYTES, ESP_BYTES, rootBytes] as const;
  const [bios, system, linux] = layOut(sizes);
  const diskSectors = linux!.firstLba + linux!.sectors + MIB / SECTOR;
  const table = guidPartitionTable(diskSectors, "7472696b-652d-4469-836b-2d4755494421", [bios!, system!, linux!]);
  const coreBytes = await Deno.readFile(core);
  if (coreBytes.length > BIOS_BOOT_BYTES) throw new HostError(`GRUB's core image has ${coreBytes.length} bytes`);
  joinBootBlocks(bootSector, coreBytes, bios!.firstLba);
  table.start.set(bootSector.subarray(0, 440));

  using file = await Deno.open(disk, { write: true, createNew: true });
  await file.truncate(diskSectors * SECTOR);
  await write(file, 0, table.start);
  await write(file, table.backupLba * SECTOR, table.end);
  await write(file, bios!.firstLba * SECTOR, coreBytes);
  await copySparse(esp, file, system!.firstLba * SECTOR);
  await copySparse(rootImage, file, linux!.firstLba * SECTOR);
}

function layOut(sizes: readonly [bios: number, esp: number, root: number]): Partition[] {
  const types = [PARTITION_TYPE.BIOS_BOOT, PARTITION_TYPE.EFI_SYSTEM, PARTITION_TYPE.LINUX_ROOT_X86_64];
  let firstLba = Math.max(MIB / SECTOR, GPT_SECTORS);
  return sizes.map((bytes, n) => {
    const sectors = Math.ceil(bytes / MIB) * (MIB / SECTOR);
    const guid = `7472696b-652d-4469-836b-2d504152540${n}`;
    const one = { type: types[n]!, guid, name: ["BIOS boot", "EFI system", "root"][n]!, firstLba, sectors };
    firstLba += sectors;
    return one;
  });
}

/**
 * Tells the boot sector where the core image begins, and the core image's first sector where its second is. grub-mkimage
 * leaves both as if it began at sector 1: 64 bits at 5Ch, and at 1F4h.
 */
function joinBootBlocks(bootSector: Uint8Array, core: Uint8Array, lba: number): void {
  for (const [bytes, at, was, is] of [[bootSector, 0x5c, 1n, lba], [core, 0x1f4, 2n, lba + 1]] as const) {
    const dv = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (dv.getBigUint64(at, true) !== was) {
      throw new HostError("Cannot place GRUB: its boot blocks are of another kind");
    }
    dv.setBigUint64(at, BigInt(is), true);
  }
}

async function copySparse(from: string, to: Deno.FsFile, at: number): Promise<void> {
  using source = await Deno.open(from);
  const buffer = new Uint8Array(64 << 10);
  for (let n; (n = await source.read(buffer)) !== null; at += n) {
    const bytes = buffer.subarray(0, n);
    if (bytes.some((byte) => byte !== 0)) await write(to, at, bytes);
  }
}

async function write(file: Deno.FsFile, at: number, bytes: Uint8Array): Promise<void> {
  await file.seek(at, Deno.SeekMode.Start);
  for (let done = 0; done < bytes.length;) done += await file.write(bytes.subarray(done));
}

async function run(program: keyof typeof DISK_TOOLS, args: readonly string[]): Promise<void> {
  try {
    const { code, stderr } = await new Deno.Command(program, { args: [...args], stdout: "null", stderr: "piped" })
      .output();
    if (code !== 0) {
      throw new HostError(`${program} ended with status ${code}: ${new TextDecoder().decode(stderr).trim()}`);
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new HostError(`Cannot make the disk: this host has no ${program}; install ${DISK_TOOLS[program]}`);
  }
}
