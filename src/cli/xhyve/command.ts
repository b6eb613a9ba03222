/** `trike xhyve …`. */
import { ConfigError } from "../../base/errors.ts";
import { configText } from "../config.ts";
import { chooseNet } from "../net_option.ts";
import { inTheirWords, toldFrom } from "../origins.ts";
import { readRequest } from "../parse.ts";
import { identity, runMachine, type RunParts } from "../run.ts";
import { xhyvePage } from "./options.ts";
import { translateXhyve } from "./translate.ts";

/** Runs `trike xhyve` with the words after it; resolves with the exit status. Throws ConfigError or HostError. */
export async function xhyveCommand(
  args: readonly string[],
  parts: RunParts & { print(text: string): void; version: string },
): Promise<number> {
  const command = translateXhyve(args);
  if (command.kind === "help") {
    parts.print(xhyvePage());
    return 0;
  }
  if (command.kind === "version") {
    parts.print(`trike ${parts.version}\n`);
    return 0;
  }
  const { given, origins, notes } = command.machine;
  const request = toldFrom(origins, () => readRequest(given));
  if (command.kind === "mac") {
    const { net } = chooseNet({ net: request.net, publish: [], icount: false, name: identity(request), allowed: true });
    if (net === undefined) throw new ConfigError("Found -M without a network: expected -s SLOT,virtio-net beside it");
    parts.print(`MAC: ${net.mac.map((byte) => byte.toString(16).padStart(2, "0")).join(":")}\n`);
    return 0;
  }
  for (const note of notes) parts.say(note);
  try {
    return await runMachine(request, parts);
  } catch (error) {
    throw inTheirWords(error, origins);
  }
}

/** `trike config xhyve …`: the same machine as a file. */
export function xhyveConfig(args: readonly string[], say: (line: string) => void): string {
  const command = translateXhyve(args);
  if (command.kind !== "run") throw new ConfigError("Expected a machine to print: -h, -v and -M have none");
  const { given, origins, notes } = command.machine;
  toldFrom(origins, () => readRequest(given));
  for (const note of notes) say(note);
  return configText(given);
}
