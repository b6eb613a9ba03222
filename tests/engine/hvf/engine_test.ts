/** What the engine hvf owes beside the laws of all engines, on the double of the framework. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { HostError } from "../../../src/base/errors.ts";
import { hvfEngine, type HvfVcpu } from "../../../src/engine/hvf/hvf.ts";
import { probeHvf } from "../../../src/engine/hvf/probe.ts";
import { ENDLESS, MMIO } from "../law_programs.ts";
import { CODE, code, DATA, Rig } from "../law_rig.ts";
import { doubledEngine, refusal } from "./double.ts";

function test(name: string, body: () => void | Promise<void>): void {
  Deno.test(`hvf: ${name}`, () => refusal === null ? body() : console.log(`skipped: ${refusal}`));
}

test("the host is asked before a machine is made, and has nothing to give back after it", () => {
  assertEquals(probeHvf(), null);
  assertEquals(probeHvf(), null);
  using rig = new Rig(doubledEngine);
  assert(/^hv_vm_create failed: HV_BUSY, /.test(probeHvf()!), "one virtual machine a process");
  assertThrows(() => new Rig(doubledEngine), HostError, "hv_vm_create failed: HV_BUSY");
  rig.long(ENDLESS);
  assertEquals(rig.run(1), "slice", "the one there was still runs");
});

test("instructions cannot be counted", () => {
  const parts = { icount: { setNs() {} } } as unknown as Parameters<typeof hvfEngine.openVcpu>[0];
  assertThrows(() => hvfEngine.openVcpu(parts), HostError, "cannot count instructions");
});

test("a page that only the software CPU wrote to is in the log of written pages", () => {
  using rig = new Rig(doubledEngine);
  const log = doubledEngine.dirtyLog!(rig), pages = new Uint8Array(512);
  const bit = (page: number) => (pages[page >> 3]! >> (page & 7)) & 1;
  rig.board.inputs.push(0x5a);
  rig.long(code(
    "bf00000400", // mov edi, 0x40000
    "baf0010000", // mov edx, 0x1f0
    "6c", // insb
    "f4", // hlt
  ));
  log.start();
  rig.toHalt();
  log.take(pages);
  log.stop();
  assertEquals([rig.ram.read(0x40000, 1), bit(0x40), bit(0x41), bit(DATA >> 12)], [0x5a, 1, 0, 0]);
});

test("instructions whose memory is the board's cost one exit each", () => {
  using rig = new Rig(doubledEngine);
  rig.long(MMIO);
  rig.toHalt();
  const { mmio, steps, direct, doubtful } = (rig.vcpu as HvfVcpu).stats();
  assert(
    mmio! >= 12 && mmio! <= 12 + doubtful! && steps! + direct! === mmio,
    JSON.stringify({ mmio, steps, direct, doubtful }),
  );
});

test("a single step over an instruction that exits traps behind it, with DR6.BS", () => {
  using rig = new Rig(doubledEngine);
  const trap = code(
    "0f21f0", // mov rax, dr6
    "4889042508000200", // mov [0x20008], rax
    "488b0424", // mov rax, [rsp]
    "4889042500000200", // mov [0x20000], rax
    "f4", // hlt
  );
  rig.long(
    code(
      "9c", // pushfq
      "810c2400010000", // or dword [rsp], 0x100
      "9d", // popfq
      "0fa2", // cpuid
      "90", // nop
      "f4", // hlt
    ),
    { 1: trap },
  );
  rig.toHalt();
  const [rip, status] = rig.data(2);
  assertEquals([Number(rip), Number(status! & 0x4000n)], [CODE + 11, 0x4000]);
});
