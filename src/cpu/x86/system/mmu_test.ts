import { assertEquals } from "@std/assert";
import {
  BOUNCE,
  CODE_INFO,
  DTLB,
  DTLB_BYTES,
  DTLB_ENTRIES,
  DTLB_ENTRY,
  TLB_ADDEND,
  TLB_TAG_R,
  TLB_TAG_W,
} from "../state.ts";
import { ACCESS } from "./walk.ts";
import { BITMAPS, CODE_DIR, CODE_PAGES, CPU, type Fixture, fixture, RAM } from "./fixture.ts";

const NAMES = [
  "flushTlb",
  "flushSpace",
  "invlpg",
  "dropWriteTags",
  "probeRead",
  "probeWrite",
  "fetch",
  "supRead64",
  "supWrite32",
  "walk",
];
const PAGES = 48;
const EMPTY = 0xffff_ffff_ffff_ffffn;

/** 4-level paging from tables in pages 0 (PML4), 1, 2; page tables from 3 on: linear 4 MiB × n has its table at page 3 + n. */
function paged(impls = {}): Fixture {
  const f = fixture(PAGES, NAMES, () => {}, impls);
  f.set64("cr0", 0x8001_0001);
  f.set64("cr4", 0x20);
  f.set64("efer", 0xd00);
  f.set64("cr3", 0);
  f.set("mode", 2);
  f.set("dtlb", CPU + DTLB);
  const entry = (table: number, index: number, value: number | bigint) =>
    f.view.setBigUint64(RAM + table * 4096 + index * 8, BigInt(value), true);
  entry(0, 0, 0x1007);
  entry(1, 0, 0x2007);
  entry(2, 0, 0x3007);
  entry(2, 1, 0x4007);
  // 2 MiB at 4 MiB: RAM from 0.
  entry(2, 2, 0x87 | 0x60);
  f.call("flushTlb");
  return f;
}
/** Maps linear page `page` (below 1024) to physical page `to`. */
function map(f: Fixture, page: number, to: number | bigint, bits = 0x67): void {
  f.view.setBigUint64(RAM + (3 + (page >> 9)) * 4096 + (page & 511) * 8, (BigInt(to) << 12n) | BigInt(bits), true);
}
const tag = (f: Fixture, page: number, which: number, tlb = 0) =>
  f.view.getBigUint64(CPU + DTLB + tlb * DTLB_BYTES + (page % DTLB_ENTRIES) * DTLB_ENTRY + which, true);
const addend = (f: Fixture, page: number) =>
  f.view.getUint32(CPU + DTLB + (page % DTLB_ENTRIES) * DTLB_ENTRY + TLB_ADDEND, true);

Deno.test("a read fills the TLB; the write tag waits for the dirty flag", () => {
  const f = paged();
  map(f, 0x20, 0x10, 0x27);
  assertEquals(f.call("readAddr", 0x20008n, 4), RAM + 0x10008);
  assertEquals(tag(f, 0x20, TLB_TAG_R), 0x20000n);
  assertEquals(tag(f, 0x20, TLB_TAG_W), EMPTY);
  assertEquals((addend(f, 0x20) + 0x20008) >>> 0, RAM + 0x10008);
  assertEquals(f.call("writeAddr", 0x20008n, 4), RAM + 0x10008);
  assertEquals(tag(f, 0x20, TLB_TAG_W), 0x20000n);
  assertEquals(f.view.getUint8(RAM + 3 * 4096 + 0x20 * 8) & 0x60, 0x60);
  // Now a read gives the right to write as well.
  f.call("flushTlb");
  assertEquals(tag(f, 0x20, TLB_TAG_R), EMPTY);
  f.call("readAddr", 0x20000n, 1);
  assertEquals(tag(f, 0x20, TLB_TAG_W), 0x20000n);
});

