/** What a machine is made of: plain data, made by the command line, sent to every Worker, never changed. */

/** /dev/vda to /dev/vdp: as many as there are letters and PCI slots to spare for. */
export const MAX_DISKS = 16;

export type EngineName = "hvf" | "kvm" | "soft";

export interface DiskSpec {
  readonly path: string;
  readonly readonly: boolean;
  readonly format: "raw" | "qcow2";
  /** Whether the user said so, or the file's name. */
  readonly formatAsked?: boolean;
  /** What is written goes to a temporary file and is lost with the machine. */
  readonly overlay?: boolean;
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
  | { readonly kind: "pty" };

/** A port of the host's that leads to one of the guest's. */
export interface PublishSpec {
  readonly protocol: "tcp" | "udp";
  /** Of the host. */
  readonly address: string;
  readonly port: number;
  readonly guestPort: number;
}

/** What the network device is plugged into. `mac` is six bytes; `pcap` a file for every frame, or null. */
export type NetSpec =
  | {
    readonly kind: "user";
    readonly mac: readonly number[];
    readonly pcap: string | null;
    /** Nothing goes out but answers to clients of published ports. */
    readonly restrict: boolean;
    readonly publish: readonly PublishSpec[];
    /** Who answers the guest's queries; null for the host's resolvers. */
    readonly dns: { readonly address: string; readonly port: number } | null;
  }
  /** Frames with their length before them on a Unix socket that somebody listens at. */
  | { readonly kind: "stream"; readonly mac: readonly number[]; readonly pcap: string | null; readonly path: string };

/** Firmware that starts the machine: it finds the kernel by itself. */
export interface FirmwareSpec {
  readonly path: string;
  /** A file that holds what it remembers: UEFI variables. */
  readonly vars: string | null;
}

/** A VGA-compatible display; `bios` is its video BIOS, which firmware of the old kind needs. */
export interface VgaSpec {
  readonly bios: string | null;
}

/** The processor that a software CPU is: a name for messages, and its features under the manual's names. */
export interface CpuSpec {
  readonly name: string;
  readonly features: readonly string[];
}

export interface MachineSpec {
  readonly engine: EngineName;
  /** Who is the interrupt controllers, with the engine kvm; what the host offers, if it is not given. */
  readonly irqchip?: "user" | "split" | "kernel";
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
  readonly disks: readonly DiskSpec[];
  readonly firmware?: FirmwareSpec;
  readonly vga?: VgaSpec;
  /** COM1 upwards; COM1 is the console. */
  readonly serial: readonly SerialSpec[];
  /** No network device if it is not given. */
  readonly net?: NetSpec;
  /** A guest reset ends the machine instead of restarting it. */
  readonly noReboot: boolean;
  /** Time advances by instructions retired, one guest nanosecond each; disk requests complete at once. */
  readonly icount: boolean;
  /** Categories to trace (exits, irq, pio, mmio, …) and the file they go to. */
  readonly trace: { readonly categories: readonly string[]; readonly path: string } | null;
}
