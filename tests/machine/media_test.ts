/** Discs that are changed while a machine runs, on the machine's own side: what lasts through a reset, and what is refused. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { ConfigError } from "../../src/base/errors.ts";
import { ImageLock } from "../../src/host/block_lock.ts";
import { type Machine, startMachine } from "../../src/machine/machine.ts";
import type { DiskSpec } from "../../src/machine/spec.ts";

const DISC_SECTOR = 2048;
const ENTRY = {
  ...{ rip: 0x100000, rflags: 2, cr0: 1, cr3: 0, cr4: 0, efer: 0, gpr: {}, segments: {} },
  ...{ gdtr: { base: 0, limit: 0 }, idtr: { base: 0, limit: 0 } },
};

/** The scripted guest that prints "ready " each time it comes up, and resets at "!". */
async function machineWith(disks: readonly DiskSpec[], icount = false): Promise<Machine> {
  return await startMachine({
    ...{ engine: "soft", memoryBytes: 16 << 20, cpus: 1, kernel: "none", initrd: null, append: "echo" },
    ...{ disks, serial: [{ kind: "none" }], noReboot: false, icount, trace: null },
  }, { vcpuWorker: new URL("./scripted_worker.ts", import.meta.url), boot: () => ENTRY });
}

async function ready(machine: Machine): Promise<void> {
  const { tx } = machine.serial[0]!;
  for (let out = ""; !out.includes("ready ");) {
    out += new TextDecoder().decode(tx.read());
    await tx.whenReadable(10);
  }
}

function type(machine: Machine, text: string): void {
  machine.serial[0]!.rx.write(new TextEncoder().encode(text));
  machine.serial[0]!.notifyInput();
}

async function withDiscs(body: (path: (name: string) => string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  const path = (name: string) => `${folder}/${name}.iso`;
  try {
    for (const [i, name] of ["one", "two"].entries()) {
      await Deno.writeFile(path(name), new Uint8Array((i + 3) * DISC_SECTOR));
    }
    await body(path);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

const drive = (path: string): DiskSpec => ({ path, readonly: true, format: "raw", controller: "cdrom" });
/** Whether somebody could write to the file. */
function free(path: string): boolean {
  try {
    ImageLock.take({ path, readonly: false })?.release();
    return true;
  } catch {
    return false;
  }
}

Deno.test("a disc that is put in, and a drive that is emptied, stay so through the guest's reset", () =>
  withDiscs(async (path) => {
    const machine = await machineWith([drive(path("one")), drive("")]);
    try {
      await ready(machine);
      const sectors = () => [0, 1].map((disk) => machine.pc.driveOf(disk)!.sectors);
      assertEquals([sectors(), free(path("one")), free(path("two"))], [[3, 0], false, true]);
      await machine.media.change("cd1", path("two"), false);
      await machine.media.change("cd0", null, false);
      assertEquals([sectors(), free(path("one")), free(path("two"))], [[0, 4], true, false]);
      type(machine, "!");
      await ready(machine);
      assertEquals(sectors(), [0, 4]);
      const empty = { locked: false, open: false };
      assertEquals(machine.media.list(), [
        { name: "cd0", path: null, ...empty },
        { name: "cd1", path: path("two"), ...empty },
      ]);
    } finally {
      machine.stop();
      await machine.ended;
    }
    assert(free(path("two")), "the machine's end lets go of it");
  }));

Deno.test("what is no drive, no disc, or a file that somebody writes to is refused, and the disc stays", () =>
  withDiscs(async (path) => {
    const machine = await machineWith([drive(path("one"))]);
    try {
      await assertRejects(
        () => machine.media.change("cd1", path("two"), false),
        ConfigError,
        `drive "cd1": expected cd0`,
      );
      await assertRejects(() => machine.media.change("cd0", path("three"), false), ConfigError, "three.iso");
      const writer = ImageLock.take({ path: path("two"), readonly: false });
      await assertRejects(
        () => machine.media.change("cd0", path("two"), false),
        ConfigError,
        "another machine uses it",
      );
      writer?.release();
      assertEquals([machine.media.list()[0]!.path, machine.pc.driveOf(0)!.sectors], [path("one"), 3]);
      // Many at once come one after the other.
      await Promise.all(["two", "one", "two"].map((name) => machine.media.change("cd0", path(name), false)));
      assertEquals([machine.media.list()[0]!.path, machine.pc.driveOf(0)!.sectors], [path("two"), 4]);
    } finally {
      machine.stop();
      await machine.ended;
    }
    await assertRejects(() => machine.media.change("cd0", path("one"), false));
  }));
