/** What the ACPI tables tell about a board: plain data, from which every address in them comes. */

/** A stretch of ports or addresses. */
export interface Range {
  readonly base: number;
  readonly length: number;
}

export interface BoardDescription {
  /** Processors, with APIC IDs and ACPI processor UIDs from 0. */
  readonly cpus: number;
  readonly localApicBase: number;
  readonly ioApic: { readonly id: number; readonly base: number; readonly firstGsi: number };
  /** The I/O APIC input of ISA interrupt 0. */
  readonly isaTimerGsi: number;
  /** ACPI fixed hardware; all values are ports. */
  readonly pm: {
    /** PM1a event block, 4 bytes. */
    readonly event: number;
    /** PM1a control block, 2 bytes. */
    readonly control: number;
    /** PM timer, 4 bytes. */
    readonly timer: number;
    readonly smiCommand: number;
    /** Values written to `smiCommand` to hand the fixed hardware over and to take it back. */
    readonly acpiEnable: number;
    readonly acpiDisable: number;
    /** An ISA interrupt, level-triggered and active high. */
    readonly sci: number;
    /** SLP_TYP of soft-off. */
    readonly s5: number;
  };
  /** A write of `value` to `port` resets the machine. */
  readonly reset: { readonly port: number; readonly value: number };
  readonly pci: {
    /** Memory-mapped configuration space of buses 0 to `buses` - 1, of 1 MiB each; `claimed` bytes are nobody else's. */
    readonly ecam: { readonly base: number; readonly buses: number; readonly claimed: number };
    /** Where the guest may put BARs. */
    readonly memory32: readonly Range[];
    readonly memory64: readonly Range[];
    readonly io: readonly Range[];
    /** The device number of the LPC bridge, behind which the ISA devices are. */
    readonly lpcDevice: number;
    /** The global system interrupt of pin `pin` (0 for INTA#) of `device`, for devices 0 to 31. */
    gsi(device: number, pin: number): number;
  };
  /** The 8259A pair's two port pairs and the ELCR's. */
  readonly pic: { readonly master: number; readonly slave: number; readonly elcr: number } | null;
  readonly pit: { readonly port: number; readonly irq: number; readonly speaker: number } | null;
  /** `century` is the CMOS index of the century byte. */
  readonly rtc: { readonly ports: Range; readonly irq: number; readonly century: number } | null;
  readonly ps2: {
    readonly data: number;
    readonly command: number;
    readonly keyboardIrq: number;
    readonly mouseIrq: number;
  } | null;
  /** COM1 upwards. */
  readonly serial: readonly { readonly port: number; readonly irq: number }[];
  /** High precision event timers: where, and what their first register reads. */
  readonly hpet?: { readonly base: number; readonly id: number };
  readonly pvpanic: { readonly port: number } | null;
  /** Where the generation ID is, and the edge-triggered interrupt that tells of another. */
  readonly vmGeneration?: { readonly base: number; readonly gsi: number };
  /** Other ports that no driver may claim. */
  readonly reservedPorts: readonly Range[];
}
