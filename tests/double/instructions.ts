/** Instructions that cause VM exits, always or by a control: [sdm3 §26.1]. */
import { DECODED } from "../../src/cpu/x86/decode.ts";
import { STATUS } from "../../src/cpu/x86/ops.ts";
import { RCX, RDI, RSI } from "../../src/cpu/x86/state.ts";
import { EVENT } from "./entry.ts";
import { READ, WRITE } from "./msrs.ts";
import { type Exit, REASON } from "./run.ts";
import type { PortAccess, VCpu } from "./vcpu.ts";
import { CPU, CPU2, CR0_FIXED1, ES, F, FS } from "./vmcs.ts";

/** An exit; "go on" if the guest has gone on by itself; null if the software CPU describes a fault. */
export type Outcome = Exit | "go on" | null;

interface Decoded {
  readonly name: string;
  readonly op: string;
  readonly length: number;
  /** General register and number of the control or debug register, of MOV. */
  readonly gpr: number;
  readonly number: number;
  readonly size: number;
  readonly segment: number;
  readonly addressBits: number;
  readonly repeat: number;
  readonly immediate: boolean;
}

/**
 * The instruction at RIP, before which the software CPU has stopped. `undefined`: it does not know the instruction, which may be
 * one of those that processors with VMX know.
 */
export function instructionExit(v: VCpu, unknown: boolean): Outcome {
  const bytes = v.cpu.fetchBytes();
  if (unknown) return unknownInstruction(v, bytes);
  const d = decode(v, bytes);
  if (!d) return native(v);
  const controls = v.control(F.CPU), controls2 = v.control(F.CPU2);
  const plain = (reason: number): Exit => ({ reason, length: d.length });
  switch (d.name) {
    case "CPUID":
      return plain(REASON.CPUID);
    case "HLT":
      return plain(REASON.HLT);
    case "INVLPG":
      return { ...plain(REASON.INVLPG), qualification: operandAddress(v) };
    case "RDTSC":
      return plain(REASON.RDTSC);
    case "RDTSCP":
      return controls2 & CPU2.RDTSCP ? plain(REASON.RDTSCP) : undefinedOpcode(v);
    case "RDPMC":
      return plain(REASON.RDPMC);
    case "INVD":
      return plain(REASON.INVD);
    case "WBINVD":
      return controls2 & CPU2.WBINVD ? plain(REASON.WBINVD) : native(v);
    case "XSETBV":
      return v.cpu.get("cpl") === 0 && v.cpu.get("cr4") & OSXSAVE ? plain(REASON.XSETBV) : native(v);
    case "INVPCID":
      return controls2 & CPU2.INVPCID ? plain(REASON.INVPCID) : undefinedOpcode(v);
    case "RDRAND":
      return { ...plain(REASON.RDRAND), info: randomInfo(d) };
    case "RDSEED":
      return { ...plain(REASON.RDSEED), info: randomInfo(d) };
    case "RDMSR":
    case "WRMSR":
      return msrAccess(v, d);
    case "IN":
    case "OUT":
    case "INS":
    case "INSB":
    case "OUTS":
    case "OUTSB":
      return portAccess(v, d);
    case "IRET": {
      const outcome = native(v);
      if (outcome === "go on") v.blockedNmi = false;
      return outcome;
    }
    case "INT3":
    case "INTO":
    case "INT1":
      return breakpoint(v, d);
    case "CLTS":
    case "LMSW":
    case "SMSW":
      return statusWord(v, d);
    case "MOV":
      if (d.op.startsWith("0F 21") || d.op.startsWith("0F 23")) return debugRegister(v, d);
      return d.op.startsWith("0F 20") ? readControl(v, d, controls) : writeControl(v, d, controls);
    default:
      return native(v);
  }
}

const OSXSAVE = 1 << 18;
const CR0_TS = 8n, CR0_LMSW = 15n, VMXE = 0x2000n;

function decode(v: VCpu, bytes: Uint8Array): Decoded | null {
  const { decoder } = v.cpu.builder;
  if (decoder.decode(bytes, 0, bytes.length, v.cpu.get("mode") & 7) !== DECODED.OK) return null;
  const row = decoder.rows[decoder.row]!;
  return {
    name: row.name,
    op: row.op,
    length: decoder.length,
    gpr: decoder.d >> 3,
    number: decoder.s,
    size: decoder.size,
    segment: decoder.segment,
    addressBits: decoder.addressBits,
    repeat: decoder.repeat,
    immediate: (row.args ?? "").includes("Iub"),
  };
}

