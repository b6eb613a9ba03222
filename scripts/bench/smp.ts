/** Two vCPUs against one, on a job that can use both. */
import type { Boot, Contender } from "./contenders.ts";
import { median, type Row } from "./figures.ts";
import { type Outcome, runPrograms } from "./programs.ts";
import { PARALLEL, PARALLEL_GOAL } from "./suite.ts";

/** A row whose figures are how many times faster two vCPUs are. */
export async function benchSmp(
  contenders: readonly Contender[],
  boot: (limit: number, names: readonly string[]) => Boot,
  rounds: number,
  say: (line: string) => void,
): Promise<Row> {
  const speedups = { trike: [] as number[], qemu: [] as number[] };
  let failure: string | undefined;
  for (let round = 1; round <= rounds; round++) {
    for (const contender of contenders) {
      const run = async (cpus: number): Promise<Outcome> =>
        (await runPrograms(contender, (limit, names) => ({ ...boot(limit, names), cpus }), [PARALLEL])).get(
          PARALLEL.name,
        )!;
      const one = await run(1), two = await run(2);
      if ("failure" in one) failure ??= `${contender.name} with 1 vCPU: ${one.failure}`;
      else if ("failure" in two) failure ??= `${contender.name} with 2 vCPUs: ${two.failure}`;
      else if (one.checksum !== two.checksum) {
        failure ??= `${contender.name}: the checksums differ: ${one.checksum}, with 2 vCPUs ${two.checksum}`;
      } else speedups[contender.name].push(one.seconds / two.seconds);
      const last = median(speedups[contender.name].slice(-1));
      say(`smp ${round}/${rounds} ${contender.name}: ${last === null ? failure : `${last.toFixed(2)} ×`}`);
    }
  }
  return {
    bench: "smp",
    name: "2 vCPUs",
    about: "times faster than one, on a parallel job",
    unit: "×",
    ...speedups,
    goal: { of: "trike", atLeast: PARALLEL_GOAL },
    ...failure === undefined ? {} : { failure },
  };
}
