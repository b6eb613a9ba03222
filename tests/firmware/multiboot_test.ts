/** Multiboot kernels with --kernel, beside QEMU where it knows the convention. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { ConfigError } from "../../src/base/errors.ts";
import { GuestRam } from "../../src/base/ram.ts";
import { loadKernel } from "../../src/boot/load_kernel.ts";
import { multibootHeader } from "../../src/boot/multiboot.ts";
import { trike, withFolder } from "../boot/guests.ts";
import { elfFile } from "../boot_loaders/images.ts";
import { HEADER1_AT, HEADER2_AT, multibootKernel } from "../boot_loaders/multiboot_kernel.ts";
import { which } from "../guest/which.ts";

const qemu = which("qemu-system-x86_64");
const NAME = { what: "kernel", path: "k" } as const;
const MIB = 2 ** 20;

async function withKernel(kernel: Uint8Array, body: (kernel: string, initrd: string) => Promise<void>): Promise<void> {
  await withFolder(async (folder) => {
    await Deno.writeFile(`${folder}/kernel`, kernel);
    await Deno.writeTextFile(`${folder}/module`, "MODULE");
    await body(`${folder}/kernel`, `${folder}/module`);
  });
}

async function run(kernel: string, initrd: string, ...more: string[]): Promise<string[]> {
  const args = ["run", "--quiet", "--kernel", kernel, "--initrd", initrd, "--append", "one two", "--memory", "64M"];
  const { code, stdout, stderr } = await trike([...args, "--engine", "soft", "--timeout", "180", ...more]);
  assertEquals([code, stderr], [11, ""]); // 5 to the debug exit
  return stdout.trim().split("\n").map((line) => line.trim());
}

Deno.test("Multiboot: a kernel is told memory, command line and module, as QEMU tells it", () =>
  withKernel(multibootKernel(1), async (kernel, initrd) => {
    const said = await run(kernel, initrd);
    assertEquals(said, [
      "2BADB002",
      "lower 0000027F",
      "upper 0000FC00",
      "command one two",
      "modules 00000001 00000006 55444F4D",
      "ram 00000000 0009FC00",
      "ram 00100000 03F00000",
      "end",
    ]);
    if (!qemu) return void console.log("skipped: the same in QEMU: qemu-system-x86_64 is not installed");
    const machine = [
      "-m",
      "64",
      "-display",
      "none",
      "-serial",
      "stdio",
      "-device",
      "isa-debug-exit,iobase=0xf4,iosize=4",
    ];
    const args = ["-accel", "tcg", "-kernel", kernel, "-initrd", initrd, "-append", "one two", ...machine];
    const { stdout } = await new Deno.Command(qemu, { args, stderr: "null" }).output();
    const theirs = new TextDecoder().decode(stdout).trim().split("\n").map((line) => line.trim());
    // QEMU puts the kernel's path before its command line, and firmware keeps a little of the RAM for itself.
    const same = (lines: string[]) => lines.filter((line) => !/^(command|upper|ram 00100000)/.test(line));
    assertEquals(same(said), same(theirs));
  }));

Deno.test("Multiboot2: a kernel is told the same in tags, and where the RSDP is", () =>
  withKernel(multibootKernel(2), async (kernel, initrd) => {
    const said = await run(kernel, initrd);
    assertEquals(said[0], "36D76289");
    const tags = said.filter((line) => line.startsWith("tag")).map((line) => line.split(" ").slice(1));
    assertEquals(tags.map(([type]) => Number(`0x${type}`)), [1, 2, 3, 4, 6, 14, 15, 0]);
    assertEquals(said.includes("command one two"), true);
    const of = (type: number) => tags.find(([t]) => Number(`0x${t}`) === type)!.slice(2);
    assertEquals(of(4), ["0000027F", "0000FC00"]);
    assertEquals(of(15), ["20445352", "20525450"]); // "RSD PTR "
    const [from, to] = of(3).map((word) => Number(`0x${word}`));
    assertEquals(to! - from!, 6);
  }));

Deno.test("Multiboot: a kernel that asks for a framebuffer gets the display's, if there is one", () => {
  const kernel = multibootKernel(1), view = new DataView(kernel.buffer);
  const flags = view.getUint32(HEADER1_AT + 4, true) | 4;
  view.setUint32(HEADER1_AT + 4, flags, true);
  view.setUint32(HEADER1_AT + 8, -(0x1badb002 + flags), true);
  return withKernel(kernel, (path) => {
    const load = (framebuffer: boolean) => {
      const ram = GuestRam.private(8 * MIB);
      loadKernel(ram, {
        kernel: path,
        initrd: null,
        append: "",
        acpiTables: (base) => ({ bytes: new Uint8Array(36), rsdp: base }),
        ...(framebuffer ? { framebuffer: () => ({ gpa: 0xc1000000, pitch: 4096, width: 1024, height: 768 }) } : {}),
      });
      return { flags: ram.read(0x6000, 4), at: ram.read64(0x6000 + 88), pitch: ram.read(0x6000 + 96, 4) };
    };
    assertEquals(load(false).flags & (1 << 12), 0);
    const told = load(true);
    assertEquals([told.flags >> 12 & 1, told.at, told.pitch], [1, 0xc1000000, 4096]);
    return Promise.resolve();
  });
});

Deno.test("Multiboot: an ELF kernel without addresses in its header is loaded as ELF", () => {
  const header = new Uint8Array(Uint32Array.of(0x1badb002, 2, -(0x1badb002 + 2)).buffer);
  const elf = elfFile({
    bits: 32,
    entry: 0x20000cn,
    segments: [{ paddr: 0x200000, bytes: Uint8Array.of(...header, 0xf4) }],
  });
  return withKernel(elf, (path) => {
    const ram = GuestRam.private(8 * MIB);
    const acpiTables = (base: number) => ({ bytes: new Uint8Array(36), rsdp: base });
    const state = loadKernel(ram, { kernel: path, initrd: null, append: "", acpiTables });
    assertEquals([state.rip, state.gpr.rax, ram.read(0x20000c, 1)], [0x20000c, 0x2badb002, 0xf4]);
    return Promise.resolve();
  });
});

Deno.test("Multiboot: a header that asks for what is not known is refused, and names it", () => {
  const one = multibootKernel(1), view1 = new DataView(one.buffer);
  view1.setUint32(HEADER1_AT + 4, 0x10012, true);
  view1.setUint32(HEADER1_AT + 8, -(0x1badb002 + 0x10012), true);
  assert(assertThrows(() => multibootHeader(one, NAME), ConfigError).message.includes("flags 10h"));
  const two = multibootKernel(2), view2 = new DataView(two.buffer);
  view2.setUint16(HEADER2_AT + 16, 99, true); // the first tag's type
  assert(assertThrows(() => multibootHeader(two, NAME), ConfigError).message.includes("type 99"));
  view2.setUint16(HEADER2_AT + 18, 1, true); // optional
  assertEquals(multibootHeader(two, NAME)!.addresses, null);
});

Deno.test("Multiboot: a damaged header is refused or harmless", () => {
  let seed = 5;
  const random = (n: number) => (seed = Math.imul(seed, 1103515245) + 12345 >>> 0) % n;
  return withKernel(new Uint8Array(1), (path) => {
    for (let i = 0; i < 300; i++) {
      const kernel = multibootKernel(i & 1 ? 1 : 2), view = new DataView(kernel.buffer);
      const at = i & 1 ? 12 + 4 * random(5) : HEADER2_AT + 16 + 4 * random(10);
      view.setUint32(at, [0, 1, 0x7fffffff, 0xffffffff, 0x100000 + random(4096), random(2 ** 31)][random(6)]!, true);
      Deno.writeFileSync(path, kernel);
      try {
        loadKernel(GuestRam.private(4 * MIB), {
          kernel: path,
          initrd: null,
          append: "",
          acpiTables: (base) => ({ bytes: new Uint8Array(36), rsdp: base }),
        });
      } catch (error) {
        assert(error instanceof ConfigError, String(error));
      }
    }
    return Promise.resolve();
  });
});