Deno.test("a read-only page gets no write tag, and a write faults with its error code", () => {
  const f = paged();
  map(f, 0x20, 0x10, 0x65);
  f.call("readAddr", 0x20000n, 8);
  assertEquals(tag(f, 0x20, TLB_TAG_W), EMPTY);
  assertEquals(f.call("writeAddr", 0x20123n, 1), 0);
  assertEquals([f.get("excVector"), f.get("excError"), f.get64("cr2")], [14, 3, 0x20123n]);
  f.set("dtlb", CPU + DTLB + DTLB_BYTES);
  assertEquals(f.call("writeAddr", 0x20123n, 1), 0);
  assertEquals(f.get("excError"), 7);
});

Deno.test("an access across two separate pages goes through the bounce buffer", () => {
  const f = paged();
  map(f, 0x20, 0x10);
  map(f, 0x21, 0x18);
  f.view.setUint32(RAM + 0x10ffc, 0x44332211, true);
  f.view.setUint32(RAM + 0x18000, 0x88776655, true);
  assertEquals(f.call("readAddr", 0x20ffdn, 4), CPU + BOUNCE);
  assertEquals(f.view.getUint32(CPU + BOUNCE, true), 0x55443322);
  assertEquals(f.call("writeAddr", 0x20ffcn, 8), CPU + BOUNCE);
  assertEquals(f.view.getBigUint64(CPU + BOUNCE, true), 0x8877665544332211n);
  f.view.setBigUint64(CPU + BOUNCE, 0x0102030405060708n, true);
  f.call("commit");
  assertEquals(f.view.getUint32(RAM + 0x10ffc, true), 0x05060708);
  assertEquals(f.view.getUint32(RAM + 0x18000, true), 0x01020304);
});

Deno.test("neighbours in RAM need no bounce buffer", () => {
  const f = paged();
  map(f, 0x20, 0x10);
  map(f, 0x21, 0x11);
  assertEquals(f.call("readAddr", 0x20ffdn, 8), RAM + 0x10ffd);
  assertEquals(f.call("writeAddr", 0x20ffdn, 8), RAM + 0x10ffd);
});

Deno.test("a fault on the second page is raised before the first is touched, with CR2 at the second", () => {
  const f = paged();
  map(f, 0x20, 0x10);
  map(f, 0x21, 0x18, 0);
  assertEquals(f.call("writeAddr", 0x20ffcn, 8), 0);
  assertEquals([f.get("excVector"), f.get("excError"), f.get64("cr2")], [14, 2, 0x21000n]);
});

Deno.test("device memory is read and written in aligned pieces of at most 4 bytes", () => {
  let next = 0x1000;
  const f = paged({ mmioRead: () => next++ });
  map(f, 0x20, 0x4_fee00);
  const M = "fee00";
  assertEquals(f.call("readAddr", 0x20008n, 8), CPU + BOUNCE);
  assertEquals(f.log.splice(0), [`mmioRead ${M}008 4 4`, `mmioRead ${M}00c 4 4`]);
  assertEquals(f.view.getUint32(CPU + BOUNCE + 4, true), 0x1001);
  f.call("readAddr", 0x20003n, 4);
  assertEquals(f.log.splice(0), [`mmioRead ${M}003 4 1`, `mmioRead ${M}004 4 2`, `mmioRead ${M}006 4 1`]);
  // A read-modify-write reads first, a store does not.
  assertEquals(f.call("writeAddr", 0x20010n, 4), CPU + BOUNCE);
  assertEquals(f.log.splice(0), [`mmioRead ${M}010 4 4`]);
  assertEquals(f.call("writeAddr", 0x20010n, 16 + (1 << 16)), CPU + BOUNCE);
  assertEquals(f.log.splice(0), []);
  for (let i = 0; i < 4; i++) f.view.setUint32(CPU + BOUNCE + 4 * i, 0xa0 + i, true);
  f.call("commit");
  assertEquals(f.log.splice(0), [0, 1, 2, 3].map((i) => `mmioWrite ${M}01${(4 * i).toString(16)} 4 4 a${i}`));
  assertEquals(tag(f, 0x20, TLB_TAG_R), EMPTY);
});

