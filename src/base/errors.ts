/**
 * The kinds of error trike knows, by who has to act on them. What a guest does is never an error.
 */

/** The user's mistake. The message is printed as it is; it names the flag, the value, and what was expected. Exit status 2. */
export class ConfigError extends Error {
  override name = "ConfigError";
}

/** The host refused something. The message names the call and what we were doing. Exit status 1. */
export class HostError extends Error {
  override name = "HostError";
}

/** A snapshot cannot be trusted or understood. The message names the section and the field. */
export class RestoreError extends Error {
  override name = "RestoreError";
}

/** A mistake of our own. */
export class Bug extends Error {
  override name = "Bug";
}

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
