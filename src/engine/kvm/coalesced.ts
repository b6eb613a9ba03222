/**
 * Writes that KVM keeps in a ring until something else makes a vCPU leave the guest: for ports that nobody waits for.
 *
 * The ring is the machine's, and each vCPU empties it before it serves its own exit, so that writes keep their order. What is
 * left there when a vCPU stays in the guest is seen at the next tick of its alarm.
 */
import * as K from "../../../ffi/kvm.ts";
import type { Board, PortRange } from "../engine.ts";
import type { Host } from "./host.ts";
import { WORD } from "./words.ts";

const PAGE_BYTES = 4096;
const R = K.kvm_coalesced_mmio_ring, E = K.kvm_coalesced_mmio;
const ENTRIES = Math.floor((PAGE_BYTES - R.SIZEOF) / E.SIZEOF);

/** Asks KVM to keep the writes to these ports, once a VM. */
export function coalesce(host: Host, vm: number, ports: readonly PortRange[]): void {
  for (const { port, size } of ports) {
    const zone = new DataView(new ArrayBuffer(K.kvm_coalesced_mmio_zone.SIZEOF));
    zone.setBigUint64(K.kvm_coalesced_mmio_zone.addr, BigInt(port), true);
    zone.setUint32(K.kvm_coalesced_mmio_zone.size, size, true);
    zone.setUint32(K.kvm_coalesced_mmio_zone.pio, 1, true);
    const bytes = new Uint8Array(zone.buffer);
    host.ioctlWith("KVM_REGISTER_COALESCED_MMIO", vm, K.KVM_REGISTER_COALESCED_MMIO, bytes);
  }
}

export class CoalescedRing {
  readonly #words: Int32Array;
  readonly #ring: DataView;
  /** Writes taken from the ring. */
  taken = 0;

  /** `mapped`: a vCPU's mapping. */
  constructor(mapped: ArrayBuffer, memory: WebAssembly.Memory, private readonly board: Board) {
    this.#words = new Int32Array(memory.buffer);
    this.#ring = new DataView(mapped, K.KVM_COALESCED_MMIO_PAGE_OFFSET * PAGE_BYTES, PAGE_BYTES);
  }

  /** Hands what is in the ring to the board. */
  empty(): void {
    const ring = this.#ring, lock = WORD.RING_LOCK / 4;
    if (ring.getUint32(R.first, true) === ring.getUint32(R.last, true)) return;
    while (Atomics.compareExchange(this.#words, lock, 0, 1) !== 0) Atomics.wait(this.#words, lock, 1, 1);
    try {
      for (let n = 0; n < ENTRIES; n++) {
        const first = ring.getUint32(R.first, true) % ENTRIES;
        if (first === ring.getUint32(R.last, true)) break;
        this.#take(R.coalesced_mmio + first * E.SIZEOF);
        ring.setUint32(R.first, (first + 1) % ENTRIES, true);
      }
    } finally {
      Atomics.store(this.#words, lock, 0);
      Atomics.notify(this.#words, lock);
    }
  }

  #take(at: number): void {
    const ring = this.#ring, size = ring.getUint32(at + E.len, true);
    this.taken++;
    if (size !== 1 && size !== 2 && size !== 4) return;
    const data = at + E.data;
    const value = size === 4
      ? ring.getUint32(data, true)
      : size === 2
      ? ring.getUint16(data, true)
      : ring.getUint8(data);
    this.board.ioWrite(ring.getUint32(at + E.phys_addr, true) & 0xffff, size, value);
  }
}
