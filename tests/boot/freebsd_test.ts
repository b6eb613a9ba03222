/** A kernel that reads FreeBSD's records, on the software CPU: entered at its virtual address, it finds its environment. */
import { assertEquals } from "@std/assert";
import { DEBUG_EXIT_PORT } from "../../devices/debug_ports.ts";
import { freeBsdKernel } from "../boot_loaders/freebsd_kernel.ts";
import { trike, withFolder } from "./guests.ts";

Deno.test("a kernel of FreeBSD's kind runs, and reads the environment that --append makes", () =>
  withFolder(async (folder) => {
    const [kernel, log] = [`${folder}/kernel`, `${folder}/log`];
    await Deno.writeFile(kernel, freeBsdKernel({ exit: DEBUG_EXIT_PORT }));
    const words = [
      "--engine",
      "soft",
      "-q",
      "--kernel",
      kernel,
      "--debugcon",
      log,
      "--timeout",
      "60",
      "--memory",
      "64M",
    ];
    const { code, stderr } = await trike(["run", ...words, "--append", "-s kern.hz=100"]);
    assertEquals([code, stderr], [0x43, ""]);
    const lines = (await Deno.readTextFile(log)).trimEnd().split("\n");
    assertEquals([lines[0], lines.at(-1)], ["kernelname=/boot/kernel/kernel", "kern.hz=100"]);
  }));
