/** Shared folders of a machine that is saved: what the guest had open is open again, or is told to be gone. */
import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import { HostError } from "../../src/base/errors.ts";
import { changedShare, type SavedShare } from "../../src/host/share/saved.ts";
import { P9Server } from "../../src/host/share/server.ts";
import { guestOrSkip, runGuest, Trike, trike, withFolder } from "../boot/guests.ts";
import { Client } from "./client.ts";

const ESTALE = 116, EBADF = 9;
const LOPEN = 12, LCREATE = 14, UNLINKAT = 76, READ = 116, WRITE = 118, LOCK = 52, CLUNK = 120, GETATTR = 24;
const O_RDWR = 2, O_RDWR_TRUNC = 0o1002, O_DIRECTORY = 0o200000;
const BLOCKED = 1;
const text = (s: string) => new TextEncoder().encode(s);

function serverOf(path: string): P9Server {
  return new P9Server({ path, readonly: false, owner: { uid: 0, gid: 0 } });
}

/** A server in the next life of the machine, and its client, who does not know. */
function nextLife(before: P9Server, path: string): Client {
  const saved = JSON.parse(JSON.stringify(before.save())) as SavedShare;
  assertEquals(changedShare(saved, path), null);
  before.reset();
  const server = serverOf(path);
  server.restore(saved);
  return new Client(server, false);
}

function contents(client: Client, fid: number): string {
  const reply = client.must(READ, fid, 0n, 4096);
  return new TextDecoder().decode(new Uint8Array(reply.buffer, reply.byteOffset + 4, reply.getUint32(0, true)));
}

function lock(client: Client, fid: number, owner: string, process: number): number {
  return client.must(LOCK, fid, { u8: 1 }, 0, 0n, 0n, process, owner).getUint8(0);
}

Deno.test("fids, open files and folders, and locks go on in a server that takes them up", () =>
  withFolder(async (folder) => {
    await Deno.mkdir(`${folder}/deep/er`, { recursive: true });
    await Deno.writeTextFile(`${folder}/deep/er/file`, "what was there");
    const first = serverOf(folder);
    let c = new Client(first);
    c.walk(1, "deep", "er");
    c.walk(2, "deep", "er", "file");
    c.walk(3, "deep", "er");
    c.must(LOPEN, 2, O_RDWR_TRUNC);
    c.must(WRITE, 2, 0n, 4, text("life"));
    c.must(LCREATE, 3, "new", O_RDWR, 0o600, 0);
    c.walk(4, "deep");
    c.must(LOPEN, 4, O_DIRECTORY);
    assertEquals(lock(c, 2, "guest", 7), 0);
    for (let n = 0; n < 2; n++) {
      c = nextLife(c.server, folder);
      // It was emptied when it was opened, and is not again.
      assertEquals(contents(c, 2), "life");
      assertEquals([lock(c, 2, "guest", 8), lock(c, 2, "guest", 7)], [BLOCKED, 0]);
    }
    c.must(WRITE, 3, 0n, 3, text("two"));
    assertEquals(await Deno.readTextFile(`${folder}/deep/er/new`), "two");
    assertEquals(c.names(4, 4096).sort(), [".", "..", "er"]);
    assertEquals(c.walk(5), { qids: 0 }, "the root, by its fid");
    c.must(UNLINKAT, 1, "new", 0);
    assertEquals([...Deno.readDirSync(`${folder}/deep/er`)].map(({ name }) => name), ["file"]);
    for (const fid of [1, 2, 3, 4, 5]) c.clunk(fid);
    assertEquals(c.server.save().fids.map(({ id }) => id), [0]);
    c.server.reset();
  }));