/** Executes the instruction as it is. */
function native(v: VCpu): Outcome {
  const { cpu } = v, stops = cpu.get("exits");
  cpu.put("exits", 0);
  const status = cpu.step();
  cpu.put("exits", stops);
  if (status === STATUS.HALT) v.halted = true;
  return status === STATUS.FAULT ? null : status === STATUS.SHUTDOWN ? { reason: REASON.TRIPLE_FAULT } : "go on";
}

function raise(v: VCpu, vector: number, error: number): null {
  v.cpu.put("excVector", vector);
  v.cpu.put("excError", error);
  return null;
}
/** #UD that VMX brings about, so that nobody takes it for an instruction the software CPU lacks. */
function undefinedOpcode(v: VCpu): null {
  return raise(v, 6, -1);
}

/** The linear address of INVLPG's operand, which the software CPU makes in front of the instruction. */
function operandAddress(v: VCpu): bigint {
  return effectiveAddress(v);
}

function effectiveAddress(v: VCpu): bigint {
  const { decoder } = v.cpu.builder, { cpu } = v;
  const register = (field: number) => (field >> 3) < 16 ? cpu.get64("gpr", field >> 3) : 0n;
  let offset = BigInt(decoder.disp);
  if (decoder.absolute) offset = BigInt(decoder.imm >>> 0) | (BigInt(decoder.immHigh >>> 0) << 32n);
  else {
    offset += register(decoder.base) + (register(decoder.index) << BigInt(decoder.scale));
    if ((decoder.base >> 3) === VBASE_NUMBER) offset += cpu.get64("rip") + BigInt(decoder.length);
  }
  offset = BigInt.asUintN(decoder.addressBits, offset);
  const long = (cpu.get("mode") & 3) === 2, segment = decoder.segment < 0 ? 3 : decoder.segment;
  if (long) return BigInt.asUintN(64, offset + (segment >= FS ? cpu.get64("segBase", segment) : 0n));
  return BigInt.asUintN(32, offset + cpu.get64("segBase", segment));
}
const VBASE_NUMBER = 17;

function msrAccess(v: VCpu, d: Decoded): Outcome {
  const msr = v.cpu.get("gpr", 2 * RCX) >>> 0, read = d.name === "RDMSR";
  if (v.native.has(msr)) {
    if (msr !== 0x10) return native(v);
    return tscAccess(v, d, read);
  }
  const bound = v.managed.get(msr);
  if (bound && bound.access & (read ? READ : WRITE)) {
    if (read) setPair(v, bound.value);
    else bound.value = pair(v);
    return skip(v, d);
  }
  return { reason: read ? REASON.RDMSR : REASON.WRMSR, length: d.length };
}

function tscAccess(v: VCpu, d: Decoded, read: boolean): Outcome {
  if (read) setPair(v, v.msrValue(0x10)!);
  else {
    v.writeMsr(0x10, pair(v));
    v.cpu.put64("tscOffset", v.totalTscOffset);
  }
  return skip(v, d);
}

function pair(v: VCpu): bigint {
  return (v.cpu.get64("gpr", 0) & 0xffff_ffffn) | ((v.cpu.get64("gpr", 2) & 0xffff_ffffn) << 32n);
}
function setPair(v: VCpu, value: bigint): void {
  v.cpu.put64("gpr", value & 0xffff_ffffn, 0);
  v.cpu.put64("gpr", value >> 32n, 2);
}
function skip(v: VCpu, d: Decoded): "go on" {
  v.cpu.put64("rip", v.cpu.get64("rip") + BigInt(d.length));
  return "go on";
}

