/**
 * The Worker that owns the host's end of the guest's vsock: sleeps until the guest rings or a socket has something.
 *
 * Its first and only message is `ToBackEnd`; from then on shared words steer it.
 */
import { messageOf } from "../base/errors.ts";
import { VsockHost } from "../host/vsock/host.ts";
import { VsockSockets } from "../host/vsock/sockets.ts";
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
    const { vsock, vsockBell } = pc.services, bell = vsockBell!, device = vsock!;
    const sockets = await VsockSockets.open(data.spec.vsock!.path);
    const host = new VsockHost({
      guestCid: device.guestCid,
      deliver: (header, bytes) => bell.holding ? -1 : device.deliver(header, bytes),
      connect: (port) => sockets.connect(port),
    });
    scope.postMessage({ kind: "ready" });
    let first = true;
    while (!bell.quitting) {
      const count = bell.count;
      const rung = bell.take();
      if (rung & (1 << RESET_SHIFT)) host.reset();
      if (rung & 1) {
        if (first) {
          first = false;
          device.transportReset(); // a guest that goes on from a snapshot has connections that are no more
          void sockets.serve((stream) => void host.accept(stream));
        }
        if (device.transmit((header, payload) => host.receive(header, payload))) bell.ring(1);
        host.room();
      }
      await bell.waitAsync(count);
    }
    sockets.close();
    host.reset();
    scope.postMessage({ kind: "closed" });
  } catch (error) {
    scope.postMessage({ kind: "failed", message: messageOf(error) });
  }
};
