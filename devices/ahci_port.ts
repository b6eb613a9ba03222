/**
 * A port of the AHCI controller with its device: registers, the command list, received FISes.
 *
 * Spec: [ahci §3.3] registers, [ahci §5] data structures and commands, [ahci §6] errors, [ahci §10.4] resets.
 *
 * Registers are touched under the machine lock. `process` carries commands out without it, in whatever thread owns the disk, and
 * takes it to say how they ended. Stopping the list or resetting moves `generation` on: what was under way is then not told any
 * more, and PxCMD.CR stays set until the thread has let go of guest memory.
 */
import type { GuestRam } from "../src/base/ram.ts";
import type { View } from "../src/base/record.ts";
import { ATA, ataCommand, type AtaIdentity, AtaRequest } from "./ahci_ata.ts";
import { fillFis, fillSetDeviceBits } from "./ahci_fis.ts";
import {
  type AHCI_PORT,
  AHCI_SLOTS,
  type AhciPortRecord,
  ERROR,
  FIS,
  HEADER,
  HEADER_BYTES,
  PxCMD,
  PxIE_BITS,
  PxIS,
  PxSERR,
  RECEIVED,
  SIGNATURE,
  STATUS,
  TABLE,
} from "./ahci_registers.ts";
import { AtapiDrive, ATTENTION, identifyPacket } from "./atapi.ts";
import type { BlockBackend } from "./block_backend.ts";
import { Scatter } from "./scatter.ts";

export interface AhciDevice extends AtaIdentity {
  readonly kind: "disk" | "cdrom";
}

export interface AhciPortParts {
  readonly ram: GuestRam;
  readonly locked: (body: () => void) => void;
  /** Commands wait: wake whoever calls `process`, or call it. */
  readonly notify: () => void;
  /** PxIS or PxIE changed. Under the machine lock. */
  readonly changed: () => void;
  /** The thread has let go of the port. Under the machine lock. */
  readonly idle: () => void;
  /** Whether the function may read and write memory. */
  readonly busMaster: () => boolean;
}

const PRD_BYTES = 16;
const PRD_INTERRUPT = 0x8000_0000;
const SCTL_COMRESET = 1, SCTL_OFFLINE = 4;
/** Commands that one call carries out at most. */
const MAX_COMMANDS = 2 * AHCI_SLOTS;

export class AhciPort {
  readonly drive: AtapiDrive | null;
  readonly #request = new AtaRequest();
  /** A command that is looked at before its turn. */
  readonly #ahead = new AtaRequest();
  readonly #data: Scatter;
  readonly #fis = new Uint8Array(20);
  readonly #packet = new Uint8Array(12);
  /** A PRD with the interrupt bit was used. */
  #prdInterrupt = false;

  constructor(
    readonly s: View<typeof AhciPortRecord>,
    private readonly parts: AhciPortParts,
    readonly device: AhciDevice | null,
  ) {
    this.#data = new Scatter(parts.ram);
    this.drive = device?.kind === "cdrom" ? new AtapiDrive(s, device.sectors) : null;
  }

  get busy(): boolean {
    return Atomics.load(this.s.busy, 0) !== 0;
  }

