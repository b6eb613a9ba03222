/**
 * The options of xhyve and hyperkit, as their manual pages list them, and what becomes of each here. The parser and the page
 * that -h prints read this table.
 */

export interface Letter {
  /** What stands for the value; absent for a switch. */
  readonly value?: string;
  readonly help: string;
  /** Said when it is given: what the machine does in its place. */
  readonly instead?: string;
}

export const LETTERS: Readonly<Record<string, Letter>> = {
  A: { help: "ACPI tables: there always are" },
  b: { help: "the console bvmconsole: none", instead: "there is no bvmconsole; com1 is a console for every guest" },
  c: { value: "vcpus", help: "virtual CPUs [1]" },
  C: { help: "guest memory in core files: no", instead: "trike writes no core file" },
  e: {
    help: "leave when nobody answers a port: no",
    instead: "a port that nobody answers reads as all ones; --trace pio of 'trike run' tells of it",
  },
  f: { value: "kexec,KERNEL,[INITRD],[CMDLINE]", help: "or bootrom,FILE: what to start" },
  F: { value: "FILE", help: "write the number of the process there" },
  g: { value: "port", help: "the debugger bvmdebug: none", instead: "there is no bvmdebug" },
  h: { help: "print this page" },
  H: { help: "give the host's CPU away in HLT: always" },
  l: { value: "com1,stdio|autopty[=LINK]|TTY", help: "a serial port, com1 or com2; or bootrom,FILE" },
  m: { value: "SIZE", help: "memory, in MiB or with K, M, G or T [256M]" },
  M: { help: "print the MAC address, and leave" },
  p: { value: "vcpu:hostcpu", help: "pin a CPU: no", instead: "the host's scheduler places the CPUs" },
  P: { help: "leave the guest at PAUSE: no", instead: "PAUSE is the engine's to handle" },
  s: { value: "[bus:]slot[:function],DEVICE[,CONFIG]", help: "a device; those after -h's options" },
  u: { help: "a clock in UTC: it always is" },
  U: { value: "UUID", help: "what SMBIOS says; the MAC address comes of it" },
  v: { help: "print the version" },
  w: { help: "ignore unknown MSRs: no", instead: "a model-specific register that is not there faults, as it should" },
  W: {
    help: "MSI in place of MSI-X: no",
    instead: "virtio devices offer MSI-X and wires; the guest takes what it knows",
  },
  x: { help: "x2APIC from the start: no", instead: "the guest turns x2APIC on by itself" },
  Y: { help: "no MP tables: there always are", instead: "MP tables stay; who has ACPI does not look at them" },
};

export function xhyvePage(): string {
  const lines = Object.entries(LETTERS).map(([letter, { value, help }]) => {
    const left = `  -${letter}${value === undefined ? "" : ` ${value}`}`;
    return left.length < 18 ? `${left.padEnd(18)}${help}\n` : `${left}\n${" ".repeat(18)}${help}\n`;
  });
  return `Usage: trike xhyve [OPTION]...   start a virtual machine that is described in xhyve's words

${lines.join("")}
Devices of -s:
  hostbridge, lpc, virtio-rnd     are there always
  virtio-blk,FILE[,ro]            a disk; ahci-hd,FILE and ahci-cd,FILE on AHCI
  virtio-net[,tapN|vmnetN][,mac=MAC]
                                  a network; e1000 is another card
  virtio-9p,TAG=DIR[,ro]          a folder: mount -t 9p TAG /mnt
  fbuf[,tcp=ADDRESS:PORT]         a display, and a VNC server for it

'trike config xhyve [OPTION]...' prints the same machine as a file for 'trike run --config'.
`;
}

/** One option as it was typed. */
export interface Given {
  readonly letter: string;
  readonly value: string;
}
