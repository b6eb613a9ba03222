/** What the board's records say is what KVM's own chips say: written there, read back, compared. */
import { assertEquals } from "@std/assert";
import { I8254Record } from "../../../devices/i8254.ts";
import { I8259Record } from "../../../devices/i8259.ts";
import { IoApicRecord } from "../../../devices/io_apic.ts";
import { LocalApicRecord } from "../../../devices/local_apic_registers.ts";
import * as K from "../../../ffi/kvm.ts";
import { ioApicFromKvm, ioApicToKvm, picFromKvm, picToKvm } from "../../../src/engine/kvm/chip_records.ts";
import type { Bytes } from "../../../src/engine/kvm/host.ts";
import { createIrqChip } from "../../../src/engine/kvm/irq_chip.ts";
import { lapicFromKvm, type LapicTime, lapicToKvm } from "../../../src/engine/kvm/lapic_record.ts";
import { pitFromKvm, pitToKvm } from "../../../src/engine/kvm/pit_record.ts";
import { probeKvm } from "../../../src/engine/kvm/probe.ts";
import { Kvm } from "../../../src/engine/kvm/vm.ts";

const { refusal } = probeKvm();

/** A VM with all of KVM's chips. */
class Chips implements Disposable {
  readonly #kvm = new Kvm();
  readonly #vm: number;
  readonly #vcpu: number;

