/**
 * The parts list: every address, port, interrupt and device of the board, and how they are put together.
 *
 * Each thread of a machine assembles the same board over the same memory, in the same order, and so finds every record where
 * the others do. Assembling writes no record: that is `powerOn`, for the thread that made the machine.
 */
import { AcpiPm, AcpiPmRecord } from "../../devices/acpi_pm.ts";
import { CmosRtc, CmosRtcRecord } from "../../devices/cmos_rtc.ts";
import {
  DEBUG_EXIT_BYTES,
  DebugConsole,
  DebugConsoleRecord,
  DebugExit,
  PostCode,
  PostCodeRecord,
} from "../../devices/debug_ports.ts";
import { Hpet, HPET_BYTES, HPET_FIRST_GSI, HPET_GSIS, HPET_TIMERS, HpetRecord } from "../../devices/hpet.ts";
import { I8254, I8254Record } from "../../devices/i8254.ts";
import { I8042, I8042Record } from "../../devices/i8042.ts";
import { I8259, I8259Record } from "../../devices/i8259.ts";
import { InterruptRouter, InterruptRouterRecord } from "../../devices/interrupt_router.ts";
import { IO_APIC_BYTES, IO_APIC_PINS, IoApic, IoApicRecord } from "../../devices/io_apic.ts";
import { LocalApic } from "../../devices/local_apic.ts";
import { LocalApicRecord } from "../../devices/local_apic_registers.ts";
import { PciFunctionRecord } from "../../devices/pci/function.ts";
import { PciHost, PciHostRecord } from "../../devices/pci/host.ts";
import { PciSerial } from "../../devices/pci/pci_serial.ts";
import { Ich9Lpc } from "../../devices/pci/lpc.ts";
import { MemoryController } from "../../devices/pci/mch.ts";
import { PirqRouter, PIRQS } from "../../devices/pci/pirq.ts";
import { Ps2KeyboardRecord } from "../../devices/ps2_keyboard.ts";
import { Ps2MouseRecord } from "../../devices/ps2_mouse.ts";
import { PvPanic } from "../../devices/pvpanic.ts";
import { ResetControl, ResetControlRecord } from "../../devices/reset_control.ts";
import { Uart16550, Uart16550Record } from "../../devices/uart16550.ts";
import { type ConsoleOutput, VirtioConsole } from "../../devices/virtio/console.ts";
import { SeededEntropy, SeededEntropyRecord, VirtioEntropy } from "../../devices/virtio/entropy.ts";
import { Arena } from "../base/arena.ts";
import { Bus } from "../base/bus.ts";
import { CodeMap } from "../base/code_map.ts";
import type { IrqLine } from "../base/irq.ts";
import { MachineLock } from "../base/lock.ts";
import { MemoryMap } from "../base/memory_map.ts";
import { GuestRam } from "../base/ram.ts";
import type { View } from "../base/record.ts";
import { ByteRing } from "../base/ring.ts";
import { type Timer, Timers } from "../base/timers.ts";
import { type ChipRecords, type Doorbells, VcpuEvent } from "../engine/engine.ts";
import { VcpuRecord } from "../engine/vcpu_state.ts";
import { VM_GENERATION_BYTES, VmGeneration, VmGenerationRecord } from "../../devices/vm_generation.ts";
import { HostEntropy } from "../host/entropy.ts";
import { ADDRESS, IRQ, PHYSICAL_ADDRESS_BITS, PIRQ_GSI, PM_BYTES, PORT, SLOT } from "./addresses.ts";
import { CLOCK_BYTES, HostClock, IcountClock, type MachineClock } from "../host/host_clock.ts";
import { Control, EndCause } from "./control.ts";
import { Counters } from "./counters.ts";
import { assembleDisks } from "./disk_board.ts";
import { assembleNet, type RomInfo } from "./net_board.ts";
import { assembleServices } from "./service_board.ts";
import { assembleFirmware, type FirmwareInfo, VIDEO_WINDOW, writeCmosNotes } from "./firmware.ts";
import { ARENA_BASE, ARENA_BYTES, PAGE_BYTES, RAM_BASE } from "./memory.ts";
import type { MachineSpec } from "./spec.ts";
import { assembleVideo, type VgaInfo } from "./video.ts";

