/** A software vCPU in a Worker of its own: runs a guest from the state it is given until HLT. */
import { Arena } from "../../src/base/arena.ts";
import { CodeMap } from "../../src/base/code_map.ts";
import { GuestRam } from "../../src/base/ram.ts";
import type { InitialState } from "../../src/engine/engine.ts";
import { SoftVcpu } from "../../src/engine/soft/soft.ts";
import { ARENA_BASE, ARENA_BYTES, RAM_BASE } from "../../src/machine/memory.ts";
import { TestBoard } from "../engine/fixture.ts";

export interface Start {
  readonly memory: WebAssembly.Memory;
  readonly ramBytes: number;
  readonly index: number;
  readonly vcpus: number;
  readonly state: InitialState;
  /** Its loop is compiled before it runs. */
  readonly compiled: boolean;
}

const scope = self as unknown as { onmessage: (event: MessageEvent<Start>) => void; postMessage(reason: string): void };

scope.onmessage = ({ data: { memory, ramBytes, index, vcpus, state, compiled } }) => {
  const arena = new Arena(memory.buffer, ARENA_BASE, ARENA_BYTES);
  const codeMap = new CodeMap(memory.buffer, arena.raw(CodeMap.sizeBytes(ramBytes)), ramBytes);
  const ram = new GuestRam(memory.buffer, RAM_BASE, ramBytes);
  const events = new Int32Array(memory.buffer, arena.raw(64 * 64), 64 * 16);
  const clock = { nowNs: () => 0 };
  const vcpu = new SoftVcpu({
    index,
    vcpus,
    memory,
    ram,
    board: new TestBoard(),
    clock,
    codeMap,
    events,
    eventsIndex: index * 16,
    icount: null,
  });
  vcpu.setState(state);
  const refused = compiled && !vcpu.compileHere();
  const reason = refused ? "not compiled" : vcpu.run(Infinity);
  scope.postMessage(reason === "halt" ? reason : `${reason}: ${vcpu.lastError?.message ?? ""} ${vcpu.describe()}`);
};
