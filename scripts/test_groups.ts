/** Which tests run together, and what they may do. A folder that the table does not name runs without any permission. */
import { relative } from "@std/path";
import { ConfigError } from "../src/base/errors.ts";

export interface Group {
  /** The folder that the table names, or the folder of the tests. */
  readonly name: string;
  readonly permissions: readonly string[];
  /** Its tests use the kernels that TRIKE_KERNELS points to. */
  readonly kernels: boolean;
  readonly files: readonly string[];
}

interface Row {
  readonly folder: string;
  readonly allow: readonly string[];
  readonly kernels?: boolean;
}

const FILES = ["--allow-read", "--allow-write"];
const PACKERS = "gzip,gunzip,zstd,lz4,xz,bzip2,bunzip2";

/** Slow ones first. The longest name that begins a file's path is its group. */
const TABLE: readonly Row[] = [
  // a process that is trike for each boot, on pipes and pseudo-terminals
  {
    folder: "tests/boot",
    allow: [...FILES, "--allow-env", "--allow-run", "--allow-ffi", "--allow-sys=uid"],
    kernels: true,
  },
  // runs trike as a process, with firmware of the host's packages
  { folder: "tests/firmware", allow: [...FILES, "--allow-env", "--allow-run", "--allow-net", "--allow-ffi"] },
  // builds binaries and boots a guest with one
  { folder: "tests/binary", allow: [...FILES, "--allow-env", "--allow-run"] },
  // makes packages and archives with the system's tools, boots them in QEMU
  { folder: "tests/guest", allow: [...FILES, "--allow-env", "--allow-run"], kernels: true },
  // runs instructions on the processor itself
  { folder: "tests/diff", allow: ["--allow-read", "--allow-ffi"] },
  { folder: "src/cpu", allow: [] },
  {
    folder: "tests/boot_loaders",
    allow: [...FILES, "--allow-env=TRIKE_KERNELS", `--allow-run=qemu-system-x86_64,${PACKERS}`],
    kernels: true,
  },
  // trike as a process, on pseudo-terminals
  { folder: "tests/cli", allow: [...FILES, "--allow-env", "--allow-run", "--allow-net", "--allow-ffi"] },
  // boots the default guest, saves it and goes on with it
  { folder: "tests/snapshot", allow: [...FILES, "--allow-env", "--allow-run", "--allow-net"], kernels: true },
  // boots the default guest with servers on loop-back beside it; sockets and interfaces by FFI
  { folder: "tests/net", allow: [...FILES, "--allow-env", "--allow-run", "--allow-net", "--allow-ffi"], kernels: true },
  // boots guests that mount folders, talk through vsock and give memory back
  { folder: "tests/share", allow: [...FILES, "--allow-env", "--allow-run"], kernels: true },
  { folder: "tests/vsock", allow: [...FILES, "--allow-env", "--allow-run", "--allow-net"], kernels: true },
  // reads in /proc what memory trike holds, for which Deno wants every permission
  { folder: "tests/balloon", allow: ["--allow-all"], kernels: true },
  { folder: "tests/machine", allow: FILES },
  { folder: "tests/virtio", allow: FILES },
  // images beside qemu-img's
  { folder: "tests/storage", allow: [...FILES, "--allow-env", "--allow-run"], kernels: true },
  // the software CPU's tiers beside each other
  { folder: "tests/tiers", allow: [] },
  // code that is emitted and run
  { folder: "tests/native", allow: ["--allow-ffi"] },
  { folder: "tests/engine", allow: ["--allow-read"] },
  // a Worker a vCPU; boots of Linux
  { folder: "tests/smp", allow: [...FILES, "--allow-env", "--allow-run"], kernels: true },
  // /dev/kvm, where there is one
  { folder: "tests/engine/kvm", allow: [...FILES, "--allow-ffi"] },
  // a library in the place of Hypervisor.framework
  { folder: "tests/engine/hvf", allow: [...FILES, "--allow-env", "--allow-run", "--allow-ffi"], kernels: true },
  // a library in place of Hypervisor.framework, looked at with binutils
  { folder: "tests/double", allow: [...FILES, "--allow-run", "--allow-ffi"] },
  // compiles what C says of the bindings
  { folder: "tests/ffi", allow: [...FILES, "--allow-run", "--allow-ffi"] },
  // not --allow-run=iasl: where iasl is missing, the tests are to say that, and not that they may not run it
  { folder: "tests/acpi", allow: [...FILES, "--allow-run"] },
  { folder: "tests/laws", allow: [] },
  // the corpus of inputs that failed once
  { folder: "tests/fuzz", allow: ["--allow-read=tests/fuzz"] },
  // opens a device file, for which Deno wants every permission
  { folder: "src/host", allow: ["--allow-all"] },
  { folder: "scripts", allow: [...FILES, "--allow-run"] },
  { folder: "devices", allow: [] },
  { folder: "src/base", allow: [] },
  { folder: "src/wasm", allow: [] },
];

/** Every group that has tests under one of `folders` (all, if none is named), with those tests only. */
export async function discover(root: string, folders: readonly string[]): Promise<Group[]> {
  const wanted = folders.map((folder) => folder.replace(/^\.\//, "").replace(/\/+$/, ""));
  const files = new Map<string, string[]>();
  const found = new Set<string>();
  for (const path of (await testFiles(root)).sort()) {
    const named = wanted.filter((folder) => within(path, folder));
    if (wanted.length > 0 && named.length === 0) continue;
    for (const folder of named) found.add(folder);
    const name = rowOf(path)?.folder ?? path.slice(0, path.lastIndexOf("/"));
    files.set(name, [...files.get(name) ?? [], path]);
  }
  for (const folder of wanted) {
    if (!found.has(folder)) throw new ConfigError(`Cannot test "${folder}": expected a folder or a file with tests`);
  }
  const order = (name: string) => TABLE.findIndex(({ folder }) => folder === name);
  return [...files].sort(([a], [b]) => order(a) - order(b)).map(([name, files]) => {
    const row = TABLE.find(({ folder }) => folder === name);
    return { name, permissions: row?.allow ?? [], kernels: row?.kernels ?? false, files };
  });
}

function rowOf(path: string): Row | undefined {
  return TABLE.filter(({ folder }) => within(path, folder)).sort((a, b) => b.folder.length - a.folder.length)[0];
}

function within(path: string, folder: string): boolean {
  return path === folder || path.startsWith(`${folder}/`);
}

async function testFiles(root: string, folder = root): Promise<string[]> {
  const files: string[] = [];
  for await (const { name, isDirectory } of Deno.readDir(folder)) {
    if (isDirectory && !name.startsWith(".") && name !== "node_modules") {
      files.push(...await testFiles(root, `${folder.replace(/\/$/, "")}/${name}`));
    } else if (name.endsWith("_test.ts")) files.push(relative(root, `${folder}/${name}`));
  }
  return files;
}
