/** What a machine is made of: plain data, made by the command line, sent to every Worker, never changed. */

/** /dev/vda to /dev/vdp: as many as there are letters and PCI slots to spare for. */
export const MAX_DISKS = 16;

export type EngineName = "hvf" | "kvm" | "soft";

export interface DiskSpec {
  readonly path: string;
  readonly readonly: boolean;
  readonly format: "raw";
}

export type SerialSpec =
  | { readonly kind: "stdio" }
  | { readonly kind: "none" }
  | { readonly kind: "file"; readonly path: string }
  | { readonly kind: "unix"; readonly path: string }
  | { readonly kind: "pty" };

export interface MachineSpec {
  readonly engine: EngineName;
  readonly memoryBytes: number;
  readonly cpus: number;
  readonly kernel: string;
  readonly initrd: string | null;
  readonly append: string;
  readonly disks: readonly DiskSpec[];
  /** COM1 upwards; COM1 is the console. */
  readonly serial: readonly SerialSpec[];
  /** A guest reset ends the machine instead of restarting it. */
  readonly noReboot: boolean;
  /** Time advances by instructions retired, one guest nanosecond each; disk requests complete at once. */
  readonly icount: boolean;
  /** Categories to trace (exits, irq, pio, mmio, …) and the file they go to. */
  readonly trace: { readonly categories: readonly string[]; readonly path: string } | null;
}