export { ADDRESS, IRQ, PHYSICAL_ADDRESS_BITS, PIRQ_GSI, PM_BYTES, PORT, SLOT } from "./addresses.ts";

const SERIAL_RING_BYTES = 64 * 1024;
const DEBUG_RING_BYTES = 64 * 1024;
/** Every run that counts instructions starts at this moment: 2025-01-01. */
/** The bytes of its generation ID: another resumed run is to be the same. */
const ICOUNT_GENERATION = 0x11;
const ICOUNT_WALL_MS = Date.UTC(2025, 0, 1);

/** ISA interrupts that no device of the board has. */
const FREE_IRQS = [10, 11] as const;

/** What a thread has to know of a disk to assemble the board. */
export interface DiskInfo {
  readonly sectors: number;
  readonly readonly: boolean;
  /** What the user should know about it. */
  readonly note: string | null;
  /** Whether a discard gives storage back. */
  readonly discard?: boolean;
}

/** What every thread is given; plain data but for the memory. */
export interface PcOptions {
  readonly memory: WebAssembly.Memory;
  readonly spec: MachineSpec;
  readonly disks: readonly DiskInfo[];
  /** Bytes of memory after guest RAM, for ROM and the like. */
  readonly extraBytes?: number;
  readonly firmware?: FirmwareInfo | null;
  readonly vga?: VgaInfo | null;
  /** Where in the memory after guest RAM the option ROM of the network card is. */
  readonly netRom?: RomInfo | null;
}

export type Pc = ReturnType<typeof assemblePc>;

