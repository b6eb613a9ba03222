/** QEMU as an independent machine to boot the guest on: the guest is right when it works there. */
import { which } from "./which.ts";

export const QEMU = which("qemu-system-x86_64");

export interface QemuOptions {
  readonly kernel: string;
  readonly initrd: string;
  readonly append: string;
  readonly disk?: string;
  readonly seconds: number;
}

/** A machine with firmware, which finds a system by itself: QEMU's words for both. */
export interface QemuFirmwareOptions {
  readonly machine: readonly string[];
  readonly seconds: number;
}

/** A running QEMU: its console to read and type on. Killed when its time is up, and at the end of a `using` block. */
export class Qemu implements AsyncDisposable {
  /** All the console said so far. */
  output = "";
  readonly #child: Deno.ChildProcess;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  readonly #reader: Promise<void>;
  readonly #timer: ReturnType<typeof setTimeout>;
  #arrived: () => void = () => {};
  #ended = false;

  constructor(options: QemuOptions | QemuFirmwareOptions) {
    this.#child = new Deno.Command(QEMU!, {
      args: [
        ...["-accel", "tcg", "-cpu", "max", "-m", "512", "-nodefaults", "-no-reboot", "-nographic"],
        ...["-serial", "mon:stdio", ...("machine" in options ? options.machine : kernelWords(options))],
      ],
      stdin: "piped",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    this.#input = this.#child.stdin.getWriter();
    this.#reader = this.#read();
    this.#timer = setTimeout(() => this.#child.kill("SIGKILL"), options.seconds * 1000);
  }

  /** Resolves with what the console said up to and with `text`, which it then forgets; rejects when QEMU ends first. */
  async expect(text: string): Promise<string> {
    while (true) {
      const at = this.output.indexOf(text);
      if (at >= 0) {
        const before = this.output.slice(0, at + text.length);
        this.output = this.output.slice(at + text.length);
        return before;
      }
      if (this.#ended) throw new Error(`QEMU ended before "${text}" came; the console said:\n${this.output}`);
      await new Promise<void>((resolve) => this.#arrived = resolve);
    }
  }

  async type(text: string): Promise<void> {
    await this.#input.write(new TextEncoder().encode(text));
  }

  /** QEMU's monitor shares the console: Ctrl-A c goes there and back. */
  async monitor(command: string): Promise<void> {
    await this.type("\x01c");
    await this.expect("(qemu) ");
    await this.type(`${command}\n`);
    await this.type("\x01c");
  }

  /** How QEMU itself ended: 0 when the guest powered off or rebooted. */
  async end(): Promise<number> {
    await this.#reader;
    return (await this.#child.status).code;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearTimeout(this.#timer);
    try {
      this.#child.kill("SIGKILL");
    } catch {
      // it has ended
    }
    await this.#reader;
    await this.#child.status;
    await this.#input.close().catch(() => {});
  }

  async #read(): Promise<void> {
    const utf8 = new TextDecoder();
    for await (const chunk of this.#child.stdout) {
      this.output += utf8.decode(chunk, { stream: true });
      this.#arrived();
    }
    this.#ended = true;
    this.#arrived();
  }
}

function kernelWords({ kernel, initrd, append, disk }: QemuOptions): string[] {
  const drive = disk ? ["-drive", `file=${disk},if=virtio,format=raw`] : [];
  return ["-kernel", kernel, "-initrd", initrd, "-append", append, ...drive];
}
