/** A board's display: the adapter, its memory after guest RAM, and what the memory map says of them. */
import { PciFunctionRecord } from "../../devices/pci/function.ts";
import type { PciHost } from "../../devices/pci/host.ts";
import { Vga, VGA_WINDOW } from "../../devices/vga.ts";
import { blinkAt, VgaDisplay } from "../../devices/vga_display.ts";
import {
  DISPI,
  DISPI_ENABLE,
  DISPI_MAX,
  DISPI_PORT,
  DISPI_PORT_BYTES,
  VGA_PORT,
  VgaRecord,
} from "../../devices/vga_registers.ts";
import { TABLET_MAX, VirtioTablet } from "../../devices/virtio/tablet.ts";
import type { Arena } from "../base/arena.ts";
import type { Bus } from "../base/bus.ts";
import type { MsiSink } from "../base/irq.ts";
import type { Clock } from "../base/clock.ts";
import type { Mapping } from "../base/memory_map.ts";
import type { GuestRam } from "../base/ram.ts";
import type { Framebuffer } from "../boot/place.ts";
import type { Screen } from "../host/screen.ts";
import { SLOT } from "./addresses.ts";
import { PAGE_BYTES } from "./memory.ts";
import type { Pc } from "./pc.ts";

/** Enough for the largest mode, 2560 × 1600 in 32 bits. */
export const VRAM_BYTES = 16 * 1024 * 1024;

/** Beside the adapter's own. */
const TABLET_FUNCTION = 1;

/** What a thread has to know of the display to assemble the board: where in the memory after guest RAM its parts are. */
export interface VgaInfo {
  readonly vramAt: number;
  readonly romAt: number;
  /** 0 without a video BIOS. */
  readonly romBytes: number;
}

export interface VideoParts {
  readonly arena: Arena;
  readonly ram: GuestRam;
  readonly ports: Bus;
  readonly mmio: Bus;
  readonly pci: PciHost;
  readonly clock: Clock;
  readonly msi: MsiSink;
}

/** Adds the parts. The same in every thread. */
export function assembleVideo(info: VgaInfo, { arena, ram, ports, mmio, pci, clock, msi }: VideoParts) {
  const record = arena.place("vga", VgaRecord);
  const vram = ram.extra(info.vramAt, VRAM_BYTES), rom = ram.extra(info.romAt, info.romBytes);
  const vga = pci.add(SLOT.VGA, 0, new Vga(record, arena.place("vga-pci", PciFunctionRecord), { clock, vram, rom }));
  const tablet = pci.add(SLOT.VGA, TABLET_FUNCTION, new VirtioTablet(arena, "tablet", { ram, msi }));
  ports.add("vga", VGA_PORT.BASE, VGA_PORT.BYTES, vga.legacyPorts);
  ports.add("vga-dispi", DISPI_PORT, DISPI_PORT_BYTES, vga.dispiPorts);
  mmio.add("vga-window", VGA_WINDOW.BASE, VGA_WINDOW.BYTES, vga.window);
  return {
    vga,
    display: new VgaDisplay(record, vram),
    tablet,
    /** The framebuffer is memory to the processor. */
    mappings: (): Mapping[] => {
      const base = vga.framebufferBase;
      if (base < 0) return [];
      const backing = (ram.sizeBytes + info.vramAt) / PAGE_BYTES;
      return [{ first: base / PAGE_BYTES, pages: VRAM_BYTES / PAGE_BYTES, backing, writable: true }];
    },
    load: (bios: Uint8Array) => rom.set(bios),
  };
}

/** Sets a linear mode, as near to what is asked for as there is, for a kernel that finds no firmware. */
export function setLinearMode(pc: Pc, width: number, height: number): Framebuffer | null {
  const vga = pc.video?.vga;
  const gpa = vga?.framebufferBase ?? -1;
  if (!vga || gpa < 0) return null;
  const fits = width > 0 && height > 0 && width <= DISPI_MAX.XRES && height <= DISPI_MAX.YRES && width % 8 === 0;
  const mode = fits ? { width, height } : { width: 1024, height: 768 };
  const set = (register: number, value: number) => {
    vga.dispiPorts.write(0, 2, register);
    vga.dispiPorts.write(1, 2, value);
  };
  set(DISPI.ENABLE, 0);
  set(DISPI.XRES, mode.width);
  set(DISPI.YRES, mode.height);
  set(DISPI.BPP, 32);
  set(DISPI.ENABLE, DISPI_ENABLE.ENABLED | DISPI_ENABLE.LFB);
  return { ...mode, gpa, pitch: 4 * mode.width };
}

/** A machine's display for whoever shows it; `withDevices` takes the machine lock, while there is a machine. */
export function screenOf(pc: Pc, withDevices: (body: () => void) => void): Screen | null {
  if (!pc.video) return null;
  const { display, tablet } = pc.video;
  return {
    get size() {
      return display.size;
    },
    // Without the lock: a picture may be torn, as on a real display.
    render: (out, size) => display.render(out, size, blinkAt(pc.clock.nowNs() / 1e6)),
    textCells: () => display.textCells(),
    key: (codes) => withDevices(() => pc.keyboard.injectKey(codes)),
    point: (x, y, dz, buttons) => {
      const { width, height } = display.size;
      // The middle of a pixel, whichever way the guest rounds.
      const place = (v: number, of: number) => Math.floor(((v + 0.5) * (TABLET_MAX + 1)) / of);
      let used = false;
      withDevices(() => {
        used = tablet.used;
        if (used) tablet.point(place(x, width), place(y, height), buttons, -dz);
      });
      return used;
    },
    mouse: (dx, dy, dz, buttons) => withDevices(() => pc.keyboard.injectMouse(dx, dy, dz, buttons)),
  };
}
