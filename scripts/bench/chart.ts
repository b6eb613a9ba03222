/** The ratios as an SVG: one bar a row from the line of QEMU's figure, to the left where trike is faster. */
import { met, ratio, type Report, type Row, rowMet } from "./figures.ts";

const LEFT = 170, RIGHT = 150, WIDTH = 860, LINE = 22, TOP = 70, BOTTOM = 50;
/** The axis: powers of two. */
const LOW = -3, HIGH = 3;

export function chart({ rows, means }: Report, machine: Readonly<Record<string, string>>): string {
  const lines: Line[] = [];
  for (const bench of new Set(rows.map((row) => row.bench))) {
    for (const row of rows.filter((row) => row.bench === bench && comparable(row))) {
      lines.push({ label: row.name, value: ratio(row), goal: row.goal?.atMost, met: rowMet(row), mean: false });
    }
    for (const mean of means.filter((mean) => mean.bench === bench)) {
      const { title, ratio: value, goal } = mean;
      lines.push({ label: title, value, goal: goal.atMost, met: met(value, goal), mean: true });
    }
  }
  const height = TOP + lines.length * LINE + BOTTOM;
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="sans-serif" font-size="13">`,
    `<style>text{fill:#222}.soft{fill:#777}.grid{stroke:#ddd}.even{stroke:#777}.goal{stroke:#222;stroke-width:2}` +
    `.faster{fill:#2a8f5b}.slower{fill:#c9622f}@media(prefers-color-scheme:dark){text{fill:#ddd}.soft{fill:#999}` +
    `.grid{stroke:#444}.even{stroke:#999}.goal{stroke:#eee}}</style>`,
    `<text x="16" y="24" font-size="16">trike beside QEMU's TCG: ratio of the times, smaller is better</text>`,
    `<text x="16" y="42" class="soft">A short upright line is the goal. The scale is logarithmic.</text>`,
  ];
  for (let power = LOW; power <= HIGH; power++) {
    const x = at(2 ** power), kind = power === 0 ? "even" : "grid";
    parts.push(`<line class="${kind}" x1="${x}" x2="${x}" y1="${TOP - 8}" y2="${height - BOTTOM}"/>`);
    parts.push(`<text class="soft" x="${x}" y="${TOP - 12}" text-anchor="middle">${2 ** power}</text>`);
  }
  lines.forEach((line, n) => parts.push(...bar(line, TOP + n * LINE)));
  const foot = ["processor", "qemu", "date"].map((key) => machine[key]).filter((text) => text !== undefined).join("; ");
  parts.push(`<text class="soft" x="16" y="${height - 18}">${escape(foot)}</text>`, "</svg>");
  return parts.join("\n") + "\n";
}

interface Line {
  readonly label: string;
  readonly value: number | null;
  readonly goal: number | undefined;
  readonly met: boolean | null;
  readonly mean: boolean;
}

/** Rows whose ratio says the same as the others': smaller is better. */
function comparable(row: Row): boolean {
  return row.unit === "s" || row.unit === "MiB";
}

function bar({ label, value, goal, met, mean }: Line, y: number): string[] {
  const weight = mean ? ` font-weight="bold"` : "";
  const parts = [`<text x="${LEFT - 10}" y="${y + 14}" text-anchor="end"${weight}>${escape(label)}</text>`];
  const even = at(1);
  if (value === null) {
    parts.push(`<text class="soft" x="${even + 8}" y="${y + 14}">no figure</text>`);
  } else {
    const x = at(value), kind = value <= 1 ? "faster" : "slower";
    const from = Math.min(x, even), width = Math.max(1, Math.abs(x - even));
    parts.push(`<rect class="${kind}" x="${from}" y="${y + 3}" width="${round(width)}" height="${LINE - 7}"/>`);
    const missed = met === false ? " (goal missed)" : "";
    const [textAt, anchor] = value <= 1 ? [x - 6, "end"] : [x + 6, "start"];
    parts.push(
      `<text x="${textAt}" y="${y + 14}" text-anchor="${anchor}"${weight}>${value.toFixed(2)}${missed}</text>`,
    );
  }
  if (goal !== undefined) {
    parts.push(`<line class="goal" x1="${at(goal)}" x2="${at(goal)}" y1="${y + 1}" y2="${y + LINE - 2}"/>`);
  }
  return parts;
}

function at(value: number): number {
  const power = Math.min(HIGH, Math.max(LOW, Math.log2(value)));
  return round(LEFT + (power - LOW) / (HIGH - LOW) * (WIDTH - LEFT - RIGHT));
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

export function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}
