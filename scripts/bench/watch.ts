/** Runs a contender and looks at what its guest prints. */

export interface Watched {
  /** `stopped`: the caller had what it wanted. */
  readonly end: "stopped" | "ended" | "silent";
  /** What it said last, for a message about its end. */
  readonly said: string;
}

/** Called for each line of the console, with the seconds since the process started. */
export interface Watcher {
  line(text: string, seconds: number, pid: number): void | "stop" | Promise<void | "stop">;
  /** Called with a line that has no end yet, as a prompt has none, each time that more of it comes. */
  unfinished?(text: string, seconds: number): void | "stop";
}

const TAIL = 400;

/** Ends the process when the watcher has seen enough, and when it is silent for `silence` seconds. */
export async function watch(command: readonly string[], watcher: Watcher, silence: number): Promise<Watched> {
  const [program, ...args] = command;
  const start = performance.now();
  const child = new Deno.Command(program!, { args, stdin: "piped", stdout: "piped", stderr: "piped" }).spawn();
  const complaint = new Response(child.stderr).text();
  let silent = false;
  const giveUp = () => {
    silent = true;
    kill(child);
  };
  let timer = setTimeout(giveUp, silence * 1000);
  const utf8 = new TextDecoder();
  let rest = "", tail = "", end: Watched["end"] = "ended";
  try {
    reading: for await (const chunk of child.stdout) {
      clearTimeout(timer);
      const seconds = (performance.now() - start) / 1000;
      const text = utf8.decode(chunk, { stream: true });
      tail = (tail + text).slice(-TAIL);
      const lines = (rest + text).split("\n");
      rest = lines.pop()!;
      for (const line of lines) {
        if (await watcher.line(line.replace(/\r+$/, ""), seconds, child.pid) === "stop") {
          end = "stopped";
          break reading;
        }
      }
      if (watcher.unfinished?.(rest, seconds) === "stop") {
        end = "stopped";
        break;
      }
      timer = setTimeout(giveUp, silence * 1000);
    }
  } finally {
    clearTimeout(timer);
    kill(child);
    await child.stdin.close().catch(() => {}); // gone with the process
    await child.status;
  }
  const said = (await complaint).trim() || tail.trim();
  return { end: silent ? "silent" : end, said: oneLine(said) };
}

function kill(child: Deno.ChildProcess): void {
  try {
    child.kill("SIGKILL");
  } catch {
    // it ended by itself
  }
}

function oneLine(text: string): string {
  // deno-lint-ignore no-control-regex
  return text.replace(/\x1b\[[0-9;?]*[A-Za-z]/g, "").replace(/[\s\x00-\x1f\x7f]+/g, " ").slice(-TAIL).trim();
}
