/**
 * The Worker that owns the disk files: sleeps until a doorbell rings, moves data between files and guest RAM, raises interrupts.
 *
 * Its first and only message is `ToBackEnd`; from then on shared words steer it. Host I/O happens here and never under the machine
 * lock.
 */
import { messageOf } from "../base/errors.ts";
import { DiskServer } from "./disks.ts";
import { attachHostChips, createHostBell } from "./host_chips.ts";
import { lookForFileCalls } from "../host/disk/open.ts";
import { assemblePc } from "./pc.ts";
import type { FromBackEnd, ToBackEnd } from "./workers.ts";

const scope = self as unknown as {
  onmessage: ((e: MessageEvent<ToBackEnd>) => void) | null;
  postMessage(message: FromBackEnd): void;
};

scope.onmessage = async ({ data }) => {
  try {
    await lookForFileCalls();
    const pc = assemblePc(data);
    await attachHostChips(pc, data.spec, data.memory);
    const server = new DiskServer(
      pc,
      data.spec.disks,
      (sentence) => scope.postMessage({ kind: "trouble", sentence }),
    );
    const { control } = pc, bell = await createHostBell(data.spec, data.memory);
    server.onStandstill = () => bell?.take() && pc.ringVirtioDisks();
    scope.postMessage({ kind: "ready" });
    for (;;) {
      // Read before the words it counts, so that a later ring ends the wait at once.
      const doorbell = control.diskDoorbell;
      const quit = control.diskQuit;
      server.run();
      if (quit) break;
      if (!bell) control.waitDisk(doorbell);
      else if (bell.wait(() => control.diskDoorbell === doorbell)) pc.ringVirtioDisks();
    }
    bell?.close();
    server.close();
    scope.postMessage({ kind: "closed" });
  } catch (error) {
    scope.postMessage({ kind: "failed", message: messageOf(error) });
  }
};
