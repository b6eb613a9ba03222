/** A real guest with a name, reached only through its socket; and one in xhyve's words. */
import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { guestOrSkip, script } from "../boot/guests.ts";
import { Talk } from "../boot/talk.ts";
import { decode, eventually, start, TRIKE, trike, withFiles } from "./trike.ts";

const { guest, ignore } = await guestOrSkip("cloud");
const allow = ["--allow-read", "--allow-write", "--allow-net", "--allow-env", "--v8-flags=--no-wasm-bounds-checks"];

Deno.test({
  name: "a guest with a name: a shell on its console, a port published while it runs, an end by its button",
  ignore,
}, () =>
  withFiles(async ({ dir }) => {
    const how = { allow, env: { XDG_RUNTIME_DIR: dir }, program: TRIKE };
    const { kernel, initrd, append } = guest;
    const own = ["--kernel", kernel, "--initrd", initrd, "--append", append, "--memory", "128M", "--timeout", "90"];
    const machine = start(["run", "-q", "--engine", "soft", "--name", "shell", "--serial", "none", ...own], how);
    try {
      const path = `${dir}/trike/shell.sock`;
      await eventually(async () => (await Deno.connect({ transport: "unix", path })).close());
      const console = start(["console", "shell"], how);
      const input = console.stdin.getWriter(), output = console.stdout.getReader();
      const talk = new Talk({
        read: async () => (await output.read()).value ?? null,
        write: (bytes) => input.write(bytes),
      });
      await talk.prompt();
      assertEquals(await talk.run("uname -s"), "Linux\n");
      await talk.run("(while true; do echo from the guest | nc -l -p 80; done) &");
      const probe = Deno.listen({ port: 0, hostname: "127.0.0.1" });
      const { port } = probe.addr as Deno.NetAddr;
      probe.close();
      assertEquals((await trike(["publish", "shell", `${port}:80`], how)).stderr, "");
      const client = await Deno.connect({ port, hostname: "127.0.0.1" });
      assertEquals((await new Response(client.readable).text()).trim(), "from the guest");
      assertEquals((await trike(["publish", "shell"], how)).stdout, `127.0.0.1:${port}:80\n`);
      assertEquals((await trike(["publish", "shell", `${port}:80`, "--remove"], how)).code, 0);
      await assertRejects(() => Deno.connect({ port, hostname: "127.0.0.1" }), Deno.errors.ConnectionRefused);
      const stop = await trike(["stop", "shell"], how);
      assertEquals([stop.code, stop.stdout], [0, "shell: powered off\n"]);
      assertEquals([(await console.status).code, (await machine.status).code], [0, 0]);
      await talk.toEnd();
      await Promise.all([input.close().catch(() => {}), console.stderr.cancel(), machine.stdin.close()]);
      await Promise.all([machine.stdout.cancel(), machine.stderr.cancel()]);
    } catch (error) {
      machine.kill("SIGKILL");
      throw error;
    }
  }));

Deno.test(
  { name: "a guest in xhyve's words: its disk, its network, its UUID and its command line are there", ignore },
  () =>
    withFiles(async ({ dir }) => {
      await Deno.writeTextFile(`${dir}/hdd.img`, "on the disk".padEnd(1 << 20, "\0"));
      const uuid = "123e4567-e89b-12d3-a456-426614174000";
      const text = `cat /sys/class/dmi/id/product_uuid; head -c 11 /dev/vda; echo; cat /sys/class/net/eth0/address`;
      // deno-fmt-ignore
      const words = ["-A", "-c", "1", "-m", "128", "-s", "0:0,hostbridge", "-s", "31,lpc", "-l", "com1,stdio", "-U", uuid,
      "-s", "2:0,virtio-net,mac=02:00:00:12:34:56", "-s", `4,virtio-blk,${dir}/hdd.img,ro`,
      "-f", `kexec,${guest.kernel},${guest.initrd},${guest.append} ${script(text)}`];
      const child = start(["xhyve", ...words], { allow, program: TRIKE });
      await child.stdin.close();
      const { code, stdout } = decode(await child.output());
      assertEquals(code, 0);
      assertStringIncludes(stdout.replaceAll("\r", ""), `${uuid}\non the disk\n02:00:00:12:34:56\n`);
    }),
);
