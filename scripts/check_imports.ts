/** Imports point one way: what a room may import, and the files through which rooms of one level meet. */
import { dirname, join, normalize } from "@std/path";
import { conclude, lineOf, sources } from "./tree.ts";

/** The rooms, lower ones first, and what each may import beside itself and the seams. */
const ROOMS: Readonly<Record<string, readonly string[]>> = {
  "src/base": [],
  "ffi": [],
  "src/wasm": ["src/base"],
  "devices": ["src/base"],
  "src/cpu": ["src/base", "src/wasm"],
  "src/engine": ["src/base", "src/wasm", "devices", "src/cpu", "ffi"],
  "src/boot": ["src/base", "src/wasm"],
  "src/host": ["src/base", "devices", "ffi"],
  "src/guest": ["src/base"],
  "src/machine": ["src/base", "devices", "src/engine", "src/boot", "src/host"],
  "src/cli": ["src/base", "src/guest", "src/host", "src/machine", "src/engine"],
  "src/main.ts": ["src/cli"],
};

/**
 * Interfaces and plain data that any room above src/base but devices may import. They import nothing but src/base, devices
 * (whose records they name) and each other, so no cycle can come of them: what an engine owes and is given, the state of a
 * vCPU, what lies where in the shared memory, what a machine is made of.
 */
const SEAMS = ["src/engine/engine.ts", "src/engine/vcpu_state.ts", "src/machine/memory.ts", "src/machine/spec.ts"];
const WITHOUT_SEAMS = ["src/base", "ffi", "src/wasm", "devices"];

/** Static and dynamic imports, and the modules of Workers. */
const IMPORT = /(?:\bfrom\s*|\bimport\s*\(?\s*|\bnew URL\(\s*)"(\.{1,2}\/[^"]*\.ts)"/g;

const findings: string[] = [];
for (const { path, text } of sources([".ts"])) {
  const room = roomOf(path);
  if (room === null) continue; // tests and scripts import what they like
  for (const match of text.matchAll(IMPORT)) {
    const target = normalize(join(dirname(path), match[1]!));
    if (!allowed(path, room, target)) {
      findings.push(`${path}:${lineOf(text, match.index)}: imports ${target}, which is not below ${room}`);
    }
  }
}
conclude("the direction of imports", findings);

function roomOf(path: string): string | null {
  return Object.keys(ROOMS).find((room) => path === room || path.startsWith(`${room}/`)) ?? null;
}

function allowed(path: string, room: string, target: string): boolean {
  const to = roomOf(target);
  if (to === null) return false;
  if (SEAMS.includes(path)) return to === "src/base" || to === "devices" || SEAMS.includes(target);
  if (to === room || ROOMS[room]!.includes(to)) return true;
  return SEAMS.includes(target) && !WITHOUT_SEAMS.includes(room);
}
