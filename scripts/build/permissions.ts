/** What a binary of trike may do. Whoever builds it decides; whoever runs it cannot add to it and is never asked. */
import { V8_FLAGS } from "./v8_flags.ts";

/**
 * The variables that trike reads, the programs it runs: there are no others in `src`, which a test makes sure of. Files and
 * addresses are the user's to name, so those permissions have no list. With FFI there can be none either: KVM and
 * Hypervisor.framework are reached through the C library, and who can call that can do all that the process may.
 */
export const PERMISSIONS: readonly string[] = [
  "--allow-read",
  "--allow-write",
  "--allow-net",
  "--allow-env=HOME,XDG_CACHE_HOME,XDG_RUNTIME_DIR",
  "--allow-run=apt-get",
  "--allow-ffi",
  // Deno's default is a list of servers that modules may come from.
  "--deny-import",
];

/** What Deno is told in front of the program: V8's options, the permissions, and that a missing one is refused, not asked for. */
export const RUN_FLAGS: readonly string[] = [
  ...V8_FLAGS.length > 0 ? [`--v8-flags=${V8_FLAGS.join(",")}`] : [],
  ...PERMISSIONS,
  "--no-prompt",
];
