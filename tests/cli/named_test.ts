/** Machines with names, as processes: found, watched, told to stop; their leftovers; clients that mean harm. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { inflateSync } from "node:zlib";
import { TestTerminal } from "./pty.ts";
import { decode, eventually, LOOPBACK, start, trike, withFiles } from "./trike.ts";

const allow = ["--allow-read", "--allow-write", "--allow-net", "--allow-env=XDG_RUNTIME_DIR,HOME"];
const text = (bytes: Uint8Array | undefined) => new TextDecoder().decode(bytes);
const bytes = (words: string) => new TextEncoder().encode(words);

interface Place {
  readonly dir: string;
  readonly sockets: string;
  /** Starts a machine, and resolves once it can be reached. */
  run(name: string, append: string, ...more: string[]): Promise<Deno.ChildProcess>;
  trike(...args: string[]): ReturnType<typeof trike>;
  connect(name: string): Promise<Deno.UnixConn>;
}

function withPlace(body: (place: Place) => Promise<void>): Promise<void> {
  return withFiles(async ({ dir, kernel }) => {
    const env = { XDG_RUNTIME_DIR: dir }, sockets = `${dir}/trike`;
    const children: Deno.ChildProcess[] = [];
    const connect = (name: string) => Deno.connect({ transport: "unix", path: `${sockets}/${name}.sock` });
    try {
      await body({
        dir,
        sockets,
        connect,
        trike: (...args) => trike(args, { allow, env }),
        run: async (name, append, ...more) => {
          const args = [
            "run",
            "-q",
            "--name",
            name,
            "--kernel",
            kernel,
            "--append",
            append,
            "--serial",
            "none",
            ...more,
          ];
          const child = start(args, { allow, env });
          children.push(child);
          await eventually(async () => (await connect(name)).close());
          return child;
        },
      });
    } finally {
      for (const child of children) {
        try {
          child.kill("SIGKILL");
        } catch {
          // It has ended.
        }
        await Promise.all([child.status, child.stdout.cancel(), child.stderr.cancel(), child.stdin.abort()]).catch(
          () => {},
        );
      }
    }
  });
}

/** What comes until `wanted` is there. */
async function until(conn: Deno.UnixConn, wanted: string): Promise<string> {
  const buffer = new Uint8Array(65536);
  let seen = "";
  while (!seen.includes(wanted)) {
    const n = await conn.read(buffer);
    if (n === null) throw new Error(`${JSON.stringify(wanted)} did not come, but ${JSON.stringify(seen.slice(-200))}`);
    seen += text(buffer.subarray(0, n));
  }
  return seen;
}

Deno.test("a machine with a name is listed, tells its address, publishes, is saved, and stops at its power button", () =>
  withPlace(async (place) => {
    const child = await place.run("web", "say=up button=poweroff", "--memory", "64M", "--cpus", "2");
    assertEquals((await Deno.stat(place.sockets)).mode! & 0o777, 0o700);
    const [list, json, ip] = await Promise.all([
      place.trike("list"),
      place.trike("list", "--json"),
      place.trike("ip", "web"),
    ]);
    assert(
      new RegExp(
        `^NAME +PID +STATE +CPUS +MEMORY +IP +UPTIME\nweb +${child.pid} +running +2 +64M +10\\.0\\.2\\.15 +00:00:\\d\\d\n$`,
      )
        .test(list.stdout),
      list.stdout,
    );
    const [row] = JSON.parse(json.stdout);
    assertEquals([row.name, row.pid, row.engine, row.memoryBytes, row.network], [
      "web",
      child.pid,
      "soft",
      64 << 20,
      "user",
    ]);
    assertEquals(ip.stdout, "10.0.2.15\n");
    assertEquals((await place.trike("publish", "web", "8080:80", "5353:53/udp")).code, 0);
    assertEquals((await place.trike("publish", "web")).stdout, "127.0.0.1:8080:80\n127.0.0.1:5353:53/udp\n");
    assertEquals((await place.trike("publish", "web", "8080:80", "--remove")).code, 0);
    const twice = await place.trike("publish", "web", "8080:80", "--remove");
    assertEquals([twice.code, twice.stderr], [1, "trike: port 8080 is not published\n"]);
    const saved = await place.trike("snapshot", "web", `${place.dir}/s`);
    assertEquals([saved.stdout, await Deno.readTextFile(`${place.dir}/s`)], ["web: saved, 5 bytes\n", "saved"]);
    const stop = await place.trike("stop", "web");
    assertEquals([stop.code, stop.stdout], [0, "web: powered off\n"]);
    assertEquals((await child.status).code, 0);
    assertEquals([...Deno.readDirSync(place.sockets)], []);
    assertEquals((await place.trike("list", "--json")).stdout, "[]\n");
  }));

Deno.test("a guest that ignores its button is told of after --timeout, and killed with status 137", () =>
  withPlace(async (place) => {
    const child = await place.run("deaf", "");
    const stop = await place.trike("stop", "deaf", "--timeout", "0.2");
    assertEquals(stop.code, 1);
    assertStringIncludes(stop.stderr, `"deaf" did not power off within 0.2 s; 'trike kill deaf'`);
    const kill = await place.trike("kill", "deaf");
    assertEquals([kill.code, kill.stdout], [0, "deaf: stopped\n"]);
    assertEquals((await child.status).code, 137);
  }));

