/** Where the guest's registers are: ids of Hypervisor.framework and fields of the VMCS over the software CPU's state. */
import type { S } from "../../src/cpu/x86/state.ts";
import type { Cpu } from "./cpu.ts";
import { CS, F, SEGMENT, SS } from "./vmcs.ts";

/** hv_x86_reg_t 2..17 in the order of instructions. */
const GPR_BY_ID = [0, 1, 2, 3, 6, 7, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15] as const;
const M32 = 0xffff_ffffn;

const IDS: Readonly<Record<number, number>> = {
  0: F.RIP,
  1: F.RFLAGS,
  18: SEGMENT.SELECTOR + 2 * CS,
  19: SEGMENT.SELECTOR + 2 * SS,
  20: SEGMENT.SELECTOR + 2 * 3,
  21: SEGMENT.SELECTOR,
  22: SEGMENT.SELECTOR + 2 * 4,
  23: SEGMENT.SELECTOR + 2 * 5,
  24: F.IDTR_BASE,
  25: F.IDTR_LIMIT,
  26: F.GDTR_BASE,
  27: F.GDTR_LIMIT,
  28: SEGMENT.SELECTOR + 2 * 6,
  29: SEGMENT.BASE + 2 * 6,
  30: SEGMENT.LIMIT + 2 * 6,
  31: SEGMENT.AR + 2 * 6,
  32: SEGMENT.SELECTOR + 2 * 7,
  33: SEGMENT.BASE + 2 * 7,
  34: SEGMENT.LIMIT + 2 * 7,
  35: SEGMENT.AR + 2 * 7,
  36: F.CR0,
  39: F.CR3,
  40: F.CR4,
  48: F.DR7,
};
const CR2 = 38, DR0 = 41, DR3 = 44, DR6 = 47, TPR = 49, XCR0 = 50;

const PLAIN: Readonly<Record<number, readonly [field: keyof typeof S, index: number]>> = {
  [F.PAT]: ["pat", 0],
  [F.EFER]: ["efer", 0],
  [F.CR0]: ["cr0", 0],
  [F.CR3]: ["cr3", 0],
  [F.CR4]: ["cr4", 0],
  [F.DR7]: ["dr", 7],
  [F.RSP]: ["gpr", 4],
  [F.RIP]: ["rip", 0],
  [F.GDTR_BASE]: ["gdtrBase", 0],
  [F.IDTR_BASE]: ["idtrBase", 0],
  [F.SYSENTER_ESP]: ["sysenterEsp", 0],
  [F.SYSENTER_EIP]: ["sysenterEip", 0],
};
const WORDS: Readonly<Record<number, keyof typeof S>> = {
  [F.GDTR_LIMIT]: "gdtrLimit",
  [F.IDTR_LIMIT]: "idtrLimit",
};

export class GuestState {
  /** What decides how instructions are decoded or addresses translated has been written. */
  modeChanged = true;
  tpr = 0;

  constructor(readonly cpu: Cpu) {}

  /** The register `id` of hv_x86_reg_t, or undefined if there is none. */
  readRegister(id: number): bigint | undefined {
    const { cpu } = this;
    if (id >= 2 && id < 18) return cpu.get64("gpr", GPR_BY_ID[id - 2]!);
    if (id === CR2) return cpu.get64("cr2");
    if ((id >= DR0 && id <= DR3) || id === DR6) return cpu.get64("dr", id - DR0);
    if (id === TPR) return BigInt(this.tpr);
    if (id === XCR0) return cpu.get64("xcr0");
    const field = IDS[id];
    return field === undefined ? undefined : this.readField(field);
  }

  /** False if there is no such register. */
  writeRegister(id: number, value: bigint): boolean {
    const { cpu } = this;
    if (id >= 2 && id < 18) cpu.put64("gpr", value, GPR_BY_ID[id - 2]!);
    else if (id === CR2) cpu.put64("cr2", value);
    else if ((id >= DR0 && id <= DR3) || id === DR6) cpu.put64("dr", value, id - DR0);
    else if (id === TPR) this.tpr = Number(value & 0xffn);
    else if (id === XCR0) {
      cpu.put64("xcr0", value);
      this.modeChanged = true;
    } else {
      const field = IDS[id];
      return field !== undefined && this.writeField(field, value);
    }
    return true;
  }

  /** A field of the guest area that is a register; undefined for any other. */
  readField(id: number): bigint | undefined {
    const { cpu } = this, plain = PLAIN[id];
    if (plain) return cpu.get64(plain[0], plain[1]);
    const word = WORDS[id];
    if (word) return BigInt(cpu.get(word) >>> 0);
    if (id === F.RFLAGS) return BigInt(cpu.exports.rflags(cpu.base) >>> 0);
    if (id === F.SYSENTER_CS) return cpu.get64("sysenterCs") & M32;
    const n = (id & 0xff) >> 1;
    switch (segmentPart(id)) {
      case "SELECTOR":
        return BigInt(cpu.get("segSelector", n) & 0xffff);
      case "LIMIT":
        return BigInt(cpu.get("segLimit", n) >>> 0);
      case "AR":
        return BigInt(this.#rights((id - SEGMENT.AR) >> 1) >>> 0);
      case "BASE":
        return cpu.get64("segBase", (id - SEGMENT.BASE) >> 1);
    }
    return undefined;
  }

  /** DPL of SS is CPL. */
  #rights(n: number): number {
    const rights = this.cpu.get("segRights", n);
    return n === SS ? (rights & ~0x60) | (this.cpu.get("cpl") << 5) : rights;
  }

  writeField(id: number, value: bigint): boolean {
    const { cpu } = this, plain = PLAIN[id];
    if (plain) {
      cpu.put64(plain[0], value, plain[1]);
      if (id === F.CR0 || id === F.CR4 || id === F.EFER) this.modeChanged = true;
      return true;
    }
    const word = WORDS[id];
    if (word) cpu.put(word, Number(value & M32) | 0);
    else if (id === F.RFLAGS) cpu.exports.setRflags(cpu.base, Number(value & M32) | 0);
    else if (id === F.SYSENTER_CS) cpu.put64("sysenterCs", value & M32);
    else {
      const n = (id & 0xff) >> 1, part = segmentPart(id);
      if (part === "SELECTOR") cpu.put("segSelector", Number(value & 0xffffn), n);
      else if (part === "LIMIT") cpu.put("segLimit", Number(value & M32) | 0, n);
      else if (part === "AR") {
        const which = (id - SEGMENT.AR) >> 1;
        cpu.put("segRights", Number(value & M32) | 0, which);
        if (which === SS) cpu.put("cpl", Number((value >> 5n) & 3n));
      } else if (part === "BASE") cpu.put64("segBase", value, (id - SEGMENT.BASE) >> 1);
      else return false;
    }
    this.modeChanged = true;
    return true;
  }
}

function segmentPart(id: number): keyof typeof SEGMENT | undefined {
  for (const part of ["SELECTOR", "LIMIT", "AR", "BASE"] as const) {
    if (id >= SEGMENT[part] && id < SEGMENT[part] + 16) return part;
  }
  return undefined;
}
