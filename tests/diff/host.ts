/** What the host's processor is: CPUID, executed natively. */
import { FEATURES } from "../../src/cpu/x86/system/features.ts";
import { FX, IN, OUT, R } from "./arena.ts";
import type { Native } from "./native.ts";

/** EAX, EBX, ECX, EDX. */
export function hostCpuid(native: Native, leaf: number, subleaf: number): [number, number, number, number] {
  native.place(0, [0x0f, 0xa2]);
  const at = IN >> 2, u32 = native.u32;
  u32.fill(0, at, at + R.FX / 4 + 128);
  u32[at] = leaf;
  u32[at + 2] = subleaf;
  u32[at + R.FLAGS / 4] = 0x202;
  u32[at + R.RIP / 4] = native.base;
  u32[at + R.FX / 4] = 0x37f;
  u32[at + (R.FX + FX.MXCSR) / 4] = 0x1f80;
  native.run(1);
  const out = (n: number) => u32[(OUT >> 2) + 2 * n]!;
  return [out(0), out(3), out(1), out(2)];
}

const known = new Map<string, boolean>();

/** Whether the host announces a feature under the manual's name. */
export function hasHostFeature(native: Native, name: string): boolean {
  let has = known.get(name);
  if (has === undefined) {
    const place = FEATURES[name as keyof typeof FEATURES];
    if (!place) throw new Error(`No CPUID flag is known for ${name}`);
    const [leaf, subleaf, register, bit] = place;
    has = hostCpuid(native, 0x8000_0000 & leaf, 0)[0] >= leaf &&
      ((hostCpuid(native, leaf, subleaf)[register]! >> bit) & 1) === 1;
    known.set(name, has);
  }
  return has;
}
