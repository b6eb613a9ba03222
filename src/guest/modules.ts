/**
 * Kernel modules: what each says of itself in its ELF section `.modinfo`, which of them a set needs, and the tables modprobe
 * reads. A kernel's package holds no modules.dep: the host it is installed on would make that.
 */
import { gunzipSync, zstdDecompressSync } from "node:zlib";
import { HostError, messageOf } from "../base/errors.ts";
import { type DebPackage, decompress } from "./deb.ts";

export interface KernelModule {
  /** As the kernel spells it: with "_" where a file's name may have "-". */
  readonly name: string;
  /** Below the root, uncompressed: "lib/modules/6.1/kernel/fs/ext4/ext4.ko". */
  readonly path: string;
  readonly elf: Uint8Array;
  /** Names of modules, in the order to load them, that this one must or should have before it. */
  readonly needs: readonly string[];
  /** Patterns of what this module drives or provides: "virtio:d00000002v*", "fs-ext4". */
  readonly aliases: readonly string[];
}

const MODULE_PATH = /^(?:usr\/)?(lib\/modules\/[^/]+\/kernel\/(?:.*\/)?([^/]+)\.ko)(?:\.(?:xz|gz|zst))?$/;

const IMAGE_PATH = /^boot\/vmlinuz-[^/]+$/;

/** Each round finds what the round before turned out to need. Chains of dependencies are short. */
const MAX_ROUNDS = 8;

export interface KernelFiles {
  /** The bzImage. */
  readonly image: Uint8Array<ArrayBuffer>;
  readonly modules: readonly KernelModule[];
}

/**
 * The kernel in a package, and of its modules those named and all they depend on. `likely` are names that probably are among
 * those: knowing them saves another pass over the package, which is seconds. Names the package has no module for are left
 * out: they are built in, or not for this kernel.
 */
export async function kernelFiles(
  deb: DebPackage,
  names: readonly string[],
  likely: readonly string[] = [],
): Promise<KernelFiles> {
  let image: Uint8Array<ArrayBuffer> | undefined;
  const loaded = new Map<string, KernelModule>();
  const asked = new Set<string>();
  let round = new Set([...names, ...likely].map(kernelName));
  for (let n = 0; round.size > 0 && n < MAX_ROUNDS; n++) {
    const files = await deb.files((path) =>
      MODULE_PATH.test(path) ? round.has(nameOfFile(path)) : n === 0 && IMAGE_PATH.test(path)
    );
    for (const file of files.values()) {
      if (file.kind !== "file") continue;
      if (IMAGE_PATH.test(file.path)) {
        image = file.data;
        continue;
      }
      const module = await readModule(file.path, file.data);
      loaded.set(module.name, module);
    }
    for (const name of round) asked.add(name);
    round = new Set([...loaded.values()].flatMap((module) => module.needs).filter((name) => !asked.has(name)));
  }
  if (image === undefined) throw new HostError(`Cannot find a kernel in the package "${deb.name}"`);
  const modules = [...closure(loaded, names.map(kernelName))].sort((a, b) => a.path < b.path ? -1 : 1);
  return { image, modules };
}

/** `modules.dep` of modprobe: a module's file and all files it needs, those to be loaded first last. */
export function modulesDep(modules: readonly KernelModule[]): string {
  const byName = new Map(modules.map((module) => [module.name, module]));
  const lines = modules.map((module) => {
    const needed = [...closure(byName, [module.name])].filter((one) => one !== module).reverse();
    return `${short(module)}:${needed.map((one) => ` ${short(one)}`).join("")}\n`;
  });
  return lines.join("");
}

/** `modules.alias` of modprobe. */
export function modulesAlias(modules: readonly KernelModule[]): string {
  return modules.flatMap((module) => module.aliases.map((alias) => `alias ${alias} ${module.name}\n`)).join("");
}

/** Relative to lib/modules/VERSION, as modprobe's tables have it. */
function short(module: KernelModule): string {
  return module.path.split("/").slice(3).join("/");
}