Deno.test("an access from RAM into device memory does both", () => {
  const f = paged();
  map(f, 0x20, 0x10);
  map(f, 0x21, 0xfee00);
  f.call("writeAddr", 0x20ffen, 4 + (1 << 16));
  f.view.setUint32(CPU + BOUNCE, 0x44332211, true);
  f.call("commit");
  assertEquals(f.view.getUint16(RAM + 0x10ffe, true), 0x2211);
  assertEquals(f.log, ["mmioWrite fee00000 0 2 4433"]);
});

Deno.test("writes to decoded lines are told before they happen; other lines of the page are free", () => {
  const f = paged();
  map(f, 0x20, 0x10);
  f.view.setUint8(CODE_PAGES + 0x10, 1);
  f.view.setUint32(CODE_DIR + 0x10 * 4, BITMAPS, true);
  f.view.setBigUint64(BITMAPS, (1n << 2n) | (1n << 63n), true);
  f.view.setUint32(BITMAPS + CODE_INFO.HELD, 1, true);
  f.call("readAddr", 0x20000n, 1);
  assertEquals(tag(f, 0x20, TLB_TAG_W), EMPTY);
  for (
    const [offset, bytes, told] of [[0x7f, 1, 0], [0x7f, 2, 1], [0x80, 1, 1], [0xbf, 1, 1], [0xc0, 8, 0], [0xfff, 1, 1]]
  ) {
    assertEquals(f.call("writeAddr", BigInt(0x20000 + offset!), bytes!), RAM + 0x10000 + offset!);
    assertEquals(f.log.splice(0), told ? ["codeWrite 10"] : [], `${offset!.toString(16)} ${bytes}`);
    assertEquals(tag(f, 0x20, TLB_TAG_W), EMPTY);
  }
  // All 64 lines at once.
  f.call("writeAddr", 0x20000n, 4096);
  assertEquals(f.log.splice(0), ["codeWrite 10"]);
  // The same lines, decoded by others as well, then by others only.
  f.view.setUint8(CODE_PAGES + 0x10, 2);
  f.call("writeAddr", 0x20080n, 4);
  assertEquals(f.log.splice(0), ["codeWrite 10", "codeEvict 10 10"]);
  f.view.setUint32(CODE_DIR + 0x10 * 4, 0, true);
  f.call("writeAddr", 0x20080n, 4);
  assertEquals(f.log.splice(0), ["codeEvict 10 10"]);
  assertEquals(tag(f, 0x20, TLB_TAG_W), EMPTY);
});

Deno.test("a write across two pages that others have decoded evicts both at once", () => {
  const f = paged();
  map(f, 0x20, 0x10);
  map(f, 0x21, 0x14);
  f.view.setUint8(CODE_PAGES + 0x14, 1);
  f.call("writeAddr", 0x20ffdn, 8);
  assertEquals(f.log.splice(0), ["codeEvict 10 14"]);
});

Deno.test("dropWriteTags finds every alias of a page", () => {
  const f = paged();
  for (const page of [0x20, 0x31, 0x142]) map(f, page, 0x10);
  map(f, 0x22, 0x11);
  for (const page of [0x20, 0x31, 0x142, 0x22]) f.call("writeAddr", BigInt(page * 4096), 4);
  f.call("dropWriteTags", 0x10);
  assertEquals([0x20, 0x31, 0x142, 0x22].map((p) => tag(f, p, TLB_TAG_W) === EMPTY), [true, true, true, false]);
  assertEquals([0x20, 0x31, 0x142, 0x22].map((p) => tag(f, p, TLB_TAG_R) === EMPTY), [false, false, false, false]);
});