  constructor() {
    const { host } = this.#kvm;
    this.#vm = host.ioctl("KVM_CREATE_VM", this.#kvm.fd, K.KVM_CREATE_VM);
    this.#kvm.prepare(this.#vm);
    createIrqChip(host, this.#vm, "kernel");
    this.#vcpu = host.ioctl("KVM_CREATE_VCPU", this.#vm, K.KVM_CREATE_VCPU);
  }

  [Symbol.dispose](): void {
    const { host } = this.#kvm;
    for (const fd of [this.#vcpu, this.#vm, this.#kvm.fd]) host.close(fd);
  }

  /** `fill`ed, written, and read back from KVM. */
  irqChip(id: number, fill: (dv: DataView) => void): DataView {
    const there: Bytes = new Uint8Array(K.kvm_irqchip.SIZEOF), back: Bytes = new Uint8Array(K.kvm_irqchip.SIZEOF);
    there[0] = back[0] = id;
    fill(new DataView(there.buffer, K.kvm_irqchip.chip));
    const { host } = this.#kvm;
    host.ioctlWith("KVM_SET_IRQCHIP", this.#vm, K.KVM_SET_IRQCHIP, there);
    host.ioctlWith("KVM_GET_IRQCHIP", this.#vm, K.KVM_GET_IRQCHIP, back);
    return new DataView(back.buffer, K.kvm_irqchip.chip);
  }

  pit(fill: (dv: DataView) => void): DataView {
    const there: Bytes = new Uint8Array(K.kvm_pit_state2.SIZEOF), back: Bytes = new Uint8Array(K.kvm_pit_state2.SIZEOF);
    fill(new DataView(there.buffer));
    const { host } = this.#kvm;
    host.ioctlWith("KVM_SET_PIT2", this.#vm, K.KVM_SET_PIT2, there);
    host.ioctlWith("KVM_GET_PIT2", this.#vm, K.KVM_GET_PIT2, back);
    return new DataView(back.buffer);
  }

  lapic(fill: (dv: DataView) => void): DataView {
    const there: Bytes = new Uint8Array(K.kvm_lapic_state.SIZEOF),
      back: Bytes = new Uint8Array(K.kvm_lapic_state.SIZEOF);
    fill(new DataView(there.buffer));
    const { host } = this.#kvm;
    host.ioctlWith("KVM_SET_LAPIC", this.#vcpu, K.KVM_SET_LAPIC, there);
    host.ioctlWith("KVM_GET_LAPIC", this.#vcpu, K.KVM_GET_LAPIC, back);
    return new DataView(back.buffer);
  }
}

function test(name: string, body: (chips: Chips) => void): void {
  Deno.test(`kvm: ${name}`, () => {
    if (refusal !== null) return console.log(`skipped: ${refusal}`);
    using chips = new Chips();
    body(chips);
  });
}

/** The fields of a record, as plain data. */
function plain(view: object, names: readonly string[]): Record<string, unknown> {
  return Object.fromEntries(names.map((name) => {
    const value = (view as Record<string, unknown>)[name];
    return [name, ArrayBuffer.isView(value) ? [...value as Uint8Array] : value];
  }));
}

test("an 8259A pair goes there and comes back", (chips) => {
  const from = I8259Record.create(), to = I8259Record.create();
  const both = (field: Uint8Array, master: number, slave: number) => field.set([master, slave]);
  both(from.lines, 0x31, 0x82);
  both(from.latched, 0x11, 0x02);
  both(from.isr, 0x02, 0x40);
  both(from.imr, 0xe8, 0x55);
  both(from.elcr, 0x20, 0x0c);
  both(from.icw1, 0x11, 0x11);
  both(from.vectorBase, 0x30, 0x38);
  both(from.icw4, 0x03, 0x11);
  both(from.lowest, 4, 7);
  both(from.readIsr, 1, 0);
  both(from.specialMask, 0, 1);
  both(from.awaited, 0, 3);
  for (const chip of [0, 1] as const) picFromKvm(to, chip, chips.irqChip(chip, (dv) => picToKvm(from, chip, dv)));
  const names = Object.keys(I8259Record.fields);
  assertEquals(plain(to, names), plain(from, names));
});

test("an I/O APIC goes there and comes back, levels and all", (chips) => {
  const from = IoApicRecord.create(), to = IoApicRecord.create(), pic = I8259Record.create();
  from.select = 0x1a;
  from.id = 5;
  from.rteLo[4] = 0x0001_0931; // masked: nothing is sent while this is looked at
  from.rteHi[4] = 0x0300_0000;
  from.rteLo[17] = 0x0001_a032;
  from.lines[17] = 1;
  ioApicFromKvm(to, pic, chips.irqChip(K.KVM_IRQCHIP_IOAPIC, (dv) => ioApicToKvm(from, dv)));
  assertEquals(plain(to, ["select", "id", "lines"]), plain(from, ["select", "id", "lines"]));
  assertEquals([...to.rteLo.subarray(0, 24)], [...from.rteLo.subarray(0, 24)]);
  assertEquals([...to.rteHi.subarray(0, 24)], [...from.rteHi.subarray(0, 24)]);
});

test("a PIT goes there and comes back, but for where it is in its period", (chips) => {
  const from = I8254Record.create(), to = I8254Record.create();
  from.control.set([0x34, 0x30, 0x36]);
  from.phase.set([2, 0, 2]);
  from.initial.set([11932, 65536, 1193]);
  from.port61 = 3;
  from.latched[0] = 1;
  from.latch[0] = 0x1234;
  pitFromKvm(to, chips.pit((dv) => pitToKvm(from, dv)), 1e9, 0);
  const names = ["control", "phase", "initial", "port61", "latch", "latched", "readHigh", "writeHigh"];
  assertEquals(plain(to, names), plain(from, names));
});

test("a local APIC goes there and comes back, its timer at the same moment", (chips) => {
  const time: LapicTime = { nowNs: 5e9, nsOfTsc: (tsc) => Number(tsc), tscOfNs: (ns) => BigInt(Math.floor(ns)) };
  const from = LocalApicRecord.create(), to = LocalApicRecord.create();
  Object.assign(from, { tpr: 0x40, ldr: 0x0200_0000, svr: 0x1ff, icrLo: 0x4030, icrHi: 0x0100_0000, dcr: 0xb });
  Object.assign(from, { lvtTimer: 0x3_0030, lvtLint0: 0x1_0700, lvtLint1: 0x400, lvtError: 0x1_00fe });
  Object.assign(from, { initialCount: 4_000_000_000, counting: 1, zeroNs: 8e9 });
  from.isr[1] = 1 << 16;
  from.irr[2] = 1 << 3;
  from.tmr[2] = 1 << 3;
  let apicBase = 0n;
  const page = chips.lapic((dv) => apicBase = lapicToKvm(from, 0, dv, time).apicBase);
  lapicFromKvm(to, page, { apicBase, deadline: 0n }, time);
  const names = Object.keys(LocalApicRecord.fields).filter((name) => name !== "zeroNs");
  assertEquals(plain(to, names), plain(from, names));
  // KVM's timer has run for a moment between the two.
  const lateNs = from.zeroNs - to.zeroNs;
  assertEquals(lateNs >= 0 && lateNs < 1e9, true, `the timer moved by ${lateNs} ns`);
});
