/**
 * The Worker that gives back to the host what the guest can do without.
 *
 * Its first and only message is `ToBackEnd`; from then on shared words steer it.
 */
import { messageOf } from "../base/errors.ts";
import { openReturn } from "../host/balloon.ts";
import { attachHostChips } from "./host_chips.ts";
import { assemblePc } from "./pc.ts";
import { BALLOON_BELL } from "./service_board.ts";
import type { FromBackEnd, ToBackEnd } from "./workers.ts";

const scope = self as unknown as {
  onmessage: ((e: MessageEvent<ToBackEnd>) => void) | null;
  postMessage(message: FromBackEnd): void;
};

scope.onmessage = async ({ data }) => {
  try {
    const pc = assemblePc(data);
    await attachHostChips(pc, data.spec, data.memory);
    const { balloon, balloonBell } = pc.services, bell = balloonBell!;
    const returnMemory = openReturn(data.memory, pc.ram);
    scope.postMessage({ kind: "ready" });
    while (!bell.quitting) {
      const count = bell.count;
      const rung = bell.take();
      if (rung & BALLOON_BELL.STATS) balloon!.askStats();
      if (rung & BALLOON_BELL.QUEUES && balloon!.process(returnMemory)) bell.ring(BALLOON_BELL.QUEUES);
      bell.wait(count);
    }
    scope.postMessage({ kind: "closed" });
  } catch (error) {
    scope.postMessage({ kind: "failed", message: messageOf(error) });
  }
};
