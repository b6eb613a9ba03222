import { assertEquals, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { HostError } from "../../src/base/errors.ts";
import type { TarEntry, TarKind } from "../../src/guest/tar.ts";
import { writeTree } from "./systemd_root.ts";

function entries(...list: readonly [path: string, kind: TarKind, text: string, mode?: number][]) {
  return new Map(list.map(([path, kind, text, mode = 0o755]): [string, TarEntry] => {
    const data = new TextEncoder().encode(kind === "file" ? text : "");
    return [path, { path, kind, mode, target: kind === "symlink" ? text : "", data }];
  }));
}

function inFolder(work: (folder: string) => void): void {
  const folder = Deno.makeTempDirSync({ prefix: "trike-test-" });
  try {
    work(folder);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

Deno.test("a package that writes through a symbolic link, or makes a device, is refused and writes nothing there", () => {
  inFolder((folder) => {
    const outside = join(folder, "outside");
    Deno.mkdirSync(outside);
    for (const way of [["a", "b"], ["b", "a"]]) {
      const list = new Map(
        way.flatMap((
          name,
        ) => [...name === "a" ? entries(["srv/a", "symlink", outside]) : entries(["srv/a/deep/b", "file", "text"])]),
      );
      assertThrows(() => writeTree(join(folder, way.join("")), list), HostError, '"srv/a" is a symbolic link');
    }
    assertThrows(() => writeTree(join(folder, "c"), entries(["srv/null", "char", ""])), HostError, "found a char");
    assertEquals([...Deno.readDirSync(outside)], []);
  });
});

Deno.test("permissions are the package's; root has an empty password, the others none that fits", () => {
  inFolder((folder) => {
    const master = "root:*:0:0:root:/root:/bin/bash\ndaemon:*:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n";
    writeTree(
      folder,
      entries(
        ["usr/share/base-passwd/passwd.master", "file", master, 0o644],
        ["usr/share/base-passwd/group.master", "file", "root:*:0:\n", 0o644],
        ["usr/bin/su", "file", "", 0o4755],
        ["srv/closed", "directory", "", 0o500],
        ["srv/closed/file", "file", "text", 0o440],
      ),
    );
    const mode = (path: string) => Deno.lstatSync(join(folder, path)).mode! & 0o7777;
    assertEquals(["usr/bin/su", "srv/closed", "srv/closed/file", "etc/shadow"].map(mode), [
      0o4755,
      0o500,
      0o440,
      0o640,
    ]);
    const field = (path: string, n: number) =>
      Deno.readTextFileSync(join(folder, path)).trim().split("\n").map((line) => line.split(":")[n]);
    assertEquals([field("etc/passwd", 1), field("etc/shadow", 1)], [["x", "x"], ["", "*"]]); // passwd(5), shadow(5)
    assertEquals(field("etc/shadow", 0), ["root", "daemon"]);
    assertEquals(Deno.readLinkSync(join(folder, "lib")), "usr/lib");
    Deno.chmodSync(join(folder, "srv/closed"), 0o700); // so that it can be removed
  });
});
