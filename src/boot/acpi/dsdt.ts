/**
 * The DSDT: what no bus can enumerate, and how the PCI bus is wired.
 *
 * Spec: [acpi §5.2.11.1] the table, [acpi §6.2.13] _PRT, [acpi §7.4.2] _Sx, [pcifw §4.5] _OSC of a host bridge.
 */
import {
  type Aml,
  and,
  arg,
  createDWordField,
  device,
  eisaId,
  equal,
  integer,
  join,
  method,
  name,
  not,
  notify,
  or,
  otherwise,
  path,
  pkg,
  ret,
  scope,
  string,
  uuid,
  when,
} from "./aml.ts";
import type { BoardDescription } from "./board.ts";
import {
  dwordMemory,
  interrupt,
  io,
  irqNoFlags,
  memory32Fixed,
  qwordMemory,
  type Resource,
  resourceTemplate,
  wordBusNumber,
  wordIo,
} from "./resources.ts";

const PCI_DEVICES = 32;
const PCI_PINS = 4;
const PCI_CONFIG_PORTS = 0xcf8; // CONFIG_ADDRESS, CONFIG_DATA: 8 ports
/** _OSC: the operating system may have the PCI Express capability; nothing here can hot-plug or report errors. */
const OSC_GRANTED = 1 << 4;

/** The table's body, without its header. */
export function dsdt(board: BoardDescription): Aml {
  return join(
    // SLP_TYP for PM1a and PM1b, and two reserved elements.
    name("\\_S5", pkg(integer(board.pm.s5), integer(0), integer(0), integer(0))),
    scope(
      "\\_SB",
      ...Array.from({ length: board.cpus }, (_, i) => processor(i)),
      motherboard(board),
      pciRoot(board),
      ...board.vmGeneration ? generation(board.vmGeneration) : [],
    ),
  );
}

function processor(uid: number): Aml {
  const id = "C" + uid.toString(16).toUpperCase().padStart(3, "0");
  return device(id, name("_HID", string("ACPI0007")), name("_UID", integer(uid)));
}

/** Keeps everybody's hands off what belongs to the board itself. */
function motherboard(board: BoardDescription): Aml {
  const { pm, pci } = board;
  return device(
    "MBRD",
    name("_HID", eisaId("PNP0C02")),
    name("_UID", integer(0)),
    resources(
      io(pm.event, 4),
      io(pm.control, 2),
      io(pm.timer, 4),
      io(pm.smiCommand, 2),
      ...board.reservedPorts.map((r) => io(r.base, r.length)),
      memory32Fixed(pci.ecam.base, pci.ecam.claimed, true),
    ),
  );
}

function pciRoot(board: BoardDescription): Aml {
  const { pci } = board;
  return device(
    "PCI0",
    name("_HID", eisaId("PNP0A08")),
    name("_CID", eisaId("PNP0A03")),
    name("_UID", integer(0)),
    name("_SEG", integer(0)),
    name("_BBN", integer(0)),
    resources(
      wordBusNumber(0, pci.ecam.buses),
      io(PCI_CONFIG_PORTS, 8),
      ...pci.io.map((r) => wordIo(r.base, r.length)),
      ...pci.memory32.map((r) => dwordMemory(r.base, r.length)),
      ...pci.memory64.map((r) => qwordMemory(r.base, r.length)),
    ),
    name("_PRT", routing(pci)),
    operatingSystemCapabilities(),
    device("LPC", name("_ADR", integer(pci.lpcDevice * 0x10000)), ...isaDevices(board)),
  );
}

/** Every pin of every device, any function, straight to its global system interrupt. */
function routing(pci: BoardDescription["pci"]): Aml {
  const entries: Aml[] = [];
  for (let slot = 0; slot < PCI_DEVICES; slot++) {
    for (let pin = 0; pin < PCI_PINS; pin++) {
      const anyFunction = slot * 0x10000 + 0xffff;
      entries.push(pkg(integer(anyFunction), integer(pin), integer(0), integer(pci.gsi(slot, pin))));
    }
  }
  return pkg(...entries);
}

