/**
 * Debian packages by way of the host's apt-get: its sources and its trusted keys, but lists, cache and state of our own, so
 * that no privilege is needed and nothing of the host changes. apt verifies what it downloads.
 */
import { join } from "@std/path";
import { TextLineStream } from "@std/streams";
import { HostError } from "../base/errors.ts";
import { fingerprint, isFile, locked, readJson, withScratch, writeWhole } from "./cache.ts";
import { DebPackage } from "./deb.ts";
import type { Progress } from "./progress.ts";

/**
 * Read after the host's configuration. Hooks of the host's (they clean its own cache, or want to be root) are dropped, and
 * so is every index but that of amd64 packages.
 */
const APT_CONF = `
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Architectures;
APT::Architecture "amd64";
APT::Architectures { "amd64"; };
APT::Sandbox::User "root";
APT::Status-Fd "1";
Acquire::Languages "none";
Acquire::IndexTargets::deb-src::Sources::DefaultEnabled "false";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::Retries "2";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
`;

/** A kernel's metapackage depends on the package that holds the kernel. */
const REAL_KERNEL = /^linux-image-\d\S*$/;

export interface PackageOptions {
  /** Ask the sources for newer packages even if there are some in the cache. */
  readonly refresh?: boolean;
  readonly progress: Progress;
}

/**
 * The .deb files of the packages named, in their order; for a kernel's metapackage, that of the kernel it stands for. Once
 * they are in the cache nothing is run and no network is needed.
 */
export async function debianPackages(
  root: string,
  names: readonly string[],
  options: PackageOptions,
): Promise<string[]> {
  if (!options.refresh) {
    const cached = await lookUp(root, names);
    if (cached) return cached;
  }
  return await locked(root, async () => {
    const cached = options.refresh ? null : await lookUp(root, names); // another run may just have fetched them
    return cached ?? await withScratch(root, (scratch) => download(root, scratch, names, options.progress));
  });
}

/**
 * The .deb files of the packages named and of all that they depend on, as apt would install them on an empty system, without
 * what is only recommended. In the order of their names.
 */
export async function debianClosure(root: string, names: readonly string[], progress: Progress): Promise<string[]> {
  const pointer = pointerPath(root, `closure-${await fingerprint(...names)}`);
  const lookUp = async () => {
    const files = await readJson(pointer);
    if (!Array.isArray(files) || !files.every((file) => typeof file === "string" && !file.includes("/"))) return null;
    const paths = files.map((file: string) => join(debFolder(root), file));
    return (await Promise.all(paths.map(isFile))).every(Boolean) ? paths : null;
  };
  return await lookUp() ?? await locked(root, async () =>
    await lookUp() ?? // another run may just have fetched them
      await withScratch(root, async (scratch) => {
        const apt = new Apt(scratch, progress);
        await apt.prepare();
        await apt.update();
        const from = await apt.downloadClosure(names);
        await Deno.mkdir(debFolder(root), { recursive: true });
        const files = from.map((path) => path.slice(path.lastIndexOf("/") + 1)).sort();
        for (const path of from) await Deno.rename(path, join(debFolder(root), path.slice(path.lastIndexOf("/") + 1)));
        await writeWhole(pointer, JSON.stringify(files));
        return files.map((file) => join(debFolder(root), file));
      }));
}

function debFolder(root: string): string {
  return join(root, "debs");
}

/** A file per name, which holds the name of the .deb it stood for when it was fetched. */
function pointerPath(root: string, name: string): string {
  return join(debFolder(root), `${name}.json`);
}

async function lookUp(root: string, names: readonly string[]): Promise<string[] | null> {
  const found: string[] = [];
  for (const name of names) {
    const file = await readJson(pointerPath(root, name));
    if (typeof file !== "string" || file.includes("/")) return null;
    const path = join(debFolder(root), file);
    if (!await isFile(path)) return null;
    found.push(path);
  }
  return found;
}

