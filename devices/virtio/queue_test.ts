import { assertEquals } from "@std/assert";
import { GuestRam } from "../../src/base/ram.ts";
import { QueueDriver } from "./driver.ts";
import { DESC, MAX_SEGMENTS, Virtqueue, VirtqueueRecord } from "./queue.ts";

const SIZE = 8;
const RAM_BYTES = 1 << 20;

function fixture(features: { eventIdx?: number; indirect?: number } = {}) {
  const ram = GuestRam.private(RAM_BYTES);
  const drv = new QueueDriver(ram, { size: SIZE, at: 0x1000, room: 0x8000 });
  const s = VirtqueueRecord.create();
  const q = new Virtqueue(s, ram, 256);
  s.size = SIZE;
  s.enable = 1;
  s.descLo = drv.desc;
  s.driverLo = drv.avail;
  s.deviceLo = drv.used;
  s.eventIdx = features.eventIdx ?? 0;
  s.indirect = features.indirect ?? 0;
  q.live = true;
  return { ram, drv, s, q };
}

/** Serves one burst: echoes what is readable into what is writable. */
function serve(q: Virtqueue): { served: number; interrupt: boolean; more: boolean } {
  let served = 0;
  if (!q.begin()) return { served, interrupt: false, more: false };
  while (q.pop()) {
    const bytes = new Uint8Array(q.chain.readableBytes);
    q.chain.read(0, bytes);
    q.push(q.chain.head, q.chain.write(0, bytes));
    served++;
  }
  const interrupt = !q.broken && q.needsInterrupt();
  return { served, interrupt, more: q.end() };
}

const text = (s: string) => new TextEncoder().encode(s);

Deno.test("a chain's bytes cross descriptor boundaries both ways, direct and indirect", () => {
  for (const indirect of [false, true]) {
    const { drv, q } = fixture({ indirect: 1 });
    const head = drv.add([text("hel"), text("lo w"), text("orld"), 2, 5, 10], indirect);
    assertEquals(serve(q), { served: 1, interrupt: true, more: false });
    const used = drv.collect()!;
    assertEquals([used.head, used.written], [head, 11]);
    assertEquals(new TextDecoder().decode(used.bytes.subarray(0, 11)), "hello world");
    assertEquals(drv.collect(), null);
  }
});

Deno.test("direct descriptors may be followed by an indirect one", () => {
  const { ram, drv, q } = fixture({ indirect: 1 });
  ram.copyIn(0x20000, text("abcdef"));
  drv.writeDesc(3, 0x20000, 3, DESC.NEXT, 5);
  drv.writeDesc(5, 0x21000, 32, DESC.INDIRECT, 0);
  drv.writeDesc(0, 0x20003, 3, DESC.NEXT, 1, 0x21000);
  drv.writeDesc(1, 0x22000, 6, DESC.WRITE, 0, 0x21000);
  drv.publish(3);
  assertEquals(serve(q).served, 1);
  assertEquals(new TextDecoder().decode(ram.bytes(0x22000, 6)!.slice()), "abcdef");
});

Deno.test("indices run through 65535 to 0 and the ring goes on", () => {
  const { drv, q, s } = fixture({ eventIdx: 1 });
  drv.availIdx =
    drv.usedIdx =
    s.lastAvail =
    s.usedIdx =
    s.signalled =
      65530;
  for (let i = 0; i < 20; i++) {
    drv.setUsedEvent(drv.usedIdx);
    drv.add([text("x"), 1]);
    assertEquals(serve(q), { served: 1, interrupt: true, more: false }, `${i}`);
    assertEquals(drv.collect()!.written, 1);
    assertEquals(drv.availEvent, drv.availIdx);
  }
});

Deno.test("without EVENT_IDX the driver's NO_INTERRUPT flag silences the device, and NO_NOTIFY stands while it works", () => {
  const { drv, q } = fixture();
  drv.setNoInterrupt(true);
  drv.add([text("x"), 1]);
  assertEquals(serve(q).interrupt, false);
  drv.setNoInterrupt(false);
  drv.add([text("x"), 1]);
  q.begin();
  assertEquals(drv.wantsNotify, false);
  assertEquals(q.end(), true, "the chain was left");
  assertEquals(drv.wantsNotify, true);
  assertEquals(serve(q).interrupt, true);
  assertEquals(serve(q).interrupt, false, "nothing new was used");
});

