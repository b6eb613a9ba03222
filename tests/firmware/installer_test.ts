/**
 * Debian's installer to its first dialogue: from the network by a BIOS and by UEFI, on COM1 and on the display, and from a
 * CD-ROM. For those who have its package; each takes a minute or two.
 */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { Trike, withFolder } from "../boot/guests.ts";
import { which } from "../guest/which.ts";
import { firmwareOrSkip } from "./images.ts";

const seabios = firmwareOrSkip("seabios", "/usr/share/seabios/bios-256k.bin");
const code = firmwareOrSkip("ovmf", "/usr/share/OVMF/OVMF_CODE_4M.fd");
const vars = firmwareOrSkip("ovmf", "/usr/share/OVMF/OVMF_VARS_4M.fd");
const ipxe = firmwareOrSkip("ipxe-qemu", "/usr/lib/ipxe/qemu/pxe-virtio.rom");
const TEXT = "/usr/lib/debian-installer/images/12/amd64/text";
const FILES = "debian-installer/amd64";
const installer = firmwareOrSkip("debian-installer-12-netboot-amd64", `${TEXT}/${FILES}/linux`);
const boot = firmwareOrSkip("grub-pc-bin", "/usr/lib/grub/i386-pc/boot.img");
const client = which("vncsnapshot"), reader = which("tesseract");
if (!installer.ignore && !(client && reader)) {
  console.log(
    "skipped: the installer on a display: one of the packages vncsnapshot and tesseract-ocr is not installed",
  );
}
const mkrescue = which("grub-mkrescue");

const ALLOW = ["--allow-read", "--allow-write", "--allow-env", "--allow-net"];
const DIALOGUE = "Select a language";
const SECONDS = 900;
const SERIAL = "console=ttyS0 TERM=vt102";
/** The first of the displays that VNC programs count. */
const FIRST_PORT = 5900;

const grubConfig = (folder: string, append: string) => `
${append === SERIAL ? "serial --unit=0 --speed=115200\nterminal_output serial\nterminal_input serial" : ""}
set gfxpayload=keep
set timeout=1
menuentry install {
  linux ${folder}/linux ${append}
  initrd ${folder}/initrd.gz
}
`;

/** The package's files for TFTP, with menus that do not ask. */
async function netbootFolder(folder: string, append: string): Promise<string> {
  const root = `${folder}/tftp`;
  const { code } = await new Deno.Command("cp", { args: ["-r", "--no-preserve=all", TEXT, root] }).output();
  assertEquals(code, 0);
  await Deno.remove(`${root}/pxelinux.cfg`, { recursive: true });
  await Deno.mkdir(`${root}/pxelinux.cfg`);
  const kernel = `kernel ${FILES}/linux\nappend initrd=${FILES}/initrd.gz ${append}`;
  await Deno.writeTextFile(`${root}/pxelinux.cfg/default`, `default install\nlabel install\n${kernel}\n`);
  await Deno.writeTextFile(`${root}/${FILES}/grub/grub.cfg`, grubConfig(`/${FILES}`, append));
  return `user,tftp=${root},bootfile=pxelinux.0,bootfile-uefi=${FILES}/bootnetx64.efi`;
}

async function firmwareArgs(kind: "BIOS" | "UEFI", folder: string): Promise<string[]> {
  if (kind === "BIOS") return ["--firmware", seabios.path];
  await Deno.copyFile(vars.path, `${folder}/vars.fd`);
  return ["--firmware", code.path, "--firmware-vars", `${folder}/vars.fd`];
}

function start(...args: readonly string[]): Trike {
  const machine = ["--memory", "1G", "--engine", "soft", "--timeout", String(SECONDS)];
  return new Trike(["run", "--quiet", ...args, ...machine], ALLOW);
}

