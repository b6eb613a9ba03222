/** KVM's log of written pages as the engine's. */
import * as K from "../../../ffi/kvm.ts";
import type { DirtyLog } from "../engine.ts";
import { Host } from "./host.ts";
import { MemorySlots, type SlotParts } from "./memory_slots.ts";
import { WORD } from "./words.ts";

export class KvmDirtyLog implements DirtyLog {
  readonly #host = new Host();
  readonly #words: Int32Array;

  constructor(private readonly parts: SlotParts) {
    this.#words = new Int32Array(parts.memory.buffer);
  }

  start(): void {
    Atomics.store(this.#words, WORD.STEPPED / 4, 0);
    this.#slots?.log(true);
  }

  take(pages: Uint8Array): void {
    const vm = this.#vm;
    this.#slots?.each((id, slot) => {
      // A bit a page, in words of 64.
      const bitmap = new Uint8Array(8 * Math.ceil(slot.pages / 64)), log = new DataView(new ArrayBuffer(16));
      log.setUint32(K.kvm_dirty_log.slot, id, true);
      // SAFETY: KVM fills the bitmap during the call; it is read after that.
      const address = Deno.UnsafePointer.value(Deno.UnsafePointer.of(bitmap));
      log.setBigUint64(K.kvm_dirty_log.dirty_bitmap, BigInt(address), true);
      this.#host.ioctlWith("KVM_GET_DIRTY_LOG", vm, K.KVM_GET_DIRTY_LOG, new Uint8Array(log.buffer));
      for (let i = 0; i < slot.pages; i++) {
        const page = slot.backing + i;
        if ((bitmap[i >> 3]! >> (i & 7)) & 1 && page >> 3 < pages.length) pages[page >> 3]! |= 1 << (page & 7);
      }
    });
    // KVM has not seen what the software CPU did in its place.
    if (Atomics.exchange(this.#words, WORD.STEPPED / 4, 0) !== 0) pages.fill(0xff);
  }

  stop(): void {
    this.#slots?.log(false);
  }

  get #vm(): number {
    return Atomics.load(this.#words, WORD.VM / 4) - 1;
  }

  /** Null before there is a VM. */
  get #slots(): MemorySlots | null {
    return this.#vm < 0 ? null : new MemorySlots(this.#host, this.#vm, this.parts);
  }
}
