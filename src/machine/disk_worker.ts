/**
 * The Worker that owns the disk files: sleeps until a doorbell rings, moves data between files and guest RAM, raises interrupts.
 *
 * Its first and only message is `ToDisks`; from then on shared words steer it. Host I/O happens here and never under the machine
 * lock.
 */
import { messageOf } from "../base/errors.ts";
import { DiskServer } from "./disks.ts";
import { assemblePc, type PcOptions } from "./pc.ts";

export type ToDisks = PcOptions;

export type FromDisks =
  | { readonly kind: "ready" }
  | { readonly kind: "trouble"; readonly sentence: string }
  | { readonly kind: "closed" }
  | { readonly kind: "failed"; readonly message: string };

const scope = self as unknown as {
  onmessage: ((e: MessageEvent<ToDisks>) => void) | null;
  postMessage(message: FromDisks): void;
};

scope.onmessage = ({ data }) => {
  try {
    const pc = assemblePc(data);
    const server = new DiskServer(
      pc,
      data.spec.disks,
      (sentence) => scope.postMessage({ kind: "trouble", sentence }),
    );
    scope.postMessage({ kind: "ready" });
    const { control } = pc;
    for (;;) {
      // Read before the words it counts, so that a later ring ends the wait at once.
      const doorbell = control.diskDoorbell;
      const quit = control.diskQuit;
      server.run();
      if (quit) break;
      control.waitDisk(doorbell);
    }
    server.close();
    scope.postMessage({ kind: "closed" });
  } catch (error) {
    scope.postMessage({ kind: "failed", message: messageOf(error) });
  }
};
