/**
 * What a vCPU's Worker does: assembles the machine over the posted memory, opens the engine's vCPU, and runs it whenever told to.
 *
 * | message | to the Worker | from the Worker |
 * |---|---|---|
 * | open | memory and parts list | ready, or failed |
 * | restore | becomes what its record in the arena says | ready, or failed |
 * | run | a loader's state for vCPU 0 (null: wait for INIT and SIPI; "restored": as it is) | left, once the machine has ended; or failed |
 * | | | trouble, each time the host fails a disk it serves in a new way |
 *
 * While a vCPU runs, its Worker reads no messages: shared words steer it.
 */
import { messageOf } from "../base/errors.ts";
import type { Engine, InitialState, SharedCompiler, Vcpu, VcpuStats } from "../engine/engine.ts";
import { IcountClock } from "../host/host_clock.ts";
import { POSTED_PORTS } from "./addresses.ts";
import { PcBoard } from "./board.ts";
import { EndCause } from "./control.ts";
import { DiskServer } from "./disks.ts";
import { attachHostChips } from "./host_chips.ts";
import { assemblePc, type Pc, type PcOptions } from "./pc.ts";
import type { MachineSpec } from "./spec.ts";
import { TraceLog, TracingBoard, TracingVcpu } from "./trace.ts";
import { runVcpu } from "./vcpu_loop.ts";

export type ToVcpu =
  | {
    readonly kind: "open";
    readonly pc: PcOptions;
    readonly index: number;
    /** An image that the engine has made before, or null. */
    readonly image: Uint8Array<ArrayBuffer> | null;
    readonly compiler: SharedCompiler | null;
  }
  | { readonly kind: "restore" }
  | { readonly kind: "run"; readonly state: InitialState | null | "restored" };

type Opening = Extract<ToVcpu, { kind: "open" }>;

export type FromVcpu =
  /** `saves`: the engine can save and restore its vCPUs; `image`: what it has made anew, to be kept. */
  | { readonly kind: "ready"; readonly saves: boolean; readonly image: Uint8Array<ArrayBuffer> | null }
  | {
    readonly kind: "left";
    /** What the vCPU died of, or null. */
    readonly died: string | null;
    readonly where: string;
    readonly stats: VcpuStats;
  }
  | { readonly kind: "trouble"; readonly sentence: string }
  | { readonly kind: "failed"; readonly message: string };

/** Serves the Worker it is called in. */
export function serveVcpu(loadEngine: (spec: MachineSpec) => Promise<Engine>): void {
  const scope = self as unknown as {
    onmessage: ((e: MessageEvent<ToVcpu>) => void) | null;
    postMessage(message: FromVcpu): void;
  };
  let opened: OpenedVcpu | undefined;
  scope.onmessage = async ({ data }) => {
    try {
      if (data.kind === "open") {
        const onTrouble = (sentence: string) => scope.postMessage({ kind: "trouble", sentence });
        opened = new OpenedVcpu(await loadEngine(data.pc.spec), data, onTrouble);
        await attachHostChips(opened.pc, data.pc.spec, data.pc.memory);
        scope.postMessage({ kind: "ready", saves: opened.saves, image: opened.takeImage() });
      } else if (data.kind === "restore") {
        opened!.restore();
        scope.postMessage({ kind: "ready", saves: true, image: null });
      } else {
        scope.postMessage(opened!.run(data.state));
      }
    } catch (error) {
      opened?.pc.control.end(EndCause.HOST_ERROR);
      scope.postMessage({ kind: "failed", message: messageOf(error) });
    }
  };
}

class OpenedVcpu {
  readonly pc: Pc;
  readonly #index: number;
  readonly #vcpu: Vcpu;
  readonly #log: TraceLog | null;

  constructor(engine: Engine, { pc: options, index, image, compiler }: Opening, onTrouble: (sentence: string) => void) {
    const { memory, spec } = options;
    const pc = this.pc = assemblePc(options);
    this.#index = index;
    const log = this.#log = spec.trace && TraceLog.toFile(index, pc.clock, spec.trace);
    const disks = spec.icount && spec.disks.length > 0 ? new DiskServer(pc, spec.disks, onTrouble) : null;
    const board = new PcBoard(pc.lock, pc.ports, pc.mmio, pc.apics, index, pc.counters.of(index), disks);
    const vcpu = engine.openVcpu({
      index,
      vcpus: spec.cpus,
      ...(spec.cpu ? { cpu: spec.cpu } : {}),
      ...(spec.tiers ? { tiers: spec.tiers } : {}),
      ...(image ? { image } : {}),
      ...(compiler ? { compiler } : {}),
      memory,
      ram: pc.ram,
      memoryMap: pc.memoryMap,
      board: this.#log ? new TracingBoard(board, this.#log, pc.ports, pc.mmio) : board,
      clock: pc.clock,
      codeMap: pc.codeMap,
      events: pc.control.events,
      eventsIndex: pc.control.eventsIndex(index),
      sleeper: {
        rises: () => pc.control.rises(index),
        wait: (rises, ms) => void pc.control.waitEvent(index, rises, ms),
      },
      icount: pc.clock instanceof IcountClock ? pc.clock : null,
      chips: pc.chips,
      ...(spec.irqchip ? { irqchip: spec.irqchip } : {}),
      poked: true,
      ...(log?.has("jit") ? { trace: (what: string) => log.line("jit", what) } : {}),
      posted: POSTED_PORTS,
      // A trace tells of every write.
      ...(spec.trace ? {} : { doorbells: pc.doorbells }),
    });
    if (vcpu.poke) pc.control.onRise = (risen) => vcpu.poke!(risen);
    const told = this.#log?.has("exits") || this.#log?.has("samples");
    this.#vcpu = this.#log && told ? new TracingVcpu(vcpu, this.#log) : vcpu;
  }

  get saves(): boolean {
    return this.#vcpu.save !== undefined && this.#vcpu.restore !== undefined;
  }

  takeImage(): Uint8Array<ArrayBuffer> | null {
    return this.#vcpu.takeImage?.() ?? null;
  }

  /** Throws RestoreError. */
  restore(): void {
    this.#vcpu.restore!(this.pc.vcpuRecords[this.#index]!);
  }

  run(state: InitialState | null | "restored"): FromVcpu {
    const pc = this.pc, vcpu = this.#vcpu;
    if (state !== "restored") {
      vcpu.reset();
      if (state) vcpu.setState(state);
    }
    const died = runVcpu({
      index: this.#index,
      vcpu,
      control: pc.control,
      clock: pc.clock,
      icount: pc.clock instanceof IcountClock ? pc.clock : null,
      timers: pc.timers,
      lock: pc.lock,
      counters: pc.counters.of(this.#index),
      save: () => vcpu.save?.(pc.vcpuRecords[this.#index]!),
    });
    this.#log?.flush();
    return { kind: "left", died, where: firstLine(vcpu.describe()), stats: vcpu.stats() };
  }
}

function firstLine(text: string): string {
  const end = text.indexOf("\n");
  return end < 0 ? text : text.slice(0, end);
}
