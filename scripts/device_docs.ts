/**
 * `deno task docs`: writes docs/devices.md from what the code declares: the parts list's addresses, each device's register
 * tables and its record. With `--check` it only says whether the page is as it would be written.
 */
import type { RegisterTable } from "../src/base/bus.ts";
import type { Field, Fields, RecordType } from "../src/base/record.ts";
import { PIRQS } from "../devices/pci/pirq.ts";
import { ADDRESS, IRQ, PIRQ_GSI, PORT, SLOT } from "../src/machine/pc.ts";
import { paths, ROOT } from "./tree.ts";

const PAGE = `${ROOT}docs/devices.md`;

const page = await format(`# The devices

Written by \`deno task docs\` from the code; edit that.

## Where they are

${list("I/O ports", PORT, hex)}
${list("Guest-physical addresses", ADDRESS, hex)}
${list("ISA interrupts", IRQ, String)}
${list("PCI devices of bus 0", SLOT, String)}
PCI's PIRQA to PIRQH are I/O APIC inputs ${PIRQ_GSI} to ${
  PIRQ_GSI + PIRQS - 1
}. Disks take the PCI devices from FIRST_DISK on.

## Registers and records

An access is \`rw\`, \`ro\` (writes are ignored), \`wo\` (reads as all ones), \`w1c\` (writing a one clears) or \`rc\`
(reading clears). A record is all that a device knows, and what a snapshot keeps of it; a change of its fields raises its
version.

${(await Promise.all(deviceFiles().map(section))).filter((text) => text !== "").join("\n")}`);

if (!Deno.args.includes("--check")) {
  await Deno.writeTextFile(PAGE, page);
} else if (await Deno.readTextFile(PAGE).catch(() => "") !== page) {
  console.error("docs/devices.md is not what the code declares: run `deno task docs`");
  Deno.exit(1);
}

function deviceFiles(): string[] {
  return paths([".ts"], "devices").filter((path) => !/(_test|fixture|driver)\.ts$/.test(path));
}

async function section(path: string): Promise<string> {
  const exports = Object.entries(await import(`${ROOT}${path}`) as Record<string, unknown>);
  const tables = exports.filter((entry): entry is [string, RegisterTable] => isRegisterTable(entry[1]));
  const records = exports.map(([, value]) => value).filter(isRecordType);
  if (tables.length === 0 && records.length === 0) return "";
  const parts = [`### \`${path}\``, heading(Deno.readTextFileSync(ROOT + path))];
  for (const [name, table] of tables) {
    const rows = Object.entries(table).map(([register, { at, width, access }]) =>
      `| ${register} | ${hex(at)} | ${width} | ${access} |`
    );
    parts.push(`\`${name}\`:`, ["| register | at | bytes | access |", "|---|---|---|---|", ...rows].join("\n"));
  }
  for (const { kind, version, sizeBytes, fields } of records) {
    const rows = Object.entries(fields).map(([name, field]) => `| ${name} | ${typeOf(field)} |`);
    parts.push(
      `Record \`${kind}\`, version ${version}, ${sizeBytes} bytes:`,
      ["| field | type |", "|---|---|", ...rows].join("\n"),
    );
  }
  return `${parts.join("\n\n")}\n`;
}

/** The first paragraph of a file's comment. */
function heading(text: string): string {
  const comment = /^\/\*\*([^]*?)\*\//.exec(text)?.[1] ?? "";
  const paragraph = comment.replace(/^[ \t]*\* ?/gm, "").trim().split(/\n\s*\n/)[0]!;
  return paragraph.replaceAll("\n", " ").replace(/ Spec:.*$/, "").trim();
}

function isRegisterTable(value: unknown): value is RegisterTable {
  if (typeof value !== "object" || value === null) return false;
  const rows = Object.values(value);
  return rows.length > 0 &&
    rows.every((row) => typeof row === "object" && row !== null && "at" in row && "width" in row && "access" in row);
}

function isRecordType(value: unknown): value is RecordType<Fields> {
  return typeof value === "object" && value !== null && "kind" in value && "fields" in value && "sizeBytes" in value;
}

function typeOf(field: Field): string {
  if (typeof field === "string") return field;
  const type = "array" in field ? `${field.length} × ${field.array}` : field.type;
  const notes = [
    ...field.max === undefined ? [] : [`at most ${hex(field.max)}`],
    ...field.reset === undefined ? [] : [`${field.reset === Infinity ? "never" : hex(field.reset)} at power-on`],
  ];
  return [type, ...notes].join(", ");
}

function list(
  title: string,
  entries: Readonly<Record<string, number | readonly number[]>>,
  print: (n: number) => string,
): string {
  const rows = Object.entries(entries).map(([name, value]) =>
    `| ${name} | ${(typeof value === "number" ? [value] : value).map(print).join(", ")} |`
  );
  return [`| ${title} | |`, "|---|---|", ...rows, ""].join("\n");
}

function hex(n: number): string {
  return n < 0 || !Number.isInteger(n) ? String(n) : `${n.toString(16).toUpperCase()}h`;
}

/** As `deno fmt` would have it, so that the page passes as any other. */
async function format(markdown: string): Promise<string> {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["fmt", "--ext", "md", "-"],
    cwd: ROOT,
    stdin: "piped",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(markdown));
  await writer.close();
  const { stdout, success } = await child.output();
  if (!success) throw new Error("deno fmt refused the page");
  return new TextDecoder().decode(stdout);
}
