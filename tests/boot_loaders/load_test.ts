import { assert, assertEquals } from "@std/assert";
import { HDR } from "../../src/boot/bzimage.ts";
import { loadKernel } from "../../src/boot/load_kernel.ts";
import { LOW, memoryMap } from "../../src/boot/low_memory.ts";
import { START_INFO } from "../../src/boot/pvh.ts";
import { Bench, bzImageFile, codeLike, elfFile, vmlinuxFile, withSize } from "./images.ts";
import { pack, PACKERS } from "./packers.ts";

const MIB = 1 << 20;
const TEXT = codeLike(600_000);
const VMLINUX = vmlinuxFile(TEXT);

/** Asserts that RAM holds VMLINUX's segments, cleared behind each. */
function assertVmlinuxLoaded(bench: Bench): void {
  assert(bench.ram.bytes(2 * MIB, TEXT.length)!.every((byte, i) => byte === TEXT[i]), "the text is not as linked");
  assertEquals(bench.ram.read(3 * MIB, 4), 0x04030201);
  assert(bench.ram.bytes(3 * MIB + 4, 0x2000 - 4)!.every((byte) => byte === 0), "the bss is not clear");
}

for (const packer of [{ ...PACKERS[0]!, packing: "none" as const, line: "nothing" }, ...PACKERS]) {
  Deno.test(`loadKernel loads a bzImage packed with ${packer.line} byte for byte`, async () => {
    const packed = packer.packing === "none" ? VMLINUX : await pack(packer, VMLINUX);
    if (packed === null) return void console.log(`skipped: ${packer.command} is not installed`);
    using bench = new Bench();
    const payload = packer.packing === "gzip" ? packed : withSize(packed, VMLINUX.length);
    const state = loadKernel(bench.ram, bench.options(bench.file("vmlinuz", bzImageFile({ payload }))));
    assertVmlinuxLoaded(bench);
    const leftover = bench.ram.bytes(2 * MIB + TEXT.length, MIB - TEXT.length)!;
    assert(leftover.every((byte) => byte === 0), "unpacking left something behind");
    assertEquals(state.rip, 2 * MIB + 0x10);
    assertEquals(state.gpr.rsi, LOW.BOOT_PARAMS);
  });
}

Deno.test("loadKernel enters a 64-bit kernel in long mode over an identity map of 4 GiB", () => {
  using bench = new Bench();
  const { ram } = bench;
  const state = loadKernel(ram, bench.options(bench.file("vmlinux", VMLINUX)));
  assertVmlinuxLoaded(bench);
  assertEquals([state.cr0, state.cr4, state.efer, state.rflags], [0x80010031, 0x20, 0x500, 2]);
  assertEquals(state.segments.cs, { selector: 0x10, base: 0, limit: 0xffffffff, rights: 0xa09b });
  for (const name of ["ds", "es", "ss"] as const) {
    assertEquals(state.segments[name], { selector: 0x18, base: 0, limit: 0xffffffff, rights: 0xc093 });
  }
  // The GDT in memory says the same. [sdm3 §3.4.5]
  assertEquals([ram.read(state.gdtr.base + 0x10, 4), ram.read(state.gdtr.base + 0x14, 4)], [0xffff, 0x00af9b00]);
  assertEquals([ram.read(state.gdtr.base + 0x18, 4), ram.read(state.gdtr.base + 0x1c, 4)], [0xffff, 0x00cf9300]);
  for (const gpa of [0, 0x1234567, 0x3fffffff, 0x40000000, 0xbfe00000, 0xfee00000, 0xffffffff]) {
    assertEquals(translate(ram, state.cr3, gpa), gpa);
  }
});

/** Walks 4-level page tables down to a 2 MiB page. [sdm3 §4.5.4] */
function translate(ram: Bench["ram"], cr3: number, address: number): number {
  const pdpt = ram.read64(cr3 + 8 * Math.floor(address / 2 ** 39));
  const directory = ram.read64(pdpt - (pdpt % 4096) + 8 * (Math.floor(address / 2 ** 30) % 512));
  const entry = ram.read64(directory - (directory % 4096) + 8 * (Math.floor(address / 2 ** 21) % 512));
  for (const table of [pdpt, directory, entry]) assertEquals(table % 4, 3, "not present and writable");
  assertEquals(entry & 0x80, 0x80, "not a large page");
  return entry - (entry % 0x200000) + (address % 0x200000);
}

