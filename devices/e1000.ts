/**
 * The Intel 82545EM Gigabit Ethernet controller, the card that guests without virtio know.
 *
 * Spec: [e1000]: PCI/PCI-X Family of Gigabit Ethernet Controllers Software Developer's Manual.
 * Emulated: rings of legacy and extended descriptors, checksums and segmentation, address, group and VLAN filters, VLAN tags,
 * EEPROM and PHY, statistics of frames and bytes, interrupt throttling, INTx and MSI, the window of I/O ports.
 * Absent: flow control, wake-up, loop-back, delays of single interrupts (RDTR, RADV, TIDV and TADV keep what is written, and
 * interrupts come without a delay, at the pace of ITR), diagnostic access to the FIFOs, writing of the EEPROM.
 *
 * Registers are for vCPUs, under the machine lock; frames for the thread of the back end, which takes it for each.
 */
import type { Arena } from "../src/base/arena.ts";
import type { Clock } from "../src/base/clock.ts";
import type { MsiSink } from "../src/base/irq.ts";
import type { GuestRam } from "../src/base/ram.ts";
import type { View } from "../src/base/record.ts";
import type { Timer } from "../src/base/timers.ts";
import { Eeprom, eepromContents } from "./e1000_eeprom.ts";
import { Phy } from "./e1000_phy.ts";
import { ReceiveRing } from "./e1000_receive.ts";
import {
  CAUSE,
  CAUSES,
  CTRL,
  E1000_ARRAY,
  E1000_STATUS,
  E1000Record,
  type E1000Register,
  EECD,
  EERD,
  MDIC,
  RCTL,
  REGISTER_AT,
  RegisterFile,
  STATISTIC,
} from "./e1000_registers.ts";
import { canCut, makeWhole, sendCut, sendWhole, TransmitRing } from "./e1000_transmit.ts";
import type { Delivery } from "./network_card.ts";
import { PciFunction, PciFunctionRecord } from "./pci/function.ts";
import { Msi, MSI_BODY, MSI_CAPABILITY, MSI_MASK } from "./pci/msi.ts";
import { type FrameOffload, NET_HDR_GSO, NO_OFFLOAD } from "./virtio/net_header.ts";

const DEVICE_ID = 0x100f;
const MEMORY_BAR = 0, MEMORY_BYTES = 0x20000;
const IO_BAR = 2, IO_BYTES = 64;
const IOADDR = 0, IODATA = 4;
/** ITR counts these. */
const ITR_NS = 256;
const MAX_SEGMENT_BYTES = 256 + 65536;
/** Packets sent before others have a turn. */
const BURST = 256;
/** Rings are whole cache lines, of 20 bits [e1000 §13.4.26]. */
const RING_BYTES = 0xf_ff80;

export interface E1000Parts {
  readonly ram: GuestRam;
  readonly msi: MsiSink;
  readonly clock: Clock;
  /** For `settle`: when the next interrupt may come. */
  readonly timer: Timer;
  /** Runs `body` under the machine lock; where every caller holds it already, it only calls. */
  readonly locked?: (body: () => void) => void;
  /** There is something to send, or room again: wake whoever owns the back end. */
  readonly notify: (what: "transmit" | "receive") => void;
  /** The driver has reset the card. */
  readonly onReset?: () => void;
}

export interface E1000Options {
  readonly mac: Uint8Array;
  /** The back end takes checksums that are not complete, and segments to be cut. */
  readonly offload: boolean;
  /** An expansion ROM, a power of two long, by which firmware boots from the card. */
  readonly rom?: Uint8Array;
}

export class E1000Card extends PciFunction {
  readonly #s: View<typeof E1000Record>;
  readonly #file: RegisterFile;
  readonly #eeprom: Eeprom;
  readonly #phy: Phy;
  readonly #tx: TransmitRing;
  readonly #rx: ReceiveRing;
  readonly #msi: Msi;
  readonly #locked: (body: () => void) => void;
  readonly #segment = new Uint8Array(MAX_SEGMENT_BYTES);
  readonly #offload: FrameOffload = { ...NO_OFFLOAD };
  /** Frames were delivered that no interrupt has told of yet. */
  #delivered = false;

