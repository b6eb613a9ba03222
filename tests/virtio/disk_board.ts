/** A board with one disk, assembled by every thread over the same memory: the guest's side and the disk worker's. */
import { VirtioBlock } from "../../devices/virtio/block.ts";
import { PciHost, PciHostRecord } from "../../devices/pci/host.ts";
import { Arena } from "../../src/base/arena.ts";
import { MachineLock } from "../../src/base/lock.ts";
import { GuestRam } from "../../src/base/ram.ts";

export const SECTORS = 256;
export const QUEUES = 2;

/** Words the threads share: doorbells rung, messages sent, stop, the machine lock. */
export const WORD = { DOORBELL: 0, MESSAGES: 1, STOP: 2, LOCK: 3, COUNT: 4 } as const;

export interface SharedMemory {
  readonly arena: SharedArrayBuffer;
  readonly ram: SharedArrayBuffer;
  readonly words: Int32Array;
}

export function diskBoard(m: SharedMemory) {
  const arena = new Arena(m.arena, 0, m.arena.byteLength);
  const ram = new GuestRam(m.ram, 0, m.ram.byteLength);
  const lock = new MachineLock(m.words, WORD.LOCK);
  const host = new PciHost(arena.place("host", PciHostRecord));
  const disk = host.add(
    1,
    0,
    new VirtioBlock(arena, "disk", {
      ram,
      msi: { send: () => Atomics.add(m.words, WORD.MESSAGES, 1) },
      locked: (body) => lock.with(body),
      notify: () => {
        Atomics.add(m.words, WORD.DOORBELL, 1);
        Atomics.notify(m.words, WORD.DOORBELL);
      },
    }, { capacitySectors: SECTORS, queues: QUEUES }),
  );
  return { arena, ram, lock, host, disk };
}
