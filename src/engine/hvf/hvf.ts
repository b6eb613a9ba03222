/**
 * The engine of Intel Macs: guest code runs on the processor itself, by Hypervisor.framework, and every exit is served here.
 *
 * The board has the interrupt controllers, timers and all devices. Instructions whose memory is the board's are executed by the
 * software CPU (stepper.ts). A run is cut into ticks, so that what threads without a vCPU have raised is seen; vCPUs' threads
 * bring each other out at once.
 */
import { HYPERVISOR_PATH } from "../../../ffi/hypervisor_x86_64.ts";
import { HostError, messageOf } from "../../base/errors.ts";
import {
  type Engine,
  type ExitReason,
  type InitialState,
  type Vcpu,
  VcpuEvent,
  type VcpuParts,
  type VcpuStats,
} from "../engine.ts";
import { Activity, type VcpuState } from "../vcpu_state.ts";
import { HvfExits } from "./exit_loop.ts";
import { type Guest, makeGuest } from "./guest.ts";
import { GuestMemory } from "./guest_memory.ts";
import { openHypervisor } from "./library.ts";
import { checkHvf, restoreHvf, saveHvf } from "./saved_state.ts";

export const hvfEngine: Engine = hvfEngineAt(HYPERVISOR_PATH);

/** The engine over another library with the framework's functions: for tests. */
export function hvfEngineAt(path: string): Engine {
  return {
    name: "hvf",
    openVcpu: (parts) => new HvfVcpu(parts, path),
    dirtyLog: (parts) => new GuestMemory(openHypervisor(path), parts),
  };
}

export class HvfVcpu implements Vcpu {
  lastError: Error | null = null;
  readonly guest: Guest;
  readonly #parts: VcpuParts;
  readonly #exits: HvfExits;
  /** After INIT: nothing but a start-up IPI makes it run. */
  #waitsForSipi = false;

  constructor(parts: VcpuParts, path: string) {
    if (parts.icount) throw new HostError("The engine hvf cannot count instructions: expected --engine soft");
    this.#parts = parts;
    this.guest = makeGuest(openHypervisor(path), parts);
    try {
      this.#exits = new HvfExits(this.guest, parts);
      this.reset();
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Gives back what the host lent: for tests, since a Worker that is terminated gives it back with its process. */
  close(): void {
    this.guest.handle.destroy();
    this.guest.vm.leave();
  }

  reset(): void {
    this.guest.registers.reset();
    this.guest.msrs.reset();
    this.guest.tsc.reset();
    this.#fresh();
  }

  /** After a reset or INIT the bootstrap processor runs, the others wait for a start-up IPI. */
  #fresh(): void {
    this.#exits.reset();
    this.#waitsForSipi = this.#parts.index !== 0;
  }

  setState(state: InitialState): void {
    this.reset();
    this.guest.registers.set(state);
    this.#waitsForSipi = false;
  }

  run(untilNs: number): ExitReason {
    const { vm, handle } = this.guest, { index } = this.#parts;
    // Before the events are looked at: whoever raises one after that sees that there is somebody to poke.
    vm.enter(index, handle.id);
    try {
      return this.#loop(untilNs);
    } catch (error) {
      this.lastError = error instanceof HostError
        ? error
        : new HostError(`Hypervisor.framework failed: ${messageOf(error)}`, { cause: error });
      return "error";
    } finally {
      vm.leaveGuest(index);
    }
  }

  #loop(untilNs: number): ExitReason {
    const { events, eventsIndex, clock } = this.#parts, exits = this.#exits;
    for (;;) {
      const pending = Atomics.load(events, eventsIndex);
      if (pending & VcpuEvent.KICK) {
        Atomics.and(events, eventsIndex, ~VcpuEvent.KICK);
        return "kick";
      }
      if (pending & (VcpuEvent.INIT | VcpuEvent.SIPI)) {
        this.#startUp(pending);
        continue;
      }
      if (this.#waitsForSipi) return "halt";
      exits.offer(pending);
      if (exits.halted) return "halt";
      const now = clock.nowNs();
      if (now >= untilNs) return "slice";
      const ended = exits.enter(now, untilNs);
      if (ended === null) continue;
      if (ended === "error") this.lastError = exits.lastError;
      return ended;
    }
  }

  /** INIT, or a start-up IPI; INIT first if both have come. */
  #startUp(pending: number): void {
    const { events, eventsIndex } = this.#parts;
    if (pending & VcpuEvent.INIT) {
      Atomics.and(events, eventsIndex, ~VcpuEvent.INIT);
      this.guest.registers.initialize();
      this.#fresh();
      return;
    }
    Atomics.and(events, eventsIndex, ~(VcpuEvent.SIPI | VcpuEvent.SIPI_VECTOR));
    // Whoever does not wait for one takes no notice.
    if (!this.#waitsForSipi) return;
    this.#waitsForSipi = false;
    this.guest.registers.start((pending >>> 8) & 0xff);
  }

  save(state: VcpuState): void {
    const exits = this.#exits;
    saveHvf(this.guest, exits.events, this.#parts, state);
    state.activity = this.#waitsForSipi ? Activity.WAIT_FOR_SIPI : exits.halted ? Activity.HALTED : Activity.RUNNING;
  }

  restore(state: VcpuState): void {
    checkHvf(this.guest, state);
    this.reset();
    restoreHvf(this.guest, this.#exits.events, this.#parts, state);
    this.#waitsForSipi = state.activity === Activity.WAIT_FOR_SIPI;
    this.#exits.halted = state.activity === Activity.HALTED;
  }

  poke(vcpu: number): void {
    if (vcpu !== this.#parts.index) this.guest.vm.poke(vcpu);
  }

  stats(): VcpuStats {
    return { ...this.#exits.counts, guestMs: Math.round(this.guest.handle.execNs / 1e6) };
  }

  describe(): string {
    return this.guest.registers.describe();
  }
}
