import { assert, assertEquals, assertThrows } from "@std/assert";
import { ConfigError } from "../../src/base/errors.ts";
import { helpPage } from "../../src/cli/help.ts";
import { OPTION_BY_NAME } from "../../src/cli/options.ts";
import { parseCommandLine, type RunRequest } from "../../src/cli/parse.ts";
import { parseCpuModel } from "../../src/engine/soft/models.ts";
import { formatSize, parseSize } from "../../src/base/size.ts";
import { nearest, quoted } from "../../src/cli/values.ts";

function run(...args: string[]): RunRequest {
  const command = parseCommandLine(["run", ...args]);
  if (command.kind !== "run") throw new Error(`expected run, got ${command.kind}`);
  return command.request;
}

/** A mistake is one sentence that names all of `names`. */
function assertMistake(args: string[], ...names: string[]): void {
  const error = assertThrows(() => parseCommandLine(args), ConfigError) as ConfigError;
  for (const name of names) assert(error.message.includes(name), `${JSON.stringify(error.message)} lacks ${name}`);
  assert(!error.message.includes("\n"), "a mistake is one line");
}

Deno.test("run without options asks for the defaults", () => {
  assertEquals(run(), {
    engine: "auto",
    irqchip: null,
    tiers: 2,
    native: false,
    memoryBytes: 512 * 1024 * 1024,
    cpus: 1,
    cpu: null,
    kernel: null,
    initrd: null,
    append: null,
    firmware: null,
    debugcon: null,
    vga: false,
    vgaBios: null,
    screenshot: null,
    vnc: null,
    disks: [],
    services: {},
    net: null,
    publish: [],
    serial: [{ kind: "stdio" }],
    name: null,
    uuid: null,
    pidFile: null,
    noReboot: false,
    icount: false,
    trace: null,
    timeoutSeconds: null,
    stats: null,
    snapshotOnExit: null,
    snapshotCompress: false,
    quiet: false,
  });
});

Deno.test("run takes every option, with its value joined or apart", () => {
  const expected: RunRequest = {
    engine: "soft",
    irqchip: null,
    tiers: 2,
    native: false,
    memoryBytes: 1 << 30,
    cpus: 1,
    cpu: parseCpuModel("x86-64-v3,-fma"),
    kernel: "k",
    initrd: "i",
    append: "console=ttyS0 a=b",
    firmware: null,
    debugcon: null,
    vga: false,
    vgaBios: null,
    screenshot: null,
    vnc: null,
    disks: [{ path: "d", readonly: false, format: "raw", formatAsked: true }, {
      path: "e,f",
      readonly: true,
      format: "raw",
    }],
    services: {},
    net: {
      kind: "user",
      mac: [2, 0, 0, 0, 0, 255],
      pcap: "p,q",
      restrict: true,
      dns: { address: "192.0.2.1", port: 53 },
    },
    publish: [
      { protocol: "tcp", address: "127.0.0.1", port: 8080, guestPort: 80 },
      { protocol: "udp", address: "0.0.0.0", port: 53, guestPort: 5353 },
    ],
    serial: [{ kind: "none" }, { kind: "file", path: "a:b" }, { kind: "unix", path: "/s" }, { kind: "pty" }],
    name: "web-1.a",
    uuid: "123e4567-e89b-12d3-a456-426614174000",
    pidFile: "trike.pid",
    noReboot: true,
    icount: true,
    trace: { categories: ["pio", "irq"], path: "t" },
    timeoutSeconds: 1.5,
    stats: "s",
    snapshotOnExit: "t",
    snapshotCompress: true,
    quiet: true,
  };
  const values: [string, string][] = [
    ["--engine", "soft"],
    ["--memory", "1GiB"],
    ["--cpus", "1"],
    ["--cpu", "x86-64-v3,-fma"],
    ["--kernel", "k"],
    ["--initrd", "i"],
    ["--append", "console=ttyS0 a=b"],
    ["--disk", "d,format=raw"],
    ["--disk", "e,,f,readonly"],
    ["--net", "user,restrict,pcap=p,,q,mac=02:00:00:00:00:FF,dns=192.0.2.1"],
    ["--publish", "8080:80"],
    ["--publish", "0.0.0.0:53:5353/udp"],
    ["--serial", "none"],
    ["--serial", "file:a:b"],
    ["--serial", "unix:/s"],
    ["--serial", "pty"],
    ["--trace", "pio,irq,pio:t"],
    ["--timeout", "1.5"],
    ["--name", "web-1.a"],
    ["--uuid", "123E4567-e89b-12d3-a456-426614174000"],
    ["--pid-file", "trike.pid"],
    ["--stats", "s"],
    ["--snapshot-on-exit", "t"],
  ];
  const switches = ["--no-reboot", "--icount", "--snapshot-compress", "--quiet"];
  assertEquals(run(...values.flat(), ...switches), expected);
  assertEquals(run(...switches, ...values.map((v) => v.join("="))), expected);
});

