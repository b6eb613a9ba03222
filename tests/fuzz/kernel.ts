/** Kernel files: whatever they hold, they load or they are the user's mistake, and nothing else. */
import { ConfigError } from "../../src/base/errors.ts";
import { GuestRam } from "../../src/base/ram.ts";
import { loadFreeBsd } from "../../src/boot/freebsd.ts";
import { recognise } from "../../src/boot/kernel_image.ts";
import { loadBzImage, loadVmlinux } from "../../src/boot/linux.ts";
import { loadMultiboot } from "../../src/boot/multiboot.ts";
import { loadPvh } from "../../src/boot/pvh.ts";
import { freeBsdKernel } from "../boot_loaders/freebsd_kernel.ts";
import { bzImageFile, elfFile, vmlinuxFile, withSize } from "../boot_loaders/images.ts";
import type { Target } from "./target.ts";

const RAM = GuestRam.private(16 << 20);
const NAME = { what: "kernel", path: "fuzz" } as const;
const TEXT = Uint8Array.of(0xf4, 0xeb, 0xfd);

export const kernel: Target = {
  name: "kernel",
  seeds: () => [
    vmlinuxFile(TEXT),
    elfFile({ entry: 0x200000n, segments: [{ paddr: 0x200000, bytes: TEXT }], pvh: 0x200000 }),
    elfFile({ bits: 32, entry: 0x200000n, segments: [{ paddr: 0x200000, bytes: TEXT }], pvh: 0x200001 }),
    freeBsdKernel(),
    bzImageFile({ payload: withSize(vmlinuxFile(TEXT), vmlinuxFile(TEXT).length) }),
  ],
  fuzz(bytes) {
    const options = {
      kernel: NAME.path,
      initrd: null,
      append: "fuzz=1",
      acpiTables: (base: number) => ({ bytes: new TextEncoder().encode("RSD PTR "), rsdp: base }),
    };
    try {
      const kernel = recognise(bytes, NAME);
      if (kernel.kind === "bzImage") loadBzImage(RAM, kernel.image, NAME, options);
      else if (kernel.kind === "vmlinux") loadVmlinux(RAM, kernel.image, NAME, options);
      else if (kernel.kind === "freebsd") loadFreeBsd(RAM, kernel.image, NAME, options);
      else if (kernel.kind === "pvh") loadPvh(RAM, kernel.image, NAME, options);
      else if (kernel.kind === "multiboot") loadMultiboot(RAM, kernel.bytes, kernel.header, kernel.elf, NAME, options);
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
    }
  },
};
