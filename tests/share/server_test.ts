/** Shared folders without a guest: what stays inside, what is refused, and what a hostile guest sends. */
import { assert, assertEquals } from "@std/assert";
import { P9Server } from "../../src/host/share/server.ts";
import { Client, fields, message } from "./client.ts";

const EPERM = 1, ENOENT = 2, EBADF = 9, EINVAL = 22, EROFS = 30, ELOOP = 40, ENOTDIR = 20, EOPNOTSUPP = 95;
const LOPEN = 12, LCREATE = 14, SYMLINK = 16, RENAMEAT = 74, UNLINKAT = 76, MKDIR = 72, READ = 116, WRITE = 118;
const GETATTR = 24, SETATTR = 26, LOCK = 52, XATTRWALK = 30, MKNOD = 18, LINK = 70, FSYNC = 50;
const O_RDWR = 2;

interface Setup {
  readonly root: string;
  readonly outside: string;
  readonly client: Client;
}

function withShare(
  options: { readonly?: boolean; owner?: "host" | { uid: number; gid: number } },
  body: (s: Setup) => void,
) {
  const folder = Deno.makeTempDirSync({ prefix: "trike-share-" });
  const root = `${folder}/root`, outside = `${folder}/outside`;
  Deno.mkdirSync(root);
  Deno.mkdirSync(outside);
  Deno.writeTextFileSync(`${outside}/secret`, "secret");
  const { readonly = false, owner = { uid: 0, gid: 0 } } = options;
  const server = new P9Server({ path: root, readonly, owner });
  try {
    body({ root, outside, client: new Client(server) });
  } finally {
    server.reset();
    Deno.removeSync(folder, { recursive: true });
  }
}

Deno.test("a name that is no name of a file in a folder goes nowhere", () =>
  withShare({}, ({ client: c }) => {
    assertEquals(c.walk(1, "..", ".."), { qids: 2 }); // the root's parent is the root
    c.clunk(1);
    for (const name of ["../outside", "a/b", "", "x\0y"]) assertEquals(c.walk(1, name), EINVAL, name);
    assertEquals(c.walk(1, "../outside/secret"), EINVAL);
    assertEquals(c.ask(MKDIR, 0, "..", 0o755, 0), EINVAL);
    assertEquals(c.ask(SYMLINK, 0, ".", "t", 0), EINVAL);
  }));

Deno.test("symbolic links are text: neither walked through nor opened", () =>
  withShare({}, ({ client: c, root, outside }) => {
    Deno.symlinkSync(outside, `${root}/folder`);
    Deno.symlinkSync(`${outside}/secret`, `${root}/file`);
    assertEquals(c.walk(1, "folder", "secret"), { qids: 1 });
    assertEquals(c.walk(1, "file"), { qids: 1 });
    assertEquals(c.ask(LOPEN, 1, 0), ELOOP);
    assertEquals(c.ask(LCREATE, 0, "file", O_RDWR | 0o1000, 0o644, 0), ELOOP);
    assertEquals(Deno.readTextFileSync(`${outside}/secret`), "secret");
    // A mode, a size and times through a link would be those of what it leads to.
    assertEquals(c.ask(SETATTR, 1, 1, 0o777, 0, 0, 0n, 0n, 0n, 0n, 0n), EOPNOTSUPP);
    assertEquals(c.ask(SETATTR, 1, 8, 0, 0, 0, 0n, 0n, 0n, 0n, 0n), ELOOP);
    c.must(SETATTR, 1, 0x1b0, 0, 0, 0, 0n, 1n, 0n, 1n, 0n);
    assert(Deno.statSync(`${outside}/secret`).mtime!.getTime() > 1000_000);
    assertEquals(Deno.lstatSync(`${root}/file`).mtime!.getTime(), 1000);
  }));

Deno.test("a folder that becomes a link under an open fid is not followed", () =>
  withShare({}, ({ client: c, root, outside }) => {
    Deno.mkdirSync(`${root}/d`);
    Deno.writeTextFileSync(`${root}/d/secret`, "inside");
    assertEquals(c.walk(1, "d"), { qids: 1 });
    assertEquals(c.walk(2, "d", "secret"), { qids: 2 });
    Deno.renameSync(`${root}/d`, `${root}/e`);
    Deno.symlinkSync(outside, `${root}/d`);
    const ESTALE = 116;
    assertEquals(c.ask(LOPEN, 2, 0), ESTALE);
    assertEquals(c.ask(LCREATE, 1, "new", O_RDWR, 0o644, 0), ESTALE);
    assertEquals(c.ask(MKDIR, 1, "new", 0o755, 0), ESTALE);
    assertEquals(c.ask(UNLINKAT, 1, "secret", 0), ESTALE);
    assertEquals(c.ask(RENAMEAT, 0, "e", 1, "f"), ESTALE);
    assertEquals(c.ask(LINK, 1, 2, "hard"), ESTALE);
    assertEquals([...Deno.readDirSync(outside)].map(({ name }) => name), ["secret"]);
  }));

