/**
 * KVM's interrupt controllers: which of them a VM gets, and where its wires lead.
 *
 * A global system interrupt is an input of the I/O APIC, and ISA interrupts are inputs of the 8259A pair as well: the board's
 * wires have the same numbers, but for ISA interrupt 0, which is the I/O APIC's input 2 [acpi §5.2.12.5].
 */
import * as K from "../../../ffi/kvm.ts";
import { HostError } from "../../base/errors.ts";
import type { IrqChip } from "../engine.ts";
import type { Host } from "./host.ts";

const CASCADE = 2, ISA_WIRES = 16;
/** The board's wire of ISA interrupt 0, and KVM's number of it, at which its PIT is. */
const TIMER_WIRE = 2, TIMER_GSI = 0;

interface Capabilities {
  has(cap: number): boolean;
}

const NEEDS = {
  kernel: ["IRQCHIP", "PIT2", "PIT_STATE2", "IRQ_ROUTING", "SIGNAL_MSI", "MP_STATE"],
  split: ["SPLIT_IRQCHIP", "IRQ_ROUTING", "SIGNAL_MSI", "MP_STATE"],
  user: [],
} as const;

/** What a machine gets: the most that this KVM offers, or what was asked for. Throws HostError if there is no such thing. */
export function chooseIrqChip(kvm: Capabilities, asked: IrqChip | undefined): IrqChip {
  const missing = (chip: IrqChip) => NEEDS[chip].filter((name) => !kvm.has(K.KVM_CAP[name]));
  if (asked === undefined) {
    return missing("kernel").length === 0 ? "kernel" : missing("split").length === 0 ? "split" : "user";
  }
  const [first] = missing(asked);
  if (first !== undefined) {
    throw new HostError(
      `Cannot use --engine kvm:irqchip=${asked}: this host's KVM has no KVM_CAP_${first}; use irqchip=user`,
    );
  }
  return asked;
}

/** Before a VM has vCPUs. */
export function createIrqChip(host: Host, vm: number, chip: IrqChip): void {
  if (chip === "user") return;
  if (chip === "split") {
    const cap = new DataView(new ArrayBuffer(K.kvm_enable_cap.SIZEOF));
    cap.setUint32(K.kvm_enable_cap.cap, K.KVM_CAP.SPLIT_IRQCHIP, true);
    cap.setBigUint64(K.kvm_enable_cap.args, BigInt(K.KVM_IOAPIC_NUM_PINS), true);
    host.ioctlWith("KVM_ENABLE_CAP (KVM_CAP_SPLIT_IRQCHIP)", vm, K.KVM_ENABLE_CAP, new Uint8Array(cap.buffer));
    return;
  }
  host.ioctl("KVM_CREATE_IRQCHIP", vm, K.KVM_CREATE_IRQCHIP);
  const pit = new DataView(new ArrayBuffer(K.kvm_pit_config.SIZEOF));
  pit.setUint32(K.kvm_pit_config.flags, K.KVM_PIT_SPEAKER_DUMMY, true);
  host.ioctlWith("KVM_CREATE_PIT2", vm, K.KVM_CREATE_PIT2, new Uint8Array(pit.buffer));
  setRouting(host, vm, wires());
}

/** KVM's number of one of the board's wires. */
export function gsiOf(wire: number): number {
  return wire === TIMER_WIRE ? TIMER_GSI : wire;
}

export interface Route {
  readonly gsi: number;
  /** An input of a chip, or a message. */
  readonly to: { readonly chip: number; readonly pin: number } | { readonly address: number; readonly data: number };
}

function wires(): Route[] {
  const routes: Route[] = [];
  for (let gsi = 0; gsi < K.KVM_IOAPIC_NUM_PINS; gsi++) {
    if (gsi === CASCADE) continue;
    if (gsi < ISA_WIRES) {
      const chip = gsi < 8 ? K.KVM_IRQCHIP_PIC_MASTER : K.KVM_IRQCHIP_PIC_SLAVE;
      routes.push({ gsi, to: { chip, pin: gsi & 7 } });
    }
    routes.push({ gsi, to: { chip: K.KVM_IRQCHIP_IOAPIC, pin: gsi === TIMER_GSI ? TIMER_WIRE : gsi } });
  }
  return routes;
}

/** Replaces all routes. */
export function setRouting(host: Host, vm: number, routes: readonly Route[]): void {
  const E = K.kvm_irq_routing_entry, bytes = new Uint8Array(K.kvm_irq_routing.SIZEOF + routes.length * E.SIZEOF);
  const dv = new DataView(bytes.buffer);
  dv.setUint32(K.kvm_irq_routing.nr, routes.length, true);
  routes.forEach(({ gsi, to }, i) => {
    const at = K.kvm_irq_routing.entries + i * E.SIZEOF;
    dv.setUint32(at + E.gsi, gsi, true);
    dv.setUint32(at + E.type, "chip" in to ? K.KVM_IRQ_ROUTING_IRQCHIP : K.KVM_IRQ_ROUTING_MSI, true);
    if ("chip" in to) {
      dv.setUint32(at + E.u_irqchip_irqchip, to.chip, true);
      dv.setUint32(at + E.u_irqchip_pin, to.pin, true);
    } else {
      dv.setUint32(at + E.u_msi_address_lo, to.address, true);
      dv.setUint32(at + E.u_msi_data, to.data, true);
    }
  });
  host.ioctlWith("KVM_SET_GSI_ROUTING", vm, K.KVM_SET_GSI_ROUTING, bytes);
}