/** Ports: what the task may not reach faults as ever, by executing the instruction until it reaches the port. */
function portAccess(v: VCpu, d: Decoded): Outcome {
  if (!(v.control(F.CPU) & CPU.UNCOND_IO)) return native(v);
  const { cpu } = v, stops = cpu.get("exits"), rip = cpu.get64("rip");
  let access: PortAccess;
  v.watchesPorts = true;
  try {
    const outcome = native(v);
    // A repeated instruction whose count is 0 reaches no port.
    return outcome;
  } catch (thrown) {
    if (thrown instanceof Error) throw thrown;
    access = thrown as PortAccess;
  } finally {
    v.watchesPorts = false;
    cpu.put("exits", stops);
  }
  cpu.put64("rip", rip);
  const isString = d.name.length > 3 || d.name === "INS";
  let qualification = access.size - 1 | (access.in ? 8 : 0) | (isString ? 16 : 0) | (isString && d.repeat ? 32 : 0);
  if (d.immediate) qualification |= 64;
  const exit = {
    reason: REASON.IO,
    length: d.length,
    qualification: BigInt(qualification) | (BigInt(access.port) << 16n),
  };
  if (!isString) return exit;
  const segment = access.in ? ES : d.segment < 0 ? 3 : d.segment;
  const index = BigInt.asUintN(d.addressBits, cpu.get64("gpr", access.in ? RDI : RSI));
  const long = (cpu.get("mode") & 3) === 2;
  const base = !long || segment >= FS ? cpu.get64("segBase", segment) : 0n;
  v.set(F.IO_RCX, cpu.get64("gpr", RCX));
  v.set(F.IO_RSI, cpu.get64("gpr", RSI));
  v.set(F.IO_RDI, cpu.get64("gpr", RDI));
  v.set(F.IO_RIP, rip);
  const size = { 16: 0, 32: 1, 64: 2 }[d.addressBits]!;
  return { ...exit, linear: BigInt.asUintN(long ? 64 : 32, base + index), info: (size << 7) | (segment << 15) };
}

function randomInfo(d: Decoded): number {
  return (d.gpr << 3) | ({ 16: 0, 32: 1, 64: 2 }[d.size]! << 11);
}

function breakpoint(v: VCpu, d: Decoded): Outcome {
  const vector = { INT3: 3, INTO: 4, INT1: 1 }[d.name]!;
  const overflows = d.name !== "INTO" || (v.read(F.RFLAGS) & 0x800n) !== 0n;
  if (!overflows || !(v.control(F.EXC_BITMAP) & (1 << vector))) return native(v);
  const type = vector === 1 ? EVENT.PRIVILEGED : EVENT.EXCEPTION;
  v.set(F.EXIT_IRQ_INFO, (vector | (type << 8) | 0x8000_0000) >>> 0);
  return { reason: REASON.EXCEPTION, length: d.length };
}

// ---- control registers -----------------------------------------------------------------------------------------------------

/** What the guest reads: bits that the program owns come from the shadow. */
function shown(v: VCpu, cr: 0 | 4): bigint {
  const mask = v.fields.get(cr === 0 ? F.CR0_MASK : F.CR4_MASK) ?? 0n;
  const shadow = v.fields.get(cr === 0 ? F.CR0_SHADOW : F.CR4_SHADOW) ?? 0n;
  return (shadow & mask) | (v.read(cr === 0 ? F.CR0 : F.CR4) & ~mask);
}

function movCr(d: Decoded, kind: number, more = 0n): Exit {
  const qualification = BigInt(d.number | (kind << 4) | (kind < 2 ? d.gpr << 8 : 0)) | more;
  return { reason: REASON.MOV_CR, length: d.length, qualification };
}

function readControl(v: VCpu, d: Decoded, controls: number): Outcome {
  const { cpu } = v;
  if (cpu.get("cpl") !== 0) return native(v);
  if (d.number === 3 && controls & CPU.CR3_STORE) return movCr(d, 1);
  if (d.number === 8 && controls & CPU.CR8_STORE) return movCr(d, 1);
  if (d.number !== 0 && d.number !== 4) return native(v);
  return withShown(v, d.number, () => native(v));
}

/** Runs `body` while the software CPU holds what the guest is to see. */
function withShown<T>(v: VCpu, cr: 0 | 4, body: () => T): T {
  const name = cr === 0 ? "cr0" : "cr4", real = v.cpu.get64(name);
  v.cpu.put64(name, shown(v, cr));
  try {
    return body();
  } finally {
    v.cpu.put64(name, real);
  }
}

