/** FreeBSD's kernel: what its locore and machdep find, read back as they do. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { ConfigError } from "../../src/base/errors.ts";
import { MODINFO, MODINFOMD } from "../../src/boot/freebsd.ts";
import { loadKernel } from "../../src/boot/load_kernel.ts";
import { LOW, memoryMap } from "../../src/boot/low_memory.ts";
import type { InitialState } from "../../src/engine/engine.ts";
import { ENTRY, freeBsdKernel, KERNBASE, START } from "./freebsd_kernel.ts";
import { Bench, vmlinuxFile } from "./images.ts";

const END = START + 0x3000 + 0x1800;

interface Record {
  readonly type: number;
  readonly bytes: Uint8Array;
}

/** Physical memory behind a virtual address, by the tables that CR3 names; every entry present and writable. */
function walk({ ram }: Bench, { cr3 }: InitialState, virtual: bigint): number {
  let table = cr3;
  for (const shift of [39n, 30n, 21n]) {
    const at = table + 8 * Number(virtual >> shift & 511n);
    const entry = ram.read(at, 4) + ram.read(at + 4, 4) * 2 ** 32;
    assertEquals(entry & 3, 3, `${virtual.toString(16)}h is not mapped`);
    if (shift === 21n) {
      assertEquals(entry & 0x80, 0x80, "a page of 2 MiB");
      return entry - (entry & 0xfff) + Number(virtual & 0x1fffffn);
    }
    table = entry - (entry & 0xfff);
  }
  throw new Error("unreachable");
}

function records({ ram }: Bench, at: number): Record[] {
  const all: Record[] = [];
  for (;;) {
    const type = ram.read(at, 4), length = ram.read(at + 4, 4);
    assert(length < 65536 && all.length < 100, "the records have no end");
    if (type === MODINFO.END && length === 0) return all;
    all.push({ type, bytes: ram.bytes(at + 8, length)!.slice() });
    at += 8 + Math.ceil(length / 8) * 8;
  }
}

const text = (bytes: Uint8Array | undefined) => new TextDecoder().decode(bytes);
const u32 = (bytes: Uint8Array) => new DataView(bytes.buffer).getUint32(0, true);
const u64 = (bytes: Uint8Array, at = 0) => Number(new DataView(bytes.buffer).getBigUint64(at, true));

function load(bench: Bench, append = "console=ttyS0", initrd: string | null = null) {
  const reserved = [{ gpa: 0xe0000000, sizeBytes: 1 << 20 }];
  const kernel = bench.file("kernel", freeBsdKernel());
  const state = loadKernel(bench.ram, bench.options(kernel, { append, initrd, reserved }));
  const { ram } = bench, stack = state.gpr.rsp!;
  const [modulep, kernend] = [ram.read(stack + 4, 4), ram.read(stack + 8, 4)];
  const all = records(bench, modulep);
  const find = (type: number) => all.find((r) => r.type === (MODINFO.METADATA | type))!.bytes;
  const environment = new Map<string, string>();
  for (let at = u64(find(MODINFOMD.ENVP)); ram.read(at, 1) !== 0;) {
    let end = at;
    while (ram.read(end, 1) !== 0) end++;
    const [name, value] = text(ram.bytes(at, end - at)!.slice()).split(/=(.*)/s);
    assert(!environment.has(name!), `${name} is there twice`);
    environment.set(name!, value!);
    at = end + 1;
  }
  return { state, all, find, modulep, kernend, environment };
}

Deno.test("FreeBSD's kernel is entered in long mode at its virtual address, with the first GiB at every GiB", () => {
  using bench = new Bench();
  const { state, kernend } = load(bench);
  assertEquals([state.cr0 & 1, state.cr0 >>> 31, state.cr4 & 0x20, state.efer & 0x500], [1, 1, 0x20, 0x500]);
  assertEquals(state.segments.cs!.rights & 0x2000, 0x2000, "a segment of 64-bit code");
  for (const at of [0x1234, ENTRY, kernend, 0x3fff_ffff]) {
    for (const base of [0n, 0x4000_0000n, KERNBASE, 0xffff_8000_0000_0000n]) {
      assertEquals(walk(bench, state, base + BigInt(at)), at);
    }
  }
  // MOV RAX, imm64; JMP RAX: a state holds no such address.
  const code = bench.ram.bytes(walk(bench, state, BigInt(state.rip)), 12)!.slice();
  assertEquals([code[0], code[1], code[10], code[11]], [0x48, 0xb8, 0xff, 0xe0]);
  assertEquals(new DataView(code.buffer).getBigUint64(2, true), KERNBASE + BigInt(ENTRY));
  assertEquals(bench.ram.read(START + 0x3000, 4), 0x04030201);
  assert(bench.ram.bytes(START + 0x3004, 0x17fc)!.every((byte) => byte === 0), "the bss is not clear");
});

