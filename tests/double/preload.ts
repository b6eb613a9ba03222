/**
 * Imported first by the Worker of a vCPU: the thread attaches to the double whose path is in the Worker's URL ("?double=PATH"),
 * and the model hears of what the machine's devices write.
 */
import { assemblePc } from "../../src/machine/pc.ts";
import type { ToVcpu } from "../../src/machine/vcpu_service.ts";
import { followWrites } from "./cpu.ts";
import { openDouble } from "./double.ts";

const scope = self as unknown as {
  readonly location: { readonly href: string };
  addEventListener(type: "message", listener: (e: MessageEvent<ToVcpu>) => void): void;
};
const parameters = new URL(scope.location.href).searchParams;
openDouble(parameters.get("double")!, { compiles: parameters.get("compiles") !== "no" });
scope.addEventListener("message", ({ data }) => {
  if (data.kind === "open") followWrites(assemblePc(data.pc).codeMap);
});
