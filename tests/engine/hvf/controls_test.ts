/** Controls from capability masks: [sdm3 §A.3], bits as tables 25-5 to 25-13 number them. */
import { assertEquals } from "@std/assert";
import { allowedOf, type ControlName, cr0Fixed, fit, planControls } from "../../../src/engine/hvf/controls.ts";

const ANY = { must: 0, may: 0xffff_ffff };
const FREE = { pin: ANY, cpu: ANY, cpu2: ANY, exit: ANY, entry: ANY };
const bits = (...list: number[]) => list.reduce((all, bit) => all | (1 << bit), 0) >>> 0;

Deno.test("a capability's low half must be 1, its high half may be", () => {
  assertEquals(allowedOf(0x0000_007f_0000_0016n), { must: 0x16, may: 0x7f });
  assertEquals(allowedOf(0xfff9_fffe_0401_e172n), { must: 0x0401_e172, may: 0xfff9_fffe });
});

Deno.test("what is asked for is cut to what may be, and what must be is added", () => {
  assertEquals(fit(0x8000_0001, { must: 0x16, may: 0x8000_007e }), 0x8000_0016);
  assertEquals(fit(0, { must: 0x8000_0000, may: 0xffff_ffff }), 0x8000_0000);
});

Deno.test("a host that allows everything gets what the engine needs, and nothing that it does not handle", () => {
  const { controls, missing } = planControls(FREE);
  assertEquals(missing, []);
  // External-interrupt exiting, NMI exiting, virtual NMIs.
  assertEquals(controls.pin, bits(0, 3, 5));
  // TSC offsetting; HLT, MWAIT, RDPMC, CR8-load, CR8-store, I/O and MONITOR exiting; MSR bitmaps; secondary controls.
  assertEquals(controls.cpu, bits(3, 7, 10, 11, 19, 20, 24, 28, 29, 31));
  // APIC accesses, EPT, RDTSCP, VPID, unrestricted guest, INVPCID.
  assertEquals(controls.cpu2, bits(0, 1, 3, 5, 7, 12));
  // Save debug controls, host address-space size, load EFER; load debug controls, load EFER.
  assertEquals([controls.exit, controls.entry], [bits(2, 9, 21), bits(2, 15)]);
});

Deno.test("bits that must be 1 are 1 whatever the engine wishes", () => {
  const must = { must: 0x0401_e172, may: 0xffff_ffff };
  const { controls } = planControls({ ...FREE, cpu: must });
  assertEquals((controls.cpu & must.must) >>> 0, must.must);
});

Deno.test("a control that no guest can be without is named when the host lacks it", () => {
  const without = (name: ControlName, bit: number) =>
    planControls({ ...FREE, [name]: { must: 0, may: ~(1 << bit) >>> 0 } }).missing;
  assertEquals(without("cpu2", 7), ["cpu2.UNRESTRICTED"]);
  assertEquals(without("cpu2", 1), ["cpu2.EPT"]);
  assertEquals(without("pin", 5), ["pin.VIRTUAL_NMI"]);
  assertEquals(without("cpu", 31), ["cpu.SECONDARY_CTLS"]);
  assertEquals(without("entry", 15), ["entry.LOAD_EFER"]);
  assertEquals(without("cpu2", 12), [], "INVPCID is only a wish");
});

Deno.test("an unrestricted guest needs neither protection nor paging in CR0", () => {
  assertEquals(cr0Fixed(0x8000_0021, 0xffff_ffff), { ones: 0x20, maybe: 0xffff_ffff });
});
