/** Whether this process can run code that it has emitted. */

/** Why it cannot, or null; and whether the user could ask for something else, or the host has refused. */
export function nativeRefusal(): { readonly why: string; readonly by: "trike" | "host" } | null {
  if (Deno.build.os !== "linux" || Deno.build.arch !== "x86_64") return { why: "on x86-64 Linux only", by: "host" };
  if (Deno.permissions.querySync({ name: "ffi" }).state !== "granted") return { why: "needs --allow-ffi", by: "trike" };
  return null;
}
