/**
 * Which threads are in KVM_RUN, in shared memory, so that any thread can bring a vCPU's out of it at once.
 *
 * A thread enters before it looks at its events, and whoever raises an event looks here after that: so either the one sees the
 * event or the other sees the thread. A signal that comes too late ends the next KVM_RUN, once.
 */
import { SIGUSR1, SYS_gettid, SYS_tgkill } from "../../../ffi/libc.ts";
import type { Host } from "./host.ts";
import { vcpuWord, WORD } from "./words.ts";

export class Threads {
  readonly #words: Int32Array;
  readonly #own: number;

  constructor(private readonly host: Host, memory: WebAssembly.Memory) {
    this.#words = new Int32Array(memory.buffer);
    this.#own = host.libc.syscall_i(SYS_gettid, 0);
  }

  enter(vcpu: number): void {
    Atomics.store(this.#words, vcpuWord(WORD.THREAD, vcpu), this.#own);
  }

  leave(vcpu: number): void {
    Atomics.store(this.#words, vcpuWord(WORD.THREAD, vcpu), 0);
  }

  /** Signals the vCPU's thread if it is in KVM_RUN and not this one. */
  poke(vcpu: number): void {
    const thread = Atomics.load(this.#words, vcpuWord(WORD.THREAD, vcpu));
    if (thread !== 0 && thread !== this.#own) this.host.libc.syscall_iii(SYS_tgkill, Deno.pid, thread, SIGUSR1);
  }
}