/** The answer has the bits of the third DWORD that are granted; the first says what was wrong or held back. */
function operatingSystemCapabilities(): Aml {
  const [id, revision, answer] = [arg(0), arg(1), arg(3)];
  const status = path("CDW1"), control = path("CDW3");
  const UNRECOGNIZED_UUID = 1 << 2, UNRECOGNIZED_REVISION = 1 << 3, MASKED = 1 << 4;
  return method(
    "_OSC",
    4,
    createDWordField(answer, 0, "CDW1"),
    when(
      equal(id, uuid("33DB4D5B-1FF7-401C-9657-7441C03DD766")),
      createDWordField(answer, 8, "CDW3"),
      when(not(equal(revision, integer(1))), or(status, integer(UNRECOGNIZED_REVISION), status)),
      when(
        not(equal(and(control, integer(0xffffffff - OSC_GRANTED), join(0)), integer(0))),
        or(status, integer(MASKED), status),
      ),
      and(control, integer(OSC_GRANTED), control),
    ),
    otherwise(or(status, integer(UNRECOGNIZED_UUID), status)),
    ret(answer),
  );
}

function isaDevices(board: BoardDescription): Aml[] {
  const { pic, pit, rtc, ps2, serial, pvpanic } = board;
  const devices: Aml[] = [];
  const isa = (id: string, hid: Aml, ...r: readonly Resource[]) =>
    devices.push(device(id, name("_HID", hid), resources(...r)));
  if (pic) isa("PIC", eisaId("PNP0000"), io(pic.master, 2), io(pic.slave, 2), io(pic.elcr, 2), irqNoFlags(2));
  if (pit) {
    isa("TMR", eisaId("PNP0100"), io(pit.port, 4), irqNoFlags(pit.irq));
    isa("SPKR", eisaId("PNP0800"), io(pit.speaker, 1));
  }
  if (rtc) isa("RTC", eisaId("PNP0B00"), io(rtc.ports.base, rtc.ports.length), irqNoFlags(rtc.irq));
  if (ps2) {
    isa("KBD", eisaId("PNP0303"), io(ps2.data, 1), io(ps2.command, 1), irqNoFlags(ps2.keyboardIrq));
    isa("MOU", eisaId("PNP0F13"), irqNoFlags(ps2.mouseIrq));
  }
  serial.forEach((uart, i) =>
    devices.push(
      device(
        `COM${i + 1}`,
        name("_HID", eisaId("PNP0501")),
        name("_UID", integer(i + 1)),
        resources(io(uart.port, 8), irqNoFlags(uart.irq)),
      ),
    )
  );
  if (pvpanic) isa("PEVT", string("QEMU0001"), io(pvpanic.port, 1));
  return devices;
}

/** The generation ID [vmgenid], and the event device [acpi §5.6.9] that notifies it. */
function generation({ base, gsi }: { readonly base: number; readonly gsi: number }): Aml[] {
  const edge = { level: false, activeLow: false, shared: false };
  return [
    device(
      "VGEN",
      name("_HID", string("TRIK0001")),
      name("_CID", string("VM_Gen_Counter")),
      name("_DDN", string("VM_Gen_Counter")),
      // The low and the high half of its address.
      name("ADDR", pkg(integer(base % 2 ** 32), integer(Math.floor(base / 2 ** 32)))),
    ),
    device(
      "EVTS",
      name("_HID", string("ACPI0013")),
      name("_UID", integer(0)),
      resources(interrupt(edge, gsi)),
      method("_EVT", 1, when(equal(arg(0), integer(gsi)), notify(path("VGEN"), integer(0x80)))),
    ),
  ];
}

function resources(...r: readonly Resource[]): Aml {
  return name("_CRS", resourceTemplate(...r));
}