for (const kind of ["BIOS", "UEFI"] as const) {
  const ignore = installer.ignore || (kind === "BIOS" ? seabios.ignore || ipxe.ignore : code.ignore || vars.ignore);

  Deno.test({
    name: `Debian's installer from the network, ${kind}, on COM1: "${DIALOGUE}"`,
    ignore,
    fn: () =>
      withFolder(async (folder) => {
        const net = await netbootFolder(folder, SERIAL);
        await using trike = start(...await firmwareArgs(kind, folder), "--net", net);
        await trike.talk.until(kind === "BIOS" ? "PXELINUX" : "NBP file downloaded successfully", SECONDS);
        await trike.talk.until("Linux version ", SECONDS);
        await trike.talk.until(DIALOGUE, SECONDS);
      }),
  });

  Deno.test({
    name:
      `Debian's installer from the network, ${kind}, on the display: a VNC client's picture of it, read by tesseract`,
    ignore: ignore || !client || !reader,
    fn: () =>
      withFolder(async (folder) => {
        const net = await netbootFolder(folder, "vga=788");
        const port = freePort(), vnc = ["--vnc", String(port)];
        await using _ = start(...await firmwareArgs(kind, folder), "--net", net, ...vnc, "--serial", "none");
        const text = await readUntil(DIALOGUE, port - FIRST_PORT, `${folder}/screen.jpg`);
        for (const word of ["Choose the language", "Albanian", "Esperanto"]) assertStringIncludes(text, word);
      }),
  });

  Deno.test({
    name: `Debian's installer from a CD-ROM, ${kind}, on COM1: "${DIALOGUE}"`,
    ignore: installer.ignore || !mkrescue || boot.ignore || (kind === "UEFI" ? noEfi() || code.ignore : seabios.ignore),
    fn: () =>
      withFolder(async (folder) => {
        await Deno.mkdir(`${folder}/cd/boot/grub`, { recursive: true });
        for (const name of ["linux", "initrd.gz"]) {
          await Deno.copyFile(`${TEXT}/${FILES}/${name}`, `${folder}/cd/${name}`);
        }
        await Deno.writeTextFile(`${folder}/cd/boot/grub/grub.cfg`, grubConfig("", SERIAL));
        const args = ["-o", `${folder}/installer.iso`, `${folder}/cd`];
        const made = await new Deno.Command(mkrescue!, { args, stdout: "null", stderr: "piped" }).output();
        assertEquals(made.code, 0, new TextDecoder().decode(made.stderr));
        const disk = ["--disk", `${folder}/installer.iso,controller=cdrom`, "--boot", "cdrom"];
        await using trike = start(...await firmwareArgs(kind, folder), ...disk);
        await trike.talk.until("Linux version ", SECONDS);
        await trike.talk.until(DIALOGUE, SECONDS);
      }),
  });
}

/** Whether grub-mkrescue would leave UEFI out. */
function noEfi(): boolean {
  return firmwareOrSkip("grub-efi-amd64-bin", "/usr/lib/grub/x86_64-efi/normal.mod").ignore;
}

function freePort(): number {
  for (let port = FIRST_PORT + 10;; port++) {
    try {
      Deno.listen({ hostname: "127.0.0.1", port }).close();
      return port;
    } catch (error) {
      if (port > FIRST_PORT + 99) throw error;
    }
  }
}

/** Looks at the display every few seconds until `wanted` is on it; all that was read then. */
async function readUntil(wanted: string, display: number, picture: string): Promise<string> {
  const deadline = performance.now() + SECONDS * 1000;
  for (let text = "";;) {
    const seen = await new Deno.Command(client!, {
      args: ["-quality", "100", `127.0.0.1:${display}`, picture],
      stdout: "null",
      stderr: "null",
    }).output();
    if (seen.success) {
      const { stdout } = await new Deno.Command(reader!, {
        args: [picture, "-", "--psm", "6"],
        env: { OMP_THREAD_LIMIT: "1" }, // threads that wait for each other waste a small host
        stderr: "null",
      }).output();
      text = new TextDecoder().decode(stdout);
      if (text.includes(wanted)) return text;
    }
    if (performance.now() > deadline) {
      throw new Error(`"${wanted}" was not on the display within ${SECONDS} s, but: ${text}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 5000));
  }
}