Deno.test("a renamed folder takes the fids below it along", () =>
  withShare({}, ({ client: c, root }) => {
    c.must(MKDIR, 0, "a", 0o755, 0);
    assertEquals(c.walk(1, "a"), { qids: 1 });
    assertEquals(c.walk(2, "a"), { qids: 1 });
    c.must(LCREATE, 2, "f", O_RDWR, 0o600, 0);
    c.must(WRITE, 2, 0n, 5, new TextEncoder().encode("hello"));
    c.must(RENAMEAT, 0, "a", 0, "b");
    c.must(MKDIR, 1, "under", 0o700, 0);
    c.must(FSYNC, 2, 0);
    assertEquals(Deno.readTextFileSync(`${root}/b/f`), "hello");
    assert(Deno.statSync(`${root}/b/under`).isDirectory);
    // An open file outlives its name.
    c.must(UNLINKAT, 1, "f", 0);
    assertEquals(c.must(GETATTR, 2, 0x7ffn).getBigUint64(49, true), 5n);
    assertEquals(c.must(READ, 2, 0n, 100).getUint32(0, true), 5);
  }));

Deno.test("a folder that is read only refuses every change", () =>
  withShare({ readonly: true }, ({ client: c, root }) => {
    Deno.writeTextFileSync(`${root}/f`, "text");
    assertEquals(c.walk(1, "f"), { qids: 1 });
    assertEquals(c.ask(LOPEN, 1, O_RDWR), EROFS);
    assertEquals(c.ask(LOPEN, 1, 0o1000), EROFS);
    c.must(LOPEN, 1, 0);
    const refused = [
      c.ask(WRITE, 1, 0n, 1, Uint8Array.of(1)),
      c.ask(MKDIR, 0, "d", 0o755, 0),
      c.ask(SYMLINK, 0, "s", "t", 0),
      c.ask(UNLINKAT, 0, "f", 0),
      c.ask(RENAMEAT, 0, "f", 0, "g"),
      c.ask(SETATTR, 1, 1, 0o777, 0, 0, 0n, 0n, 0n, 0n, 0n),
      c.ask(SETATTR, 1, 8, 0, 0, 0, 0n, 0n, 0n, 0n, 0n),
      c.ask(MKNOD, 0, "n", 0o100644, 0, 0, 0),
    ];
    assertEquals(refused, refused.map(() => EROFS));
    assertEquals(Deno.readTextFileSync(`${root}/f`), "text");
  }));

Deno.test("owners: the user who runs trike is whom the share says, and nobody else's files can be had by chown", () =>
  withShare({ owner: { uid: 1000, gid: 100 } }, ({ client: c, root }) => {
    assertEquals(c.walk(1), { qids: 0 });
    c.must(LCREATE, 1, "f", O_RDWR, 0o6755, 5);
    const attr = c.must(GETATTR, 1, 0x7ffn);
    assertEquals([attr.getUint32(25, true), attr.getUint32(29, true)], [1000, 100]);
    assertEquals(Deno.statSync(`${root}/f`).mode! & 0o7777, 0o755, "set-user-ID never reaches the host");
    c.must(SETATTR, 1, 6, 0, 1000, 100, 0n, 0n, 0n, 0n, 0n);
    assertEquals(c.ask(SETATTR, 1, 2, 0, 0, 0, 0n, 0n, 0n, 0n, 0n), EPERM);
  }));

Deno.test("a folder of many names is read a few entries at a time, each once", () =>
  withShare({}, ({ client: c, root }) => {
    const names = Array.from({ length: 500 }, (_, i) => `name-${i}-${"x".repeat(i % 100)}`);
    for (const name of names) Deno.writeTextFileSync(`${root}/${name}`, "");
    assertEquals(c.walk(1), { qids: 0 });
    c.must(LOPEN, 1, 0);
    assertEquals(c.names(1, 1000).sort(), [...names, ".", ".."].sort());
  }));

