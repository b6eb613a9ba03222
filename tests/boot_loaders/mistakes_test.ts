import { assert, assertEquals, assertThrows } from "@std/assert";
import { ConfigError } from "../../src/base/errors.ts";
import { GuestRam } from "../../src/base/ram.ts";
import { loadKernel, type LoadOptions } from "../../src/boot/load_kernel.ts";
import { Bench, bzImageFile, codeLike, elfFile, PAYLOAD_OFFSET, vmlinuxFile, withSize } from "./images.ts";

const MIB = 1 << 20;
const VMLINUX = vmlinuxFile(codeLike(20_000));
const BZIMAGE = bzImageFile({ payload: withSize(VMLINUX, VMLINUX.length) });
const KERNEL_NAME = "the kernel";

/** What loading `kernel` complains of; `more` sees the bench to put files there. */
function complaint(
  kernel: Uint8Array,
  more: (bench: Bench) => Partial<LoadOptions> = () => ({}),
  ramBytes?: number,
): string {
  using bench = new Bench(ramBytes);
  const path = bench.file(KERNEL_NAME, kernel);
  const error = assertThrows(() => loadKernel(bench.ram, bench.options(path, more(bench))), ConfigError);
  return error.message.replaceAll(`${bench.folder}/`, "");
}

function edited(bytes: Uint8Array, edit: (view: DataView) => void): Uint8Array {
  const copy = bytes.slice();
  edit(new DataView(copy.buffer));
  return copy;
}

const SAYINGS: readonly (readonly [string, Uint8Array, string])[] = [
  ["an empty file", new Uint8Array(0), `the file is empty`],
  [
    "a text",
    new TextEncoder().encode("hello, world"),
    "it is not a kernel: its first bytes are 68 65 6c 6c 6f 2c 20 77; a bz",
  ],
  ["a gzip file", Uint8Array.of(0x1f, 0x8b, 8, 0), "it is not a kernel: it looks like a gzip file"],
  ["a cpio archive", new TextEncoder().encode("070701".padEnd(600, "0")), "it looks like a cpio archive"],
  ["a boot sector", edited(new Uint8Array(512), (v) => v.setUint16(510, 0xaa55, true)), "it looks like a disk image"],
  ["an EFI program", new TextEncoder().encode("MZ".padEnd(600, " ")), "it looks like an EFI or DOS program"],
  [
    "a bzImage cut short",
    BZIMAGE.subarray(0, 5000),
    `it is cut short: its header says ${BZIMAGE.length} bytes (21 KiB), the file has 5000`,
  ],
  ["a bzImage cut inside its header", BZIMAGE.subarray(0, 0x230), "it is cut short: its header says"],
  [
    "a payload that leaves its kernel",
    edited(BZIMAGE, (v) => v.setUint32(0x24c, 0x7fffffff, true)),
    "it is cut short: its header says the payload ends at byte",
  ],
  ["an old kernel", edited(BZIMAGE, (v) => v.setUint16(0x206, 0x203, true)), "it speaks boot protocol 2.03, and 2.08"],
  ["a zImage", edited(BZIMAGE, (v) => v.setUint8(0x211, 0)), "it is a zImage"],
  ["a header of no length", edited(BZIMAGE, (v) => v.setUint8(0x201, 0)), "its setup header ends at 514"],
  ["a header without end", edited(BZIMAGE, (v) => v.setUint8(0x201, 0xff)), "its setup header ends at 769"],
  [
    "a payload that would fill the host",
    bzImageFile({ payload: withSize(VMLINUX, 0xfffffff0) }),
    "its none payload says it unpacks to 4 GiB, and 4 MiB is the most",
  ],
  [
    "a damaged payload",
    bzImageFile({ payload: withSize(Uint8Array.of(2, 0x21, 0x4c, 0x18, 9, 0, 0, 0, 0xff), 1000) }),
    "its lz4 payload is damaged: an LZ4 block is cut short",
  ],
  [
    "a payload of another size",
    bzImageFile({ payload: withSize(VMLINUX, VMLINUX.length - 1) }),
    `its none payload is damaged: it unpacks to ${VMLINUX.length} bytes where its size field says ${
      VMLINUX.length - 1
    }`,
  ],
  [
    "a payload that is no kernel",
    bzImageFile({ payload: withSize(edited(VMLINUX, (v) => v.setUint16(18, 40, true)), VMLINUX.length) }),
    "in its payload, it is an ELF file, but it is for machine 40, not x86",
  ],
  [
    "a kernel that wants the low MiB",
    bzImageFile({ payload: codeLike(99).fill(1, 0, 1), prefAddress: 0x1000, initSize: 99 }),
    "it wants to run at 1000h, below 1 MiB",
  ],
  [
    "unknown packing before 2.10",
    bzImageFile({ payload: codeLike(99).fill(0x89, 0, 1), version: 0x208 }),
    "its payload is packed in an unknown way, and boot protocol 2.08 does not say",
  ],
  [
    "a kernel for a bigger machine",
    bzImageFile({ payload: withSize(VMLINUX, VMLINUX.length), initSize: 100 * MIB }),
    "it needs memory up to 102 MiB, and the machine has 16 MiB",
  ],
  ["an ELF header cut short", VMLINUX.subarray(0, 60), "it is an ELF file, but its header is cut short"],
  [
    "an ELF file cut short",
    VMLINUX.subarray(0, 2000),
    "it is an ELF file, but segment 0 ends at byte 20176 of a file of 2000",
  ],
  ["an ARM kernel", edited(VMLINUX, (v) => v.setUint16(18, 183, true)), "it is for machine 183, not x86"],
  ["an object file", edited(VMLINUX, (v) => v.setUint16(16, 1, true)), "it is of type 1, not an executable"],
  ["a big-endian file", edited(VMLINUX, (v) => v.setUint8(5, 2)), "it is not little-endian"],
  ["program headers past the end", edited(VMLINUX, (v) => v.setBigUint64(32, 1n << 60n, true)), "lie past its end"],
  ["too many program headers", edited(VMLINUX, (v) => v.setUint16(56, 65535, true)), "it has 65535 program headers"],
  ["an offset past everything", edited(VMLINUX, (v) => v.setBigUint64(72, ~0n, true)), "segment 0 ends at byte"],
  ["a segment longer than its memory", edited(VMLINUX, (v) => v.setBigUint64(104, 1n, true)), "longer in the file"],
  ["an endless bss", edited(VMLINUX, (v) => v.setBigUint64(104, 1n << 62n, true)), "it needs memory up to 4 EiB"],
  ["a segment nowhere", edited(VMLINUX, (v) => v.setBigUint64(88, ~0n, true)), "it needs memory up to 16 EiB"],
  [
    "an entry nowhere",
    edited(VMLINUX, (v) => v.setBigUint64(24, 5n, true)),
    "its entry point 5h is in none of its segments",
  ],
  ["nothing to load", elfFile({ entry: 0n, segments: [] }), "it has nothing to load"],
  [
    "a segment in low memory",
    elfFile({ entry: 0x7c00n, segments: [{ paddr: 0x7c00, bytes: codeLike(10) }] }),
    "a segment of it lies at 7c00h, below 1 MiB",
  ],
  [
    "a PVH entry nowhere",
    elfFile({ entry: BigInt(MIB), segments: [{ paddr: MIB, bytes: codeLike(10) }], pvh: 0x999999 }),
    "its PVH entry point 999999h is in none of its segments",
  ],
];

