/** The legacy devices, mounted for the laws. */
import { ACPI_PM, AcpiPm, AcpiPmRecord, SMI_CMD } from "../../devices/acpi_pm.ts";
import { CmosRtc, CmosRtcRecord, RTC_PORTS } from "../../devices/cmos_rtc.ts";
import {
  DEBUG_CONSOLE_REGISTERS,
  DEBUG_EXIT_BYTES,
  DebugConsole,
  DebugConsoleRecord,
  DebugExit,
  POST_REGISTERS,
  PostCode,
  PostCodeRecord,
} from "../../devices/debug_ports.ts";
import { I8042, I8042_COMMAND, I8042_DATA, I8042Record } from "../../devices/i8042.ts";
import { I8254, I8254_REGISTERS, I8254Record, PORT61_REGISTERS } from "../../devices/i8254.ts";
import { ELCR_REGISTERS, I8259, I8259_REGISTERS, I8259Record } from "../../devices/i8259.ts";
import { Ps2KeyboardRecord } from "../../devices/ps2_keyboard.ts";
import { Ps2MouseRecord } from "../../devices/ps2_mouse.ts";
import { PVPANIC, PvPanic } from "../../devices/pvpanic.ts";
import { PORT92_REGISTERS, RESET_REGISTERS, ResetControl, ResetControlRecord } from "../../devices/reset_control.ts";
import { VM_GENERATION, VM_GENERATION_BYTES, VmGeneration, VmGenerationRecord } from "../../devices/vm_generation.ts";
import { UART16550, Uart16550, Uart16550Record } from "../../devices/uart16550.ts";
import type { Subject } from "./bench.ts";

