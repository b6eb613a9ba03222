/** Checks of a request against the host's files, all of them before anything starts. */
import { dirname, resolve } from "@std/path";
import { ConfigError, HostError, messageOf } from "../base/errors.ts";
import type { RunRequest } from "./parse.ts";
import { mistake, quoted } from "./values.ts";

const SECTOR_BYTES = 512;

/** A file the request names: by which flag, and what will be done with it. */
interface Named {
  readonly flag: string;
  readonly path: string;
  readonly writes: boolean;
}

export function checkFiles(request: RunRequest): void {
  const named: Named[] = [];
  const check = (flag: string, path: string, writes: boolean, one: (flag: string, path: string) => void) => {
    one(flag, path);
    named.push({ flag, path, writes });
  };
  if (request.kernel !== null) check("--kernel", request.kernel, false, checkInput);
  if (request.initrd !== null) check("--initrd", request.initrd, false, checkInput);
  for (const { path } of request.modules ?? []) check("--module", path, false, checkInput);
  if (request.firmware !== null) check("--firmware", request.firmware.path, false, checkInput);
  if (request.firmware?.vars != null) check("--firmware-vars", request.firmware.vars, true, checkInput);
  if (request.vgaBios !== null) check("--vga-bios", request.vgaBios, false, checkInput);
  if (request.screenshot !== null) check("--screenshot", request.screenshot, true, checkOutput);
  if (request.debugcon !== null) check("--debugcon", request.debugcon, true, checkOutput);
  for (const disk of request.disks) {
    if (disk.path === "") continue; // a drive without a disc
    const writes = !disk.readonly && !disk.overlay;
    check("--disk", disk.path, writes, (flag, path) => checkDisk(flag, path, !writes, disk.format));
  }
  for (const { path } of request.services.shares ?? []) checkFolder("--share", path);
  const { vsock } = request.services;
  if (vsock) check("--vsock", vsock.path, true, checkDirectory);
  for (const port of request.serial) {
    if (port.kind === "file") check("--serial", port.path, true, checkOutput);
    if (port.kind === "unix") check("--serial", port.path, true, checkDirectory);
    if (port.kind === "tty") check("--serial", port.path, true, checkTerminal);
    if (port.kind === "pty" && port.link !== undefined) checkLink("--serial", port.link);
  }
  const { net } = request;
  if (net && net.kind !== "none" && net.pcap !== null) check("--net", net.pcap, true, checkOutput);
  if (net && net.kind !== "none" && net.rom !== undefined) check("--net", net.rom, false, checkInput);
  if (net?.kind === "user" && net.tftp !== undefined) checkFolder("--net", net.tftp);
  if (request.pidFile !== null) check("--pid-file", request.pidFile, true, checkOutput);
  if (request.stats !== null) check("--stats", request.stats, true, checkOutput);
  if (request.trace !== null) check("--trace", request.trace.path, true, checkOutput);
  if (request.snapshotOnExit !== null) check("--snapshot-on-exit", request.snapshotOnExit, true, checkOutput);
  checkDistinct(named);
}

/** A file that will be read whole. */
function checkInput(flag: string, path: string): void {
  const info = stat(flag, path);
  if (info === null) throw mistake(flag, path, "a file, and there is none of this name");
  if (!info.isFile) throw mistake(flag, path, `a file, found ${kindOf(info)}`);
  if (info.size === 0) throw mistake(flag, path, "a file, and this one is empty");
  open(flag, path, { read: true });
}

function checkDisk(flag: string, path: string, readonly: boolean, format: string): void {
  const info = stat(flag, path);
  if (info === null) throw mistake(flag, path, "a disk image, and there is no file of this name");
  if (!info.isFile && !info.isBlockDevice) {
    throw mistake(flag, path, `a disk image or a block device, found ${kindOf(info)}`);
  }
  if (format === "raw" && info.isFile && (info.size === 0 || info.size % SECTOR_BYTES !== 0)) {
    throw mistake(flag, path, `an image of whole sectors of ${SECTOR_BYTES} bytes, found ${info.size} bytes`);
  }
  open(flag, path, { read: true, write: !readonly }, readonly ? "" : "; add ',readonly' if it is not to be written");
}

