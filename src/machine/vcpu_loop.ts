/**
 * The loop of a vCPU: timers, guest code, and sleep.
 *
 * vCPU 0 also runs the machine's timers. A vCPU sleeps only in HLT, until one of its events rises or the next timer is due; so
 * an idle guest costs nothing between two of its own timers.
 */
import { messageOf } from "../base/errors.ts";
import type { MachineLock } from "../base/lock.ts";
import type { Timers } from "../base/timers.ts";
import type { Vcpu } from "../engine/engine.ts";
import { VcpuEvent } from "../engine/engine.ts";
import type { IcountClock, MachineClock } from "../host/host_clock.ts";
import type { Control } from "./control.ts";
import { EndCause, RunState } from "./control.ts";
import { Exit } from "./counters.ts";

/** The least a vCPU runs between two looks at the timers: a timer that is always due must not stop the guest. */
const MIN_SLICE_NS = 1000;

export interface VcpuLoopParts {
  readonly index: number;
  readonly vcpu: Vcpu;
  readonly control: Control;
  readonly clock: MachineClock;
  /** Set if guest time is counted by instructions. */
  readonly icount: IcountClock | null;
  readonly timers: Timers;
  readonly lock: MachineLock;
  /** See Counters.of. */
  readonly counters: Float64Array;
  /** Copies the vCPU's state into its record. */
  readonly save?: () => void;
}

/** Runs the vCPU until the machine ends. Returns what it died of, in one line, or null. */
export function runVcpu(p: VcpuLoopParts): string | null {
  const { vcpu, control, counters } = p;
  const events = control.events, at = control.eventsIndex(p.index);
  for (;;) {
    // Whoever kicks has said why before: so the bit goes first, then its reasons are looked at.
    Atomics.and(events, at, ~VcpuEvent.KICK);
    const state = control.state;
    if (state === RunState.PAUSE || state === RunState.SAVE) control.park(p.save);
    if (state === RunState.LEAVE) return null;
    if (state !== RunState.RUN) continue;

    const untilNs = p.index === 0 ? runTimers(p) : Infinity;
    const rises = control.rises(p.index);
    const reason = vcpu.run(Math.max(untilNs, p.clock.nowNs() + MIN_SLICE_NS));
    counters[Exit[reason]]!++;
    switch (reason) {
      case "slice":
      case "kick":
        break;
      case "halt":
        sleep(p, rises);
        break;
      case "shutdown":
        // Described first: once the end is known, the machine may be taken apart.
        return ended(control, EndCause.SHUTDOWN, `triple fault on vCPU ${p.index}: ${firstLine(vcpu.describe())}`);
      case "error":
        return ended(control, EndCause.HOST_ERROR, `vCPU ${p.index} failed: ${messageOf(vcpu.lastError)}`);
    }
  }
}

function ended(control: Control, cause: EndCause, message: string): string {
  control.end(cause);
  return message;
}

/** Runs the timers that are due; returns when the next one will be. */
function runTimers(p: VcpuLoopParts): number {
  p.lock.acquire();
  try {
    const nowNs = p.clock.nowNs();
    if (p.timers.nextDeadlineNs() <= nowNs) p.timers.runDue(nowNs);
    return p.control.untilNs = p.timers.nextDeadlineNs();
  } finally {
    p.lock.release();
  }
}

/**
 * Sleeps in HLT. `rises` were counted before the vCPU last ran: if an event has risen since, the vCPU looks again at once, so
 * none is lost; if none has, whatever the word shows is masked, and there is nothing to do.
 */
function sleep(p: VcpuLoopParts, rises: number): void {
  const { control, icount, index } = p;
  const untilNs = p.index === 0 ? runTimers(p) : Infinity;
  if (control.state !== RunState.RUN) return;
  if (untilNs === Infinity) {
    control.waitEvent(index, rises);
    return;
  }
  const waitNs = p.clock.hostNsUntil(untilNs);
  const woken = waitNs > 0 ? control.waitEvent(index, rises, waitNs / 1e6) : control.rises(index) !== rises;
  if (icount && !woken) icount.setNs(untilNs);
}

function firstLine(text: string): string {
  const end = text.indexOf("\n");
  return end < 0 ? text : text.slice(0, end);
}
