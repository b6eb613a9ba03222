/** The file that --config names, read from the host. */
import { ConfigError, HostError, messageOf } from "../base/errors.ts";
import { describeSize } from "../base/size.ts";
import { type ConfigOptions, readConfigText } from "./config.ts";
import { mistake } from "./values.ts";

/** More than anybody writes, and little to hold. */
const MAX_BYTES = 1024 * 1024;

/** Throws ConfigError for what is wrong in it, HostError if it may not be read. */
export function readConfigFile(path: string): ConfigOptions {
  if (path === "") throw mistake("--config", path, "a file");
  let text: string;
  try {
    const info = Deno.statSync(path);
    if (info.isDirectory) throw mistake("--config", path, "a file, found a directory");
    if (info.size > MAX_BYTES) throw mistake("--config", path, `a file of at most ${describeSize(MAX_BYTES)}`);
    text = Deno.readTextFileSync(path);
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    if (error instanceof Deno.errors.NotFound) {
      throw mistake("--config", path, "a file, and there is none of this name");
    }
    throw new HostError(`Cannot open --config "${path}": ${messageOf(error)}`, { cause: error });
  }
  return readConfigText(text, path);
}
