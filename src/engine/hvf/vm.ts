/**
 * The one virtual machine of the process over the machine's memory, and what its vCPUs' threads share of it.
 *
 * The first vCPU's thread makes the VM, the last one to close ends it. Words near the end of each vCPU's state, which the
 * software CPU does not use, tell the framework's number of a vCPU whose thread is about to run it, so that one vCPU's thread
 * can bring another's out at once; and how often that was done, for the answer to a call that came too early may be an old exit.
 */
import { hv_vm_options_t } from "../../../ffi/hypervisor_x86_64.ts";
import { VCPU_BASE, VCPU_STRIDE } from "../../machine/memory.ts";
import { GuestMemory, type MemoryParts } from "./guest_memory.ts";
import { check, type Hypervisor, SUCCESS } from "./library.ts";

/** From the end of vCPU 0's state: the VM; from the end of each: its number + 1, and its pokes. */
const VM_AT = VCPU_BASE + VCPU_STRIDE - 64, NUMBER_AT = VCPU_BASE + VCPU_STRIDE - 128;
/** Nobody has made the VM; somebody is about to; it is there. */
const NONE = 0, OPENING = -1, OPEN = 1;
/** Words of the VM; those of 64 bits have two. */
const STATE = 0, VCPUS = 1, OFFSET = 2, LOCK = 4, MOMENT_TSC = 6, MOMENT_NS = 8;
const POKES = 1;

export class SharedVm {
  readonly #words: Int32Array;
  readonly #list = new Uint32Array(1);

  readonly pages: GuestMemory;

  private constructor(private readonly hv: Hypervisor, private readonly parts: MemoryParts) {
    this.#words = new Int32Array(parts.memory.buffer);
    this.pages = new GuestMemory(hv, parts);
  }

  /** The machine's VM, which is made now if there is none yet. `offset`: of the guest's time-stamp counter to the host's. */
  static join(hv: Hypervisor, parts: MemoryParts, offset: () => bigint): SharedVm {
    const vm = new SharedVm(hv, parts), words = vm.#words, at = VM_AT / 4 + STATE;
    for (;;) {
      const found = Atomics.compareExchange(words, at, NONE, OPENING);
      if (found === OPEN) break;
      if (found === OPENING) {
        Atomics.wait(words, at, OPENING);
        continue;
      }
      let state = NONE;
      try {
        vm.#make();
        vm.#setOffset(offset());
        state = OPEN;
      } finally {
        Atomics.store(words, at, state);
        Atomics.notify(words, at);
      }
      break;
    }
    Atomics.add(words, VM_AT / 4 + VCPUS, 1);
    return vm;
  }

  /** One vCPU less; the VM goes with the last. If it does not, the next one to be made is refused with the reason. */
  leave(): void {
    if (Atomics.sub(this.#words, VM_AT / 4 + VCPUS, 1) !== 1) return;
    this.hv.hv_vm_destroy();
    Atomics.store(this.#words, VM_AT / 4 + STATE, NONE);
  }

  #make(): void {
    check("hv_vm_create", this.hv.hv_vm_create(BigInt(hv_vm_options_t.HV_VM_DEFAULT)));
    try {
      this.pages.mapAll();
    } catch (error) {
      this.hv.hv_vm_destroy();
      throw error;
    }
  }

  #setOffset(offset: bigint): void {
    const words = this.#words, at = VM_AT / 4 + OFFSET;
    Atomics.store(words, at, Number(BigInt.asIntN(32, offset)));
    Atomics.store(words, at + 1, Number(BigInt.asIntN(32, offset >> 32n)));
  }

  /** Of the guest's time-stamp counter to the host's: the same for all vCPUs. */
  get tscOffset(): bigint {
    const at = VM_AT / 4 + OFFSET;
    const lo = Atomics.load(this.#words, at) >>> 0, hi = Atomics.load(this.#words, at + 1);
    return (BigInt(hi) << 32n) | BigInt(lo);
  }

  /**
   * The host's time-stamp counter at a moment that all vCPUs share: while guest time stands still at `ns`, they all get the same
   * answer, so that counters that were equal stay equal.
   */
  moment(ns: number): bigint {
    const words = this.#words, at = VM_AT / 4, buffer = this.parts.memory.buffer;
    const tsc = new BigInt64Array(buffer, VM_AT + 4 * MOMENT_TSC, 1),
      known = new Float64Array(buffer, VM_AT + 4 * MOMENT_NS, 1);
    while (Atomics.compareExchange(words, at + LOCK, 0, 1) !== 0) Atomics.wait(words, at + LOCK, 1, 1);
    try {
      if (tsc[0] === 0n || known[0] !== ns) {
        tsc[0] = this.hv.hv_tsc_clock();
        known[0] = ns;
      }
      return tsc[0]!;
    } finally {
      Atomics.store(words, at + LOCK, 0);
      Atomics.notify(words, at + LOCK);
    }
  }

  /** The calling thread is about to look at its vCPU's events and to run it. */
  enter(vcpu: number, number: number): void {
    Atomics.store(this.#words, at(vcpu), number + 1);
  }
  leaveGuest(vcpu: number): void {
    Atomics.store(this.#words, at(vcpu), 0);
  }

  /** Brings the vCPU out of the guest, if its thread is there or on its way. */
  poke(vcpu: number): void {
    const number = Atomics.load(this.#words, at(vcpu));
    if (number === 0) return;
    Atomics.add(this.#words, at(vcpu) + POKES, 1);
    this.#list[0] = number - 1;
    this.hv.hv_vcpu_interrupt(this.#list, 1);
  }

  /** How often the vCPU was poked. */
  pokes(vcpu: number): number {
    return Atomics.load(this.#words, at(vcpu) + POKES);
  }
}

function at(vcpu: number): number {
  return (NUMBER_AT + vcpu * VCPU_STRIDE) / 4;
}

/** Whether a machine's memory is the VM's by now: for tests whose framework moves it. */
export function isMapped(buffer: ArrayBufferLike): boolean {
  return Atomics.load(new Int32Array(buffer), VM_AT / 4 + STATE) === OPEN;
}

/** Whether the process can have a VM now: makes one and ends it. Throws HostError with the reason. */
export function tryVm(hv: Hypervisor): void {
  check("hv_vm_create", hv.hv_vm_create(BigInt(hv_vm_options_t.HV_VM_DEFAULT)));
  const code = hv.hv_vm_destroy();
  if (code !== SUCCESS) check("hv_vm_destroy", code);
}
