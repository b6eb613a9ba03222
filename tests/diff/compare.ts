/** Two results of one case, side by side. */
import { RF } from "../../src/cpu/x86/state.ts";
import { GPR_NAMES } from "../../src/engine/engine.ts";
import { FX, R } from "./arena.ts";
import type { Case } from "./generate.ts";

/** Flags that are the same natively and in the guest: status, DF, and the rest as user code sees it. */
const FLAGS = 0x8d5 | 0x400;

const hex = (words: Uint32Array, at: number, n: number) => {
  let s = "";
  for (let i = n - 1; i >= 0; i--) s += words[at + i]!.toString(16).padStart(8, "0");
  return s;
};

/** What differs between the native result at word `a` of `native` and the other at word `b` of `soft`. */
export function differences(c: Case, native: Uint32Array, a: number, soft: Uint32Array, b: number): string[] {
  const out: string[] = [];
  const say = (what: string, x: string, y: string) => out.push(`${what}: host ${x}, soft ${y}`);
  const signal = native[a + R.SIGNAL / 4]!, fault = soft[b + R.SIGNAL / 4]!;
  if ((signal !== 0) !== (fault !== 0)) {
    say("fault", describeFault(native, a), describeFault(soft, b));
    return out;
  }
  if (signal !== 0) {
    if (describeFault(native, a) !== describeFault(soft, b)) {
      say("fault", describeFault(native, a), describeFault(soft, b));
    }
  } else if (native[a + R.EXIT / 4] !== soft[b + R.EXIT / 4]) {
    say("branch", native[a + R.EXIT / 4] ? "taken" : "not taken", soft[b + R.EXIT / 4] ? "taken" : "not taken");
  }
  for (let n = 0; n < 16; n++) {
    if (native[a + 2 * n] !== soft[b + 2 * n] || native[a + 2 * n + 1] !== soft[b + 2 * n + 1]) {
      say(GPR_NAMES[n]!, hex(native, a + 2 * n, 2), hex(soft, b + 2 * n, 2));
    }
  }
  const flags = native[a + R.FLAGS / 4]! ^ soft[b + R.FLAGS / 4]!;
  if (flags & FLAGS & ~(signal ? c.undefinedAtFault ?? 0 : c.undefinedFlags) & ~RF) {
    say("flags", flagNames(native[a + R.FLAGS / 4]!), flagNames(soft[b + R.FLAGS / 4]!));
  }
  if (native[a + R.GS / 4] !== soft[b + R.GS / 4]) say("gs", hex(native, a + R.GS / 4, 2), hex(soft, b + R.GS / 4, 2));
  const fa = a + R.FX / 4, fb = b + R.FX / 4;
  for (let n = 0; n < 16; n++) {
    const x = fa + FX.XMM / 4 + 4 * n, y = fb + FX.XMM / 4 + 4 * n;
    for (let i = 0; i < 4; i++) {
      if (native[x + i] === soft[y + i]) continue;
      say(`xmm${n}`, hex(native, x, 4), hex(soft, y, 4));
      break;
    }
  }
  for (let n = 0; n < 16; n++) {
    const x = a + R.YMM / 4 + 4 * n, y = b + R.YMM / 4 + 4 * n;
    if ([0, 1, 2, 3].some((i) => native[x + i] !== soft[y + i])) {
      say(`ymm${n} upper`, hex(native, x, 4), hex(soft, y, 4));
    }
  }
  if (native[fa + FX.MXCSR / 4] !== soft[fb + FX.MXCSR / 4]) {
    say("mxcsr", native[fa + FX.MXCSR / 4]!.toString(16), soft[fb + FX.MXCSR / 4]!.toString(16));
  }
  const control = native[fa]! ^ soft[fb]!;
  if (control & 0xffff) say("fcw", (native[fa]! & 0xffff).toString(16), (soft[fb]! & 0xffff).toString(16));
  if ((control >>> 16) & ~c.undefinedStatus) {
    say("fsw", (native[fa]! >>> 16).toString(16), (soft[fb]! >>> 16).toString(16));
  }
  if ((native[fa + 1]! ^ soft[fb + 1]!) & 0xff) {
    say("ftw", (native[fa + 1]! & 0xff).toString(16), (soft[fb + 1]! & 0xff).toString(16));
  }
  // Some processors keep the pointers to the last instruction only while an exception is pending.
  const pointers = (native[fa]! >>> 16) & 0x80 && c.pointers;
  if (pointers && native[fa + 1]! >>> 16 !== soft[fb + 1]! >>> 16) {
    say("fop", (native[fa + 1]! >>> 16).toString(16), (soft[fb + 1]! >>> 16).toString(16));
  }
  for (const [name, k] of [["fip", 2], ["fdp", 4]] as const) {
    if (!pointers) continue;
    if (native[fa + k] !== soft[fb + k] || native[fa + k + 1] !== soft[fb + k + 1]) {
      say(name, hex(native, fa + k, 2), hex(soft, fb + k, 2));
    }
  }
  for (let n = 0; n < 8; n++) {
    const x = fa + FX.ST / 4 + 4 * n, y = fb + FX.ST / 4 + 4 * n;
    const same = native[x] === soft[y] && native[x + 1] === soft[y + 1] &&
      (native[x + 2]! & 0xffff) === (soft[y + 2]! & 0xffff);
    if (!same && !(c.approximate && near(native, x, soft, y))) {
      say(`st${n}`, hex(native, x, 3).slice(4), hex(soft, y, 3).slice(4));
    }
  }
  return out;
}

