/**
 * The command line: any words are a command or the user's mistake, told in one line. NUL bytes separate words. Behind "xhyve"
 * they are xhyve's, behind "file" a machine's file, behind "socket" a line on a control socket.
 */
import { ConfigError } from "../../src/base/errors.ts";
import { readConfigText } from "../../src/cli/config.ts";
import { toldFrom } from "../../src/cli/origins.ts";
import { parseCommandLine, readRequest } from "../../src/cli/parse.ts";
import { translateXhyve } from "../../src/cli/xhyve/translate.ts";
import { parseRequest } from "../../src/machine/control_socket_protocol.ts";
import type { Target } from "./target.ts";

const LINES = [
  "run --kernel vmlinuz --initrd initrd.img --append console=ttyS0 --memory 1.5G --cpus 1 --disk a,,b.img,readonly,format=raw",
  "run --serial stdio --serial file:x --serial unix:/run/x --serial pty --engine soft --icount -q --timeout 0.5",
  "run --trace exits,pio:x.trace --stats=stats.json --no-reboot --memory=2GiB",
  "xhyve -AH -c 2 -m 1G -s 0:0,hostbridge -s 31,lpc -l com1,autopty=x -s 2:0,virtio-net,mac=02:00:00:00:00:01 -f kexec,k,i,a",
  "xhyve -s 4,ahci-hd,file:///a%20b,ro,format=qcow -s 29,fbuf,tcp=127.0.0.1:5900,w=800,wait -l bootrom,x -U 1",
  'file {"memory":"1G","disk":["a",{"file":"b,c","readonly":true,"discard":true}],"timeout":1.5,"icount":false,/**/}',
  'socket {"do":"publish","forward":{"protocol":"tcp","address":"127.0.0.1","port":80,"guestPort":80}}',
  'socket {"do":"snapshot","path":"/x","compress":true}',
  "guest",
  "engines",
  "--help",
  "--version",
];

export const commandLine: Target = {
  name: "command_line",
  seeds: () => LINES.map((line) => new TextEncoder().encode(line.replaceAll(" ", "\0"))),
  fuzz(bytes) {
    try {
      read(new TextDecoder().decode(bytes).split("\0"));
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      // deno-lint-ignore no-control-regex
      if (/[\x00-\x1f\x7f]/.test(error.message)) throw new Error(`the message has control characters`);
    }
  },
};

function read(words: readonly string[]): void {
  const [first, ...rest] = words;
  if (first === "socket") parseRequest(rest.join(" "));
  else if (first === "file") {
    const { given, origins } = readConfigText(rest.join(" "), "vm/m.jsonc");
    toldFrom(origins, () => readRequest(given));
  } else if (first === "xhyve") {
    const command = translateXhyve(rest);
    if (command.kind !== "run") return;
    const { given, origins } = command.machine;
    toldFrom(origins, () => readRequest(given));
  } else parseCommandLine(words);
}