Deno.test("its records tell of the kernel, the flags, the memory map and where everything ends", () => {
  using bench = new Bench();
  const { all, find, modulep, kernend } = load(bench, "-sv -D");
  assertEquals(all.slice(0, 4).map(({ type }) => type), [MODINFO.NAME, MODINFO.TYPE, MODINFO.ADDR, MODINFO.SIZE]);
  assertEquals([text(all[0]!.bytes), text(all[1]!.bytes)], ["/boot/kernel/kernel\0", "elf kernel\0"]);
  assertEquals([u64(all[2]!.bytes), u64(all[3]!.bytes)], [START, END - START]);
  assertEquals(find(MODINFOMD.ELFHDR), freeBsdKernel().slice(0, 64));
  // reboot(2): RB_SINGLE, RB_VERBOSE, RB_SERIAL, RB_MULTIPLE.
  assertEquals(u32(find(MODINFOMD.HOWTO)), 0x2 | 0x800 | 0x1000 | 0x20000000);
  assertEquals([u64(find(MODINFOMD.MODULEP)), u64(find(MODINFOMD.KERNEND))], [modulep, kernend]);
  const envp = u64(find(MODINFOMD.ENVP));
  assert(END <= modulep && modulep < envp && envp < kernend, "one behind the other");
  for (const at of [modulep, envp, kernend]) assertEquals(at % 4096, 0);
  const smap = find(MODINFOMD.SMAP);
  const map = memoryMap(bench.ram.sizeBytes, [{ gpa: 0xe0000000, sizeBytes: 1 << 20 }]);
  assertEquals(smap.length, 20 * map.length);
  const read = map.map((_, i) => ({
    gpa: u64(smap, 20 * i),
    sizeBytes: u64(smap, 20 * i + 8),
    type: u32(smap.slice(20 * i + 16, 20 * i + 20)),
  }));
  assertEquals(read, map);
});

Deno.test("its environment has the console and the tables' place, and what --append says", () => {
  using bench = new Bench();
  const plain = load(bench);
  assertEquals(plain.environment.get("console"), "comconsole");
  assertEquals(plain.environment.get("hint.acpi.0.rsdp"), `0x${LOW.ACPI.toString(16)}`);
  assertEquals(u32(plain.find(MODINFOMD.HOWTO)), 0x1000);
  const own = load(bench, `vfs.root.mountfrom=ufs:/dev/vtbd0p2 kern.hz=100 console=vidconsole init_path="/a b" -v`);
  assertEquals(own.environment.get("vfs.root.mountfrom"), "ufs:/dev/vtbd0p2");
  assertEquals(own.environment.get("init_path"), "/a b");
  assertEquals(own.environment.get("console"), "vidconsole");
  assertEquals(u32(own.find(MODINFOMD.HOWTO)), 0x800);
  for (const word of ["-q", "quiet", "=x", "--x=y", `a=${"x".repeat(200)}`]) {
    const { message } = assertThrows(() => load(bench, word), ConfigError);
    assert(message.startsWith("--append ") && message.includes("expected NAME=VALUE"), message);
  }
});

Deno.test("--initrd is an image for md(4), between the kernel and its records", () => {
  using bench = new Bench();
  const image = Uint8Array.from({ length: 70_001 }, (_, i) => i * 7);
  const { all, modulep } = load(bench, "", bench.file("mfsroot", image));
  const at = all.findIndex(({ type, bytes }) => type === MODINFO.TYPE && text(bytes) === "md_image\0");
  assertEquals(all[at - 1]!.type, MODINFO.NAME);
  const [gpa, size] = [u64(all[at + 1]!.bytes), u64(all[at + 2]!.bytes)];
  assert(gpa >= END && gpa % 4096 === 0 && gpa + size <= modulep);
  assertEquals(bench.ram.bytes(gpa, size)!.slice(), image);
});

Deno.test("--module adds files of other types, --env variables; neither is for another kernel", () => {
  using bench = new Bench();
  const modules = [
    { path: bench.file("microcode", Uint8Array.of(1, 2, 3)), type: "cpu_microcode" },
    { path: bench.file("root", Uint8Array.of(4)), type: "md_image" },
  ];
  const { ram } = bench;
  const kernel = bench.file("kernel", freeBsdKernel());
  const env = ["kern.hz=100", "a=b=c", "console=vidconsole"];
  const state = loadKernel(ram, bench.options(kernel, { modules, env }));
  const all = records(bench, ram.read(state.gpr.rsp! + 4, 4));
  const types = all.filter(({ type }) => type === MODINFO.TYPE).map(({ bytes }) => text(bytes));
  assertEquals(types, ["elf kernel\0", "cpu_microcode\0", "md_image\0"]);
  const at = u64(all.find(({ type }) => type === (MODINFO.METADATA | MODINFOMD.ENVP))!.bytes);
  const environment = text(ram.bytes(at, 4096)!.slice());
  for (const word of env) assert(environment.includes(`\0${word}\0`), word);
  const mistakes: [Parameters<Bench["options"]>[1], string][] = [
    [{ env: ["novalue"] }, "--env"],
    [{ modules: [{ path: kernel, type: "elf obj module" }] }, "ELF"],
  ];
  for (const [more, name] of mistakes) {
    const { message } = assertThrows(() => loadKernel(ram, bench.options(kernel, more)), ConfigError);
    assert(message.includes(name), message);
  }
  const linux = bench.file("vmlinux", vmlinuxFile(new Uint8Array(4096)));
  for (const more of [{ env }, { modules }]) {
    const { message } = assertThrows(() => loadKernel(ram, bench.options(linux, more)), ConfigError);
    assert(message.includes("FreeBSD's kernel"), message);
  }
});

Deno.test("a kernel of another system, or one that does not fit, is told apart", () => {
  using bench = new Bench(3 << 20);
  // Without FreeBSD's mark the PVH entry counts, and the physical addresses.
  const other = bench.options(bench.file("other", freeBsdKernel({ osabi: 0 })));
  assert(
    assertThrows(() => loadKernel(bench.ram, other), ConfigError).message.includes("it needs memory up to 1.8 GiB"),
  );
  const large = bench.file("large", new Uint8Array(1 << 20));
  assert(assertThrows(() => load(bench, "", large), ConfigError).message.includes("does not fit"));
});
