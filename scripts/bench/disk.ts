/** fio in the guest, on a disk of each controller and format, beside QEMU's. Time per operation: IOPS and bandwidth are its inverse. */
import { HostError } from "../../src/base/errors.ts";
import { convertImage } from "../../src/host/disk/work.ts";
import type { Guest } from "../../src/guest/default_guest.ts";
import type { Progress } from "../../src/guest/progress.ts";
import type { Contender, DiskBoot } from "./contenders.ts";
import { type Mean, meanOf, type Row } from "./figures.ts";
import { fioInitrd } from "./fio.ts";
import { withScratchDisk } from "./scratch_disk.ts";
import { watch } from "./watch.ts";

/** More than the guest's memory, so that reading it all does not end in the guest's cache. */
const DISK_MIB = 640;
const SILENCE_SECONDS = 240;
/** The guest's clock is compared with the host's: lines of the console lie between the two. */
const CLOCK_SLACK_SECONDS = 0.5;
export const DISK_GOAL = 1;

/** A job of fio's. `direct`: past the guest's cache, for a time; else through it, so many bytes. */
interface Job {
  readonly name: string;
  readonly about: string;
  readonly lines: readonly string[];
}

const DIRECT = ["direct=1", "ioengine=libaio", "time_based=1", "ramp_time=300ms", "runtime=1500ms"];
const CACHED = ["direct=0", "ioengine=psync", "end_fsync=1"];

export const JOBS: readonly Job[] = [
  { name: "randread", about: "4 KiB random reads", lines: [...DIRECT, "rw=randread", "bs=4k"] },
  { name: "randread-32", about: "the same, 32 at once", lines: [...DIRECT, "rw=randread", "bs=4k", "iodepth=32"] },
  { name: "randwrite", about: "4 KiB random writes", lines: [...DIRECT, "rw=randwrite", "bs=4k"] },
  { name: "randwrite-32", about: "the same, 32 at once", lines: [...DIRECT, "rw=randwrite", "bs=4k", "iodepth=32"] },
  { name: "read", about: "1 MiB reads in order, 4 at once", lines: [...DIRECT, "rw=read", "bs=1m", "iodepth=4"] },
  { name: "write", about: "1 MiB writes in order, 4 at once", lines: [...DIRECT, "rw=write", "bs=1m", "iodepth=4"] },
  {
    name: "cached-randread",
    about: "4 KiB random reads by the cache",
    lines: [...CACHED, "rw=randread", "bs=4k", "io_size=24m"],
  },
  {
    name: "cached-randwrite",
    about: "4 KiB random writes by the cache, synced",
    lines: [...CACHED, "rw=randwrite", "bs=4k", "io_size=24m"],
  },
  { name: "cached-read", about: "1 MiB reads by the cache", lines: [...CACHED, "rw=read", "bs=1m", "io_size=512m"] },
  {
    name: "cached-write",
    about: "1 MiB writes by the cache, synced",
    lines: [...CACHED, "rw=write", "bs=1m", "io_size=192m"],
  },
];

/** A disk as the guest has it. */
interface Setup {
  readonly name: string;
  readonly title: string;
  readonly controller: "virtio" | "ahci" | "nvme";
  readonly format: "raw" | "qcow2";
  readonly device: string;
}

export const SETUPS: readonly Setup[] = (["raw", "qcow2"] as const).flatMap((format) => [
  { name: `virtio-${format}`, title: `virtio, ${format}`, controller: "virtio", format, device: "/dev/vda" },
  { name: `ahci-${format}`, title: `AHCI, ${format}`, controller: "ahci", format, device: "/dev/sda" },
  { name: `nvme-${format}`, title: `NVMe, ${format}`, controller: "nvme", format, device: "/dev/nvme0n1" },
]);

/** The guest's script: fio's jobs one after the other, between two looks at the guest's clock. */
export function jobScript(device: string, jobs: readonly Job[]): string {
  const file = [
    "[global]",
    `filename=${device}`,
    "randrepeat=1",
    "thread=1",
    "invalidate=1",
    ...jobs.flatMap(({ name, lines }) => [`[${name}]`, "stonewall", ...lines]),
  ];
  return [
    "cat >/tmp/jobs <<END",
    ...file,
    "END",
    "modprobe -q sd_mod",
    `for n in 1 2 3 4 5 6 7 8 9 10; do [ -b ${device} ] && break; sleep 0.5; done`,
    `[ -b ${device} ] || echo "FIO-FAIL there is no ${device}"`,
    "read -r up _ </proc/uptime; echo FIO-FROM $up",
    "fio --output-format=terse --terse-version=3 /tmp/jobs",
    "read -r up _ </proc/uptime; echo FIO-TO $up",
  ].join("\n");
}

