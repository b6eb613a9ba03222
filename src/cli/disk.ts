/** `trike disk …`: images made, looked at, checked and changed, while no machine uses them. */
import { ConfigError, HostError, messageOf } from "../base/errors.ts";
import { formatSize, parseSize } from "../base/size.ts";
import { ImageLock } from "../host/block_lock.ts";
import { formatOfName, type ImageFormat } from "../host/disk/format_name.ts";
import { openFile, openImage } from "../host/disk/open.ts";
import { commitImage, convertImage, createImage, describeImage, mapImage } from "../host/disk/work.ts";
import { checkImage } from "../host/disk/qcow2/check.ts";
import { applySnapshot, createSnapshot, deleteSnapshot, listSnapshots } from "../host/disk/qcow2/snapshots.ts";
import { FileStore } from "../host/disk/store.ts";
import { hint, list, mistake, quoted } from "./values.ts";

interface Word {
  /** What stands for the value; absent for a switch. */
  readonly value?: string;
  readonly help: string;
}

interface Verb {
  readonly operands: string;
  /** How many operands there are at least and at most. */
  readonly count: readonly [number, number];
  readonly help: string;
  readonly options: Readonly<Record<string, Word>>;
  run(operands: readonly string[], given: ReadonlyMap<string, string>, print: (text: string) => void): number;
}

const FORMAT: Word = { value: "raw|qcow2", help: "the image's format, whatever its name says" };
const NEW_IMAGE: Readonly<Record<string, Word>> = {
  "cluster-size": { value: "SIZE", help: "of a qcow2 image, 512 to 2M [64K]" },
  "refcount-bits": { value: "N", help: "of a qcow2 image, 1 to 64 [16]" },
  "compression": { value: "zlib|zstd", help: "of a qcow2 image's compressed clusters [zlib]" },
  "extended-l2": { help: "store as little as a 32nd of a cluster; 16K or more" },
  "lazy-refcounts": { help: "say that a qcow2 image's refcounts may be late" },
};

/** Exit status of `check` for an image that has corruptions, and for one that only wastes space. */
const CORRUPT = 3, LEAKS = 4;