/** Whether two extended-precision numbers are neighbours. */
function near(a: Uint32Array, x: number, b: Uint32Array, y: number): boolean {
  const order = (w: Uint32Array, at: number) => {
    const magnitude = (BigInt(w[at + 2]! & 0x7fff) << 63n) +
      ((BigInt(w[at + 1]! & 0x7fff_ffff) << 32n) | BigInt(w[at]!));
    return w[at + 2]! & 0x8000 ? -magnitude : magnitude;
  };
  const d = order(a, x) - order(b, y);
  return d >= -1n && d <= 1n;
}

const VECTORS = [
  "#DE",
  "#DB",
  "NMI",
  "#BP",
  "#OF",
  "#BR",
  "#UD",
  "#NM",
  "#DF",
  "",
  "#TS",
  "#NP",
  "#SS",
  "#GP",
  "#PF",
  "",
  "#MF",
  "#AC",
  "#MC",
  "#XM",
];

/** Vector, error code, address: what both sides can tell. */
function describeFault(words: Uint32Array, at: number): string {
  if (words[at + R.SIGNAL / 4] === 0) return "none";
  const vector = words[at + R.TRAP / 4]!;
  // An address that is not canonical is #SS(0) if the stack segment is implied; the software CPU always says #GP(0).
  const name = vector === 12 ? "#GP" : VECTORS[vector] ?? `vector ${vector | 0}`;
  const error = vector === 14 || vector === 13 || vector === 12 ? `(${words[at + R.ERROR / 4]!.toString(16)})` : "";
  const address = vector === 14 ? ` of ${hex(words, at + R.CR2 / 4, 2)}` : "";
  return `${name}${error}${address} at ${hex(words, at + R.RIP / 4, 2)}`;
}

function flagNames(v: number): string {
  const names: [number, string][] = [[0x800, "O"], [0x400, "D"], [0x80, "S"], [0x40, "Z"], [0x10, "A"], [4, "P"], [
    1,
    "C",
  ]];
  return names.map(([bit, n]) => v & bit ? n : "-").join("");
}

/** The state a case starts from, for a report. */
export function describeState(words: Uint32Array, at: number, floating: boolean): string[] {
  const lines: string[] = [];
  for (let n = 0; n < 16; n += 4) {
    lines.push(
      [0, 1, 2, 3].map((k) => `${GPR_NAMES[n + k]!.padStart(3)} ${hex(words, at + 2 * (n + k), 2)}`).join("  "),
    );
  }
  lines.push(`flags ${flagNames(words[at + R.FLAGS / 4]!)}  gs ${hex(words, at + R.GS / 4, 2)}`);
  if (!floating) return lines;
  const fx = at + R.FX / 4;
  for (let n = 0; n < 16; n += 2) {
    lines.push([0, 1].map((k) => `xmm${n + k} ${hex(words, fx + FX.XMM / 4 + 4 * (n + k), 4)}`).join("  "));
  }
  for (let n = 0; n < 16; n += 2) {
    lines.push([0, 1].map((k) => `ymm${n + k} upper ${hex(words, at + R.YMM / 4 + 4 * (n + k), 4)}`).join("  "));
  }
  for (let n = 0; n < 8; n += 4) {
    lines.push(
      [0, 1, 2, 3].map((k) => `st${n + k} ${hex(words, fx + FX.ST / 4 + 4 * (n + k), 3).slice(4)}`).join("  "),
    );
  }
  const control = words[fx]!;
  lines.push(
    `mxcsr ${words[fx + FX.MXCSR / 4]!.toString(16)}  fcw ${(control & 0xffff).toString(16)}  fsw ${
      (control >>> 16).toString(16)
    }  ftw ${(words[fx + 1]! & 0xff).toString(16)}`,
  );
  return lines;
}
