/** Sockets between a guest, in which a program in C speaks, and Unix sockets of this host. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { CpioWriter } from "../../src/guest/cpio.ts";
import { guestOrSkip, pattern, runGuest, script, Trike, withFolder } from "../boot/guests.ts";

const { guest, ignore } = await guestOrSkip("cloud");
const BYTES = 1 << 20;
const CLIENTS = 24;

const built = await build();
if (typeof built === "string") console.log(`skipped: vsock in a guest: ${built}`);

/** The program that the guest runs, or why there is none. */
async function build(): Promise<Uint8Array | string> {
  const program = await Deno.makeTempFile({ prefix: "trike-vsock-" });
  const args = ["-O2", "-static", "-o", program, new URL("./echo.c", import.meta.url).pathname];
  try {
    const { success } = await new Deno.Command("gcc", { args, stdout: "null", stderr: "null" }).output();
    return success ? Deno.readFileSync(program) : "gcc cannot link a static program here";
  } catch {
    return "there is no gcc";
  } finally {
    Deno.removeSync(program);
  }
}

/** The guest's initial file system with the program in it. */
async function withProgram(folder: string): Promise<string> {
  const cpio = new CpioWriter();
  cpio.file("bin/vsock-echo", built as Uint8Array, 0o755);
  const initrd = `${folder}/initrd`;
  await Deno.writeFile(initrd, new Blob([Deno.readFileSync(guest.initrd), cpio.finish()]).stream());
  return initrd;
}

/** What a client of the guest's port hears back. */
async function echoed(path: string, port: number, bytes: Uint8Array): Promise<{ line: string; body: Uint8Array }> {
  using conn = await Deno.connect({ transport: "unix", path });
  await conn.write(new TextEncoder().encode(`CONNECT ${port}\n`));
  const sending = (async () => {
    for (let at = 0; at < bytes.length;) at += await conn.write(bytes.subarray(at));
    await conn.closeWrite();
  })();
  const heard = new Uint8Array(bytes.length + 64);
  let end = 0;
  for (let n = await conn.read(heard); n !== null; n = await conn.read(heard.subarray(end))) end += n;
  await sending;
  const line = heard.subarray(0, end).indexOf(10);
  if (line < 0) return { line: "", body: heard.subarray(0, end) };
  return { line: new TextDecoder().decode(heard.subarray(0, line)), body: heard.subarray(line + 1, end) };
}

Deno.test(
  {
    name: "a megabyte goes each way and back, over many connections at once",
    ignore: ignore || typeof built === "string",
  },
  () =>
    withFolder(async (folder) => {
      const path = `${folder}/v.sock`;
      const server = Deno.listen({ transport: "unix", path: `${path}_77` });
      const serving = (async () => {
        const conn = await server.accept();
        await conn.readable.pipeTo(conn.writable);
      })();
      const text = `
modprobe vmw_vsock_virtio_transport
vsock-echo send 77 ${BYTES}
vsock-echo send 78 10
vsock-echo listen 52 ${CLIENTS}
echo over
`;
      const initrd = await withProgram(folder);
      const args = runGuest({ ...guest, initrd }, script(text), "--vsock", `7,${path}`);
      await using run = new Trike(args, ["--allow-read", "--allow-write", "--allow-env", "--allow-net"]);
      const said = await run.talk.until("listening");
      await serving;
      server.close();
      assertMatch(said, new RegExp(`echoed ${BYTES}, 0 wrong`));
      assertMatch(said, /connect: Connection reset by peer/);
      assertEquals(Deno.lstatSync(path).isSocket, true);

      // Nobody listens there, or nobody understands: the client is let go.
      assertEquals((await echoed(path, 53, new Uint8Array(0))).line, "");
      const data = pattern(BYTES);
      const ends = await Promise.all(Array.from({ length: CLIENTS }, () => echoed(path, 52, data)));
      for (const { line, body } of ends) {
        assertMatch(line, /^OK \d+$/);
        assert(body.length === data.length && body.every((b, i) => b === data[i]), `${body.length} bytes`);
      }
      assertEquals(new Set(ends.map(({ line }) => line)).size, CLIENTS);
      const { code, stdout, stderr } = await run.end();
      assertEquals([code, stderr], [0, ""], stdout);
      assertMatch(stdout, /^over$/m);
      assertEquals([...Deno.readDirSync(folder)].some(({ name }) => name === "v.sock"), false);
    }),
);
