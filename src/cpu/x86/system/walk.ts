/**
 * Paging: from linear to physical addresses, by the tables in guest RAM: [sdm3 4].
 *
 * Emulated: paging off, 32-bit paging with 4 MiB pages (PSE-36), PAE paging, 4-level paging with 2 MiB and 1 GiB pages; XD, WP,
 * U/S, SMEP, SMAP, reserved bits, accessed and dirty flags. MAXPHYADDR is 40.
 * A table outside of RAM reads as not present. PAE's page-directory-pointer entries are read at each walk, not kept from the
 * load of CR3; reserved bits in them give #PF.
 */
import type { Code, Label } from "../../../wasm/code.ts";
import type { Func, Module } from "../../../wasm/module.ts";
import { i64, select, type Value } from "../../../wasm/value.ts";
import { guardMapped, RIGHT } from "../exits.ts";
import { type CpuFuncs, deepFunc, type Ops, STATUS } from "../ops.ts";
import { CR0, CR4, EFER, EXC, S } from "../state.ts";

/** What an access is, for its rights and its error code. */
export const ACCESS = {
  WRITE: 1,
  USER: 2,
  FETCH: 4,
  /** Changes nothing: no accessed or dirty flag, no CR2. */
  QUIET: 8,
  /** An explicit supervisor access with EFLAGS.AC set: SMAP does not stop it. */
  AC: 16,
} as const;

/** What a walk tells beside the address. */
export const WALK = {
  /** Writes with the same rights would succeed and the dirty flag is already set. */
  WRITABLE: 1,
  /** The mapping is larger than 4 KiB; larger than 4 MiB. */
  LARGE: 2,
  HUGE: 4,
  /** The mapping is of every address space: [sdm3 §4.10.2.4]. */
  GLOBAL: 8,
} as const;

export const MAXPHYADDR = 40;

const P = 1n << 0n, RW = 1n << 1n, US = 1n << 2n, A = 1n << 5n, PS = 1n << 7n;
const XD = 1n << 63n;
/** Bits 51..MAXPHYADDR. */
const BEYOND = ((1n << 52n) - 1n) & ~((1n << BigInt(MAXPHYADDR)) - 1n);
const FRAME_BITS = MAXPHYADDR - 12;

/** Bits of the #PF error code that a walk adds to those of the access. */
const PF_PRESENT = 1, PF_RESERVED = 8;

/** An entry of a table in RAM: its offset in memory and its value (zero-extended). */
interface Entry {
  readonly at: Value;
  readonly e: Value;
}

/** Compares and exchanges an aligned entry; gives what was there. */
function exchange(c: Code, bytes: 4 | 8, at: Value, expected: Value, value: Value): Value {
  const was = c.variable(bytes === 8 ? "i64" : "i32");
  c.expr(at, "i32");
  c.expr(bytes === 8 ? expected : expected.lo());
  c.expr(bytes === 8 ? value : value.lo());
  c.out.u8(0xfe);
  c.out.u32(bytes === 8 ? 0x49 : 0x48);
  c.out.u32(bytes === 8 ? 3 : 2);
  c.out.u32(0);
  c.out.u8(0x21);
  c.out.u32(was.index);
  return bytes === 8 ? was.get() : was.get().zx();
}

