/** The calls about the VM and its memory: each rule of the reference broken once. */
import { assertEquals, assertNotEquals } from "@std/assert";
import { hostMemory, ok, openRig, said } from "./rig.ts";

const hv = openRig();
const PAGE = 4096n, RWX = 7n;
const out = new BigUint64Array(2), out32 = new Uint32Array(2);

function inVm(body: () => void): void {
  ok(hv.hv_vm_create(0n));
  try {
    body();
  } finally {
    ok(hv.hv_vm_destroy());
  }
}

Deno.test("capabilities tell how many vCPUs and address spaces there may be", () => {
  for (const capability of [0n, 1n]) {
    ok(hv.hv_capability(capability, out));
    assertNotEquals(out[0], 0n);
  }
  assertEquals(said(hv.hv_capability(2n, out)), "BAD_ARGUMENT");
});

Deno.test("a process has one VM at a time", () => {
  ok(hv.hv_vm_create(0n));
  assertEquals(said(hv.hv_vm_create(0n)), "BUSY");
  ok(hv.hv_vm_destroy());
  assertEquals(said(hv.hv_vm_destroy()), "ERROR");
  ok(hv.hv_vm_create(0n));
  ok(hv.hv_vm_destroy());
});

Deno.test("options that do not exist are refused, and so are the kernel's interrupt controllers", () => {
  assertEquals(said(hv.hv_vm_create(1n << 20n)), "BAD_ARGUMENT");
  assertEquals(said(hv.hv_vm_create(1n << 5n)), "BAD_ARGUMENT");
  assertEquals(said(hv.hv_vm_create(1n << 10n)), "UNSUPPORTED");
});

Deno.test("without a VM nothing can be mapped and no vCPU made", () => {
  const { pointer } = hostMemory(65536);
  assertEquals(said(hv.hv_vm_map(pointer, 0n, PAGE, RWX)), "ERROR");
  assertEquals(said(hv.hv_vcpu_create(out32, 0n)), "ERROR");
  assertEquals(said(hv.hv_vm_sync_tsc(0n)), "ERROR");
});

Deno.test("host address, guest address and size of a mapping are multiples of the page", () =>
  inVm(() => {
    const { u8, pointer } = hostMemory(65536);
    const off = Deno.UnsafePointer.of(u8.subarray(16))!;
    assertEquals(said(hv.hv_vm_map(off, 0n, PAGE, RWX)), "BAD_ARGUMENT");
    assertEquals(said(hv.hv_vm_map(pointer, 16n, PAGE, RWX)), "BAD_ARGUMENT");
    assertEquals(said(hv.hv_vm_map(pointer, 0n, 100n, RWX)), "BAD_ARGUMENT");
    assertEquals(said(hv.hv_vm_map(pointer, 0n, 0n, RWX)), "BAD_ARGUMENT");
    assertEquals(said(hv.hv_vm_map(null, 0n, PAGE, RWX)), "BAD_ARGUMENT");
    assertEquals(said(hv.hv_vm_map(pointer, 0n, PAGE, 1n << 9n)), "BAD_ARGUMENT");
    ok(hv.hv_vm_map(pointer, 0n, PAGE, RWX));
  }));

Deno.test("memory that is not there cannot be mapped", () =>
  inVm(() => {
    // The first page of a process is never mapped.
    const nowhere = Deno.UnsafePointer.create(PAGE)!;
    assertEquals(said(hv.hv_vm_map(nowhere, 0n, PAGE, RWX)), "BAD_ARGUMENT");
  }));

Deno.test("what is mapped cannot be mapped again, and what is not cannot be unmapped or protected", () =>
  inVm(() => {
    const { pointer } = hostMemory(65536);
    ok(hv.hv_vm_map(pointer, 0x10000n, 4n * PAGE, RWX));
    assertEquals(said(hv.hv_vm_map(pointer, 0x13000n, PAGE, RWX)), "BUSY");
    assertEquals(said(hv.hv_vm_unmap(0x14000n, PAGE)), "BAD_ARGUMENT");
    assertEquals(said(hv.hv_vm_protect(0xf000n, 2n * PAGE, 1n)), "BAD_ARGUMENT");
    ok(hv.hv_vm_protect(0x11000n, PAGE, 1n));
    ok(hv.hv_vm_unmap(0x11000n, PAGE));
    ok(hv.hv_vm_unmap(0x12000n, 2n * PAGE));
    ok(hv.hv_vm_map(pointer, 0x11000n, PAGE, RWX));
  }));

