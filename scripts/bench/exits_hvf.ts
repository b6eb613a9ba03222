/**
 * The other half of `deno task bench exits`: what the engine hvf does for an exit, against the double of the framework. Which
 * calls it makes, what each costs in the binding, what all else of ours costs, and what is the double's.
 *
 * The binding's part is measured on the double's library where no thread has attached to it: its functions then refuse at once,
 * so that the way there and back is all there is. It is what a Mac would see besides the framework's own time.
 */
import { hv_x86_reg_t, HYPERVISOR_PATH, HYPERVISOR_SYMBOLS } from "../../ffi/hypervisor_x86_64.ts";
import { VMCS } from "../../ffi/vmx.ts";
import { HostError } from "../../src/base/errors.ts";
import type { Engine } from "../../src/engine/engine.ts";
import { hvfEngine } from "../../src/engine/hvf/hvf.ts";
import type { Hypervisor } from "../../src/engine/hvf/library.ts";
import { followWrites } from "../../tests/double/cpu.ts";
import { openDouble, writeDouble } from "../../tests/double/double.ts";
import { BoardRig } from "../../tests/engine/board_rig.ts";
import { code } from "../../tests/engine/law_rig.ts";
import { median } from "./figures.ts";

const EXITS = 2000, ROUNDS = 9, WARM_UPS = 3, DONE = 21;
const BINDING_CALLS = 20_000, BINDING_ROUNDS = 9;

/** In 64-bit mode, the only one in which the engine does moves itself: the access, and what its registers are before. */
const PROGRAMS = { PIO: ["66baf80c", "ed"], MMIO: ["bb000000e0", "8b03"], CPUID: ["31c0", "5131c00fa259"] } as const;

function program([prepare, access]: readonly [string, string]): Uint8Array {
  const count = [EXITS & 255, EXITS >> 8, 0, 0].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  const back = (-(access.length / 2 + 4) & 255).toString(16);
  return code(
    prepare,
    `b9${count}`, // mov ecx, EXITS
    access,
    "ffc9", // dec ecx
    `75${back}`, // jnz
    "b015", // mov al, 21
    "e6f4", // out 0xf4, al
    "f4", // hlt
  );
}

/** Times in nanoseconds, of one round: medians of them know nothing of a busy host's pauses, nor of the collector's. */
class Samples {
  readonly #ns = new Float64Array(2 * EXITS);
  count = 0;

  add(ms: number): void {
    this.#ns[this.count++ % this.#ns.length] = ms * 1e6;
  }

