/** The default initial file system against the kernel's package it is made from. */
import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { HostError } from "../../src/base/errors.ts";
import { debianPackages } from "../../src/guest/apt.ts";
import { cacheRoot } from "../../src/guest/cache.ts";
import { DebPackage } from "../../src/guest/deb.ts";
import { appletNames, busyboxOf, guestKernel } from "../../src/guest/initramfs.ts";
import { type KernelModule, modulesAlias, modulesDep } from "../../src/guest/modules.ts";
import { which } from "./which.ts";

const ignore = which("apt-get") === null;
if (ignore) console.log("skipped: modules of Debian's kernel, as there is no apt-get here");

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
