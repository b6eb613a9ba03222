/**
 * A disk as an installed Debian has it: firmware starts GRUB from it, GRUB the kernel, and the root is found by its UUID. With
 * BusyBox for a user land here; with systemd, to a login, and on every pair of firmware and controller, where TRIKE_LONG_TESTS
 * is set: that takes minutes.
 */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { DISK_TOOLS, grubDisk, type RootKind } from "../../scripts/guest/grub_disk.ts";
import { guestOrSkip, Trike, trike, withFolder } from "../boot/guests.ts";
import { plain } from "../boot/talk.ts";
import { QEMU, Qemu } from "../guest/qemu.ts";
import { which } from "../guest/which.ts";
import { assertSound, noQemuImg } from "../storage/qemu_img.ts";
import { firmwareOrSkip } from "./images.ts";

const FIRMWARE = {
  bios: {
    image: firmwareOrSkip("seabios", "/usr/share/seabios/bios-256k.bin"),
    grub: "i386-pc",
  },
  uefi: {
    image: firmwareOrSkip("ovmf", "/usr/share/OVMF/OVMF_CODE_4M.fd"),
    grub: "x86_64-efi",
  },
} as const;
type Firmware = keyof typeof FIRMWARE;
type Controller = "ahci" | "nvme";

const ROOT_DEVICE: Readonly<Record<Controller, string>> = { ahci: "/dev/sda3", nvme: "/dev/nvme0n1p3" };
const vars = firmwareOrSkip("ovmf", "/usr/share/OVMF/OVMF_VARS_4M.fd");
const long = (Deno.env.get("TRIKE_LONG_TESTS") ?? "") !== "";
const missing = Object.entries(DISK_TOOLS).find(([program]) => which(program) === null);
if (missing) console.log(`skipped: a disk that GRUB boots: the package ${missing[1]} is not installed`);
if (!long) {
  console.log("skipped: Debian's systemd from a disk through GRUB: it takes minutes, TRIKE_LONG_TESTS is not set");
}
const { ignore: noGuest } = await guestOrSkip("generic");
const ignore = noGuest || missing !== undefined;
const e2fsck = which("e2fsck");

const WAIT_SECONDS = 600;
/** What ends each boot: where root is, what the machine has, and a file to be found afterwards. */
const LOOK = "grep ' / ' /proc/mounts; nproc; ls -d /sys/firmware/efi; echo kept >/kept; sync; echo do''ne";

interface Boot {
  readonly kind: RootKind;
  readonly firmware: Firmware;
  readonly controller: Controller;
  readonly cpus: number;
  readonly qcow2: boolean;
}

/** Gets to a shell, which says what LOOK asks of it, and powers off. */
async function talkTo(
  kind: RootKind,
  until: (text: string) => Promise<string>,
  type: (text: string) => Promise<void>,
): Promise<string> {
  let said = "";
  if (kind === "systemd") {
    said += await until("login: ");
    await type("root\r");
    said += await until("# ");
  } else said += await until("~ # ");
  await type(`${LOOK}\r`);
  said += await until("\ndone");
  await type("poweroff\r");
  return plain(said);
}

function check(said: string, { firmware, controller, cpus }: Pick<Boot, "firmware" | "controller" | "cpus">): void {
  assertStringIncludes(said, `GRUB on ${FIRMWARE[firmware].grub} from hd0,gpt3`);
  assertMatch(said, new RegExp(`^${ROOT_DEVICE[controller]} / ext4 rw`, "m"));
  assertMatch(said, new RegExp(`^${cpus}$`, "m"));
  assertEquals(/^\/sys\/firmware\/efi$/m.test(said), firmware === "uefi");
}

/** The root file system was closed as one should be, and holds what the guest wrote. */
async function checkRoot(folder: string, disk: string): Promise<void> {
  if (e2fsck === null) {
    return console.log("skipped: the check of the file system from outside: there is no e2fsck here");
  }
  const dd = new Deno.Command("dd", {
    args: [`if=${disk}`, `of=${folder}/root.ext4`, "bs=1M", "skip=38", "conv=sparse", "status=none"],
  });
  assertEquals((await dd.output()).code, 0);
  const { code, stdout } = await new Deno.Command(e2fsck, { args: ["-f", "-n", `${folder}/root.ext4`] }).output();
  const said = new TextDecoder().decode(stdout);
  assertEquals(code, 0, said);
  assert(!/not clean|recovering|WARNING/.test(said), said);
  const debugfs = which("debugfs");
  if (debugfs === null) return;
  const cat = await new Deno.Command(debugfs, { args: ["-R", "cat /kept", `${folder}/root.ext4`] }).output();
  assertEquals(new TextDecoder().decode(cat.stdout), "kept\n");
}

