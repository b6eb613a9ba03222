/**
 * The guests themselves, on QEMU as an independent machine. They come from the cache or from Debian: without QEMU, apt-get or
 * the network the tests are skipped, and say so.
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { debianGuest, type Guest, type GuestKind } from "../../src/guest/default_guest.ts";
import { EXT4_ROOT_APPEND, ext4Root } from "../../src/guest/ext4_root.ts";
import { whyNoGuest } from "./available.ts";
import { Qemu } from "./qemu.ts";
import { which } from "./which.ts";

/** Why a test of this guest is skipped, as its option; said once. */
async function skips(kind: GuestKind): Promise<{ ignore: boolean }> {
  const why = which("qemu-system-x86_64") === null ? "there is no qemu-system-x86_64 here" : await whyNoGuest(kind);
  if (why !== null) console.log(`skipped: boots of the ${kind} guest in QEMU: ${why}`);
  return { ignore: why !== null };
}
const { ignore } = await skips("cloud");
const generic = await skips("generic");

const SECONDS = 90;

function guest(kind: GuestKind): Promise<Guest> {
  return debianGuest(kind, () => {});
}

function script(text: string): string {
  return `trike.marks trike.exec=${btoa(text)}`;
}

/** The lines of the script's output. */
async function runScript(machine: Guest, append: string, text: string, disk?: string): Promise<string> {
  await using qemu = new Qemu({
    ...machine,
    append: `${machine.append} ${append} ${script(text)}`,
    seconds: SECONDS,
    ...(disk ? { disk } : {}),
  });
  await qemu.expect("TRIKE-MARK:init");
  const output = await qemu.expect("TRIKE-MARK:exit-0");
  assertEquals(await qemu.end(), 0);
  return output.replaceAll("\r", "");
}

async function withDisk(bytes: Uint8Array | string, body: (path: string) => Promise<void>): Promise<void> {
  const path = await Deno.makeTempFile({ suffix: ".img" });
  try {
    if (typeof bytes === "string") await Deno.copyFile(bytes, path);
    else await Deno.writeFile(path, bytes);
    await body(path);
  } finally {
    await Deno.remove(path);
  }
}

Deno.test({ name: "the default guest gives a shell with job control and powers off", ignore }, async () => {
  const machine = await guest("cloud");
  const started = performance.now();
  await using qemu = new Qemu({ ...machine, append: `${machine.append} trike.marks`, seconds: SECONDS });
  await qemu.expect("TRIKE-MARK:init");
  await qemu.expect("TRIKE-MARK:prompt");
  await qemu.expect("~ # ");

  await qemu.type("tty\r");
  await qemu.expect("/dev/ttyS0\r\n");
  await qemu.expect("~ # ");

  // Ctrl-C ends what runs in the foreground, not the shell
  await qemu.type("sleep 1000; echo slept\r");
  await qemu.expect("echo slept");
  await new Promise((resolve) => setTimeout(resolve, 500));
  await qemu.type("\x03");
  await qemu.expect("~ # ");
  await qemu.type("echo status $?\r");
  await qemu.expect("status 130\r\n");
  await qemu.expect("~ # ");

  await qemu.type("sleep 1000 &\r");
  await qemu.expect("~ # ");
  await qemu.type("jobs\r");
  await qemu.expect("Running");
  await qemu.expect("~ # ");

  // a shell that ends is followed by another
  await qemu.type("echo $$; exit\r");
  await qemu.expect("exit");
  await qemu.expect("~ # ");

  await qemu.type("poweroff\r");
  assertEquals(await qemu.end(), 0);
  assert(performance.now() - started < SECONDS * 1000, "QEMU was killed, the guest did not power off");
});

Deno.test({ name: "the default guest ends at the power button", ignore }, async () => {
  const machine = await guest("cloud");
  await using qemu = new Qemu({ ...machine, seconds: SECONDS });
  await qemu.expect("~ # ");
  await qemu.monitor("system_powerdown");
  assertEquals(await qemu.end(), 0);
});

Deno.test({ name: "the default guest reboots, and stops by init's own way down", ignore }, async () => {
  const machine = await guest("cloud");
  for (const command of ["reboot", "sh -c poweroff", "/sbin/poweroff"]) {
    await using qemu = new Qemu({ ...machine, seconds: SECONDS });
    await qemu.expect("~ # ");
    await qemu.type(`${command}\r`);
    assertEquals(await qemu.end(), 0, command); // QEMU is told to end when the guest reboots
  }
});

Deno.test(
  { name: "the default guest finds a virtio disk, and what it writes there is on it after poweroff", ignore },
  async () => {
    await withDisk(new Uint8Array(8 << 20), async (disk) => {
      const output = await runScript(
        await guest("cloud"),
        "",
        "cat /sys/block/vda/size; mke2fs -q /dev/vda && mount /dev/vda /mnt && mount | grep vda; echo kept >/mnt/file",
        disk,
      );
      assertStringIncludes(output, "16384\n");
      assertStringIncludes(output, "/dev/vda on /mnt type ext"); // found without being told the type
      const bytes = new TextDecoder("latin1").decode(await Deno.readFile(disk));
      assertStringIncludes(bytes, "kept\n");
    });
  },
);

Deno.test({ name: "a script that fails says so and powers off", ignore }, async () => {
  const machine = await guest("cloud");
  await using qemu = new Qemu({ ...machine, append: `${machine.append} ${script("exit 7")}`, seconds: SECONDS });
  await qemu.expect("TRIKE-MARK:exit-7");
  assertEquals(await qemu.end(), 0);
});

Deno.test(
  { name: "the generic kernel goes on from its ext4 root on /dev/vda, with modules for both", ...generic },
  async () => {
    const machine = await guest("generic");
    await withDisk(await ext4Root(() => {}), async (disk) => {
      const output = await runScript(
        machine,
        EXT4_ROOT_APPEND,
        "grep ' / ' /proc/mounts; cut -d' ' -f1 /proc/modules; echo kept >/root/file; ls -l /sbin/mount",
        disk,
      );
      assertStringIncludes(output, "/dev/vda / ext4 rw");
      for (const module of ["virtio_blk", "ext4", "crc32c_intel"]) assertStringIncludes(output, `${module}\n`);
      const bytes = new TextDecoder("latin1").decode(await Deno.readFile(disk));
      assertStringIncludes(bytes, "kept\n");
    });
  },
);

Deno.test({ name: "a root that is not there leaves the initial file system", ignore }, async () => {
  const output = await runScript(await guest("cloud"), "root=/dev/nowhere", "grep ' / ' /proc/mounts");
  assertStringIncludes(output, "init: there is no device /dev/nowhere\n");
  assertStringIncludes(output, "rootfs / rootfs");
});

Deno.test({ name: "the second time a guest is only looked up: nothing is run", ignore }, async () => {
  const made = await guest("cloud");
  const output = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-prompt", "--allow-read", "--allow-env", new URL("./lookup.ts", import.meta.url).pathname],
  }).output();
  assertEquals(JSON.parse(new TextDecoder().decode(output.stdout)), made);
});
