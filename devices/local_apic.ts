/**
 * A local APIC: the interrupts of one vCPU.
 *
 * Spec: [sdm3 §11.4 to §11.12].
 * Emulated: xAPIC page and x2APIC MSRs with all mode transitions, IPIs, the local vector table, ESR, EOI-broadcast suppression.
 * Absent: SMI (accepted and dropped: the board has no SMM), CMCI, the thermal and performance sources of the LVT, a writable
 * APIC ID. The spurious vector is never delivered: the CPU asks and is answered under one lock, so no request can vanish
 * between INTR and INTA.
 *
 * Wires carry "asserted"; the polarity bits are kept and change nothing.
 */
import type { Region } from "../src/base/bus.ts";
import { ones } from "../src/base/bus.ts";
import type { Clock } from "../src/base/clock.ts";
import type { IrqLine } from "../src/base/irq.ts";
import type { View } from "../src/base/record.ts";
import type { Timer } from "../src/base/timers.ts";
import {
  APIC_BASE,
  ApicMode,
  DeliveryMode,
  ESR,
  IA32_APIC_BASE,
  IA32_TSC_DEADLINE,
  ICR,
  isReadOnly,
  LOCAL_APIC as R,
  LocalApicRecord,
  LVT,
  LVT_NAMES,
  LVT_WRITABLE,
  lvtAt,
  type LvtName,
  readableMsr,
  SELF_IPI,
  Shorthand,
  SVR,
  VERSION,
  writableMsr,
  X2APIC_MSR,
  X2APIC_MSR_LAST,
} from "./local_apic_registers.ts";
import { type InterruptMessage, isDestination, logicalX2, wide } from "./local_apic_message.ts";
import { LocalApicTimer } from "./local_apic_timer.ts";
import { LocalApicVectors } from "./local_apic_vectors.ts";

/** What carries messages between APICs: the interrupt router. */
export interface ApicBus {
  /** Sends an IPI; `shorthand` other than NONE overrules the destination. */
  sendIpi(message: InterruptMessage, shorthand: number, from: LocalApic): void;
  /** A level-triggered interrupt is over. */
  eoi(vector: number): void;
}

export interface LocalApicParts {
  /** The APIC ID. */
  readonly id: number;
  /** This vCPU starts first. */
  readonly bsp: boolean;
  readonly clock: Clock;
  /** Calls `settle`. */
  readonly timer: Timer;
  readonly bus: ApicBus;
  /** The 8259A pair whose INTR is wired to LINT0. */
  readonly pic: { pending(): boolean; acknowledge(): number };
  /** Bits of a physical address. */
  readonly physicalAddressBits: number;
  /** A level, told anew whenever it may have changed. */
  setIntr(level: boolean): void;
  nmi(): void;
  init(): void;
  sipi(vector: number): void;
}

