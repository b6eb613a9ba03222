/**
 * The Worker that owns the shared folders: sleeps until the guest asks for something, and answers it.
 *
 * Its first and only message is `ToBackEnd`; from then on shared words steer it. Host I/O happens here and never under the machine
 * lock.
 */
import { messageOf } from "../base/errors.ts";
import { P9Server } from "../host/share/server.ts";
import { attachHostChips } from "./host_chips.ts";
import { assemblePc } from "./pc.ts";
import { RESET_SHIFT } from "./service_bell.ts";
import type { FromBackEnd, ToBackEnd } from "./workers.ts";

const scope = self as unknown as {
  onmessage: ((e: MessageEvent<ToBackEnd>) => void) | null;
  postMessage(message: FromBackEnd): void;
};

scope.onmessage = async ({ data }) => {
  try {
    const pc = assemblePc(data);
    await attachHostChips(pc, data.spec, data.memory);
    const servers = (data.spec.shares ?? []).map(({ path, readonly, owner }) =>
      new P9Server({ path, readonly, owner: owner ?? { uid: 0, gid: 0 } })
    );
    servers.forEach((server, i) => data.savedShares?.[i] && server.restore(data.savedShares[i]));
    const { shares, shareBell } = pc.services;
    const bell = shareBell!;
    scope.postMessage({ kind: "ready" });
    while (!bell.quitting) {
      const count = bell.count;
      const rung = bell.take();
      if (bell.takeAsked()) scope.postMessage(stateOf(servers));
      servers.forEach((server, i) => {
        if (rung & (1 << (RESET_SHIFT + i))) server.reset();
        if (rung & (1 << i) && shares[i]!.process(server)) bell.ring(1 << i);
      });
      bell.wait(count);
    }
    for (const server of servers) server.reset();
    scope.postMessage({ kind: "closed" });
  } catch (error) {
    scope.postMessage({ kind: "failed", message: messageOf(error) });
  }
};

function stateOf(servers: readonly P9Server[]): FromBackEnd {
  try {
    return { kind: "state", shares: servers.map((server) => server.save()), error: null };
  } catch (error) {
    return { kind: "state", shares: [], error: messageOf(error) };
  }
}
