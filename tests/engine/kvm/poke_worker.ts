/** Pokes vCPU 0 whenever it is sent the machine's memory, and answers when it has. */
import { Host } from "../../../src/engine/kvm/host.ts";
import { Threads } from "../../../src/engine/kvm/threads.ts";

const scope = self as unknown as {
  onmessage: (e: MessageEvent<WebAssembly.Memory>) => void;
  postMessage(message: string): void;
};

scope.onmessage = ({ data }) => {
  new Threads(new Host(), data).poke(0);
  scope.postMessage("poked");
};
