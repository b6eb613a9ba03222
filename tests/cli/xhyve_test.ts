/** Machines in xhyve's words are the machines that `trike run` makes of its own. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { ConfigError } from "../../src/base/errors.ts";
import { asCalled } from "../../src/cli/called_as.ts";
import { parseCommandLine, readRequest, type RunRequest } from "../../src/cli/parse.ts";
import { toldFrom } from "../../src/cli/origins.ts";
import { LETTERS, xhyvePage } from "../../src/cli/xhyve/options.ts";
import { translateXhyve } from "../../src/cli/xhyve/translate.ts";
import { TRIKE, trike, withFiles } from "./trike.ts";

/** Words as a shell cuts them. */
const words = (line: string) => [...line.matchAll(/(?:"[^"]*"|[^\s"])+/g)].map(([word]) => word!.replaceAll('"', ""));

function xhyve(line: string): { request: RunRequest; notes: readonly string[] } {
  const command = translateXhyve(words(line));
  if (command.kind !== "run") throw new Error(command.kind);
  const { given, origins, notes } = command.machine;
  return { request: toldFrom(origins, () => readRequest(given)), notes };
}

function run(...args: string[]): RunRequest {
  const command = parseCommandLine(["run", "--no-reboot", ...args]);
  if (command.kind !== "run") throw new Error(command.kind);
  return command.request;
}

Deno.test("the commands of xhyve's and hyperkit's pages make the machines they describe, without a word", () => {
  // The scripts that come with xhyve, and the examples of hyperkit's manual page, in their forms.
  const same: [string, RunRequest][] = [
    [
      `-A -m 1G -s 0:0,hostbridge -s 31,lpc -l com1,stdio -f kexec,test/vmlinuz,test/initrd.gz,"earlyprintk=serial console=ttyS0"`,
      run(
        ...["--memory", "1G", "--net", "none", "--kernel", "test/vmlinuz", "--initrd", "test/initrd.gz"],
        ...["--append", "earlyprintk=serial console=ttyS0"],
      ),
    ],
    [
      "-A -c 2 -m 1G -s 0:0,hostbridge -s 31,lpc -l com1,stdio -s 2:0,virtio-net -s 3,ahci-cd,boot.iso" +
      ` -s 4,virtio-blk,hdd.img -U 123e4567-e89b-12d3-a456-426614174000 -f kexec,k,i,"console=ttyS0,115200 acpi=off"`,
      run(
        ...["--cpus", "2", "--memory", "1G", "--net", "user", "--uuid", "123e4567-e89b-12d3-a456-426614174000"],
        ...["--disk", "boot.iso,format=raw,controller=cdrom", "--disk", "hdd.img,format=raw"],
        ...["--kernel", "k", "--initrd", "i", "--append", "console=ttyS0,115200 acpi=off"],
      ),
    ],
    [
      "-AHu -m1024 -c1 -s 4,ahci-hd,b.img,ro -s 1:1,ahci-hd,/dev/rdisk2 -s 5,virtio-net,tap0,mac=00:be:fa:76:45:00" +
      " -s 2,virtio-rnd -l com2,autopty=link -l com1,autopty -F pid -f kexec,k,,",
      run(
        ...["--memory", "1G", "--net", "tap:tap0,mac=00:be:fa:76:45:00", "--pid-file", "pid"],
        ...["--disk", "/dev/rdisk2,format=raw,controller=ahci", "--disk", "b.img,readonly,format=raw,controller=ahci"],
        ...["--serial", "pty", "--serial", "pty:link", "--kernel", "k", "--append", ""],
      ),
    ],
    [
      "-m 2G -s 31,lpc -l com2,/dev/ttys001 -s 4,virtio-blk,file:///var/a%20b.qcow2,sectorsize=512/4096,format=qcow" +
      " -s 5,e1000,vmnet0 -l bootrom,UEFI.fd",
      run(
        ...["--memory", "2G", "--net", "vmnet,model=e1000", "--disk", "/var/a b.qcow2,format=qcow2"],
        ...["--serial", "none", "--serial", "tty:/dev/ttys001", "--firmware", "UEFI.fd"],
      ),
    ],
    [
      "-s 6,uart,autopty -s 5,uart,stdio -l com1,autopty -f kexec,k",
      run(
        ...[
          "--memory",
          "256M",
          "--net",
          "none",
          "--kernel",
          "k",
          "--append",
          "",
          "--serial",
          "pty",
          "--serial",
          "none",
        ],
        ...["--serial", "none", "--serial", "none", "--serial", "stdio", "--serial", "pty"],
      ),
    ],
    [
      "-s 7,virtio-9p,home=/srv/me,ro -s 8,virtio-9p,src=a:b/c -f kexec,k",
      run(
        ...["--memory", "256M", "--net", "none", "--kernel", "k", "--append", "", "--serial", "none"],
        ...["--share", "/srv/me:home,readonly", "--share", "a:b/c:src"],
      ),
    ],
    [
      "-s 29,fbuf,tcp=127.0.0.1:29000 -s 3,ahci,hd:a.img,ro,cd:b.iso -f bootrom,UEFI.fd,",
      run(
        ...["--memory", "256M", "--net", "none", "--serial", "none", "--vga", "--vnc", "127.0.0.1:29000"],
        ...["--disk", "a.img,readonly,format=raw,controller=ahci", "--disk", "b.iso,format=raw,controller=cdrom"],
        ...["--firmware", "UEFI.fd"],
      ),
    ],
  ];
  for (const [line, expected] of same) {
    const { request, notes } = xhyve(line);
    assertEquals(request, expected, line);
    assertEquals(notes, [], line);
  }
});