  /** Places its records in `arena` under names that start with `id`. */
  constructor(arena: Arena, id: string, private readonly p: E1000Parts, private readonly options: E1000Options) {
    super(arena.place(`${id}.pci`, PciFunctionRecord), {
      vendor: 0x8086,
      device: DEVICE_ID,
      revision: 1,
      classCode: 0x020000,
      subsystemVendor: 0x8086,
      subsystem: DEVICE_ID,
      interruptPin: 1,
      bars: {
        [MEMORY_BAR]: { kind: "memory32", sizeBytes: MEMORY_BYTES },
        [IO_BAR]: { kind: "io", sizeBytes: IO_BYTES },
      },
      ...(options.rom ? { rom: options.rom } : {}),
    });
    const s = this.#s = arena.place(`${id}.card`, E1000Record);
    this.#file = new RegisterFile(s.registers);
    this.#eeprom = new Eeprom(s, eepromContents(options.mac, DEVICE_ID));
    this.#phy = new Phy(s, () => this.#cause(CAUSE.LSC));
    this.#tx = new TransmitRing(s, this.#file, p.ram);
    this.#rx = new ReceiveRing(s, this.#file, p.ram, options.mac);
    this.#locked = p.locked ?? ((body) => body());
    const at = this.addCapability(MSI_CAPABILITY, MSI_BODY, MSI_MASK);
    this.#msi = new Msi(at, (at, size) => this.readConfig(at, size), p.msi);
  }

  // What a network card is to its back end.

  readonly guestChecksums = false;
  readonly guestSegments = false;
  readonly guestSegments6 = false;
  readonly activePairs = 1;

  serveControl(): boolean {
    return false;
  }

  get linkUp(): boolean {
    return this.#s.linkDown === 0;
  }

  /** Plugs the cable in or out. Under the machine lock. */
  setLink(up: boolean): void {
    if (this.linkUp === up) return;
    this.#s.linkDown = up ? 0 : 1;
    this.#cause(CAUSE.LSC);
  }