Deno.test("--module and --env are for a kernel", () => {
  const { modules, env } = run(
    "--kernel",
    "k",
    "--module",
    "a,,b",
    "--module",
    "c,type=x y",
    "--env",
    "a=b",
    "--env",
    "c=",
  );
  assertEquals(modules, [{ path: "a,b", type: "md_image" }, { path: "c", type: "x y" }]);
  assertEquals(env, ["a=b", "c="]);
  assertMistake(["run", "--env", "a=b"], "--env", '"a=b"', "with --kernel");
  assertMistake(["run", "--kernel", "k", "--module", "a,b"], "--module", '"a,b"', "FILE[,type=TYPE]");
});

Deno.test("--append takes what other options do not: nothing, dashes, other options' names", () => {
  assertEquals(run("--append", "").append, "");
  assertEquals(run("--append=").append, "");
  assertEquals(run("--append", "-- init=/x").append, "-- init=/x");
  assertEquals(run("--append", "--quiet").quiet, false);
  assertEquals(run("--append", "5").append, "5");
  assertMistake(["run", "--append", "a\0b"], "--append", "NUL");
});

Deno.test("sizes: K, M, G and T are powers of 1024, with or without iB, in either case", () => {
  const sizes: [string, number | undefined][] = [
    ["512M", 512 * 2 ** 20],
    ["512m", 512 * 2 ** 20],
    ["512MiB", 512 * 2 ** 20],
    ["1.5G", 1.5 * 2 ** 30],
    ["64K", 65536],
    ["2T", 2 ** 41],
    ["16777216", 2 ** 24],
    ["", undefined],
    ["M", undefined],
    ["-1M", undefined],
    ["1e9", undefined],
    ["512MB", undefined],
    ["512 M", undefined],
    ["0x10M", undefined],
    ["1.0000001K", undefined],
    ["999999999999999T", undefined],
    ["Infinity", undefined],
  ];
  for (const [text, bytes] of sizes) assertEquals(parseSize(text), bytes, text);
  assertEquals(["512M", "3G", "16M", "1536M", "5"].map((t) => formatSize(parseSize(t)!)), [
    "512M",
    "3G",
    "16M",
    "1536M",
    "5",
  ]);
});

Deno.test("--cpu: no such processor, no such feature, or one that something else needs", () => {
  assertMistake(["run", "--cpu", "i486"], '--cpu "i486"', "x86-64-v2", "haswell");
  assertMistake(["run", "--cpu", "toString"], "toString");
  assertMistake(["run", "--cpu", "max,avx2"], '"avx2"', "+", "-");
  assertMistake(["run", "--cpu", "max,+avx3"], '"avx3"', "docs/cpu.md");
  assertMistake(["run", "--cpu", "max,-avx"], "need avx", "-avx2");
  assertMistake(["run", "--cpu", "max,-sse2"], "sse2", "cannot be switched off");
  assertMistake(["run", "--cpu", "max,+bmi2,-bmi2"], "bmi2", "on and off");
  assertEquals(run("--cpu", "x86-64-v2,+avx2").cpu!.features.includes("AVX"), true);
  assertEquals(run("--cpu", "max,-BMI_1").cpu!.features.includes("BMI1"), false);
});