Deno.test("with EVENT_IDX an interrupt comes exactly when the used index passes used_event", () => {
  const { drv, q } = fixture({ eventIdx: 1 });
  drv.setUsedEvent(2);
  const interrupts: boolean[] = [];
  for (let i = 0; i < 5; i++) {
    drv.add([text("x"), 1]);
    interrupts.push(serve(q).interrupt);
  }
  assertEquals(interrupts, [false, false, true, false, false]);
  drv.setUsedEvent(6); // passed in the middle of a burst
  for (let i = 0; i < 3; i++) drv.add([text("x"), 1]);
  assertEquals(serve(q).interrupt, true);
});

Deno.test("a chain that is peeked at and not taken is there again", () => {
  const { drv, q } = fixture();
  drv.add([text("x"), 1]);
  q.begin();
  assertEquals(q.peek(), true);
  assertEquals(q.end(), true);
  assertEquals(serve(q).served, 1);
});

Deno.test("one burst takes no more chains than the queue has entries", () => {
  const { drv, q } = fixture();
  q.begin();
  let served = 0;
  drv.add([text("x"), 1]);
  while (q.pop()) {
    served++;
    q.push(q.chain.head, 0);
    drv.add([text("x"), 1]); // as another vCPU would
  }
  assertEquals([served, q.broken, q.end()], [SIZE, false, true]);
});

Deno.test("a queue is served by one thread at a time, and not while it is not live", () => {
  const { q } = fixture();
  assertEquals(q.begin(), true);
  assertEquals(q.begin(), false);
  assertEquals(q.reset(), false, "a reset waits for whoever serves it");
  q.end();
  q.live = false;
  assertEquals(q.begin(), false);
  assertEquals(q.reset(), true);
  assertEquals(q.size, 256);
});

type Setup = ReturnType<typeof fixture>;

/** Every way to break a ring that the specification lets a device notice. */
const CORRUPT: Record<string, (f: Setup) => void> = {
  "a head past the queue": ({ drv }) => drv.publish(SIZE),
  "a head of ffffh": ({ drv }) => drv.publish(0xffff),
  "more available than the queue holds": ({ drv }) => {
    drv.availIdx = SIZE;
    drv.publish(0);
  },
  "an available index that went back": ({ drv, s }) => {
    s.lastAvail = 5;
    drv.availIdx = 3;
    drv.publish(0);
  },
  "a descriptor that is its own next": ({ drv }) => {
    drv.writeDesc(0, 0x20000, 16, DESC.NEXT, 0);
    drv.publish(0);
  },
  "a loop of two": ({ drv }) => {
    drv.writeDesc(0, 0x20000, 16, DESC.NEXT, 1);
    drv.writeDesc(1, 0x20000, 16, DESC.NEXT, 0);
    drv.publish(0);
  },
  "a next past the queue": ({ drv }) => {
    drv.writeDesc(0, 0x20000, 16, DESC.NEXT, SIZE);
    drv.publish(0);
  },
  "a buffer outside RAM": ({ drv }) => {
    drv.writeDesc(0, RAM_BYTES, 16, 0, 0);
    drv.publish(0);
  },
  "a buffer that runs out of RAM": ({ drv }) => {
    drv.writeDesc(0, RAM_BYTES - 8, 16, 0, 0);
    drv.publish(0);
  },
  "a buffer that wraps round 2^64": ({ drv, ram }) => {
    drv.writeDesc(0, 0, 0x2000, DESC.WRITE, 0);
    ram.write(drv.desc, 4, 0xfffff000);
    ram.write(drv.desc + 4, 4, 0xffffffff);
    drv.publish(0);
  },
  "a length of 4 GiB": ({ drv }) => {
    drv.writeDesc(0, 0x20000, 0xffffffff, DESC.WRITE, 0);
    drv.publish(0);
  },
  "a readable buffer after a writable one": ({ drv }) => {
    drv.writeDesc(0, 0x20000, 16, DESC.WRITE | DESC.NEXT, 1);
    drv.writeDesc(1, 0x20000, 16, 0, 0);
    drv.publish(0);
  },
  "an indirect table inside an indirect table": (f) => {
    indirect(f, 32);
    f.drv.writeDesc(0, 0x21000, 32, DESC.INDIRECT, 0, 0x21000);
  },
  "an indirect table of no descriptors": (f) => indirect(f, 0),
  "an indirect table of a descriptor and a half": (f) => indirect(f, 24),
  "an indirect table that is too long": (f) => indirect(f, 16 * (MAX_SEGMENTS + 1)),
  "an indirect table outside RAM": (f) => indirect(f, 32, RAM_BYTES - 16),
  "a loop in an indirect table": (f) => {
    indirect(f, 32);
    f.drv.writeDesc(0, 0x20000, 1, DESC.NEXT, 1, 0x21000);
    f.drv.writeDesc(1, 0x20000, 1, DESC.NEXT, 0, 0x21000);
  },
  "a next past an indirect table": (f) => {
    indirect(f, 32);
    f.drv.writeDesc(0, 0x20000, 1, DESC.NEXT, 2, 0x21000);
  },
  "an indirect descriptor with a next": ({ drv }) => {
    drv.writeDesc(0, 0x21000, 32, DESC.INDIRECT | DESC.NEXT, 1);
    drv.publish(0);
  },
  "an indirect descriptor that was not negotiated": (f) => {
    f.s.indirect = 0;
    indirect(f, 32);
  },
  "a descriptor table outside RAM": ({ s, drv }) => {
    s.descLo = RAM_BYTES - 16;
    drv.publish(0);
  },
  "an available ring at an odd address": ({ s }) => {
    s.driverLo++;
  },
  "a used ring above 4 GiB": ({ s }) => {
    s.deviceHi = 1;
  },
  "a used ring not aligned to 4": ({ s }) => {
    s.deviceLo += 2;
  },
  "a size that is no power of two": ({ s }) => {
    s.size = 6;
  },
};

