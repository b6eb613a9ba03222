/** A vCPU: what belongs to it beside the software CPU's state, and the calls that read and write it. */
import { S } from "../../src/cpu/x86/state.ts";
import { HV } from "./codes.ts";
import { Cpu } from "./cpu.ts";
import { GuestState } from "./guest_state.ts";
import { canManage, mayAccess, MSR_EFER, MSR_PAT, MSR_TSC, NATIVE } from "./msrs.ts";
import { put64 } from "./out.ts";
import { H, type Process, V } from "./process.ts";
import { type Quirks, unpackQuirks } from "./quirks.ts";
import { machNs } from "./time.ts";
import { CONTROLS, F, fieldOf, SEGMENT, writeMasks } from "./vmcs.ts";

/** Thrown through the software CPU where an access to a port comes to be known. */
export interface PortAccess {
  readonly port: number;
  readonly size: number;
  readonly in: boolean;
}

/** Fields that every entry checks by themselves. */
const STEPS: ReadonlySet<number> = new Set([
  F.RIP,
  F.RFLAGS,
  F.INTERRUPTIBILITY,
  F.ACTIVITY,
  F.ENTRY_IRQ_INFO,
  F.ENTRY_EXC_ERROR,
  F.ENTRY_INSTR_LEN,
]);

export class VCpu {
  readonly cpu: Cpu;
  readonly state: GuestState;
  readonly quirks: Quirks;
  /** Fields of the VMCS that are not registers. */
  readonly fields = new Map<number, bigint>();
  readonly native = new Set<number>();
  /** Bound MSRs: value, and what the guest may do without an exit. */
  readonly managed = new Map<number, { value: bigint; access: number }>();
  /** Added to the host's counter. */
  tscOffset = 0n;
  tscRelative = false;
  apicAddress = -1n;
  /** Port accesses of the guest stop the processor. */
  watchesPorts = false;
  blockedNmi = false;
  halted = false;
  everRan = false;
  /** Controls, or registers other than those of `STEPS`, have been written since an entry found nothing wrong. */
  controlsDirty = true;
  guestDirty = true;
  lastEntryFlags = 0;
  ranNs = 0;
  idleNs = 0;
  random: number;
  /** CR2 before the software CPU came upon its last page fault. */
  cr2 = 0n;

  constructor(readonly process: Process, readonly id: number, compiles: boolean) {
    this.quirks = unpackQuirks(process.words[H.QUIRKS]!);
    this.random = (this.quirks.seed + id * 7919) | 1;
    const port = (number: number, size: number, isIn: boolean) => {
      if (this.watchesPorts) throw { port: number & 0xffff, size, in: isIn } satisfies PortAccess;
      return -1;
    };
    const cpu: Cpu = this.cpu = new Cpu(process, id, {
      ioRead: (number, size) => port(number!, size!, true),
      ioWrite: (number, size) => void port(number!, size!, false),
      cpuid: () => {},
      readMsr: () => 0,
      writeMsr: () => 0,
      readTpr: () => this.state.tpr >> 4,
      writeTpr: (value) => void (this.state.tpr = (value! & 15) << 4),
      readTsc: () => cpu.put64("answer", machNs()),
    }, compiles);
    this.state = new GuestState(cpu);
    process.longs[(process.vcpu(id) + V.MEMORY) / 2] = cpu.address;
    this.#reset();
  }

