/** vCPUs and threads: whose calls they take, and how one thread brings another out of the guest. */
import { assert, assertEquals } from "@std/assert";
import { code, FOREVER, Guest } from "./guest.ts";
import { libraryPath, ok, openRig, said } from "./rig.ts";
import type { Answer, Order } from "./vcpu_thread.ts";
import { F } from "./vmcs.ts";

const hv = openRig();
const out = new BigUint64Array(1);

/** Another thread, attached to the double. */
class Thread implements Disposable {
  readonly #worker = new Worker(new URL("./vcpu_thread.ts", import.meta.url), { type: "module" });
  #resolve: (answer: Answer) => void = () => {};
  constructor() {
    this.#worker.onmessage = (e: MessageEvent<Answer>) => this.#resolve(e.data);
  }
  do(order: Order): Promise<Answer> {
    return new Promise((resolve) => {
      this.#resolve = resolve;
      this.#worker.postMessage({ path: libraryPath(), ...order });
    });
  }
  [Symbol.dispose](): void {
    this.#worker.terminate();
  }
}

Deno.test("a vCPU takes calls from the thread that made it only, but for the interrupt", async () => {
  using g = new Guest(hv);
  g.long(code("f4"));
  using thread = new Thread();
  assertEquals((await thread.do({ kind: "touch", id: g.id })).codes.map(said), [
    "BAD_ARGUMENT", // run
    "BAD_ARGUMENT", // run_until
    "BAD_ARGUMENT", // read_register
    "BAD_ARGUMENT", // read_vmcs
    "BAD_ARGUMENT", // destroy
    "SUCCESS", // interrupt
  ]);
  // The interrupt came while the vCPU was not in the guest: the next entry returns at once.
  assertEquals([g.run(), g.run()], [1, 12]);
});

Deno.test("two threads run a vCPU each over the same memory, and one is brought out by the other", async () => {
  using g = new Guest(hv);
  g.long(code("f4"));
  using thread = new Thread();
  const made = await thread.do({ kind: "make" });
  assertEquals([said(made.codes[0]!), made.id], ["SUCCESS", 1]);
  // lock inc dword [9000h] for ever: the other thread does it, and this one sees it.
  const loop = code("f0ff042500900000 ebf6");
  g.ram.u8.set(loop, 0x8100);
  const running = thread.do({ kind: "loop", id: 1, rip: 0x8100 });
  const until = performance.now() + 5000;
  while (g.ram.dv.getUint32(0x9000, true) < 1000 && performance.now() < until) {
    await new Promise((r) => setTimeout(r, 1));
  }
  assert(g.ram.dv.getUint32(0x9000, true) >= 1000, "the other vCPU does not run");
  ok(hv.hv_vcpu_interrupt(Uint32Array.of(1), 1));
  const left = await running;
  assertEquals([said(left.codes[0]!), left.reason], ["SUCCESS", 1]);
  assertEquals(said(hv.hv_vm_destroy()), "BUSY");
  assertEquals((await thread.do({ kind: "destroy", id: 1 })).codes.map(said), ["SUCCESS"]);
});

Deno.test("locked additions of two vCPUs are all counted", async () => {
  using g = new Guest(hv);
  // mov ecx, 100000; lock inc dword [9000h]; loop; hlt
  g.long(code("b9a0860100 f0ff042500900000 e2f6 f4"));
  using thread = new Thread();
  await thread.do({ kind: "make" });
  const other = thread.do({ kind: "loop", id: 1, rip: 0x8000 });
  assertEquals(g.run(), 12);
  assertEquals((await other).reason, 12);
  assertEquals(g.ram.dv.getUint32(0x9000, true), 200_000);
  await thread.do({ kind: "destroy", id: 1 });
});

Deno.test("code that one vCPU rewrites is executed anew by the other", async () => {
  using g = new Guest(hv);
  // The other: mov eax, [9000h]; test eax, eax; jz; call 8200h; hlt, where 8200h is "mov ebx, 1; ret" at first, called before.
  g.long(code("c604250182000002 c704250090000001000000 f4"));
  g.ram.u8.set(code("bb01000000 c3"), 0x8200);
  g.ram.u8.set(code("e8fb000000 8b042500900000 85c0 74f5 e8eb000000 f4"), 0x8100);
  using thread = new Thread();
  await thread.do({ kind: "make" });
  const other = thread.do({ kind: "loop", id: 1, rip: 0x8100 });
  await new Promise((r) => setTimeout(r, 100));
  assertEquals(g.run(), 12);
  const { reason, rbx } = await other;
  assertEquals([reason, rbx], [12, 2n]);
  await thread.do({ kind: "destroy", id: 1 });
});

Deno.test("an interrupt of a vCPU that does not exist is refused, and one may be lost where the framework loses it", () => {
  using g = new Guest(hv);
  g.long(code("f4"));
  assertEquals(said(hv.hv_vcpu_interrupt(Uint32Array.of(7), 1)), "BAD_ARGUMENT");
  assertEquals(said(hv.hv_vcpu_interrupt(Uint32Array.of(99), 1)), "BAD_ARGUMENT");
  assertEquals(said(hv.hv_vcpu_interrupt(Uint32Array.of(0), 0)), "BAD_ARGUMENT");
  openRig({ losesInterrupts: true });
  ok(hv.hv_vcpu_interrupt(Uint32Array.of(g.id), 1));
  ok(hv.hv_vcpu_run_until(g.id, FOREVER));
  ok(hv.hv_vmx_vcpu_read_vmcs(g.id, F.EXIT_REASON, out));
  assertEquals(out[0], 12n);
  openRig({});
});
