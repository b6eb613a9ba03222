import { assertEquals, assertThrows } from "@std/assert";
import { ConfigError } from "../../src/base/errors.ts";
import { parseCommandLine, type ResumeRequest } from "../../src/cli/parse.ts";
import { netOf } from "../../src/cli/resume.ts";
import { type Key, KeyFilter } from "../../src/host/terminal_keys.ts";
import { trike, withFolder } from "../boot/guests.ts";
import { SMALL, usedPc, write } from "./fixture.ts";

function resume(...args: string[]): ResumeRequest {
  const command = parseCommandLine(["resume", ...args]);
  if (command.kind !== "resume") throw new Error(`${command.kind} instead of resume`);
  return command.request;
}

Deno.test("resume takes a file first, and the options of what this process gives", () => {
  const { file, force, serial, disks, engine, publish, run } = resume(
    "f",
    "--serial",
    "none",
    "--disk",
    "d,readonly",
    "--force",
    "-q",
  );
  assertEquals([file, force, engine, publish, run.quiet], ["f", true, null, null, true]);
  assertEquals(serial, [{ kind: "none" }]);
  assertEquals(disks?.map(({ path, readonly }) => [path, readonly]), [["d", true]]);
  const plain = resume("f");
  assertEquals([plain.serial, plain.disks, plain.force], [null, null, false]);
  for (
    const [args, message] of [
      [["resume"], "needs a file"],
      [["resume", ""], "needs a file"],
      [["resume", "--force"], "needs a file"],
      [["resume", "f", "g"], '"g"'],
      [["resume", "f", "--memory", "1G"], "--memory"],
      [["run", "--force"], "--force"],
      [["run", "--snapshot-on-exit", ""], "--snapshot-on-exit"],
    ] as const
  ) assertThrows(() => parseCommandLine(args), ConfigError, message);
});

Deno.test("resume --net: where the cable leads is new, the card is the one that was saved", () => {
  const was = { kind: "switch", name: "lab", mac: [2, 0, 0, 0, 0, 9], pcap: null, model: "e1000", rom: "r" } as const;
  const { run, publish } = resume("f", "--net", "user,tftp=d,mac=02:00:00:00:00:01");
  const { mac, model, rom, kind } = netOf({ run, publish }, { ...SMALL, net: was })!;
  assertEquals([mac, model, rom, kind], [was.mac, "e1000", "r", "user"]);
});

Deno.test("Ctrl-A s is a key of trike's own", () => {
  const keys: Key[] = [], filter = new KeyFilter((key) => keys.push(key));
  assertEquals(filter.filter(Uint8Array.of(0x61, 1, 0x73, 0x73, 1, 0x53)), Uint8Array.of(0x61, 0x73));
  assertEquals(keys, ["save", "save"]);
});

Deno.test("what cannot be resumed is told in a sentence, with exit status 2", () =>
  withFolder(async (folder) => {
    const file = `${folder}/snapshot`, other = `${folder}/other`, disk = `${folder}/disk.img`;
    await Deno.writeFile(disk, new Uint8Array(4096));
    const disks = [{ path: disk, readonly: false, format: "raw" }] as const;
    write(file, usedPc(), false, { ...SMALL, disks });
    await Deno.writeTextFile(other, "text");
    await Deno.utime(disk, 1, 1);
    for (
      const [args, message] of [
        [[`${folder}/none`], "there is no such file"],
        [[other], "it is not a snapshot"],
        [[file], `"${disk}" was written after the machine was saved; --force resumes all the same`],
        [[file, "--engine", "kvm"], '--engine "kvm": expected soft, which the machine was saved on'],
        [[file, "--serial", "none"], "Found --serial 1 times: expected 2, as the machine was saved"],
        [[file, "--disk", disk, "--disk", other], "Found --disk 2 times: expected 1"],
        [[file, "--force", "--net", "none"], '--net "none": expected a network'],
      ] as const
    ) {
      const { code, stderr } = await trike(["resume", ...args]);
      assertEquals([code, stderr.includes(message), stderr.trim().split("\n").length], [2, true, 1], stderr);
    }
  }));