Deno.test("what was open and is gone is told of; to who goes on all the same its fids are stale, and can be let go", () =>
  withFolder(async (folder) => {
    const path = `${folder}/share`;
    await Deno.mkdir(path);
    for (const name of ["kept", "gone", "other"]) await Deno.writeTextFile(`${path}/${name}`, name);
    const first = serverOf(path), c = new Client(first);
    for (const [i, name] of ["kept", "gone", "other"].entries()) {
      c.walk(i + 1, name);
      c.must(LOPEN, i + 1, O_RDWR);
    }
    const saved = first.save();
    first.reset();
    await Deno.remove(`${path}/gone`);
    assertEquals(changedShare(saved, path), `"gone" in the shared folder "${path}" was open, and is gone`);
    await Deno.writeTextFile(`${path}/gone`, "is back");
    await Deno.rename(`${path}/other`, `${path}/older`);
    await Deno.symlink(`${path}/older`, `${path}/other`);
    assertMatch(changedShare(saved, path)!, /"(gone|other)" .* is another file now$/);
    const second = serverOf(path);
    second.restore(saved);
    const after = new Client(second, false);
    assertEquals(contents(after, 1), "kept");
    for (const type of [READ, WRITE]) assertEquals(after.ask(type, 3, 0n, 4, text("evil")), ESTALE);
    assertEquals(after.ask(GETATTR, 3, 0x7ffn), ESTALE);
    after.clunk(3);
    assertEquals(after.ask(CLUNK, 3), EBADF);
    assertEquals(await Deno.readTextFile(`${path}/older`), "other");
    second.reset();
    await Deno.rename(path, `${folder}/moved`);
    assertEquals(changedShare(saved, path), `the shared folder "${path}" is not there`);
    await Deno.mkdir(path);
    assertEquals(changedShare(saved, path), `"${path}" is another folder than the one that was shared`);
  }));

Deno.test("a file that is open and has no name any more cannot be saved, and a sentence says which", () =>
  withFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/temporary`, "");
    const server = serverOf(folder), c = new Client(server);
    c.walk(1, "temporary");
    c.must(LOPEN, 1, O_RDWR);
    c.must(UNLINKAT, 0, "temporary", 0);
    assertThrows(
      () => server.save(),
      HostError,
      '"temporary" of a --share folder is open in the guest and was removed',
    );
    c.clunk(1);
    assertEquals(server.save().fids.length, 1);
    server.reset();
  }));

const { guest, ignore } = await guestOrSkip("generic");

Deno.test({
  name: "a guest with a shared folder is saved; resumed, its open file, its folder and its mount go on",
  ignore,
}, () =>
  withFolder(async (folder) => {
    const share = `${folder}/share`, file = `${folder}/s`;
    await Deno.mkdir(`${share}/notes`, { recursive: true });
    {
      await using run = new Trike(runGuest(guest, "", "--share", share, "--snapshot-on-exit", file));
      await run.talk.prompt();
      await run.talk.run(
        "modprobe -a -q 9pnet_virtio 9p; mkdir /m; mount -t 9p -o trans=virtio,version=9p2000.L share0 /m",
      );
      await run.talk.run("exec 3>/m/notes/log; echo before >&3");
      assertEquals(await run.talk.run("cat /m/notes/log"), "before\n");
      run.kill("SIGQUIT");
      const { stderr } = await run.end();
      assert(stderr.includes(`go on with: trike resume ${file}`), stderr);
    }
    {
      await using run = new Trike(["resume", file, "--quiet", "--timeout", "90"]);
      await run.talk.type("\r");
      await run.talk.prompt();
      await run.talk.run("echo after >&3; mkdir /m/notes/more; echo new >/m/notes/more/file");
      assertEquals(await run.talk.run("cat /m/notes/log; ls -1 /m/notes"), "before\nafter\nlog\nmore\n");
      run.kill("SIGQUIT");
      await run.end();
    }
    assertEquals(await Deno.readTextFile(`${share}/notes/log`), "before\nafter\n");
    assertEquals(await Deno.readTextFile(`${share}/notes/more/file`), "new\n");
    await Deno.remove(`${share}/notes`, { recursive: true });
    const refused = await trike(["resume", file, "--quiet", "--timeout", "5"]);
    assertEquals([refused.code, refused.stderr], [
      2,
      `trike: Cannot resume "${file}": "notes/log" in the shared folder "${share}" was open, and is gone; --force resumes all the same\n`,
    ]);
  }));
