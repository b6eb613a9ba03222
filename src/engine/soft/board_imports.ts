/** What the generated CPU asks of the board, of time and of CPUID: answers go into S.answer or the registers. */
import type { ImportImpls } from "../../cpu/x86/imports.ts";
import { RAX, RBX, RCX, RDX, reg, S } from "../../cpu/x86/state.ts";
import { cpuidTable } from "../../cpu/x86/system/cpuid.ts";
import type { MsrFile } from "../../cpu/x86/system/msr.ts";
import type { VcpuParts } from "../engine.ts";
import type { SoftVcpu } from "./soft.ts";

const IA32_APIC_BASE = 0x1b, APIC_ENABLED = 1 << 11;

export interface BoardImportParts {
  readonly vcpu: SoftVcpu;
  readonly parts: VcpuParts;
  readonly vcpus: number;
  readonly msrs: MsrFile;
  /** Brings guest time up to this very instruction, where instructions make the time. */
  settle(): void;
  /** Called after a write that a device has taken, if not null. */
  readonly written: (() => void) | null;
}

export function boardImports(
  { vcpu, parts, vcpus, msrs, settle, written }: BoardImportParts,
): Omit<ImportImpls, "codeWrite" | "codeEvict" | "monitor"> {
  const { board, clock, icount, index } = parts;
  const cpuid = cpuidTable({
    vcpu: index,
    vcpus,
    cr4: () => vcpu.get("cr4"),
    xcr0: () => vcpu.get("xcr0"),
    ...(parts.cpu ? { model: parts.cpu } : {}),
    apicEnabled: () => !board.readMsr(index, IA32_APIC_BASE) || (board.msrLo & APIC_ENABLED) !== 0,
  });
  const answer = (lo: number, hi: number) => {
    vcpu.i32[(vcpu.base + S.answer) >> 2] = lo;
    vcpu.i32[(vcpu.base + S.answer + 4) >> 2] = hi;
  };
  // Without the bit by which the memory map marks what a device answers for.
  const address = (lo: number, hi: number) => (lo >>> 0) + (hi & 0xff) * 0x1_0000_0000;
  const random = new Uint32Array(2);
  return {
    ioRead: (port, size) => (settle(), board.ioRead(port, size) | 0),
    ioWrite: (port, size, value) => {
      settle();
      board.ioWrite(port, size, value >>> 0);
      written?.();
    },
    mmioRead: (lo, hi, size) => (settle(), board.mmioRead(address(lo, hi), size) | 0),
    mmioWrite: (lo, hi, size, value) => {
      settle();
      board.mmioWrite(address(lo, hi), size, value >>> 0);
      written?.();
    },
    readTsc: () => {
      settle();
      const ns = Math.floor(clock.nowNs()), lo = ns >>> 0, hi = Math.floor(ns / 0x1_0000_0000);
      answer(lo, hi);
      // With several vCPUs no counter may lag behind another.
      if (icount || vcpus > 1) return;
      vcpu.put("tscRead", lo);
      vcpu.put("tscRead", hi, 1);
      vcpu.put("tscBudget", vcpu.get("budget"));
      vcpu.put("tscKnown", 1);
    },
    cpuid: () => {
      const leaf = vcpu.i32[(vcpu.base + reg(0)) >> 2]! >>> 0, sub = vcpu.i32[(vcpu.base + reg(1)) >> 2]! >>> 0;
      const out = cpuid(leaf, sub);
      [RAX, RBX, RCX, RDX].forEach((n, i) => vcpu.put64("gpr", out[i]! >>> 0, n));
    },
    readMsr: (msr) => {
      settle();
      if (!msrs.read(msr >>> 0)) return 0;
      answer(msrs.lo, msrs.hi);
      return 1;
    },
    writeMsr: (msr, lo, hi) => {
      settle();
      return msrs.write(msr >>> 0, lo >>> 0, hi >>> 0) ? 1 : 0;
    },
    readTpr: () => board.readTpr(index),
    writeTpr: (value) => board.writeTpr(index, value),
    random: () => {
      // Runs that count instructions repeat exactly: the count is then the seed.
      if (icount) scatter(vcpu.retired, random);
      else crypto.getRandomValues(random);
      answer(random[0]!, random[1]!);
    },
  };
}

/** Two words that tell of `n` and look like nothing, the same each time; murmur3's finalizer twice. Not for secrets. */
function scatter(n: number, into: Uint32Array): void {
  let word = n % 0x1_0000_0000 ^ Math.imul(Math.floor(n / 0x1_0000_0000), 0x9e3779b1);
  for (let i = 0; i < into.length; i++) {
    word = Math.imul(word ^ (word >>> 16), 0x85ebca6b);
    word = Math.imul(word ^ (word >>> 13), 0xc2b2ae35);
    into[i] = word = (word ^ (word >>> 16)) + 0x6d2b79f5 | 0;
  }
}
