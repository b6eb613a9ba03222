/** A machine as a file: read, merged with the command line, printed, and described by a schema. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { ConfigError } from "../../src/base/errors.ts";
import { CONFIG_KEYS, configText, readConfigText } from "../../src/cli/config.ts";
import { configSchema } from "../../src/cli/config_schema.ts";
import { OPTION_BY_NAME, RUN_OPTIONS } from "../../src/cli/options.ts";
import { parseCommandLine } from "../../src/cli/parse.ts";
import { TRIKE, trike, withFiles } from "./trike.ts";

/** The command `run`, with `text` as the file of --config. */
function run(text: string, ...args: string[]) {
  const command = parseCommandLine(["run", "--config", "vm/m.jsonc", ...args], (path) => readConfigText(text, path));
  if (command.kind !== "run") throw new Error(command.kind);
  return command.request;
}

function plain(...args: string[]) {
  const command = parseCommandLine(["run", ...args]);
  if (command.kind !== "run") throw new Error(command.kind);
  return command.request;
}

Deno.test("a file asks for what the same words on the command line do, its paths beside it", () => {
  const file = `{
    // a machine
    "$schema": "trike.schema.json",
    "kernel": "vmlinuz", "initrd": "/boot/initrd", "append": "root=/dev/vda",
    "memory": "1G", "cpus": 2, "timeout": 1.5, /* seconds */
    "disk": ["a.img", "b,,c.img,readonly", { "file": "d,e.img", "overlay": true, "readonly": false,
      "format": "qcow2", "discard": true, "serial": 7 }],
    "net": "user,restrict,pcap=p.pcap,tftp=t,bootfile=b,rom=r",
    "publish": "8080:80",
    "serial": ["none", "file:com2.log", "unix:/run/com3"],
    "vnc": { "address": "5900", "password": "secret" },
    "trace": "pio:t.trace",
    "no-reboot": true, "icount": false,
  }`;
  assertEquals(
    run(file),
    // deno-fmt-ignore
    plain("--kernel", "vm/vmlinuz", "--initrd", "/boot/initrd", "--append", "root=/dev/vda", "--memory", "1G",
      "--cpus", "2", "--timeout", "1.5", "--disk", "vm/a.img", "--disk", "vm/b,,c.img,readonly",
      "--disk", "vm/d,,e.img,overlay,format=qcow2,discard=on,serial=7", "--net", "user,restrict,pcap=vm/p.pcap,tftp=vm/t,bootfile=b,rom=vm/r",
      "--publish", "8080:80", "--serial", "none", "--serial", "file:vm/com2.log", "--serial", "unix:/run/com3",
      "--vnc", "5900,password=vm/secret", "--trace", "pio:vm/t.trace", "--no-reboot"),
  );
  assertEquals(run(`{"memory": ${1 << 29}}`), plain("--memory", "512M"));
});

Deno.test("what is on the command line counts, and stands in place of all that the file says of it", () => {
  const file = `{ "memory": "1G", "cpus": 2, "disk": ["a", "b"], "quiet": true }`;
  assertEquals(
    run(file, "--memory", "2G", "--disk", "c"),
    plain("--memory", "2G", "--cpus", "2", "--disk", "c", "--quiet"),
  );
});

Deno.test("a mistake in a file is one sentence that names the file, the place in it, and what was expected", () => {
  const mistakes: [string, ...string[]][] = [
    [`{"memory": "12Q"}`, `"vm/m.jsonc" at /memory "12Q": expected a size`],
    [`{"cpus": 65}`, `"vm/m.jsonc" at /cpus "65": expected a whole number from 1 to 64`],
    [`{"cpus": true}`, `at /cpus: found "true", expected text or a number`],
    [`{"icount": "yes"}`, `at /icount: found "yes", expected true or false`],
    [`{"disk": ["a", "b,oops"]}`, `"vm/m.jsonc" at /disk/1 "vm/b,oops": expected`],
    [`{"disk": ["a", 7]}`, `at /disk/1: found "7", expected text or an object`],
    [`{"disk": {"readonly": true}}`, `at /disk/file: found "null", expected text`],
    [`{"disk": {"file": "a", "readonyl": true}}`, `at /disk/readonyl`, `did you mean readonly?`],
    [`{"disk": {"file": "a", "readonly": "no"}}`, `at /disk/readonly: found "no", expected true or false`],
    [`{"kernel": ["a"]}`, `at /kernel`, `one value`],
    [`{"memroy": "1G"}`, `at /memroy: unknown key "memroy"; did you mean memory?`],
    [`{"config": "b.jsonc"}`, `at /config: unknown key`],
    [`{"a/b~c": 1}`, `at /a~1b~0c`],
    [`[]`, `at /: found "[]"`],
    [`{"memory": }`, `"vm/m.jsonc", line 1, column 12: expected JSON`],
    [`{\n "cpus": 1\n "memory": 2}`, `line 3, column 2: expected JSON`],
    [`{"cpus": 1`, `"vm/m.jsonc": expected JSON, and it ends too early`],
    [`{"__proto__": 1}`, `unknown key "__proto__"`],
    ["[".repeat(100_000), "less deeply nested"],
  ];
  for (const [text, ...names] of mistakes) {
    const { message } = assertThrows(() => run(text), ConfigError);
    for (const name of names) assert(message.includes(name), `${text.slice(0, 80)}: ${message}`);
    assert(!message.includes("\n") && message.length < 400, message);
  }
  // What was wrong in the file is no mistake once the command line says otherwise.
  run(`{"memory": "12Q"}`, "--memory", "1G");
});