Deno.test("loadKernel fills boot_params as the boot protocol asks", () => {
  using bench = new Bench();
  const { ram } = bench;
  const initrd = codeLike(10_000, 3);
  const options = bench.options(bench.file("vmlinuz", bzImageFile({ payload: withSize(VMLINUX, VMLINUX.length) })), {
    initrd: bench.file("initrd", initrd),
    append: "console=ttyS0 ü",
    reserved: [{ gpa: 0xe0000000, sizeBytes: 256 * MIB }],
  });
  loadKernel(ram, options);
  const at = LOW.BOOT_PARAMS;
  assertEquals(ram.read(at + 0x1ef, 1), 0, "the sentinel must be clear");
  assertEquals(ram.read(at + HDR.boot_flag, 2), 0xaa55);
  assertEquals(ram.read(at + HDR.header, 4), 0x53726448);
  assertEquals(ram.read(at + HDR.version, 2), 0x20f);
  assertEquals(ram.read(at + HDR.type_of_loader, 1), 0xff);
  assertEquals(ram.read(at + HDR.loadflags, 1), 1);
  assertEquals(ram.read64(at + 0x070), 0xe0000);
  assertEquals(new TextDecoder().decode(ram.bytes(0xe0000, 8)!.slice()), "RSD PTR ");
  const commandLine = ram.bytes(ram.read(at + HDR.cmd_line_ptr, 4), 17)!.slice();
  assertEquals(new TextDecoder().decode(commandLine), "console=ttyS0 ü\0");

  const initrdAt = ram.read(at + HDR.ramdisk_image, 4);
  assertEquals(initrdAt, 16 * MIB - 3 * 4096);
  assertEquals(ram.read(at + HDR.ramdisk_size, 4), initrd.length);
  assertEquals(ram.bytes(initrdAt, initrd.length)!.slice(), initrd);

  const map = Array.from({ length: ram.read(at + 0x1e8, 1) }, (_, i) => {
    const entry = at + 0x2d0 + 20 * i;
    return [ram.read64(entry), ram.read64(entry + 8), ram.read(entry + 16, 4)];
  });
  assertEquals(map, [
    [0, 0x9fc00, 1],
    [0x9fc00, 0x60400, 2],
    [0x100000, 15 * MIB, 1],
    [0xe0000000, 256 * MIB, 2],
  ]);
});

Deno.test("loadKernel puts the initrd below initrd_addr_max", () => {
  using bench = new Bench();
  const payload = withSize(VMLINUX, VMLINUX.length);
  const kernel = bench.file("vmlinuz", bzImageFile({ payload, initrdMax: 8 * MIB - 1 }));
  loadKernel(bench.ram, bench.options(kernel, { initrd: bench.file("initrd", codeLike(5000)) }));
  assertEquals(bench.ram.read(LOW.BOOT_PARAMS + HDR.ramdisk_image, 4), 8 * MIB - 2 * 4096);
});

Deno.test("loadKernel leaves a payload of unknown packing to the guest, by the 32-bit protocol", () => {
  using bench = new Bench();
  const file = bzImageFile({ payload: codeLike(5000).fill(0x89, 0, 1) });
  const state = loadKernel(bench.ram, bench.options(bench.file("vmlinuz", file)));
  assertEquals(bench.ram.bytes(2 * MIB, file.length - 1024)!.slice(), file.slice(1024));
  assertEquals(bench.ram.read(LOW.BOOT_PARAMS + HDR.code32_start, 4), 2 * MIB);
  assertEquals([state.rip, state.gpr.rsi, state.cr0 & 0x80000001, state.efer], [2 * MIB, LOW.BOOT_PARAMS, 1, 0]);
  assertEquals(state.segments.cs, { selector: 0x10, base: 0, limit: 0xffffffff, rights: 0xc09b });
});

