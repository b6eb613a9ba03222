/**
 * The disks' doorbell as an event file descriptor: KVM rings it when the guest writes to a notification address, without an
 * exit, and the disks' thread itself sleeps on it. See docs/decisions/0014-chips-in-the-kernel.md.
 *
 * KVM adds 1 to the descriptor's count, our own threads 2^32, so the sleeper knows whether the guest rang. Ours ring by the words
 * of shared memory as ever, and use the descriptor only for a sleeper.
 */
import * as C from "../../../ffi/libc.ts";
import * as K from "../../../ffi/kvm.ts";
import type { Doorbells, HostBell } from "../engine.ts";
import { Host } from "./host.ts";
import { MAX_BELLS, WORD } from "./words.ts";

const BELL = WORD.BELL / 4, SLEEPS = WORD.BELL_SLEEPS / 4;
/** The count's low word is KVM's. */
const OUR_RING = new BigUint64Array([1n << 32n]);

export class KvmBell implements HostBell {
  readonly #host = new Host();
  readonly #words: Int32Array;
  readonly #count = new Uint32Array(2);
  readonly #poll = new Uint32Array(C.SIZEOF_POLLFD / 4);

  constructor(memory: WebAssembly.Memory) {
    this.#words = new Int32Array(memory.buffer);
  }

  /** For the thread that will sleep, before the first vCPU runs. */
  static create(memory: WebAssembly.Memory): KvmBell {
    const bell = new KvmBell(memory);
    const fd = bell.#host.libc.syscall_iii(C.SYS_eventfd2, 0, C.O_CLOEXEC, 0);
    if (fd < 0) throw bell.#host.refusal("eventfd2");
    Atomics.store(bell.#words, BELL, fd + 1);
    return bell;
  }

  wake(): void {
    if (Atomics.load(this.#words, SLEEPS) === 0 || Atomics.exchange(this.#words, SLEEPS, 0) === 0) return;
    // One write for each sleep: the count never comes near its limit, at which a write would block.
    const fd = this.#fd;
    if (fd >= 0) this.#host.libc.syscall_ibi(C.SYS_write, fd, OUR_RING, OUR_RING.byteLength);
  }

  wait(idle: () => boolean): boolean {
    Atomics.store(this.#words, SLEEPS, 1);
    const rung = idle() && this.#read();
    Atomics.store(this.#words, SLEEPS, 0);
    return rung;
  }

  take(): boolean {
    const poll = this.#poll;
    poll[C.POLLFD_FD / 4] = this.#fd;
    poll[C.POLLFD_EVENTS / 4] = C.POLLIN;
    return this.#host.libc.syscall_bii(C.SYS_poll, poll, 1, 0) > 0 && this.#read();
  }

  close(): void {
    const fd = Atomics.exchange(this.#words, BELL, 0) - 1;
    if (fd >= 0) this.#host.close(fd);
  }

  /** Blocks until somebody has rung; whether the guest did. A signal ends it too. */
  #read(): boolean {
    const count = this.#count;
    const got = this.#host.libc.syscall_ibi(C.SYS_read, this.#fd, count, count.byteLength);
    return got === count.byteLength && count[0] !== 0;
  }

  get #fd(): number {
    return Atomics.load(this.#words, BELL) - 1;
  }
}

/** Which addresses KVM rings at. Any vCPU's thread may find that they have moved; what KVM has stands in shared memory. */
export class BellAddresses {
  readonly #words: Int32Array;
  readonly #event = new DataView(new ArrayBuffer(K.kvm_ioeventfd.SIZEOF));
  readonly #bytes = new Uint8Array(this.#event.buffer);

  /** `anyLength`: KVM takes writes of any size for a ring; else those of 2 bytes, as drivers make. */
  constructor(
    private readonly host: Host,
    private readonly vm: number,
    memory: WebAssembly.Memory,
    private readonly doorbells: Doorbells,
    private readonly anyLength: boolean,
  ) {
    this.#words = new Int32Array(memory.buffer);
  }

  /** Whether the addresses may have changed since KVM was told. */
  get stale(): boolean {
    const words = this.#words;
    if (Atomics.load(words, BELL) === 0) return false;
    return Atomics.load(words, WORD.BELLS_MADE / 4) === 0 ||
      Atomics.load(words, WORD.BELLS_GENERATION / 4) !== (this.doorbells.generation | 0);
  }

  /** Tells KVM where to ring. An address that KVM refuses, as two devices have it, brings the guest out as before. */
  update(): void {
    const words = this.#words, lock = WORD.BELLS_LOCK / 4;
    while (Atomics.compareExchange(words, lock, 0, 1) !== 0) Atomics.wait(words, lock, 1, 1);
    try {
      const { generation } = this.doorbells;
      const wanted = new Set(this.doorbells.addresses().slice(0, MAX_BELLS));
      const table = words.subarray(WORD.BELLS / 4, WORD.BELLS / 4 + MAX_BELLS);
      for (const [i, word] of table.entries()) {
        const address = word >>> 0;
        if (address === 0 || wanted.delete(address)) continue;
        this.#tell(address, K.KVM_IOEVENTFD_FLAG_DEASSIGN);
        table[i] = 0;
      }
      for (const address of wanted) {
        const free = table.indexOf(0);
        if (free >= 0 && this.#tell(address, 0)) table[free] = address;
      }
      Atomics.store(words, WORD.BELLS_GENERATION / 4, generation | 0);
      Atomics.store(words, WORD.BELLS_MADE / 4, 1);
    } finally {
      Atomics.store(words, lock, 0);
      Atomics.notify(words, lock);
    }
  }

  #tell(address: number, flags: number): boolean {
    const E = K.kvm_ioeventfd, event = this.#event;
    event.setBigUint64(E.addr, BigInt(address), true);
    event.setUint32(E.len, this.anyLength ? 0 : 2, true);
    event.setInt32(E.fd, Atomics.load(this.#words, BELL) - 1, true);
    event.setUint32(E.flags, flags, true);
    return this.host.tryIoctlWith(this.vm, K.KVM_IOEVENTFD, this.#bytes) === 0;
  }
}