  get median(): number {
    return median([...this.#ns.subarray(0, this.count)]) ?? 0;
  }
}

const meters = new Map<string, Samples>();
const VMCS_NAMES = namesOf(VMCS), REGISTER_NAMES = namesOf(hv_x86_reg_t);

function namesOf(table: Readonly<Record<string, number>>): Map<number, string> {
  return new Map(Object.entries(table).map(([name, value]) => [value, name]));
}

/** What a call is about: the field or register that is its second argument. */
function aboutOf(name: string, argument: unknown): string {
  const names = name.includes("vmcs") ? VMCS_NAMES : name.includes("register") ? REGISTER_NAMES : null;
  return names?.get(Number(argument)) ?? "";
}

type Call = (...args: unknown[]) => unknown;

/** The call that enters the guest: from one to the next it is an exit. */
const ENTER = "hv_vcpu_run_until";
/** When the last call ended, the time outside of calls since the guest was entered, and that of each exit. */
let endedMs = 0, outsideMs = 0;
const outside = new Samples();

/** The same function, which counts and times its calls; its own bookkeeping is in their time. */
function metered(name: string, arity: number, call: Call): Call {
  const byArgument = new Map<unknown, Samples>(), keyed = /vmcs|register/.test(name);
  return (a, b, c, ...more) => {
    const startMs = performance.now();
    outsideMs += startMs - endedMs;
    if (name === ENTER) {
      outside.add(outsideMs);
      outsideMs = 0;
    }
    const argument = keyed ? b : undefined;
    let meter = byArgument.get(argument);
    if (!meter) {
      meter = new Samples();
      byArgument.set(argument, meter);
      meters.set(`${name} ${aboutOf(name, argument)}`.trimEnd(), meter);
    }
    // As many as it has: others would take another way into C.
    const answer = arity === 3 ? call(a, b, c) : arity === 2 ? call(a, b) : call(...[a, b, c, ...more].slice(0, arity));
    meter.add(performance.now() - startMs);
    endedMs = performance.now();
    return answer;
  };
}

/** What a meter adds to the time outside of a call, in nanoseconds. */
function meterNs(): number {
  const empty = metered(ENTER, 3, () => 0);
  const rounds = Array.from({ length: BINDING_ROUNDS }, () => {
    outside.count = outsideMs = 0;
    endedMs = performance.now();
    for (let n = 0; n < BINDING_CALLS; n++) empty(0, n, 0);
    return outside.median;
  });
  meters.clear();
  return median(rounds)!;
}

/** Whoever opens the framework on this thread gets the double, metered. */
function openMetered(path: string): void {
  openDouble(path);
  const real = Deno.dlopen;
  const patched = (name: string | URL, symbols: Deno.ForeignLibraryInterface) => {
    const library = real(name, symbols);
    if (name !== HYPERVISOR_PATH) return library;
    const own = Object.entries(library.symbols as Record<string, unknown>);
    const wrapped = own.map(([key, f]) => {
      const symbol = symbols[key]!, arity = "parameters" in symbol ? symbol.parameters.length : 0;
      return [key, typeof f === "function" ? metered(key, arity, f as Call) : f];
    });
    return { ...library, symbols: Object.fromEntries(wrapped) };
  };
  Object.defineProperty(Deno, "dlopen", { value: patched, configurable: true, writable: true });
}

/**
 * A loop of each call that exits make, as the engine makes it: what V8 makes of a call depends on its place. Each has buffers of
 * its own kind.
 */
const out = new Uint8Array(8);
const LOOPS: Readonly<Record<string, (hv: Hypervisor, n: number) => void>> = {
  hv_vcpu_run_until: (hv, n) => {
    for (let i = 0; i < n; i++) hv.hv_vcpu_run_until(0, BigInt(i));
  },
  hv_vmx_vcpu_read_vmcs: (hv, n) => {
    for (let i = 0; i < n; i++) hv.hv_vmx_vcpu_read_vmcs(0, i, out);
  },
  hv_vmx_vcpu_write_vmcs: (hv, n) => {
    for (let i = 0; i < n; i++) hv.hv_vmx_vcpu_write_vmcs(0, i, BigInt(i));
  },
  hv_vcpu_read_register: (hv, n) => {
    for (let i = 0; i < n; i++) hv.hv_vcpu_read_register(0, i, out);
  },
  hv_vcpu_write_register: (hv, n) => {
    for (let i = 0; i < n; i++) hv.hv_vcpu_write_register(0, i, BigInt(i));
  },
  hv_vcpu_get_exec_time: (hv, n) => {
    for (let i = 0; i < n; i++) hv.hv_vcpu_get_exec_time(0, out);
  },
};

/** Nanoseconds of a call's way to C and back, by its name. */
function bindingNs(path: string): Map<string, number> {
  const symbols = Object.fromEntries(
    Object.keys(LOOPS).map((name) => [name, HYPERVISOR_SYMBOLS[name as keyof typeof HYPERVISOR_SYMBOLS]]),
  );
  const hv = Deno.dlopen(path, symbols as Deno.ForeignLibraryInterface).symbols as unknown as Hypervisor;
  return new Map(
    Object.entries(LOOPS).map(([name, loop]) => {
      const rounds = Array.from({ length: BINDING_ROUNDS }, () => {
        const startMs = performance.now();
        loop(hv, BINDING_CALLS);
        return (performance.now() - startMs) * 1e6 / BINDING_CALLS;
      });
      return [name, median(rounds)!];
    }),
  );
}

/** Of one exit: what passed outside of calls, and in them by name. */
interface Split {
  readonly outsideNs: number;
  readonly calls: ReadonlyMap<string, { readonly count: number; readonly ns: number }>;
}

function round(rig: BoardRig, guest: Uint8Array, eachNs: number): Split {
  rig.long(guest, {});
  for (const meter of meters.values()) meter.count = 0;
  outside.count = 0;
  rig.run();
  const { control } = rig.pc;
  if (control.endCode !== DONE) throw new HostError("The bench's guest did not come to its end on the double");
  control.powerOn();
  const calls = new Map<string, { count: number; ns: number }>();
  for (const [name, meter] of meters) {
    // What is called less often belongs to the start and the end.
    if (meter.count >= EXITS / 2) calls.set(name, { count: meter.count / EXITS, ns: meter.median });
  }
  const looks = [...calls.values()].reduce((sum, { count }) => sum + count, 0);
  return { outsideNs: outside.median - looks * eachNs, calls };
}

const us = (ns: number) => (ns / 1000).toFixed(2).padStart(8);

function report(kind: string, splits: readonly Split[], binding: Map<string, number>): void {
  const rows = [...splits[0]!.calls.keys()].map((name) => ({
    name,
    count: median(splits.map((s) => s.calls.get(name)?.count ?? 0))!,
    ns: median(splits.map((s) => s.calls.get(name)?.ns ?? 0))!,
    wayNs: binding.get(name.split(" ")[0]!) ?? 0,
  }));
  const sum = (of: (row: typeof rows[number]) => number) => rows.reduce((total, row) => total + row.count * of(row), 0);
  console.log(`\n${kind}: ${sum(() => 1).toFixed(1)} calls an exit`);
  console.log(`${us(median(splits.map((s) => s.outsideNs))!)} µs  the loop, the bus and the device`);
  console.log(`${us(sum((row) => row.wayNs))} µs  the calls' way to C and back`);
  console.log(`${us(sum((row) => row.ns - row.wayNs))} µs  the double, in place of the framework and the processor`);
  console.log(" an exit  way, ns  double, ns  call");
  for (const { name, count, ns, wayNs } of rows) {
    const columns = [count.toFixed(2).padStart(8), wayNs.toFixed(0).padStart(8), (ns - wayNs).toFixed(0).padStart(11)];
    console.log(`${columns.join(" ")}  ${name}`);
  }
}

/** Prints the split for each kind of exit. Where there is no double, says so. */
export async function benchHvfExits(folder: string): Promise<void> {
  if (Deno.build.os !== "linux" || Deno.build.arch !== "x86_64") {
    console.log("hvf skipped: its double is a library for x86-64 Linux");
    return;
  }
  const [attached, bare] = ["attached", "bare"].map((name) => {
    Deno.mkdirSync(`${folder}/${name}`);
    return writeDouble(`${folder}/${name}`);
  }) as [string, string];
  const binding = bindingNs(bare), eachNs = meterNs();
  openMetered(attached);
  const engine: Engine = {
    ...hvfEngine,
    openVcpu(parts) {
      followWrites(parts.codeMap);
      return hvfEngine.openVcpu(parts);
    },
  };
  console.log(`\nhvf against its double, medians of ${ROUNDS} times ${EXITS} exits`);
  for (const [kind, pieces] of Object.entries(PROGRAMS)) {
    using rig = await BoardRig.open({ engine });
    const guest = program(pieces);
    for (let i = 0; i < WARM_UPS; i++) round(rig, guest, eachNs);
    report(kind, Array.from({ length: ROUNDS }, () => round(rig, guest, eachNs)), binding);
  }
}

if (import.meta.main) {
  const folder = Deno.makeTempDirSync({ prefix: "trike-exits-" });
  try {
    await benchHvfExits(folder);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
  Deno.exit(0);
}
