/**
 * The memory controller hub at device 0 function 0: the host bridge's own configuration space.
 *
 * Spec: [g33 §5.1] device 0 configuration registers.
 * Emulated: identity; PCIEXBAR, which says where enhanced configuration space is; PAM, which says what is read and written in
 * the legacy BIOS area. On a board without firmware PCIEXBAR cannot be moved, and PAM holds what is written to it and does
 * nothing, because that area is always RAM there.
 * Absent: the memory controller's registers; SMRAM is locked and empty.
 */
import type { View } from "../../src/base/record.ts";
import { PciFunction, type PciFunctionRecord } from "./function.ts";

/** Offsets in configuration space. */
export const MCH = { PCIEXBAR: 0x60, PAM0: 0x90, SMRAM: 0x9d } as const;

const PCIEXBAREN = 1 << 0; // in PCIEXBAR
const LENGTH_256_BUSES = 0 << 1;
/** Base bits 31:26, length, enable; which of the base's bits count depends on the length. */
const PCIEXBAR_WRITABLE = 0xfc000007;
const MIB = 1 << 20;
/** What PCIEXBAR claims, by its length field; the fourth value is reserved. */
const LENGTHS = [256 * MIB, 128 * MIB, 64 * MIB, 0] as const;
/** In each half of a PAM register. */
const PAM = { READ: 1 << 0, WRITE: 1 << 1 } as const;

/** A stretch of the legacy BIOS area: whether RAM answers reads and takes writes there. */
export interface PamRange {
  readonly base: number;
  readonly sizeBytes: number;
  readonly readsRam: boolean;
  readonly writesRam: boolean;
}

export interface MchOptions {
  readonly ecamBase: number;
  /** Firmware decides where enhanced configuration space is: it starts disabled. */
  readonly movableEcam?: boolean;
}

export class MemoryController extends PciFunction {
  /** Called after PCIEXBAR or PAM was written. */
  onChange: () => void = () => {};

  constructor(s: View<typeof PciFunctionRecord>, options: MchOptions) {
    super(s, { vendor: 0x8086, device: 0x29c0, revision: 0x02, classCode: 0x060000 });
    const { ecamBase, movableEcam } = options;
    const low = ecamBase % 0x1_0000_0000 | LENGTH_256_BUSES | (movableEcam ? 0 : PCIEXBAREN);
    this.define(MCH.PCIEXBAR, 4, low >>> 0, movableEcam ? PCIEXBAR_WRITABLE : 0);
    this.define(MCH.PCIEXBAR + 4, 4, Math.floor(ecamBase / 0x1_0000_0000));
    this.define(MCH.PAM0, 1, 0, 0x30);
    for (let i = 1; i < 7; i++) this.define(MCH.PAM0 + i, 1, 0, 0x33);
    this.define(MCH.SMRAM, 1, 0x12);
  }

  /** Where enhanced configuration space is, or null. */
  get ecam(): { readonly base: number; readonly sizeBytes: number } | null {
    const low = this.readConfig(MCH.PCIEXBAR, 4);
    const sizeBytes = LENGTHS[(low >>> 1) & 3]!;
    if (!(low & PCIEXBAREN) || sizeBytes === 0) return null;
    return { base: (low & -sizeBytes) >>> 0, sizeBytes };
  }

  /** C0000h to FFFFFh. PAM0 has F0000h to FFFFFh, the others 16 KiB in each half. [g33 §5.1.17] */
  get pam(): PamRange[] {
    const range = (base: number, sizeBytes: number, bits: number): PamRange => ({
      base,
      sizeBytes,
      readsRam: (bits & PAM.READ) !== 0,
      writesRam: (bits & PAM.WRITE) !== 0,
    });
    const halves = Array.from({ length: 12 }, (_, i) => {
      const byte = this.readConfig(MCH.PAM0 + 1 + (i >> 1), 1);
      return range(0xc0000 + i * 0x4000, 0x4000, i & 1 ? byte >> 4 : byte);
    });
    return [...halves, range(0xf0000, 0x10000, this.readConfig(MCH.PAM0, 1) >> 4)];
  }

  protected override configWritten(at: number, size: number): void {
    if (at + size > MCH.PCIEXBAR && at < MCH.PAM0 + 7) this.onChange();
  }
}
