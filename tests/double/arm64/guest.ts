/**
 * The few instructions of the Arm architecture that a run comes to: what moves constants, loads and stores, branches, and what
 * exits. The MMU is off, addresses are guest-physical. Anything else ends the run with reason UNKNOWN.
 */
import { viewOf } from "../host.ts";
import { hasSystemRegister } from "./registers.ts";
import { type Shared, W } from "./shared.ts";
import type { ArmVcpu } from "./vcpu.ts";

const REASON = { CANCELED: 0, EXCEPTION: 1, VTIMER: 2, UNKNOWN: 3 } as const;
const EC = { WFX: 0x01, HVC: 0x16, SMC: 0x17, SYSTEM: 0x18, FETCH: 0x20, DATA: 0x24, BRK: 0x3c } as const;
const PC = 31, IL = 1 << 25;
/** DFSC: translation fault and permission fault, level 3. */
const TRANSLATION = 0x07, PERMISSION = 0x0f;
const READ = 1n, WRITE = 2n, EXEC = 4n;
const MAX_INSTRUCTIONS = 100_000;
const M64 = (1n << 64n) - 1n;

/** Runs until an exit, and tells it in the vCPU's exit record. */
export function runGuest(shared: Shared, v: ArmVcpu, cancelled: boolean): void {
  const tell = (reason: number, syndrome = 0, virtual = 0n, physical = 0n) => {
    v.exit.setUint32(0, reason, true);
    v.exit.setBigUint64(8, BigInt(syndrome >>> 0), true);
    v.exit.setBigUint64(16, virtual, true);
    v.exit.setBigUint64(24, physical, true);
  };
  if (cancelled) return tell(REASON.CANCELED);
  const get = (n: number) => n === 31 ? 0n : v.regs[n]!;
  const set = (n: number, value: bigint) => {
    if (n !== 31) v.regs[n] = value & M64;
  };
  for (let i = 0; i < MAX_INSTRUCTIONS; i++) {
    const pc = v.regs[PC]!, code = access(shared, pc, 4, EXEC);
    if (typeof code === "number") return tell(REASON.EXCEPTION, (EC.FETCH << 26) | IL | code, pc, pc);
    const word = code.getUint32(0, true), next = pc + 4n;
    const rd = word & 31, rn = (word >>> 5) & 31;
    if ((word & 0xffe0_001f) >>> 0 === 0xd400_0002) {
      v.regs[PC] = next;
      return tell(REASON.EXCEPTION, (EC.HVC << 26) | IL | ((word >>> 5) & 0xffff));
    }
    if ((word & 0xffe0_001f) >>> 0 === 0xd400_0003) {
      return tell(REASON.EXCEPTION, (EC.SMC << 26) | IL | ((word >>> 5) & 0xffff));
    }
    if ((word & 0xffe0_001f) >>> 0 === 0xd420_0000) {
      return tell(REASON.EXCEPTION, (EC.BRK << 26) | IL | ((word >>> 5) & 0xffff));
    }
    // WFI and WFE, with the condition AL.
    if (word >>> 0 === 0xd503_207f || word >>> 0 === 0xd503_205f) {
      return tell(
        REASON.EXCEPTION,
        (EC.WFX << 26) | IL | (1 << 24) | (14 << 20) | (word >>> 0 === 0xd503_205f ? 1 : 0),
      );
    }
    if ((word & 0xffd0_0000) >>> 0 === 0xd510_0000) {
      // MSR and MRS with op0 2 or 3: the fields lie in the syndrome in an order of its own.
      const op0 = (word >>> 19) & 3, op1 = (word >>> 16) & 7, crn = (word >>> 12) & 15, crm = (word >>> 8) & 15;
      const op2 = (word >>> 5) & 7, read = (word >>> 21) & 1;
      // What the framework keeps for the guest is the guest's own.
      const id = (op0 << 14) | (op1 << 11) | (crn << 7) | (crm << 3) | op2;
      const debug = op0 === 2 && v.trapsAccesses;
      if (!debug && hasSystemRegister(id, { gic: shared.hasGic, el2: shared.words[W.EL2] !== 0 })) {
        if (read) set(rd, v.system.get(id) ?? 0n);
        else v.system.set(id, get(rd));
        v.regs[PC] = next;
        continue;
      }
      const iss = (op0 << 20) | (op2 << 17) | (op1 << 14) | (crn << 10) | (rd << 5) | (crm << 1) | read;
      return tell(REASON.EXCEPTION, (EC.SYSTEM << 26) | IL | iss);
    }
    if (word >>> 0 === 0xd503_201f) v.regs[PC] = next; // NOP
    else if ((word & 0x7f80_0000) >>> 0 === 0x5280_0000) { // MOVZ
      set(rd, BigInt((word >>> 5) & 0xffff) << BigInt(16 * ((word >>> 21) & 3)));
      v.regs[PC] = next;
    } else if ((word & 0xff80_0000) >>> 0 === 0xf280_0000) { // MOVK
      const shift = BigInt(16 * ((word >>> 21) & 3));
      set(rd, (get(rd) & ~(0xffffn << shift)) | (BigInt((word >>> 5) & 0xffff) << shift));
      v.regs[PC] = next;
    } else if ((word & 0xff80_0000) >>> 0 === 0x9100_0000 && rd !== 31 && rn !== 31) { // ADD, 64 bits, no SP
      set(rd, get(rn) + (BigInt((word >>> 10) & 0xfff) << (word & 0x40_0000 ? 12n : 0n)));
      v.regs[PC] = next;
    } else if ((word & 0xfc00_0000) >>> 0 === 0x1400_0000) { // B
      v.regs[PC] = (pc + BigInt.asIntN(28, BigInt(word & 0x3ff_ffff) << 2n)) & M64;
    } else if ((word & 0x3f00_0000) >>> 0 === 0x3900_0000 && rn !== 31) { // LDR, STR, LDRS with an unsigned offset
      const log = word >>> 30, size = 1 << log, opc = (word >>> 22) & 3;
      const where = get(rn) + BigInt(((word >>> 10) & 0xfff) << log), write = opc === 0;
      const found = access(shared, where, size, write ? WRITE : READ);
      // Sign extension goes to 64 bits (opc 2) or to 32 (opc 3).
      const wide = opc === 2 || (opc === 1 && log === 3) || (write && log === 3);
      if (typeof found === "number") {
        const iss = (1 << 24) | (log << 22) | (opc >= 2 ? 1 << 21 : 0) | (rd << 16) | (wide ? 1 << 15 : 0);
        return tell(REASON.EXCEPTION, (EC.DATA << 26) | IL | iss | (write ? 1 << 6 : 0) | found, where, where);
      }
      const bits = 8 * size;
      if (write) { for (let b = 0; b < size; b++) found.setUint8(b, Number((get(rd) >> BigInt(8 * b)) & 0xffn)); }
      else {
        let value = 0n;
        for (let b = 0; b < size; b++) value |= BigInt(found.getUint8(b)) << BigInt(8 * b);
        if (opc >= 2) value = BigInt.asIntN(bits, value) & (wide ? M64 : 0xffff_ffffn);
        set(rd, value);
      }
      v.regs[PC] = next;
    } else return tell(REASON.UNKNOWN);
  }
  tell(REASON.CANCELED);
}

/** The bytes at a guest-physical address, or the fault status of an access that is not allowed. */
function access(shared: Shared, ipa: bigint, size: number, right: bigint): DataView | number {
  const mapping = shared.mappingOf(ipa);
  if (!mapping || !shared.mappingOf(ipa + BigInt(size) - 1n)) return TRANSLATION;
  if (!(mapping[3] & right)) return PERMISSION;
  return new DataView(viewOf(mapping[2] + ipa - mapping[0], size));
}
