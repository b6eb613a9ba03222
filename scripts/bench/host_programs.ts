/** Programs of this host, with the libraries they need, behind a guest's initial file system: the kernel unpacks one after the other. */
import { join } from "@std/path";
import { HostError } from "../../src/base/errors.ts";
import { CpioWriter } from "../../src/guest/cpio.ts";

/** Program → Debian's package that has it. */
export const PACKAGES = {
  iperf3: "iperf3",
  curl: "curl",
  dig: "bind9-dnsutils",
  ping: "iputils-ping",
  perl: "perl-base",
  tshark: "tshark",
  passt: "passt",
} as const;
export type HostProgram = keyof typeof PACKAGES;

/** Where a program is on this host; null if it has none. */
export async function pathOf(name: string): Promise<string | null> {
  for (const folder of ["/usr/bin", "/bin", "/usr/sbin"]) {
    if (await isFile(join(folder, name))) return join(folder, name);
  }
  return null;
}

/** The package of the first of `names` that this host lacks, or null. */
export async function missingPackage(names: readonly HostProgram[]): Promise<string | null> {
  for (const name of names) if (await pathOf(name) === null) return PACKAGES[name];
  return null;
}

async function isFile(path: string): Promise<boolean> {
  try {
    return (await Deno.stat(path)).isFile;
  } catch {
    return false;
  }
}

/** Files of the loader that a program names, as `ldd` says. */
async function librariesOf(path: string): Promise<string[]> {
  const { stdout, success } = await new Deno.Command("ldd", { args: [path], stderr: "null" }).output();
  if (!success) throw new HostError(`Cannot tell the libraries of ${path}: ldd failed`);
  const lines = new TextDecoder().decode(stdout).split("\n");
  return lines.flatMap((line) => /(?:=> )?(\/\S+) \(0x/.exec(line)?.[1] ?? []);
}

/** Writes `initrd` and these programs, in /host, into a file of `folder`; its path. */
export async function withHostPrograms(initrd: string, names: readonly HostProgram[], folder: string): Promise<string> {
  const missing = await missingPackage(names);
  if (missing !== null) throw new HostError(`This host lacks ${names.join(", ")} (Debian's package ${missing})`);
  const cpio = new CpioWriter();
  for (const name of names) {
    const path = (await pathOf(name))!;
    cpio.file(`host/${name}`, await Deno.readFile(path), 0o755);
    for (const library of await librariesOf(path)) {
      const to = library.replace(/^\/(usr\/)?/, "");
      if (!cpio.has(to)) cpio.file(to, await Deno.readFile(library), 0o755);
    }
  }
  const first = await Deno.readFile(initrd), second = cpio.finish();
  const out = join(folder, "initrd");
  using file = await Deno.create(out);
  for (const bytes of [first, second]) for (let at = 0; at < bytes.length;) at += await file.write(bytes.subarray(at));
  return out;
}
