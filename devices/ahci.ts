/**
 * The ICH9 SATA controller in its AHCI mode, six ports.
 *
 * Spec: [ahci §3] registers, [ahci §10.7] interrupts; [ich9 §15] configuration space.
 * Emulated: disks with native command queuing and CD-ROM drives, resets of the controller, a port and a device, errors with their
 * FISes, MSI and INTx.
 * Absent: port multipliers, command completion coalescing, enclosure management, hot plug of devices (media change is there),
 * staggered spin-up, the IDE modes.
 */
import type { Arena } from "../src/base/arena.ts";
import { type Region, registerBank, type RegisterDevice } from "../src/base/bus.ts";
import type { MsiSink } from "../src/base/irq.ts";
import type { GuestRam } from "../src/base/ram.ts";
import type { View } from "../src/base/record.ts";
import { type AhciDevice, AhciPort } from "./ahci_port.ts";
import {
  AHCI_HBA,
  AHCI_PORT,
  AHCI_PORTS,
  AhciPortRecord,
  AhciRecord,
  CAP,
  GHC,
  PORT_AT,
  PORT_BYTES,
  VS,
} from "./ahci_registers.ts";
import type { BlockBackend } from "./block_backend.ts";
import { PCI, PciFunction, PciFunctionRecord } from "./pci/function.ts";
import { Msi, MSI_BODY, MSI_CAPABILITY, MSI_MASK } from "./pci/msi.ts";

const ABAR = 5;
const ABAR_BYTES = 0x1000;

export interface AhciParts {
  readonly ram: GuestRam;
  readonly msi: MsiSink;
  /** Runs `body` under the machine lock; where every caller holds it already, it only calls. */
  readonly locked?: (body: () => void) => void;
  /** A port has commands: wake whoever calls `processPort`, or call it. */
  readonly notify: (port: number) => void;
}

/** Offsets of the registers that there are. */
const HBA_REGISTERS: ReadonlySet<number> = new Set(Object.values(AHCI_HBA).map(({ at }) => at));
const PORT_REGISTERS: ReadonlySet<number> = new Set(Object.values(AHCI_PORT).map(({ at }) => at));

export class Ahci extends PciFunction implements RegisterDevice<typeof AHCI_HBA> {
  readonly registers = AHCI_HBA;
  readonly ports: readonly AhciPort[];
  readonly #s: View<typeof AhciRecord>;
  readonly #hba: Region = registerBank<typeof AHCI_HBA>(this);
  readonly #banks: readonly Region[];
  readonly #msi: Msi;

