/**
 * Words of shared memory by which the threads of a machine find its VM and vCPUs: at the end of each vCPU's state, where the
 * software CPU keeps nothing.
 */
import { MAX_VCPUS, VCPU_BASE, VCPU_STRIDE } from "../../machine/memory.ts";

const END = VCPU_BASE + VCPU_STRIDE;

/** Offsets in bytes; those of a vCPU are VCPU_STRIDE apart. */
export const WORD = {
  /** The thread that is in KVM_RUN, 0 outside of it. */
  THREAD: END - 128,
  /** The vCPU's file descriptor + 1. */
  VCPU: END - 124,
  /** Eight bytes: the vCPU's time-stamp counter while guest time stands still, 0 while it runs. */
  STOPPED_TSC: END - 120,
  /** Of the machine: VM_NONE, VM_OPENING, or the VM's file descriptor + 1. */
  VM: END - 64,
  /** Index in IRQ_CHIPS, from before VM is set. */
  IRQ_CHIP: END - 60,
  /** 1: KVM's chips are in charge, not the board's models. */
  IN_CHARGE: END - 56,
  /** 1: a thread empties the ring of coalesced writes. */
  RING_LOCK: END - 52,
  /** 1: a thread changes the memory slots. */
  SLOTS_LOCK: END - 48,
  /** The generation of the memory map that the slots are made of, + 1; 0: none. */
  SLOTS_GENERATION: END - 44,
  /** 1: KVM notes which pages are written to. */
  DIRTY_LOG: END - 40,
  /** 1: the software CPU has stepped since the log was taken. */
  STEPPED: END - 36,
  /** The event file descriptor of the disks' doorbell + 1; 0: none. */
  BELL: END - 32,
  /** 1: the disks' thread sleeps on it, or is about to. */
  BELL_SLEEPS: END - 28,
  /** 1: a thread tells KVM where the doorbell is. */
  BELLS_LOCK: END - 24,
  /** 1: KVM has been told, of the addresses of this generation. */
  BELLS_MADE: END - 20,
  BELLS_GENERATION: END - 16,
  /** See BellAddresses: the addresses that KVM rings at, 0 for none. */
  BELLS: END - 128 - 1024 - 256,
  /** See MemorySlots: four words each. */
  SLOTS: END - 128 - 1024,
} as const;

/** After the last of them. */
export const STOPPED_TSCS_END = VCPU_BASE + MAX_VCPUS * VCPU_STRIDE;

/** Addresses that KVM rings at, at most. */
export const MAX_BELLS = 64;

export const IRQ_CHIPS = ["user", "split", "kernel"] as const;

/** The index of a vCPU's word in an Int32Array over the memory. */
export function vcpuWord(at: number, vcpu: number): number {
  return (at + vcpu * VCPU_STRIDE) / 4;
}
