/**
 * The Worker that owns the network back end: sleeps until the guest rings, a socket has something, or a timer runs out.
 *
 * Its first and only message is `ToBackEnd`; from then on shared words steer it.
 */
import { messageOf } from "../base/errors.ts";
import { attachHostChips } from "./host_chips.ts";
import { NetService } from "./net_service.ts";
import { assemblePc } from "./pc.ts";
import type { FromBackEnd, ToBackEnd } from "./workers.ts";

const scope = self as unknown as {
  onmessage: ((e: MessageEvent<ToBackEnd>) => void) | null;
  postMessage(message: FromBackEnd): void;
};

scope.onmessage = async ({ data }) => {
  const failed = (error: unknown) => scope.postMessage({ kind: "failed", message: messageOf(error) });
  try {
    const trouble = (sentence: string) => scope.postMessage({ kind: "trouble", sentence });
    const pc = assemblePc(data);
    await attachHostChips(pc, data.spec, data.memory);
    const service = new NetService(pc, data.spec.net!, trouble);
    await service.open();
    scope.postMessage({ kind: "ready" });
    await service.run();
    scope.postMessage({ kind: "closed" });
  } catch (error) {
    failed(error);
  }
};
