/** The machine as it is put together from xhyve's words: options of `trike run`, where each came from, and what to say. */
import type { Origin } from "../origins.ts";
import { mistake } from "../values.ts";

export class Translation {
  readonly given = new Map<string, string[]>();
  readonly origins = new Map<string, Origin[]>();
  /** A sentence for each word that means nothing here. */
  readonly notes: string[] = [];
  /** Where serial ports on PCI lead, in their order. */
  readonly pciSerial: Origin[] = [];

  /** An option of `trike run`; `called` is what the user knows it as. */
  add(name: string, called: string, value?: string): void {
    const values = this.given.get(name) ?? [], origins = this.origins.get(name) ?? [];
    if (value !== undefined) values.push(value);
    origins.push({ value: value ?? "", called });
    this.given.set(name, values);
    this.origins.set(name, origins);
  }

  note(called: string, instead: string): void {
    const sentence = `${called}: ${instead}`;
    if (!this.notes.includes(sentence)) this.notes.push(sentence);
  }
}

/** A comma in a file's name, as options of `trike run` have it. */
export function commas(text: string): string {
  return text.replaceAll(",", ",,");
}

/** The host's end of a serial port, out of the option `flag` with the value `text`. */
export function serialEnd(flag: string, text: string, where: string): string {
  if (where === "stdio") return "stdio";
  if (where === "" || where === "null") return "none";
  if (where === "autopty" || where === "autopty=") return "pty";
  if (where.startsWith("autopty=")) return `pty:${where.slice("autopty=".length)}`;
  if (where.startsWith("/dev/")) return `tty:${where}`;
  throw mistake(flag, text, "stdio, autopty, autopty=LINK or a terminal such as /dev/ttys001 behind the port");
}
