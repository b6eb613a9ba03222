/** A machine in the words of xhyve and hyperkit, as options of `trike run`. Text in, options out; nothing here touches the host. */
import { ConfigError } from "../../base/errors.ts";
import { hint, list, mistake } from "../values.ts";
import { addDevices, readDevice } from "./devices.ts";
import { readLetters } from "./getopt.ts";
import { serialEnd, Translation } from "./machine.ts";
import { LETTERS } from "./options.ts";

export type XhyveCommand =
  | { readonly kind: "help" }
  | { readonly kind: "version" }
  | { readonly kind: "run" | "mac"; readonly machine: Translation };

/** Ports of the ISA bus; those of --serial behind them are on PCI. */
const COM_PORTS = 4;
const DEFAULT_MEMORY = "256M";
const MIB = 1024 ** 2;

export function translateXhyve(args: readonly string[]): XhyveCommand {
  const given = readLetters(args);
  if (given.some(({ letter }) => letter === "h")) return { kind: "help" };
  if (given.some(({ letter }) => letter === "v")) return { kind: "version" };
  const machine = new Translation();
  const devices = [];
  const serial = new Map<number, string>();
  let kind: "run" | "mac" = "run", memory = DEFAULT_MEMORY;
  for (const { letter, value } of given) {
    const { instead } = LETTERS[letter]!;
    if (instead !== undefined) machine.note(`-${letter}`, instead);
    switch (letter) {
      case "c":
        machine.given.delete("cpus");
        machine.add("cpus", "-c", value);
        break;
      case "f":
        firmware(machine, value);
        break;
      case "F":
        machine.add("pid-file", "-F", value);
        break;
      case "l":
        lpcDevice(machine, serial, value);
        break;
      case "m":
        memory = memorySize(value);
        break;
      case "M":
        kind = "mac";
        break;
      case "p":
        if (!/^\d+:\d+$/.test(value)) throw mistake("-p", value, "vcpu:hostcpu");
        break;
      case "s":
        devices.push(readDevice(value));
        break;
      case "U":
        machine.add("uuid", "-U", value);
        break;
    }
  }
  machine.add("memory", "-m", memory);
  addDevices(machine, devices);
  if (!machine.given.has("net")) machine.add("net", "-s", "none");
  for (let port = 0; port <= Math.max(0, ...serial.keys()); port++) {
    machine.add("serial", `-l com${port + 1}`, serial.get(port) ?? "none");
  }
  if (machine.pciSerial.length > 0) {
    for (let port = machine.given.get("serial")!.length; port < COM_PORTS; port++) {
      machine.add("serial", `-l com${port + 1}`, "none");
    }
    for (const { value, called } of machine.pciSerial) machine.add("serial", called, value);
  }
  // The machine ends when its guest restarts itself.
  machine.add("no-reboot", "xhyve");
  if (kind === "run" && !machine.given.has("kernel") && !machine.given.has("firmware")) {
    throw new ConfigError("Expected -f kexec,KERNEL,INITRD,CMDLINE or -f bootrom,FILE; 'trike xhyve -h' says more");
  }
  return { kind, machine };
}

function memorySize(value: string): string {
  if (!/^\d{1,15}[KMGT]?$/i.test(value)) throw mistake("-m", value, "a size such as 512, in MiB, or 1G");
  if (!/^\d+$/.test(value)) return value.toUpperCase();
  // As many MiB as this nobody has: they are bytes.
  return Number(value) < MIB ? `${value}M` : value;
}

const FIRMWARE = ["kexec", "multiboot", "bootrom", "fbsd"];

function firmware(machine: Translation, value: string): void {
  // What is behind the third comma is the kernel's, commas and all.
  const [, kind = "", first, second, rest = ""] = /^([^,]*)(?:,([^,]*)(?:,([^,]*)(?:,(.*))?)?)?$/s.exec(value) ?? [];
  if (machine.given.has("kernel") || machine.given.has("firmware")) throw mistake("-f", value, "one thing to start");
  switch (kind) {
    case "kexec":
    case "multiboot":
      if (!first) throw mistake("-f", value, `${kind},KERNEL,[INITRD],[CMDLINE]`);
      machine.add("kernel", `-f ${kind}`, first);
      if (second) machine.add("initrd", `-f ${kind}`, second);
      machine.add("append", `-f ${kind}`, rest);
      return;
    case "bootrom":
      if (!first) throw mistake("-f", value, "bootrom,FILE");
      machine.add("firmware", "-f bootrom", first);
      if (second) machine.add("firmware-vars", "-f bootrom", second);
      return;
    case "fbsd":
      throw mistake("-f", value, "kexec, which takes FreeBSD's kernel too, or bootrom: its loader cannot be run here");
    default:
      throw mistake("-f", value, list(FIRMWARE.slice(0, 3)) + hint(kind, FIRMWARE));
  }
}

function lpcDevice(machine: Translation, serial: Map<number, string>, value: string): void {
  const [name = "", where = "", ...words] = value.split(",");
  if (name === "bootrom") return firmware(machine, value);
  const port = /^com([1-9])$/.exec(name)?.[1];
  if (port === undefined || Number(port) > COM_PORTS) {
    throw mistake("-l", value, `com1 to com${COM_PORTS}, or bootrom, before the first comma`);
  }
  const called = `-l ${name}`;
  if (serial.has(Number(port) - 1)) throw mistake("-l", value, `${name} once, and found it twice`);
  for (const word of words) {
    if (!/^(log=.*|asl)$/s.test(word)) throw mistake("-l", value, "log=FILE or nothing behind the device");
    machine.note(`${called},${word.replace(/=.*/s, "=")}`, "what the port says goes to one place");
  }
  serial.set(Number(port) - 1, serialEnd("-l", value, where));
}