Deno.test("what trike config prints makes the same machine", () => {
  // deno-fmt-ignore
  const words = ["--kernel", "k", "--append", "a \"b\"", "--memory", "1.5G", "--cpus", "3", "--disk", "a,,b,readonly",
    "--disk", "c", "--serial", "none", "--serial", "pty", "--timeout", "0.5", "--icount", "-q", "--engine", "soft"];
  const command = parseCommandLine(["config", ...words]);
  if (command.kind !== "config") throw new Error(command.kind);
  const printed = configText(command.given);
  const again = parseCommandLine(["run", "--config", "x"], (path) => readConfigText(printed, path));
  if (again.kind !== "run") throw new Error(again.kind);
  assertEquals(again.request, plain(...words));
  assertEquals(JSON.parse(configText(new Map())), { memory: "512M", cpus: 1, engine: "auto", serial: ["stdio"] });
});

Deno.test("the schema has every option of run that a file may have, and the defaults and limits of the parser", () => {
  const { properties } = configSchema() as { properties: Record<string, Record<string, unknown>> };
  assertEquals(Object.keys(properties), ["$schema", ...CONFIG_KEYS]);
  const all = Object.values(RUN_OPTIONS).flatMap((group) => Object.keys(group));
  assertEquals(all.filter((name) => !CONFIG_KEYS.includes(name)), ["config", "help", "version"]);
  for (const [name, property] of Object.entries(properties)) {
    if (name === "$schema") continue;
    assertEquals(property.type === "boolean", OPTION_BY_NAME[name]!.value === undefined, name);
    assert(typeof property.description === "string" && property.description !== "", name);
  }
  const { minimum, maximum } = properties.cpus!;
  assertEquals([plain("--cpus", `${minimum}`).cpus, plain("--cpus", `${maximum}`).cpus], [minimum, maximum]);
  assertThrows(() => plain("--cpus", `${Number(maximum) + 1}`), ConfigError);
  assertThrows(() => plain("--memory", `${Number(properties.memory!.maximum) + 4096}`), ConfigError);
  assertEquals(properties.memory!.default, "512M");
});

Deno.test("trike config: as a process, with a file beside the machine's others", () =>
  withFiles(async ({ dir }) => {
    await Deno.writeTextFile(`${dir}/m.jsonc`, `{ "memory": "64M", "disk": "root.img", "initrd": "gone" }`);
    await Deno.writeTextFile(`${dir}/bad.jsonc`, `{ "memory": 1 }`);
    const how = { allow: [`--allow-read=${dir}`], program: TRIKE };
    const [printed, schema, gone, missing, bad] = await Promise.all([
      trike(["config", "--config", `${dir}/m.jsonc`, "--cpus", "2"], how),
      trike(["config", "--schema"], { program: TRIKE, allow: [] }),
      trike(["run", "--config", `${dir}/m.jsonc`], how),
      trike(["run", "--config", `${dir}/none`], how),
      trike(["config", "--config", `${dir}/bad.jsonc`], how),
    ]);
    assertEquals(JSON.parse(printed.stdout), {
      initrd: `${dir}/gone`,
      memory: "64M",
      cpus: 2,
      disk: [`${dir}/root.img`],
      engine: "auto",
      serial: ["stdio"],
    });
    assertEquals([printed.code, schema.code, gone.code, missing.code, bad.code], [0, 0, 2, 2, 2]);
    assertEquals(JSON.parse(schema.stdout).$schema, "https://json-schema.org/draft/2020-12/schema");
    // Also what is only found when the host's files are looked at.
    assert(gone.stderr.startsWith(`trike: "${dir}/m.jsonc" at /initrd "${dir}/gone": expected a file`), gone.stderr);
    assert(missing.stderr.startsWith(`trike: --config "${dir}/none": expected a file`), missing.stderr);
    assert(bad.stderr.startsWith(`trike: "${dir}/bad.jsonc" at /memory "1": expected a size`), bad.stderr);
  }));
