/** Runs trike in a process of its own, over the loop-back machine unless told otherwise. */
const ROOT = new URL("../../", import.meta.url).pathname;
export const LOOPBACK = `${ROOT}tests/cli/loopback_main.ts`;
export const TRIKE = `${ROOT}src/main.ts`;

export interface Start {
  /** Deno's permissions. */
  readonly allow?: readonly string[];
  readonly program?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Runs on this terminal instead of on pipes. */
  readonly terminal?: string;
}

export function start(args: readonly string[], { allow = ["--allow-read", "--allow-write"], ...how }: Start = {}) {
  const deno = ["run", "--quiet", "--no-prompt", "--no-check", ...allow, how.program ?? LOOPBACK, ...args];
  const piped = { stdin: "piped", stdout: "piped", stderr: "piped", env: { NO_COLOR: "1", ...how.env } } as const;
  if (how.terminal === undefined) return new Deno.Command(Deno.execPath(), { args: deno, ...piped }).spawn();
  const script = 'tty=$1; shift; exec "$@" <>"$tty" >&0';
  return new Deno.Command("sh", { args: ["-c", script, "sh", how.terminal, Deno.execPath(), ...deno], ...piped })
    .spawn();
}

export interface Result {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs to the end, with `input` on stdin. */
export async function trike(args: readonly string[], how: Start & { input?: string } = {}): Promise<Result> {
  const child = start(args, how);
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(how.input ?? "")).catch(() => {});
  await writer.close().catch(() => {});
  return decode(await child.output());
}

export function decode(output: { code: number; stdout: Uint8Array; stderr: Uint8Array }): Result {
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code: output.code, stdout: text(output.stdout), stderr: text(output.stderr) };
}

/** A directory with a kernel that is a file, and no more than that; removed at the end. */
export async function withFiles(body: (files: { dir: string; kernel: string }) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    const kernel = `${dir}/vmlinuz`;
    await Deno.writeTextFile(kernel, "kernel");
    await body({ dir, kernel });
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

/** Bytes that look like nothing in particular, the same at every run. */
export function noise(length: number, seed = 1): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  let x = seed;
  for (let i = 0; i < length; i++) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    bytes[i] = x;
  }
  return bytes;
}

/** Resolves when `test` does not throw, or rejects with what it last threw. */
export async function eventually<T>(test: () => T | Promise<T>, seconds = 10): Promise<T> {
  const end = performance.now() + seconds * 1000;
  for (;;) {
    try {
      return await test();
    } catch (error) {
      if (performance.now() > end) throw error;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}