/** A file that will be written from the start. */
function checkOutput(flag: string, path: string): void {
  const info = statIfAllowed(path);
  if (info?.isDirectory) throw mistake(flag, path, "a file, found a directory");
  if (!info) checkDirectory(flag, path);
}

function checkTerminal(flag: string, path: string): void {
  const info = statIfAllowed(path);
  if (info === null) throw mistake(flag, path, "a terminal, and there is nothing of this name");
  if (info && !info.isCharDevice) throw mistake(flag, path, `a terminal, found ${kindOf(info)}`);
}

/** A symbolic link may be there from a run that was killed; anything else is somebody's. */
function checkLink(flag: string, path: string): void {
  try {
    if (!Deno.lstatSync(path).isSymlink) {
      throw mistake(flag, path, "a new symbolic link, and there is something else of this name");
    }
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    checkDirectory(flag, path); // there is nothing, or we may not know
  }
}

function checkDirectory(flag: string, path: string): void {
  const info = statIfAllowed(dirname(path));
  if (info === null) {
    throw mistake(flag, path, `a path in a directory that exists, and ${quoted(dirname(path))} does not`);
  }
  if (info && !info.isDirectory) {
    throw mistake(flag, path, `a path in a directory, and ${quoted(dirname(path))} is none`);
  }
}

function checkFolder(flag: string, path: string): void {
  const info = stat(flag, path);
  if (info === null) throw mistake(flag, path, "a folder, and there is none of this name");
  if (!info.isDirectory) throw mistake(flag, path, `a folder, found ${kindOf(info)}`);
}

/** Two writers of one file, or a writer and a reader, would ruin it. Readers may share. */
function checkDistinct(named: readonly Named[]): void {
  const identities = named.map((n) => identityOf(n.path));
  for (let i = 0; i < named.length; i++) {
    for (let j = 0; j < i; j++) {
      const a = named[j]!, b = named[i]!;
      if (identities[i] === identities[j] && (a.writes || b.writes)) {
        throw mistake(b.flag, b.path, `a file of its own, and ${a.flag} ${quoted(a.path)} is the same`);
      }
    }
  }
}

/** The file behind all its names; before it exists, its absolute name. */
function identityOf(path: string): string {
  const info = statIfAllowed(path);
  // Devices such as /dev/null may be shared by as many as like.
  if (info?.isCharDevice) return `${path} ${Math.random()}`;
  if (info && info.ino !== null) return `${info.dev}:${info.ino}`;
  try {
    return resolve(path);
  } catch {
    return path; // Without permission to know the current directory.
  }
}

/** Null if there is no such file. */
function stat(flag: string, path: string): Deno.FileInfo | null {
  try {
    return Deno.statSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || isNotADirectory(error)) return null;
    throw refused(flag, path, error);
  }
}

/** Null if there is no such file, undefined if we may not know. */
function statIfAllowed(path: string): Deno.FileInfo | null | undefined {
  try {
    return Deno.statSync(path);
  } catch (error) {
    return error instanceof Deno.errors.NotFound || isNotADirectory(error) ? null : undefined;
  }
}

function isNotADirectory(error: unknown): boolean {
  return error instanceof Deno.errors.NotADirectory || (error as { code?: string }).code === "ENOTDIR";
}

function open(flag: string, path: string, how: Deno.OpenOptions, advice = ""): void {
  try {
    Deno.openSync(path, how).close();
  } catch (error) {
    throw refused(flag, path, error, advice);
  }
}

function refused(flag: string, path: string, error: unknown, advice = ""): Error {
  const what = `Cannot open ${flag} ${quoted(path)}: ${messageOf(error)}${advice}`;
  // A name that no file can have is the user's mistake; that a file may not be read is the host's word.
  return (error as { code?: string }).code === "ENAMETOOLONG" || error instanceof TypeError
    ? new ConfigError(what)
    : new HostError(what, { cause: error });
}

function kindOf(info: Deno.FileInfo): string {
  if (info.isDirectory) return "a directory";
  if (info.isFile) return "a file";
  if (info.isSocket) return "a socket";
  if (info.isFifo) return "a pipe";
  return "a device";
}