export class LocalApic implements Region {
  /** The answer of the last `readMsr`. */
  msrLo = 0;
  msrHi = 0;
  readonly id: number;
  readonly lint0: IrqLine = { set: (level) => this.#lint0(level) };
  readonly lint1: IrqLine = { set: (level) => this.#lint1(level) };
  readonly vectors: LocalApicVectors;
  readonly #timer: LocalApicTimer;

  constructor(private readonly s: View<typeof LocalApicRecord>, private readonly parts: LocalApicParts) {
    this.id = parts.id;
    this.vectors = new LocalApicVectors(s);
    this.#timer = new LocalApicTimer(s, parts, () => this.#local("lvtTimer", false));
  }

  /** Recomputes what follows from the record: the request to the CPU and the timer. Also the timer's callback. */
  settle(): void {
    this.#timer.settle();
    this.#update();
  }

  /** Where the register page is in guest-physical memory, or -1 outside xAPIC mode. */
  pageAt(): number {
    if (this.s.mode !== ApicMode.XAPIC) return -1;
    return this.s.baseHi * 0x1_0000_0000 + this.s.baseLo;
  }

  /** IA32_APIC_BASE.EN, which CPUID.1:EDX.APIC repeats. */
  get enabled(): boolean {
    return this.s.mode !== ApicMode.DISABLED;
  }

  /** What firmware leaves behind: 8259A interrupts by LINT0, NMI by LINT1, the APIC enabled. [mps §3.6.2.2] */
  setVirtualWire(): void {
    this.s.svr = SVR.ENABLED | SVR.VECTOR;
    this.s.lvtLint0 = DeliveryMode.EXTINT << 8;
    this.s.lvtLint1 = DeliveryMode.NMI << 8;
    this.#update();
  }

  /** The guest's TSC is guest nanoseconds plus this 64-bit number. */
  setTscOffset(lo: number, hi: number): void {
    this.#timer.setTscOffset(lo >>> 0, hi >>> 0);
  }

  /** The INTA cycle: the vector to take now, or -1. */
  acknowledge(): number {
    const vector = this.vectors.deliverable();
    if (vector >= 0) {
      this.vectors.take(vector);
      this.#update();
      return vector;
    }
    if (!this.#asksExtInt()) return -1;
    this.s.extInt = 0;
    const external = this.parts.pic.acknowledge();
    this.#update();
    return external;
  }

  /** CR8. */
  readTpr(): number {
    return this.s.tpr >> 4;
  }

  writeTpr(cr8: number): void {
    this.s.tpr = (cr8 & 0xf) << 4;
    this.#update();
  }

  /** A narrow read gets its part of the register; bytes 4 to 15 behind a register read as zero. */
  read(offset: number, size: number): number {
    if (this.s.mode !== ApicMode.XAPIC) return ones(size);
    const from = offset & 0xf;
    if (from > 3) return 0;
    const value = this.#read(offset - from) >>> (8 * from);
    return (value & ones(size)) >>> 0;
  }

  /** Only a 32-bit write to a register's own address counts. [sdm3 §11.4.1] */
  write(offset: number, size: number, value: number): void {
    if (this.s.mode === ApicMode.XAPIC && size === 4 && (offset & 0xf) === 0) this.#write(offset, value >>> 0);
  }

  /** False: #GP. */
  readMsr(msr: number): boolean {
    const s = this.s;
    this.msrLo = this.msrHi = 0;
    if (msr === IA32_APIC_BASE) {
      const mode = s.mode === ApicMode.DISABLED
        ? 0
        : s.mode === ApicMode.XAPIC
        ? APIC_BASE.EN
        : APIC_BASE.EN | APIC_BASE.EXTD;
      this.msrLo = (s.baseLo | mode | (this.parts.bsp ? APIC_BASE.BSP : 0)) >>> 0;
      this.msrHi = s.baseHi;
      return true;
    }
    if (msr === IA32_TSC_DEADLINE) {
      this.settle();
      this.msrLo = s.deadlineLo;
      this.msrHi = s.deadlineHi;
      return true;
    }
    if (msr < X2APIC_MSR || msr > X2APIC_MSR_LAST || s.mode !== ApicMode.X2APIC) return false;
    const at = (msr - X2APIC_MSR) << 4;
    if (!readableMsr(at)) return false;
    this.msrLo = this.#read(at);
    if (at === R.ICR_LO.at) this.msrHi = s.icrHi;
    return true;
  }

  /** False: #GP, and nothing has changed. */
  writeMsr(msr: number, lo: number, hi: number): boolean {
    lo >>>= 0;
    hi >>>= 0;
    if (msr === IA32_APIC_BASE) return this.#writeBase(lo, hi);
    if (msr === IA32_TSC_DEADLINE) {
      this.#timer.writeDeadline(lo, hi);
      return true;
    }
    if (msr < X2APIC_MSR || msr > X2APIC_MSR_LAST || this.s.mode !== ApicMode.X2APIC) return false;
    const at = (msr - X2APIC_MSR) << 4;
    const writable = writableMsr(at);
    if (writable < 0 || (lo & ~writable) !== 0 || (hi !== 0 && at !== R.ICR_LO.at)) return false;
    if (at === R.ICR_LO.at) this.s.icrHi = hi;
    if (at === SELF_IPI) this.#self(lo);
    else this.#write(at, lo);
    return true;
  }

  /** The legal transitions are those of [sdm3 §11.12.5]: x2APIC is entered from xAPIC and left by disabling. */
  #writeBase(lo: number, hi: number): boolean {
    const s = this.s;
    const highest = 2 ** Math.max(0, this.parts.physicalAddressBits - 32);
    if ((lo & 0x2ff) !== 0 || hi >= highest) return false;
    const en = (lo & APIC_BASE.EN) !== 0, extd = (lo & APIC_BASE.EXTD) !== 0;
    if (extd && !en) return false;
    const mode = !en ? ApicMode.DISABLED : extd ? ApicMode.X2APIC : ApicMode.XAPIC;
    if (s.mode === ApicMode.DISABLED && mode === ApicMode.X2APIC) return false;
    if (s.mode === ApicMode.X2APIC && mode === ApicMode.XAPIC) return false;
    s.baseLo = (lo & 0xfffff000) >>> 0;
    s.baseHi = hi;
    if (mode !== s.mode) {
      s.mode = mode;
      if (mode === ApicMode.DISABLED) this.#reset();
      else if (mode === ApicMode.X2APIC) s.icrHi = 0;
      this.#update();
    }
    return true;
  }

  #read(at: number): number {
    const s = this.s;
    if (at >= R.ISR.at && at < R.ESR.at) {
      const words = at < R.TMR.at ? s.isr : at < R.IRR.at ? s.tmr : s.irr;
      return words[(at >> 4) & 7]!;
    }
    switch (at) {
      case R.ID.at:
        return s.mode === ApicMode.X2APIC ? this.id : (this.id << 24) >>> 0;
      case R.VERSION.at:
        return VERSION;
      case R.TPR.at:
        return s.tpr;
      case R.APR.at:
        return this.vectors.arbitrationPriority();
      case R.PPR.at:
        return this.vectors.processorPriority();
      case R.EOI.at:
      case R.RRD.at:
        return 0;
      case R.LDR.at:
        return s.mode === ApicMode.X2APIC ? logicalX2(this.id) : s.ldr;
      case R.DFR.at:
        return s.dfr;
      case R.SVR.at:
        return s.svr;
      case R.ESR.at:
        return s.esr;
      case R.ICR_LO.at:
        return s.icrLo;
      case R.ICR_HI.at:
        return s.icrHi;
      case R.INITIAL_COUNT.at:
        return s.initialCount;
      case R.CURRENT_COUNT.at:
        return this.#timer.count();
      case R.DCR.at:
        return s.dcr;
    }
    const lvt = lvtAt(at);
    if (lvt) return s[lvt];
    this.#error(ESR.ILLEGAL_REGISTER);
    return 0;
  }

  #write(at: number, value: number): void {
    const s = this.s;
    switch (at) {
      case R.TPR.at:
        s.tpr = value & 0xff;
        return this.#update();
      case R.EOI.at:
        return this.#endOfInterrupt();
      case R.LDR.at:
        s.ldr = (value & 0xff000000) >>> 0;
        return;
      case R.DFR.at:
        s.dfr = (value | 0x0fffffff) >>> 0;
        return;
      case R.SVR.at:
        s.svr = value & (SVR.VECTOR | SVR.ENABLED | SVR.FOCUS_DISABLED | SVR.EOI_SUPPRESSION);
        // Disabled by software, every entry is masked and stays so. [sdm3 §11.4.7.2]
        if (!this.#softwareEnabled) { for (const name of LVT_NAMES) this.#writeLvt(name, s[name]); }
        return;
      case R.ESR.at:
        s.esr = s.errors;
        s.errors = 0;
        return;
      case R.ICR_LO.at:
        s.icrLo = value & ICR.WRITABLE;
        return this.#send();
      case R.ICR_HI.at:
        s.icrHi = (value & 0xff000000) >>> 0;
        return;
      case R.INITIAL_COUNT.at:
        return this.#timer.start(value);
      case R.DCR.at:
        return this.#timer.divide(value);
    }
    const lvt = lvtAt(at);
    if (lvt) this.#writeLvt(lvt, value);
    else if (!isReadOnly(at)) this.#error(ESR.ILLEGAL_REGISTER);
  }

  #writeLvt(name: LvtName, written: number): void {
    const s = this.s;
    let value = written & LVT_WRITABLE[name];
    if (!this.#softwareEnabled) value |= LVT.MASKED;
    if (name === "lvtTimer") return this.#timer.writeLvt(value);
    // Remote IRR belongs to level-triggered fixed interrupts, and lasts until their EOI.
    if (name === "lvtLint0" && (value & LVT.LEVEL) !== 0) value |= s.lvtLint0 & LVT.REMOTE_IRR;
    s[name] = value;
    if (name === "lvtLint0") this.#raiseLint0Level();
    this.#update();
  }

  /** The combinations that mean something are those of [sdm3 §11.6.1] for processors since the Pentium 4. */
  #send(): void {
    const { icrLo, icrHi } = this.s;
    const mode = (icrLo >>> 8) & 7;
    const shorthand = (icrLo >>> ICR.SHORTHAND_SHIFT) & 3;
    // The level-triggered de-assert (of INIT) has had no effect since then.
    if ((icrLo & ICR.LEVEL) !== 0 && (icrLo & ICR.ASSERT) === 0) return;
    if (mode === 3 || mode === DeliveryMode.EXTINT) return;
    if (mode !== DeliveryMode.FIXED && (shorthand === Shorthand.SELF || shorthand === Shorthand.ALL)) return;
    const vector = icrLo & 0xff;
    if (shorthand === Shorthand.SELF) return this.#self(vector);
    if (vector < 16 && (mode === DeliveryMode.FIXED || mode === DeliveryMode.LOWEST)) {
      return this.#error(ESR.SEND_ILLEGAL_VECTOR);
    }
    const destination = this.s.mode === ApicMode.X2APIC ? icrHi : wide(icrHi >>> 24);
    const logical = (icrLo & ICR.LOGICAL) !== 0;
    this.parts.bus.sendIpi({ mode, vector, level: false, logical, destination }, shorthand, this);
  }

