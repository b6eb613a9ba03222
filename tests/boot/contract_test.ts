/** What trike promises whoever runs it: exit statuses, signals, statistics, and runs that repeat exactly. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { guestOrSkip, runGuest, script, Trike, trike, withFolder } from "./guests.ts";

const { guest, ignore } = await guestOrSkip("cloud");

interface Stats {
  readonly engine: string;
  readonly end: string;
  readonly wallSeconds: number;
  readonly guestSeconds: number;
  readonly instructions: number;
  readonly exits: Record<string, number>;
  readonly interrupts: Record<string, number>;
  readonly reboots: number;
  readonly firstByteSeconds: number;
  readonly marks: Record<string, number>;
  readonly vcpus: readonly Record<string, number>[];
}

async function readStats(path: string): Promise<Stats> {
  return JSON.parse(await Deno.readTextFile(path));
}

Deno.test(
  { name: "a guest that powers off gives 0, and --stats what it took", ignore },
  () =>
    withFolder(async (folder) => {
      const stats = `${folder}/stats.json`;
      const result = await trike(runGuest(guest, script("exit 7"), "--stats", stats));
      assertEquals([result.code, result.stderr], [0, ""]);
      assertMatch(result.stdout, /^TRIKE-MARK:init\nTRIKE-MARK:exit-7\n(.*reboot: Power down\n)?$/);
      const { marks, exits, interrupts, ...rest } = await readStats(stats);
      assertEquals([rest.engine, rest.end, rest.reboots], ["soft", "poweroff", 0]);
      assertEquals(Object.keys(marks), ["init", "exit-7"]);
      assert(rest.firstByteSeconds > 0 && rest.firstByteSeconds <= marks["init"]!, JSON.stringify(rest));
      assert(marks["init"]! <= marks["exit-7"]! && marks["exit-7"]! <= rest.wallSeconds, JSON.stringify(marks));
      assert(rest.guestSeconds > 0.1 && rest.guestSeconds <= rest.wallSeconds, JSON.stringify(rest));
      // A Linux that boots retires hundreds of millions of instructions, and cannot do a billion a second in software.
      assert(rest.instructions > 1e8 && rest.instructions < rest.wallSeconds * 5e9, `${rest.instructions}`);
      assert(exits["pioWrite"]! > 100 && exits["mmioWrite"]! > 10, JSON.stringify(exits));
      assertEquals([exits["shutdown"], exits["error"]], [0, 0]);
      const vectors = Object.keys(interrupts);
      assert(vectors.length > 1 && vectors.every((v) => /^[0-9a-f]{2}$/.test(v)), JSON.stringify(interrupts));
      assert(Object.values(interrupts).every((n) => n > 0), JSON.stringify(interrupts));
    }),
);

Deno.test(
  { name: "a reset boots the guest again; with --no-reboot it ends with 0", ignore },
  () =>
    withFolder(async (folder) => {
      const stats = `${folder}/stats.json`;
      // The same disk both times: the first boot leaves word there for the second.
      const disk = `${folder}/disk.img`;
      await Deno.writeFile(disk, new Uint8Array(4096));
      const text = "if read word </dev/vda && [ $word = again ]; then echo second; exit; fi\n" +
        "echo first; { echo again; cat /dev/zero; } | dd of=/dev/vda bs=512 count=1 iflag=fullblock conv=fsync\n" +
        "exec reboot -f";
      const result = await trike(runGuest(guest, script(text), "--disk", disk, "--stats", stats));
      assertEquals(result.code, 0, result.stderr);
      const told = result.stdout.split("\n").filter((line) => /^(first|second|TRIKE-MARK:.*)$/.test(line));
      assertEquals(told, ["TRIKE-MARK:init", "first", "TRIKE-MARK:init", "second", "TRIKE-MARK:exit-0"]);
      const { reboots, end } = await readStats(stats);
      assertEquals([reboots, end], [1, "poweroff"]);

      await Deno.writeFile(disk, new Uint8Array(4096));
      const once = await trike(runGuest(guest, script(text), "--disk", disk, "--no-reboot", "--stats", stats));
      assertEquals([once.code, once.stdout.match(/^first$/gm)?.length, /second/.test(once.stdout)], [0, 1, false]);
      assertEquals((await readStats(stats)).end, "reset");
    }),
);

Deno.test({ name: "a panic of the guest's kernel gives 3 and one line", ignore }, async () => {
  const text = "modprobe pvpanic-mmio; echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger";
  const { code, stdout, stderr } = await trike(runGuest(guest, script(text)));
  assertMatch(stdout, /Kernel panic - not syncing: sysrq triggered crash/);
  assertMatch(stderr, /^trike: the guest died: guest panic, vCPU 0 at rip [0-9a-f]{16}[^\n]*\n$/);
  assertEquals(code, 3);
});

Deno.test({ name: "a triple fault gives 3 and one line", ignore }, async () => {
  // The kernel's last way to reboot, when asked for it: no interrupt descriptors, then an interrupt.
  const { code, stderr } = await trike(runGuest(guest, `reboot=t ${script("exec reboot -f")}`, "--no-reboot"));
  assertMatch(stderr, /^trike: the guest died: triple fault on vCPU 0: rip [0-9a-f]{16}[^\n]*\n$/);
  assertEquals(code, 3);
});

Deno.test(
  { name: "SIGTERM presses the power button: the guest at its prompt powers off, with 0", ignore },
  async () => {
    await using run = new Trike(runGuest(guest, ""));
    await run.talk.prompt();
    run.kill("SIGTERM");
    const { code, stdout, stderr } = await run.end();
    assertEquals(stderr, "trike: SIGTERM: pressed the power button; again to stop the machine at once\n");
    assertMatch(stdout, /reboot: Power down/);
    assertEquals(code, 0);
  },
);

Deno.test({ name: "--timeout stops a guest that boots, with 124", ignore }, async () => {
  const args = runGuest(guest, "").map((arg, i, all) => all[i - 1] === "--timeout" ? "1.5" : arg);
  const { code, stderr } = await trike(args);
  assertEquals([code, stderr], [124, "trike: stopped after 1.5 s (--timeout)\n"]);
});

Deno.test(
  { name: "with --icount two runs are the same to the instruction and to the byte, compiled or interpreted", ignore },
  () =>
    withFolder(async (folder) => {
      const text = "cat /proc/interrupts; date; cat /proc/uptime; head -c 16 /dev/urandom | od -tx1";
      const run = async (n: number, engine: string) => {
        const stats = `${folder}/stats${n}.json`, trace = `${folder}/trace${n}`;
        const disk = `${folder}/disk${n}.img`;
        await Deno.writeFile(disk, new Uint8Array(1 << 20).fill(n));
        const append = script(`dd if=/dev/vda of=/dev/null; ${text}`);
        const { code, stdout, stderr } = await trike(
          runGuest(guest, append, "--icount", "--disk", disk, "--stats", stats)
            .map((word) => word === "soft" ? engine : word).concat("--trace", `pio,mmio,irq:${trace}`),
        );
        assertEquals(code, 0, stderr);
        const { instructions, exits, interrupts, guestSeconds, vcpus } = await readStats(stats);
        const seen = { stdout, instructions, exits, interrupts, guestSeconds, trace: await Deno.readTextFile(trace) };
        return { seen, regions: vcpus[0]!.regions ?? 0 };
      };
      const first = await run(1, "soft"), second = await run(2, "soft:tiers=1");
      assert(first.seen.instructions > 1e8);
      assert(first.regions > 10 && second.regions === 0);
      assert(first.seen.trace.length > 100_000 && first.seen.trace === second.seen.trace, "the traces differ");
      assertEquals(second.seen, first.seen);
    }),
);
