/**
 * MSI-X: a table of messages in a BAR, one a vector, each with a mask bit, and an array of pending bits.
 *
 * Spec: [pci §6.8.2] the capability, [pci §6.8.2.6] to [pci §6.8.2.9] the table entries, [pci §6.8.3.4] masking.
 * Table entries are read at any width and written as aligned doublewords, as the specification asks of software; other writes
 * are ignored. All under the machine lock.
 */
import { ones } from "../../src/base/bus.ts";
import { Bug } from "../../src/base/errors.ts";
import type { MsiSink } from "../../src/base/irq.ts";
import { record, type RecordType, type ViewOf } from "../../src/base/record.ts";

const ENTRY_BYTES = 16;
const MASK = 1 << 0; // in Vector Control
/** Message Control, as the high half of the capability's first doubleword. */
export const MESSAGE_CONTROL = { FUNCTION_MASK: 1 << 14, MSIX_ENABLE: 1 << 15 } as const;

function fields(vectors: number) {
  return {
    addressLo: { array: "u32", length: vectors },
    addressHi: { array: "u32", length: vectors },
    data: { array: "u32", length: vectors },
    control: { array: "u8", length: vectors, max: MASK, reset: MASK },
    pending: { array: "u8", length: vectors, max: 1 },
  } as const;
}
type MsixFields = ReturnType<typeof fields>;

/** The record of a table of `vectors` entries. */
export function msixRecord(vectors: number): RecordType<MsixFields> {
  return record("msix", 1, fields(vectors));
}

export interface MsixLayout {
  readonly vectors: number;
  readonly bar: number;
  readonly tableAt: number;
  readonly pbaAt: number;
}

export class Msix {
  /** What follows the capability header, and its writable bits: for PciFunction.addCapability. */
  readonly capabilityBody = new Uint8Array(10);
  readonly capabilityMask = new Uint8Array(10);

  /** `control` reads Message Control from the function's configuration space, where it lives. */
  constructor(
    private readonly s: ViewOf<MsixFields>,
    readonly layout: MsixLayout,
    private readonly sink: MsiSink,
    private readonly control: () => number,
  ) {
    if (layout.vectors < 1 || layout.vectors > 2048) throw new Bug(`MSI-X of ${layout.vectors} vectors`);
    const body = new DataView(this.capabilityBody.buffer);
    body.setUint16(0, layout.vectors - 1, true);
    body.setUint32(2, layout.tableAt | layout.bar, true);
    body.setUint32(6, layout.pbaAt | layout.bar, true);
    new DataView(this.capabilityMask.buffer).setUint16(
      0,
      MESSAGE_CONTROL.FUNCTION_MASK | MESSAGE_CONTROL.MSIX_ENABLE,
      true,
    );
  }

  /** Bytes the table and the pending bits take, each. */
  get tableBytes(): number {
    return this.layout.vectors * ENTRY_BYTES;
  }
  get pbaBytes(): number {
    return Math.ceil(this.layout.vectors / 64) * 8;
  }

  get enabled(): boolean {
    return (this.control() & MESSAGE_CONTROL.MSIX_ENABLE) !== 0;
  }

  /** Sends the vector's message, or leaves it pending while it is masked. */
  fire(vector: number): void {
    if (!this.enabled || vector >= this.layout.vectors) return;
    if (this.#masked(vector)) this.s.pending[vector] = 1;
    else this.#send(vector);
  }

  /** Sends what is pending and no longer masked: for whoever sees Message Control change. */
  deliver(): void {
    if (!this.enabled) return;
    for (let v = 0; v < this.layout.vectors; v++) {
      if (this.s.pending[v] && !this.#masked(v)) {
        this.s.pending[v] = 0;
        this.#send(v);
      }
    }
  }

  #masked(vector: number): boolean {
    return (this.control() & MESSAGE_CONTROL.FUNCTION_MASK) !== 0 || (this.s.control[vector]! & MASK) !== 0;
  }

  #send(vector: number): void {
    this.sink.send(this.s.addressLo[vector]!, this.s.addressHi[vector]!, this.s.data[vector]!);
  }

  /** Reads the BAR that holds the table and the pending bits; zero where neither is. */
  read(offset: number, size: number): number {
    const shift = offset & 3;
    const low = this.#dword(offset - shift);
    if (shift === 0) return (low & ones(size)) >>> 0;
    const high = shift + size > 4 ? this.#dword(offset - shift + 4) : 0;
    return (((low >>> (8 * shift)) | (high << (32 - 8 * shift))) & ones(size)) >>> 0;
  }

  #dword(offset: number): number {
    const inTable = offset - this.layout.tableAt;
    if (inTable >= 0 && inTable < this.tableBytes) {
      const v = inTable >>> 4;
      switch (inTable & 0xc) {
        case 0x0:
          return this.s.addressLo[v]!;
        case 0x4:
          return this.s.addressHi[v]!;
        case 0x8:
          return this.s.data[v]!;
        default:
          return this.s.control[v]!;
      }
    }
    const inPba = offset - this.layout.pbaAt;
    if (inPba < 0 || inPba >= this.pbaBytes) return 0;
    let bits = 0;
    for (let i = 0; i < 32; i++) if (this.s.pending[inPba * 8 + i]) bits |= 1 << i;
    return bits >>> 0;
  }

  write(offset: number, size: number, value: number): void {
    const inTable = offset - this.layout.tableAt;
    if (size !== 4 || offset & 3 || inTable < 0 || inTable >= this.tableBytes) return;
    const v = inTable >>> 4;
    switch (inTable & 0xc) {
      case 0x0:
        this.s.addressLo[v] = value & ~3;
        break;
      case 0x4:
        this.s.addressHi[v] = value;
        break;
      case 0x8:
        this.s.data[v] = value;
        break;
      default:
        this.s.control[v] = value & MASK;
        this.deliver();
    }
  }
}