for (const bits of [32, 64] as const) {
  Deno.test(`loadKernel enters a ${bits}-bit PVH kernel in 32-bit protected mode with its start info`, () => {
    using bench = new Bench();
    const { ram } = bench;
    const code = codeLike(5000);
    const kernel = elfFile({
      bits,
      entry: 0x100000n,
      segments: [{ paddr: MIB, bytes: code, memoryBytes: 8192 }],
      pvh: MIB + 0x40,
    });
    const options = bench.options(bench.file("kernel", kernel), {
      initrd: bench.file("initrd", codeLike(5000, 9)),
      append: "hello",
    });
    const state = loadKernel(ram, options);
    assertEquals(ram.bytes(MIB, 5000)!.slice(), code);
    assertEquals([state.rip, state.cr0, state.cr4, state.efer, state.rflags], [MIB + 0x40, 0x11, 0, 0, 2]);
    assertEquals(state.segments.cs?.rights, 0xc09b);
    assertEquals(state.segments.tr, { selector: 0x20, base: LOW.TSS, limit: 0x67, rights: 0x8b });

    const info = state.gpr.rbx!;
    assertEquals(ram.read(info, 4), 0x336ec578);
    assertEquals(ram.read(info + START_INFO.version, 4), 1);
    assertEquals(ram.read64(info + START_INFO.rsdp_paddr), 0xe0000);
    assertEquals(
      ram.bytes(ram.read64(info + START_INFO.cmdline_paddr), 6)!.slice(),
      new TextEncoder().encode("hello\0"),
    );
    assertEquals(ram.read(info + START_INFO.nr_modules, 4), 1);
    const module = ram.read64(info + START_INFO.modlist_paddr);
    assertEquals([ram.read64(module), ram.read64(module + 8)], [16 * MIB - 8192, 5000]);
    const map = ram.read64(info + START_INFO.memmap_paddr);
    assertEquals(ram.read(info + START_INFO.memmap_entries, 4), 3);
    assertEquals([ram.read64(map + 48), ram.read64(map + 56), ram.read(map + 64, 4)], [MIB, 15 * MIB, 1]);
  });
}

Deno.test("loadKernel tells of RAM that it wrote", () => {
  using bench = new Bench();
  const pages = new Set<number>();
  bench.ram.onWrite = (gpa, sizeBytes) => {
    for (let at = gpa & ~4095; at < gpa + sizeBytes; at += 4096) pages.add(at / 4096);
  };
  const before = bench.ram.bytes(0, bench.ram.sizeBytes)!.slice();
  const payload = withSize(VMLINUX, VMLINUX.length);
  const initrd = bench.file("initrd", codeLike(9000));
  loadKernel(bench.ram, bench.options(bench.file("vmlinuz", bzImageFile({ payload })), { initrd }));
  const after = bench.ram.bytes(0, bench.ram.sizeBytes)!;
  for (let at = 0; at < after.length; at++) {
    if (after[at] !== before[at]) assert(pages.has(at >> 12), `page ${at >> 12} changed in silence`);
  }
});

Deno.test("loadKernel of the same files twice leaves the same RAM", () => {
  using bench = new Bench();
  const options = bench.options(bench.file("vmlinuz", bzImageFile({ payload: withSize(VMLINUX, VMLINUX.length) })));
  const first = loadKernel(bench.ram, options);
  const image = bench.ram.bytes(0, 4 * MIB)!.slice();
  bench.ram.bytes(0, LOW.COMMAND_LINE_END)!.fill(0xcc);
  assertEquals(loadKernel(bench.ram, options), first);
  assertEquals(bench.ram.bytes(0, 4 * MIB)!.slice(), image);
});

Deno.test("memoryMap is in order, without overlap, and has every byte of RAM once", () => {
  for (const ramBytes of [2 * MIB, 64 * MIB, 3072 * MIB]) {
    const map = memoryMap(ramBytes, [{ gpa: 0xfec00000, sizeBytes: 4096 }, { gpa: 0xe0000000, sizeBytes: 256 * MIB }]);
    let at = 0;
    for (const { gpa, sizeBytes } of map.slice(0, -2)) {
      assertEquals(gpa, at, "a hole in RAM");
      at = gpa + sizeBytes;
    }
    assertEquals(at, ramBytes);
    assertEquals(map.slice(-2).map(({ gpa, type }) => [gpa, type]), [[0xe0000000, 2], [0xfec00000, 2]]);
    // What the loader itself needs is free RAM to the kernel, and the ACPI tables are not.
    const typeAt = (gpa: number) => map.find((entry) => gpa >= entry.gpa && gpa < entry.gpa + entry.sizeBytes)?.type;
    for (const gpa of [LOW.GDT, LOW.BOOT_PARAMS, LOW.PAGE_TABLES, LOW.COMMAND_LINE, LOW.END]) {
      assertEquals(typeAt(gpa), 1);
    }
    for (const gpa of [LOW.EBDA, LOW.VGA, LOW.ACPI, LOW.END - 1]) assertEquals(typeAt(gpa), 2);
  }
});
