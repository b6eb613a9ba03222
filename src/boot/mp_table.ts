/**
 * The MP tables: processors, buses and interrupts for kernels that know no ACPI.
 *
 * Spec: [mps §4.1] the floating pointer, [mps §4.2] the header, [mps §4.3] the entries; [mps §D.3] PCI's interrupts.
 */
import { ascii, join, le } from "./acpi/aml.ts";
import type { BoardDescription } from "./acpi/board.ts";

export const MP_POINTER_BYTES = 16;
const HEADER_BYTES = 44;
const REVISION = 4; // of 1.4
const PCI_BUS = 0, ISA_BUS = 1;
const ENTRY = { PROCESSOR: 0, BUS: 1, IO_APIC: 2, IO_INTERRUPT: 3, LOCAL_INTERRUPT: 4 } as const;
const INTERRUPT = { INT: 0, NMI: 1, EXT_INT: 3 } as const;
/** Polarity in bits 1:0, trigger in bits 3:2; zero is what the bus says. */
const CONFORMS = 0, ACTIVE_HIGH_LEVEL = 0b1101, ACTIVE_LOW_LEVEL = 0b1111;
const LOCAL_APIC_VERSION = 0x14, IO_APIC_VERSION = 0x20;
const ENABLED = 1, BOOTSTRAP = 2;
/** Family 6, and the features a processor must have: FPU, CX8, APIC. The guest asks CPUID for the others. */
const SIGNATURE = 0x600, FEATURES = 0x301;
const MAX_CPUS = 255;

/** The pointer and the table it leads to, to be put at `base`, a multiple of 16. */
export function buildMpTable(board: BoardDescription, base: number): Uint8Array {
  const entries = [
    ...Array.from({ length: Math.min(board.cpus, MAX_CPUS) }, (_, id) =>
      join(
        [ENTRY.PROCESSOR, id, LOCAL_APIC_VERSION, ENABLED | (id === 0 ? BOOTSTRAP : 0)],
        le(SIGNATURE, 4),
        le(FEATURES, 4),
        le(0, 8),
      )),
    join([ENTRY.BUS, PCI_BUS], ascii("PCI   ")),
    join([ENTRY.BUS, ISA_BUS], ascii("ISA   ")),
    join([ENTRY.IO_APIC, board.ioApic.id, IO_APIC_VERSION, ENABLED], le(board.ioApic.base, 4)),
    ...isaInterrupts(board),
    ...pciInterrupts(board),
    // The 8259A pair at LINT0 of the bootstrap processor, NMI at LINT1 of all.
    join([ENTRY.LOCAL_INTERRUPT, INTERRUPT.EXT_INT], le(CONFORMS, 2), [ISA_BUS, 0, 0, 0]),
    join([ENTRY.LOCAL_INTERRUPT, INTERRUPT.NMI], le(CONFORMS, 2), [ISA_BUS, 0, 0xff, 1]),
  ];
  const body = join(...entries);
  const header = join(
    ascii("PCMP"),
    le(HEADER_BYTES + body.length, 2),
    REVISION,
    0, // checksum
    ascii("TRIKE   "),
    ascii("TRIKEPC     "),
    le(0, 4),
    le(0, 2),
    le(entries.length, 2),
    le(board.localApicBase, 4),
    le(0, 4),
  );
  const table = join(header, body);
  table[7] = complement(table);
  const pointer = join(ascii("_MP_"), le(base + MP_POINTER_BYTES, 4), 1, REVISION, 0, [0, 0, 0, 0, 0]);
  pointer[10] = complement(pointer);
  return join(pointer, table);
}

function complement(bytes: Uint8Array): number {
  return -bytes.reduce((sum, b) => sum + b, 0) & 0xff;
}

function interrupt(board: BoardDescription, bus: number, source: number, flags: number, gsi: number): Uint8Array {
  const pin = gsi - board.ioApic.firstGsi;
  return join([ENTRY.IO_INTERRUPT, INTERRUPT.INT], le(flags, 2), [bus, source, board.ioApic.id, pin]);
}

/** All but the cascade; the timer's input is another. */
function isaInterrupts(board: BoardDescription): Uint8Array[] {
  const irqs = Array.from({ length: 16 }, (_, irq) => irq).filter((irq) => irq !== 2);
  return irqs.map((irq) =>
    interrupt(
      board,
      ISA_BUS,
      irq,
      irq === board.pm.sci ? ACTIVE_HIGH_LEVEL : CONFORMS,
      irq === 0 ? board.isaTimerGsi : irq,
    )
  );
}

/** The source of a pin: its device in bits 6:2, itself in bits 1:0. */
function pciInterrupts(board: BoardDescription): Uint8Array[] {
  return Array.from(
    { length: 32 * 4 },
    (_, source) => interrupt(board, PCI_BUS, source, ACTIVE_LOW_LEVEL, board.pci.gsi(source >> 2, source & 3)),
  );
}
