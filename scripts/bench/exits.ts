/**
 * `deno task bench exits`: what an exit costs, from the guest through KVM, the loop, the bus and the device, and back, beside
 * the least that a C program could do. Rounds of both take turns, so that a busy host slows both. Then what the engine hvf does
 * for an exit, see exits_hvf.ts.
 */
import { HostError } from "../../src/base/errors.ts";
import { probeKvm } from "../../src/engine/kvm/probe.ts";
import type { InitialState, IrqChip } from "../../src/engine/engine.ts";
import { kvmEngine } from "../../src/engine/kvm/kvm.ts";
import { BoardRig } from "../../tests/engine/board_rig.ts";
import { CODE, code } from "../../tests/engine/law_rig.ts";
import { benchHvfExits } from "./exits_hvf.ts";
import { median } from "./figures.ts";

const GOAL = 1.3;
const EXITS = 4000, ROUNDS = 15, ALLOCATION_EXITS = 100_000, WARM_UPS = 20;
const DONE = 21;

/** CONFIG_ADDRESS, and the vendor of the first PCI function. */
const PROGRAMS = { PIO: ["baf80c0000", "ed"], MMIO: ["bb000000e0", "8b03"] } as const;

/** A loop of `exits` accesses, then the write to a port that ends it. */
function program(kind: keyof typeof PROGRAMS, exits: number): Uint8Array {
  const [prepare, access] = PROGRAMS[kind];
  const count = Array.from({ length: 4 }, (_, i) => ((exits >>> (8 * i)) & 255).toString(16).padStart(2, "0")).join("");
  const back = (-(access.length / 2 + 3) & 255).toString(16);
  return code(
    prepare,
    `b9${count}`, // mov ecx, exits
    access,
    `49`, // dec ecx
    `75${back}`, // jnz
    "b015", // mov al, 21
    "e6f4", // out 0xf4, al
    "f4", // hlt
  );
}

const data = { selector: 16, base: 0, limit: 0xffff_ffff, rights: 0xc093 };
/** Flat 32-bit protected mode, as the C program has it. */
const STATE: InitialState = {
  rip: CODE,
  rflags: 2,
  cr0: 0x11,
  cr3: 0,
  cr4: 0,
  efer: 0,
  gpr: { rsp: 0x9000 },
  segments: { cs: { ...data, selector: 8, rights: 0xc09b }, ds: data, es: data, ss: data, fs: data, gs: data },
  gdtr: { base: 0, limit: 0 },
  idtr: { base: 0, limit: 0 },
};

/** Nanoseconds of one run of the guest that is at CODE. */
function run(rig: BoardRig): number {
  rig.vcpu.setState(STATE);
  const startMs = performance.now();
  rig.run();
  const ns = (performance.now() - startMs) * 1e6;
  const { control } = rig.pc;
  if (control.endCode !== DONE) throw new HostError("The bench's guest did not come to its end");
  control.powerOn();
  return ns;
}

/** The C program, which answers a line with the nanoseconds of a run. */
class Peer {
  readonly #child: Deno.ChildProcess;
  readonly #in: WritableStreamDefaultWriter<Uint8Array>;
  readonly #out: ReadableStreamDefaultReader<string>;

  constructor(path: string, guest: Uint8Array, irqchip: IrqChip) {
    const hex = [...guest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    const args = [hex, irqchip === "kernel" ? "1" : "0"];
    this.#child = new Deno.Command(path, { args, stdin: "piped", stdout: "piped" }).spawn();
    this.#in = this.#child.stdin.getWriter();
    this.#out = this.#child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  }

  async run(): Promise<number> {
    await this.#in.write(new TextEncoder().encode("run\n"));
    const { value } = await this.#out.read();
    const ns = Number(value);
    if (!(ns > 0)) throw new HostError("The C program of the bench ended early");
    return ns;
  }

  async close(): Promise<void> {
    await this.#in.close();
    await this.#child.status;
  }
}

async function compare(kind: keyof typeof PROGRAMS, irqchip: IrqChip, peerPath: string): Promise<void> {
  const guest = program(kind, EXITS), peer = new Peer(peerPath, guest, irqchip);
  using rig = await BoardRig.open({ engine: kvmEngine, irqchip });
  rig.pc.ram.copyIn(CODE, guest);
  run(rig);
  await peer.run();
  const ours: number[] = [], theirs: number[] = [], ratios: number[] = [];
  for (let i = 0; i < ROUNDS; i++) {
    const mine = run(rig), c = await peer.run();
    ours.push(mine / EXITS);
    theirs.push(c / EXITS);
    ratios.push(mine / c);
  }
  await peer.close();
  const us = (ns: number[]) => (median(ns)! / 1000).toFixed(2).padStart(7);
  const ratio = median(ratios)!, verdict = ratio <= GOAL ? "reached" : "missed";
  console.log(
    `${kind.padEnd(5)} ${irqchip.padEnd(7)} ${us(ours)} µs  ${us(theirs)} µs  ${ratio.toFixed(2)}  ${verdict}`,
  );
}

/** What the loop leaves on the heap: nothing but for rounding, unless it allocates. */
async function allocation(kind: keyof typeof PROGRAMS): Promise<void> {
  using rig = await BoardRig.open({ engine: kvmEngine });
  rig.pc.ram.copyIn(CODE, program(kind, EXITS));
  for (let i = 0; i < WARM_UPS; i++) run(rig);
  rig.pc.ram.copyIn(CODE, program(kind, ALLOCATION_EXITS));
  const { gc } = globalThis as { gc?: () => void };
  gc?.();
  const before = Deno.memoryUsage().heapUsed;
  run(rig);
  const bytes = Deno.memoryUsage().heapUsed - before;
  console.log(
    `${kind.padEnd(5)} ${(bytes / ALLOCATION_EXITS).toFixed(3)} bytes of heap an exit, over ${ALLOCATION_EXITS}`,
  );
}

async function benchKvm(folder: string): Promise<void> {
  const { refusal } = probeKvm();
  if (refusal !== null) {
    console.log(`kvm skipped: ${refusal}`);
    return;
  }
  const source = new URL("../../tests/bench/programs/exits.c", import.meta.url).pathname;
  const made = new Deno.Command("gcc", { args: ["-O2", "-Wall", "-o", `${folder}/exits`, source], stderr: "inherit" })
    .outputSync();
  if (!made.success) throw new HostError("gcc did not compile the peer of the bench");
  console.log(`exit  irqchip    trike          C  ratio (goal: ${GOAL})`);
  for (const irqchip of ["kernel", "user"] as const) {
    for (const kind of ["PIO", "MMIO"] as const) await compare(kind, irqchip, `${folder}/exits`);
  }
  for (const kind of ["PIO", "MMIO"] as const) await allocation(kind);
}

if (import.meta.main) {
  const folder = Deno.makeTempDirSync({ prefix: "trike-exits-" });
  try {
    await benchKvm(folder);
    await benchHvfExits(folder);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
  Deno.exit(0);
}
