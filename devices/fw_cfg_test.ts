import { assertEquals } from "@std/assert";
import { GuestRam } from "../src/base/ram.ts";
import { FwCfg, FwCfgItem, FwCfgRecord } from "./fw_cfg.ts";

const text = (s: string) => new TextEncoder().encode(s);

function device() {
  const ram = GuestRam.private(64 * 1024);
  let made = 0;
  const dev = new FwCfg(FwCfgRecord.create(), ram, {
    items: { [FwCfgItem.NB_CPUS]: () => Uint8Array.of(3, 0) },
    files: { "etc/zebra": () => text("stripes"), "etc/ant": () => text(`made ${++made}`) },
  });
  const { region } = dev;
  const select = (item: number) => region.write(0, 2, item);
  const bytes = (n: number) => Uint8Array.from({ length: n }, () => region.read(1, 1));
  const put = (gpa: number, words: number[]) =>
    words.forEach((w, i) => new DataView(ram.buffer).setUint32(gpa + 4 * i, w));
  const dma = (control: number, length: number, address: number) => {
    put(0x100, [control, length, 0, address]);
    region.write(4, 4, 0);
    region.write(8, 4, 0x00010000); // 100h, big-endian
    return new DataView(ram.buffer).getUint32(0x100);
  };
  return { ram, region, select, bytes, dma };
}

Deno.test("fw_cfg: the signature item reads QEMU, and the DMA address register QEMU CFG", () => {
  const { select, bytes, region } = device();
  select(FwCfgItem.SIGNATURE);
  assertEquals(bytes(4), text("QEMU"));
  const halves = new DataView(new ArrayBuffer(8));
  halves.setUint32(0, region.read(4, 4), true);
  halves.setUint32(4, region.read(8, 4), true);
  assertEquals(new Uint8Array(halves.buffer), text("QEMU CFG"));
});

Deno.test("fw_cfg: ID says that both interfaces are there", () => {
  const { select, bytes } = device();
  select(FwCfgItem.ID);
  assertEquals(bytes(4), Uint8Array.of(3, 0, 0, 0));
});

Deno.test("fw_cfg: selecting an item starts it again, and beyond its end come zeroes", () => {
  const { select, bytes } = device();
  select(FwCfgItem.NB_CPUS);
  assertEquals(bytes(4), Uint8Array.of(3, 0, 0, 0));
  select(FwCfgItem.NB_CPUS);
  assertEquals(bytes(1), Uint8Array.of(3));
  select(0x3fff);
  assertEquals(bytes(2), Uint8Array.of(0, 0));
});

Deno.test("fw_cfg: the directory lists files by name, with size and selector, big-endian", () => {
  const { select, bytes } = device();
  select(FwCfgItem.FILE_DIR);
  const dir = new DataView(bytes(4 + 128).buffer);
  assertEquals(dir.getUint32(0), 2);
  const entries = [0, 1].map((i) => {
    const at = 4 + 64 * i;
    const name = new TextDecoder().decode(new Uint8Array(dir.buffer, at + 8, 56)).replace(/\0+$/, "");
    return { size: dir.getUint32(at), select: dir.getUint16(at + 4), name };
  });
  assertEquals(entries.map((e) => [e.name, e.size]), [["etc/ant", 6], ["etc/zebra", 7]]);
  select(entries[1]!.select);
  assertEquals(bytes(7), text("stripes"));
});

Deno.test("fw_cfg: an item is made when it is read, and stays as it is until it is selected again", () => {
  const { select, bytes } = device();
  select(0x20);
  const first = bytes(6);
  select(0x20);
  const second = bytes(6);
  assertEquals([first, second].map((b) => new TextDecoder().decode(b).slice(0, 5)), ["made ", "made "]);
  assertEquals(first[5] === second[5], false);
});

Deno.test("fw_cfg: DMA selects, skips and reads, and clears the control word", () => {
  const { dma, ram } = device();
  assertEquals(dma((0x21 << 16) | 8, 0, 0), 0);
  assertEquals(dma(4, 2, 0), 0);
  ram.bytes(0x200, 16)!.fill(0xee);
  assertEquals(dma(2, 8, 0x200), 0);
  assertEquals(ram.bytes(0x200, 9), Uint8Array.of(...text("ripes"), 0, 0, 0, 0xee));
});

Deno.test("fw_cfg: DMA outside RAM, and writing, end with the error bit", () => {
  const { dma } = device();
  assertEquals(dma((0x21 << 16) | 10, 0xffffffff, 0x200), 1);
  assertEquals(dma(2, 16, 0xfff8), 1);
  assertEquals(dma((0x21 << 16) | 8 | 16, 4, 0x200), 1);
});

Deno.test("fw_cfg: a transfer whose structure is not in RAM does nothing", () => {
  const { region, select, bytes } = device();
  select(FwCfgItem.SIGNATURE);
  region.write(4, 4, 0xffffffff);
  region.write(8, 4, 0xffffffff);
  assertEquals(bytes(4), text("QEMU"));
});