Deno.test("locks of two owners keep each other out, and end with the fid", () =>
  withShare({}, ({ client: c, root }) => {
    Deno.writeTextFileSync(`${root}/f`, "");
    const open = (fid: number) => (c.walk(fid, "f"), c.must(LOPEN, fid, O_RDWR));
    open(1);
    open(2);
    const lock = (fid: number, type: number, start: bigint, length: bigint, process: number) =>
      c.must(LOCK, fid, { u8: type }, 0, start, length, process, "guest").getUint8(0);
    assertEquals(lock(1, 1, 10n, 10n, 100), 0);
    assertEquals(lock(2, 1, 15n, 1n, 200), 1);
    assertEquals(lock(2, 0, 19n, 0n, 200), 1);
    assertEquals(lock(2, 1, 20n, 0n, 200), 0);
    assertEquals(lock(1, 2, 15n, 1n, 100), 0); // a hole in the first
    assertEquals(lock(2, 1, 15n, 1n, 200), 0);
    c.clunk(1);
    assertEquals(lock(2, 1, 0n, 0n, 200), 0);
  }));

Deno.test("what 9P2000.L has and a share does not is refused", () =>
  withShare({}, ({ client: c }) => {
    assertEquals(c.ask(XATTRWALK, 0, 9, "user.x"), EOPNOTSUPP);
    assertEquals(c.ask(102, 1, "", "", 0), EOPNOTSUPP);
    assertEquals(c.ask(MKNOD, 0, "fifo", 0o010644, 0, 0, 0), EPERM);
    assertEquals(c.ask(MKNOD, 0, "disk", 0o060644, 8, 0, 0), EPERM);
    assertEquals(c.walk(5, "nothing"), ENOENT);
    assertEquals(c.ask(READ, 77, 0n, 10), EBADF);
    assertEquals(c.ask(LOPEN, 0, 1), 21);
    assertEquals(c.ask(200), EOPNOTSUPP);
    c.must(LCREATE, (c.walk(6), 6), "f", O_RDWR, 0o644, 0);
    assertEquals(c.walk(7, "f", "below"), { qids: 1 });
    assertEquals(c.ask(110, 6, 8, { u16: 1 }, "x"), EBADF); // an open fid walks nowhere
    assertEquals((c.walk(8, "f"), c.ask(110, 8, 9, { u16: 1 }, "x")), ENOTDIR);
  }));

Deno.test("before a version was agreed on there is nothing but that", () =>
  withShare({}, ({ root }) => {
    const server = new P9Server({ path: root, readonly: false, owner: { uid: 0, gid: 0 } });
    const c = new Client(server, false);
    assertEquals(c.ask(104, 0, 0xffffffff, "", "", 0), EINVAL);
    assertEquals(c.ask(100, 100, "9P2000.L"), 90);
    const other = c.must(100, 8192, "9P2000.u");
    assertEquals(new TextDecoder().decode(new Uint8Array(other.buffer, other.byteOffset + 6, 7)), "unknown");
    assertEquals(c.ask(104, 0, 0xffffffff, "", "", 0), EINVAL);
  }));

Deno.test("damaged messages are answered with errors, whatever is in them, and nothing outside changes", () =>
  withShare({}, ({ client: c, root, outside }) => {
    Deno.symlinkSync(outside, `${root}/link`);
    Deno.writeTextFileSync(`${root}/f`, "text");
    let x = 12345;
    const random = (n: number) => (x = (Math.imul(x, 1103515245) + 12345) >>> 0, (x >>> 8) % n);
    const types = [
      8,
      12,
      14,
      16,
      18,
      20,
      22,
      24,
      26,
      30,
      32,
      40,
      50,
      52,
      54,
      70,
      72,
      74,
      76,
      104,
      108,
      110,
      116,
      118,
      122,
    ];
    const names = ["f", "link", "..", ".", "secret", "", "d", "a/b", "x".repeat(300)];
    const reply = new Uint8Array(4096);
    for (let i = 0; i < 4000; i++) {
      const parts = Array.from({ length: random(8) }, () => {
        switch (random(5)) {
          case 0:
            return names[random(names.length)]!;
          case 1:
            return BigInt(random(3)) * 0xffff_ffff_ffffn;
          case 2:
            return { u16: random(20) };
          default:
            return random(4) * (random(10) === 0 ? 0x3fff_ffff : 1);
        }
      });
      const bytes = message(types[random(types.length)]!, fields(random(4), ...parts));
      if (random(10) === 0) bytes[random(bytes.length)] = random(256);
      const size = c.server.respond(bytes.subarray(0, random(20) === 0 ? random(bytes.length) : bytes.length), reply);
      assert(size >= 7 && size <= reply.length && new DataView(reply.buffer).getUint32(0, true) === size, `${bytes}`);
    }
    assertEquals([...Deno.readDirSync(outside)].map(({ name }) => name), ["secret"]);
    assertEquals(Deno.readTextFileSync(`${outside}/secret`), "secret");
    assertEquals(c.server.respond(new Uint8Array(0), new Uint8Array(6)), 0);
  }));
