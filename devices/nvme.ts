/**
 * An NVMe controller with one namespace.
 *
 * Spec: [nvme §3] registers, [nvme §4.1] queues, [nvme §7] operation.
 * Emulated: 16 pairs of I/O queues, all mandatory admin and NVM commands with Write Zeroes and Dataset Management, asynchronous
 * events for errors in doorbells, the SMART log, MSI-X and INTx, shutdown.
 * Absent: SGLs, metadata, namespace management, firmware download, reservations, weighted arbitration, MSI.
 *
 * Registers and doorbells are touched under the machine lock; `process` carries commands out without it, in whatever thread owns
 * the disk, and takes it to change what queues there are and for interrupts. Clearing CC.EN moves `generation` on: what was under
 * way is not answered any more, and CSTS.RDY stays set until the thread has let go of guest memory.
 */
import type { Arena } from "../src/base/arena.ts";
import { type Region, registerBank, type RegisterDevice } from "../src/base/bus.ts";
import type { MsiSink } from "../src/base/irq.ts";
import type { GuestRam } from "../src/base/ram.ts";
import type { View } from "../src/base/record.ts";
import { AHEAD, type BlockBackend } from "./block_backend.ts";
import { Command, FEATURE_DEFAULTS, NO_ANSWER, NvmeCommands } from "./nvme_commands.ts";
import { type NvmeIdentity, PCI_VENDOR } from "./nvme_data.ts";
import {
  CAP_HI,
  CAP_LO,
  CC,
  CC_BITS,
  CQ_ENTRY_BYTES,
  CSTS,
  DOORBELLS_AT,
  EVENT,
  NVME,
  NvmeRecord,
  QUEUES,
  SC,
  SQ_ENTRY_BYTES,
  VS,
} from "./nvme_registers.ts";
import { CAPABILITY, PCI, PciFunction, PciFunctionRecord } from "./pci/function.ts";
import { MESSAGE_CONTROL, Msix, msixRecord } from "./pci/msix.ts";

const REGISTERS_BAR = 0, MSIX_BAR = 4;
const REGISTERS_BYTES = 0x2000;
/** Where the pending bits begin behind the MSI-X table. */
const PBA_AT = 0x800;
/** Commands of a queue that one call carries out at most. */
const MAX_COMMANDS = 256;
const ADMIN_QUEUE = 0;
/** Commands of whose end the driver is told at once: an interrupt costs a guest more than a short command does. */
const BATCH_COMMANDS = 8;

/** Offsets of the registers that there are. */
const REGISTERS: ReadonlySet<number> = new Set(Object.values(NVME).map(({ at }) => at));

export interface NvmeParts {
  readonly ram: GuestRam;
  readonly msi: MsiSink;
  /** Runs `body` under the machine lock; where every caller holds it already, it only calls. */
  readonly locked?: (body: () => void) => void;
  /** Submission queue `index` has commands: wake whoever calls `processQueue`, or call it. */
  readonly notify: (index: number) => void;
}

export class Nvme extends PciFunction implements RegisterDevice<typeof NVME> {
  readonly registers = NVME;
  readonly #s: View<typeof NvmeRecord>;
  readonly #bank: Region = registerBank<typeof NVME>(this);
  readonly #msix: Msix;
  readonly #msixAt: number;
  readonly #ram: GuestRam;
  readonly #locked: (body: () => void) => void;
  readonly #command = new Command();
  /** A command that is looked at before its turn. */
  readonly #ahead = new Command();
  readonly #commands: NvmeCommands;