async function run(program: string, ...args: string[]): Promise<void> {
  const { code, stderr } = await new Deno.Command(program, { args, stdout: "null", stderr: "piped" }).output();
  assertEquals(code, 0, new TextDecoder().decode(stderr));
}

function bootTest(boot: Boot): void {
  const { kind, firmware, controller, cpus, qcow2 } = boot;
  const { image } = FIRMWARE[firmware];
  const what = `${
    kind === "systemd" ? "Debian with systemd" : "Debian's kernel with BusyBox"
  } boots through ${image.name}`;
  const how = `a ${qcow2 ? "qcow2" : "raw"} disk on ${controller}, ${cpus} vCPU${cpus > 1 ? "s" : ""}`;
  Deno.test({
    name: `${what} and GRUB from ${how}, and powers off clean`,
    ignore: ignore || image.ignore || (firmware === "uefi" && vars.ignore) || (qcow2 && noQemuImg),
    fn: () =>
      withFolder(async (folder) => {
        const source = await grubDisk(kind, () => {});
        const disk = `${folder}/disk.${qcow2 ? "qcow2" : "img"}`;
        if (qcow2) assertEquals((await trike(["disk", "convert", source, disk])).code, 0);
        else await run("cp", "--sparse=always", source, disk);
        const words = ["--firmware", image.path, "--disk", `${disk},controller=${controller}`, "--cpus", `${cpus}`];
        if (firmware === "uefi") {
          await Deno.copyFile(vars.path, `${folder}/vars.fd`);
          words.push("--firmware-vars", `${folder}/vars.fd`);
        }
        const machine = ["--memory", "512M", "--engine", "soft", "--timeout", `${2 * WAIT_SECONDS}`];
        await using guest = new Trike(["run", "--quiet", ...words, ...machine]);
        const { talk } = guest;
        check(await talkTo(kind, (text) => talk.until(text, WAIT_SECONDS), (text) => talk.type(text)), boot);
        const { code, stderr, stdout } = await guest.end();
        assertEquals([code, stderr], [0, ""], stdout);
        if (qcow2) {
          await assertSound(disk);
          await run("qemu-img", "convert", "-O", "raw", disk, `${folder}/disk.img`);
        }
        await checkRoot(folder, `${folder}/disk.img`);
      }),
  });
}

bootTest({ kind: "busybox", firmware: "bios", controller: "ahci", cpus: 1, qcow2: false });
bootTest({ kind: "busybox", firmware: "uefi", controller: "nvme", cpus: 2, qcow2: true });

if (long) {
  for (const firmware of ["bios", "uefi"] as const) {
    for (const controller of ["ahci", "nvme"] as const) {
      bootTest({ kind: "systemd", firmware, controller, cpus: 1, qcow2: controller === "ahci" });
      if (firmware === "uefi") bootTest({ kind: "systemd", firmware, controller, cpus: 2, qcow2: false });

      const { image } = FIRMWARE[firmware];
      Deno.test({
        name: `QEMU boots the same disk through ${image.name} on ${controller}, which is how we know that it is right`,
        ignore: ignore || image.ignore || vars.ignore || QEMU === null,
        fn: () =>
          withFolder(async (folder) => {
            await Deno.copyFile(vars.path, `${folder}/vars.fd`);
            await run("cp", "--sparse=always", await grubDisk("systemd", () => {}), `${folder}/disk.img`);
            const flash = (file: string, more: string) => ["-drive", `if=pflash,format=raw,file=${file}${more}`];
            const start = firmware === "bios"
              ? ["-bios", image.path]
              : [...flash(image.path, ",readonly=on"), ...flash(`${folder}/vars.fd`, "")];
            const device = controller === "ahci" ? "ide-hd,drive=disk" : "nvme,drive=disk,serial=1";
            const disk = ["-drive", `if=none,id=disk,format=raw,file=${folder}/disk.img`, "-device", device];
            await using qemu = new Qemu({ machine: ["-M", "q35", ...start, ...disk], seconds: 2 * WAIT_SECONDS });
            const said = await talkTo("systemd", (text) => qemu.expect(text), (text) => qemu.type(text));
            check(said, { firmware, controller, cpus: 1 });
            assertEquals(await qemu.end(), 0);
            await checkRoot(folder, `${folder}/disk.img`);
          }),
      });
    }
  }
}
