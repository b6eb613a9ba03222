/** Figures, what is made of them, and how they are printed. */

/** `s/op`: seconds of an operation. */
export type Unit = "s" | "s/op" | "MiB" | "%" | "×" | "Mb/s";

/** One line of the table: samples of either contender, or why there are none. */
export interface Row {
  readonly bench: string;
  readonly name: string;
  readonly about: string;
  readonly unit: Unit;
  readonly trike: readonly number[];
  readonly qemu: readonly number[];
  /** What keeps the row from counting: a contender failed, or the two do not agree. */
  readonly failure?: string;
  readonly goal?: Goal;
}

/** `ratio`: of trike's median to QEMU's; `trike`: of trike's median alone. */
export interface Goal {
  readonly of: "ratio" | "trike";
  readonly atMost?: number;
  readonly atLeast?: number;
}

/** The geometric mean of a bench's ratios. */
export interface Mean {
  readonly bench: string;
  readonly title: string;
  readonly ratio: number | null;
  readonly goal: Goal;
}

export interface Report {
  readonly rows: readonly Row[];
  readonly means: readonly Mean[];
}

export function median(numbers: readonly number[]): number | null {
  if (numbers.length === 0) return null;
  const sorted = [...numbers].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** Of trike's median to QEMU's; null where there is none. */
export function ratio(row: Row): number | null {
  const ours = median(row.trike), theirs = median(row.qemu);
  return row.failure !== undefined || ours === null || theirs === null || theirs === 0 ? null : ours / theirs;
}

export function geometricMean(numbers: readonly number[]): number | null {
  if (numbers.length === 0) return null;
  return Math.exp(numbers.reduce((sum, one) => sum + Math.log(one), 0) / numbers.length);
}

/** A mean without one of its rows would flatter: then there is none. */
export function meanOf(rows: readonly Row[]): number | null {
  const ratios = rows.map(ratio);
  return ratios.every((one) => one !== null) ? geometricMean(ratios) : null;
}

/** Null where there is nothing to judge. */
export function met(value: number | null, goal: Goal | undefined): boolean | null {
  if (value === null || goal === undefined) return null;
  return goal.atMost !== undefined ? value <= goal.atMost : value >= goal.atLeast!;
}

export function rowMet(row: Row): boolean | null {
  if (row.goal === undefined) return null;
  if (row.failure !== undefined) return false;
  return met(row.goal.of === "ratio" ? ratio(row) : median(row.trike), row.goal);
}

export function goalText(goal: Goal | undefined): string {
  if (goal === undefined) return "";
  return goal.atMost !== undefined ? `≤ ${goal.atMost.toFixed(2)}` : `≥ ${goal.atLeast!.toFixed(2)}`;
}

export function valueText(value: number | null, unit: Unit): string {
  if (value === null) return "–";
  if (unit === "s") return value < 0.1 ? `${(value * 1000).toFixed(1)} ms` : `${value.toFixed(2)} s`;
  if (unit === "s/op") return value < 1e-3 ? `${(value * 1e6).toFixed(0)} µs` : `${(value * 1000).toFixed(2)} ms`;
  if (unit === "MiB" || unit === "Mb/s") return `${value.toFixed(0)} ${unit}`;
  return `${value.toFixed(2)} ${unit}`;
}

/** The report as lines of a table, also valid Markdown. */
export function table({ rows, means }: Report): string[] {
  const cells: string[][] = [["bench", "what", "trike", "QEMU", "ratio", "goal", ""]];
  const verdict = (is: boolean | null) => is === null ? "" : is ? "met" : "missed";
  for (const row of rows) {
    const goal = row.goal === undefined ? "" : goalText(row.goal) + (row.goal.of === "trike" ? " (trike)" : "");
    cells.push([
      row.name,
      row.about,
      valueText(median(row.trike), row.unit),
      valueText(median(row.qemu), row.unit),
      ratio(row)?.toFixed(2) ?? "–",
      goal,
      row.failure === undefined ? verdict(rowMet(row)) : `FAILED: ${row.failure.replaceAll("|", "/")}`,
    ]);
  }
  for (const { title, ratio, goal } of means) {
    const is = met(ratio, goal);
    cells.push([title, "geometric mean", "", "", ratio?.toFixed(2) ?? "–", goalText(goal), verdict(is)]);
  }
  const widths = cells[0]!.map((_, column) => Math.max(3, ...cells.map((row) => row[column]!.length)));
  widths[6] = 3; // what is last may be as long as it likes
  const line = (row: readonly string[]) =>
    `| ${row.map((cell, n) => n >= 2 && n <= 5 ? cell.padStart(widths[n]!) : cell.padEnd(widths[n]!)).join(" | ")} |`;
  const rule = `|${
    widths.map((width, n) => "-".repeat(width + (n >= 2 && n <= 5 ? 1 : 2)) + (n >= 2 && n <= 5 ? ":" : ""))
      .join("|")
  }|`;
  return [line(cells[0]!), rule, ...cells.slice(1).map(line)];
}
