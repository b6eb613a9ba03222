/** What `trike run` understands: the parser and the help page both read this table, in this order. */
import { formatSize } from "../base/size.ts";
import { MAX_RAM_BYTES, MAX_VCPUS } from "../machine/memory.ts";
import { BOOT_SOURCES, DISK_CONTROLLERS, MAX_DISKS, MAX_SHARES } from "../machine/spec.ts";
import { TRACE_CATEGORIES as CATEGORIES } from "../machine/trace.ts";

export interface Option {
  /** What stands for the value in the help; absent for a switch. */
  readonly value?: string;
  /** May be given several times. */
  readonly repeat?: true;
  /** One letter that means the same. */
  readonly short?: string;
  readonly help: readonly string[];
  /** What it is where it is not given. */
  readonly default?: string;
  /** What JSON Schema can say of a value, beyond its type. */
  readonly schema?: Readonly<Record<string, unknown>>;
  /** Finds paths in a value; where that is FILE, it is one. In a file with options they are beside that file. */
  readonly paths?: RegExp;
  /** How such a file may write a value of several parts. */
  readonly object?: ObjectForm;
}

/** A value as an object: the text of `first`, then `,KEY` for a switch that is true, `,KEY=VALUE` for all others. */
export interface ObjectForm {
  readonly first: string;
  readonly keys: Readonly<Record<string, "switch" | "text" | readonly string[]>>;
}

export const DEFAULT_MEMORY = "512M";
export const MIN_RAM_BYTES = 16 * 1024 * 1024;
export const MAX_CPUS = MAX_VCPUS;
/** Four COM ports, and as many on PCI. */
export const MAX_SERIAL_PORTS = 8;
export const ENGINES = ["auto", "hvf", "kvm", "soft"] as const;
export const TRACE_CATEGORIES = [...CATEGORIES, "all"] as const;
export const DEFAULT_TRACE_PATH = "trike.trace";
/** The command line of a kernel the user names without --append. */
export const DEFAULT_APPEND = "console=ttyS0";

/** A path in which a comma is written twice, up to a single one. */
const FIRST_PART = /^(?:[^,]|,,)+/;