Deno.test("--memory: out of range, misaligned or no size at all", () => {
  assertEquals(run("--memory", "16M").memoryBytes, 2 ** 24);
  assertEquals(run("--memory", "3G").memoryBytes, 3 * 2 ** 30);
  assertMistake(["run", "--memory", "4G"], "--memory", '"4G"', "16M", "3G");
  assertMistake(["run", "--memory", "15M"], "--memory", '"15M"', "16M", "3G");
  assertMistake(["run", "--memory", "512"], "--memory", '"512"', "512M?");
  assertMistake(["run", "--memory", "16777217"], "--memory", "multiple of 4K");
  assertMistake(["run", "--memory", "much"], "--memory", '"much"', "512M");
  assertMistake(["run", "--memory="], "--memory", '""');
});

Deno.test("native code is a way of the software engine", () => {
  for (const text of ["soft:native", "soft,native"]) {
    const { engine, native, tiers } = run("--engine", text);
    assertEquals([engine, native, tiers], ["soft", true, 2]);
  }
});

Deno.test("mistakes name the flag, the value and what was expected", () => {
  const mistakes: [string[], ...string[]][] = [
    [["--cpus", "65"], "--cpus", '"65"', "from 1 to 64"],
    [["--cpus", "0"], "--cpus", '"0"', "from 1 to 64"],
    [["--cpus", "x"], "--cpus", '"x"'],
    [["--cpus", "1.0"], "--cpus", '"1.0"'],
    [["--engine", "sotf"], "--engine", '"sotf"', "did you mean soft?"],
    [["--engine", "qemu"], "--engine", "auto, hvf, kvm or soft"],
    [["--engine", "kvm:irqchip=all"], "--engine", 'irqchip=kernel, split or user after "kvm:"'],
    [["--engine", "soft:irqchip=user"], "--engine", 'native, tiers=1 or tiers=2 after "soft:"'],
    [["--engine", "hvf:tiers=1"], "--engine", 'nothing after "hvf"'],
    [["--serial", "ptty"], "--serial", '"ptty"', "unix:PATH", "did you mean pty?"],
    [["--serial", "tty"], "--serial", '"tty"', "a path"],
    [["--serial", "pty:"], "--serial", '"pty:"', "a path"],
    [["--name", "../x"], "--name", '"../x"', "letters"],
    [["--name", "x".repeat(41)], "--name", "at most 40"],
    [["--uuid", "123"], "--uuid", '"123"', "a UUID"],
    [["--serial", "file:"], "--serial", "a path"],
    [["--serial", "unix"], "--serial", "a path"],
    [["--serial", `unix:/${"x".repeat(103)}`], "--serial", "103 bytes"],
    [["--serial", "stdio", "--serial", "stdio"], "--serial", "stdio", "one port only"],
    [Array.from({ length: 9 }, () => "--serial=none"), "--serial", "at most 8"],
    [["--disk", ""], "--disk", "FILE"],
    [["--disk", ",controller=ahci"], "--disk", "FILE"],
    [["--disk", "d,read-only"], "--disk", "read-only", "did you mean readonly?"],
    [["--disk", "d,format=vhd"], "--disk", "format=raw or qcow2", "vhd"],
    [["--disk", "d,controller=ide"], "--disk", "controller=virtio, ahci, nvme or cdrom", "ide"],
    [["--disk", "d,overlay,readonly"], "--disk", "overlay or readonly, not both"],
    [["--disk", "d,serial="], "--disk", "1 to 20 characters"],
    [["--disk", "d,discard=on,discard=on"], "--disk", "discard once"],
    [Array(17).fill("--disk=d"), "--disk", "at most 16", "17"],
    [["--timeout", "0"], "--timeout", '"0"', "seconds"],
    [["--timeout", "-1"], "--timeout", '"-1"'],
    [["--timeout", "1h"], "--timeout", '"1h"'],
    [["--timeout", "1e3"], "--timeout"],
    [["--timeout", "99999999"], "--timeout", "2147483"],
    [["--trace", "pi"], "--trace", '"pi"', "did you mean pio?"],
    [["--trace", "pio:"], "--trace", "a file"],
    [["--trace", ""], "--trace", '""'],
    [["--kernel"], "--kernel", "needs a value", "FILE"],
    [["--kernel", "--quiet"], "--kernel", "needs a value"],
    [["--kernel="], "--kernel", "a file"],
    [["--stats", ""], "--stats", "a file"],
    [["--kernel", "a", "--kernel", "b"], "--kernel", '"b"', "2 times"],
    [["--quiet=yes"], "--quiet", '"yes"', "no value"],
    [["--memroy", "1G"], '"--memroy"', "did you mean --memory?"],
    [["--mem=1G"], '"--mem"', "did you mean --memory?"],
    [["--reboot"], '"--reboot"', "--no-reboot?"],
    [["--frobnicate"], '"--frobnicate"'],
    [["-x"], '"-x"'],
    [["-qq"], '"-qq"'],
    [["vmlinuz"], '"vmlinuz"', "only options"],
    [["--"], '"--"'],
    [["-"], '"-"'],
    [["--__proto__", "x"], "--__proto__"],
  ];
  for (const [args, ...names] of mistakes) assertMistake(["run", ...args], ...names);
});