  /** Places its records in `arena` under names that start with `id`. */
  constructor(arena: Arena, id: string, private readonly parts: NvmeParts, identity: NvmeIdentity) {
    super(arena.place(`${id}.pci`, PciFunctionRecord), {
      vendor: PCI_VENDOR,
      device: 0x0a0a, // numbers that drivers have no quirks for
      revision: 1,
      classCode: 0x010802,
      subsystemVendor: PCI_VENDOR,
      subsystem: 0x0a0a,
      interruptPin: 1,
      bars: {
        [REGISTERS_BAR]: { kind: "memory64", sizeBytes: REGISTERS_BYTES },
        [MSIX_BAR]: { kind: "memory32", sizeBytes: 0x1000 },
      },
    });
    this.#s = arena.place(`${id}.nvme`, NvmeRecord);
    this.#ram = parts.ram;
    this.#locked = parts.locked ?? ((body) => body());
    this.#commands = new NvmeCommands({ s: this.#s, ram: parts.ram, id: identity, locked: this.#locked });
    this.#msix = new Msix(
      arena.place(`${id}.msix`, msixRecord(QUEUES)),
      { vectors: QUEUES, bar: MSIX_BAR, tableAt: 0, pbaAt: PBA_AT },
      parts.msi,
      () => this.#messageControl(),
    );
    this.#msixAt = this.addCapability(CAPABILITY.MSIX, this.#msix.capabilityBody, this.#msix.capabilityMask);
  }

  // Registers, under the machine lock.

  readRegister(reg: keyof typeof NVME): number {
    const s = this.#s;
    switch (reg) {
      case "CAP_LO":
        return CAP_LO;
      case "CAP_HI":
        return CAP_HI;
      case "VS":
        return VS;
      case "INTMS":
      case "INTMC":
        return s.masked;
      case "CC":
        return s.cc;
      case "CSTS":
        return s.csts;
      case "AQA":
        return s.aqa;
      case "ASQ_LO":
        return s.asqLo;
      case "ASQ_HI":
        return s.asqHi;
      case "ACQ_LO":
        return s.acqLo;
      case "ACQ_HI":
        return s.acqHi;
      case "NSSR":
      case "CMBLOC":
      case "CMBSZ":
        return 0;
    }
  }

  writeRegister(reg: keyof typeof NVME, value: number): void {
    const s = this.#s;
    switch (reg) {
      case "INTMS":
        s.masked = (s.masked | value) >>> 0;
        return this.#updatePin();
      case "INTMC":
        s.masked = (s.masked & ~value) >>> 0;
        return this.#updatePin();
      case "CC":
        return this.#configure(value & CC_BITS);
      case "AQA":
        s.aqa = value & 0x0fff_0fff;
        return;
      case "ASQ_LO":
        s.asqLo = (value & ~0xfff) >>> 0;
        return;
      case "ASQ_HI":
        s.asqHi = value;
        return;
      case "ACQ_LO":
        s.acqLo = (value & ~0xfff) >>> 0;
        return;
      case "ACQ_HI":
        s.acqHi = value;
        return;
      default:
        return;
    }
  }

  #configure(value: number): void {
    const s = this.#s, before = s.cc;
    s.cc = value;
    if (before & ~value & CC.EN) return this.#reset();
    if (value & ~before & CC.EN && !s.resetting) this.#enable();
    if (value & CC.SHN && !(before & CC.SHN) && s.csts & CSTS.RDY) {
      s.csts = (s.csts & ~CSTS.SHST) | CSTS.SHST_OCCURRING;
      s.shutdown = 1;
      this.parts.notify(ADMIN_QUEUE);
    }
  }

  /** CC.EN was set: the admin queues come alive, or the controller says that it cannot work like this. */
  #enable(): void {
    const s = this.#s;
    const sqEntries = (s.aqa & 0xfff) + 1, cqEntries = (s.aqa >>> 16) + 1;
    if (s.cc & (CC.CSS | CC.MPS | CC.AMS) || sqEntries < 2 || cqEntries < 2) {
      s.csts |= CSTS.CFS;
      return;
    }
    s.sqLo[0] = s.asqLo;
    s.sqHi[0] = s.asqHi;
    s.sqSize[0] = sqEntries;
    s.sqCq[0] = 0;
    s.sqLive[0] = 1;
    s.cqLo[0] = s.acqLo;
    s.cqHi[0] = s.acqHi;
    s.cqSize[0] = cqEntries;
    s.cqPhase[0] = 1;
    s.cqVector[0] = 0;
    s.cqInterrupts[0] = 1;
    s.cqLive[0] = 1;
    s.csts = CSTS.RDY;
  }

  /** CC.EN was cleared [nvme §7.3.2]. */
  #reset(): void {
    Atomics.add(this.#s.generation, 0, 1);
    this.#s.resetting = 1;
    this.#finishReset();
  }

  #finishReset(): void {
    const s = this.#s;
    if (!s.resetting || Atomics.load(s.busy, 0) !== 0) return;
    const { cc, aqa, asqLo, asqHi, acqLo, acqHi, sectorsRead, sectorsWritten, reads, writes } = s;
    const generation = Atomics.load(s.generation, 0);
    NvmeRecord.reset(s);
    Object.assign(s, { aqa, asqLo, asqHi, acqLo, acqHi, sectorsRead, sectorsWritten, reads, writes });
    Atomics.store(s.generation, 0, generation);
    this.settle();
    this.setIntx(false);
    s.cc = cc;
    if (cc & CC.EN) this.#enable();
  }

  /** Gives the features their defaults, once after power-on and after each reset. Under the machine lock. */
  settle(): void {
    const s = this.#s;
    if (!(s.csts & CSTS.RDY) && !(s.cc & CC.EN)) {
      for (const [id, value] of Object.entries(FEATURE_DEFAULTS)) s.features[Number(id)] = value;
    }
    this.#updatePin();
  }

  /** Looks for commands that were waiting when the machine was saved. Under the machine lock. */
  renotify(): void {
    const s = this.#s;
    for (let q = 0; q < QUEUES; q++) if (this.#waiting(q) || (q === ADMIN_QUEUE && s.shutdown)) this.parts.notify(q);
  }

  #waiting(q: number): boolean {
    const s = this.#s;
    return s.sqLive[q] !== 0 && s.sqHead[q] !== Atomics.load(s.sqTail, q);
  }

  #doorbell(index: number, value: number): void {
    const s = this.#s, q = index >> 1;
    if (!(s.csts & CSTS.RDY) || s.resetting) return;
    const head = (index & 1) === 1;
    const live = q < QUEUES && (head ? s.cqLive : s.sqLive)[q];
    if (!live) return this.#event(EVENT.BAD_DOORBELL);
    if (value >= (head ? s.cqSize : s.sqSize)[q]!) return this.#event(EVENT.BAD_DOORBELL_VALUE);
    if (!head) {
      Atomics.store(s.sqTail, q, value);
      if (this.#waiting(q)) this.parts.notify(q);
      return;
    }
    Atomics.store(s.cqHead, q, value);
    this.#updatePin();
    // There is room again for what had to wait.
    for (let sq = 0; sq < QUEUES; sq++) if (s.sqCq[sq] === q && this.#waiting(sq)) this.parts.notify(sq);
  }

  #event(event: number): void {
    const s = this.#s;
    if (s.eventHeld & (1 << event)) return;
    s.eventPending |= 1 << event;
    if (s.eventCount > 0) this.parts.notify(ADMIN_QUEUE);
  }

  // Commands, in the thread of the disk.

  /** Carries out the commands that wait on submission queue `index`; true: call again, more are waiting. */
  processQueue(index: number, backend: BlockBackend): boolean {
    const s = this.#s;
    if (index >= QUEUES || Atomics.compareExchange(s.busy, 0, 0, 1) !== 0) return false;
    let more = false;
    if (this.busMaster && s.csts & CSTS.RDY && !s.resetting) {
      const generation = Atomics.load(s.generation, 0);
      for (let n = 0, announced = 0; n < MAX_COMMANDS && this.#waiting(index) && this.#roomFor(index); n++) {
        if (n > 0 && n % BATCH_COMMANDS === 0) this.#tell(index, generation);
        if (backend.waits && index !== ADMIN_QUEUE) announced = this.#announce(index, announced, backend);
        announced = Math.max(0, announced - 1);
        if (!this.#one(index, generation, backend)) break;
      }
      if (index === ADMIN_QUEUE) this.#tellEvents(generation);
      more = this.#waiting(index) && this.#roomFor(index) && Atomics.load(s.generation, 0) === generation;
      this.#tell(index, generation);
      if (s.shutdown !== 0 && index === ADMIN_QUEUE && flush(backend)) {
        this.#locked(() => {
          if (Atomics.load(s.generation, 0) !== generation) return;
          s.shutdown = 0;
          s.csts = (s.csts & ~CSTS.SHST) | CSTS.SHST_COMPLETE;
        });
      }
    }
    this.#locked(() => {
      Atomics.store(s.busy, 0, 0);
      this.#finishReset();
    });
    return more;
  }

  /** Something was put into a completion queue since the driver was last told. */
  #posted = false;

  /** Tells the driver of what was put there. */
  #tell(sq: number, generation: number): void {
    if (!this.#posted) return;
    this.#posted = false;
    const s = this.#s;
    this.#locked(() => {
      if (Atomics.load(s.generation, 0) !== generation) return;
      const cq = s.sqCq[sq]!;
      this.#interrupt(cq, s.cqVector[cq]!);
    });
  }

  /** Tells the host of the reads that wait on a queue, but for the first `known`; returns how many commands it knows of now. */
  #announce(sq: number, known: number, backend: BlockBackend): number {
    const s = this.#s, size = s.sqSize[sq]!;
    const base = s.sqLo[sq]! + s.sqHi[sq]! * 0x1_0000_0000;
    const waiting = (Atomics.load(s.sqTail, sq) - s.sqHead[sq]! + size) % size;
    for (; known < Math.min(waiting, AHEAD); known++) {
      const bytes = this.#ram.bytes(base + (s.sqHead[sq]! + known) % size * SQ_ENTRY_BYTES, SQ_ENTRY_BYTES);
      if (!bytes) break;
      this.#ahead.read(bytes);
      this.#commands.announce(this.#ahead, backend);
    }
    return known;
  }

  /** Whether the completion queue of a submission queue has room. */
  #roomFor(sq: number): boolean {
    const s = this.#s, cq = s.sqCq[sq]!;
    if (!s.cqLive[cq]) return false;
    return (s.cqTail[cq]! + 1) % s.cqSize[cq]! !== Atomics.load(s.cqHead, cq);
  }

  /** Carries out one command; false if the queue cannot be read, or nobody waits for the answer any more. */
  #one(sq: number, generation: number, backend: BlockBackend): boolean {
    const s = this.#s;
    const base = s.sqLo[sq]! + s.sqHi[sq]! * 0x1_0000_0000;
    const bytes = this.#ram.bytes(base + s.sqHead[sq]! * SQ_ENTRY_BYTES, SQ_ENTRY_BYTES);
    if (!bytes) {
      this.#locked(() => s.csts |= CSTS.CFS); // the queue is not memory
      return false;
    }
    const c = this.#command;
    c.read(bytes);
    s.sqHead[sq] = (s.sqHead[sq]! + 1) % s.sqSize[sq]!;
    let status: number;
    try {
      status = sq === ADMIN_QUEUE ? this.#commands.admin(c) : this.#commands.io(c, backend);
    } catch {
      status = SC.WRITE_FAULT; // the back end's way of failing
    }
    if (Atomics.load(s.generation, 0) !== generation) return false;
    if (status !== NO_ANSWER) this.#complete(sq, c.cid, status, this.#commands.result);
    return true;
  }

  #complete(sq: number, cid: number, status: number, result: number): void {
    const s = this.#s, cq = s.sqCq[sq]!, ram = this.#ram;
    const at = s.cqLo[cq]! + s.cqHi[cq]! * 0x1_0000_0000 + s.cqTail[cq]! * CQ_ENTRY_BYTES;
    ram.write(at, 4, result >>> 0);
    ram.write(at + 4, 4, 0);
    ram.write(at + 8, 4, (sq << 16) | s.sqHead[sq]!);
    // The phase bit tells the driver that all of the entry is there.
    this.#publish(at + 12, ((status << 17) | (s.cqPhase[cq]! << 16) | cid) >>> 0);
    const next = (s.cqTail[cq]! + 1) % s.cqSize[cq]!;
    if (next === 0) s.cqPhase[cq] = s.cqPhase[cq]! ^ 1;
    s.cqTail[cq] = next;
    this.#posted = true;
  }

  /** A store that no store before it passes. */
  #publish(gpa: number, value: number): void {
    const bytes = this.#ram.bytes(gpa, 4);
    if (!bytes) return;
    if (bytes.byteOffset % 4 === 0) Atomics.store(new Uint32Array(bytes.buffer, bytes.byteOffset, 1), 0, value);
    this.#ram.write(gpa, 4, value);
  }

  #tellEvents(generation: number): void {
    const s = this.#s;
    for (let event = 0; event < 2; event++) {
      if (!(s.eventPending & (1 << event)) || s.eventCount === 0 || !this.#roomFor(ADMIN_QUEUE)) continue;
      let cid = 0;
      this.#locked(() => {
        s.eventPending &= ~(1 << event);
        s.eventHeld |= 1 << event;
        cid = s.events[--s.eventCount]!;
      });
      // An error event, its log page is the errors' [nvme §5.2].
      if (Atomics.load(s.generation, 0) === generation) {
        this.#complete(ADMIN_QUEUE, cid, SC.SUCCESS, (1 << 16) | (event << 8));
      }
    }
  }

  // Interrupts, under the machine lock.

  #messageControl(): number {
    const control = this.readConfig(this.#msixAt + 2, 2);
    return this.busMaster ? control : control | MESSAGE_CONTROL.FUNCTION_MASK;
  }

  #interrupt(cq: number, vector: number): void {
    if (!this.#s.cqInterrupts[cq]) return;
    if (this.#msix.enabled) this.#msix.fire(vector);
    else this.#updatePin();
  }

  /** The pin is asserted while a queue that interrupts has entries the driver has not taken [nvme §7.5.1]. */
  #updatePin(): void {
    const s = this.#s;
    let level = false;
    if (!this.#msix.enabled && s.csts & CSTS.RDY) {
      for (let cq = 0; cq < QUEUES; cq++) {
        if (!s.cqLive[cq] || !s.cqInterrupts[cq] || s.cqTail[cq] === s.cqHead[cq]) continue;
        if (!(s.masked & (1 << (s.cqVector[cq]! & 31)))) level = true;
      }
    }
    this.setIntx(level);
  }

  // Base addresses.

  override barRead(bar: number, offset: number, size: number): number {
    if (bar === MSIX_BAR) return this.#msix.read(offset, size);
    return REGISTERS.has(offset & ~3) ? this.#bank.read(offset, size) : 0; // doorbells too
  }

  override barWrite(bar: number, offset: number, size: number, value: number): void {
    if (bar === MSIX_BAR) return this.#msix.write(offset, size, value);
    if (offset < DOORBELLS_AT) return this.#bank.write(offset, size, value);
    if (size === 4 && offset % 4 === 0) this.#doorbell((offset - DOORBELLS_AT) / 4, value & 0xffff);
  }

  protected override configWritten(at: number, size: number): void {
    this.#updatePin();
    this.#msix.deliver();
    if (at < PCI.COMMAND + 2 && at + size > PCI.COMMAND) this.renotify();
  }
}

function flush(backend: BlockBackend): boolean {
  try {
    backend.flush();
  } catch {
    // The back end has told whom it had to tell.
  }
  return true;
}