const VERBS: Readonly<Record<string, Verb>> = {
  create: {
    operands: "FILE [SIZE]",
    count: [1, 2],
    help: "Make an empty disk; over another, its size is that one's.",
    options: {
      format: FORMAT,
      backing: { value: "FILE", help: "what is seen until it is written over; never written itself" },
      "backing-format": { value: "raw|qcow2", help: "its format [by its name]" },
      ...NEW_IMAGE,
    },
    run([path, size], given) {
      const backing = given.get("backing") ?? null;
      if (size === undefined && backing === null) {
        throw new ConfigError("trike disk create: expected FILE SIZE, or --backing FILE");
      }
      const backingFormat = backing === null ? null : formatOption(given, "backing-format") ?? formatOfName(backing);
      createImage(path!, {
        format: formatOption(given, "format") ?? formatOfName(path!),
        sizeBytes: size === undefined ? null : sizeOperand(size),
        backing,
        backingFormat,
        ...newImage(given),
      });
      return 0;
    },
  },
  info: {
    operands: "FILE",
    count: [1, 1],
    help: "Tell what an image is.",
    options: { format: FORMAT, json: { help: "as JSON" } },
    run([path], given, print) {
      const facts = describeImage(path!, formatOption(given, "format"));
      if (given.has("json")) print(JSON.stringify(facts, null, 2) + "\n");
      else {
        for (const [name, value] of Object.entries(facts)) {
          if (value !== null && name !== "snapshots") {
            print(`${label(name)}: ${/Bytes$/.test(name) ? bytes(value as number) : value}\n`);
          }
        }
        for (const s of facts.snapshots) {
          print(`snapshot ${s.id}: ${quoted(s.name)}, ${s.taken}, ${bytes(s.sizeBytes)}\n`);
        }
      }
      return 0;
    },
  },
  check: {
    operands: "FILE",
    count: [1, 1],
    help: `Look for damage in a qcow2 image. Status ${CORRUPT}: there is some; ${LEAKS}: only space is lost.`,
    options: { repair: { help: "mend what can be mended" } },
    run([path], given, print) {
      const repair = given.has("repair");
      return withStore(path!, repair, (store) => {
        const { corruptions, leaks, usedClusters, findings, repaired } = checkImage(store, repair);
        for (const finding of findings) print(`${finding}\n`);
        const found = `${usedClusters} clusters in use, ${corruptions} corruptions, ${leaks} leaked clusters`;
        print(`${found}${repaired ? "; repaired" : ""}\n`);
        if (repaired) return checkImage(store, false).corruptions > 0 ? CORRUPT : 0;
        return corruptions > 0 ? CORRUPT : leaks > 0 ? LEAKS : 0;
      });
    },
  },
  convert: {
    operands: "FROM TO",
    count: [2, 2],
    help: "Copy a disk into a new image, without the parts that are zero.",
    options: {
      from: { value: "raw|qcow2", help: "the format of FROM, whatever its name says" },
      format: { value: "raw|qcow2", help: "the format of TO, whatever its name says" },
      compress: { help: "into compressed clusters" },
      ...NEW_IMAGE,
    },
    run([from, to], given) {
      const format = formatOption(given, "format") ?? formatOfName(to!);
      if (given.has("compress") && format !== "qcow2") throw mistake("--compress", to!, "a qcow2 image to write");
      convertImage({ path: from!, format: formatOption(given, "from") }, to!, {
        format,
        compress: given.has("compress"),
        ...newImage(given),
      });
      return 0;
    },
  },
  resize: {
    operands: "FILE SIZE",
    count: [2, 2],
    help: "Make a disk longer, or shorter with --shrink: +1G, -512M, 20G.",
    options: { format: FORMAT, shrink: { help: "what is behind the new end is lost" } },
    run([path, size], given) {
      const image = openImage({ path: path!, writable: true, format: formatOption(given, "format") });
      try {
        const sign = size![0] === "+" ? 1 : size![0] === "-" ? -1 : 0;
        const amount = sizeOperand(sign === 0 ? size! : size!.slice(1));
        const wanted = sign === 0 ? amount : image.sizeBytes + sign * amount;
        if (wanted < 512) throw mistake("SIZE", size!, "a disk of at least one sector");
        if (wanted < image.sizeBytes && !given.has("shrink")) {
          throw mistake(
            "SIZE",
            size!,
            `at least the ${bytes(image.sizeBytes)} it has, or --shrink to lose what is behind`,
          );
        }
        image.resize(wanted);
        image.flush();
      } finally {
        image.close();
      }
      return 0;
    },
  },
  commit: {
    operands: "FILE",
    count: [1, 1],
    help: "Write what an image has into its backing file, and empty it.",
    options: {},
    run([path], _given, print) {
      print(`${bytes(commitImage(path!))} written\n`);
      return 0;
    },
  },
  snapshot: {
    operands: "list|create|apply|delete FILE [NAME]",
    count: [2, 3],
    help: "A qcow2 image's snapshots of itself.",
    options: {},
    run([action, path, name], _given, print) {
      const actions = ["list", "create", "apply", "delete"];
      if (!actions.includes(action!)) throw mistake("snapshot", action!, `${list(actions)}${hint(action!, actions)}`);
      if ((action === "list") !== (name === undefined)) {
        throw new ConfigError(`trike disk snapshot ${action}: expected FILE${action === "list" ? "" : " NAME"}`);
      }
      return withStore(path!, action !== "list", (store) => {
        if (action === "create") createSnapshot(store, name!, Date.now());
        else if (action === "apply") applySnapshot(store, name!);
        else if (action === "delete") deleteSnapshot(store, name!);
        else {
          for (const s of listSnapshots(store)) {
            print(`${s.id}\t${quoted(s.name)}\t${new Date(1000 * s.seconds).toISOString()}\t${bytes(s.sizeBytes)}\n`);
          }
        }
        return 0;
      });
    },
  },
  map: {
    operands: "FILE",
    count: [1, 1],
    help: "List which parts of a disk are data, zeros, or behind it.",
    options: { format: FORMAT, json: { help: "as JSON" } },
    run([path], given, print) {
      const extents = mapImage(path!, formatOption(given, "format"));
      if (given.has("json")) print(JSON.stringify(extents) + "\n");
      else {
        for (const { offset, sizeBytes, kind, at } of extents) {
          print(`${offset}\t${sizeBytes}\t${kind}${at === null ? "" : `\tat ${at}`}\n`);
        }
      }
      return 0;
    },
  },
};