/** Defines "walk": (cpu, address, access) → status, physical address, WALK flags. Faults set CR2 unless the access is QUIET. */
export function defineWalk(m: Module, f: CpuFuncs, exits: boolean): Func {
  const pageFault = m.func("pageFault", ["i32", "i64", "i32", "i32"], [], (c) => {
    const cpu = c.param(0), access = c.param(2);
    c.if(access.and(ACCESS.QUIET).eqz(), () => {
      c.st64(cpu, c.param(1), S.cr2);
      c.st32(cpu, c.ld32(cpu, S.pageFaults).add(1), S.pageFaults);
    });
    const cr4 = c.ld32(cpu, S.cr4), efer = c.ld32(cpu, S.efer);
    const xd = cr4.and(CR4.PAE).bool().and(efer.and(EFER.NXE).bool());
    const tellsFetch = c.let(xd.or(cr4.and(CR4.SMEP).bool()));
    const fetch = select(tellsFetch, access.and(ACCESS.FETCH).shl(2), 0);
    c.st32(cpu, c.param(3).or(access.and(ACCESS.WRITE | ACCESS.USER).shl(1)).or(fetch), S.excError);
    c.st32(cpu, EXC.PF, S.excVector);
  });

  const raise = (o: Ops, address: Value, access: Value, bits: number) => {
    o.c.call(pageFault, o.cpu, address, access, bits);
    o.leave(STATUS.FAULT);
  };

  /** Reads the entry `index` (an i32) of the table whose frame number is `frame`; leaves if it is not present. */
  const read = (o: Ops, address: Value, access: Value, frame: Value, index: Value, bytes: 4 | 8): Entry => {
    const c = o.c;
    const slot = exits ? c.let(index.shl(Math.log2(bytes))) : index.shl(Math.log2(bytes));
    if (exits) {
      const table = c.let(frame.zx().shl(12).or(slot.zx()));
      guardMapped(c, o.cpu, address, table, RIGHT.READ, 0, () => o.leave(STATUS.FAULT));
    }
    c.if(frame.geU(o.ld32("ramPages")), () => raise(o, address, access, 0));
    const at = c.let(o.ld32("ramBase").add(frame.shl(12)).add(slot));
    const e = bytes === 8 ? c.ld64(at) : c.let(c.ld32(at).zx());
    c.if(e.lo().and(1).eqz(), () => raise(o, address, access, 0));
    return { at, e };
  };
  const frameOf = (o: Ops, e: Value): Value => o.let(e.shrU(12).lo().and((1 << FRAME_BITS) - 1));
  const checkReserved = (o: Ops, address: Value, access: Value, e: Value, reserved: Value) => {
    o.c.if(e.and(reserved).bool(), () => raise(o, address, access, PF_PRESENT | PF_RESERVED));
  };

  /**
   * Rights, accessed and dirty flags: [sdm3 4.6, 4.8]. `entries` from the top, the last one maps the page of 2^`shift` bytes
   * at `base`. Another processor may be changing the tables: if an entry is no longer what was read, the walk starts `again`.
   */
  const finish = (
    o: Ops,
    address: Value,
    access: Value,
    again: Label,
    entries: Entry[],
    shift: number,
    base: Value,
    bytes: 4 | 8,
  ) => {
    const c = o.c, leaf = entries[entries.length - 1]!;
    const all = c.let(entries.map((x) => x.e).reduce((x, y) => x.and(y)));
    const user = c.let(all.and(US).bool());
    const writable = c.let(all.and(RW).bool());
    const denied = () => raise(o, address, access, PF_PRESENT);
    const mayWrite = c.variable("i32");
    c.if(access.and(ACCESS.USER), () => {
      c.if(user.eqz(), denied);
      mayWrite.set(writable);
    }, () => {
      mayWrite.set(writable.or(o.ld32("cr0").and(CR0.WP).eqz()));
      c.if(user, () => {
        const cr4 = o.ld32("cr4");
        c.if(
          access.and(ACCESS.FETCH),
          () => c.if(cr4.and(CR4.SMEP), denied),
          () => c.if(cr4.and(CR4.SMAP).bool().and(access.and(ACCESS.AC).eqz()), denied),
        );
      });
    });
    c.if(access.and(ACCESS.WRITE).gtU(mayWrite.get()), denied);
    if (bytes === 8) {
      // With EFER.NXE clear the bit is reserved and the walk has not come here.
      const any = entries.map((x) => x.e).reduce((x, y) => x.or(y));
      c.if(access.and(ACCESS.FETCH).bool().and(any.ltS(0)), denied);
    }

    const dirty = c.let(access.and(ACCESS.WRITE).or(leaf.e.bit(6)));
    const complete = all.and(A).bool().and(dirty.eq(leaf.e.bit(6)));
    c.if(complete.or(access.and(ACCESS.QUIET).bool()).eqz(), () => {
      entries.forEach(({ at, e }) => {
        const marked = c.let(e === leaf.e ? e.or(A).or(dirty.zx().shl(6)) : e.or(A));
        c.if(marked.ne(e), () => c.brIf(again, exchange(c, bytes, at, e, marked).ne(e)));
      });
    });
    const offset = (1n << BigInt(shift)) - 1n;
    // Bit 8 of the entry, with CR4.PGE (bit 7), as bit 3.
    const isGlobal = leaf.e.shrU(5).lo().and(o.ld32("cr4").shrU(4)).and(WALK.GLOBAL);
    c.return(
      STATUS.NEXT,
      base.or(address.and(offset)),
      mayWrite.get().and(dirty).or(isGlobal).or(shift > 22 ? WALK.LARGE | WALK.HUGE : shift > 12 ? WALK.LARGE : 0),
    );
  };
  /** The physical address bits of an entry that maps 2^shift bytes. */
  const pageBase = (e: Value, shift: number) => e.and((1n << BigInt(MAXPHYADDR)) - (1n << BigInt(shift)));
  /** Bits that must be clear in an entry that maps 2^shift bytes, between the address and the PAT flag (bit 12). */
  const between = (shift: number) => (1n << BigInt(shift)) - (1n << 13n);
  const index = (address: Value, shift: number, bits: number) => address.shrU(shift).lo().and((1 << bits) - 1);

  /** The two lower levels of 64-bit entries, below `upper`; bits 62..52 are ignored in 4-level paging, reserved in PAE's. */
  const lower = (again: Label, o: Ops, a: Value, access: Value, directory: Value, upper: Entry[], reserved: Value) => {
    const c = o.c;
    const e2 = read(o, a, access, directory, index(a, 21, 9), 8);
    c.if(e2.e.and(PS).bool(), () => {
      checkReserved(o, a, access, e2.e, reserved.or(between(21)));
      finish(o, a, access, again, [...upper, e2], 21, pageBase(e2.e, 21), 8);
    });
    checkReserved(o, a, access, e2.e, reserved);
    const e1 = read(o, a, access, frameOf(o, e2.e), index(a, 12, 9), 8);
    checkReserved(o, a, access, e1.e, reserved);
    finish(o, a, access, again, [...upper, e2, e1], 12, pageBase(e1.e, 12), 8);
  };
  const reservedBits = (o: Ops, bits: bigint) => o.let(select(o.ld32("efer").and(EFER.NXE), i64(bits), i64(bits | XD)));

  const walkOf = (name: string, body: (again: Label, o: Ops, a: Value, access: Value) => void) =>
    deepFunc(m, f, `walk.${name}`, ["i64", "i32"], ["i64", "i32"], (o, a, access) => {
      o.c.loop((again) => body(again, o, a!, access!));
      o.c.unreachable();
    });

  const longWalk = walkOf("4level", (again, o, a, access) => {
    // Canonical: bits 63..47 are equal. The caller turns #GP into #SS where it used the stack segment.
    o.gpIf(a.shl(16).shrS(16).ne(a));
    const reserved = reservedBits(o, BEYOND);
    const e4 = read(o, a, access, frameOf(o, o.ld64("cr3")), index(a, 39, 9), 8);
    checkReserved(o, a, access, e4.e, reserved.or(PS));
    const e3 = read(o, a, access, frameOf(o, e4.e), index(a, 30, 9), 8);
    o.c.if(e3.e.and(PS).bool(), () => {
      checkReserved(o, a, access, e3.e, reserved.or(between(30)));
      finish(o, a, access, again, [e4, e3], 30, pageBase(e3.e, 30), 8);
    });
    checkReserved(o, a, access, e3.e, reserved);
    lower(again, o, a, access, frameOf(o, e3.e), [e4, e3], reserved);
  });

  const paeWalk = walkOf("pae", (again, o, a, access) => {
    const cr3 = o.ld32("cr3");
    const e3 = read(o, a, access, o.let(cr3.shrU(12)), cr3.shrU(3).and(0x1fc).or(index(a, 30, 2)), 8);
    const open = P | (1n << 3n) | (1n << 4n) | (7n << 9n);
    checkReserved(o, a, access, e3.e, i64(~(((1n << BigInt(MAXPHYADDR)) - (1n << 12n)) | open)));
    lower(again, o, a, access, frameOf(o, e3.e), [], reservedBits(o, BEYOND | ((1n << 63n) - (1n << 52n))));
  });

  const oldWalk = walkOf("32bit", (again, o, a, access) => {
    const c = o.c;
    const e2 = read(o, a, access, o.let(o.ld32("cr3").shrU(12)), index(a, 22, 10), 4);
    c.if(e2.e.lo().and(Number(PS)).bool().and(o.ld32("cr4").and(CR4.PSE).bool()), () => {
      checkReserved(o, a, access, e2.e, i64(1 << 21));
      // PSE-36: bits 20..13 are bits 39..32 of the address.
      const base = c.let(e2.e.and(0xffc0_0000).or(e2.e.and(0x1f_e000).shl(19)));
      finish(o, a, access, again, [e2], 22, base, 4);
    });
    const e1 = read(o, a, access, o.let(e2.e.shrU(12).lo()), index(a, 12, 10), 4);
    finish(o, a, access, again, [e2, e1], 12, o.let(e1.e.and(0xffff_f000)), 4);
  });

  return deepFunc(m, f, "walk", ["i64", "i32"], ["i64", "i32"], (o, a, access) => {
    const c = o.c;
    const to = (walk: Func) => () => c.return(...c.call(walk, o.cpu, a!, access!));
    c.if(o.ld32("cr0").and(CR0.PG), () => {
      c.if(o.ld32("efer").and(EFER.LMA), to(longWalk));
      c.if(o.ld32("cr4").and(CR4.PAE), to(paeWalk));
      to(oldWalk)();
    });
    c.return(STATUS.NEXT, a!.and(0xffff_ffff), WALK.WRITABLE);
  });
}
