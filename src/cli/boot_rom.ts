/** The option ROM by which firmware boots from the network: the user's, or one that the host has. */
import { dirname, join } from "@std/path";
import type { FirmwareSpec, NetSpec } from "../machine/spec.ts";
import { mistake } from "./values.ts";

/** Where the packages of iPXE for virtual machines have them. */
const FOLDERS = ["/usr/lib/ipxe/qemu", "/usr/share/ipxe/qemu", "/usr/share/qemu"];

/** The network card with what it needs for --boot or a bootfile; `isFile` asks the host. Throws ConfigError. */
export function withBootRom(
  firmware: FirmwareSpec | null,
  net: NetSpec | undefined,
  isFile: (path: string) => boolean,
): NetSpec | undefined {
  const asked = firmware?.boot?.includes("net") ?? false;
  if (asked && !net) throw mistake("--boot", firmware!.boot!.join(), "a network card with net");
  if (!net || net.rom !== undefined) {
    if (net?.rom !== undefined && !firmware) throw mistake("--net", `rom=${net.rom}`, "it with --firmware");
    return net;
  }
  const told = net.kind === "user" && (net.bootFile ?? net.bootFileUefi) !== undefined;
  if (!firmware || !(asked || (told && !firmware.boot))) return net;
  const model = net.model ?? "virtio", uefi = firmware.vars !== null;
  // UEFI has its own driver for virtio.
  if (uefi && model === "virtio") return net;
  const names = uefi ? [`efi-${model}.rom`] : [`pxe-${model}.rom`, `efi-${model}.rom`];
  const paths = [dirname(firmware.path), ...FOLDERS].flatMap((folder) => names.map((name) => join(folder, name)));
  const rom = paths.find(isFile);
  if (rom !== undefined) return { ...net, rom };
  const [flag, value] = asked ? ["--boot", firmware.boot!.join()] : ["--net", `model=${model}`];
  throw mistake(flag!, value!, `${names[0]} of the package ipxe-qemu, or --net ...,rom=FILE`);
}
