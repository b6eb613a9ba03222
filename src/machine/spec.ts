/** What a machine is made of: plain data, made by the command line, sent to every Worker, never changed. */

/** /dev/vda to /dev/vdp: as many as there are letters and PCI slots to spare for. */
export const MAX_DISKS = 16;

export type EngineName = "hvf" | "kvm" | "soft";

export interface DiskSpec {
  /** Empty for a CD-ROM drive without a disc. */
  readonly path: string;
  readonly readonly: boolean;
  readonly format: "raw" | "qcow2";
  /** Whether the user said so, or the file's name. */
  readonly formatAsked?: boolean;
  /** What is written goes to a temporary file and is lost with the machine. */
  readonly overlay?: boolean;
  /** With an overlay: an image of what was written to another one before, when that machine was saved. */
  readonly layer?: string;
  /** What it is attached to; virtio if not given. */
  readonly controller?: DiskController;
  /** What the guest reads as its serial number. */
  readonly serial?: string;
  /** Whether storage that the guest no longer needs goes back to the host; it does if not given. */
  readonly discard?: boolean;
}

export const DISK_CONTROLLERS = ["virtio", "ahci", "nvme", "cdrom"] as const;
export type DiskController = typeof DISK_CONTROLLERS[number];

export type SerialSpec =
  | { readonly kind: "stdio" }
  | { readonly kind: "none" }
  | { readonly kind: "file"; readonly path: string }
  | { readonly kind: "unix"; readonly path: string }
  /** `link` is a symbolic link to the new terminal, there while the machine is. */
  | { readonly kind: "pty"; readonly link?: string }
  /** A terminal of the host's that exists. */
  | { readonly kind: "tty"; readonly path: string };

/** A port of the host's that leads to one of the guest's. */
export interface PublishSpec {
  readonly protocol: "tcp" | "udp";
  /** Of the host. */
  readonly address: string;
  readonly port: number;
  readonly guestPort: number;
}

export const NET_MODELS = ["virtio", "e1000"] as const;
export type NetModel = typeof NET_MODELS[number];

/** Pairs of queues of a network device, at most. */
export const MAX_NET_PAIRS = 8;

/** What all network devices have. */
export interface NetDeviceSpec {
  /** Six bytes. */
  readonly mac: readonly number[];
  /** A file for every frame, or null. */
  readonly pcap: string | null;
  /** virtio if not given. */
  readonly model?: NetModel;
  /** Pairs of queues of a virtio device; one if not given. */
  readonly queues?: number;
  /** An option ROM by which firmware boots from this device. */
  readonly rom?: string;
}

/** What the network device is plugged into. */
export type NetSpec = NetDeviceSpec & NetBackendSpec;

export type NetBackendSpec =
  | {
    readonly kind: "user";
    /** Nothing goes out but answers to clients of published ports. */
    readonly restrict: boolean;
    readonly publish: readonly PublishSpec[];
    /** Who answers the guest's queries; null for the host's resolvers. */
    readonly dns: { readonly address: string; readonly port: number } | null;
    /** A folder whose files the gateway gives by TFTP. */
    readonly tftp?: string;
    /** What a guest that boots from the network is told to load, on a BIOS and on UEFI; of that folder. */
    readonly bootFile?: string;
    readonly bootFileUefi?: string;
  }
  /** Frames with their length before them on a Unix socket that somebody listens at. */
  | { readonly kind: "stream"; readonly path: string }
  /** A frame a datagram, to a Unix socket that somebody has bound. */
  | { readonly kind: "dgram"; readonly path: string }
  /** The other machines of this user that name the same switch. */
  | { readonly kind: "switch"; readonly name: string }
  /** A TAP interface of Linux that exists. */
  | { readonly kind: "tap"; readonly name: string }
  /** vmnet.framework of macOS; `interface` is the one to bridge to. */
  | { readonly kind: "vmnet"; readonly mode: "shared" | "host" | "bridged"; readonly interface: string | null };

/** What firmware looks for a system on: all disks, all CD-ROM drives, the network. */
export const BOOT_SOURCES = ["disk", "cdrom", "net"] as const;
export type BootSource = typeof BOOT_SOURCES[number];

/** Firmware that starts the machine: it finds the kernel by itself. */
export interface FirmwareSpec {
  readonly path: string;
  /** A file that holds what it remembers: UEFI variables. */
  readonly vars: string | null;
  /** What it tries, in this order, and nothing else; its own order, if not given. */
  readonly boot?: readonly BootSource[];
}

/** A VGA-compatible display; `bios` is its video BIOS, which firmware of the old kind needs. */
export interface VgaSpec {
  readonly bios: string | null;
}

/** As many shared folders as there are PCI slots for. */
export const MAX_SHARES = 4;

/** A folder of the host that the guest can mount by its tag. */
export interface ShareSpec {
  readonly path: string;
  readonly tag: string;
  readonly readonly: boolean;
  /** Whom the running user's files belong to in the guest; "host": every file has the host's numbers. Root if not given. */
  readonly owner?: "host" | { readonly uid: number; readonly gid: number };
}

/** Sockets between guest and host; `path` is that of a Unix socket, and begins those of others. */
export interface VsockSpec {
  readonly cid: number;
  readonly path: string;
}

/** Memory that the guest is to give back, to begin with. */
export interface BalloonSpec {
  readonly sizeBytes: number;
}

/** The processor that a software CPU is: a name for messages, and its features under the manual's names. */
export interface CpuSpec {
  readonly name: string;
  readonly features: readonly string[];
}

/** A file in memory; `type` is the kernel's word for what it is. */
export interface ModuleSpec {
  readonly path: string;
  readonly type: string;
}

export interface MachineSpec {
  readonly engine: EngineName;
  /** Who is the interrupt controllers, with the engine kvm; what the host offers, if it is not given. */
  readonly irqchip?: "user" | "split" | "kernel";
  /** With the engine soft: 1 if hot code is not to be compiled. */
  readonly tiers?: 1;
  /** With the engine soft: hot code becomes machine code of the host, which no sandbox holds. */
  readonly native?: true;
  /** With the engine hvf: a library with the framework's functions, in its place. */
  readonly hypervisor?: string;
  readonly memoryBytes: number;
  readonly cpus: number;
  /** Of the engine's own choice if it is not given. */
  readonly cpu?: CpuSpec;
  /** Not looked at if there is firmware. */
  readonly kernel: string;
  readonly initrd: string | null;
  readonly append: string;
  /** For a kernel that is told of files in memory, FreeBSD's. */
  readonly modules?: readonly ModuleSpec[];
  /** Variables for such a kernel, NAME=VALUE. */
  readonly env?: readonly string[];
  readonly disks: readonly DiskSpec[];
  readonly firmware?: FirmwareSpec;
  readonly vga?: VgaSpec;
  /** What SMBIOS says the machine is called: 32 hexadecimal digits in five groups. */
  readonly uuid?: string;
  /** COM1 upwards; COM1 is the console. */
  readonly serial: readonly SerialSpec[];
  /** No network device if it is not given. */
  readonly net?: NetSpec;
  readonly shares?: readonly ShareSpec[];
  readonly vsock?: VsockSpec;
  readonly balloon?: BalloonSpec;
  /** A guest reset ends the machine instead of restarting it. */
  readonly noReboot: boolean;
  /** Time advances by instructions retired, one guest nanosecond each; disk requests complete at once. */
  readonly icount: boolean;
  /** Categories to trace (exits, irq, pio, mmio, …) and the file they go to. */
  readonly trace: { readonly categories: readonly string[]; readonly path: string } | null;
}