/** The modules named and what they need, each after what it needs. A circle, which no kernel has, is cut. */
function closure(modules: ReadonlyMap<string, KernelModule>, names: readonly string[]): Set<KernelModule> {
  const ordered = new Set<KernelModule>();
  const open = new Set<string>();
  const visit = (name: string): void => {
    const module = modules.get(name);
    if (module === undefined || open.has(name)) return;
    open.add(name);
    module.needs.forEach(visit);
    ordered.add(module);
  };
  names.forEach(visit);
  return ordered;
}

function kernelName(name: string): string {
  return name.replaceAll("-", "_");
}

/** The name of the module in a file, "" if it holds none. */
function nameOfFile(path: string): string {
  return kernelName(MODULE_PATH.exec(path)?.[2] ?? "");
}

async function readModule(path: string, data: Uint8Array<ArrayBuffer>): Promise<KernelModule> {
  const plain = MODULE_PATH.exec(path)![1]!;
  try {
    const elf = await uncompressed(path, data);
    const info = modinfo(elf);
    const soft = info.filter(([key]) => key === "softdep").map(([, value]) =>
      /pre:\s*(.*?)(?:\s*post:|$)/.exec(value)?.[1]
    );
    const hard = info.filter(([key]) => key === "depends").map(([, value]) => value);
    const needs = [...soft, ...hard].flatMap((list) => list?.split(/[\s,]+/) ?? []).filter((name) => name !== "");
    return {
      name: nameOfFile(path),
      path: plain,
      elf,
      needs: [...new Set(needs.map(kernelName))],
      aliases: info.filter(([key]) => key === "alias").map(([, value]) => value),
    };
  } catch (error) {
    throw new HostError(`Cannot read the kernel module "${path}": ${messageOf(error)}`, { cause: error });
  }
}

async function uncompressed(path: string, data: Uint8Array<ArrayBuffer>): Promise<Uint8Array> {
  if (path.endsWith(".gz")) return gunzipSync(data);
  if (path.endsWith(".zst")) return zstdDecompressSync(data);
  if (!path.endsWith(".xz")) return data;
  const chunks: Uint8Array[] = [];
  for await (const chunk of decompress(data, path)) chunks.push(chunk);
  const out = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.length, 0));
  let at = 0;
  for (const chunk of chunks) {
    out.set(chunk, at);
    at += chunk.length;
  }
  return out;
}

/** The "key=value" strings of a module, in order. Offsets are those of ELF64: header, then section headers. */
function modinfo(elf: Uint8Array): [key: string, value: string][] {
  const view = new DataView(elf.buffer, elf.byteOffset, elf.byteLength);
  if (elf.length < 64 || view.getUint32(0) !== 0x7f454c46 || elf[4] !== 2) throw new Error("it is not an ELF64 file");
  const e_shoff = Number(view.getBigUint64(0x28, true));
  const e_shentsize = view.getUint16(0x3a, true);
  const e_shnum = view.getUint16(0x3c, true);
  const e_shstrndx = view.getUint16(0x3e, true);
  const section = (index: number): { name: number; bytes: Uint8Array } => {
    const at = e_shoff + index * e_shentsize;
    const offset = Number(view.getBigUint64(at + 0x18, true));
    return {
      name: view.getUint32(at, true),
      bytes: elf.subarray(offset, offset + Number(view.getBigUint64(at + 0x20, true))),
    };
  };
  const names = section(e_shstrndx).bytes;
  const utf8 = new TextDecoder();
  for (let index = 0; index < e_shnum; index++) {
    const { name, bytes } = section(index);
    if (utf8.decode(names.subarray(name, names.indexOf(0, name))) !== ".modinfo") continue;
    return utf8.decode(bytes).split("\0").filter((one) => one.includes("=")).map((one) => {
      const equals = one.indexOf("=");
      return [one.slice(0, equals), one.slice(equals + 1)];
    });
  }
  throw new Error("it has no .modinfo section");
}