/** Seconds per operation of a job, of a line of fio's terse format, version 3; null if it is none. */
export function parseTerse(line: string): { job: string; seconds: number } | null {
  const fields = line.split(";");
  if (fields[0] !== "3" || !/^fio-/.test(fields[1] ?? "") || fields.length < 87) return null;
  if (fields[4] !== "0") throw new HostError(`fio's job ${fields[2]} failed with error ${fields[4]}`);
  // The fields of reads begin at 5 and those of writes at 46: KiB in all, KiB/s, operations/s, milliseconds.
  const at = fields[5] !== "0" ? 5 : 46;
  const kib = Number(fields[at]), milliseconds = Number(fields[at + 3]);
  if (!(kib > 0) || !(milliseconds > 0)) throw new HostError(`fio's job ${fields[2]} did nothing`);
  return { job: fields[2]!, seconds: milliseconds / 1000 / kib };
}

/** Seconds per operation of each job, by name. */
async function measure(
  contender: Contender,
  guest: Guest,
  disk: DiskBoot,
  device: string,
  jobs: readonly Job[],
): Promise<Map<string, number>> {
  const append = `${guest.append} trike.exec=${btoa(jobScript(device, jobs))}`;
  const found = new Map<string, number>();
  let from: { guest: number; host: number } | null = null, failure: string | null = null;
  const line = (text: string, host: number) => {
    if (text.startsWith("FIO-FAIL ")) {
      failure = text.slice("FIO-FAIL ".length);
      return "stop" as const;
    }
    const clock = /^FIO-(FROM|TO) ([\d.]+)$/.exec(text);
    if (clock?.[1] === "FROM") from = { guest: Number(clock[2]), host };
    if (clock?.[1] === "TO" && from !== null) {
      const guestSeconds = Number(clock[2]) - from.guest, hostSeconds = host - from.host;
      if (Math.abs(guestSeconds - hostSeconds) > CLOCK_SLACK_SECONDS + 0.1 * hostSeconds) {
        failure = `the guest's clock says ${guestSeconds.toFixed(2)} s, the host's ${hostSeconds.toFixed(2)} s`;
      }
      return "stop" as const;
    }
    const done = parseTerse(text);
    if (done) found.set(done.job, done.seconds * (/\bbs=1m\b/.test(linesOf(done.job)) ? 1024 : 4));
  };
  const { end, said } = await watch(contender.command({ ...guest, append, disk }), { line }, SILENCE_SECONDS);
  if (failure !== null) throw new HostError(failure);
  if (jobs.every(({ name }) => found.has(name))) return found;
  throw new HostError(`${end} before fio told what it measured: ${said}`);
}

function linesOf(job: string): string {
  return JOBS.find(({ name }) => name === job)?.lines.join(" ") ?? "";
}

/** Each contender in turn, `rounds` times, on the same image. */
export async function benchDisk(
  setups: readonly Setup[],
  contenders: readonly Contender[],
  guestFor: (controller: Setup["controller"]) => Promise<Guest>,
  rounds: number,
  progress: Progress,
  say: (line: string) => void,
): Promise<{ rows: Row[]; means: Mean[] }> {
  const rows: Row[] = [], means: Mean[] = [];
  await withScratchDisk(DISK_MIB, async (raw) => {
    for (const setup of setups) {
      const plain = await guestFor(setup.controller);
      const guest = { ...plain, initrd: await fioInitrd(plain, progress) };
      const one = (path: string) => benchSetup(setup, path, contenders, guest, rounds, say);
      const found = setup.format === "raw" ? await one(raw) : await withQcow2(raw, one);
      rows.push(...found);
      const goal = { of: "ratio", atMost: DISK_GOAL } as const;
      means.push({ bench: "disk", title: setup.title, ratio: meanOf(found), goal });
    }
  });
  return { rows, means };
}

async function withQcow2<T>(raw: string, body: (path: string) => Promise<T>): Promise<T> {
  const path = `${raw}.qcow2`;
  try {
    convertImage({ path: raw, format: "raw" }, path, { format: "qcow2", compress: false });
    return await body(path);
  } finally {
    await Deno.remove(path);
  }
}

async function benchSetup(
  { name: setup, title, controller, format, device }: Setup,
  path: string,
  contenders: readonly Contender[],
  guest: Guest,
  rounds: number,
  say: (line: string) => void,
): Promise<Row[]> {
  const samples = JOBS.map(() => ({ trike: [] as number[], qemu: [] as number[] }));
  let failure: string | undefined;
  for (let round = 1; round <= rounds; round++) {
    for (const contender of contenders) {
      if (failure !== undefined) continue;
      try {
        const found = await measure(contender, guest, { path, controller, format }, device, JOBS);
        JOBS.forEach(({ name }, n) => samples[n]![contender.name].push(found.get(name)!));
        const texts = [...found].map(([name, seconds]) => `${name} ${(seconds * 1e6).toFixed(0)} µs`);
        say(`${setup} ${round}/${rounds} ${contender.name}: ${texts.join(", ")}`);
      } catch (error) {
        if (!(error instanceof HostError)) throw error;
        failure = `${contender.name}: ${error.message}`;
        say(`${setup} ${round}/${rounds} ${failure}`);
      }
    }
  }
  return JOBS.map(({ name, about }, n) => ({
    bench: "disk",
    name: `${title}: ${name}`,
    about,
    unit: "s/op",
    ...samples[n]!,
    goal: { of: "ratio", atMost: DISK_GOAL },
    ...failure === undefined ? {} : { failure },
  }));
}
