/** The one door of the boot loaders: a kernel file into guest RAM, and the state to enter it with. */
import { ConfigError } from "../base/errors.ts";
import type { GuestRam } from "../base/ram.ts";
import { describeSize } from "../base/size.ts";
import type { InitialState } from "../engine/engine.ts";
import { loadFreeBsd } from "./freebsd.ts";
import type { Named } from "./host_file.ts";
import { readKernel, recognise } from "./kernel_image.ts";
import { loadBzImage, loadVmlinux } from "./linux.ts";
import { LOW } from "./low_memory.ts";
import { loadMultiboot } from "./multiboot.ts";
import type { LoadOptions } from "./place.ts";
import { loadPvh } from "./pvh.ts";

export type { AcpiTables, LoadOptions } from "./place.ts";

/** The low MiB and something to load a kernel into. */
const MIN_RAM_BYTES = 2 * LOW.END;

/** Loads `options.kernel` with its initrd and command line. Everything that can be wrong with them is a ConfigError. */
export function loadKernel(ram: GuestRam, options: LoadOptions): InitialState {
  if (ram.sizeBytes < MIN_RAM_BYTES) {
    throw new ConfigError(
      `--memory ${describeSize(ram.sizeBytes)} is too little for any kernel: ${
        describeSize(MIN_RAM_BYTES)
      } is the least`,
    );
  }
  const { name, bytes } = readKernel(options.kernel);
  try {
    return place(ram, bytes, name, options);
  } finally {
    // The file's bytes are in RAM now. The collector would keep them for as long as this thread is at rest.
    bytes.buffer.transfer(0);
  }
}

function place(ram: GuestRam, bytes: Uint8Array<ArrayBuffer>, name: Named, options: LoadOptions): InitialState {
  const kernel = recognise(bytes, name);
  if (kernel.kind !== "freebsd") {
    const [flag, value] = options.modules?.length
      ? ["--module", options.modules[0]!.path]
      : ["--env", options.env?.[0]];
    if (value !== undefined) {
      throw new ConfigError(`${flag} ${JSON.stringify(value)}: expected it with FreeBSD's kernel, and this is another`);
    }
  }
  switch (kernel.kind) {
    case "bzImage":
      return loadBzImage(ram, kernel.image, name, options);
    case "vmlinux":
      return loadVmlinux(ram, kernel.image, name, options);
    case "pvh":
      return loadPvh(ram, kernel.image, name, options);
    case "freebsd":
      return loadFreeBsd(ram, kernel.image, name, options);
    case "multiboot":
      return loadMultiboot(ram, kernel.bytes, kernel.header, kernel.elf, name, options);
  }
}