export const LEGACY_SUBJECTS: readonly Subject[] = [
  {
    name: "i8259",
    mount(bench) {
      const dev = new I8259(bench.arena.place("pic", I8259Record), { intr: bench.irq("intr") });
      return {
        targets: [
          { name: "master", region: dev.master, bytes: 2, registers: I8259_REGISTERS },
          { name: "slave", region: dev.slave, bytes: 2, registers: I8259_REGISTERS },
          { name: "elcr", region: dev.elcr, bytes: 2, registers: ELCR_REGISTERS },
        ],
        inputs: [
          (random) => dev.line(random.below(16)).set(random.chance(60)),
          () => bench.note(`pending ${dev.pending()} vector ${dev.acknowledge()}`),
        ],
        settle: () => dev.settle(),
      };
    },
  },
  {
    name: "i8254",
    mount(bench) {
      const timer = bench.timer("pit", () => dev.settle());
      const parts = { clock: bench.time, timer, irq: bench.irq("irq0") };
      const dev: I8254 = new I8254(bench.arena.place("pit", I8254Record), parts);
      return {
        targets: [
          { name: "pit", region: dev.region, bytes: 4, registers: I8254_REGISTERS },
          { name: "port 61h", region: dev.port61, bytes: 1, registers: PORT61_REGISTERS },
        ],
        settle: () => dev.settle(),
      };
    },
  },
  {
    name: "cmos-rtc",
    mount(bench) {
      const timer = bench.timer("rtc", () => dev.settle());
      const wallTimeAtPowerOnMs = () => Date.UTC(2023, 11, 31, 23, 59, 58, 600);
      const parts = { clock: bench.time, timer, irq: bench.irq("irq8"), wallTimeAtPowerOnMs };
      const dev: CmosRtc = new CmosRtc(bench.arena.place("rtc", CmosRtcRecord), parts);
      // The ports alone would seldom meet: this region has the time and control bytes at its offsets.
      const byIndex = {
        read: (offset: number) => (dev.region.write(0, 1, offset), dev.region.read(1, 1)),
        write: (offset: number, _size: number, value: number) => {
          dev.region.write(0, 1, offset);
          dev.region.write(1, 1, value & 0xff);
        },
      };
      return {
        targets: [
          { name: "rtc", region: dev.region, bytes: 4, registers: RTC_PORTS },
          { name: "rtc by index", region: byIndex, bytes: 14 },
        ],
        inputs: [
          (random) => dev.setMemorySize(random.next(), random.next() * 16),
          (random) => dev.setByte(random.below(200), random.below(256)),
        ],
        powerOn: () => dev.powerOn(),
        settle: () => dev.settle(),
      };
    },
  },
  {
    name: "acpi-pm",
    mount(bench) {
      const timer = bench.timer("pm", () => dev.settle());
      const onSleep = (type: number) => bench.note(`sleep ${type}`);
      const parts = { clock: bench.time, timer, sci: bench.irq("sci"), onSleep };
      const dev: AcpiPm = new AcpiPm(bench.arena.place("pm", AcpiPmRecord), parts);
      return {
        targets: [
          { name: "pm", region: dev.region, bytes: 12, registers: ACPI_PM },
          { name: "smi-cmd", region: dev.smiCmd, bytes: 2, registers: SMI_CMD },
        ],
        inputs: [() => dev.pressPowerButton(), () => dev.wake(), () => dev.smiCmd.write(0, 1, 0xf1)],
        settle: () => dev.settle(),
      };
    },
  },
  {
    name: "reset-control",
    mount(bench) {
      const parts = { a20: bench.irq("a20"), onReset: () => bench.note("reset") };
      const dev = new ResetControl(bench.arena.place("reset", ResetControlRecord), parts);
      return {
        targets: [
          { name: "cf9", region: dev.reset, bytes: 1, registers: RESET_REGISTERS },
          { name: "port 92h", region: dev.port92, bytes: 1, registers: PORT92_REGISTERS },
        ],
        settle: () => dev.settle(),
      };
    },
  },
  {
    name: "i8042",
    mount(bench) {
      const views = {
        controller: bench.arena.place("i8042", I8042Record),
        keyboard: bench.arena.place("keyboard", Ps2KeyboardRecord),
        mouse: bench.arena.place("mouse", Ps2MouseRecord),
      };
      const dev = new I8042(views, {
        irq1: bench.irq("irq1"),
        irq12: bench.irq("irq12"),
        a20: bench.irq("a20"),
        onReset: () => bench.note("reset"),
      });
      return {
        targets: [
          { name: "data", region: dev.data, bytes: 1, registers: I8042_DATA },
          { name: "command", region: dev.command, bytes: 1, registers: I8042_COMMAND },
        ],
        inputs: [
          (random) =>
            dev.injectKey(Array.from({ length: random.below(5) }, () => random.pick([0xf0, 0xe0, random.below(256)]))),
          (random) =>
            dev.injectMouse(random.below(600) - 300, random.below(9) - 4, random.below(30) - 15, random.next()),
          (random) => { // a driver that talks to the devices in their language
            if (random.chance(50)) dev.command.write(0, 1, 0xd4);
            dev.data.write(0, 1, 0xe6 + random.below(0x1a));
          },
          () => bench.note(`data ${dev.data.read(0, 1)}`),
        ],
        settle: () => dev.settle(),
      };
    },
  },
  {
    name: "uart16550",
    mount(bench) {
      const timer = bench.timer("uart", () => dev.settle());
      const tx = bench.sink("tx"), rx = bench.source("rx");
      const parts = { clock: bench.time, timer, irq: bench.irq("irq4"), tx, rx };
      const dev: Uart16550 = new Uart16550(bench.arena.place("uart", Uart16550Record), parts);
      return {
        targets: [{ name: "uart", region: dev.region, bytes: 8, registers: UART16550 }],
        inputs: [
          (random) => tx.makeRoom(random.below(20)),
          (random) => {
            rx.come(random.below(40));
            dev.receive();
          },
        ],
        settle: () => dev.settle(),
      };
    },
  },
  {
    name: "vm-generation",
    mount(bench) {
      const dev = new VmGeneration(bench.arena.place("vm-generation", VmGenerationRecord), {
        irq: bench.irq("irq"),
        entropy: { fill: (into) => into.fill(7) },
      });
      const target = {
        name: "vm-generation",
        region: dev.region,
        bytes: VM_GENERATION_BYTES,
        registers: VM_GENERATION,
      };
      return { targets: [target], inputs: [() => dev.renew()] };
    },
  },
  {
    name: "pvpanic",
    mount(bench) {
      const dev = new PvPanic({ onPanic: (event) => bench.note(event) });
      return { targets: [{ name: "pvpanic", region: dev.region, bytes: 1, registers: PVPANIC }] };
    },
  },
  {
    name: "debug-ports",
    mount(bench) {
      const tx = bench.sink("console");
      const post = new PostCode(bench.arena.place("post", PostCodeRecord));
      const console = new DebugConsole(bench.arena.place("console", DebugConsoleRecord), { tx });
      const exit = new DebugExit({ onExit: (value) => bench.note(`exit ${value}`) });
      return {
        targets: [
          { name: "post", region: post.region, bytes: 1, registers: POST_REGISTERS },
          { name: "console", region: console.region, bytes: 1, registers: DEBUG_CONSOLE_REGISTERS },
          { name: "exit", region: exit.region, bytes: DEBUG_EXIT_BYTES },
        ],
        inputs: [(random) => tx.makeRoom(random.below(8))],
      };
    },
  },
];