export const RUN_OPTIONS: Readonly<Record<string, Readonly<Record<string, Option>>>> = {
  "What to boot": {
    kernel: {
      value: "FILE",
      help: [
        "A Linux bzImage or vmlinux, FreeBSD's kernel, or one with a PVH or Multiboot",
        "entry. Without it trike fetches, once, and boots its default guest.",
      ],
    },
    initrd: { value: "FILE", help: ["The initial RAM file system handed to the kernel."] },
    append: {
      value: "TEXT",
      help: [`The kernel's command line [${DEFAULT_APPEND}]; with the default guest,`, "what to add to its own."],
    },
  },
  "What FreeBSD's kernel is told besides": {
    module: {
      value: "FILE[,type=TYPE]",
      repeat: true,
      paths: FIRST_PART,
      object: { first: "file", keys: { type: "text" } },
      help: ["A file in its memory, of a type that it knows [md_image: a disk in memory]."],
    },
    env: { value: "NAME=VALUE", repeat: true, help: ["A variable of its environment."] },
  },
  "Firmware, in place of a kernel": {
    firmware: {
      value: "FILE",
      help: ["Start with this ROM image: SeaBIOS, OVMF_CODE. It finds a system by itself."],
    },
    "firmware-vars": {
      value: "FILE",
      help: ["A copy of OVMF_VARS that it may write: flash for UEFI variables."],
    },
    boot: {
      value: "SOURCE[,SOURCE]...",
      schema: { pattern: `^(${BOOT_SOURCES.join("|")})(,(${BOOT_SOURCES.join("|")}))*$` },
      help: [`What it tries, in this order: ${BOOT_SOURCES.join(", ")} [in its own order].`],
    },
    debugcon: { value: "FILE", help: ["Write what firmware and test kernels say at port 402h into a file."] },
  },
  "The display": {
    vga: { help: ["A VGA-compatible display. Without one firmware speaks through COM1."] },
    "vga-bios": {
      value: "FILE",
      help: ["Its video BIOS [vgabios-stdvga.bin beside the firmware, if it is there]."],
    },
    vnc: {
      value: "[ADDR:]PORT[,password=FILE]",
      paths: /(?<=,password=)(?:[^,]|,,)+/,
      object: { first: "address", keys: { password: "text" } },
      help: [
        "Let VNC clients see and use the display, which implies --vga; at 127.0.0.1,",
        "if no address is given. The password, up to 8 bytes, is the file's first line.",
      ],
    },
    screenshot: { value: "FILE", help: ["Write what the display shows as a PNG when the machine has ended."] },
  },
  "The machine": {
    memory: {
      value: "SIZE",
      default: DEFAULT_MEMORY,
      schema: { pattern: "^\\d+(\\.\\d+)?([KMGTkmgt]([iI][bB])?)?$", minimum: MIN_RAM_BYTES, maximum: MAX_RAM_BYTES },
      help: [
        `Guest RAM, from ${formatSize(MIN_RAM_BYTES)} to ${
          formatSize(MAX_RAM_BYTES)
        }: 512M, 1.5G, 2GiB [${DEFAULT_MEMORY}].`,
      ],
    },
    cpus: {
      value: "N",
      default: "1",
      schema: { pattern: "^\\d{1,9}$", minimum: 1, maximum: MAX_CPUS },
      help: [`Virtual CPUs, from 1 to ${MAX_CPUS} [1].`],
    },
    cpu: {
      value: "NAME[,+FEATURE|,-FEATURE]...",
      help: [
        "The processor the software CPU is [default]: default, max, x86-64-v1, -v2 or",
        "-v3, or one of a kind, such as nehalem, haswell or zen. Features are switched",
        "on and off by name: x86-64-v3,-fma or default,+avx2.",
      ],
    },
    uuid: {
      value: "UUID",
      schema: { pattern: "^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$" },
      help: ["This machine's own, as SMBIOS tells it; its MAC address comes of it."],
    },
    disk: {
      value: "FILE[,KEY]...",
      repeat: true,
      paths: FIRST_PART,
      object: {
        first: "file",
        keys: {
          readonly: "switch",
          overlay: "switch",
          format: ["raw", "qcow2"],
          controller: DISK_CONTROLLERS,
          serial: "text",
          discard: ["on", "off"],
        },
      },
      help: [
        `A disk: a raw image, or qcow2 if its name ends so. Up to ${MAX_DISKS}. Write a comma`,
        "in a name twice.",
        "readonly   the guest may not write",
        "overlay    what it writes is thrown away at the end",
        "format=raw|qcow2",
        "           whatever the name says",
        "controller=virtio|ahci|nvme|cdrom",
        "           /dev/vda, sda, nvme0n1, sr0 and onwards in the order given [virtio]",
        "           ',controller=cdrom' without a FILE is an empty drive",
        "serial=TEXT",
        "discard=on|off",
        "           give back to the host what the guest no longer needs [on]",
      ],
    },
    engine: {
      value: "NAME",
      default: ENGINES[0],
      schema: { pattern: `^(${ENGINES.join("|")})(:.+)?$` },
      help: [
        "auto, hvf, kvm or soft [auto]; 'trike engines' tells what this host has.",
        "kvm:irqchip=kernel, split or user says who the interrupt controllers are",
        "[the kernel, as far as it can be]; soft:tiers=1 only interprets, and",
        "soft:native makes machine code of the host, where that is x86-64 Linux.",
      ],
    },
  },
  "The network": {
    net: {
      value: "WHERE",
      paths: /(?<=^(?:stream|dgram):|,(?:pcap|tftp|rom)=)(?:[^,]|,,)+/g,
      help: [
        "What the network device is plugged into [user, with --allow-net; else none].",
        "user[,restrict][,dns=ADDRESS[:PORT]]",
        "           a network of its own, 10.0.2.0/24 and fd74:7269:6b65::/64, with a",
        "           way out through this process: DHCP, DNS, TCP and UDP; this host is",
        "           10.0.2.2 and fd74:7269:6b65::2",
        "user,tftp=FOLDER[,bootfile=NAME][,bootfile-uefi=NAME]",
        "           10.0.2.2 also gives these files by TFTP, and tells firmware that",
        "           boots from the network which one to load",
        "switch:NAME",
        "           the machines of this user on this host that name the same switch",
        "stream:PATH, dgram:PATH",
        "           a Unix socket where a switch or another NAT listens",
        "tap:NAME   a TAP interface (Linux)",
        "vmnet[:shared|host|bridged=INTERFACE]",
        "           vmnet.framework (macOS)",
        "none       nothing, and there is no device",
        "Each may be followed by ,model=virtio|e1000 ,queues=N ,pcap=FILE ,mac=MAC",
        "and ,rom=FILE, the option ROM that firmware boots by [the package ipxe-qemu's]",
      ],
    },
    publish: {
      value: "[ADDR:]PORT:GUESTPORT[/udp]",
      repeat: true,
      help: ["Let clients of a port of this host in; of 127.0.0.1, if no address is given."],
    },
  },
  "Guest and host": {
    share: {
      value: "DIR[:TAG][,KEY]...",
      repeat: true,
      paths: /^(?:[^,:]|,,|:(?=[^,]*\/))+/,
      object: { first: "folder", keys: { readonly: "switch", owner: "text" } },
      help: [
        `A folder for the guest, up to ${MAX_SHARES}: mount -t 9p TAG /mnt [share0, share1 ...].`,
        "readonly   the guest may not write",
        "owner=UID[:GID]",
        "           what is yours is this user's in the guest [0:0]",
        "owner=host every file has the numbers it has here",
      ],
    },
    vsock: {
      value: "CID,PATH",
      paths: /(?<=^\d+,).+/s,
      help: [
        "Sockets between guest and host, whose guest has this context ID. At the Unix",
        "socket PATH, CONNECT PORT and a new line reach a port of the guest; the guest",
        "reaches who listens at PATH_PORT at CID 2.",
      ],
    },
    balloon: {
      value: "MIB",
      schema: { pattern: "^\\d+(\\.\\d+)?([KMGTkmgt]([iI][bB])?)?$" },
      help: [
        "A memory balloon that takes so many MiB of the guest's RAM; 0 is allowed. What",
        "the guest does not use goes back to the host, with --allow-ffi on Linux.",
      ],
    },
  },
  "Serial ports": {
    serial: {
      value: "WHERE",
      repeat: true,
      default: "stdio",
      paths: /(?<=^(?:file|unix|tty|pty):).+/s,
      help: [
        "Where COM1 leads; given again, COM2 to COM4, then four ports on PCI [stdio].",
        "stdio      this terminal, or the pipes given instead (once)",
        "none       nowhere",
        "file:PATH  output into a file, which is emptied first",
        "unix:PATH  a listening socket, one client at a time",
        "pty[:LINK] a new pseudo-terminal, whose name is printed; LINK will lead to it",
        "tty:PATH   a terminal that exists, such as a real serial port",
      ],
    },
  },
  "How it ends": {
    "no-reboot": { help: ["A guest that resets itself ends trike, with status 0."] },
    timeout: {
      value: "SECONDS",
      schema: { exclusiveMinimum: 0 },
      help: ["Stop the machine after so long, with status 124."],
    },
  },
  "Snapshots": {
    "snapshot-on-exit": {
      value: "FILE",
      help: [
        "Save the machine when it is stopped from outside: by Ctrl-A x, a signal, or",
        "--timeout; 'trike resume FILE' goes on from there.",
      ],
    },
    "snapshot-compress": { help: ["Pack what is saved: smaller, and slower to save and to resume."] },
  },
  "Looking inside": {
    stats: { value: "FILE", help: ["Write counters and times as JSON when the machine has ended."] },
    trace: {
      value: "LIST[:FILE]",
      paths: /(?<=:).+/s,
      help: [
        `Log categories out of ${TRACE_CATEGORIES.join(",")}`,
        `to a file [${DEFAULT_TRACE_PATH}].`,
      ],
    },
    icount: { help: ["Guest time advances by instructions, not by the clock: runs repeat exactly."] },
    name: {
      value: "NAME",
      schema: { pattern: "^[A-Za-z0-9][\\w.-]{0,39}$" },
      help: ["What 'trike list', 'trike stop NAME' and the like find this machine by."],
    },
    "pid-file": { value: "FILE", help: ["Write the number of trike's process, and remove the file at the end."] },
    quiet: { short: "q", help: ["Do not tell which engine was chosen, or how a download goes."] },
  },
  "Other": {
    config: {
      value: "FILE",
      help: [
        'Options from a file, JSON with comments: { "memory": "1G", "cpus": 2 }.',
        "What is given beside it counts, not what the file says of that option.",
      ],
    },
    help: { short: "h", help: ["Print this page."] },
    version: { short: "V", help: ["Print the version."] },
  },
};

/** What only `trike config` understands. */
export const CONFIG_OPTIONS: Readonly<Record<string, Option>> = {
  schema: { help: ["Print the JSON Schema of such files."] },
};

/** What only `trike resume` understands. */
export const RESUME_OPTIONS: Readonly<Record<string, Option>> = {
  force: { help: ["Resume though a disk or shared folder has changed, or on another engine."] },
};
/** What `trike resume` shares with `trike run`: the rest is as it was saved. */
export const RESUME_SHARED = [
  "disk",
  "engine",
  "net",
  "publish",
  "serial",
  "name",
  "pid-file",
  "no-reboot",
  "timeout",
  "snapshot-on-exit",
  "snapshot-compress",
  "stats",
  "trace",
  "debugcon",
  "vnc",
  "quiet",
  "help",
  "version",
] as const;

/** All options by name. */
export const OPTION_BY_NAME: Readonly<Record<string, Option>> = Object.assign(
  {},
  ...Object.values(RUN_OPTIONS),
  RESUME_OPTIONS,
  CONFIG_OPTIONS,
);
