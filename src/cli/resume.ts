/** `trike resume`: a machine that was saved goes on in the foreground, with this process's terminal, files and sockets. */
import { ConfigError } from "../base/errors.ts";
import type { EngineImages } from "../machine/engine_images.ts";
import { startMachine } from "../machine/machine.ts";
import { Snapshot } from "../machine/snapshot.ts";
import { changedDisk, changedShares } from "../machine/snapshot_spec.ts";
import { besideSnapshot } from "../machine/snapshot_layers.ts";
import type { MachineSpec, NetSpec } from "../machine/spec.ts";
import { checkFiles } from "./check.ts";
import { chooseNet } from "./net_option.ts";
import type { ResumeRequest, RunRequest } from "./parse.ts";
import { nativeCode } from "./engines.ts";
import { findEngine, type RunParts, runSpec } from "./run.ts";
import { mistake, quoted } from "./values.ts";

export async function resumeMachine(
  request: ResumeRequest,
  parts: Omit<RunParts, "start">,
  images: EngineImages | null,
): Promise<number> {
  const snapshot = new Snapshot(request.file);
  try {
    const saved = snapshot.machine, run = runRequest(request, saved.spec);
    checkFiles(run);
    if (!request.force) {
      const changed = changedDisk(saved.disks, run.disks) ?? changedShares(saved.shares ?? [], saved.spec.shares ?? []);
      if (changed !== null) {
        throw new ConfigError(`Cannot resume ${quoted(request.file)}: ${changed}; --force resumes all the same`);
      }
    }
    const start = (spec: MachineSpec) => startMachine(spec, { snapshot, images });
    const engine = await findEngine(run, { ...parts, start });
    const net = netOf(request, saved.spec);
    const { disks, serial, noReboot, trace } = run;
    const native = nativeCode(run, engine, parts.say);
    const spec = { ...saved.spec, engine, ...native, disks, serial, ...(net ? { net } : {}), noReboot, trace };
    return await runSpec(spec, run, { ...parts, start });
  } finally {
    snapshot.close();
  }
}

/** What `trike run` would have been asked for. */
function runRequest(request: ResumeRequest, saved: MachineSpec): RunRequest {
  const { run, force } = request;
  const engine = request.engine ?? saved.engine;
  if (engine !== saved.engine && !force) {
    throw mistake("--engine", engine, `${saved.engine}, which the machine was saved on; --force tries all the same`);
  }
  const same = <T>(flag: string, given: readonly T[] | null, was: readonly T[]): readonly T[] => {
    if (given !== null && given.length !== was.length) {
      throw new ConfigError(`Found ${flag} ${given.length} times: expected ${was.length}, as the machine was saved`);
    }
    return given ?? was;
  };
  return {
    ...run,
    engine,
    memoryBytes: saved.memoryBytes,
    cpus: saved.cpus,
    disks: same("--disk", request.disks, besideSnapshot(request.file, saved.disks)),
    serial: same("--serial", request.serial, saved.serial),
    noReboot: run.noReboot || saved.noReboot,
    icount: saved.icount,
  };
}

/** The network device stays, with its address and its ROM; where it leads may change. */
export function netOf(
  { run, publish }: Pick<ResumeRequest, "run" | "publish">,
  saved: MachineSpec,
): NetSpec | undefined {
  const was = saved.net;
  if (run.net === null && publish === null) return was;
  if (!was) {
    throw mistake(run.net ? "--net" : "--publish", run.net?.kind ?? "", "none: the machine has no network device");
  }
  if (run.net?.kind === "none") throw mistake("--net", "none", "a network: the machine has a network device");
  if (run.net === null && was.kind === "user") return { ...was, publish: publish! };
  const { net } = chooseNet({ net: run.net, publish: run.publish, icount: saved.icount, name: "", allowed: true });
  const { mac, model, queues, rom } = was;
  const device = { ...(model ? { model } : {}), ...(queues ? { queues } : {}), ...(rom ? { rom } : {}) };
  return net && { ...device, ...net, mac };
}
