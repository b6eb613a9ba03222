/** Network cards, mounted for the laws. */
import { E1000Card } from "../../devices/e1000.ts";
import { E1000, type E1000Register } from "../../devices/e1000_registers.ts";
import { PciHost, PciHostRecord } from "../../devices/pci/host.ts";
import { GuestRam } from "../../src/base/ram.ts";
import { record } from "../../src/base/record.ts";
import type { Random, Subject } from "./bench.ts";

const RAM_BYTES = 16 * 1024;
const RamRecord = record("law-net-ram", 1, { bytes: { array: "u8", length: RAM_BYTES } });
const MEMORY = { base: 0xc000_0000, end: 0xc100_0000 }, IO = { base: 0x1000, end: 0x2000 };
const DEVICE = 4, RINGS = { TX: 0, RX: 0x200 }, ENTRIES = 16, BUFFERS = 0x1000;

export const NET_SUBJECTS: readonly Subject[] = [{
  name: "e1000",
  mount(bench) {
    const { bytes } = bench.arena.place("ram", RamRecord);
    const ram = new GuestRam(bytes.buffer, bytes.byteOffset, RAM_BYTES);
    const send = () => {
      dev.transmit(0, (frame, o) => bench.note(`sent ${frame.length} ${frame[13]} ${o.csumStart} ${o.gsoSize}`));
    };
    const dev: E1000Card = new E1000Card(bench.arena, "net", {
      ram,
      msi: { send: (lo, hi, data) => bench.note(`msi ${hi}:${lo}=${data}`) },
      clock: bench.time,
      timer: bench.timer("net", () => dev.settle()),
      notify: (what) => what === "transmit" && send(),
      onReset: () => bench.note("reset"),
    }, { mac: Uint8Array.of(2, 0, 0, 0, 0, 1), offload: false });
    const host = new PciHost(bench.arena.place("host", PciHostRecord));
    host.add(DEVICE, 0, dev);
    const line = bench.irq("inta");
    const window = host.memoryWindow(MEMORY.base), ports = host.ioWindow(IO.base);
    const put = (name: E1000Register, value: number) => window.write(E1000[name].at, 4, value);
    const assign = () => {
      host.assignResources(MEMORY, IO);
      host.ecam.write((DEVICE * 8) << 12 | 4, 2, 7);
    };
    const begin = (random: Random) => {
      assign();
      for (
        const [ring, names] of [["TX", ["TDBAL", "TDLEN", "TDH", "TDT"]], ["RX", [
          "RDBAL",
          "RDLEN",
          "RDH",
          "RDT",
        ]]] as const
      ) {
        const [base, length, head, tail] = names;
        put(base, RINGS[ring]);
        put(length, 16 * ENTRIES);
        put(head, 0);
        put(tail, ring === "TX" ? 0 : ENTRIES - 1);
      }
      put("TCTL", 2);
      put("RCTL", 0x8002 | (random.next() & 0x0603_3018));
      put("CTRL", 0x241);
      put("IMS", random.next());
      put("ITR", random.pick([0, 0, 200, 0xffff]));
      for (let i = 0; i < ENTRIES; i++) ram.write64(RINGS.RX + 16 * i, BUFFERS + 0x200 * i);
    };
    const sendSome = (random: Random) => {
      let tail = window.read(E1000.TDT.at, 4);
      for (let n = 1 + random.below(4); n > 0; n--) {
        const at = RINGS.TX + 16 * (tail % ENTRIES), kind = random.below(10);
        ram.write64(at, random.chance(3) ? random.next() : BUFFERS + random.below(0x1000));
        if (kind < 2) {
          // A context: plausible headers, most of the time.
          ram.write(at, 4, random.chance(80) ? 14 | (24 << 8) | (33 << 16) : random.next());
          ram.write(at + 4, 4, random.chance(80) ? 34 | (50 << 8) : random.next());
          ram.write(at + 8, 4, (0x20 | random.below(16)) << 24);
          ram.write(at + 12, 4, (random.pick([54, 60, random.below(256)]) << 8) | (random.pick([0, 100, 536]) << 16));
        } else {
          const extended = kind < 7;
          ram.write(at + 8, 4, random.below(random.chance(90) ? 1500 : 0x1_0000));
          ram.write(at + 10, 1, extended ? 0x10 : random.below(64));
          ram.write(at + 11, 1, (extended ? 0x20 : 0) | (random.next() & 0x4e) | (random.chance(70) ? 1 : 0));
          ram.write(at + 12, 4, random.next() & 0xffff_fff0);
        }
        tail = (tail + 1) % ENTRIES;
      }
      put("TDT", tail);
    };
    const frame = new Uint8Array(2000).map((_, i) => i);
    return {
      targets: [
        { name: "memory", region: window, bytes: 0x20000, registers: E1000 },
        { name: "ports", region: ports, bytes: 8 },
        {
          name: "config",
          region: {
            read: (offset, size) => host.ecam.read(((DEVICE * 8) << 12) + offset, size),
            write: (offset, size, value) => host.ecam.write(((DEVICE * 8) << 12) + offset, size, value),
          },
          bytes: 256,
        },
      ],
      inputs: [
        begin,
        sendSome,
        sendSome,
        (random) => {
          frame.set(random.chance(50) ? [255, 255, 255, 255, 255, 255] : [2, 0, 0, 0, 0, random.below(3)]);
          bench.note(dev.deliver(0, frame.subarray(0, 14 + random.below(1900))));
          dev.flush();
        },
        () => {
          put("RDT", (window.read(E1000.RDH.at, 4) + ENTRIES - 1) % ENTRIES);
          bench.note(`icr ${window.read(E1000.ICR.at, 4)}`);
          line.set(dev.intxLevel);
        },
        (random) => dev.setLink(random.chance(90)),
        assign,
      ],
      powerOn: assign,
      settle: () => {
        dev.settle();
        dev.renotify();
        line.set(dev.intxLevel);
      },
    };
  },
}];