export function assemblePc(options: PcOptions) {
  const { memory, spec, disks: diskInfo } = options;
  const { buffer } = memory;

  // Memory, time, and the words between threads.
  const arena = new Arena(buffer, ARENA_BASE, ARENA_BYTES);
  const lock = new MachineLock(new Int32Array(buffer, arena.raw(64), 1));
  const control = new Control(arena, spec.cpus);
  const counters = new Counters(arena, spec.cpus);
  const clockAt = arena.raw(CLOCK_BYTES);
  const clock: MachineClock = spec.icount ? new IcountClock(buffer, clockAt) : new HostClock(buffer, clockAt);
  const timers = new Timers(arena);
  timers.onEarlier = (deadlineNs) => {
    if (deadlineNs < control.untilNs) control.raise(0, VcpuEvent.KICK);
  };
  const ram = new GuestRam(buffer, RAM_BASE, spec.memoryBytes, options.extraBytes ?? 0);
  const codeMap = new CodeMap(buffer, arena.raw(CodeMap.sizeBytes(ram.backedBytes)), ram.backedBytes);
  codeMap.onAwaited = (vcpu) => control.raise(vcpu, VcpuEvent.KICK);
  ram.onWrite = (gpa, sizeBytes) => codeMap.wrote(gpa, sizeBytes);
  const ring = (bytes: number) => new ByteRing(buffer, arena.raw(ByteRing.sizeBytes(bytes)), bytes);
  const ports = new Bus();
  const mmio = new Bus();

  // Interrupts. The host's kernel may be these controllers and the PIT while vCPUs run: then their own timers are disarmed.
  const ownTimers: Timer[] = [];
  const ownTimer = (name: string, due: () => void) => {
    const timer = timers.timer(name, due);
    ownTimers.push(timer);
    return timer;
  };
  const vcpuRecords = Array.from({ length: spec.cpus }, (_, id) => arena.place(`vcpu${id}`, VcpuRecord));
  const router = new InterruptRouter(arena.place("interrupt-router", InterruptRouterRecord));
  const picRecord = arena.place("pic", I8259Record);
  const pic = new I8259(picRecord, { intr: router.picIntr });
  ports.add("pic master", PORT.PIC_MASTER, 2, pic.master);
  ports.add("pic slave", PORT.PIC_SLAVE, 2, pic.slave);
  ports.add("elcr", PORT.ELCR, 2, pic.elcr);
  const apicRecords: View<typeof LocalApicRecord>[] = [];
  const apics = Array.from({ length: spec.cpus }, (_, id) => {
    const apicRecord = apicRecords[id] = arena.place(`apic${id}`, LocalApicRecord);
    const apic: LocalApic = new LocalApic(apicRecord, {
      id,
      bsp: id === 0,
      clock,
      timer: ownTimer(`apic${id}`, () => apic.settle()),
      bus: router,
      pic,
      physicalAddressBits: PHYSICAL_ADDRESS_BITS,
      setIntr: (level) => level ? control.raise(id, VcpuEvent.INTR) : control.lower(id, VcpuEvent.INTR),
      nmi: () => control.raise(id, VcpuEvent.NMI),
      init: () => control.initialize(id),
      sipi: (vector) => control.startUp(id, vector),
    });
    router.addLocalApic(apic);
    return apic;
  });
  const ioApicRecord = arena.place("ioapic", IoApicRecord);
  const ioApic = new IoApic(ioApicRecord, { pins: IO_APIC_PINS, bus: router });
  router.addIoApic(ioApic);
  router.addPic(pic);
  mmio.add("ioapic", ADDRESS.IO_APIC, IO_APIC_BYTES, ioApic.mmio);

  // The chipset. High precision timers may take the place of PIT and RTC; only firmware's systems look for them.
  const unlessHpet = (line: IrqLine): IrqLine =>
    options.firmware ? { set: (level) => line.set(level && !hpet?.legacy) } : line;
  const hpet: Hpet | null = options.firmware
    ? new Hpet(arena.place("hpet", HpetRecord), {
      clock,
      timer: timers.timer("hpet", () => hpet!.settle()),
      gsi: Array.from({ length: HPET_TIMERS }, () =>
        Array.from({ length: HPET_GSIS }, (_, i) => router.line(HPET_FIRST_GSI + i))),
      legacy: [router.isaLine(IRQ.PIT), router.isaLine(IRQ.RTC)],
      onLegacy: () => {
        pit.settle();
        rtc.settle();
      },
    })
    : null;
  if (hpet) mmio.add("hpet", ADDRESS.HPET, HPET_BYTES, hpet.mmio);
  const pitRecord = arena.place("pit", I8254Record);
  const pit: I8254 = new I8254(pitRecord, {
    clock,
    timer: ownTimer("pit", () => pit.settle()),
    irq: unlessHpet(router.isaLine(IRQ.PIT)),
  });
  ports.add("pit", PORT.PIT, 4, pit.region);
  ports.add("nmi-sc", PORT.NMI_SC, 1, pit.port61);
  const rtc: CmosRtc = new CmosRtc(arena.place("rtc", CmosRtcRecord), {
    clock,
    timer: timers.timer("rtc", () => rtc.settle()),
    irq: unlessHpet(router.isaLine(IRQ.RTC)),
    onInterrupt: () => acpiPm.rtcInterrupt(),
    wallTimeAtPowerOnMs: () => spec.icount ? ICOUNT_WALL_MS : Date.now(),
  });
  ports.add("rtc", PORT.RTC, 4, rtc.region);
  const acpiPm: AcpiPm = new AcpiPm(arena.place("acpi-pm", AcpiPmRecord), {
    clock,
    timer: timers.timer("acpi-pm", () => acpiPm.settle()),
    sci: router.isaLine(IRQ.SCI),
    // \_S5 is the only sleep state of the DSDT; whatever else a guest asks for, it wants to be off.
    onSleep: () => control.end(EndCause.POWEROFF),
  });
  ports.add("acpi-pm", PORT.PM, PM_BYTES, acpiPm.region);
  ports.add("smi-cmd", PORT.SMI_CMD, 2, acpiPm.smiCmd);
  const reset = new ResetControl(arena.place("reset-control", ResetControlRecord), {
    onReset: () => control.end(EndCause.RESET),
    a20: ALWAYS_OPEN,
  });
  const keyboard = new I8042({
    controller: arena.place("i8042", I8042Record),
    keyboard: arena.place("keyboard", Ps2KeyboardRecord),
    mouse: arena.place("mouse", Ps2MouseRecord),
  }, {
    irq1: router.isaLine(IRQ.KEYBOARD),
    irq12: router.isaLine(IRQ.MOUSE),
    a20: ALWAYS_OPEN,
    onReset: () => control.end(EndCause.RESET),
  });
  ports.add("keyboard data", PORT.KEYBOARD_DATA, 1, keyboard.data);
  ports.add("keyboard command", PORT.KEYBOARD_COMMAND, 1, keyboard.command);
  ports.add("port 92h", PORT.FAST_A20, 1, reset.port92);

  // Serial ports, and what firmware and test kernels speak through.
  const pciSerial: PciSerial[] = [];
  const serial = spec.serial.map((_, i) => {
    const card = i < PORT.COM.length ? null : new PciSerial(arena.place(`com${i + 1}-pci`, PciFunctionRecord));
    const tx = ring(SERIAL_RING_BYTES), rx = ring(SERIAL_RING_BYTES);
    const uart: Uart16550 = new Uart16550(arena.place(`com${i + 1}`, Uart16550Record), {
      clock,
      timer: timers.timer(`com${i + 1}`, () => uart.settle()),
      irq: card ? card.irq : router.isaLine(IRQ.COM[i]!),
      tx,
      rx,
    });
    if (card) {
      card.region = uart.region;
      pciSerial.push(card);
    } else ports.add(`com${i + 1}`, PORT.COM[i]!, 8, uart.region);
    return { uart, tx, rx };
  });
  const post = new PostCode(arena.place("post", PostCodeRecord));
  ports.add("post", PORT.POST, 1, post.region);
  const debugTx = ring(DEBUG_RING_BYTES);
  const debugConsole = new DebugConsole(arena.place("debug-console", DebugConsoleRecord), { tx: debugTx });
  ports.add("debug-console", PORT.DEBUG_CONSOLE, 1, debugConsole.region);
  const debugExit = new DebugExit({ onExit: (value) => control.end(EndCause.DEBUG_EXIT, value) });
  ports.add("debug-exit", PORT.DEBUG_EXIT, DEBUG_EXIT_BYTES, debugExit.region);
  const pvPanic = new PvPanic({ onPanic: (event) => event === "panicked" && control.end(EndCause.PANIC) });
  ports.add("pvpanic", PORT.PVPANIC, 1, pvPanic.region);

  // PCI.
  const pci = new PciHost(arena.place("pci-host", PciHostRecord), { resetControl: reset.reset });
  ports.add("pci-config", PORT.PCI_CONFIG, 8, pci.configPorts);
  ports.add("pci-io", PORT.PCI_IO, PORT.PCI_IO_END - PORT.PCI_IO, pci.ioWindow(PORT.PCI_IO));
  const mch = new MemoryController(arena.place("mch", PciFunctionRecord), {
    ecamBase: ADDRESS.ECAM,
    movableEcam: options.firmware != null,
  });
  pci.add(SLOT.HOST_BRIDGE, 0, mch);
  const firmware = options.firmware
    ? assembleFirmware(options.firmware, { arena, ram, ports, mmio, pci, mch, spec })
    : null;
  if (!firmware) {
    mmio.add("pci-memory", ADDRESS.PCI_MEMORY, ADDRESS.ECAM - ADDRESS.PCI_MEMORY, pci.memoryWindow(ADDRESS.PCI_MEMORY));
    mmio.add("ecam", ADDRESS.ECAM, ADDRESS.ECAM_BYTES, pci.ecam);
  }
  const lpc = new Ich9Lpc(arena.place("lpc", PciFunctionRecord), { pmBase: PORT.PM, acpiEnabled: true });
  pci.add(SLOT.LPC, 0, lpc);
  pciSerial.forEach((card, i) => pci.add(SLOT.FIRST_SERIAL + i, 0, card));
  const gsi = Array.from({ length: PIRQS }, (_, n) => router.line(PIRQ_GSI + n));
  // Firmware may lead PCI's interrupts to the 8259A pair; without it everybody uses the I/O APIC.
  const isa: IrqLine[] = [];
  if (firmware) { for (const irq of FREE_IRQS) isa[irq] = router.isaLine(irq); }
  new PirqRouter(pci, { gsi, isa }, lpc);

  // Virtio. Queues of disks and the network are served without the machine lock, the others' under it.
  const virtio = { ram, msi: router };
  const seeded = new SeededEntropy(arena.place("entropy.seed", SeededEntropyRecord));
  const entropy: VirtioEntropy = new VirtioEntropy(arena, "entropy", {
    ...virtio,
    source: spec.icount ? seeded : new HostEntropy(),
    clock,
    timer: timers.timer("entropy", () => entropy.process()),
  });
  pci.add(SLOT.ENTROPY, 0, entropy);
  const consoleTx = ring(SERIAL_RING_BYTES), consoleRx = ring(SERIAL_RING_BYTES);
  const consoleOutput = new AttachableOutput(consoleTx, new Int32Array(buffer, arena.raw(4), 1));
  const virtioConsole: VirtioConsole = new VirtioConsole(arena, "console", {
    ...virtio,
    input: consoleRx,
    output: consoleOutput,
    clock,
    timer: timers.timer("console", () => virtioConsole.process()),
  });
  pci.add(SLOT.CONSOLE, 0, virtioConsole);
  const diskBoard = assembleDisks({ arena, ram, msi: router, lock, control, pci }, spec, diskInfo);

  const services = assembleServices({ arena, ram, msi: router, lock, pci }, spec);
  const netRom = ram.extra(options.netRom?.at ?? 0, options.netRom?.bytes ?? 0);
  const netParts = { arena, ram, msi: router, lock, control, pci, clock, timers, rom: netRom };
  const net = spec.net ? assembleNet(netParts, spec.net) : null;

  const chips: ChipRecords = {
    pic: picRecord,
    ioApic: ioApicRecord,
    pit: pitRecord,
    apics: apicRecords,
    disarm: () => ownTimers.forEach((timer) => timer.disarm()),
  };

  const vmGeneration = new VmGeneration(arena.place("vm-generation", VmGenerationRecord), {
    entropy: spec.icount ? { fill: (into) => into.fill(ICOUNT_GENERATION) } : new HostEntropy(),
    irq: router.isaLine(IRQ.VM_GENERATION),
  });
  mmio.add("vm-generation", ADDRESS.VM_GENERATION, VM_GENERATION_BYTES, vmGeneration.region);

  const video = options.vga ? assembleVideo(options.vga, { arena, ram, ports, mmio, pci, clock, msi: router }) : null;

  // What is not plainly RAM, worked out from the records each time one of them changes it.
  const memoryMap = ram.extraBytes > 0
    ? new MemoryMap(buffer, arena.raw(MemoryMap.sizeBytes), ram.sizeBytes / PAGE_BYTES)
    : null;
  const remap = () => memoryMap?.set([VIDEO_WINDOW, ...firmware?.mappings() ?? [], ...video?.mappings() ?? []]);
  if (memoryMap) mch.onChange = pci.onDecode = remap;

  /** Recomputes outputs and timers from the records. Under the machine lock. */
  const settle = () => {
    remap();
    router.settle();
    pic.settle();
    ioApic.settle();
    pit.settle();
    rtc.settle();
    hpet?.settle();
    acpiPm.settle();
    keyboard.settle();
    for (const { uart } of serial) uart.settle();
    for (const apic of apics) apic.settle();
    diskBoard.settle();
    net?.settle();
  };

  /** Looks for requests that were on the queues when the machine was saved. Under the machine lock. */
  const renotify = () => {
    for (const f of [entropy, virtioConsole, ...(net ? [net.card] : []), ...(video ? [video.tablet] : [])]) {
      f.renotify();
    }
    diskBoard.renotify();
    services.renotify();
  };

  /** Writes the power-on values, and does what firmware would. No vCPU runs, time stands still. Under the machine lock. */
  const powerOn = () => {
    control.powerOn();
    clock.set(0);
    arena.powerOn();
    apics[0]!.setVirtualWire();
    pic.elcr.write(IRQ.SCI >> 3, 1, 1 << (IRQ.SCI & 7));
    setWallTime();
    vmGeneration.powerOn();
    rtc.setMemorySize(spec.memoryBytes);
    if (firmware) writeCmosNotes((index, value) => rtc.setByte(index, value), spec.cpus);
    else {
      pci.assignResources(
        { base: ADDRESS.PCI_MEMORY, end: ADDRESS.ECAM },
        { base: PORT.PCI_IO, end: PORT.PCI_IO_END },
      );
    }
    settle();
  };

  /** Tells the RTC what time it is at guest time 0. */
  const setWallTime = () => rtc.powerOn();

  return {
    arena,
    /** What each vCPU was when the machine was last saved. */
    vcpuRecords,
    lock,
    control,
    counters,
    clock,
    timers,
    codeMap,
    ram,
    memoryMap,
    firmware,
    video,
    ports,
    mmio,
    apics,
    router,
    chips,
    acpiPm,
    keyboard,
    pci,
    serial,
    disks: diskBoard.served,
    driveOf: diskBoard.driveOf,
    /** Where the guest rings for the disks, and the same from a thread of ours. */
    doorbells: {
      get generation(): number {
        return pci.generation;
      },
      addresses: () => lock.with(() => diskBoard.notifyAddresses()),
    } satisfies Doorbells,
    ringVirtioDisks: diskBoard.ringVirtio,
    net: net?.card ?? null,
    /** Puts the option ROM of the network card where firmware will find it. */
    loadNetRom: (rom: Uint8Array) => net?.loadRom(rom),
    services,
    console: { device: virtioConsole, tx: consoleTx, rx: consoleRx, attach: () => consoleOutput.attach() },
    debugTx,
    settle,
    renotify,
    powerOn,
    setWallTime,
    /** Tells the guest that another may have gone on from where it does. */
    renewGeneration: () => vmGeneration.renew(),
    /** Moves the time of day on by `ms` in which no guest time passed. */
    skipWallTime: (ms: number) => rtc.skip(ms),
  };
}

/** A20 is never masked: what could close the gate only remembers that it was asked to. */
const ALWAYS_OPEN: IrqLine = { set() {} };

/** Output that is thrown away until somebody says that he reads it: else a guest would wait for ever for room. */
class AttachableOutput implements ConsoleOutput {
  constructor(private readonly ring: ByteRing, private readonly attached: Int32Array) {}

  attach(): void {
    Atomics.store(this.attached, 0, 1);
  }

  get space(): number {
    return Atomics.load(this.attached, 0) ? this.ring.space : SERIAL_RING_BYTES;
  }

  write(bytes: Uint8Array): number {
    return Atomics.load(this.attached, 0) ? this.ring.write(bytes) : bytes.length;
  }
}
