/** Signs an executable for macOS: with the system's codesign where there is one, else with the signer in `scripts/sign`. */
import { HostError } from "../../src/base/errors.ts";
import { ROOT } from "../tree.ts";
import { signMachO } from "../sign/sign.ts";

export const IDENTIFIER = "trike";

export interface SignOptions {
  readonly identity: string | null;
  readonly networking: boolean;
}

/** The file with what the program asks of macOS. */
export function entitlementsFile({ networking }: SignOptions): string {
  return `${ROOT}scripts/sign/${networking ? "networking" : "hypervisor"}.entitlements`;
}

/** Signs `input` into `output`, which may be the same file. */
export async function sign(input: string, output: string, options: SignOptions): Promise<void> {
  const entitlements = entitlementsFile(options);
  if (Deno.build.os !== "darwin") {
    const signing = { identifier: IDENTIFIER, entitlements: await Deno.readTextFile(entitlements) };
    const signed = signMachO(await Deno.readFile(input), signing);
    await Deno.writeFile(output, signed, { mode: 0o755 });
    return;
  }
  if (input !== output) await Deno.copyFile(input, output);
  const args = ["--force", "--sign", options.identity ?? "-", "--identifier", IDENTIFIER];
  // The hardened runtime and a time stamp are what notarization asks for; there is none without an identity.
  if (options.identity !== null) args.push("--options", "runtime", "--timestamp");
  const { success, stderr } = await new Deno.Command("codesign", {
    args: [...args, "--entitlements", entitlements, output],
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  }).output();
  if (!success) {
    throw new HostError(`Cannot sign "${output}": codesign says: ${new TextDecoder().decode(stderr).trim()}`);
  }
}
