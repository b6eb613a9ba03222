/**
 * `deno run --allow-read --allow-write scripts/picture.ts INPUT OUTPUT`: a still picture of a terminal, as SVG, from text with
 * ANSI colours (a recording of what the console printed, cut to what is to be seen).
 *
 * Understood: SGR 0, 1, 22, 30 to 37, 39, 90 to 97, carriage return, line feed, tabs. Other escape sequences are dropped.
 */
import { ConfigError, messageOf } from "../src/base/errors.ts";

interface Run {
  readonly text: string;
  readonly colour: number | null;
  readonly bold: boolean;
}

const COLOURS = [
  ...["#3b4252", "#bf616a", "#a3be8c", "#d8b36a", "#6f95c4", "#b48ead", "#6fb3b8", "#d8dee9"],
  ...["#6b7280", "#e08088", "#b9d7a0", "#ecce8e", "#8fb4e0", "#cfa8c8", "#8fd0d4", "#ffffff"],
];
const BACKGROUND = "#15181e", FOREGROUND = "#d8dee9";
const CELL = { width: 8.4, height: 18, size: 14 } as const;
const MARGIN = 14;
const TAB = 8;
// deno-lint-ignore no-control-regex
const ESCAPE = /\x1b(?:\[([0-9;?]*)([@-~])|\][^\x07\x1b]*(?:\x07|\x1b\\)|.)/g;

export function svgOf(recording: string): string {
  const lines = styledLines(recording);
  const columns = Math.max(1, ...lines.map((runs) => runs.reduce((n, { text }) => n + text.length, 0)));
  const width = Math.ceil(columns * CELL.width + 2 * MARGIN), height = lines.length * CELL.height + 2 * MARGIN;
  const rows = lines.map((runs, row) => {
    let column = 0;
    const spans = runs.map(({ text, colour, bold }) => {
      const x = (MARGIN + column * CELL.width).toFixed(1);
      const length = (text.length * CELL.width).toFixed(1);
      column += text.length;
      if (text.trim() === "") return "";
      const fill = colour === null ? "" : ` fill="${COLOURS[colour]}"`;
      const weight = bold ? ' font-weight="bold"' : "";
      return `<tspan x="${x}" textLength="${length}"${fill}${weight}>${escaped(text)}</tspan>`;
    });
    const y = MARGIN + row * CELL.height + CELL.size;
    return spans.some((span) => span !== "") ? `  <text y="${y}">${spans.join("")}</text>\n` : "";
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">
  <rect width="${width}" height="${height}" rx="6" fill="${BACKGROUND}"/>
  <g font-family="ui-monospace, Menlo, Consolas, monospace" font-size="${CELL.size}" fill="${FOREGROUND}" xml:space="preserve">
${rows.join("")}  </g>
</svg>
`;
}

/** Lines of runs of one style; what a carriage return went over is replaced. */
function styledLines(recording: string): Run[][] {
  const lines: Cell[][] = [[]];
  let at = 0, colour: number | null = null, bold = false;
  const put = (text: string) => {
    for (const char of text) {
      const line = lines.at(-1)!;
      if (char === "\n") {
        lines.push([]);
        at = 0;
      } else if (char === "\r") at = 0;
      else if (char === "\t") {
        for (const end = at - at % TAB + TAB; at < end; at++) line[at] ??= { char: " ", colour: null, bold: false };
      } else if (char >= " ") line[at++] = { char, colour, bold };
    }
  };
  let done = 0;
  for (const match of recording.matchAll(ESCAPE)) {
    put(recording.slice(done, match.index));
    done = match.index + match[0].length;
    if (match[2] !== "m") continue;
    for (const code of match[1]!.split(";").map(Number)) {
      if (code === 0) colour = null, bold = false;
      else if (code === 1 || code === 22) bold = code === 1;
      else if (code === 39) colour = null;
      else if (code >= 30 && code <= 37) colour = code - 30;
      else if (code >= 90 && code <= 97) colour = code - 82;
    }
  }
  put(recording.slice(done));
  while (lines.length > 1 && lines.at(-1)!.length === 0) lines.pop();
  return lines.map(runsOf);
}

interface Cell {
  readonly char: string;
  readonly colour: number | null;
  readonly bold: boolean;
}

function runsOf(cells: readonly Cell[]): Run[] {
  const runs: { text: string; colour: number | null; bold: boolean }[] = [];
  for (const { char, colour, bold } of cells) {
    const last = runs.at(-1);
    if (last && last.colour === colour && last.bold === bold) last.text += char;
    else runs.push({ text: char, colour, bold });
  }
  return runs;
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

if (import.meta.main) {
  try {
    const [input, output, ...rest] = Deno.args;
    if (input === undefined || output === undefined || rest.length > 0) {
      throw new ConfigError("Cannot make a picture: expected the names of a recording and of an SVG file");
    }
    await Deno.writeTextFile(output, svgOf(await Deno.readTextFile(input)));
  } catch (error) {
    console.error(messageOf(error));
    Deno.exit(error instanceof ConfigError ? 2 : 1);
  }
}