Deno.test("disks come in the order of their slots, which is how a guest finds them", () => {
  const { request } = xhyve(
    "-s 10,virtio-blk,c -s 4:1,virtio-blk,b -s 1:0:0,virtio-blk,d -s 4,virtio-blk,a -f kexec,k",
  );
  assertEquals(request.disks.map(({ path }) => path), ["a", "b", "c", "d"]);
});

Deno.test("what means nothing here is told in a sentence that names it, once, and the machine starts", () => {
  const meaningless: [string, string][] = [
    ["-w", "-w:"],
    ["-b", "-b:"],
    ["-C", "-C:"],
    ["-e", "-e:"],
    ["-g 1234", "-g:"],
    ["-P -P", "-P:"],
    ["-W", "-W:"],
    ["-x", "-x:"],
    ["-Y", "-Y:"],
    ["-p 0:1", "-p:"],
    ["-s 6,virtio-blk,a,nocache", "-s 6,virtio-blk,nocache:"],
    ["-s 6,virtio-blk,a,direct", "-s 6,virtio-blk,direct:"],
    ["-s 2:0,virtio-net -s 2:1,virtio-net", "-s 2:1,virtio-net:"],
    ["-s 2:0,virtio-net,en0", "-s 2:0,virtio-net,en0:"],
    ["-s 1:0,virtio-vpnkit,path=/x.sock,uuid=y", "-s 1:0,virtio-vpnkit:"],
    ["-s 7,xhci,tablet", "-s 7,xhci:"],
    ["-s 29,fbuf,w=1024", "-s 29,fbuf,w=:"],
    ["-l com1,autopty=tty,log=ring", "-l com1,log=:"],
  ];
  for (const [line, called] of meaningless) {
    const { notes } = xhyve(`${line} -f kexec,k`);
    assertEquals(notes.length, 1, line);
    assert(notes[0]!.startsWith(`${called} `), notes[0]);
  }
});

Deno.test("a mistake is one sentence in xhyve's words: the option, its value, and what was expected", () => {
  const kexec = "-f kexec,k";
  const mistakes: [string, ...string[]][] = [
    ["", "Expected -f kexec,KERNEL"],
    ["-f kexec", "-f", '"kexec"', "KERNEL"],
    ["-f kexce,k", '"kexce,k"', "did you mean kexec?"],
    ["-f fbsd,userboot.so,a.iso,", "-f", "expected kexec, which takes"],
    [`${kexec} -f bootrom,x`, "one thing to start"],
    [`-m 12Q ${kexec}`, '-m "12Q"', "a size"],
    [`-m 100T ${kexec}`, '-m "100T"', "a size from"],
    [`-c 99 ${kexec}`, '-c "99"', "a whole number"],
    [`-U 12 ${kexec}`, '-U "12"', "a UUID"],
    [`-p 0 ${kexec}`, '-p "0"', "vcpu:hostcpu"],
    [`-s 32,lpc ${kexec}`, '-s "32,lpc"', "[bus:]slot[:function]"],
    [`-s 2:8,lpc ${kexec}`, '-s "2:8,lpc"'],
    [`-s lpc ${kexec}`, '-s "lpc"'],
    [`-s 2,virtio-nte ${kexec}`, '"virtio-nte"', "did you mean virtio-net?"],
    [`-s 2,__proto__ ${kexec}`, '"__proto__"'],
    [`-s 2,virtio-net -s 2:0,virtio-blk,a ${kexec}`, "-s 2:0,virtio-blk", "-s 2,virtio-net is there"],
    [`-s 4,virtio-blk ${kexec}`, "-s 4,virtio-blk", "a file"],
    [`-s 4,virtio-blk,a,rw ${kexec}`, "-s 4,virtio-blk", '"rw"'],
    [`-s 4,virtio-blk,a,sectorsize=4096 ${kexec}`, "512"],
    [`-s 4,virtio-blk,file:///%zz ${kexec}`, "%"],
    [`-s 2,virtio-net,mac=1 ${kexec}`, '-s 2,virtio-net "user,mac=1"'],
    [`-s 2,virtio-tap ${kexec}`, "-s 2,virtio-tap", "tap0"],
    [`-s 2,passthru,1/2/3 ${kexec}`, "-s 2,passthru"],
    [`-s 2,virtio-9p,port=1 ${kexec}`, "-s 2,virtio-9p", "TAG=DIR"],
    [`-s 2,virtio-9p,a=/b,rw ${kexec}`, '-s 2,virtio-9p "a=/b,rw"', "TAG=DIR[,ro]"],
    [`-s 2,fbuf,password=x ${kexec}`, "-s 2,fbuf", "--vnc"],
    [`-s 2,fbuf,tcp=x ${kexec}`, '-s 2,fbuf "x"', "a port"],
    [`-l com1,stdoi ${kexec}`, '-l "com1,stdoi"', "stdio, autopty"],
    [`-l com5,stdio ${kexec}`, "com1 to com4"],
    [`-l com1,stdio -l com1,autopty ${kexec}`, "com1 once"],
    [`-l com1,stdio -l com2,stdio ${kexec}`, "stdio for one port only"],
    [`-Q ${kexec}`, '"-Q"'],
    [`-m`, "-m needs a value"],
    [`name ${kexec}`, '"name"', "only options"],
  ];
  for (const [line, ...names] of mistakes) {
    const { message } = assertThrows(() => xhyve(line), ConfigError, undefined, line);
    for (const name of names) assert(message.includes(name), `${line}: ${message}`);
    assert(!message.includes("\n"), message);
  }
});

