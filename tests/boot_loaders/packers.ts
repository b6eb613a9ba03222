/** The system's packers, called as the kernel's build calls them, and with other settings of theirs. */
import type { Packing } from "../../src/boot/decompress/mod.ts";

export interface Packer {
  readonly packing: Packing;
  readonly command: string;
  readonly args: readonly string[];
  /** The command as one would type it. */
  readonly line: string;
  /** The format has a checksum that covers the data. */
  readonly checked: boolean;
}

const packer = (packing: Packing, line: string, checked: boolean): Packer => {
  const [command, ...args] = line.split(" ") as [string, ...string[]];
  return { packing, command, args, line, checked };
};

export const PACKERS: readonly Packer[] = [
  packer("gzip", "gzip -n -9 -c", true),
  packer("zstd", "zstd -q -22 --ultra -c", true),
  packer("lz4", "lz4 -q -l -9 -c", false),
  packer("lz4", "lz4 -q -l -1 -c", false),
  packer("xz", "xz --check=crc32 --x86 --lzma2=dict=32MiB -c", true),
  packer("xz", "xz --check=crc32 --lzma2=dict=1MiB,lc=1,lp=3,pb=1 -c", true),
  packer("xz", "xz --check=crc64 --block-size=65536 --x86 --lzma2 -T2 -c", true),
  packer("xz", "xz --check=none -0 -c", false),
  packer("lzma", "xz --format=lzma -9 -c", false),
  packer("bzip2", "bzip2 -9 -c", true),
  packer("bzip2", "bzip2 -1 -c", true),
];

/** `plain`, packed; null if the packer is not installed. */
export async function pack({ command, args }: Packer, plain: Uint8Array): Promise<Uint8Array<ArrayBuffer> | null> {
  let child;
  try {
    child = new Deno.Command(command, { args: [...args], stdin: "piped", stdout: "piped", stderr: "null" }).spawn();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return null;
    throw error;
  }
  const writer = child.stdin.getWriter();
  const written = writer.write(plain).then(() => writer.close());
  const { stdout, success, code } = await child.output();
  await written;
  if (!success) throw new Error(`${command} ${args.join(" ")} exited with ${code}`);
  return stdout;
}