Deno.test("INVLPG drops one page, or all of a large one", () => {
  const f = paged();
  map(f, 0x20, 0x10);
  map(f, 0x21, 0x10);
  for (const a of [0x20000n, 0x21000n]) f.call("readAddr", a, 4);
  f.call("invlpg", 0x20fffn);
  assertEquals([tag(f, 0x20, TLB_TAG_R), tag(f, 0x21, TLB_TAG_R)], [EMPTY, 0x21000n]);
  // Two pages of the same 2 MiB mapping: either address drops both, and leaves the small page alone.
  f.call("readAddr", 0x405000n, 4);
  f.call("readAddr", 0x40a000n, 4);
  assertEquals(tag(f, 0x405, TLB_TAG_R), 0x405000n);
  f.call("invlpg", 0x400000n);
  assertEquals([tag(f, 0x405, TLB_TAG_R), tag(f, 0x40a, TLB_TAG_R), tag(f, 0x21, TLB_TAG_R)], [EMPTY, EMPTY, 0x21000n]);
  // The same with 1 GiB, mapped at 1 GiB.
  f.view.setBigUint64(RAM + 1 * 4096 + 8, 0xe7n, true);
  for (const a of [0x4000_7000n, 0x4002_9000n]) assertEquals(f.call("readAddr", a, 4), RAM + (Number(a) & 0xf_ffff));
  f.call("invlpg", 0x7fff_f000n);
  assertEquals([7, 0x29, 0x21].map((p) => tag(f, p, TLB_TAG_R)), [EMPTY, EMPTY, 0x21000n]);
});

const G = 0x100;

Deno.test("a change of the address space keeps global pages, if CR4.PGE is set; a whole flush keeps none [sdm3 §4.10.4.1]", () => {
  for (const pge of [0, 0x80]) {
    const f = paged();
    f.set64("cr4", 0x20 | pge);
    f.set("itlb", CPU + DTLB + 3 * DTLB_BYTES);
    map(f, 0x20, 0x10);
    map(f, 0x21, 0x10, 0x67 | G);
    const fill = () => [0x20000n, 0x21000n].forEach((a) => (f.call("readAddr", a, 4), f.call("fetch", a)));
    const fetched = (page: number) => f.view.getBigUint64(CPU + DTLB + 3 * DTLB_BYTES + page * 16, true);
    const tags = () => [0x20, 0x21].map((page) => [tag(f, page, TLB_TAG_R), fetched(page)]);
    const none = [EMPTY, EMPTY], there = [0x21000n, 0x21000n];
    fill();
    f.call("flushSpace");
    assertEquals(tags(), [none, pge ? there : none]);
    fill();
    f.call("flushTlb");
    assertEquals(tags(), [none, none]);
    fill();
    f.call("invlpg", 0x21000n);
    assertEquals(tag(f, 0x21, TLB_TAG_R), EMPTY);
  }
});

Deno.test("what another address space maps in a global page's entry goes with that space", () => {
  const f = paged();
  f.set64("cr4", 0xa0);
  map(f, 0x20, 0x10, 0x67 | G);
  f.call("readAddr", 0x20000n, 4);
  // The same entry of the TLB.
  const other = 0x20000n + (BigInt(DTLB_ENTRIES) << 12n);
  f.view.setBigUint64(RAM + 2 * 4096 + Number(other >> 21n) * 8, 0x5007n, true);
  f.view.setBigUint64(RAM + 5 * 4096 + Number((other >> 12n) & 511n) * 8, 0x1_2067n, true);
  assertEquals(f.call("readAddr", other, 4), RAM + 0x12000);
  assertEquals(tag(f, 0x20, TLB_TAG_R), other);
  f.call("flushSpace");
  assertEquals(tag(f, 0x20, TLB_TAG_R), EMPTY);
});

Deno.test("INVLPG drops all of a large page that outlives a change of the address space", () => {
  const f = paged();
  f.set64("cr4", 0xa0);
  f.view.setBigUint64(RAM + 2 * 4096 + 2 * 8, BigInt(0xe7 | G), true);
  f.view.setBigUint64(RAM + 1 * 4096 + 8, BigInt(0xe7 | G), true);
  for (const [one, other] of [[0x405000n, 0x40a000n], [0x4000_7000n, 0x4002_9000n]] as const) {
    f.call("readAddr", one, 4);
    f.call("readAddr", other, 4);
    f.call("flushSpace");
    assertEquals(tag(f, Number(one >> 12n), TLB_TAG_R), one);
    f.call("invlpg", other);
    assertEquals(tag(f, Number(one >> 12n), TLB_TAG_R), EMPTY);
  }
});

