/**
 * The Worker that owns the network back end: sleeps until the guest rings, a socket has something, or a timer runs out.
 *
 * Its first message is `ToBackEnd`; from then on shared words steer it. Later messages are about published ports and the cable.
 */
import { messageOf } from "../base/errors.ts";
import { attachHostChips } from "./host_chips.ts";
import { NetService } from "./net_service.ts";
import { assemblePc } from "./pc.ts";
import type { FromBackEnd, ToBackEnd, ToNetWorker } from "./workers.ts";

const scope = self as unknown as {
  onmessage: ((e: MessageEvent) => void) | null;
  postMessage(message: FromBackEnd): void;
};

scope.onmessage = async ({ data }: MessageEvent<ToBackEnd>) => {
  const failed = (error: unknown) => scope.postMessage({ kind: "failed", message: messageOf(error) });
  try {
    const trouble = (sentence: string) => scope.postMessage({ kind: "trouble", sentence });
    const pc = assemblePc(data);
    await attachHostChips(pc, data.spec, data.memory);
    const service = new NetService(pc, data.spec.net!, trouble);
    await service.open();
    scope.onmessage = ({ data }: MessageEvent<ToNetWorker>) => void answer(service, data);
    scope.postMessage({ kind: "ready" });
    await service.run();
    scope.postMessage({ kind: "closed" });
  } catch (error) {
    failed(error);
  }
};

async function answer(service: NetService, { id, request }: ToNetWorker): Promise<void> {
  let error: string | null = null;
  try {
    if (request.action === "add") await service.addForward(request.port);
    else if (request.action === "remove") service.removeForward(request.port);
    else if (request.action === "link" && request.up !== undefined) service.plug(request.up);
  } catch (refused) {
    error = messageOf(refused);
  }
  scope.postMessage({
    kind: "answer",
    id,
    answer: { published: [...service.forwards], linkUp: service.linkUp },
    error,
  });
}