  /** All zero, as a new VMCS, but for what must be 1. */
  #reset(): void {
    for (const [field, { must }] of Object.entries(CONTROLS)) this.fields.set(Number(field), BigInt(must));
    const { state, cpu } = this;
    cpu.put64("xcr0", 1);
    cpu.put64("dr", 0xffff_0ff0, 6);
    cpu.put64("dr", 0x400, 7);
    cpu.put64("pat", 0x0007_0406_0007_0406n);
    cpu.put("mxcsr", 0x1f80);
    cpu.dv.setUint16(cpu.base + S.fcw, 0x37f, true);
    cpu.u8.fill(1, cpu.base + S.fempty, cpu.base + S.fempty + 8);
    state.writeField(F.RFLAGS, 2n);
    state.writeField(F.CR0, 0x20n);
    state.writeField(F.CR4, 0x2000n);
    for (let n = 0; n < 8; n++) state.writeField(SEGMENT.AR + 2 * n, 1n << 16n);
    cpu.put("cpl", 0);
  }

  /** Any field that exists. */
  read = (field: number): bigint => {
    if (field === F.INTERRUPTIBILITY) return this.#blocking();
    if (field === F.ACTIVITY) return this.halted ? 1n : this.fields.get(field) ?? 0n;
    return this.state.readField(field) ?? this.fields.get(field) ?? 0n;
  };
  set(field: number, value: bigint | number): void {
    this.fields.set(field, BigInt(value));
  }
  control(field: number): number {
    return Number(this.fields.get(field) ?? 0n) | 0;
  }

  /** The software CPU knows that something blocks; which of the two, RFLAGS.IF tells if the program does not. */
  #blocking(): bigint {
    const written = this.fields.get(F.INTERRUPTIBILITY) ?? 0n;
    const told = written & 3n || (this.state.readField(F.RFLAGS)! & 0x200n ? 1n : 2n);
    const shadow = this.cpu.get("inhibit") === 0 ? 0n : told;
    return shadow | (this.blockedNmi ? 8n : 0n) | (written & ~0xbn);
  }

  readVmcs(field: number, out: bigint): number {
    const known = fieldOf(field);
    if (!known || known.access === "none") return HV.BAD_ARGUMENT;
    return put64(out, this.read(field)) ? HV.SUCCESS : HV.BAD_ARGUMENT;
  }

  writeVmcs(field: number, value: bigint): number {
    const known = fieldOf(field);
    if (!known || known.access !== "rw") return HV.BAD_ARGUMENT;
    const cut = BigInt.asUintN(known.bits, value);
    if (!STEPS.has(field)) this.guestDirty = true;
    if (!STEPS.has(field) && (field & 0xc00) === 0) this.controlsDirty = true;
    const [must, may] = writeMasks(field);
    const fits = (cut & must) === must && (cut & ~may) === 0n;
    if (!fits && !(this.quirks.lateChecks && CONTROLS[field])) return HV.BAD_ARGUMENT;
    if (field === F.INTERRUPTIBILITY) {
      this.cpu.put("inhibit", cut & 3n ? 1 : 0);
      this.blockedNmi = (cut & 8n) !== 0n;
    } else if (field === F.ACTIVITY) {
      this.halted = cut === 1n;
      this.fields.set(field, this.halted ? 0n : cut);
      return HV.SUCCESS;
    }
    if (!this.state.writeField(field, cut)) this.fields.set(field, cut);
    return HV.SUCCESS;
  }

  capWrite(field: number, zero: bigint, one: bigint): number {
    if (fieldOf(field)?.access !== "rw") return HV.BAD_ARGUMENT;
    const [must, may] = writeMasks(field);
    return put64(zero, must) && put64(one, may) ? HV.SUCCESS : HV.BAD_ARGUMENT;
  }

  readRegister(id: number, out: bigint): number {
    const value = this.state.readRegister(id);
    return value !== undefined && put64(out, value) ? HV.SUCCESS : HV.BAD_ARGUMENT;
  }
  writeRegister(id: number, value: bigint): number {
    // Beyond RIP, RFLAGS and the general registers.
    if (id > 17) this.guestDirty = true;
    return this.state.writeRegister(id, value) ? HV.SUCCESS : HV.BAD_ARGUMENT;
  }

  // ---- MSRs --------------------------------------------------------------------------------------------------------------

  enableNative(msr: number, on: boolean): number {
    if (!NATIVE.has(msr)) return HV.BAD_ARGUMENT;
    if (on) this.native.add(msr);
    else this.native.delete(msr);
    return HV.SUCCESS;
  }
  enableManaged(msr: number, on: boolean): number {
    if (!canManage(msr)) return HV.BAD_ARGUMENT;
    if (!on) this.managed.delete(msr);
    else if (!this.managed.has(msr)) this.managed.set(msr, { value: 0n, access: 0 });
    return HV.SUCCESS;
  }
  setAccess(msr: number, flags: number): number {
    const bound = this.managed.get(msr);
    if (!bound || flags & ~3 || !mayAccess(msr, flags)) return HV.BAD_ARGUMENT;
    bound.access = flags;
    return HV.SUCCESS;
  }

  /** Added to the host's counter now. */
  get totalTscOffset(): bigint {
    const vm = this.tscRelative ? 0n : this.process.longs[H.TSC / 2]!;
    const own = this.control(F.CPU) & 8 ? this.fields.get(F.TSC_OFFSET) ?? 0n : 0n;
    return vm + this.tscOffset + own;
  }

  readMsr(msr: number, out: bigint): number {
    const value = this.msrValue(msr);
    return value !== undefined && put64(out, value) ? HV.SUCCESS : HV.BAD_ARGUMENT;
  }
  msrValue(msr: number): bigint | undefined {
    if (msr === MSR_TSC) return BigInt.asUintN(64, machNs() + this.totalTscOffset);
    if (msr === MSR_EFER) return this.read(F.EFER);
    if (msr === MSR_PAT) return this.read(F.PAT);
    const native = NATIVE.get(msr);
    if (native) return this.cpu.get64(native[0], native[1]);
    return this.managed.get(msr)?.value;
  }
  writeMsr(msr: number, value: bigint): number {
    const native = NATIVE.get(msr), bound = this.managed.get(msr);
    if (msr === MSR_TSC) this.tscOffset += BigInt.asIntN(64, value - (machNs() + this.totalTscOffset));
    else if (msr === MSR_EFER) {
      this.guestDirty = true;
      this.state.writeField(F.EFER, value);
    } else if (msr === MSR_PAT) this.state.writeField(F.PAT, value);
    else if (native) this.cpu.put64(native[0], value, native[1]);
    else if (bound) bound.value = value;
    else return HV.BAD_ARGUMENT;
    return HV.SUCCESS;
  }

  setTscRelative(offset: bigint): number {
    if (!this.tscRelative) return HV.ERROR;
    this.tscOffset = offset;
    return HV.SUCCESS;
  }

  invalidateTlb(): number {
    this.cpu.flush();
    return HV.SUCCESS;
  }

  setApicAddress(gpa: bigint): number {
    if (gpa & 0xfffn) return HV.BAD_ARGUMENT;
    this.apicAddress = gpa;
    return HV.SUCCESS;
  }

  /** The next of a sequence of numbers below `n` that the seed gives. */
  pick(n: number): number {
    this.random ^= this.random << 13;
    this.random ^= this.random >>> 17;
    this.random ^= this.random << 5;
    return (this.random >>> 0) % n;
  }
}