Deno.test("a flush forgets everything, whether or not the log of fills has overflowed", () => {
  for (const fills of [3, 700]) {
    const f = paged();
    for (let i = 0; i < fills; i++) {
      map(f, 0x20 + i, 0x10);
      assertEquals(f.call("readAddr", BigInt(0x20 + i) << 12n, 4), RAM + 0x10000);
    }
    f.set("itlb", CPU + DTLB + 3 * DTLB_BYTES);
    f.call("fetch", 0x20000n);
    f.call("flushTlb");
    for (let at = 0; at < 3 * DTLB_BYTES; at += DTLB_ENTRY) {
      assertEquals(f.view.getBigUint64(CPU + DTLB + at, true), EMPTY);
      assertEquals(f.view.getBigUint64(CPU + DTLB + at + 8, true), EMPTY);
    }
    assertEquals(f.view.getBigUint64(CPU + DTLB + 3 * DTLB_BYTES + 0x20 * 16, true), EMPTY);
  }
});

Deno.test("fetch translates, fills its TLB, and refuses what is not RAM", () => {
  const f = paged();
  const itlb = CPU + DTLB + 3 * DTLB_BYTES;
  f.set("itlb", itlb);
  map(f, 0x20, 0x10);
  map(f, 0x21, 0xfee00);
  assertEquals(f.call("fetch", 0x20123n), 0);
  assertEquals([f.get("physLo"), f.get("physHi")], [0x10123, 0]);
  const entry = itlb + 0x20 * 16;
  assertEquals(f.view.getBigUint64(entry, true), 0x20000n);
  assertEquals([f.view.getUint32(entry + 8, true), f.view.getUint32(entry + 12, true)], [0, 0x10]);
  assertEquals(f.call("fetch", 0x21000n), 1);
  assertEquals([f.get("excVector"), f.get("excError")], [13, 0]);
});

Deno.test("supervisor accesses do not depend on CPL; probes change nothing", () => {
  const f = paged();
  map(f, 0x20, 0x10, 0x63);
  f.view.setBigUint64(RAM + 0x10010, 0x1122334455667788n, true);
  f.set("cpl", 3);
  f.set("dtlb", CPU + DTLB + DTLB_BYTES);
  assertEquals(f.call("supRead64", 0x20010n), [0, 0x1122334455667788n]);
  assertEquals(f.call("supWrite32", 0x20010n, 0x5a5a5a5a), 0);
  assertEquals(f.view.getUint32(RAM + 0x10010, true), 0x5a5a5a5a);
  assertEquals(f.call("readAddr", 0x20010n, 8), 0);
  assertEquals(f.get("excError"), 5);
  assertEquals(f.call("probeRead", 0x20010n, 8), 1);
  map(f, 0x22, 0x11, 0x67);
  map(f, 0x23, 0x11, 0x65);
  assertEquals(f.call("probeWrite", 0x22ff0n, 16), 0);
  assertEquals(f.call("probeWrite", 0x22ff1n, 16), 1);
  assertEquals([f.get("excError"), f.get64("cr2")], [7, 0x23000n]);
  assertEquals(f.call("probeRead", 0x22ff1n, 16), 0);
});

Deno.test("linear addresses wrap at 4 GiB outside of 64-bit mode", () => {
  const f = fixture(PAGES, ["flushTlb"]);
  f.set64("cr0", 1);
  f.set("dtlb", CPU + DTLB);
  f.call("flushTlb");
  f.view.setUint32(RAM, 0x44332211, true);
  // The page below 4 GiB is device memory here, page 0 is RAM.
  assertEquals(f.call("readAddr", 0xffff_fffen, 4), CPU + BOUNCE);
  assertEquals(f.view.getUint16(CPU + BOUNCE + 2, true), 0x2211);
  assertEquals(f.log, ["mmioRead fffffffe 0 2"]);
});

