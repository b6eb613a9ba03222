/** A flame graph as one SVG: what a stack holds is as wide as its share of the samples. */
import { escape } from "./chart.ts";

interface Frame {
  readonly name: string;
  count: number;
  readonly children: Map<string, Frame>;
}

const WIDTH = 1200, LINE = 20, TOP = 56, MARGIN = 10;
/** Narrower frames are not drawn. */
const MIN_WIDTH = 0.4;
const CHARACTER = 7;

/** `stacks`: frames from the outermost in, and how many samples had them. */
export function flameGraph(stacks: Iterable<readonly [readonly string[], number]>, title: string): string {
  const root: Frame = { name: "all", count: 0, children: new Map() };
  for (const [frames, count] of stacks) {
    let frame = root;
    frame.count += count;
    for (const name of frames) {
      let child = frame.children.get(name);
      if (!child) frame.children.set(name, child = { name, count: 0, children: new Map() });
      child.count += count;
      frame = child;
    }
  }
  const depth = depthOf(root), height = TOP + depth * LINE + MARGIN;
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="monospace" font-size="12">`,
    `<style>rect{stroke:#fff;stroke-width:.5}rect:hover{stroke:#000;stroke-width:1.5}text{pointer-events:none}</style>`,
    `<rect width="100%" height="100%" fill="#fbfaf7"/>`,
    `<text x="${MARGIN}" y="24" font-size="15">${escape(title)}</text>`,
    `<text x="${MARGIN}" y="42" fill="#777">${root.count} samples; point at a frame for its name and share</text>`,
  ];
  if (root.count > 0) draw(root, MARGIN, WIDTH - 2 * MARGIN, 0);
  return [...parts, "</svg>"].join("\n") + "\n";

  function draw(frame: Frame, x: number, width: number, level: number): void {
    if (width < MIN_WIDTH) return;
    const y = TOP + (depth - 1 - level) * LINE;
    const share = `${frame.name}: ${frame.count} samples, ${(100 * frame.count / root.count).toFixed(1)} %`;
    const box = `x="${round(x)}" y="${y}" width="${round(width)}" height="${LINE - 1}" fill="${
      colour(frame.name, level)
    }"`;
    parts.push(`<rect ${box}><title>${escape(share)}</title></rect>`);
    const room = Math.floor((width - 6) / CHARACTER);
    if (room >= 3) {
      const label = frame.name.length <= room ? frame.name : frame.name.slice(0, room - 1) + "…";
      parts.push(`<text x="${round(x + 3)}" y="${y + 14}">${escape(label)}</text>`);
    }
    let at = x;
    for (const child of [...frame.children.values()].sort((a, b) => b.count - a.count)) {
      const share = width * child.count / frame.count;
      draw(child, at, share, level + 1);
      at += share;
    }
  }
}

function depthOf(frame: Frame): number {
  return 1 + Math.max(0, ...[...frame.children.values()].map(depthOf));
}

/** Warm; the same name has the same colour in every graph. */
function colour(name: string, level: number): string {
  let hash = level;
  for (let n = 0; n < name.length; n++) hash = (hash * 31 + name.charCodeAt(n)) >>> 0;
  return `hsl(${15 + hash % 40},${70 + hash % 20}%,${62 + (hash >>> 8) % 14}%)`;
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
