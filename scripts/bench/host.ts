/** What the figures were measured on; the report as JSON, and as a part of a document. */
import { HostError } from "../../src/base/errors.ts";
import { firstLine, NATIVE_ENGINE, QEMU } from "./contenders.ts";
import { geometricMean, median, ratio, type Report, rowMet, table } from "./figures.ts";

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
    load: await firstLine("cut", "-d", " ", "-f1-3", "/proc/loadavg") ?? "unknown",
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

/** The disk's figures take as long as all others together, so they are measured, and told, apart. */
const BLOCKS = {
  all: { begin: "<!-- figures: deno task bench --docs -->\n", end: "<!-- end of figures -->", picture: true },
  disk: { begin: "<!-- disk: deno task bench disk --docs -->\n", end: "<!-- end of disk -->", picture: false },
  native: {
    begin: "<!-- native: deno task bench --engine soft:native --docs -->\n",
    end: "<!-- end of native -->",
    picture: false,
  },
} as const;
export type Block = keyof typeof BLOCKS;

/** The block for what is neither the disk's: that of the engine. */
export function mainBlock(engine: string): Block {
  return engine === NATIVE_ENGINE ? "native" : "all";
}

/** What of a report goes into a block of the document. */
export function partOf(report: Report, block: Block): Report {
  const mine = ({ bench }: { readonly bench: string }) => (bench === "disk") === (block === "disk");
  return { rows: report.rows.filter(mine), means: report.means.filter(mine) };
}

/** The document with the figures in place of those between the block's two comments. */
export function withFigures(
  page: string,
  report: Report,
  machine: Record<string, string>,
  rounds: number,
  block: Block = "all",
): string {
  const { begin: from, end: to, picture } = BLOCKS[block];
  const begin = page.indexOf(from), end = page.indexOf(to);
  if (begin < 0 || end < begin) throw new HostError(`Cannot put the figures in: expected ${from.trim()} and ${to}`);
  const facts = Object.entries(machine).map(([name, value]) => `- ${name}: ${value}`);
  const bars = picture ? ["![The ratios as bars](performance.svg)", ""] : [];
  const body = [...bars, ...facts, `- rounds: ${rounds}`, "", ...table(report)].join("\n");
  return `${page.slice(0, begin + from.length)}\n${body}\n\n${page.slice(end)}`;
}