Deno.test("a walk with ACCESS.QUIET sets no flag in the tables", () => {
  const f = paged();
  map(f, 0x20, 0x10, 0x07);
  assertEquals(f.call("walk", 0x20000n, ACCESS.WRITE | ACCESS.QUIET)[0], 0);
  assertEquals(f.view.getUint8(RAM + 3 * 4096 + 0x20 * 8), 7);
});

Deno.test("SMAP stops supervisor data accesses to user pages, but not in the TLB for EFLAGS.AC", () => {
  const f = paged();
  f.set64("cr4", 0x20 | (1 << 21));
  map(f, 0x20, 0x10);
  assertEquals(f.call("readAddr", 0x20000n, 4), 0);
  assertEquals([f.get("excVector"), f.get("excError")], [14, 1]);
  assertEquals(f.call("supRead64", 0x20000n)[0], 1);
  f.set("dtlb", CPU + DTLB + 2 * DTLB_BYTES);
  assertEquals(f.call("readAddr", 0x20000n, 4), RAM + 0x10000);
  assertEquals(f.call("supRead64", 0x20000n)[0], 1);
  assertEquals(tag(f, 0x20, TLB_TAG_R, 2), 0x20000n);
  assertEquals(tag(f, 0x20, TLB_TAG_R, 0), EMPTY);
});

Deno.test("random accesses of 1 to 64 bytes over shuffled pages agree with a flat model of memory", () => {
  // The device is 4 KiB of plain bytes, so that it can be compared as well.
  const device = new Uint8Array(4096);
  const at = (lo: number) => lo & 0xfff;
  const f = paged({
    mmioRead: (lo: number, _hi: number, n: number) => {
      let v = 0;
      for (let i = 0; i < n; i++) v |= device[at(lo) + i]! << (8 * i);
      return v;
    },
    mmioWrite: (lo: number, _hi: number, n: number, v: number) => {
      for (let i = 0; i < n; i++) device[at(lo) + i] = v >>> (8 * i);
    },
  });
  let seed = 12345;
  const r = (n: number) => {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
    return Math.floor((seed / 2 ** 32) * n);
  };
  // Linear pages 20h..2Fh to RAM pages in a random order, two of them neighbours by chance; 2Ah is the device.
  const pages = Array.from({ length: 16 }, (_, i) => i + 0x10).sort(() => r(3) - 1);
  pages[10] = 0xfee00;
  pages.forEach((to, i) => map(f, 0x20 + i, to));
  const model = new Uint8Array(16 * 4096);
  for (let round = 0; round < 4000; round++) {
    const bytes = [1, 2, 4, 8, 16, 64][r(6)]!;
    // Half of them near the end of a page.
    const offset = Math.min(r(2) ? r(16) * 4096 + 4096 - r(80) : r(16 * 4096), 16 * 4096 - bytes);
    const linear = BigInt(0x20000 + offset);
    if (r(3)) {
      const writeOnly = r(2);
      const place = f.call("writeAddr", linear, bytes + (writeOnly << 16));
      if (!writeOnly) {
        for (let i = 0; i < bytes; i++) assertEquals(f.view.getUint8(place + i), model[offset + i], `round ${round}`);
      }
      for (let i = 0; i < bytes; i++) {
        model[offset + i] = r(256);
        f.view.setUint8(place + i, model[offset + i]!);
      }
      if (place === CPU + BOUNCE) f.call("commit");
    } else {
      const place = f.call("readAddr", linear, bytes);
      for (let i = 0; i < bytes; i++) assertEquals(f.view.getUint8(place + i), model[offset + i], `round ${round}`);
    }
    f.log.length = 0;
  }
  pages.forEach((to, i) => {
    for (let b = 0; b < 4096; b++) {
      const found = to === 0xfee00 ? device[b] : f.view.getUint8(RAM + to * 4096 + b);
      if (found !== model[i * 4096 + b]) throw new Error(`linear page ${i}, byte ${b}`);
    }
  });
});
