/// <reference lib="deno.worker" />
/** The thread that owns the disk: sector n is full of n + 1. */
import type { BlockBackend } from "../../devices/virtio/block.ts";
import { diskBoard, QUEUES, type SharedMemory, WORD } from "./disk_board.ts";

const backend: BlockBackend = {
  read(offset, into) {
    for (let i = 0; i < into.length; i++) into[i] = ((offset + i) >> 9) + 1;
    return true;
  },
  write: () => true,
  flush: () => true,
  discard: () => true,
  writeZeroes: () => true,
};

self.onmessage = (event: MessageEvent<SharedMemory>) => {
  const { words } = event.data;
  const { disk } = diskBoard(event.data);
  self.postMessage("ready");
  while (Atomics.load(words, WORD.STOP) === 0) {
    const seen = Atomics.load(words, WORD.DOORBELL);
    let more = false;
    for (let i = 0; i < QUEUES; i++) more = disk.processQueue(i, backend) || more;
    if (!more) Atomics.wait(words, WORD.DOORBELL, seen, 1000);
  }
  self.close();
};
