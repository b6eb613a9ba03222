import { assert, assertEquals, assertThrows } from "@std/assert";
import { HostError } from "../../src/base/errors.ts";
import { JOBS, jobScript, parseTerse, SETUPS } from "./disk.ts";
import { neededLibraries } from "./elf_needed.ts";
import { valueText } from "./figures.ts";

/** As fio 3.33 writes it: a job's name, then 41 fields of what was read and 41 of what was written. */
function terse(job: string, error: number, read: readonly number[], written: readonly number[]): string {
  const direction = (first: readonly number[]) => [...first, ...Array(41 - first.length).fill(0)];
  return ["3", "fio-3.33", job, 0, error, ...direction(read), ...direction(written), "0.1%"].join(";");
}

Deno.test("a line of fio's terse format gives the time of a KiB, whichever way it went", () => {
  assertEquals(parseTerse(terse("read", 0, [2048, 1024, 1, 2000], [])), { job: "read", seconds: 2 / 2048 });
  assertEquals(parseTerse(terse("write", 0, [], [512, 1024, 1, 500])), { job: "write", seconds: 0.5 / 512 });
  assertEquals(parseTerse("[    3.5] some line; of; the; kernel"), null);
});

Deno.test("a job that failed, or did nothing, is no figure", () => {
  assertThrows(() => parseTerse(terse("read", 5, [2048, 1024, 1, 2000], [])), HostError, "read failed with error 5");
  assertThrows(() => parseTerse(terse("read", 0, [], [])), HostError, "did nothing");
});

Deno.test("every job waits for the one before it and works on the device", () => {
  const lines = jobScript("/dev/vdz", JOBS).split("\n");
  assertEquals(lines.filter((line) => line === "stonewall").length, JOBS.length);
  assert(lines.includes("filename=/dev/vdz"));
  assertEquals(new Set(JOBS.map(({ name }) => name)).size, JOBS.length);
  assertEquals(new Set(SETUPS.map(({ name }) => name)).size, 6);
});

/** A dynamic section that names two libraries, at a file offset that is not its address. */
function elf(): Uint8Array {
  const bytes = new Uint8Array(512), view = new DataView(bytes.buffer);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setBigUint64(0x20, 64n, true); // e_phoff
  view.setUint16(0x36, 56, true); // e_phentsize
  view.setUint16(0x38, 2, true); // e_phnum
  const segment = (n: number, type: number, offset: number, address: number, size: number) => {
    const at = 64 + n * 56;
    view.setUint32(at, type, true);
    [offset, address, address, size].forEach((v, i) => view.setBigUint64(at + 8 + 8 * i, BigInt(v), true));
  };
  segment(0, 1, 256, 0x1000, 256);
  segment(1, 2, 256, 0x1000, 64);
  const dynamic = [[1, 1], [5, 0x1000 + 128], [1, 11], [0, 0]];
  dynamic.flat().forEach((v, i) => view.setBigUint64(256 + 8 * i, BigInt(v), true));
  bytes.set(new TextEncoder().encode("\0libm.so.6\0libc.so.6\0"), 384);
  return bytes;
}

Deno.test("the libraries of a program are those that its dynamic section names", () => {
  assertEquals(neededLibraries(elf()), ["libm.so.6", "libc.so.6"]);
});

Deno.test("what is no whole ELF file is an error in words", () => {
  assertThrows(() => neededLibraries(new TextEncoder().encode("#!/bin/sh\n")), HostError, "no whole ELF file");
  assertThrows(() => neededLibraries(elf().subarray(0, 300)), HostError, "no whole ELF file");
});

Deno.test("a time of an operation is in microseconds, and from a millisecond on in those", () => {
  assertEquals([valueText(0.000215, "s/op"), valueText(0.00123, "s/op")], ["215 µs", "1.23 ms"]);
});
