/**
 * The state a vCPU enters a kernel in: flat 32-bit protected mode, or long mode over an identity map of the first 4 GiB.
 *
 * Spec: [linux-boot] "32-bit boot protocol", "64-bit boot protocol"; [pvh] "CPU state"; [sdm3 §3.4.5, §4.5, §10.8.5].
 */
import type { GuestRam } from "../base/ram.ts";
import type { GprName, InitialState, SegmentState } from "../engine/engine.ts";
import { LOW } from "./low_memory.ts";

const CR0 = { PE: 1, ET: 1 << 4, NE: 1 << 5, WP: 1 << 16, PG: 0x80000000 } as const;
const CR4_PAE = 1 << 5;
const EFER = { LME: 1 << 8, LMA: 1 << 10 } as const;
const RFLAGS_ALWAYS = 2;

/** Linux's __BOOT_CS and __BOOT_DS, and after them the two slots of the task state. */
const CS = 0x10;
const DS = 0x18;
const TSS = 0x20;
const TSS_LIMIT = 0x67;

const LIMIT_4G = 0xffffffff;
const CODE64 = 0xa09b; // execute/read, accessed, present, L, G
const CODE32 = 0xc09b; // execute/read, accessed, present, D, G
const DATA = 0xc093; // read/write, accessed, present, B, G
const BUSY_TSS = 0x008b;

const PRESENT_WRITABLE = 0x3;
const LARGE = 1 << 7;
const TABLE_BYTES = 4096;

/** Flat 32-bit protected mode without paging. */
export function state32(ram: GuestRam, rip: number, gpr: Partial<Record<GprName, number>>): InitialState {
  writeGdt(ram, CODE32);
  return state(CODE32, { rip, gpr, cr0: CR0.PE | CR0.ET, cr3: 0, cr4: 0, efer: 0 });
}

/** Long mode; the first 4 GiB are mapped onto themselves with pages of 2 MiB. */
export function state64(ram: GuestRam, rip: number, gpr: Partial<Record<GprName, number>>): InitialState {
  writeGdt(ram, CODE64);
  writePageTables(ram);
  return state(CODE64, {
    rip,
    gpr,
    cr0: (CR0.PG | CR0.WP | CR0.NE | CR0.ET | CR0.PE) >>> 0,
    cr3: LOW.PAGE_TABLES,
    cr4: CR4_PAE,
    efer: EFER.LME | EFER.LMA,
  });
}

function state(
  code: number,
  given: Pick<InitialState, "rip" | "gpr" | "cr0" | "cr3" | "cr4" | "efer">,
): InitialState {
  const data: SegmentState = { selector: DS, base: 0, limit: LIMIT_4G, rights: DATA };
  return {
    ...given,
    gpr: { rsp: LOW.STACK_TOP, ...given.gpr },
    rflags: RFLAGS_ALWAYS,
    segments: {
      cs: { selector: CS, base: 0, limit: LIMIT_4G, rights: code },
      ds: data,
      es: data,
      fs: data,
      gs: data,
      ss: data,
      tr: { selector: TSS, base: LOW.TSS, limit: TSS_LIMIT, rights: BUSY_TSS },
    },
    gdtr: { base: LOW.GDT, limit: TSS + 16 - 1 },
    idtr: { base: 0, limit: 0 },
  };
}

function writeGdt(ram: GuestRam, code: number): void {
  writeDescriptor(ram, CS, 0, 0xfffff, code);
  writeDescriptor(ram, DS, 0, 0xfffff, DATA);
  writeDescriptor(ram, TSS, LOW.TSS, TSS_LIMIT, BUSY_TSS); // its upper half is zero: the base is below 4 GiB
}

/** `limit` in units of the granularity that `rights` says. */
function writeDescriptor(ram: GuestRam, selector: number, base: number, limit: number, rights: number): void {
  ram.write(LOW.GDT + selector, 4, ((limit & 0xffff) | (base << 16)) >>> 0);
  const high = ((base >>> 16) & 0xff) | (rights << 8) | (limit & 0xf0000) | (base & 0xff000000);
  ram.write(LOW.GDT + selector + 4, 4, high >>> 0);
}

/** One PML4, one page directory pointer table, four page directories. */
function writePageTables(ram: GuestRam): void {
  const pml4 = LOW.PAGE_TABLES;
  const pdpt = pml4 + TABLE_BYTES;
  const directories = pdpt + TABLE_BYTES;
  ram.write(pml4, 4, pdpt | PRESENT_WRITABLE);
  for (let i = 0; i < 4; i++) ram.write(pdpt + 8 * i, 4, (directories + i * TABLE_BYTES) | PRESENT_WRITABLE);
  for (let i = 0; i < 4 * 512; i++) {
    ram.write(directories + 8 * i, 4, (i * 0x200000 + (PRESENT_WRITABLE | LARGE)) >>> 0);
  }
}
