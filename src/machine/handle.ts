/** A machine that runs, as the command line sees it. */
import type { ByteRing } from "../base/ring.ts";
import type { Screen } from "../host/screen.ts";
import type { Media } from "./media.ts";
import type { Balloon } from "./services.ts";
import type { SnapshotFacts } from "./snapshot.ts";
import type { PublishSpec } from "./spec.ts";
import type { PublishRequest } from "./workers.ts";

export interface MachineHandle {
  /** COM1 upwards. `tx` carries bytes from the guest, `rx` to it; call `notifyInput` after putting bytes into `rx`. */
  readonly serial: { tx: ByteRing; rx: ByteRing; notifyInput(): void }[];
  /** What the user should know about the machine, a sentence each. */
  readonly notes: readonly string[];
  /** Called when the host fails a disk of the guest, which sees an I/O error: a few times for each disk at most. */
  onTrouble: (sentence: string) => void;
  /** The virtio console; what the guest writes there is thrown away until `attach` is called. */
  readonly console: {
    readonly tx: ByteRing;
    readonly rx: ByteRing;
    attach(): void;
    /** Call it after putting bytes into `rx`. */
    notifyInput(): void;
    /** The terminal at the other end has this size. */
    resize(columns: number, rows: number): void;
  };
  /** What firmware and test kernels write to port 402h. */
  readonly debug?: ByteRing;
  /** The display, if the machine has one. */
  readonly screen?: Screen | null;
  /** How much memory the guest does without, if the machine has a balloon. */
  readonly balloon?: Balloon | null;
  /** What is in its CD-ROM drives. */
  readonly media?: Pick<Media, "list" | "change">;
  /** The ACPI power button. */
  pressPowerButton(): void;
  /**
   * Writes the machine into a file, from which a machine of the same parts goes on; then this one goes on too, or stops. Rejects
   * with HostError if that fails.
   */
  snapshot?(path: string, options: SnapshotOptions): Promise<SnapshotFacts>;
  /** Ports of the host's that lead to the guest, after one more or less of them was asked for. Rejects with HostError. */
  publish?(request: PublishRequest): Promise<readonly PublishSpec[]>;
  /** Pulls the cable of the network card, or puts it back; resolves with whether the guest sees it in. Rejects with HostError. */
  link?(up?: boolean): Promise<boolean>;
  /** Where in its life it is. */
  readonly state?: string;
  /** Ends the machine as a pulled plug does. */
  stop(): void;
  readonly ended: Promise<MachineEnd>;
  stats(): Record<string, unknown>;
}

export type MachineEnd =
  | { kind: "poweroff" }
  | { kind: "reset" }
  | { kind: "stopped" }
  | { kind: "died"; message: string }
  | { kind: "debug-exit"; code: number }
  | { kind: "host-error"; error: Error };

export interface SnapshotOptions {
  /** Pack it with Zstandard: smaller, and slower to write and to read. */
  readonly compress: boolean;
  /** The machine is not to go on. */
  readonly stop: boolean;
}