Deno.test("the page of -h has every option; -v and -h go before everything else", () => {
  for (const letter of Object.keys(LETTERS)) assert(xhyvePage().includes(`\n  -${letter} `), letter);
  // Those that xhyve and hyperkit have.
  assertEquals(Object.keys(LETTERS).sort().join(""), [..."ACFHMPUWYbcefghlmpsuvwx"].sort().join(""));
  for (const line of xhyvePage().split("\n")) assert(line.length <= 100, line);
  assertEquals([translateXhyve(["-Ah"]).kind, translateXhyve(["-v", "-f", "x"]).kind], ["help", "version"]);
});

Deno.test("called as xhyve or hyperkit, trike takes their options at once", () => {
  assertEquals(asCalled(["-h"], "/usr/local/bin/xhyve"), ["xhyve", "-h"]);
  assertEquals(asCalled(["-v"], "hyperkit"), ["xhyve", "-v"]);
  for (const name of ["trike", "deno", undefined, "xhyve/trike"]) assertEquals(asCalled(["run"], name), ["run"]);
});

Deno.test("trike xhyve as a process: a machine, its notes, its MAC address, its file, its mistakes", () =>
  withFiles(async ({ dir, kernel }) => {
    const base = `-A -P -s 31,lpc -l com1,stdio -U 123e4567-e89b-12d3-a456-426614174000 -s 2:0,virtio-net`;
    const machine = ["xhyve", ...words(base), "-f", `kexec,${kernel},,say=up then=poweroff`, "-F", `${dir}/pid`];
    const named = `${dir}/xhyve`;
    await Deno.symlink(Deno.execPath(), named);
    const called = new Deno.Command(named, { args: ["run", "--quiet", "--no-prompt", "--no-check", TRIKE, "-v"] })
      .output();
    const [run, mac, printed, missing, version] = await Promise.all([
      trike(machine, { allow: ["--allow-read", "--allow-write", "--allow-net"] }),
      trike([...machine, "-M"], { program: TRIKE, allow: [] }),
      trike(["config", ...machine], { program: TRIKE, allow: [] }),
      trike(["xhyve", ...words(base), "-f", `kexec,${dir}/gone`], { program: TRIKE, allow: ["--allow-read"] }),
      called,
    ]);
    assertEquals([run.code, run.stdout], [0, "up"]);
    assertEquals(run.stderr.split("\n").filter((line) => line.startsWith("trike: -")).length, 1, run.stderr);
    assert(run.stderr.includes("trike: -P: "), run.stderr);
    assert(/^MAC: 02(:[0-9a-f]{2}){5}\n$/.test(mac.stdout), mac.stdout);
    const config = JSON.parse(printed.stdout);
    assertEquals([config.kernel, config.memory, config["no-reboot"]], [kernel, "256M", true]);
    assertEquals(missing.code, 2);
    assert(missing.stderr.includes(`trike: -f kexec "${dir}/gone": expected a file`), missing.stderr);
    assert(/^trike \d/.test(new TextDecoder().decode(version.stdout)), "called as xhyve it knows -v");
  }));
