/** What a long task tells of itself: what it is at, and how much of that is done (0..1) where it knows. */
export type Progress = (what: string, fraction?: number) => void;

const WIDTH = 30;

/**
 * Progress on stderr: one line that is drawn over where stderr is a terminal, else a line per step. The finished line stays.
 */
export function stderrProgress(): Progress {
  const utf8 = new TextEncoder();
  const terminal = Deno.stderr.isTerminal();
  let current = "";
  let drawn = "";
  return (what, fraction) => {
    if (!terminal) {
      if (what !== current) Deno.stderr.writeSync(utf8.encode(`${what}\n`));
      current = what;
      return;
    }
    const line = fraction === undefined ? what : `${bar(fraction)} ${what}`;
    if (line === drawn) return;
    if (what !== current && current !== "") Deno.stderr.writeSync(utf8.encode("\n"));
    Deno.stderr.writeSync(utf8.encode(`\r\x1b[K${line}${fraction !== undefined && fraction >= 1 ? "\n" : ""}`));
    current = fraction !== undefined && fraction >= 1 ? "" : what;
    drawn = current === "" ? "" : line;
  };
}

function bar(fraction: number): string {
  const full = Math.round(Math.min(1, Math.max(0, fraction)) * WIDTH);
  return `[${"#".repeat(full)}${".".repeat(WIDTH - full)}] ${String(Math.floor(fraction * 100)).padStart(3)} %`;
}
