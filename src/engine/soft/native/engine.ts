/** The software engine with native code. Who loads this wants FFI. */
import type { Engine } from "../../engine.ts";
import { SoftVcpu } from "../soft.ts";
import { nativeTier } from "./tier.ts";

export const nativeEngine: Engine = {
  name: "soft",
  openVcpu: (parts) => new SoftVcpu(parts, nativeTier()).compileInBackground(),
};
