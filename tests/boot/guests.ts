/** Real guests for tests: which there are, trike as a process with one in it, and disks that go away again. */
import { debianGuest, type Guest, type GuestKind } from "../../src/guest/default_guest.ts";
import { whyNoGuest } from "../guest/available.ts";
import { Talk } from "./talk.ts";

export const ROOT = new URL("../../", import.meta.url).pathname;
const MAIN = `${ROOT}src/main.ts`;

/** What to skip tests of a guest with; says why, once. */
export async function guestOrSkip(kind: GuestKind): Promise<{ guest: Guest; ignore: boolean }> {
  const why = await whyNoGuest(kind);
  if (why !== null) {
    console.log(`skipped: boots of the ${kind} guest: ${why}`);
    return { guest: { kernel: "", initrd: "", append: "" }, ignore: true };
  }
  return { guest: await debianGuest(kind, () => {}), ignore: false };
}

/** Words of the command line that make the guest run a script, then power off. */
export function script(text: string): string {
  return `trike.marks trike.exec=${btoa(text)}`;
}

export interface Result {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** `trike` as a process, with pipes for a console. Killed at the end of a `using` block, if it still runs. */
export class Trike implements AsyncDisposable {
  readonly talk: Talk;
  readonly #child: Deno.ChildProcess;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  readonly #stderr: Promise<string>;
  #done = false;

  constructor(args: readonly string[], allow: readonly string[] = ["--allow-read", "--allow-write", "--allow-env"]) {
    this.#child = new Deno.Command(Deno.execPath(), {
      args: ["run", "--quiet", "--no-prompt", "--no-check", ...allow, MAIN, ...args],
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
      env: { NO_COLOR: "1" },
    }).spawn();
    this.#input = this.#child.stdin.getWriter();
    const reader = this.#child.stdout.getReader();
    let reading: Promise<Uint8Array | null> | null = null;
    this.talk = new Talk({
      read: async () => {
        reading ??= reader.read().then(({ value }) => value ?? null);
        const bytes = await within(200, reading);
        if (bytes === undefined) return new Uint8Array(0);
        reading = null;
        return bytes;
      },
      write: (bytes) => this.#input.write(bytes),
    });
    this.#stderr = new Response(this.#child.stderr).text();
  }

  kill(signal: Deno.Signal): void {
    this.#child.kill(signal);
  }

  get pid(): number {
    return this.#child.pid;
  }

  closeInput(): Promise<void> {
    return this.#input.close();
  }

  /** Its end, with what the console said that was not asked for. */
  async end(): Promise<Result> {
    const [stdout, stderr, { code }] = await Promise.all([this.talk.toEnd(), this.#stderr, this.#child.status]);
    this.#done = true;
    await this.#input.close().catch(() => {});
    return { code, stdout: stdout.replaceAll("\r", ""), stderr };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#done) return;
    this.#child.kill("SIGKILL");
    await this.end();
  }
}

/** What `promise` comes to, or undefined if that takes longer. */
async function within<T>(ms: number, promise: Promise<T>): Promise<T | undefined> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<undefined>((resolve) => timer = setTimeout(() => resolve(undefined), ms));
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Runs trike to its end. */
export async function trike(args: readonly string[], allow?: readonly string[]): Promise<Result> {
  await using run = new Trike(args, allow);
  return await run.end();
}

/** The words of `trike run` that boot `guest`, and stop it should it hang. */
export function runGuest(guest: Guest, append: string, ...more: readonly string[]): string[] {
  const { kernel, initrd } = guest;
  const own = ["--kernel", kernel, "--initrd", initrd, "--append", `${guest.append} ${append}`];
  return ["run", "--quiet", "--engine", "soft", "--timeout", "90", ...own, ...more];
}

/** A folder of the test's own, removed at the end. */
export async function withFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "trike-boot-" });
  try {
    await body(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Bytes in which every sector differs. */
export function pattern(sizeBytes: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(sizeBytes);
  let x = 1;
  for (let i = 0; i < sizeBytes; i++) bytes[i] = x = (Math.imul(x, 1103515245) + 12345) >>> 16 & 0x7fff;
  return bytes;
}

export async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}