  /** Sends what waits, a burst at most; the arguments are good during the call. True: call again, more is waiting. */
  transmit(_pair: number, sink: (frame: Uint8Array, offload: Readonly<FrameOffload>) => void): boolean {
    for (let n = 0; n < BURST; n++) {
      let taken: ReturnType<TransmitRing["take"]> = "none";
      this.#locked(() => {
        if (!this.busMaster) return;
        taken = this.#tx.take();
        if (taken !== "none") this.#afterTaking();
        if (typeof taken === "object") this.#countSent(taken);
      });
      if (taken === "none") return false;
      if (typeof taken === "object" && !this.#s.linkDown) this.#send(taken, sink);
    }
    return true;
  }

  #afterTaking(): void {
    const empty = this.#tx.empty;
    if (!this.#tx.reported && !empty) return;
    const causes = (this.#tx.reported ? CAUSE.TXDW : 0) | (empty ? CAUSE.TXQE : 0);
    this.#tx.reported = false;
    this.#cause(causes);
  }

  #send(
    p: Exclude<ReturnType<TransmitRing["take"]>, string>,
    sink: (frame: Uint8Array, offload: Readonly<FrameOffload>) => void,
  ): void {
    const o = this.#offload, { context: c } = p;
    const leave = this.options.offload && p.sumTransport;
    o.csumStart = leave ? c.tucss : -1;
    o.csumOffset = leave ? c.tucso - c.tucss : 0;
    o.gsoSize = o.gsoType = o.headerBytes = 0;
    if (!p.cut) {
      const fits = leave && c.tucso >= c.tucss && c.tucso + 2 <= p.bytes.length;
      if (!fits) o.csumStart = -1;
      return sendWhole(fits ? { ...p, sumTransport: false } : p, (frame) => sink(frame, o));
    }
    if (!canCut(p)) return;
    if (leave && c.tcp && c.tucso >= c.tucss && makeWhole(p)) {
      o.gsoSize = c.mss;
      o.gsoType = c.ip4 ? NET_HDR_GSO.TCPV4 : NET_HDR_GSO.TCPV6;
      o.headerBytes = c.headerBytes;
      return sink(p.bytes, o);
    }
    o.csumStart = -1;
    sendCut(p, this.#segment, (frame) => sink(frame, o));
  }

  /** Puts a frame into the driver's buffers; see VirtioNet. */
  deliver(_pair: number, frame: Uint8Array): Delivery {
    let delivery: Delivery = "dropped";
    this.#locked(() => delivery = this.#deliver(frame));
    return delivery;
  }

  #deliver(frame: Uint8Array): Delivery {
    const rx = this.#rx;
    if (this.#s.linkDown || !(this.#file.get("RCTL") & RCTL.EN) || !this.busMaster || frame.length < 14) {
      return "dropped";
    }
    if (!rx.takes(frame)) return "dropped";
    this.#count(STATISTIC.TPR, 1);
    const kind = rx.filter(frame);
    if (!kind) return "dropped";
    if (!rx.put(frame, kind)) {
      // The cable waits where a real one would lose it, and the driver hears of that alike.
      this.#count(STATISTIC.RNBC, 1);
      this.#cause(CAUSE.RXO);
      return "full";
    }
    this.#count(STATISTIC.GPRC, 1);
    this.#count64(STATISTIC.GORC, frame.length + 4);
    this.#count64(STATISTIC.TOR, frame.length + 4);
    if (kind === "broadcast") this.#count(STATISTIC.BPRC, 1);
    if (kind === "multicast") this.#count(STATISTIC.MPRC, 1);
    this.#delivered = true;
    return "delivered";
  }

  /** Tells the driver of the frames delivered since the last call. */
  flush(): void {
    if (!this.#delivered) return;
    this.#delivered = false;
    this.#locked(() => this.#cause(CAUSE.RXT0 | (this.#rx.low ? CAUSE.RXDMT0 : 0)));
  }

  // Interrupts.

  #cause(bits: number): void {
    this.#s.icr |= bits;
    this.settle();
  }

  /** Drives the interrupt from the record. Also the timer's callback. Under the machine lock. */
  settle(): void {
    const s = this.#s;
    const wanted = (s.icr & s.ims) !== 0;
    if (!wanted) s.asserted = 0;
    else if (!s.asserted) {
      const nowNs = this.p.clock.nowNs(), nextNs = s.assertedAtNs + (this.#file.get("ITR") & 0xffff) * ITR_NS;
      // A clock that was set back is no reason to wait for long.
      if (s.assertedAtNs <= nowNs && nextNs > nowNs) {
        this.p.timer.arm(nextNs);
        return this.setIntx(false);
      }
      s.asserted = 1;
      s.assertedAtNs = nowNs;
      if (this.#msi.enabled && this.busMaster) this.#msi.fire();
    }
    this.p.timer.disarm();
    this.setIntx(s.asserted !== 0 && !this.#msi.enabled);
  }

  /** Looks for what was waiting when the machine was saved. Under the machine lock. */
  renotify(): void {
    if (!this.#tx.empty) this.p.notify("transmit");
    this.p.notify("receive");
  }

  protected override configWritten(): void {
    if (this.busMaster && !this.#tx.empty) this.p.notify("transmit");
    this.settle();
  }

  // Statistics stay at their largest value [e1000 §13.7].

  #count(offset: number, n: number): void {
    const i = (offset - E1000_ARRAY.STATISTICS.at) >> 2, statistics = this.#s.statistics;
    statistics[i] = Math.min(0xffff_ffff, statistics[i]! + n);
  }

  #count64(offset: number, n: number): void {
    const i = (offset - E1000_ARRAY.STATISTICS.at) >> 2, statistics = this.#s.statistics;
    const low = statistics[i]! + n;
    if (low > 0xffff_ffff) statistics[i + 1]!++;
    statistics[i] = low;
  }

  #countSent({ bytes, cut, context }: { bytes: Uint8Array; cut: boolean; context: { mss: number } }): void {
    const frames = cut ? Math.ceil(bytes.length / Math.max(1, context.mss)) : 1;
    for (const at of [STATISTIC.GPTC, STATISTIC.TPT]) this.#count(at, frames);
    for (const at of [STATISTIC.GOTC, STATISTIC.TOT]) this.#count64(at, bytes.length + 4);
    if (cut) this.#count(STATISTIC.TSCTC, 1);
    if (bytes[0]! & 1) this.#count(bytes[0] === 0xff ? STATISTIC.BPTC : STATISTIC.MPTC, 1);
  }

  // Registers: double words; less than that has no effect, and reads a part.

  override barRead(bar: number, offset: number, size: number): number {
    const at = offset & ~3;
    let value: number;
    if (bar === MEMORY_BAR) value = this.readAt(at);
    else if (at === IOADDR) value = this.#s.ioAddress;
    else value = at === IODATA ? this.readAt(this.#s.ioAddress & (MEMORY_BYTES - 4)) : 0;
    const part = value >>> (8 * (offset & 3));
    return size === 4 ? part >>> 0 : part & (size === 2 ? 0xffff : 0xff);
  }

  override barWrite(bar: number, offset: number, size: number, value: number): void {
    if (size !== 4 || offset & 3) return;
    if (bar === MEMORY_BAR) this.writeAt(offset, value);
    else if (offset === IOADDR) this.#s.ioAddress = value & 0xf_ffff;
    else if (offset === IODATA) this.writeAt(this.#s.ioAddress & (MEMORY_BYTES - 4), value);
  }

  readAt(offset: number): number {
    const name = REGISTER_AT.get(offset);
    if (name) return this.#read(name);
    const { STATISTICS, MTA, RECEIVE_ADDRESS, VFTA } = E1000_ARRAY;
    let i = indexIn(STATISTICS, offset);
    if (i >= 0) return this.#readStatistic(offset, i);
    if ((i = indexIn(MTA, offset)) >= 0) return this.#s.mta[i]!;
    if ((i = indexIn(RECEIVE_ADDRESS, offset)) >= 0) return this.#rx.address(i);
    return (i = indexIn(VFTA, offset)) >= 0 ? this.#s.vfta[i]! : 0;
  }

  #readStatistic(offset: number, i: number): number {
    const statistics = this.#s.statistics, value = statistics[i]!;
    const { GORC, GOTC, TOR, TOT } = STATISTIC;
    // The lower half stays until the upper one is read [e1000 §13.7.26].
    if ([GORC, GOTC, TOR, TOT].some((at) => at === offset)) return value;
    if ([GORC, GOTC, TOR, TOT].some((at) => at + 4 === offset)) statistics[i - 1] = 0;
    statistics[i] = 0;
    return value;
  }

  #read(name: E1000Register): number {
    const s = this.#s;
    switch (name) {
      case "STATUS": {
        const up = !s.linkDown && this.#file.get("CTRL") & CTRL.SLU;
        return E1000_STATUS.FD | E1000_STATUS.SPEED_1000 | E1000_STATUS.ASDV_1000 | (up ? E1000_STATUS.LU : 0);
      }
      case "EECD": {
        const eecd = this.#file.get("EECD");
        const granted = eecd & EECD.EE_REQ ? EECD.EE_GNT : 0;
        return eecd | EECD.EE_PRES | granted | this.#eeprom.output;
      }
      case "ICR": {
        const causes = s.icr;
        s.icr = 0;
        this.settle();
        return causes;
      }
      case "IMS":
        return s.ims;
      case "ICS":
      case "IMC":
      case "RXCW":
        return 0;
      default:
        return this.#file.get(name);
    }
  }

  writeAt(offset: number, value: number): void {
    const name = REGISTER_AT.get(offset);
    if (name) return this.#write(name, value);
    const { MTA, RECEIVE_ADDRESS, VFTA } = E1000_ARRAY;
    let i = indexIn(MTA, offset);
    if (i >= 0) this.#s.mta[i] = value;
    else if ((i = indexIn(RECEIVE_ADDRESS, offset)) >= 0) this.#rx.setAddress(i, i & 1 ? value & 0x8003_ffff : value);
    else if ((i = indexIn(VFTA, offset)) >= 0) this.#s.vfta[i] = value;
  }

  #write(name: E1000Register, value: number): void {
    const s = this.#s, file = this.#file;
    switch (name) {
      case "STATUS":
      case "RXCW":
        return;
      case "CTRL":
        return this.#writeControl(value);
      case "EECD":
        value &= EECD.SK | EECD.CS | EECD.DI | EECD.FWE | EECD.EE_REQ;
        this.#eeprom.drive(file.get("EECD"), value);
        return file.set("EECD", value);
      case "EERD":
        if (!(value & EERD.START)) return file.set("EERD", value & 0xff00);
        return file.set("EERD", ((this.#eeprom.word((value >>> 8) & 0xff) << 16) | (value & 0xff00) | EERD.DONE) >>> 0);
      case "MDIC":
        file.set("MDIC", this.#phy.command(value & ~(MDIC.READY | MDIC.ERROR)));
        if (value & MDIC.INTERRUPT) this.#cause(CAUSE.MDAC);
        return;
      case "ICR":
        s.icr &= ~value;
        return this.settle();
      case "ICS":
        return this.#cause(value & CAUSES);
      case "IMS":
        s.ims |= value & CAUSES;
        return this.settle();
      case "IMC":
        s.ims &= ~value;
        return this.settle();
      case "ITR":
        file.set("ITR", value & 0xffff);
        return this.settle();
      case "RDBAL":
      case "TDBAL":
        return file.set(name, value & ~15);
      case "RDLEN":
      case "TDLEN":
        return file.set(name, value & RING_BYTES);
      case "TDH":
      case "RDH":
        return file.set(name, value & 0xffff);
      case "TDT":
        file.set("TDT", value & 0xffff);
        return this.p.notify("transmit");
      case "RDT":
        file.set("RDT", value & 0xffff);
        return this.p.notify("receive");
      case "RCTL":
        file.set("RCTL", value);
        return this.p.notify("receive");
      case "TCTL":
        file.set("TCTL", value);
        return this.p.notify("transmit");
      default:
        file.set(name, value);
    }
  }

  #writeControl(value: number): void {
    if (value & CTRL.RST) return this.#reset();
    const before = this.#file.get("CTRL");
    this.#file.set("CTRL", (value & ~(CTRL.RST + CTRL.PHY_RST)) >>> 0);
    if (value & CTRL.PHY_RST) this.#phy.reset();
    if (value & CTRL.SLU && !(before & CTRL.SLU)) this.#cause(CAUSE.LSC);
  }

  /** All but configuration space and the cable. */
  #reset(): void {
    const s = this.#s, { linkDown, ioAddress } = s;
    E1000Record.reset(s);
    s.linkDown = linkDown;
    s.ioAddress = ioAddress;
    this.settle();
    this.p.onReset?.();
  }
}

function indexIn(array: { readonly at: number; readonly count: number }, offset: number): number {
  const i = (offset - array.at) >> 2;
  return i >= 0 && i < array.count ? i : -1;
}