/** Runs `trike disk …` with the words after "disk"; returns the exit status. */
export function diskCommand(words: readonly string[], print: (text: string) => void): number {
  const [name, ...rest] = words;
  if (name === undefined || name === "help" || name === "--help" || name === "-h") {
    print(diskHelp());
    return 0;
  }
  const verb = Object.hasOwn(VERBS, name) ? VERBS[name]! : null;
  const names = Object.keys(VERBS);
  if (!verb) {
    throw new ConfigError(`Unknown command "disk" ${quoted(name)}: expected ${list(names)}${hint(name, names)}`);
  }
  if (rest.includes("--help") || rest.includes("-h")) {
    print(diskHelp());
    return 0;
  }
  const operands: string[] = [], given = new Map<string, string>();
  for (let i = 0; i < rest.length; i++) {
    const word = rest[i]!;
    if (!word.startsWith("--")) {
      operands.push(word);
      continue;
    }
    const equals = word.indexOf("=");
    const key = equals < 0 ? word.slice(2) : word.slice(2, equals);
    const option = Object.hasOwn(verb.options, key) ? verb.options[key]! : null;
    const known = Object.keys(verb.options);
    if (!option) {
      const there = known.length === 0 ? "none" : list(known.map((one) => `--${one}`));
      throw new ConfigError(
        `Unknown option ${quoted(`--${key}`)} of 'trike disk ${name}': expected ${there}${hint(key, known)}`,
      );
    }
    if (given.has(key)) throw new ConfigError(`--${key}: expected it once`);
    if (option.value === undefined) {
      if (equals >= 0) throw mistake(`--${key}`, word.slice(equals + 1), "no value");
      given.set(key, "");
      continue;
    }
    const value = equals >= 0 ? word.slice(equals + 1) : rest[++i];
    if (value === undefined || value === "") {
      throw new ConfigError(`--${key} needs a value: expected --${key} ${option.value}`);
    }
    given.set(key, value);
  }
  if (operands.length < verb.count[0] || operands.length > verb.count[1] || operands.includes("")) {
    throw new ConfigError(`trike disk ${name}: found ${operands.length} operands, expected ${verb.operands}`);
  }
  return verb.run(operands, given, print);
}

export function diskHelp(): string {
  const verbs = Object.entries(VERBS).map(([name, { operands, help, options }]) => {
    const lines = Object.entries(options).map(([key, { value, help }]) =>
      `      ${`--${key}${value === undefined ? "" : ` ${value}`}`.padEnd(28)} ${help}\n`
    );
    return `  trike disk ${name} ${operands}\n      ${help}\n${lines.join("")}`;
  });
  return `Disk images. A name that ends in .qcow2 stands for a qcow2 image, any other for a raw one.
No machine may be using an image that is written.

${verbs.join("\n")}`;
}

function formatOption(given: ReadonlyMap<string, string>, key: string): ImageFormat | undefined {
  const value = given.get(key);
  if (value !== undefined && value !== "raw" && value !== "qcow2") throw mistake(`--${key}`, value, "raw or qcow2");
  return value;
}

function newImage(given: ReadonlyMap<string, string>) {
  const clusterText = given.get("cluster-size"), bitsText = given.get("refcount-bits");
  const compression = given.get("compression");
  const clusterBytes = clusterText === undefined ? 65536 : parseSize(clusterText) ?? NaN;
  if (!isPowerOfTwo(clusterBytes) || clusterBytes < 512 || clusterBytes > 2 << 20) {
    throw mistake("--cluster-size", clusterText!, "a power of two from 512 to 2M");
  }
  const extendedL2 = given.has("extended-l2");
  if (extendedL2 && clusterBytes < 16384) throw mistake("--cluster-size", clusterText!, "16K to 2M with --extended-l2");
  const refcountBits = bitsText === undefined ? 16 : Number(bitsText);
  if (!isPowerOfTwo(refcountBits) || refcountBits > 64) {
    throw mistake("--refcount-bits", bitsText!, "1, 2, 4, 8, 16, 32 or 64");
  }
  if (compression !== undefined && compression !== "zlib" && compression !== "zstd") {
    throw mistake("--compression", compression, "zlib or zstd");
  }
  return {
    clusterBytes,
    refcountBits,
    compression: compression ?? "zlib",
    lazyRefcounts: given.has("lazy-refcounts"),
    extendedL2,
  } as const;
}

function isPowerOfTwo(n: number): boolean {
  return Number.isInteger(n) && n >= 1 && Number.isInteger(Math.log2(n));
}

function sizeOperand(text: string): number {
  const size = parseSize(text);
  if (size === undefined || size < 512 || size % 512 !== 0) {
    throw mistake("SIZE", text, "a size such as 512M, 1.5G or 8GiB, in whole sectors");
  }
  return size;
}

/** Runs `body` on a qcow2 image's file, which nobody else may be writing. */
function withStore(path: string, writable: boolean, body: (store: FileStore) => number): number {
  openFile(path, writable, path).close(); // for its words
  const lock = ImageLock.take({ path, readonly: !writable, flag: "" });
  try {
    const store = FileStore.open(path, writable);
    try {
      return body(store);
    } finally {
      store.close();
    }
  } catch (error) {
    if (error instanceof ConfigError || error instanceof HostError) throw error;
    throw new HostError(`${path}: ${messageOf(error)}`, { cause: error });
  } finally {
    lock?.release();
  }
}

function bytes(n: number): string {
  return n >= 1024 ? `${n} bytes (${formatSize(n)})` : `${n} bytes`;
}

/** "virtualBytes" as "virtual size". */
function label(name: string): string {
  return name.replace(/Bytes$/, "Size").replace(/[A-Z]/g, (c) => ` ${c.toLowerCase()}`);
}
