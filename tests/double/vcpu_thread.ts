/** A thread of a test that calls the double: see threads_test.ts. */
import { DARWIN_SYMBOLS } from "../../ffi/darwin.ts";
import { HYPERVISOR_SYMBOLS } from "../../ffi/hypervisor_x86_64.ts";
import { attachDouble } from "./double.ts";
import { FOREVER, REG, setLong } from "./guest.ts";
import type { Hv } from "./rig.ts";
import { F } from "./vmcs.ts";

export type Order =
  | { readonly kind: "touch" | "destroy"; readonly id: number }
  | { readonly kind: "make" }
  | { readonly kind: "loop"; readonly id: number; readonly rip: number };

export interface Answer {
  readonly codes: readonly number[];
  readonly id?: number;
  readonly reason?: number;
  readonly rbx?: bigint;
}

const scope = self as unknown as {
  onmessage: (e: MessageEvent<Order & { readonly path: string }>) => void;
  postMessage(answer: Answer): void;
};
let hv: Hv | undefined;
const out = new BigUint64Array(1), id = new Uint32Array(1);

scope.onmessage = ({ data }) => {
  if (!hv) {
    attachDouble(data.path);
    hv = Deno.dlopen(data.path, { ...HYPERVISOR_SYMBOLS, ...DARWIN_SYMBOLS }).symbols;
  }
  scope.postMessage(obey(hv, data));
};

function obey(hv: Hv, order: Order): Answer {
  switch (order.kind) {
    case "touch":
      return {
        codes: [
          hv.hv_vcpu_run(order.id),
          hv.hv_vcpu_run_until(order.id, FOREVER),
          hv.hv_vcpu_read_register(order.id, REG.RAX, out),
          hv.hv_vmx_vcpu_read_vmcs(order.id, F.RIP, out),
          hv.hv_vcpu_destroy(order.id),
          hv.hv_vcpu_interrupt(Uint32Array.of(order.id), 1),
        ],
      };
    case "make":
      return { codes: [hv.hv_vcpu_create(id, 0n)], id: id[0]! };
    case "destroy":
      return { codes: [hv.hv_vcpu_destroy(order.id)] };
    case "loop": {
      setLong(hv, order.id, order.rip);
      const code = hv.hv_vcpu_run_until(order.id, FOREVER);
      hv.hv_vmx_vcpu_read_vmcs(order.id, F.EXIT_REASON, out);
      const reason = Number(out[0]);
      hv.hv_vcpu_read_register(order.id, REG.RBX, out);
      return { codes: [code], reason, rbx: out[0]! };
    }
  }
}
