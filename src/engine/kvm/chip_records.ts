/**
 * The 8259A pair and the I/O APIC between the board's records and KVM's structures, both ways.
 *
 * What one side has and the other has not: KVM keeps no wires of the I/O APIC's edge-triggered inputs, which are told by those
 * of the 8259As; the board keeps no request whose input has fallen.
 */
import * as K from "../../../ffi/kvm.ts";
import type { ChipRecords } from "../engine.ts";

type Pic = ChipRecords["pic"];
type IoApicState = ChipRecords["ioApic"];

const P = K.kvm_pic_state, A = K.kvm_ioapic_state;
const ICW1 = { IC4: 1, SNGL: 2, LTIM: 8, IS_ICW1: 0x10 } as const;
const ICW4 = { UPM: 1, AEOI: 2, SFNM: 0x10 } as const;
/** The slave's INT is input 2 of the master. */
const CASCADE = 1 << 2;
/** Inputs that ELCR can make level-triggered. */
const ELCR_MASK = [0xf8, 0xde] as const;
/** KVM's initialization state: ICW2 is awaited, ICW3, ICW4. */
const AWAITED = [0, 2, 3, 4] as const;
const RTE_LEVEL = 1 << 15;
/** Redirection entries as software can have them: all but the delivery status. */
const RTE_LO = 0x0001_efff, RTE_HI = 0xff00_0000;
const IO_APIC_BASE = 0xfec0_0000n;

/** `chip`: 0 the master, 1 the slave. `dv` begins at kvm_pic_state. */
export function picToKvm(pic: Pic, chip: 0 | 1, dv: DataView): void {
  const cascade = chip === 0 ? CASCADE : 0;
  const level = pic.icw1[chip]! & ICW1.LTIM ? 0xff : pic.elcr[chip]!;
  const lines = pic.lines[chip]!;
  const put = (at: number, value: number) => dv.setUint8(at, value);
  put(P.last_irr, lines & ~cascade);
  put(P.irr, (pic.latched[chip]! & ~level) | (lines & level));
  put(P.imr, pic.imr[chip]!);
  put(P.isr, pic.isr[chip]!);
  put(P.priority_add, (pic.lowest[chip]! + 1) & 7);
  put(P.irq_base, pic.vectorBase[chip]!);
  put(P.read_reg_select, pic.readIsr[chip]!);
  put(P.poll, pic.poll[chip]!);
  put(P.special_mask, pic.specialMask[chip]!);
  put(P.init_state, Math.max(0, pic.awaited[chip]! - 1));
  put(P.auto_eoi, pic.icw4[chip]! & ICW4.AEOI ? 1 : 0);
  put(P.rotate_on_auto_eoi, pic.rotateOnAeoi[chip]!);
  put(P.special_fully_nested_mode, pic.icw4[chip]! & ICW4.SFNM ? 1 : 0);
  put(P.init4, pic.icw1[chip]! & ICW1.IC4);
  put(P.elcr, pic.elcr[chip]!);
  put(P.elcr_mask, ELCR_MASK[chip]);
}

export function picFromKvm(pic: Pic, chip: 0 | 1, dv: DataView): void {
  const cascade = chip === 0 ? CASCADE : 0;
  const get = (at: number) => dv.getUint8(at);
  const elcr = get(P.elcr) & ELCR_MASK[chip];
  pic.elcr[chip] = elcr;
  // The models drive the cascade anew.
  pic.lines[chip] = get(P.last_irr) & ~cascade;
  pic.latched[chip] = get(P.irr) & ~elcr & ~cascade & pic.lines[chip]!;
  pic.imr[chip] = get(P.imr);
  pic.isr[chip] = get(P.isr);
  pic.lowest[chip] = (get(P.priority_add) - 1) & 7;
  pic.vectorBase[chip] = get(P.irq_base) & 0xf8;
  pic.readIsr[chip] = get(P.read_reg_select) & 1;
  pic.poll[chip] = get(P.poll) ? 1 : 0;
  pic.specialMask[chip] = get(P.special_mask) ? 1 : 0;
  pic.awaited[chip] = AWAITED[get(P.init_state)] ?? 0;
  pic.rotateOnAeoi[chip] = get(P.rotate_on_auto_eoi) ? 1 : 0;
  pic.icw1[chip] = ICW1.IS_ICW1 | (get(P.init4) ? ICW1.IC4 : 0);
  pic.icw4[chip] = ICW4.UPM | (get(P.auto_eoi) ? ICW4.AEOI : 0) | (get(P.special_fully_nested_mode) ? ICW4.SFNM : 0);
}

/** `dv` begins at kvm_ioapic_state. Of the wires, KVM is told the level-triggered ones: a rise that was told is no news. */
export function ioApicToKvm(io: IoApicState, dv: DataView): void {
  let irr = 0;
  dv.setBigUint64(A.base_address, IO_APIC_BASE, true);
  dv.setUint32(A.ioregsel, io.select, true);
  dv.setUint32(A.id, io.id, true);
  for (let n = 0; n < K.KVM_IOAPIC_NUM_PINS; n++) {
    const entry = io.rteLo[n]!;
    if (entry & RTE_LEVEL && io.lines[n]) irr |= 1 << n;
    dv.setUint32(A.redirtbl + 8 * n, entry, true);
    dv.setUint32(A.redirtbl + 8 * n + 4, io.rteHi[n]!, true);
  }
  dv.setInt32(A.irr, irr, true);
}

/** `pic` has been read before: it tells the wires of ISA interrupts. */
export function ioApicFromKvm(io: IoApicState, pic: Pic, dv: DataView): void {
  const irr = dv.getInt32(A.irr, true);
  io.select = dv.getUint32(A.ioregsel, true) & 0xff;
  io.id = dv.getUint32(A.id, true) & 0xf;
  for (let n = 0; n < K.KVM_IOAPIC_NUM_PINS; n++) {
    io.rteLo[n] = dv.getUint32(A.redirtbl + 8 * n, true) & RTE_LO;
    io.rteHi[n] = dv.getUint32(A.redirtbl + 8 * n + 4, true) & RTE_HI;
    // Input 0 is the pair's own output, which the models drive; input 2 is ISA interrupt 0.
    const isa = n === 2 ? 0 : n;
    const wire = n === 0 ? 0 : n < 16 ? (pic.lines[isa >> 3]! >> (isa & 7)) & 1 : 0;
    io.lines[n] = wire | ((irr >>> n) & 1);
  }
}