async function download(
  root: string,
  scratch: string,
  names: readonly string[],
  progress: Progress,
): Promise<string[]> {
  const apt = new Apt(scratch, progress);
  await apt.prepare();
  await apt.update();
  const first = await apt.download(names);

  const real = new Map<string, string>(); // a metapackage → the kernel's package
  for (const [name, path] of first) {
    if (!name.startsWith("linux-image-") || REAL_KERNEL.test(name)) continue;
    const depends = (await (await DebPackage.open(path)).control()).get("Depends") ?? "";
    const kernel = depends.split(/[,|]/).map((one) => one.trim().split(/[\s:(]/)[0]!).find((one) =>
      REAL_KERNEL.test(one)
    );
    if (kernel === undefined) throw new HostError(`Cannot find the kernel behind the package "${name}" (${depends})`);
    real.set(name, kernel);
  }
  const second = real.size === 0 ? new Map<string, string>() : await apt.download([...real.values()]);

  await Deno.mkdir(debFolder(root), { recursive: true });
  const paths: string[] = [];
  for (const name of names) {
    const kernel = real.get(name);
    const from = kernel === undefined ? first.get(name)! : second.get(kernel)!;
    const file = from.slice(from.lastIndexOf("/") + 1);
    await Deno.rename(from, join(debFolder(root), file));
    await writeWhole(pointerPath(root, name), JSON.stringify(file));
    paths.push(join(debFolder(root), file));
  }
  return paths;
}

/** apt-get with a home of its own in `folder`. */
class Apt {
  readonly #archives: string;
  #updateComplaint = "";

  constructor(private readonly folder: string, private readonly progress: Progress) {
    this.#archives = join(folder, "archives");
  }

  async prepare(): Promise<void> {
    await Deno.mkdir(join(this.folder, "lists", "partial"), { recursive: true });
    await Deno.mkdir(join(this.#archives, "partial"), { recursive: true });
    await Deno.writeTextFile(join(this.folder, "apt.conf"), APT_CONF);
    await Deno.writeTextFile(join(this.folder, "status"), ""); // as if no package were installed
  }

  /** Fetches the sources' lists. A source that fails is no failure yet: the packages may come from the others. */
  async update(): Promise<void> {
    const run = await this.#run("fetching Debian's package lists", ["update"]);
    this.#updateComplaint = run.complaint;
  }

  /** Package name → the file it was downloaded to. */
  async download(names: readonly string[]): Promise<Map<string, string>> {
    const run = await this.#run(`downloading ${names.join(", ")}`, ["download", ...names]);
    const files = new Map<string, string>();
    for await (const entry of Deno.readDir(this.#archives)) {
      const name = entry.name.slice(0, entry.name.indexOf("_"));
      if (entry.isFile && names.includes(name)) files.set(name, join(this.#archives, entry.name));
    }
    const missing = names.filter((name) => !files.has(name));
    if (run.code !== 0 || missing.length > 0) {
      const why = run.complaint || this.#updateComplaint || `status ${run.code}`;
      throw new HostError(
        `Cannot download the package ${missing.join(", ") || names.join(", ")}: apt-get says: ${why} ` +
          "(to run a kernel of your own, pass --kernel FILE)",
      );
    }
    return files;
  }

  /** The files of the packages and of all that they depend on. */
  async downloadClosure(names: readonly string[]): Promise<string[]> {
    const how = ["install", "--download-only", "--yes", "--no-install-recommends"];
    const run = await this.#run(`downloading ${names[0]} and what it needs`, [...how, ...names]);
    if (run.code !== 0) {
      const why = run.complaint || this.#updateComplaint || `status ${run.code}`;
      throw new HostError(
        `Cannot download the packages ${names.join(", ")} with their dependencies: apt-get says: ${why}`,
      );
    }
    const files: string[] = [];
    for await (const { name } of Deno.readDir(this.#archives)) {
      if (name.endsWith(".deb")) files.push(join(this.#archives, name));
    }
    return files;
  }

  async #run(what: string, args: readonly string[]): Promise<{ code: number; complaint: string }> {
    this.progress(what, 0);
    const directories = {
      "Dir::State": this.folder,
      "Dir::State::lists": join(this.folder, "lists"),
      "Dir::State::status": join(this.folder, "status"),
      "Dir::State::extended_states": join(this.folder, "extended_states"),
      "Dir::Cache": this.folder,
      "Dir::Cache::archives": this.#archives,
      "Dir::Log": this.folder,
    };
    const settings = Object.entries(directories).flatMap(([name, value]) => ["-o", `${name}=${value}`]);
    const child = spawn("apt-get", {
      args: ["-q", "-c", join(this.folder, "apt.conf"), ...settings, ...args],
      cwd: this.#archives,
      env: { LC_ALL: "C.UTF-8" },
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    });
    const [complaint] = await Promise.all([lastComplaint(child.stderr), this.#follow(what, child.stdout)]);
    const { code } = await child.status;
    if (code === 0) this.progress(what, 1);
    return { code, complaint };
  }

  /** Lines `dlstatus:ITEM:PERCENT:TEXT` are apt's progress. */
  async #follow(what: string, output: ReadableStream<Uint8Array>): Promise<void> {
    for await (const line of lines(output)) {
      const percent = /^dlstatus:\d+:([\d.]+):/.exec(line);
      if (percent) this.progress(what, Math.min(0.99, Number(percent[1]) / 100));
    }
  }
}

function spawn(command: string, options: Deno.CommandOptions): Deno.ChildProcess {
  try {
    return new Deno.Command(command, options).spawn();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) {
      throw new HostError(
        `Cannot make the default guest: this host has no ${command}, which would fetch it from Debian; ` +
          "pass --kernel FILE (and --initrd FILE) to run a kernel of your own",
        { cause: error },
      );
    }
    throw error;
  }
}

/** apt's last error, else its last warning, in one line. */
async function lastComplaint(output: ReadableStream<Uint8Array>): Promise<string> {
  let warning = "";
  let failure = "";
  for await (const line of lines(output)) {
    if (line.startsWith("E: ")) failure = line.slice(3).trim();
    else if (line.trim() !== "") warning = line.replace(/^W: /, "").trim();
  }
  return failure || warning;
}

function lines(output: ReadableStream<Uint8Array>): ReadableStream<string> {
  return (output as ReadableStream<Uint8Array<ArrayBuffer>>)
    .pipeThrough(new TextDecoderStream())
    .pipeThrough(new TextLineStream());
}
