/** The emulators that are compared, as commands that boot the same files with the console on their output. */

import { join } from "@std/path";
import { cacheRoot } from "../../src/guest/cache.ts";
import { V8_FLAGS } from "../build/v8_flags.ts";

/** An image that the guest may write to, and the controller it is at. */
export interface DiskBoot {
  readonly path: string;
  readonly controller?: "virtio" | "ahci" | "nvme";
  readonly format?: "raw" | "qcow2";
}

export interface Boot {
  readonly kernel: string;
  readonly initrd: string;
  readonly append: string;
  readonly disk?: DiskBoot;
  readonly cpus?: number;
  /** With a network card, and the user network behind it. */
  readonly net?: boolean;
}

export interface Contender {
  readonly name: "trike" | "qemu";
  command(boot: Boot): string[];
}

export const MEMORY_MIB = 512;
/** The software CPU with machine code of the host's. */
export const NATIVE_ENGINE = "soft:native";

export function trike(engine: string): Contender {
  const main = new URL("../../src/main.ts", import.meta.url).pathname;
  return {
    name: "trike",
    command({ kernel, initrd, append, disk, cpus, net }) {
      // what the software CPU needs, with the place for its image, and no more; the others reach the host by FFI
      const soft = engine === "soft" || engine === NATIVE_ENGINE, writes = soft ? [join(cacheRoot(), "images")] : [];
      if (disk !== undefined) writes.push(disk.path);
      const permissions = ["--no-prompt", "--allow-read", soft ? "--allow-env=HOME,XDG_CACHE_HOME" : "--allow-ffi"];
      if (engine === NATIVE_ENGINE) permissions.push("--allow-ffi");
      if (writes.length > 0) permissions.push(`--allow-write=${writes.join()}`);
      if (net) permissions.push("--allow-net");
      const machine = ["--engine", engine, "--memory", `${MEMORY_MIB}M`];
      if (cpus !== undefined) machine.push("--cpus", `${cpus}`);
      if (disk !== undefined) {
        const { path, format = "raw", controller = "virtio" } = disk;
        machine.push("--disk", `${path.replaceAll(",", ",,")},format=${format},controller=${controller}`);
      }
      const files = ["--kernel", kernel, "--initrd", initrd, "--append", append];
      return [
        Deno.execPath(),
        "run",
        `--v8-flags=${V8_FLAGS.join(",")}`,
        ...permissions,
        main,
        "run",
        "--quiet",
        "--no-reboot",
        ...machine,
        ...files,
      ];
    },
  };
}

export const QEMU = "qemu-system-x86_64";

const QEMU_DISK = {
  virtio: ["-device", "virtio-blk-pci,drive=disk"],
  ahci: ["-device", "ich9-ahci,id=sata", "-device", "ide-hd,drive=disk,bus=sata.0"],
  nvme: ["-device", "nvme,drive=disk,serial=disk0"],
} as const;

export const qemu: Contender = {
  name: "qemu",
  command({ kernel, initrd, append, disk, cpus, net }) {
    const machine = ["-accel", "tcg", "-cpu", "max", "-m", `${MEMORY_MIB}`, "-nodefaults", "-display", "none"];
    if (cpus !== undefined) machine.push("-smp", `${cpus}`);
    if (disk !== undefined) {
      const { path, format = "raw", controller = "virtio" } = disk;
      machine.push(
        "-drive",
        `file=${path.replaceAll(",", ",,")},if=none,id=disk,format=${format}`,
        ...QEMU_DISK[controller],
      );
    }
    if (net) machine.push("-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net");
    const files = ["-kernel", kernel, "-initrd", initrd, "-append", append];
    return [QEMU, ...machine, "-no-reboot", "-serial", "stdio", ...files];
  },
};

/** Trike, and QEMU if this host has it. */
export async function contenders(engine: string): Promise<Contender[]> {
  if (await firstLine(QEMU, "--version") !== null) return [trike(engine), qemu];
  console.log("qemu: not installed (Debian's package qemu-system-x86); trike is measured alone");
  return [trike(engine)];
}

/** The first line a program says when asked for its version; null if the host has no such program. */
export async function firstLine(program: string, ...args: string[]): Promise<string | null> {
  try {
    const { stdout, success } = await new Deno.Command(program, { args, stdout: "piped", stderr: "null" }).output();
    return success ? new TextDecoder().decode(stdout).split("\n")[0]! : null;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return null;
    throw error;
  }
}