Deno.test("the display of a machine becomes a PNG, where asked for or after its name; one without has a sentence for it", () =>
  withPlace(async (place) => {
    await place.run("seen", "", "--vga");
    await place.run("blind", "");
    const path = `${place.dir}/it.png`;
    const shot = await place.trike("screenshot", "seen", path);
    assertEquals([shot.code, shot.stdout], [0, `seen: 2 × 1 pixels in "${path}"\n`]);
    const png = await Deno.readFile(path), view = new DataView(png.buffer);
    assertEquals([view.getUint32(16), view.getUint32(20)], [2, 1], "IHDR [png §11.2.2]");
    const data = png.subarray(33 + 8, 33 + 8 + view.getUint32(33));
    assertEquals([...inflateSync(data)], [0, 0xff, 0, 0, 0, 0, 0xff]);
    const none = await place.trike("screenshot", "blind", path);
    const sentence = 'trike: The machine "blind" has no display: expected one started with --vga or --vnc\n';
    assertEquals([none.code, none.stderr], [1, sentence]);
    const nowhere = await place.trike("screenshot", "seen", `${place.dir}/none/it.png`);
    assertEquals(nowhere.code, 1);
    assertStringIncludes(nowhere.stderr, `Cannot write the picture "${place.dir}/none/it.png"`);
  }));

Deno.test("two machines cannot have one name; a killed process's can be had at once", () =>
  withPlace(async (place) => {
    const first = await place.run("one", "");
    const again = await place.trike("run", "-q", "--name", "one", "--kernel", `${place.dir}/vmlinuz`);
    assertEquals(again.code, 2);
    assertStringIncludes(again.stderr, `--name "one": expected a name that no running machine has`);
    assertStringIncludes(again.stderr, `process ${first.pid}`);
    first.kill("SIGKILL");
    await first.status;
    assertEquals([...Deno.readDirSync(place.sockets)].length, 2, "it left its files");
    const gone = await place.trike("ip", "one");
    assertEquals(gone.code, 2);
    assertStringIncludes(gone.stderr, `trike ip "one": expected a machine that runs with --name`);
    assertEquals([...Deno.readDirSync(place.sockets)], [], "and whoever looks clears them away");
    const second = await place.run("one", "");
    second.kill("SIGKILL");
    await second.status;
    await place.run("one", "button=poweroff");
    assertEquals(
      (await place.trike("stop", "oen")).stderr,
      `trike: trike stop "oen": expected one; did you mean one?\n`,
    );
    assertEquals((await place.trike("stop", "one")).code, 0);
  }));

Deno.test("many may watch a console and type; who comes late sees what was last; who does not read holds up nobody", () =>
  withPlace(async (place) => {
    await place.run("chatty", "say=early");
    const sleeper = await place.connect("chatty");
    await sleeper.write(bytes('{"do":"console"}\n'));
    const watchers = await Promise.all([1, 2, 3].map(async () => {
      const conn = await place.connect("chatty");
      await conn.write(bytes('{"do":"console"}\n'));
      await until(conn, "early");
      return conn;
    }));
    await watchers[0]!.write(bytes("from the first"));
    for (const watcher of watchers) await until(watcher, "from the first");
    // The guest sends all of it back, past the one who does not read.
    const line = bytes("x".repeat(1023) + "\n"), lines = 2048;
    const typing = (async () => {
      for (let i = 0; i < lines; i++) await watchers[1]!.write(line);
      await watchers[1]!.write(bytes("the end"));
    })();
    await Promise.all(watchers.map((watcher) => until(watcher, "the end")));
    await typing;
    assertEquals((await place.trike("list")).code, 0);
    for (const conn of [...watchers, sleeper]) conn.close();
  }));

Deno.test("trike console on a terminal: keys go to the guest, Ctrl-A x leaves it running, its end ends the console", () =>
  withPlace(async (place) => {
    await place.run("tty", "say=login:", "--timeout", "60");
    const terminal = TestTerminal.open();
    try {
      const before = terminal.mode();
      const console = () =>
        start(["console", "tty"], {
          allow,
          env: { XDG_RUNTIME_DIR: place.dir },
          terminal: terminal.name,
          program: LOOPBACK,
        });
      const first = console();
      await terminal.until("login:");
      await terminal.write(bytes("\x03root"));
      await terminal.until("\x03root");
      await terminal.write(bytes("\x01h"));
      assertStringIncludes(await terminal.until("one Ctrl-A to the guest"), "leave; the machine goes on");
      await terminal.write(bytes("\x01x"));
      const left = decode(await first.output());
      assertEquals([left.code, left.stderr], [0, ""]);
      assertEquals(terminal.mode(), before);
      const second = console();
      await terminal.until("root");
      assertEquals((await place.trike("kill", "tty")).code, 0);
      assertEquals(decode(await second.output()).code, 0);
      assertEquals(terminal.mode(), before);
    } finally {
      terminal.close();
    }
  }));