  #self(vector: number): void {
    if (this.#softwareEnabled) this.#accept(vector, false);
  }

  /** Whether a message to `destination` is for this APIC. */
  isDestination(destination: number, logical: boolean): boolean {
    return isDestination(this.s, this.id, destination, logical);
  }

  /** Whether fixed interrupts can be accepted at all. */
  get acceptsFixed(): boolean {
    return this.s.mode !== ApicMode.DISABLED && this.#softwareEnabled;
  }

  /** Takes a message; false if it was not accepted. Whether it was meant for this APIC the router has settled. */
  receive(mode: number, vector: number, level: boolean): boolean {
    if (this.s.mode === ApicMode.DISABLED) return false;
    switch (mode) {
      case DeliveryMode.FIXED:
      case DeliveryMode.LOWEST:
        return this.#softwareEnabled && this.#accept(vector, level);
      case DeliveryMode.NMI:
        this.parts.nmi();
        return true;
      case DeliveryMode.INIT:
        this.#initialize();
        return true;
      case DeliveryMode.STARTUP:
        this.parts.sipi(vector);
        return true;
      case DeliveryMode.EXTINT:
        this.s.extInt = 1;
        this.#update();
        return true;
    }
    return false;
  }

  #accept(vector: number, level: boolean): boolean {
    if (vector < 16) {
      this.#error(ESR.RECEIVED_ILLEGAL_VECTOR);
      return false;
    }
    this.vectors.request(vector, level);
    this.#update();
    return true;
  }

  /** An interrupt from the local vector table. */
  #local(name: LvtName, level: boolean): void {
    const entry = this.s[name];
    if ((entry & LVT.MASKED) !== 0 || this.s.mode === ApicMode.DISABLED) return;
    switch ((entry >>> 8) & 7) {
      case DeliveryMode.FIXED:
        this.#accept(entry & LVT.VECTOR, level);
        return;
      case DeliveryMode.NMI:
        return this.parts.nmi();
      case DeliveryMode.INIT:
        return this.#initialize();
    }
  }

  #lint0(level: boolean): void {
    const s = this.s;
    const rises = level && s.lint0 === 0;
    s.lint0 = level ? 1 : 0;
    const entry = s.lvtLint0;
    const isLevel = ((entry >>> 8) & 7) === DeliveryMode.FIXED && (entry & LVT.LEVEL) !== 0;
    if (isLevel) this.#raiseLint0Level();
    else if (rises) this.#local("lvtLint0", false);
    this.#update();
  }

  /** With the APIC disabled the pin is the processor's own NMI. LINT1 is edge-sensitive always. [sdm3 §11.5.1] */
  #lint1(level: boolean): void {
    const rises = level && this.s.lint1 === 0;
    this.s.lint1 = level ? 1 : 0;
    if (!rises) return;
    if (this.s.mode === ApicMode.DISABLED) this.parts.nmi();
    else this.#local("lvtLint1", false);
  }

  #raiseLint0Level(): void {
    const s = this.s, entry = s.lvtLint0;
    if (s.lint0 === 0 || (entry & (LVT.LEVEL | LVT.MASKED | LVT.REMOTE_IRR)) !== LVT.LEVEL) return;
    if (((entry >>> 8) & 7) !== DeliveryMode.FIXED || !this.acceptsFixed || (entry & LVT.VECTOR) < 16) return;
    s.lvtLint0 = entry | LVT.REMOTE_IRR;
    this.#local("lvtLint0", true);
  }

  #endOfInterrupt(): void {
    const s = this.s;
    const vector = this.vectors.end();
    if (vector < 0) return;
    if (this.vectors.isLevel(vector)) {
      if ((s.lvtLint0 & LVT.REMOTE_IRR) !== 0 && (s.lvtLint0 & LVT.VECTOR) === vector) {
        s.lvtLint0 &= ~LVT.REMOTE_IRR;
        this.#raiseLint0Level();
      }
      if ((s.svr & SVR.EOI_SUPPRESSION) === 0) this.parts.bus.eoi(vector);
    }
    this.#update();
  }

  /** Logs an error. The error interrupt comes once between two writes to ESR. [sdm3 §11.5.3] */
  #error(bit: number): void {
    const rearmed = this.s.errors === 0;
    this.s.errors |= bit;
    if (rearmed) this.#local("lvtError", false);
  }

  #initialize(): void {
    this.#reset();
    this.parts.init();
    this.#update();
  }

  /** The power-on values of all that INIT and disabling clear: mode, page, wires and the TSC stay. [sdm3 §11.4.7.1, §11.12.5.1] */
  #reset(): void {
    const s = this.s;
    const { mode, baseLo, baseHi, lint0, lint1, tscOffsetLo, tscOffsetHi } = s;
    LocalApicRecord.reset(s);
    s.mode = mode;
    s.baseLo = baseLo;
    s.baseHi = baseHi;
    s.lint0 = lint0;
    s.lint1 = lint1;
    s.tscOffsetLo = tscOffsetLo;
    s.tscOffsetHi = tscOffsetHi;
    this.#timer.stop();
  }

  get #softwareEnabled(): boolean {
    return (this.s.svr & SVR.ENABLED) !== 0;
  }

  /** With the APIC disabled, LINT0 is the processor's INTR pin. */
  #asksExtInt(): boolean {
    const s = this.s;
    if (s.extInt !== 0) return true;
    if (!this.parts.pic.pending()) return false;
    return s.mode === ApicMode.DISABLED || (s.lvtLint0 & (LVT.MASKED | 0x700)) === DeliveryMode.EXTINT << 8;
  }

  #update(): void {
    this.parts.setIntr(this.vectors.deliverable() >= 0 || this.#asksExtInt());
  }
}