Deno.test("mapping keeps what the memory holds", () =>
  inVm(() => {
    const { u8, pointer } = hostMemory(65536);
    u8[5] = 42, u8[40000] = 7;
    ok(hv.hv_vm_map(pointer, 0n, 65536n, RWX));
    assertEquals([u8[5], u8[40000], u8[20000]], [42, 7, 0]);
    u8[5] = 43;
    ok(hv.hv_vm_unmap(0n, 65536n));
    assertEquals(u8[5], 43);
  }));

Deno.test("address spaces other than the default come and go, each with mappings of its own", () =>
  inVm(() => {
    const { pointer } = hostMemory(65536);
    assertEquals(said(hv.hv_vm_map_space(1, pointer, 0n, PAGE, RWX)), "BAD_ARGUMENT");
    ok(hv.hv_vm_space_create(out32));
    const space = out32[0]!;
    assertNotEquals(space, 0);
    ok(hv.hv_vm_map(pointer, 0n, PAGE, RWX));
    ok(hv.hv_vm_map_space(space, pointer, 0n, PAGE, RWX));
    ok(hv.hv_vm_protect_space(space, 0n, PAGE, 1n));
    ok(hv.hv_vm_unmap_space(space, 0n, PAGE));
    assertEquals(said(hv.hv_vm_space_destroy(0)), "BAD_ARGUMENT");
    ok(hv.hv_vm_space_destroy(space));
    assertEquals(said(hv.hv_vm_space_destroy(space)), "BAD_ARGUMENT");
  }));

Deno.test("memory of the framework's own can be had and given back", () => {
  ok(hv.hv_vm_allocate!(out, 2n * PAGE, 0n));
  const view = new Uint8Array(Deno.UnsafePointerView.getArrayBuffer(Deno.UnsafePointer.create(out[0]!)!, 8192));
  view[8191] = 1;
  assertEquals([view[0], view[8191]], [0, 1]);
  ok(hv.hv_vm_deallocate!(Deno.UnsafePointer.create(out[0]!), 2n * PAGE));
  assertEquals(said(hv.hv_vm_allocate!(out, 100n, 0n)), "BAD_ARGUMENT");
  assertEquals(said(hv.hv_vm_allocate!(out, PAGE, 1n)), "BAD_ARGUMENT");
});

Deno.test("the host's counter and mach time go on, and the processor is described", () => {
  const before = hv.hv_tsc_clock(), mach = hv.mach_absolute_time!();
  let now = before;
  for (let i = 0; i < 1e6 && now === before; i++) now = hv.hv_tsc_clock();
  assertNotEquals(now, before);
  assertEquals(now > before && hv.mach_absolute_time!() > mach, true);
  const name = (text: string) => new TextEncoder().encode(`${text}\0`);
  const value = new Uint32Array(1), length = new BigUint64Array([4n]);
  assertEquals(hv.sysctlbyname!(name("kern.hv_support"), value, length, null, 0n), 0);
  assertEquals([value[0], length[0]], [1, 4n]);
  assertEquals(hv.sysctlbyname!(name("no.such"), value, length, null, 0n), -1);
});

Deno.test("a thread that has not attached gets an error", async () => {
  const worker = new Worker(new URL("./stranger_worker.ts", import.meta.url), { type: "module" });
  const { libraryPath } = await import("./rig.ts");
  const answer = new Promise<number>((resolve) => worker.onmessage = (e: MessageEvent<number>) => resolve(e.data));
  worker.postMessage(libraryPath());
  assertEquals(said(await answer), "ERROR");
  worker.terminate();
});
