/** Native code of moves, the stack, and what conditions choose: MOV and its like, LEA, PUSH, POP, SETcc, CMOVcc. */
import { MAP_0F, MAP_1 } from "./assembler.ts";
import { needs } from "./kept.ts";
import { canRevive, type Emit, isMemory, load, loadHigh, srcNumber } from "./pieces.ts";
import { HOST_OF, slot, T, U } from "./registers.ts";

export const mov: Emit = (e, i, [dst, src], row) => {
  const a = e.a, size = i.size;
  const high = src!.kind === "register" && src!.high;
  if (isMemory(dst)) {
    e.operand(size >> 3, true);
    if (src!.kind === "constant") a.storeI(e.memory, src!.value, size);
    else if (high) {
      loadHigh(e, srcNumber(src!));
      a.store(e.memory, U, 8);
    } else a.store(e.memory, e.source(srcNumber(src!)), size);
    return true;
  }
  const n = (dst as { n: number }).n, h = HOST_OF[n]!;
  if (isMemory(src)) {
    e.operand(size >> 3, false);
    e.flags.beforeWrite(n);
    if (h >= 0) {
      if (size === 8) a.rm(8, MAP_1, 0x8a, h, e.memory, true);
      else a.rm(size, MAP_1, 0x8b, h, e.memory);
    } else {
      a.load(U, e.memory, size);
      a.store(slot(n), U, size === 32 ? 64 : size);
    }
    return true;
  }
  if (src!.kind === "constant") {
    e.flags.beforeWrite(n);
    if (row.op === "B8 +r" && size === 64) {
      const value = (BigInt(i.immHigh | 0) << 32n) | BigInt(i.imm >>> 0);
      a.movRI64(h >= 0 ? h : U, value);
      if (h < 0) a.store(slot(n), U, 64);
    } else if (size === 64 || size === 32) {
      const value = size === 32 ? src!.value >>> 0 : src!.value;
      if (h < 0) {
        a.movRI64(U, BigInt(value));
        a.store(slot(n), U, 64);
      } else a.movRI64(h, BigInt(value));
    } else if (h < 0) a.storeI(slot(n), src!.value, size);
    else {
      a.rr(size, MAP_1, size === 8 ? 0xc6 : 0xc7, 0, h, false, size === 8);
      a.immediate(src!.value, size);
    }
    return true;
  }
  e.flags.beforeWrite(n);
  if (high) {
    loadHigh(e, srcNumber(src!));
    e.set(n, U, 8);
    return true;
  }
  const from = e.source(srcNumber(src!));
  if (h >= 0) {
    if (size === 8) a.rr(8, MAP_1, 0x88, from, h, true, true);
    else a.movRR(h, from, size);
  } else {
    if (size === 32) {
      a.movRR(U, from, 32);
      a.store(slot(n), U, 64);
    } else a.store(slot(n), from, size);
  }
  return true;
};

export function extend(signed: boolean, from: number): Emit {
  return (e, i, [dst, src]) => {
    const a = e.a, size = i.size, n = (dst as { n: number }).n, h = HOST_OF[n]! >= 0 ? HOST_OF[n]! : U;
    const high = src!.kind === "register" && src!.high;
    if (isMemory(src)) e.operand(from >> 3, false);
    e.flags.beforeWrite(n);
    const map = from === 32 ? MAP_1 : MAP_0F,
      opcode = from === 32 ? 0x63 : (signed ? 0xbe : 0xb6) | (from === 16 ? 1 : 0);
    if (isMemory(src)) a.rm(size, map, opcode, h, e.memory);
    else {
      const m = srcNumber(src!);
      if (high) {
        loadHigh(e, m);
        a.rr(size, map, opcode, h, U, false, true);
      } else if (HOST_OF[m]! >= 0) a.rr(size, map, opcode, h, HOST_OF[m]!, false, from === 8);
      else a.rm(size, map, opcode, h, slot(m));
    }
    if (h === U) a.store(slot(n), U, size === 32 ? 64 : size);
    return true;
  };
}

