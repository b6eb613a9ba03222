/** A SATA controller with a disk at port 0 and a CD-ROM drive at port 1, and the driver's side of them: for tests. */
import { Arena } from "../src/base/arena.ts";
import { MachineLock } from "../src/base/lock.ts";
import { GuestRam } from "../src/base/ram.ts";
import { Ahci } from "./ahci.ts";
import { AHCI_HBA, AHCI_PORT, PORT_AT, PORT_BYTES } from "./ahci_registers.ts";
import type { BlockBackend } from "./block_backend.ts";
import { PciHost, PciHostRecord } from "./pci/host.ts";

export const SECTORS = 4096;
const BAR = 0xc0000000;
const DEVFN = 8;

/** A machine lock that tells whether it is held. */
export class CountingLock {
  held = false;
  taken = 0;
  readonly #lock = MachineLock.private();
  with(body: () => void): void {
    this.#lock.with(() => {
      this.taken++;
      this.held = true;
      body();
      this.held = false;
    });
  }
}

/** A disk in memory that can be told to fail, and writes down what is asked of it. */
export class MemoryDisk implements BlockBackend {
  readonly bytes: Uint8Array;
  readonly log: string[] = [];
  failing = false;
  /** Whether it wants to be told of reads before their turn. */
  waits = false;
  /** What is thrown at each call, if the machine lock is held: host I/O never happens under it. */
  readonly #lock: CountingLock | null;

  constructor(sectors: number, lock: CountingLock | null = null) {
    this.#lock = lock;
    this.bytes = new Uint8Array(512 * sectors).map((_, i) => (i >> 9) * 3 + i);
  }
  #note(what: string): void {
    if (this.#lock?.held) throw new Error(`${what} under the machine lock`);
    this.log.push(what);
  }
  read(offset: number, into: Uint8Array): boolean {
    this.#note(`read ${offset / 512}+${into.length / 512}`);
    if (!this.failing) into.set(this.bytes.subarray(offset, offset + into.length));
    return !this.failing;
  }
  announce(offset: number, sizeBytes: number): void {
    this.#note(`ahead ${offset / 512}+${sizeBytes / 512}`);
  }
  write(offset: number, from: Uint8Array): boolean {
    this.#note(`write ${offset / 512}+${from.length / 512}`);
    if (!this.failing) this.bytes.set(from, offset);
    return !this.failing;
  }
  flush(): boolean {
    this.#note("flush");
    return !this.failing;
  }
  discard(offset: number, sizeBytes: number): boolean {
    this.#note(`discard ${offset / 512}+${sizeBytes / 512}`);
    this.bytes.fill(0, offset, offset + sizeBytes);
    return !this.failing;
  }
  writeZeroes(offset: number, sizeBytes: number): boolean {
    this.#note(`zero ${offset / 512}+${sizeBytes / 512}`);
    this.bytes.fill(0, offset, offset + sizeBytes);
    return !this.failing;
  }
}

export interface Fis {
  readonly command: number;
  readonly lba?: number;
  readonly count?: number;
  readonly features?: number;
  readonly device?: number;
  /** Of a FIS that writes the control register only. */
  readonly control?: number;
}

export const LIST = 0x1000, FISES = 0x2000, TABLES = 0x3000, DATA = 0x10000;