Deno.test("hostile clients: nonsense is answered or hung up on, crowds are turned away, and the machine goes on", () =>
  withPlace(async (place) => {
    await place.run("rock", "button=poweroff");
    const say = async (line: string) => {
      const conn = await place.connect("rock");
      await until(conn, "\n"); // the greeting
      await conn.write(bytes(line));
      const reply = await until(conn, "\n").catch(() => "hung up");
      conn.close();
      return reply === "hung up" ? reply : JSON.parse(reply);
    };
    const nonsense = [
      "\n",
      "[]\n",
      "null\n",
      '{"do":"__proto__"}\n',
      '{"do":"snapshot","path":"relative","compress":false}\n',
      '{"do":"snapshot","path":"/x\\u0000","compress":false}\n',
      '{"do":"snapshot","path":"/x"}\n',
      '{"do":"screenshot","path":"it.png"}\n',
      '{"do":"medium","drive":"vda","path":null,"force":false}\n',
      '{"do":"medium","drive":"cd0","path":"x.iso","force":false}\n',
      '{"do":"medium","drive":"cd0","path":null}\n',
      '{"do":"medium","drive":"cd0","path":null,"force":false}\n',
      '{"do":"link","up":"yes"}\n',
      '{"do":"link"}\n',
      '{"do":"publish","forward":{"protocol":"tcp","address":"127.0.0.1","port":70000,"guestPort":1}}\n',
      '{"do":"publish","forward":{"protocol":"sctp","address":"127.0.0.1","port":1,"guestPort":1}}\n',
      '{"do":"publish","forward":null}\n',
      "\x00\xff\n",
      `{"do":${"[".repeat(20_000)}\n`,
    ];
    for (const line of nonsense) {
      const reply = await say(line);
      assertEquals([reply.ok, typeof reply.error], [false, "string"], line.slice(0, 60));
    }
    // A line that never ends.
    const endless = await place.connect("rock");
    await until(endless, "\n");
    const chunk = bytes("a".repeat(16384));
    let refused = false;
    for (let i = 0; i < 200 && !refused; i++) await endless.write(chunk).catch(() => refused = true);
    assert(refused, "a line may not be as long as one likes");
    endless.close();
    // Nonsense without end.
    const babbler = await place.connect("rock");
    await babbler.write(bytes("x\n".repeat(100)));
    await until(babbler, "never").then(() => assert(false), () => {}); // reads to the end: it was hung up on
    babbler.close();
    const crowd = await Promise.all(Array.from({ length: 40 }, () => place.connect("rock")));
    const greeted = await Promise.all(crowd.map((conn) => until(conn, "\n").then(() => true, () => false)));
    assertEquals(greeted.filter((one) => one).length, 32);
    for (const conn of crowd) conn.close();
    await eventually(async () =>
      assertEquals((await place.trike("list", "--json")).stdout.includes('"running"'), true)
    );
    assertEquals((await place.trike("stop", "rock")).stdout, "rock: powered off\n");
  }));

Deno.test("a machine that has stopped answering does not hold up the list, which says so", () =>
  withPlace(async (place) => {
    const stuck = await place.run("stuck", "");
    stuck.kill("SIGSTOP");
    try {
      const { stdout } = await place.trike("list");
      assert(new RegExp(`stuck +${stuck.pid} +silent +- +- +- +-\n`).test(stdout), stdout);
      const again = await place.trike("run", "-q", "--name", "stuck", "--kernel", `${place.dir}/vmlinuz`);
      assertEquals(again.code, 2, "its name is still its own");
    } finally {
      stuck.kill("SIGCONT");
    }
  }));

Deno.test("the words of these commands are checked before anything is asked", async () => {
  const mistakes: [string[], string][] = [
    [["stop"], "trike: 'trike stop' needs more: expected trike stop NAME\n"],
    [["list", "x"], `trike: Unexpected "x": expected trike list\n`],
    [["stop", "x", "--timeuot", "1"], "did you mean --timeout?"],
    [["stop", "x", "--timeout"], "--timeout needs a value: expected --timeout SECONDS"],
    [["stop", "x", "--timeout", "0"], '--timeout "0": expected seconds'],
    [["publish", "x", "80"], 'publish "80": expected [ADDRESS:]PORT:GUESTPORT'],
    [["publish", "x", "--remove"], "expected a port"],
    [["kill", "x", "--force"], `Unknown option "--force"`],
    [["medium", "x", "cd0", "y.iso", "--eject"], "trike medium --eject: expected NAME [DRIVE]"],
    [["medium", "x", "--force"], "trike medium --force: expected FILE or --eject"],
    [["link", "x", "sideways"], 'trike link "sideways": expected up or down'],
  ];
  const results = await Promise.all(mistakes.map(([args]) => trike(args, { allow: [] })));
  for (const [i, { code, stderr }] of results.entries()) {
    assertEquals(code, 2, stderr);
    assertStringIncludes(stderr, mistakes[i]![1]);
  }
});
