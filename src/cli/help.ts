/** The page `trike --help` prints. 100 columns at most. */
import { type Option, RESUME_OPTIONS, RESUME_SHARED, RUN_OPTIONS } from "./options.ts";

const COMMANDS = `Usage: trike run [OPTION]...   start a virtual machine, in the foreground
       trike resume FILE [OPTION]...
                               go on with a machine that was saved
       trike config [OPTION]...
                               print the machine that options of run make, as a file
                               for --config; with --schema, what such a file may hold
       trike xhyve [OPTION]... start one described in xhyve's words; 'trike xhyve -h' says more
       trike list [--json]     the machines that run with --name, and then
       trike stop NAME [--timeout SECONDS]
                               press its power button, and wait until it is off
       trike kill NAME         stop it at once
       trike console NAME      see and use its first serial port; Ctrl-A x leaves
       trike ip NAME           its address
       trike snapshot NAME FILE [--compress]
                               save it; it goes on
       trike screenshot NAME [FILE]
                               its display as a PNG, in FILE or NAME.png
       trike medium NAME [DRIVE] [FILE | --eject] [--force]
                               put another disc into its CD-ROM drive cd0, or take it out,
                               though the guest has locked it; or list the drives
       trike link NAME [up | down]
                               pull its network cable, or put it back; or tell
       trike publish NAME [[ADDR:]PORT:GUESTPORT[/udp]]... [--remove]
                               let clients of a port in, or no more; or list them
       trike guest             fetch the default guest and print where it is
       trike engines           list the engines and whether this host has them
       trike disk COMMAND      make, check, convert disk images; 'trike disk help' says more
       trike --help            print this page
       trike --version         print the version`;

const EXAMPLES = `Examples:
  trike run                                   a Linux shell
  trike run --kernel vmlinuz --initrd initrd.img --append "console=ttyS0 quiet" --memory 1G
  trike run --disk root.img --disk data.img,readonly --append root=/dev/vda
  trike run --snapshot-on-exit work.snapshot   keeps the machine when it is left, and
  trike resume work.snapshot                   goes on with it
  trike run --serial none --serial file:com2.log --timeout 60 --stats stats.json`;

const KEYS = `Console keys, when the console is a terminal:
  Ctrl-A x       stop the machine at once and leave
  Ctrl-A s       save the machine to --snapshot-on-exit's file, or to trike.snapshot, and go on
  Ctrl-A h       list these keys
  Ctrl-A Ctrl-A  send one Ctrl-A to the guest
  All other keys go to the guest, Ctrl-C too.`;

const STATUSES = `Exit status:
  0    the guest powered off, reset with --no-reboot, or was left by Ctrl-A x
  1    the host refused something
  2    a mistake on the command line
  3    the guest died (triple fault or panic); one line says what and where
  70   a defect in trike itself
  124  --timeout ran out
  137  stopped by 'trike kill'
  129  stopped because the terminal went away (SIGHUP)
  131  stopped by SIGQUIT
  130  stopped by SIGINT, and
  143  stopped by SIGTERM: the first signal presses the power button, and a guest that then powers
       off gives 0; after 30 seconds, or at the second signal, the machine is stopped
  A guest that writes N to the debug-exit port gives (N * 2 + 1) mod 256.`;

export function helpPage(): string {
  const groups = Object.entries(RUN_OPTIONS).map(([title, options]) =>
    `${title}:\n` + Object.entries(options).map(([name, option]) => entry(name, option)).join("")
  );
  return `trike: a virtual machine monitor for x86-64 guests

${COMMANDS}

Options of run follow; defaults stand in [brackets].

${groups.join("\n")}
Options of resume: ${wrapped(RESUME_SHARED.map((name) => `--${name}`))}.
Where they are not given, the machine is as it was saved. And:
${Object.entries(RESUME_OPTIONS).map(([name, option]) => entry(name, option)).join("")}
${KEYS}

${STATUSES}

${EXAMPLES}
`;
}

/** A list in lines of at most 96 columns, the first of which has begun. */
function wrapped(words: readonly string[]): string {
  let column = "Options of resume: ".length, text = "";
  for (const [i, word] of words.entries()) {
    const piece = i + 1 < words.length ? `${word},` : word;
    if (column + 1 + piece.length > 96) {
      text += `\n  ${piece}`;
      column = 2 + piece.length;
    } else {
      text += text === "" ? piece : ` ${piece}`;
      column += 1 + piece.length;
    }
  }
  return text;
}

const COLUMN = 22;

function entry(name: string, option: Option): string {
  const short = option.short === undefined ? "    " : `-${option.short}, `;
  const left = `  ${short}--${name}${option.value === undefined ? "" : ` ${option.value}`}`;
  const lines = option.help.map((line) => " ".repeat(COLUMN) + line);
  return left.length < COLUMN - 1
    ? left.padEnd(COLUMN) + lines.join("\n").trimStart() + "\n"
    : left + "\n" + lines.join("\n") + "\n";
}