  /** Places its records in `arena` under names that start with `id`. `devices` by port. */
  constructor(arena: Arena, id: string, parts: AhciParts, devices: readonly (AhciDevice | null)[]) {
    super(arena.place(`${id}.pci`, PciFunctionRecord), {
      vendor: 0x8086,
      device: 0x2922,
      revision: 2,
      classCode: 0x010601,
      subsystemVendor: 0x8086,
      subsystem: 0x2922,
      interruptPin: 1,
      bars: { [ABAR]: { kind: "memory32", sizeBytes: ABAR_BYTES } },
    });
    this.#s = arena.place(`${id}.hba`, AhciRecord);
    const locked = parts.locked ?? ((body: () => void) => body());
    this.ports = Array.from(
      { length: AHCI_PORTS },
      (_, n) =>
        new AhciPort(arena.place(`${id}.port${n}`, AhciPortRecord), {
          ram: parts.ram,
          locked,
          notify: () => parts.notify(n),
          changed: () => this.#update(),
          idle: () => this.#finishReset(),
          busMaster: () => this.busMaster,
        }, devices[n] ?? null),
    );
    this.#banks = this.ports.map((port) =>
      registerBank<typeof AHCI_PORT>({
        registers: AHCI_PORT,
        readRegister: (reg) => port.readRegister(reg),
        writeRegister: (reg, value) => port.writeRegister(reg, value),
      })
    );
    this.define(0x90, 1, 0x40, 0xc0); // MAP: AHCI mode
    this.define(0x92, 2, 0x3f, 0x3f); // PCS: the ports are enabled
    const at = this.addCapability(MSI_CAPABILITY, MSI_BODY, MSI_MASK);
    this.#msi = new Msi(at, (at, size) => this.readConfig(at, size), parts.msi);
  }

  /** Drives the outputs from the records, and makes the devices show themselves after power-on. Under the machine lock. */
  settle(): void {
    for (const port of this.ports) port.settle();
    this.#update();
  }

  /** Looks for commands that were waiting when the machine was saved. Under the machine lock. */
  renotify(): void {
    for (const port of this.ports) port.renotify();
  }

  /** Carries out what waits at a port, without the machine lock; true: call again, more is waiting. */
  processPort(port: number, backend: BlockBackend): boolean {
    return this.ports[port]?.process(backend) ?? false;
  }

  readRegister(reg: keyof typeof AHCI_HBA): number {
    switch (reg) {
      case "CAP":
        return CAP;
      case "GHC":
        return (this.#s.ghc | GHC.AE | (this.#s.resetting ? GHC.HR : 0)) >>> 0;
      case "IS":
        return this.#s.is;
      case "PI":
        return (1 << AHCI_PORTS) - 1;
      case "VS":
        return VS;
      default:
        return 0;
    }
  }

  writeRegister(reg: keyof typeof AHCI_HBA, value: number): void {
    const s = this.#s;
    if (reg === "GHC") {
      if (value & GHC.HR) {
        s.resetting = 1;
        for (const port of this.ports) port.reset();
        return this.#finishReset();
      }
      s.ghc = value & GHC.IE;
      this.#update();
    } else if (reg === "IS") {
      s.is &= ~value;
      // What is left is told again, as a message tells only of a change [ahci §10.7.2.1].
      if (s.is !== 0 && s.ghc & GHC.IE && this.#msi.enabled && this.busMaster) this.#msi.fire();
      this.#update();
    }
  }

  /** A reset is over once no thread touches memory for a port any more. */
  #finishReset(): void {
    const s = this.#s;
    if (!s.resetting || this.ports.some((port) => port.busy)) return;
    s.resetting = s.ghc = s.is = 0;
    this.#update();
  }

  /** Collects the ports' interrupts and drives the pin, or sends a message for those that are new. */
  #update(): void {
    const s = this.#s, before = s.is;
    for (let n = 0; n < this.ports.length; n++) if (this.ports[n]!.interrupting) s.is |= 1 << n;
    const enabled = (s.ghc & GHC.IE) !== 0;
    if (this.#msi.enabled) {
      this.setIntx(false);
      if (enabled && s.is & ~before && this.busMaster) this.#msi.fire();
    } else this.setIntx(enabled && s.is !== 0);
  }

  override barRead(_bar: number, offset: number, size: number): number {
    const n = Math.floor((offset - PORT_AT) / PORT_BYTES);
    if (offset < PORT_AT) return this.#bank(this.#hba, offset, size);
    return n < this.ports.length ? this.#bank(this.#banks[n]!, (offset - PORT_AT) % PORT_BYTES, size) : 0;
  }

  /** What is reserved reads as zeros. */
  #bank(bank: Region, offset: number, size: number): number {
    const known = bank === this.#hba ? HBA_REGISTERS : PORT_REGISTERS;
    return known.has(offset & ~3) ? bank.read(offset, size) : 0;
  }

  override barWrite(_bar: number, offset: number, size: number, value: number): void {
    const n = Math.floor((offset - PORT_AT) / PORT_BYTES);
    if (offset < PORT_AT) this.#hba.write(offset, size, value);
    else if (n < this.ports.length) this.#banks[n]!.write((offset - PORT_AT) % PORT_BYTES, size, value);
  }

  protected override configWritten(at: number, size: number): void {
    if (at < PCI.COMMAND + 2 && at + size > PCI.COMMAND) this.renotify();
    this.#update();
  }
}
