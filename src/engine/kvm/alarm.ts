/**
 * What brings a vCPU back out of KVM_RUN: a POSIX timer that signals its thread, with the signal that other threads may send.
 *
 * The signal is blocked in the thread at all times but inside KVM_RUN (KVM_SET_SIGNAL_MASK), so there is no handler, none is
 * lost between a look at the events and the entry, and one that arrives early makes the next KVM_RUN return at once. Where it
 * is asked to, a timer ticks while the guest runs: whatever threads that send no signals have put into the event word is seen at
 * the next tick.
 */
import * as C from "../../../ffi/libc.ts";
import { HostError } from "../../base/errors.ts";
import type { Host } from "./host.ts";

/** The least that a timer is set to: 0 would stop it. */
const LEAST_NS = 1000;
const SIGNAL = C.SIGUSR1;

/** The signal as a bit of a set. */
const ALARM_BIT = 1n << BigInt(SIGNAL - 1);

export class Alarm {
  /** The signals that are blocked inside KVM_RUN: the thread's own, but not this one. */
  readonly maskInRun: bigint;
  readonly #timer: number;
  /** The signal was not blocked in this thread before. */
  readonly #first: boolean;
  readonly #set = new BigUint64Array([ALARM_BIT]);
  readonly #zero = new BigInt64Array(2);
  readonly #spec = new BigInt64Array(C.SIZEOF_ITIMERSPEC / 8);
  #armed = false;
  /** What the timer was last set for. */
  #untilNs = -1;

  /** `tickNs`: between two ticks; 0: none. */
  constructor(private readonly host: Host, private readonly tickNs: number) {
    const { libc } = host;
    // Nobody handles the signal: unblocked, it would end the process.
    const before = new BigUint64Array(1);
    if (libc.syscall_ibbi(C.SYS_rt_sigprocmask, C.SIG_BLOCK, this.#set, before, C.SIZEOF_SIGSET) < 0) {
      throw host.refusal("rt_sigprocmask");
    }
    this.maskInRun = before[0]! & ~ALARM_BIT;
    this.#first = (before[0]! & ALARM_BIT) === 0n;
    const event = new DataView(new ArrayBuffer(C.SIZEOF_SIGEVENT)), id = new Int32Array(2);
    event.setInt32(C.SIGEV_SIGNO, SIGNAL, true);
    event.setInt32(C.SIGEV_NOTIFY, C.SIGEV_THREAD_ID, true);
    event.setInt32(C.SIGEV_NOTIFY_THREAD_ID, libc.syscall_i(C.SYS_gettid, 0), true);
    if (libc.syscall_ibb(C.SYS_timer_create, C.CLOCK_MONOTONIC, new Uint8Array(event.buffer), id) < 0) {
      throw new HostError(`${host.refusal("timer_create").message}: no timer to bound a guest's time`);
    }
    this.#timer = id[0]!;
  }

  /** Ticks from now on, and once at guest time `untilNs` if that comes before the next tick. */
  arm(nowNs: number, untilNs: number): void {
    const ns = untilNs - nowNs, tick = this.tickNs;
    if (this.#armed && (untilNs === this.#untilNs || (tick > 0 && ns >= tick))) return;
    if (tick === 0 && untilNs === Infinity) return this.disarm();
    this.#armed = true;
    this.#untilNs = untilNs;
    this.#setTimer(Math.max(LEAST_NS, tick > 0 ? Math.min(ns, tick) : ns), tick);
  }

  disarm(): void {
    if (!this.#armed) return;
    this.#armed = false;
    this.#setTimer(0, 0);
  }

  /** Takes the signal that ended KVM_RUN; false if there is none. */
  take(): boolean {
    this.#untilNs = -1;
    const { libc } = this.host;
    return libc.syscall_bbbi(C.SYS_rt_sigtimedwait, this.#set, null, this.#zero, C.SIZEOF_SIGSET) > 0;
  }

  close(): void {
    this.host.libc.syscall_i(C.SYS_timer_delete, this.#timer);
    this.take();
    if (this.#first) this.host.libc.syscall_ibbi(C.SYS_rt_sigprocmask, C.SIG_UNBLOCK, this.#set, null, C.SIZEOF_SIGSET);
  }

  #setTimer(firstNs: number, everyNs: number): void {
    const s = this.#spec;
    s[C.IT_INTERVAL / 8 + 1] = BigInt(Math.floor(everyNs));
    s[C.IT_VALUE / 8] = BigInt(Math.floor(firstNs / 1e9));
    s[C.IT_VALUE / 8 + 1] = BigInt(Math.floor(firstNs % 1e9));
    this.host.libc.syscall_iibb(C.SYS_timer_settime, this.#timer, 0, s, null);
  }
}
