/**
 * The loaders against an independent machine: QEMU starts with the RAM that `loadKernel` left, a stub sets the registers that
 * it returned, and the kernel must come up and report what it was given.
 */
import { assert, assertEquals } from "@std/assert";
import { GuestRam } from "../../src/base/ram.ts";
import { loadKernel } from "../../src/boot/load_kernel.ts";
import { parseBzImage, unpackVmlinux } from "../../src/boot/bzimage.ts";
import { LOW } from "../../src/boot/low_memory.ts";
import type { InitialState } from "../../src/engine/engine.ts";
import { codeLike, elfFile } from "./images.ts";
import { kernels } from "./kernels.ts";

const MIB = 1 << 20;
const RAM_BYTES = 128 * MIB;
/** Where the stub and the low memory wait, beyond what the guest is told of, while QEMU's firmware uses the low memory. */
const STUB = 240 * MIB;
const LOW_COPY = 224 * MIB;
const COMMAND_LINE = "earlyprintk=serial,ttyS0,115200 console=ttyS0 acpi=off nokaslr";

/** Machine code that puts the low memory in its place and enters the kernel. */
function stub(state: InitialState): Uint8Array {
  const u32 = (value: number) => [value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24];
  const code = (gdtr: number) => [
    ...[0xfa, 0xfc], // cli; cld
    ...[0xbe, ...u32(LOW_COPY), 0xbf, ...u32(0), 0xb9, ...u32(LOW.COMMAND_LINE_END / 4), 0xf3, 0xa5], // rep movsd
    ...[0x0f, 0x01, 0x15, ...u32(gdtr)], // lgdt
    ...[0xbc, ...u32(state.gpr.rsp ?? 0)],
    ...[0xb8, ...u32(state.cr4), 0x0f, 0x22, 0xe0],
    ...[0xb8, ...u32(state.cr3), 0x0f, 0x22, 0xd8],
    ...[0xb9, ...u32(0xc0000080), 0xb8, ...u32(state.efer & 0x100), 0x31, 0xd2, 0x0f, 0x30], // wrmsr EFER; LMA follows
    ...[0xb8, ...u32(state.cr0), 0x0f, 0x22, 0xc0],
    ...[0x66, 0xb8, ...u32(state.segments.ds!.selector).slice(0, 2)],
    ...[0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0, 0x8e, 0xe0, 0x8e, 0xe8], // ds, es, ss, fs, gs
    ...[0xbe, ...u32(state.gpr.rsi ?? 0), 0xbb, ...u32(state.gpr.rbx ?? 0), 0x31, 0xed, 0x31, 0xff],
    ...[0xea, ...u32(state.rip), ...u32(state.segments.cs!.selector).slice(0, 2)], // jmp far
  ];
  const gdtr = [...u32(state.gdtr.limit).slice(0, 2), ...u32(state.gdtr.base)];
  return Uint8Array.from([...code(STUB + code(0).length), ...gdtr]);
}

/** The serial output of a kernel of `folder` until it holds all of `wanted` or ends. */
async function serialOf(
  folder: string,
  state: InitialState,
  ram: GuestRam,
  wanted: readonly string[],
): Promise<string> {
  Deno.writeFileSync(
    `${folder}/stub`,
    elfFile({ bits: 32, entry: BigInt(STUB), segments: [{ paddr: STUB, bytes: stub(state) }], pvh: STUB }),
  );
  Deno.writeFileSync(`${folder}/low`, ram.bytes(0, LOW.COMMAND_LINE_END)!.slice());
  Deno.writeFileSync(`${folder}/high`, ram.bytes(LOW.END, RAM_BYTES - LOW.END)!.slice());
  const args = ["-m", "256", "-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot", "-nodefaults"];
  args.push("-kernel", `${folder}/stub`);
  args.push("-device", `loader,file=${folder}/low,addr=${LOW_COPY},force-raw=on`);
  args.push("-device", `loader,file=${folder}/high,addr=${LOW.END},force-raw=on`);
  const qemu = new Deno.Command("qemu-system-x86_64", { args, stdin: "null", stdout: "piped", stderr: "null" }).spawn();
  const timer = setTimeout(() => qemu.kill("SIGKILL"), 60_000);
  let text = "";
  const decoder = new TextDecoder();
  for await (const chunk of qemu.stdout) {
    text += decoder.decode(chunk, { stream: true });
    if (wanted.every((line) => text.includes(line))) break;
  }
  clearTimeout(timer);
  try {
    qemu.kill("SIGKILL");
  } catch (error) {
    if (!(error instanceof TypeError)) throw error; // it has ended
  }
  await qemu.status;
  return text;
}

function hasQemu(): boolean {
  try {
    return new Deno.Command("qemu-system-x86_64", { args: ["--version"], stdout: "null", stderr: "null" }).outputSync()
      .success;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

Deno.test("QEMU runs a real kernel from the RAM and the registers that loadKernel left", async (t) => {
  const path = kernels().find((name) => name.includes("cloud")) ?? kernels()[0];
  if (path === undefined) return void console.log("skipped: no vmlinuz in the folder of TRIKE_KERNELS or in /boot");
  if (!hasQemu()) return void console.log("skipped: qemu-system-x86_64 is not installed");
  const folder = Deno.makeTempDirSync({ prefix: "boot_loaders" });
  try {
    const bzImage = Deno.readFileSync(path);
    const unknown = bzImage.slice();
    new DataView(unknown.buffer).setUint32(0x24c, 0, true); // without payload_length the guest unpacks itself
    const name = { what: "kernel", path } as const;
    const vmlinux = unpackVmlinux(parseBzImage(bzImage, name), GuestRam.private(RAM_BYTES), undefined, name)!;
    Deno.writeFileSync(`${folder}/initrd`, codeLike(70_000));
    const ways = [
      ["a bzImage, in long mode", bzImage, 1],
      ["a bzImage that unpacks itself, in protected mode", unknown, 0],
      ["a vmlinux with a PVH note, in protected mode", vmlinux, 0],
    ] as const;
    for (const [what, kernel, isLong] of ways) {
      await t.step(what, async () => {
        Deno.writeFileSync(`${folder}/kernel`, kernel);
        const ram = GuestRam.private(RAM_BYTES);
        const state = loadKernel(ram, {
          kernel: `${folder}/kernel`,
          initrd: `${folder}/initrd`,
          append: COMMAND_LINE,
          acpiTables: (base) => ({ bytes: new Uint8Array(36), rsdp: base }),
        });
        assertEquals((state.efer >> 8) & 1, isLong);
        const wanted = [
          "Linux version ",
          `Command line: ${COMMAND_LINE}`,
          "BIOS-e820: [mem 0x0000000000000000-0x000000000009fbff] usable",
          "BIOS-e820: [mem 0x000000000009fc00-0x00000000000fffff] reserved",
          "BIOS-e820: [mem 0x0000000000100000-0x0000000007ffffff] usable",
          "RAMDISK: [mem 0x07fee000-0x07ffffff]",
          "Freeing initrd memory: 72K",
        ];
        const text = await serialOf(folder, state, ram, wanted);
        for (const line of wanted) assert(text.includes(line), `${line}\nis not in\n${text.slice(-3000)}`);
      });
    }
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});
