/** Firmware of the host's packages, for tests; a test without it is skipped and says so. */
export interface FirmwareImage {
  readonly path: string;
  readonly name: string;
  readonly ignore: boolean;
}

/** `path` of a file that Debian's package `pkg` has. */
export function firmwareOrSkip(pkg: string, path: string): FirmwareImage {
  const name = path.slice(path.lastIndexOf("/") + 1);
  try {
    return { path, name, ignore: !Deno.statSync(path).isFile };
  } catch {
    console.log(`skipped: tests of ${name}: the package ${pkg} is not installed`);
    return { path, name, ignore: true };
  }
}
