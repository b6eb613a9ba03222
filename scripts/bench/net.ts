/** iperf3 in the guest, against a server on this host's loop-back, by the user network: QEMU's is libslirp. */
import { HostError } from "../../src/base/errors.ts";
import type { Guest } from "../../src/guest/default_guest.ts";
import type { Contender } from "./contenders.ts";
import type { Row } from "./figures.ts";
import { pathOf, withHostPrograms } from "./host_programs.ts";
import { watch } from "./watch.ts";

const SECONDS = 4;
const SILENCE_SECONDS = 120;
/** The least of libslirp's throughput that is wanted. */
const GOAL = 1;
const DIRECTIONS = [
  { name: "upload", about: "TCP from the guest to this host", flag: "" },
  { name: "download", about: "TCP from this host to the guest", flag: "-R" },
] as const;

function freePort(): number {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  listener.close();
  return port;
}

/** Megabits a second, by iperf3's own account of what was received. */
async function measure(contender: Contender, guest: Guest, port: number): Promise<number[]> {
  const runs = DIRECTIONS.map(({ name, flag }) =>
    `echo ${name} $(/host/iperf3 -c 10.0.2.2 -p ${port} -t ${SECONDS} -f m ${flag} | grep receiver)`
  );
  const append = `${guest.append} trike.exec=${btoa(runs.join("\n"))}`;
  const found = new Map<string, number>();
  const line = (text: string) => {
    const [, name, rate] = /^(\w+) .* ([\d.]+) Mbits\/sec\b.*receiver/.exec(text) ?? [];
    if (name !== undefined) found.set(name, Number(rate));
    return found.size === DIRECTIONS.length ? "stop" as const : undefined;
  };
  const { end, said } = await watch(contender.command({ ...guest, append, net: true }), { line }, SILENCE_SECONDS);
  const rates = DIRECTIONS.map(({ name }) => found.get(name));
  if (rates.every((rate) => rate !== undefined)) return rates;
  throw new HostError(`${end} before iperf3 told what it measured: ${said}`);
}

/** Each contender in turn, `rounds` times. More is better. */
export async function benchNet(
  contenders: readonly Contender[],
  guest: Guest,
  rounds: number,
  say: (line: string) => void,
): Promise<Row[]> {
  const folder = await Deno.makeTempDir({ prefix: "trike-bench-net-" });
  const port = freePort();
  let server: Deno.ChildProcess | null = null;
  const samples = DIRECTIONS.map(() => ({ trike: [] as number[], qemu: [] as number[] }));
  let failure: string | undefined;
  try {
    const initrd = await withHostPrograms(guest.initrd, ["iperf3"], folder);
    const args = ["-s", "-B", "127.0.0.1", "-p", `${port}`];
    server = new Deno.Command((await pathOf("iperf3"))!, { args, stdout: "null", stderr: "null" }).spawn();
    for (let round = 1; round <= rounds; round++) {
      for (const contender of contenders) {
        const rates = await measure(contender, { ...guest, initrd }, port);
        rates.forEach((rate, i) => samples[i]![contender.name].push(rate));
        const texts = rates.map((rate, i) => `${DIRECTIONS[i]!.name} ${rate} Mb/s`);
        say(`net ${round}/${rounds} ${contender.name}: ${texts.join(", ")}`);
      }
    }
  } catch (error) {
    if (!(error instanceof HostError)) throw error;
    failure = error.message;
    say(`net: ${failure}`);
  } finally {
    server?.kill("SIGTERM");
    await server?.status;
    await Deno.remove(folder, { recursive: true });
  }
  return DIRECTIONS.map(({ name, about }, i) => ({
    bench: "net",
    name,
    about,
    unit: "Mb/s",
    ...samples[i]!,
    goal: { of: "ratio", atLeast: GOAL },
    ...failure === undefined ? {} : { failure },
  }));
}