function writeControl(v: VCpu, d: Decoded, controls: number): Outcome {
  const { cpu } = v;
  if (cpu.get("cpl") !== 0) return native(v);
  const wide = (cpu.get("mode") & 3) === 2;
  const value = BigInt.asUintN(wide ? 64 : 32, cpu.get64("gpr", d.gpr));
  switch (d.number) {
    case 0:
    case 4: {
      const mask = v.fields.get(d.number === 0 ? F.CR0_MASK : F.CR4_MASK) ?? 0n;
      if ((value ^ shown(v, d.number)) & mask) return movCr(d, 0);
      return setControl(v, d, value, mask);
    }
    case 3: {
      const targets = Array.from({ length: Number(v.fields.get(F.CR3_COUNT) ?? 0n) }, (_, i) => F.CR3_TARGET0 + 2 * i);
      if (controls & CPU.CR3_LOAD && !targets.some((field) => v.fields.get(field) === value)) return movCr(d, 0);
      return native(v);
    }
    case 8:
      return controls & CPU.CR8_LOAD ? movCr(d, 0) : native(v);
    case 2: {
      const outcome = native(v);
      v.cr2 = cpu.get64("cr2");
      return outcome;
    }
    default:
      return native(v);
  }
}

/** A MOV that does not exit: bits that the program owns stay, the others go by the rules of the register. */
function setControl(v: VCpu, d: Decoded, value: bigint, mask: bigint): Outcome {
  const { cpu } = v, name = d.number === 0 ? "cr0" : "cr4", real = cpu.get64(name);
  // In VMX operation NE stays 1 and VMXE too, whoever owns them: [sdm3 §24.8].
  if (d.number === 0 && !(mask & 0x20n) && !(value & 0x20n)) return raise(v, 13, 0);
  if (d.number === 4 && !(mask & VMXE) && !(value & VMXE)) return raise(v, 13, 0);
  if (d.number === 0 && value & ~CR0_FIXED1) return raise(v, 13, 0);
  const next = (value & ~mask) | (real & mask), kept = cpu.get64("gpr", d.gpr);
  // The software CPU knows nothing of VMXE.
  const hidden = d.number === 4 ? VMXE : 0n;
  cpu.put64("gpr", next & ~hidden, d.gpr);
  cpu.put64(name, real & ~hidden);
  const outcome = native(v);
  cpu.put64("gpr", kept, d.gpr);
  cpu.put64(name, outcome === "go on" ? cpu.get64(name) | (next & hidden) : real);
  return outcome;
}

function statusWord(v: VCpu, d: Decoded): Outcome {
  const mask = v.fields.get(F.CR0_MASK) ?? 0n;
  if (d.name === "SMSW") return withShown(v, 0, () => native(v));
  if (v.cpu.get("cpl") !== 0) return native(v);
  if (d.name === "CLTS") {
    if (!(mask & CR0_TS)) return native(v);
    return shown(v, 0) & CR0_TS ? movCr({ ...d, number: 0, gpr: 0 }, 2) : skip(v, d);
  }
  const { decoder } = v.cpu.builder, isMemory = decoder.hasMemory;
  if (isMemory) return movCr({ ...d, number: 0 }, 3, 64n);
  const source = v.cpu.get64("gpr", d.gpr) & 0xffffn;
  // PE can be set and not cleared.
  const differs = (source ^ shown(v, 0)) & mask & CR0_LMSW;
  const exits = (differs & ~1n) !== 0n || (differs & 1n && source & 1n);
  return exits ? movCr({ ...d, number: 0 }, 3, source << 16n) : native(v);
}

function debugRegister(v: VCpu, d: Decoded): Outcome {
  if (v.cpu.get("cpl") !== 0) return native(v);
  const from = d.op.startsWith("0F 21") ? 16 : 0;
  return { reason: REASON.MOV_DR, length: d.length, qualification: BigInt(d.number | from | (d.gpr << 8)) };
}

// ---- what the software CPU does not know --------------------------------------------------------------------------------------

function unknownInstruction(v: VCpu, bytes: Uint8Array): Outcome {
  if (bytes[0] !== 0x0f) return "go on";
  const controls = v.control(F.CPU), zero = v.cpu.get("cpl") === 0;
  if (bytes[1] === 0x37) return { reason: REASON.GETSEC, length: 2 };
  if (bytes[1] !== 0x01) return "go on";
  switch (bytes[2]) {
    case 0xc1:
      return { reason: REASON.VMCALL, length: 3 };
    case 0xc2:
      return { reason: REASON.VMLAUNCH, length: 3 };
    case 0xc3:
      return { reason: REASON.VMRESUME, length: 3 };
    case 0xc4:
      return { reason: REASON.VMXOFF, length: 3 };
    case 0xc8:
      return zero && controls & CPU.MONITOR ? { reason: REASON.MONITOR, length: 3 } : "go on";
    case 0xc9:
      return zero && controls & CPU.MWAIT ? { reason: REASON.MWAIT, length: 3 } : "go on";
    default:
      return "go on";
  }
}
