/** What the figures were measured on, and the report as JSON. */
import { firstLine, QEMU } from "./contenders.ts";
import { geometricMean, median, ratio, type Report, rowMet } from "./figures.ts";

export async function facts(engine: string, kernel: string): Promise<Record<string, string>> {
  const processor = await firstLine("sed", "-n", "s/^model name[^:]*: //p", "/proc/cpuinfo") ?? Deno.build.arch;
  const root = new URL("../../", import.meta.url).pathname;
  return {
    date: new Date().toISOString().slice(0, 10),
    processor: `${processor}, ${navigator.hardwareConcurrency} threads`,
    system: await firstLine("uname", "-sr") ?? Deno.build.os,
    trike: `${await firstLine("git", "-C", root, "describe", "--always", "--dirty") ?? "unknown"}, engine ${engine}`,
    deno: Deno.version.deno,
    qemu: await firstLine(QEMU, "--version") ?? "none",
    gcc: await firstLine("gcc", "--version") ?? "none",
    guest: kernel.split("/").at(-2) ?? kernel,
  };
}

export function reportJson(report: Report, machine: Record<string, string>, rounds: number): string {
  const rows = report.rows.map((row) => ({
    ...row,
    medians: { trike: median(row.trike), qemu: median(row.qemu) },
    ratio: ratio(row),
    met: rowMet(row),
  }));
  const all = rows.map((row) => row.unit === "s" ? row.ratio : null).filter((one) => one !== null);
  const whole = { ...machine, rounds, rows, means: report.means, geometricMeanOfTimes: geometricMean(all) };
  return JSON.stringify(whole, null, 2) + "\n";
}