function indirect({ drv }: Setup, sizeBytes: number, at = 0x21000): void {
  drv.writeDesc(0, at, sizeBytes, DESC.INDIRECT, 0);
  drv.publish(0);
}

for (const [what, corrupt] of Object.entries(CORRUPT)) {
  Deno.test(`the ring breaks, and nothing is used: ${what}`, () => {
    const f = fixture({ indirect: 1 });
    corrupt(f);
    assertEquals(serve(f.q), { served: 0, interrupt: false, more: false });
    assertEquals([f.q.broken, f.q.busy], [true, false]);
    assertEquals(f.drv.collect(), null);
    f.drv.add([text("x"), 1]);
    assertEquals(serve(f.q).served, 0, "broken until reset");
  });
}

Deno.test("a chain that uses the whole queue, and an empty buffer in it, are fine", () => {
  const { drv, q } = fixture();
  drv.add([text("a"), text(""), text("b"), text("c"), 1, 0, 1, 1]);
  assertEquals(serve(q).served, 1);
  assertEquals([...drv.collect()!.bytes], [...text("abc")]);
});

Deno.test("random bytes as rings and descriptors never throw or hang, and the queue can be reset", () => {
  let seed = 12345;
  const random = (n: number) => (seed = (Math.imul(seed, 1103515245) + 12345) >>> 0) % n;
  for (let round = 0; round < 300; round++) {
    const { ram, drv, q } = fixture({ indirect: 1, eventIdx: round & 1 });
    const area = ram.bytes(drv.desc, drv.used + 6 + 8 * SIZE - drv.desc)!;
    for (let i = 0; i < area.length; i++) if (random(4) === 0) area[i] = random(256);
    // Small addresses and few flags reach deeper than noise does.
    for (let i = 0; i < SIZE; i++) {
      if (random(3)) drv.writeDesc(i, random(RAM_BYTES), random(64), random(8), random(SIZE + 1));
    }
    drv.availIdx = random(SIZE + 2);
    drv.publish(random(SIZE + 1));
    const r = serve(q);
    assertEquals(r.served <= SIZE, true);
    q.live = false;
    assertEquals(q.reset(), true);
  }
});
