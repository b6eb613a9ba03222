/**
 * The guest of a soak: the bench's, with scripts that compile and run programs for ever on every processor, and what those
 * programs print when this host's compiler and processor make and run them.
 */
import { join } from "@std/path";
import { benchInitrd, programOf } from "../../scripts/bench/guest.ts";
import { HostError } from "../../src/base/errors.ts";
import { CpioWriter } from "../../src/guest/cpio.ts";
import { defaultGuest } from "../../src/guest/default_guest.ts";
import type { Progress } from "../../src/guest/progress.ts";
import { VARIANTS, variantSource } from "./program.ts";

const SOURCES = new URL("../bench/programs/", import.meta.url).pathname;

/** Programs of the bench that print the same number on any processor; the others need the guest's own files or kernel. */
// deno-fmt-ignore
const PURE = [
  "fib", "crc32", "qsort", "sieve", "dispatch", "memory", "xorshift", "nbody", "mandelbrot", "matmul",
] as const;
const OTHERS = ["pipe", "fork", "exec", "signal", "pagefault", "parallel", "getpid", "devzero"] as const;

/** `work N`: one line `SOAK worker round what value` a result, for ever. */
const WORK = `#!/bin/sh
me=$1 n=0
mkdir -p /tmp/w$me && cd /tmp/w$me || exit 1
sum() { md5sum | cut -c1-32; }
say() { echo "SOAK $me $n $1 $2"; }
fail() { echo "SOAK-FAIL $me $n $1 status $2"; }
set -- ${[...PURE, ...OTHERS].join(" ")}
while :; do
  v=$(((n + me * ${VARIANTS / 2}) % ${VARIANTS}))
  if tcc -o p /bench/src/integer.c /bench/src/compiled.c; then
    say tcc.file $(sum <p)
    ./p >out || fail tcc.run $?
    say tcc.out $(sum <out)
  else fail tcc $?; fi
  tcc -run /soak/v$v.c >out || fail run.$v $?
  say run.$v $(sum <out)
  tcc -o q /soak/v$v.c && ./q >out || fail file.$v $?
  say run.$v $(sum <out)
  perl -e 'my %h; $h{$_ * 7919 % 10007} .= chr(65 + $_ % 26) for 1 .. 6000;
    my $t = join ",", map { "$_$h{$_}" } sort { $a <=> $b } keys %h; $t =~ s/(\\d)([A-M])/$2$1/g; print $t' >out || fail perl $?
  say perl $(sum <out)
  cat /bench/src/*.c /soak/*.c >text
  gzip -c text >text.gz && gunzip -c text.gz >text.back && cmp text text.back || fail gzip $?
  say gzip $(sum <text.gz)
  eval name=\\\${$((n * 2 % $# + me % 2 + 1))}
  [ -n "$name" ] && { /bench/bench $name >out || fail $name $?; say bench.$name $(cut -d' ' -f4 <out); }
  n=$((n + 1))
done
`;

/** `SOAK-CLOCK`: CLOCK_MONOTONIC in ns, jiffies, then KiB of memory: free, available, of the kernel's slabs. */
const CLOCK = `#!/bin/sh
while :; do
  awk '/^now at/ { now = $3 } /^jiffies:/ { jiffies = $2 } /^MemFree:/ { free = $2 } /^MemAvailable:/ { available = $2 }
    /^Slab:/ { slab = $2 } END { print "SOAK-CLOCK", now, jiffies, free, available, slab }' /proc/timer_list /proc/meminfo
  sleep 10
done
`;

export interface SoakGuest {
  readonly kernel: string;
  readonly initrd: string;
  readonly append: string;
  /** What has been computed here: by the same names as in the guest's lines. */
  readonly expected: ReadonlyMap<string, string>;
}

/** Files go into `folder`, which is the caller's. */
export async function soakGuest(folder: string, cpus: number, progress: Progress): Promise<SoakGuest> {
  const guest = await defaultGuest(progress), bench = await benchInitrd(guest, true, progress);
  const cpio = new CpioWriter();
  cpio.file("soak/work", WORK, 0o755);
  cpio.file("soak/clock", CLOCK, 0o755);
  for (let v = 0; v < VARIANTS; v++) cpio.file(`soak/v${v}.c`, variantSource(v));
  const first = await Deno.readFile(bench), second = cpio.finish();
  const whole = new Uint8Array(first.length + second.length);
  whole.set(first);
  whole.set(second, first.length);
  const initrd = join(folder, "initrd");
  await Deno.writeFile(initrd, whole);
  const start = ["sh /soak/clock & ", ...Array.from({ length: cpus }, (_, n) => `sh /soak/work ${n} & `), "wait"];
  // Not quiet: what the kernel complains about is to be seen.
  const append = `console=ttyS0 loglevel=7 trike.exec=${btoa(start.join(""))}`;
  return { kernel: guest.kernel, initrd, append, expected: await expectedResults(folder, programOf(bench)) };
}

async function expectedResults(folder: string, bench: string): Promise<Map<string, string>> {
  const expected = new Map<string, string>();
  for (let v = 0; v < VARIANTS; v++) {
    const source = join(folder, `v${v}.c`), program = join(folder, `v${v}`);
    await Deno.writeTextFile(source, variantSource(v));
    await run("gcc", ["-O1", "-fwrapv", "-o", program, source]);
    expected.set(`run.${v}`, await md5(await run(program, [])));
  }
  const program = join(folder, "compiled"), files = ["integer.c", "compiled.c"].map((name) => SOURCES + name);
  await run("gcc", ["-O2", "-o", program, ...files]);
  expected.set("tcc.out", await md5(await run(program, [])));
  const native = join(folder, "bench");
  await Deno.copyFile(bench, native);
  await Deno.chmod(native, 0o755);
  for (const name of PURE) {
    const said = new TextDecoder().decode(await run(native, [name]));
    expected.set(`bench.${name}`, said.trim().split(" ")[3]!);
  }
  return expected;
}

async function run(program: string, args: readonly string[]): Promise<Uint8Array<ArrayBuffer>> {
  const { success, code, stdout, stderr } = await new Deno.Command(program, {
    args: [...args],
    stdout: "piped",
    stderr: "piped",
  })
    .output();
  if (success) return stdout;
  throw new HostError(`${program} ended with status ${code}: ${new TextDecoder().decode(stderr).trim().slice(0, 300)}`);
}

async function md5(data: Uint8Array<ArrayBuffer>): Promise<string> {
  const { createHash } = await import("node:crypto");
  return createHash("md5").update(data).digest("hex");
}
