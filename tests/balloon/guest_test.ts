/** Memory that a guest gives back, seen as what the host's kernel says trike holds. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { guestOrSkip, runGuest, script, Trike, trike, withFolder } from "../boot/guests.ts";

const { guest, ignore } = await guestOrSkip("cloud");
const linux = Deno.build.os === "linux";
if (!linux) console.log("skipped: memory of a guest goes back to the host: that needs Linux");
const MIB = 1 << 20;
const FILL_MIB = 160;
const FILES = ["--allow-read", "--allow-write", "--allow-env"];

/** MiB that are in the host's memory of that mapping which has most of them: guest RAM, without what V8 takes meanwhile. */
function residentMib(pid: number): number {
  const sizes = Deno.readTextFileSync(`/proc/${pid}/smaps`).matchAll(/^Rss: +(\d+) kB$/gm);
  return Math.max(...[...sizes].map(([, kib]) => Number(kib))) / 1024;
}

/** Waits until `done`, for at most 20 s. */
async function until(done: () => boolean): Promise<boolean> {
  for (let i = 0; i < 200 && !done(); i++) await new Promise((resolve) => setTimeout(resolve, 100));
  return done();
}

Deno.test(
  { name: "what a guest frees goes back to the host, and the balloon takes more", ignore: ignore || !linux },
  () =>
    withFolder(async (folder) => {
      const text = `
modprobe virtio_balloon
dd if=/dev/zero of=/tmp/fill bs=1M count=${FILL_MIB} 2>/dev/null
echo filled; read -r line
rm /tmp/fill; echo freed; read -r line
grep MemFree /proc/meminfo; read -r line
grep MemFree /proc/meminfo
`;
      Deno.env.set("XDG_RUNTIME_DIR", folder);
      const args = runGuest(guest, script(text), "--balloon", "0", "--name", "b");
      await using run = new Trike(args, [...FILES, "--allow-ffi", "--allow-net"]);
      await run.talk.until("filled");
      const filled = residentMib(run.pid);
      await run.talk.type("\n");
      await run.talk.until("freed");
      const least = filled - 0.8 * FILL_MIB;
      assert(await until(() => residentMib(run.pid) < least), `${filled} MiB, then ${residentMib(run.pid)}`);

      const balloon = async (...size: string[]) => {
        const { code, stdout, stderr } = await trike(["balloon", "b", ...size], [...FILES, "--allow-net"]);
        assertEquals([code, stderr], [0, ""]);
        return JSON.parse(stdout);
      };
      await run.talk.type("\n");
      const before = Number(/MemFree: +(\d+)/.exec(await run.talk.until("kB"))![1]) / 1024;
      const asked = await balloon("256");
      assertEquals(asked.wantedBytes, 256 * MIB);
      assert(asked.stats.totalBytes > 400 * MIB && asked.stats.totalBytes <= 512 * MIB, JSON.stringify(asked));
      let state = asked;
      for (let i = 0; i < 20 && state.actualBytes < 256 * MIB; i++) state = await balloon();
      assertEquals(state.actualBytes, 256 * MIB);
      assert(state.returnedBytes >= 256 * MIB, JSON.stringify(state));
      await run.talk.type("\n");
      const after = Number(/MemFree: +(\d+)/.exec(await run.talk.until("kB"))![1]) / 1024;
      assert(Math.abs(before - after - 256) < 16, `${before} MiB, then ${after}`);
      const { code } = await run.end();
      assertEquals(code, 0);
      Deno.env.delete("XDG_RUNTIME_DIR");
    }),
);

Deno.test({ name: "without FFI trike says that the host gets nothing back", ignore: ignore || !linux }, async () => {
  const args = runGuest(guest, script("true"), "--balloon", "0").filter((word) => word !== "--quiet");
  const { code, stderr } = await trike(args, FILES);
  assertEquals(code, 0);
  assertMatch(stderr, /--balloon: .* without --allow-ffi trike cannot give it back to the host/);
});
