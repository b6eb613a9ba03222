/** The default initial file system against the kernel's package it is made from. */
import { gzipSync, zstdCompressSync } from "node:zlib";
import { assert, assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { HostError } from "../../src/base/errors.ts";
import { debianPackages } from "../../src/guest/apt.ts";
import { cacheRoot } from "../../src/guest/cache.ts";
import { DebPackage } from "../../src/guest/deb.ts";
import { appletNames, busyboxOf, guestKernel } from "../../src/guest/initramfs.ts";
import { kernelFiles, type KernelModule, modulesAlias, modulesDep } from "../../src/guest/modules.ts";
import { whyNoGuest } from "./available.ts";
import { which } from "./which.ts";

const why = await whyNoGuest("cloud");
const ignore = why !== null;
if (ignore) console.log(`skipped: modules of Debian's kernel: ${why}`);

async function packages(): Promise<{ kernel: DebPackage; busybox: DebPackage }> {
  const names = ["linux-image-cloud-amd64", "busybox-static"];
  const [kernel, busybox] = await debianPackages(cacheRoot(), names, { progress: () => {} });
  return { kernel: await DebPackage.open(kernel!), busybox: await DebPackage.open(busybox!) };
}

Deno.test({ name: "guestKernel finds the board's drivers and all they need", ignore }, async () => {
  const { kernel, busybox } = await packages();
  const { image, modules } = await guestKernel(kernel);
  assertEquals(new DataView(image.buffer).getUint32(0x202, true), 0x53726448); // "HdrS" [linux boot protocol]

  const names = new Set(modules.map((module) => module.name));
  for (const name of ["virtio_pci", "virtio_blk", "virtio_console", "virtio_rng"]) assert(names.has(name), name);
  const aliases = modulesAlias(modules);
  assertStringIncludes(aliases, "alias virtio:d00000002v* virtio_blk\n");
  assertStringIncludes(aliases, "alias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci\n");

  const folder = await Deno.makeTempDir();
  try {
    for (const module of modules) {
      await Deno.mkdir(`${folder}/${module.path}`.replace(/[^/]*$/, ""), { recursive: true });
      await Deno.writeFile(`${folder}/${module.path}`, module.elf);
    }
    const version = modules[0]!.path.split("/")[2]!;
    await Deno.writeFile(`${folder}/busybox`, await busyboxOf(busybox), { mode: 0o755 });
    const depmod = new Deno.Command(`${folder}/busybox`, { args: ["depmod", "-b", folder, version] });
    assertEquals((await depmod.output()).code, 0);
    const theirs = await Deno.readTextFile(`${folder}/lib/modules/${version}/modules.dep`);
    // which modules each needs; the order is looked at below
    assertEquals(asSets(modulesDep(modules)), asSets(theirs));
    assertLoadable(modules);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

function asSets(dep: string): Record<string, string[]> {
  const lines = dep.trim().split("\n").map((line) => line.split(":"));
  return Object.fromEntries(lines.map(([file, needs]) => [file!, needs!.trim().split(" ").sort()]));
}

/** In the order modprobe loads a line of modules.dep, from its end, every module comes after those it names itself. */
function assertLoadable(modules: readonly KernelModule[]): void {
  const nameOf = new Map(modules.map((module) => [module.path.split("/").slice(3).join("/"), module.name]));
  const needsOf = new Map(modules.map((module) => [module.name, module.needs]));
  for (const line of modulesDep(modules).trim().split("\n")) {
    const loaded = new Set<string>();
    for (const file of line.split(/:? /).map((one) => one.replace(/:$/, "")).reverse()) {
      const name = nameOf.get(file)!;
      for (const need of needsOf.get(name)!) {
        assert(!needsOf.has(need) || loaded.has(need), `${line}: ${name} comes before ${need}`);
      }
      loaded.add(name);
    }
  }
}

Deno.test({ name: "appletNames reads the list a busybox prints", ignore }, async () => {
  const bytes = await busyboxOf((await packages()).busybox);
  const folder = await Deno.makeTempDir();
  try {
    const path = `${folder}/busybox`; // it is what it is called
    await Deno.writeFile(path, bytes, { mode: 0o755 });
    const { stdout } = await new Deno.Command(path, { args: ["--list"] }).output();
    assertEquals(appletNames(bytes), new TextDecoder().decode(stdout).trim().split("\n"));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("appletNames refuses a file without such a list", () => {
  assertThrows(() => appletNames(new TextEncoder().encode("\0[\0[[\0acpid\0\0")), HostError, "list of commands");
  assertThrows(() => appletNames(new Uint8Array(0)), HostError, "list of commands");
});

/** The least of an ELF64 file that has a section `.modinfo` with these strings. */
function moduleFile(...info: string[]): Uint8Array<ArrayBuffer> {
  const utf8 = new TextEncoder();
  const names = utf8.encode("\0.modinfo\0");
  const strings = utf8.encode(info.map((one) => `${one}\0`).join(""));
  const bytes = new Uint8Array(64 + 3 * 64 + names.length + strings.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 0x7f454c46);
  bytes[4] = 2; // ELFCLASS64
  view.setBigUint64(0x28, 64n, true); // e_shoff
  view.setUint16(0x3a, 64, true); // e_shentsize
  view.setUint16(0x3c, 3, true); // e_shnum
  view.setUint16(0x3e, 1, true); // e_shstrndx
  const section = (index: number, name: number, offset: number, data: Uint8Array): void => {
    view.setUint32(64 + index * 64, name, true);
    view.setBigUint64(64 + index * 64 + 0x18, BigInt(offset), true);
    view.setBigUint64(64 + index * 64 + 0x20, BigInt(data.length), true);
    bytes.set(data, offset);
  };
  section(1, 0, 256, names);
  section(2, 1, 256 + names.length, strings);
  return bytes;
}

const needsDpkg = { ignore: which("dpkg-deb") === null };
if (needsDpkg.ignore) console.log("skipped: packages made for the test, as there is no dpkg-deb here");

/** A kernel's package that holds these files. */
async function kernelPackage(
  files: Record<string, Uint8Array>,
  body: (deb: DebPackage) => Promise<void>,
): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    const all = {
      "DEBIAN/control": new TextEncoder().encode(
        "Package: k\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n",
      ),
      "boot/vmlinuz-1": new Uint8Array([1, 2, 3]),
      ...files,
    };
    for (const [path, data] of Object.entries(all)) {
      await Deno.mkdir(`${folder}/tree/${path}`.replace(/[^/]*$/, ""), { recursive: true });
      await Deno.writeFile(`${folder}/tree/${path}`, data);
    }
    const args = ["-Znone", "-b", `${folder}/tree`, `${folder}/k.deb`];
    assertEquals((await new Deno.Command("dpkg-deb", { args, stdout: "null" }).output()).code, 0);
    await body(await DebPackage.open(`${folder}/k.deb`));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test(
  { name: "kernelFiles follows dependencies, hard and soft, over files with - for _", ...needsDpkg },
  async () => {
    const at = "usr/lib/modules/1/kernel/drivers"; // where Debian 13 has them
    const files = {
      [`${at}/top-most.ko.gz`]: gzipSync(moduleFile("alias=virtio:d00000009v*", "depends=mid_dle,built_in")),
      [`${at}/mid-dle.ko.zst`]: zstdCompressSync(moduleFile("softdep=pre: bottom post: unwanted", "depends=")),
      [`${at}/bottom.ko`]: moduleFile("depends="),
      [`${at}/unwanted.ko`]: moduleFile("depends="),
      [`${at}/README`]: new Uint8Array(1),
    };
    await kernelPackage(files, async (deb) => {
      const { image, modules } = await kernelFiles(deb, ["top_most"]);
      assertEquals(image, new Uint8Array([1, 2, 3]));
      assertEquals(modules.map((module) => module.path.replace("lib/modules/1/kernel/drivers/", "")), [
        "bottom.ko",
        "mid-dle.ko",
        "top-most.ko",
      ]);
      assertEquals(new Uint8Array(modules[2]!.elf), moduleFile("alias=virtio:d00000009v*", "depends=mid_dle,built_in"));
      assertEquals(
        modulesDep(modules),
        "kernel/drivers/bottom.ko:\n" +
          "kernel/drivers/mid-dle.ko: kernel/drivers/bottom.ko\n" +
          "kernel/drivers/top-most.ko: kernel/drivers/mid-dle.ko kernel/drivers/bottom.ko\n",
      );
      assertEquals(modulesAlias(modules), "alias virtio:d00000009v* top_most\n");
    });
  },
);

Deno.test(
  { name: "kernelFiles reads a module compressed by xz", ignore: needsDpkg.ignore || which("xz") === null },
  async () => {
    const child = new Deno.Command("xz", { args: ["--check=crc32", "-c"], stdin: "piped", stdout: "piped" }).spawn();
    const input = child.stdin.getWriter();
    await input.write(moduleFile("depends=", "alias=fs-xyz"));
    await input.close();
    const { stdout } = await child.output();
    await kernelPackage({ "lib/modules/1/kernel/fs/xyz.ko.xz": stdout }, async (deb) => {
      const { modules } = await kernelFiles(deb, ["xyz"]);
      assertEquals(modules.map((module) => module.aliases), [["fs-xyz"]]);
    });
  },
);

Deno.test({ name: "kernelFiles refuses a module that is none", ...needsDpkg }, async () => {
  const good = moduleFile("depends=");
  const bad: Record<string, Uint8Array> = {
    "not an ELF64 file": new Uint8Array(100),
    "no .modinfo": moduleFile("depends=").fill(0, 256),
    "Offset is outside": good.slice(0, 100),
  };
  for (const [why, data] of Object.entries(bad)) {
    await kernelPackage({ "lib/modules/1/kernel/x.ko": data }, async (deb) => {
      const error = await assertRejects(() => kernelFiles(deb, ["x"]), HostError, why);
      assertStringIncludes(error.message, `"lib/modules/1/kernel/x.ko"`);
    });
  }
});
