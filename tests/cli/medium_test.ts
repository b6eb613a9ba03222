/** A real guest's CD-ROM drive and cable, changed from outside while it runs. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { guestOrSkip } from "../boot/guests.ts";
import { Talk } from "../boot/talk.ts";
import { which } from "../guest/which.ts";
import { start, TRIKE, trike, withFiles } from "./trike.ts";

const { guest, ignore } = await guestOrSkip("generic");
const xorriso = which("xorriso");
if (xorriso === null) console.log("skipped: discs in a guest's drive: the package xorriso is not installed");
const allow = ["--allow-read", "--allow-write", "--allow-net", "--allow-env", "--v8-flags=--no-wasm-bounds-checks"];

/** A disc of ISO 9660 with one file. */
async function makeDisc(dir: string, name: string): Promise<string> {
  await Deno.mkdir(`${dir}/${name}`);
  await Deno.writeTextFile(`${dir}/${name}/which`, `the disc ${name}\n`);
  const args = ["-as", "mkisofs", "-quiet", "-V", name.toUpperCase(), "-o", `${dir}/${name}.iso`, `${dir}/${name}`];
  const { code, stderr } = await new Deno.Command(xorriso!, { args, stderr: "piped" }).output();
  assertEquals(code, 0, new TextDecoder().decode(stderr));
  return `${dir}/${name}.iso`;
}

Deno.test({
  name: "a guest mounts one disc, then another: a locked tray is respected or forced; its cable is pulled and put back",
  ignore: ignore || xorriso === null,
}, () =>
  withFiles(async ({ dir }) => {
    const [one, two] = await Promise.all([makeDisc(dir, "one"), makeDisc(dir, "two")]);
    const how = { allow, env: { XDG_RUNTIME_DIR: dir }, program: TRIKE };
    const command = (...args: string[]) => trike(args, how);
    const { kernel, initrd, append } = guest;
    const own = ["--kernel", kernel, "--initrd", initrd, "--append", append, "--memory", "192M", "--timeout", "240"];
    const drives = ["--disk", `${one},controller=cdrom`, "--disk", ",controller=cdrom"];
    const machine = start(
      ["run", "-q", "--engine", "soft", "--name", "discs", "--net", "user", ...drives, ...own],
      how,
    );
    const input = machine.stdin.getWriter(), output = machine.stdout.getReader();
    const talk = new Talk({
      read: async () => (await output.read()).value ?? null,
      write: (bytes) => input.write(bytes),
    });
    const stderr = new Response(machine.stderr).text();
    try {
      await talk.prompt(150);
      assertEquals((await command("medium", "discs")).stdout, `cd0  "${one}"\ncd1  empty\n`);
      await talk.run("modprobe sr_mod; for n in $(seq 99); do [ -b /dev/sr1 ] && break; sleep 0.1; done");
      const mount = (drive: string) => talk.run(`mount -o ro /dev/${drive} /mnt && cat /mnt/which`);
      await talk.run("mkdir -p /mnt");
      assertEquals(await mount("sr0"), "the disc one\n");

      // A mounted disc: the kernel has locked the tray.
      assertEquals((await command("medium", "discs")).stdout, `cd0  "${one}", locked by the guest\ncd1  empty\n`);
      const locked = await command("medium", "discs", "cd0", two);
      assertEquals(locked.code, 1);
      assertStringIncludes(locked.stderr, "The guest has locked the tray of cd0");
      assertEquals(await talk.run("cat /mnt/which"), "the disc one\n");

      await talk.run("umount /mnt");
      const changed = await command("medium", "discs", "cd0", two);
      assertEquals([changed.code, changed.stdout, changed.stderr], [0, "", ""]);
      assertEquals(await mount("sr0"), "the disc two\n");

      // By force: what is read from now on is another disc's, or an error, and the next mount finds it.
      assertEquals((await command("medium", "discs", "cd0", "--eject", "--force")).code, 0);
      assertMatch(await talk.run("umount /mnt; mount -o ro /dev/sr0 /mnt || echo no disc"), /no disc\n$/);
      assertEquals((await command("medium", "discs", "cd1", one)).code, 0);
      assertEquals(await mount("sr1"), "the disc one\n");
      await talk.run("umount /mnt");
      assertEquals((await command("medium", "discs", "cd1", two)).code, 0);

      // Mistakes change nothing.
      const which = await command("medium", "discs", two);
      assertEquals([which.code, which.stderr], [
        2,
        `trike: trike medium "discs": expected cd0 or cd1 before the file\n`,
      ]);
      const none = await command("medium", "discs", "cd1", `${dir}/none.iso`);
      assertEquals(none.code, 1);
      assertStringIncludes(none.stderr, `disc ${dir}/none.iso`);

      // The cable.
      const carrier = "cat /sys/class/net/eth0/carrier";
      assertEquals([await talk.run(carrier), (await command("link", "discs")).stdout], ["1\n", "up\n"]);
      assertEquals((await command("link", "discs", "down")).code, 0);
      assertEquals([await talk.run(carrier), (await command("link", "discs")).stdout], ["0\n", "down\n"]);
      const unreachable = await talk.run("wget -q -T 2 -O - http://10.0.2.2:9/ || echo not reached");
      assert(unreachable.includes("not reached"), unreachable);

      assertEquals((await command("link", "discs", "up")).code, 0);
      assertEquals(await talk.run(carrier), "1\n");

      assertEquals((await command("kill", "discs")).code, 0);
      await talk.toEnd();
      assertEquals((await machine.status).code, 137);
      assertStringIncludes(await stderr, "killed");
    } catch (error) {
      machine.kill("SIGKILL");
      throw error;
    } finally {
      await input.close().catch(() => {});
    }
  }));