  get #running(): boolean {
    return (this.s.cmd & PxCMD.ST) !== 0 && !this.s.halted && this.device !== null && this.s.ready !== 0;
  }

  /** Power-on, and the HBA's reset: the driver's addresses stay [ahci §10.4.3]. */
  reset(): void {
    const { s } = this;
    this.#abandon();
    s.is =
      s.ie =
      s.cmd =
      s.sctl =
      s.halted =
      s.srst =
      s.comreset =
        0;
    this.#comeUp();
  }

  /** Makes a device that is there show itself, once after power-on. */
  settle(): void {
    if (!this.s.ready && !this.s.comreset) this.#comeUp();
  }

  /** The link is there and the device has sent its signature [ahci §10.1.1]. */
  #comeUp(): void {
    const { s, device } = this;
    s.ready = 1;
    if (!device) {
      s.tfd = STATUS.BSY - 1; // 7Fh
      s.sig = SIGNATURE.NONE;
      return;
    }
    s.serr |= PxSERR.DIAG_X | PxSERR.DIAG_N;
    s.failedTag = 0x80;
    if (device.kind === "cdrom") s.attention |= ATTENTION.RESET;
    this.#sign();
  }

  #sign(): void {
    const { s } = this, atapi = this.drive !== null;
    s.sig = atapi ? SIGNATURE.ATAPI : SIGNATURE.ATA;
    s.tfd = 0x100 | (atapi ? 0 : STATUS.DRDY | STATUS.DSC);
    const r = this.#request;
    r.sign(s.sig);
    r.status = s.tfd & 0xff;
    r.error = 1;
    this.#sendD2h(r, false);
  }

  /** Whatever is under way no longer counts. */
  #abandon(): void {
    Atomics.add(this.s.generation, 0, 1);
    Atomics.store(this.s.ci, 0, 0);
    Atomics.store(this.s.sact, 0, 0);
    this.s.halted = 0;
  }

  // Registers, under the machine lock.

  readRegister(reg: keyof typeof AHCI_PORT): number {
    const { s } = this;
    switch (reg) {
      case "PxCLB":
        return s.clb;
      case "PxCLBU":
        return s.clbu;
      case "PxFB":
        return s.fb;
      case "PxFBU":
        return s.fbu;
      case "PxIS":
        return this.interrupts;
      case "PxIE":
        return s.ie;
      case "PxCMD":
        return this.#command();
      case "PxTFD":
        return s.tfd;
      case "PxSIG":
        return s.sig;
      case "PxSSTS":
        return this.#linkStatus();
      case "PxSCTL":
        return s.sctl;
      case "PxSERR":
        return s.serr;
      case "PxSACT":
        return Atomics.load(s.sact, 0) >>> 0;
      case "PxCI":
        return Atomics.load(s.ci, 0) >>> 0;
      case "PxSNTF":
      case "PxFBS":
        return 0;
    }
  }

  /** PxIS, with the bits that only mirror PxSERR. */
  get interrupts(): number {
    const { is, serr } = this.s;
    return (is | (serr & PxSERR.DIAG_X ? PxIS.PCS : 0) | (serr & PxSERR.DIAG_N ? PxIS.PRCS : 0)) >>> 0;
  }

  get interrupting(): boolean {
    return (this.interrupts & this.s.ie) !== 0;
  }

  #command(): number {
    const { cmd } = this.s;
    const running = (cmd & PxCMD.ST) !== 0 || this.busy;
    return (cmd | PxCMD.SUD | PxCMD.POD | (cmd & PxCMD.FRE ? PxCMD.FR : 0) | (running ? PxCMD.CR : 0)) >>> 0;
  }

  #linkStatus(): number {
    const det = this.s.sctl & 0xf;
    if (det === SCTL_OFFLINE) return 4;
    return this.device === null || det === SCTL_COMRESET ? 0 : 0x123; // active, 3 Gb/s, communicating
  }

  writeRegister(reg: keyof typeof AHCI_PORT, value: number): void {
    const { s } = this;
    switch (reg) {
      case "PxCLB":
        s.clb = value & ~0x3ff;
        return;
      case "PxCLBU":
        s.clbu = value;
        return;
      case "PxFB":
        s.fb = value & ~0xff;
        return;
      case "PxFBU":
        s.fbu = value;
        return;
      case "PxIS":
        s.is &= ~value;
        return this.parts.changed();
      case "PxIE":
        s.ie = value & PxIE_BITS;
        return this.parts.changed();
      case "PxCMD":
        return this.#writeCommand(value);
      case "PxSCTL":
        return this.#writeControl(value & 0xfff);
      case "PxSERR":
        s.serr &= ~value;
        return this.parts.changed();
      case "PxSACT": // set by software, cleared by the device [ahci §3.3.13]
        if (s.cmd & PxCMD.ST) Atomics.or(s.sact, 0, value);
        return;
      case "PxCI":
        if (!(s.cmd & PxCMD.ST) || value === 0) return;
        Atomics.or(s.ci, 0, value);
        if (this.#running) this.parts.notify();
        return;
      default:
        return;
    }
  }

  #writeCommand(value: number): void {
    const { s } = this;
    const before = s.cmd;
    if (value & PxCMD.CLO && !(before & PxCMD.ST)) s.tfd &= ~(STATUS.BSY | STATUS.DRQ);
    s.cmd = (before & ~(PxCMD.ST | PxCMD.FRE | PxCMD.ATAPI)) | (value & (PxCMD.ST | PxCMD.FRE | PxCMD.ATAPI));
    if (before & ~s.cmd & PxCMD.ST) {
      this.#abandon();
      s.cmd &= ~(0x1f << PxCMD.CCS_SHIFT);
    }
  }

  #writeControl(value: number): void {
    const { s } = this;
    s.sctl = value;
    const det = value & 0xf;
    if (det === SCTL_COMRESET) {
      this.#abandon();
      s.comreset = 1;
      s.srst = 0;
      s.tfd = STATUS.BSY - 1;
      s.sig = SIGNATURE.NONE;
    } else if (s.comreset && det === 0) {
      s.comreset = 0;
      this.#comeUp();
      this.parts.changed();
    }
  }

  /** Looks for commands that were waiting when the machine was saved. Under the machine lock. */
  renotify(): void {
    if (this.#running && Atomics.load(this.s.ci, 0) !== 0) this.parts.notify();
  }

  // Commands, in the thread of the disk.

  /** Carries out the commands that wait; true: call again, more are waiting. */
  process(backend: BlockBackend): boolean {
    const { s } = this;
    if (Atomics.compareExchange(s.busy, 0, 0, 1) !== 0) return false;
    let more = false;
    if (this.parts.busMaster()) {
      for (let n = 0, announced = 0; n < MAX_COMMANDS && this.#running; n++) {
        const slot = this.#nextSlot();
        if (slot < 0) break;
        if (backend.waits) announced = this.#announce(announced, backend);
        announced &= ~(1 << slot);
        this.#run(slot, backend);
      }
      more = this.#running && Atomics.load(s.ci, 0) !== 0;
    }
    this.parts.locked(() => {
      Atomics.store(s.busy, 0, 0);
      this.parts.idle();
    });
    return more;
  }

  /** The next slot after the current one that has a command [ahci §5.3.2.3]; -1 if there is none. */
  #nextSlot(): number {
    const ci = Atomics.load(this.s.ci, 0);
    if (ci === 0) return -1;
    const current = (this.s.cmd >>> PxCMD.CCS_SHIFT) & 0x1f;
    for (let n = 1; n <= AHCI_SLOTS; n++) {
      const slot = (current + n) % AHCI_SLOTS;
      if (ci & (1 << slot)) return slot;
    }
    return -1;
  }

  /** Tells the host of the queued reads that wait, but for the slots `known`; returns the slots that it knows of now. */
  #announce(known: number, backend: BlockBackend): number {
    const { ram } = this.parts, r = this.#ahead;
    const ci = Atomics.load(this.s.ci, 0);
    if (this.drive || (ci & (ci - 1)) === 0) return known;
    for (let slot = 0; slot < AHCI_SLOTS; slot++) {
      if (!(ci & ~known & (1 << slot))) continue;
      const header = this.s.clb + this.s.clbu * 0x1_0000_0000 + slot * HEADER_BYTES;
      const table = ((ram.read(header + 8, 4) & ~0x7f) >>> 0) + ram.read(header + 12, 4) * 0x1_0000_0000;
      const fis = ram.bytes(table, TABLE.ACMD);
      if (fis) r.announce(fis, backend);
    }
    return known | ci;
  }

  #run(slot: number, backend: BlockBackend): void {
    const { ram } = this.parts, r = this.#request;
    const generation = Atomics.load(this.s.generation, 0);
    const header = this.s.clb + this.s.clbu * 0x1_0000_0000 + slot * HEADER_BYTES;
    const flags = ram.read(header, 4);
    const table = (ram.read(header + 8, 4) & ~0x7f) >>> 0;
    const tableAt = table + ram.read(header + 12, 4) * 0x1_0000_0000;
    const fis = ram.bytes(tableAt, TABLE.PRDT);
    if (!ram.contains(header, HEADER_BYTES) || !fis || !this.#gather(tableAt, flags >>> HEADER.PRDTL_SHIFT)) {
      return this.parts.locked(() => this.#fatal(slot, generation));
    }
    const copy = fis.slice(0, 20);
    if (copy[0] !== FIS.H2D || (flags & HEADER.CFL) < 4) return this.parts.locked(() => this.#fatal(slot, generation));
    r.read(copy);
    if (!(copy[1]! & 0x80)) return this.parts.locked(() => this.#control(slot, generation, copy[15]!));
    if (this.s.srst) r.fail(ERROR.ABRT);
    else if (this.drive) this.#atapi(r, fis, backend);
    else {
      try {
        ataCommand(r, this.s, this.device!, backend, this.#data);
      } catch {
        r.fail(ERROR.ABRT); // the back end's way of failing
      }
    }
    ram.write(header + 4, 4, r.moved);
    this.parts.locked(() => this.#end(slot, generation, r, copy[12]! >> 3));
  }

  /** Collects the memory that a table describes [ahci §4.2.3.3]; false if some of it is none. */
  #gather(tableAt: number, entries: number): boolean {
    const { ram } = this.parts;
    this.#data.start();
    this.#prdInterrupt = false;
    if (!ram.contains(tableAt + TABLE.PRDT, PRD_BYTES * entries)) return false;
    for (let at = tableAt + TABLE.PRDT, n = 0; n < entries; n++, at += PRD_BYTES) {
      const size = ram.read(at + 12, 4);
      if (!this.#data.add(ram.read64(at) - ram.read(at, 4) % 2, (size & 0x3f_ffff | 1) + 1)) return false;
      if (size & PRD_INTERRUPT) this.#prdInterrupt = true;
    }
    return true;
  }

  /** A FIS that only writes the control register: soft reset, in two steps [ahci §10.4.1]. */
  #control(slot: number, generation: number, control: number): void {
    const { s } = this;
    if (Atomics.load(s.generation, 0) !== generation) return;
    Atomics.and(s.ci, 0, ~(1 << slot));
    if (control & 4) {
      s.srst = 1;
      s.tfd |= STATUS.BSY;
    } else if (s.srst) {
      s.srst = s.multiple = 0;
      this.#sign();
    }
  }

  #atapi(r: AtaRequest, table: Uint8Array, backend: BlockBackend): void {
    const drive = this.drive!;
    switch (r.command) {
      case ATA.PACKET: {
        this.#packet.set(table.subarray(TABLE.ACMD, TABLE.ACMD + 12));
        let good = false;
        try {
          good = drive.packet(this.#packet, backend, this.#data);
        } catch {
          // The back end's way of failing; the drive has said nothing, so the driver asks and is told nothing.
        }
        r.moved = drive.moved;
        r.count = 3; // the interrupt reason: the command is over
        if (!good) r.fail((this.s.senseKey << 4) | ERROR.ABRT);
        return;
      }
      case ATA.IDENTIFY_PACKET: {
        r.moved = this.#data.put(identifyPacket(this.device!.serial));
        r.pioIn = true;
        return;
      }
      case ATA.IDENTIFY:
        r.sign(SIGNATURE.ATAPI);
        return r.fail(ERROR.ABRT);
      case ATA.DEVICE_RESET:
        this.s.attention |= ATTENTION.RESET;
        r.sign(SIGNATURE.ATAPI);
        r.status = 0;
        r.error = 1;
        return;
      case ATA.SET_FEATURES:
        if ((r.features & 0xff) === 3) this.s.transferMode = r.count & 0xff;
        return;
      case ATA.CHECK_POWER_MODE:
        r.count = 0xff;
        return;
      case ATA.IDLE_IMMEDIATE:
      case ATA.STANDBY_IMMEDIATE:
        return;
      default:
        return r.fail(ERROR.ABRT);
    }
  }

  // How a command ended, under the machine lock.

  #end(slot: number, generation: number, r: AtaRequest, tag: number): void {
    const { s } = this;
    if (Atomics.load(s.generation, 0) !== generation) return;
    s.cmd = (s.cmd & ~(0x1f << PxCMD.CCS_SHIFT)) | (slot << PxCMD.CCS_SHIFT);
    s.tfd = (r.error << 8) | r.status;
    if (this.#prdInterrupt && r.moved > 0) s.is |= PxIS.DPS;
    if (r.overflow) s.is |= PxIS.OFS;
    const queued = r.queued && this.drive === null;
    if (r.failed) {
      s.halted = 1;
      s.is |= PxIS.TFES;
      if (queued) {
        s.failedTag = tag;
        s.failedStatus = r.status;
        s.failedError = r.error;
        s.failedLba = r.lba;
        this.#sendSdb(r, 0);
      } else this.#sendD2h(r, true);
      return this.parts.changed();
    }
    if (queued) {
      Atomics.and(s.sact, 0, ~(1 << tag));
      this.#sendSdb(r, 1 << tag);
    } else if (r.pioIn) this.#sendPioSetup(r);
    else this.#sendD2h(r, true);
    Atomics.and(s.ci, 0, ~(1 << slot));
    this.parts.changed();
  }

  /** What the tables say is not memory: the list stops until the driver has dealt with it [ahci §6.1.1]. */
  #fatal(slot: number, generation: number): void {
    const { s } = this;
    if (Atomics.load(s.generation, 0) !== generation) return;
    s.cmd = (s.cmd & ~(0x1f << PxCMD.CCS_SHIFT)) | (slot << PxCMD.CCS_SHIFT);
    s.halted = 1;
    s.is |= PxIS.HBFS;
    this.parts.changed();
  }

  #receive(at: number, bytes: number): void {
    const { s } = this;
    if (s.cmd & PxCMD.FRE) this.parts.ram.copyIn(s.fb + s.fbu * 0x1_0000_0000 + at, this.#fis.subarray(0, bytes));
  }

  #sendD2h(r: AtaRequest, interrupt: boolean): void {
    fillFis(this.#fis, FIS.D2H, r, interrupt);
    this.#receive(RECEIVED.RFIS, 20);
    if (interrupt) this.s.is |= PxIS.DHRS;
  }

  #sendPioSetup(r: AtaRequest): void {
    fillFis(this.#fis, FIS.PIO_SETUP, r, true);
    this.#receive(RECEIVED.PSFIS, 20);
    this.s.is |= PxIS.PSS;
  }

  #sendSdb(r: AtaRequest, done: number): void {
    fillSetDeviceBits(this.#fis, r, done);
    this.#receive(RECEIVED.SDBFIS, 8);
    this.s.is |= PxIS.SDBS;
  }
}
