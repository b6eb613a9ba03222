/** Real kernels, compared with what the system's unpackers make of them. */
import { assert, assertEquals } from "@std/assert";
import { GuestRam } from "../../src/base/ram.ts";
import { parseElf } from "../../src/boot/elf.ts";
import { loadKernel } from "../../src/boot/load_kernel.ts";
import { kernels } from "./kernels.ts";

/** The system's unpackers, by the payload's first byte. */
const UNPACKERS: Readonly<Record<number, string>> = {
  0x02: "lz4 -d -c",
  0x1f: "gzip -d -c",
  0x28: "zstd -d -c",
  0x42: "bzip2 -d -c",
  0x5d: "xz --format=lzma -d -c",
  0xfd: "xz -d -c --single-stream",
};

Deno.test("loadKernel loads real kernels as the system's unpackers have them", async (t) => {
  const paths = kernels();
  if (paths.length === 0) return void console.log("skipped: no vmlinuz in the folder of TRIKE_KERNELS or in /boot");
  for (const path of paths) {
    await t.step(path.slice(path.lastIndexOf("/") + 1), async () => {
      const reference = await unpack(Deno.readFileSync(path));
      const memory = new WebAssembly.Memory({ initial: 4096, maximum: 4096, shared: true });
      const ram = new GuestRam(memory.buffer, 0, 256 << 20);
      const state = loadKernel(ram, {
        kernel: path,
        initrd: null,
        append: "console=ttyS0",
        memory,
        acpiTables: (base) => ({ bytes: new Uint8Array(64), rsdp: base }),
      });
      const elf = parseElf(reference);
      assert(elf.segments.length > 0);
      for (const { offset, paddr, fileBytes } of elf.segments) {
        const loaded = ram.bytes(paddr, fileBytes)!;
        let at = 0;
        while (at < fileBytes && loaded[at] === reference[offset + at]) at++;
        assertEquals(at, fileBytes, `the segment at ${paddr.toString(16)}h differs at byte ${at}`);
      }
      assertEquals(BigInt(state.rip), elf.entry);
    });
  }
});

async function unpack(file: Uint8Array): Promise<Uint8Array> {
  const view = new DataView(file.buffer);
  const at = (file[0x1f1]! + 1) * 512 + view.getUint32(0x248, true);
  const payload = file.subarray(at, at + view.getUint32(0x24c, true) - (file[at] === 0x1f ? 0 : 4));
  const [command, ...args] = UNPACKERS[payload[0]!]!.split(" ");
  const child = new Deno.Command(command!, { args, stdin: "piped", stdout: "piped", stderr: "piped" }).spawn();
  const writer = child.stdin.getWriter();
  const written = writer.write(payload).then(() => writer.close());
  const { stdout, stderr, success } = await child.output();
  await written;
  assert(success, new TextDecoder().decode(stderr));
  return stdout;
}