Deno.test("commands: known, mistyped, missing, and options in their place", () => {
  assertEquals(parseCommandLine(["engines"]).kind, "engines");
  assertEquals(parseCommandLine(["guest", "-q"]), { kind: "guest", quiet: true });
  for (const args of [["--help"], ["-h"], ["help"], ["run", "--help"], ["run", "-h"], ["guest", "--help"]]) {
    assertEquals(parseCommandLine(args).kind, "help", args.join(" "));
  }
  for (const args of [["--version"], ["-V"], ["run", "--version"]]) {
    assertEquals(parseCommandLine(args).kind, "version");
  }
  assertMistake([], "Expected a command, run, resume, ");
  assertMistake(["rnu"], '"rnu"', "did you mean run?");
  assertMistake(["--kernel", "x"], "--kernel", "before a command");
  assertMistake(["engines", "--kernel", "x"], "--kernel");
  assertMistake(["guest", "x"], '"x"');
});

Deno.test("what the user typed is printed without the power to move a cursor", () => {
  assertMistake(["run", "--cpus", "\x1b[2J\x9b"], "\\u001b[2J\\u009b");
  assert(quoted("x".repeat(10_000)).length < 300);
});

Deno.test("nearest suggests slips and beginnings, and nothing far-fetched", () => {
  const words = ["memory", "kernel", "no-reboot", "serial"];
  assertEquals(nearest("memroy", words), "memory");
  assertEquals(nearest("kern", words), "kernel");
  assertEquals(nearest("noreboot", words), "no-reboot");
  assertEquals(nearest("zzz", words), undefined);
  assertEquals(nearest("", words), undefined);
  assertEquals(nearest("x".repeat(1000), words), undefined);
});

Deno.test("the help names every option, fits 100 columns and its examples parse", () => {
  const page = helpPage();
  for (const name of Object.keys(OPTION_BY_NAME)) assert(page.includes(`--${name}`), `--${name} is missing`);
  for (const line of page.split("\n")) assert(line.length <= 100, `too long: ${line}`);
  for (const status of [0, 1, 2, 3, 70, 124, 129, 130, 143]) assert(new RegExp(`^  ${status} `, "m").test(page));
  const examples = page.slice(page.indexOf("Examples:")).matchAll(/^ {2}trike (run.*?)(?: {3,}.*)?$/gm);
  let n = 0;
  for (const [, example] of examples) {
    const args = [...example!.matchAll(/"([^"]*)"|(\S+)/g)].map((m) => m[1] ?? m[2]!);
    assertEquals(parseCommandLine(args).kind, "run", example);
    n++;
  }
  assertEquals(n, 5);
});
