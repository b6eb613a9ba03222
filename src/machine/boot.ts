/** What puts the guest into memory: firmware, or a kernel with what it is told of the board. */
import { buildAcpiTables } from "../boot/acpi/acpi.ts";
import type { BoardDescription } from "../boot/acpi/board.ts";
import { resetVector } from "../boot/firmware.ts";
import { loadKernel } from "../boot/load_kernel.ts";
import { buildMpTable } from "../boot/mp_table.ts";
import { placedSmbios, uuidBytes } from "../boot/smbios.ts";
import type { InitialState } from "../engine/engine.ts";
import { ADDRESS } from "./addresses.ts";
import { describeBoard } from "./board_description.ts";
import type { Pc } from "./pc.ts";
import type { MachineSpec } from "./spec.ts";
import { setLinearMode } from "./video.ts";

export { describeBoard } from "./board_description.ts";

/** Loads the guest; the board is powered on. Throws ConfigError for what is wrong with the user's files. */
export function bootPc(pc: Pc, spec: MachineSpec): InitialState {
  if (spec.firmware) return resetVector();
  const board = describeBoard(spec);
  return loadKernel(pc.ram, {
    kernel: spec.kernel,
    initrd: spec.initrd,
    append: spec.append,
    ...(spec.modules ? { modules: spec.modules } : {}),
    ...(spec.env ? { env: spec.env } : {}),
    acpiTables: (base) => buildAcpiTables(board, base),
    framebuffer: (width, height) => setLinearMode(pc, width, height),
    otherTables: (base) => otherTables(board, spec, base),
    reserved: [{ gpa: ADDRESS.ECAM, sizeBytes: ADDRESS.ECAM_RESERVED_BYTES }],
  });
}

/** What a kernel scans the BIOS area for: MP tables and SMBIOS. */
function otherTables(board: BoardDescription, { cpus, memoryBytes, uuid }: MachineSpec, base: number): Uint8Array {
  const mp = buildMpTable(board, base);
  const at = Math.ceil(mp.length / 16) * 16;
  const smbios = placedSmbios({ cpus, memoryBytes, uuid: uuidBytes(uuid), uefi: false }, base + at);
  const bytes = new Uint8Array(at + smbios.length);
  bytes.set(mp);
  bytes.set(smbios, at);
  return bytes;
}
