/** What a kernel without firmware finds in the BIOS area: SMBIOS, and MP tables if it will not have ACPI. */
import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { guestOrSkip, script, Trike, withFolder } from "../boot/guests.ts";

const { guest, ignore } = await guestOrSkip("generic");

/** What `commands` print on the default guest. */
async function run(commands: string, append: string, more: readonly string[] = []): Promise<string> {
  const args = [
    "--kernel",
    guest.kernel,
    "--initrd",
    guest.initrd,
    "--append",
    `${guest.append} ${script(commands)} ${append}`,
  ];
  await using trike = new Trike([
    "run",
    "--quiet",
    "--engine",
    "soft",
    "--timeout",
    "60",
    "--no-reboot",
    ...args,
    ...more,
  ]);
  const { code, stdout, stderr } = await trike.end();
  assertEquals([code, stderr], [0, ""]);
  return stdout;
}

Deno.test({
  name: "Linux with acpi=off: two processors, serial interrupts by the MP tables; SMBIOS by name; a 16550 on PCI",
  ignore,
  fn: () =>
    withFolder(async (folder) => {
      // The fifth port is one on PCI.
      const ports = ["stdio", "none", "none", "none", `file:${folder}/out`].flatMap((where) => ["--serial", where]);
      const said = await run(
        "echo through PCI > /dev/ttyS4; cat /sys/class/dmi/id/sys_vendor; nproc; cat /proc/interrupts; sleep 1; " +
          "echo b > /proc/sysrq-trigger",
        "acpi=off reboot=k quiet 8250.nr_uarts=5",
        ["--cpus", "2", "--memory", "256M", ...ports],
      );
      assertStringIncludes(await Deno.readTextFile(`${folder}/out`), "through PCI");
      assertMatch(said, /^trike$/m);
      assertMatch(said, /^2$/m);
      assertMatch(said, /IO-APIC +4-edge +ttyS0/);
      assertMatch(said, /LOC: +[1-9]\d* +[1-9]\d*/);
    }),
});
