/** QEMU's own tool for images, as an oracle. */
import { assertEquals } from "@std/assert";
import { which } from "../guest/which.ts";

const program = which("qemu-img");
if (program === null) {
  console.log("skipped: comparisons with qemu-img: there is no qemu-img here (Debian's qemu-utils)");
}
export const noQemuImg = program === null;

export interface Said {
  readonly code: number;
  readonly text: string;
}

export async function qemuImg(...args: string[]): Promise<Said> {
  const { code, stdout, stderr } = await new Deno.Command(program!, { args }).output();
  const utf8 = new TextDecoder();
  return { code, text: utf8.decode(stdout) + utf8.decode(stderr) };
}

/** Runs it and expects success. */
export async function qemu(...args: string[]): Promise<string> {
  const { code, text } = await qemuImg(...args);
  assertEquals(code, 0, `qemu-img ${args.join(" ")}: ${text}`);
  return text;
}

/** A qcow2 image has no error, and no leak unless `leaks` allows them (status 3 says leaks only). */
export async function assertSound(path: string, leaks = false): Promise<void> {
  const { code, text } = await qemuImg("check", "-f", "qcow2", path);
  assertEquals(code === 0 || (leaks && code === 3), true, text);
}