export const lea: Emit = (e, i, [dst]) => {
  const a = e.a, n = (dst as { n: number }).n, h = HOST_OF[n]!;
  e.flags.beforeWrite(n);
  a.lea(h >= 0 ? h : U, e.addressOf(), i.size === 32 || i.addressBits === 32 ? 32 : 64);
  if (h < 0) a.store(slot(n), U, 64);
  return true;
};

export function setcc(cc: number): Emit {
  return (e, i, [x]) => {
    if (!canRevive(e, needs(cc))) return false;
    const a = e.a;
    if (isMemory(x)) {
      e.operand(1, true);
      e.flags.revive(needs(cc));
      a.rm(8, MAP_0F, 0x90 | cc, 0, e.memory);
      return true;
    }
    const n = (x as { n: number }).n, h = HOST_OF[n]!;
    e.flags.beforeWrite(n);
    e.flags.revive(needs(cc));
    if (h < 0) a.rm(8, MAP_0F, 0x90 | cc, 0, slot(n));
    else a.rr(8, MAP_0F, 0x90 | cc, 0, h, false, true);
    void i;
    return true;
  };
}

export function cmov(cc: number): Emit {
  return (e, i, [dst, src]) => {
    if (!canRevive(e, needs(cc))) return false;
    const a = e.a, size = i.size, n = (dst as { n: number }).n;
    if (isMemory(src)) {
      e.operand(size >> 3, false);
      a.load(T, e.memory, size);
    } else load(e, T, src!);
    e.flags.beforeWrite(n);
    e.flags.revive(needs(cc));
    const h = e.source(n);
    a.rr(size, MAP_0F, 0x40 | cc, h, T);
    if (h === U) a.store(slot(n), U, size === 32 ? 64 : size);
    return true;
  };
}

export const bswap: Emit = (e, i, [x]) => {
  const a = e.a, n = (x as { n: number }).n;
  e.flags.beforeWrite(n);
  const h = e.source(n);
  const rex = (i.size === 64 ? 0x48 : 0x40) | (h >> 3);
  a.raw(rex, 0x0f, 0xc8 | (h & 7));
  if (h === U) a.store(slot(n), U, 64);
  return true;
};

/** CBW, CWDE, CDQE; CWD, CDQ, CQO. */
export function widen(opcode: number): Emit {
  return (e, i) => {
    e.flags.beforeWrite(opcode === 0x98 ? 0 : 2);
    if (i.size === 16) e.a.byte(0x66);
    if (i.size === 64) e.a.byte(0x48);
    e.a.byte(opcode);
    return true;
  };
}

export const push: Emit = (e, _i, [src]) => {
  const a = e.a, rsp = HOST_OF[4]!;
  if (isMemory(src)) {
    e.operand(8, false);
    a.load(U, e.memory, 64);
    e.stack(-8, 8, true);
    a.store(e.memory, U, 64);
  } else {
    e.stack(-8, 8, true);
    if (src!.kind === "constant") a.storeI(e.memory, src!.value, 64);
    else a.store(e.memory, e.source((src as { n: number }).n), 64);
  }
  e.flags.beforeWrite(4);
  a.lea(rsp, { base: rsp, index: -1, scale: 0, disp: -8 });
  return true;
};

export const pop: Emit = (e, _i, [dst]) => {
  const a = e.a, rsp = HOST_OF[4]!, n = (dst as { n: number }).n, h = HOST_OF[n]!;
  e.stack(0, 8, false);
  e.flags.beforeWrite(4);
  e.flags.beforeWrite(n);
  a.lea(rsp, { base: rsp, index: -1, scale: 0, disp: 8 });
  a.load(h >= 0 ? h : U, e.memory, 64);
  if (h < 0) a.store(slot(n), U, 64);
  return true;
};

export const leave: Emit = (e) => {
  const a = e.a, rsp = HOST_OF[4]!, rbp = HOST_OF[5]!;
  e.stackAt(5, 8);
  e.flags.beforeWrite(4);
  e.flags.beforeWrite(5);
  a.lea(rsp, { base: rbp, index: -1, scale: 0, disp: 8 });
  a.load(rbp, e.memory, 64);
  return true;
};