for (const [what, bytes, says] of SAYINGS) {
  Deno.test(`loadKernel names the file and the reason: ${what}`, () => {
    const message = complaint(bytes);
    assert(message.startsWith(`Cannot load kernel "${KERNEL_NAME}": `), message);
    assert(message.includes(says), `${message}\ndoes not say\n${says}`);
  });
}

Deno.test("loadKernel names a file that is missing, and a folder", () => {
  using bench = new Bench();
  const load = (options: LoadOptions) => loadKernel(bench.ram, options);
  const kernel = bench.file("vmlinuz", BZIMAGE);
  const missing = `${bench.folder}/none`;
  assertThrows(
    () => load(bench.options(missing)),
    ConfigError,
    `Cannot load kernel "${missing}": there is no such file`,
  );
  assertThrows(() => load(bench.options(bench.folder)), ConfigError, "it is a folder, not a file");
  assertThrows(
    () => load(bench.options(kernel, { initrd: missing })),
    ConfigError,
    `Cannot load initrd "${missing}": there is no such file`,
  );
  assertThrows(() => load(bench.options(kernel, { initrd: bench.folder })), ConfigError, "it is a folder");
  assertThrows(
    () => load(bench.options(kernel, { initrd: bench.file("empty", new Uint8Array(0)) })),
    ConfigError,
    "the file is empty",
  );
});

Deno.test("loadKernel says how much an initrd lacks", () => {
  const initrd = (bench: Bench) => ({ initrd: bench.file("initrd.img", new Uint8Array(11 * MIB)) });
  assertEquals(
    complaint(BZIMAGE, initrd),
    `Cannot load initrd "initrd.img": 11 MiB does not fit in 16 MiB of memory: 10 MiB is free above the kernel`,
  );
});

Deno.test("loadKernel takes a command line of exactly cmdline_size", () => {
  const image = bzImageFile({ payload: withSize(VMLINUX, VMLINUX.length), commandLineMax: 20 });
  using bench = new Bench();
  loadKernel(bench.ram, bench.options(bench.file("vmlinuz", image), { append: "x".repeat(20) }));
  assertEquals(
    complaint(image, () => ({ append: "x".repeat(21) })),
    "--append is 21 bytes long, and this kernel takes 20 at most",
  );
  assertEquals(
    complaint(image, () => ({ append: "a\0b" })),
    "--append holds a zero byte, where the kernel would stop reading",
  );
});

Deno.test("loadKernel refuses a machine without room for the low MiB", () => {
  using bench = new Bench();
  const options = bench.options(bench.file("vmlinuz", BZIMAGE));
  assertThrows(() => loadKernel(GuestRam.private(MIB), options), ConfigError, "--memory 1 MiB is too little");
});

Deno.test("loadKernel survives any damaged byte of a kernel", () => {
  using bench = new Bench();
  const pvh = elfFile({ entry: BigInt(MIB), segments: [{ paddr: MIB, bytes: codeLike(500) }], pvh: MIB });
  for (const [image, upTo] of [[BZIMAGE, 1024 + PAYLOAD_OFFSET + 200], [VMLINUX, 200], [pvh, pvh.length]] as const) {
    for (let at = 0; at < upTo; at++) {
      for (const mask of [0xff, 1 << (at % 8)]) {
        const path = bench.file("damaged", edited(image, (view) => view.setUint8(at, view.getUint8(at) ^ mask)));
        try {
          loadKernel(bench.ram, bench.options(path));
        } catch (error) {
          assert(error instanceof ConfigError, `byte ${at} ^ ${mask}: ${error}`);
        }
      }
    }
  }
});
