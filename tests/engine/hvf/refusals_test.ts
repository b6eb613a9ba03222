/** What the host's refusals say, and to whom they leave what to do. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { hv_return_t } from "../../../ffi/hypervisor_x86_64.ts";
import { HostError } from "../../../src/base/errors.ts";
import { openHypervisor, refusal, returnName } from "../../../src/engine/hvf/library.ts";

Deno.test("every return code has its name, and a number that has none is told as it is", () => {
  for (const [name, code] of Object.entries(hv_return_t)) assertEquals(returnName(code), name);
  assertEquals(returnName(0xfae94123), "0xfae94123");
});

Deno.test("a refusal names the call and the code, and what to do where something can be done", () => {
  const said = (code: keyof typeof hv_return_t) => refusal("hv_vm_create", hv_return_t[code]).message;
  for (const code of Object.keys(hv_return_t)) {
    assert(said(code as keyof typeof hv_return_t).startsWith(`hv_vm_create failed: ${code}`));
  }
  assert(/codesign .*--entitlements.*com\.apple\.security\.hypervisor/.test(said("HV_DENIED")));
  assert(/Rosetta/.test(said("HV_UNSUPPORTED")));
  assert(/already/.test(said("HV_BUSY")));
  assert(/VT-x/.test(said("HV_NO_DEVICE")));
});

Deno.test("a library that is not there is the host's refusal, by its name", () => {
  assertThrows(() => openHypervisor("/nowhere/libhv.so"), HostError, "Cannot open /nowhere/libhv.so: ");
  if (Deno.build.os === "darwin") return console.log("skipped: Hypervisor.framework may be there");
  assertThrows(() => openHypervisor(), HostError, "Cannot open Hypervisor.framework: ");
});