export function ahciFixture() {
  const arena = Arena.private(), ram = GuestRam.private();
  const lock = new CountingLock();
  const host = new PciHost(arena.place("host", PciHostRecord));
  const messages: number[] = [];
  const rung: number[] = [];
  const disks = [new MemoryDisk(SECTORS, lock), new MemoryDisk(SECTORS, lock)];
  const dev = new Ahci(arena, "ahci", {
    ram,
    msi: { send: (_lo, _hi, data) => messages.push(data) },
    locked: (body) => lock.with(body),
    notify: (port) => rung.push(port),
  }, [
    { kind: "disk", sectors: SECTORS, readonly: false, serial: "S-1", discard: true },
    { kind: "cdrom", sectors: SECTORS, readonly: true, serial: "S-2", discard: false },
  ]);
  host.add(DEVFN >> 3, 0, dev);
  arena.powerOn();
  dev.settle();
  host.assignResources({ base: BAR, end: BAR + 0x100000 }, { base: 0x1000, end: 0x2000 });
  const config = (at: number, size: number, value: number) => host.ecam.write((DEVFN << 12) | at, size, value);
  config(4, 2, 6);
  const window = host.memoryWindow(BAR);
  const hba = (reg: keyof typeof AHCI_HBA, value?: number): number => {
    if (value !== undefined) window.write(AHCI_HBA[reg].at, 4, value);
    return window.read(AHCI_HBA[reg].at, 4);
  };
  const port = (n: number, reg: keyof typeof AHCI_PORT, value?: number): number => {
    const at = PORT_AT + PORT_BYTES * n + AHCI_PORT[reg].at;
    if (value !== undefined) window.write(at, 4, value);
    return window.read(at, 4);
  };
  const listOf = (n: number) => LIST + 0x400 * n, fisesOf = (n: number) => FISES + 0x100 * n;
  const tableOf = (n: number, slot: number) => TABLES + 0x2000 * n + 0x100 * slot;
  /** What a driver does before its first command [ahci §10.1.2]. */
  const start = (n: number): void => {
    port(n, "PxCLB", listOf(n));
    port(n, "PxFB", fisesOf(n));
    port(n, "PxCMD", 1 << 4);
    port(n, "PxSERR", 0xffffffff);
    port(n, "PxIS", 0xffffffff);
    hba("IS", 0xffffffff);
    port(n, "PxIE", 0xffffffff);
    port(n, "PxCMD", (1 << 4) | 1);
  };
  /** Lays a command out in a slot; `pieces` are where its data is. */
  const prepare = (
    n: number,
    slot: number,
    fis: Fis,
    pieces: readonly [gpa: number, bytes: number][],
    more: { packet?: number[]; write?: boolean } = {},
  ): void => {
    const header = listOf(n) + 32 * slot, table = tableOf(n, slot);
    ram.write(header, 4, ((pieces.length << 16) | (more.packet ? 0x20 : 0) | (more.write ? 0x40 : 0) | 5) >>> 0);
    ram.write(header + 4, 4, 0xdeadbeef);
    ram.write(header + 8, 4, table);
    ram.write(header + 12, 4, 0);
    const { lba = 0, count = 0, features = 0, device = 0x40 } = fis;
    const bytes = [
      0x27,
      fis.control === undefined ? 0x80 : 0,
      fis.command,
      features & 0xff,
      lba & 0xff,
      (lba >> 8) & 0xff,
      (lba >> 16) & 0xff,
      device,
    ];
    const high = Math.floor(lba / 0x1000000);
    bytes.push(
      high & 0xff,
      (high >> 8) & 0xff,
      (high >> 16) & 0xff,
      features >> 8,
      count & 0xff,
      count >> 8,
      0,
      fis.control ?? 0,
    );
    for (let i = 0; i < 20; i++) ram.write(table + i, 1, bytes[i] ?? 0);
    for (let i = 0; i < 12; i++) ram.write(table + 0x40 + i, 1, more.packet?.[i] ?? 0);
    pieces.forEach(([gpa, size], i) => {
      ram.write64(table + 0x80 + 16 * i, gpa);
      ram.write(table + 0x8c + 16 * i, 4, size - 1);
    });
  };
  /** Serves the ports that rang. */
  const serve = (): void => {
    for (const n of rung.splice(0)) while (dev.processPort(n, disks[n]!));
  };
  /** Runs one command in slot 0; returns the status and error registers. */
  const run = (
    n: number,
    fis: Fis,
    pieces: readonly [number, number][] = [],
    more: { packet?: number[]; write?: boolean } = {},
  ): { status: number; error: number } => {
    prepare(n, 0, fis, pieces, more);
    port(n, "PxCI", 1);
    serve();
    const tfd = port(n, "PxTFD");
    return { status: tfd & 0xff, error: tfd >> 8 };
  };
  return {
    arena,
    ram,
    host,
    dev,
    disks,
    messages,
    rung,
    config,
    hba,
    port,
    listOf,
    fisesOf,
    tableOf,
    start,
    prepare,
    serve,
    run,
  };
}
