import { assert, assertEquals, assertThrows } from "@std/assert";
import { RestoreError } from "../../src/base/errors.ts";
import { VcpuEvent } from "../../src/engine/engine.ts";
import { Activity, EventType, setU64, u64, VcpuRecord, type VcpuState, XSAVE } from "../../src/engine/vcpu_state.ts";
import { Random } from "../diff/random.ts";
import { longMode, RAM_BYTES, type SoftFixture, softFixture } from "../engine/fixture.ts";

const CODE = 0x10000, HANDLER = 0x11000, IDT = 0x9000, STACK = 0x30000, DATA = 0x20000;

function hex(...pieces: string[]): Uint8Array {
  return Uint8Array.from(pieces.join("").match(/../g)!, (x) => parseInt(x, 16));
}

/** Touches every kind of register, for ever; its state differs after each instruction. */
const BUSY = (() => {
  // After fninit, so that x87 exceptions are masked.
  const body = hex(
    "48ffc1", // inc rcx
    "4801c8", // add rax, rcx
    "48c1c005", // rol rax, 5
    "f2480f2ac1", // cvtsi2sd xmm0, rcx
    "f20f58c8", // addsd xmm1, xmm0
    "66440feff9", // pxor xmm15, xmm1
    "d9e8", // fld1
    "dfe0", // fnstsw ax
    "d9f7", // fincstp
    "ddd3", // fst st(3)
    "48a30000020000000000", // mov [DATA], rax
    "9c5a", // pushfq; pop rdx
    "4801d3", // add rbx, rdx
    "0f23c0", // mov dr0, rax
    "0f22d3", // mov cr2, rbx
    "505152", // push rax, rcx, rdx
    "b9030100c031d20f30", // TSC_AUX = eax
    "5a5958", // pop rdx, rcx, rax
    "fbfa", // sti; cli
    "be180000008ed6", // mov ss, 18h
    "fdacfc", // std; lodsb; cld
    "e680e481", // out 80h, al; in al, 81h
  );
  const back = -(body.length + 5);
  return new Uint8Array([...hex("dbe3"), ...body, 0xe9, back & 255, (back >> 8) & 255, 255, 255]);
})();

function busy(): SoftFixture {
  const f = softFixture();
  longMode(f, CODE, STACK);
  f.ram.copyIn(CODE, BUSY);
  f.board.value = 0x5a;
  return f;
}

function saved(f: SoftFixture): VcpuState {
  const state = VcpuRecord.create();
  f.vcpu.save(state);
  return state;
}

/** All of a record, for comparison; `except` names fields that may differ. */
function plain(state: VcpuState, except: readonly string[] = []): Record<string, unknown> {
  const fields = Object.keys(VcpuRecord.fields).filter((name) => !except.includes(name));
  return Object.fromEntries(
    fields.map((name) => {
      const value = state[name as keyof VcpuState];
      return [
        name,
        value instanceof Uint8Array ? value.toHex() : typeof value === "number" ? value : Array.from(value),
      ];
    }),
  );
}

function copyOf(state: VcpuState): VcpuState {
  const copy = VcpuRecord.create();
  for (const name of Object.keys(VcpuRecord.fields) as (keyof VcpuState)[]) {
    const value = state[name];
    if (typeof value === "number") (copy[name] as number) = value;
    else (copy[name] as Uint8Array).set(value as Uint8Array);
  }
  return copy;
}

Deno.test("a vCPU that is saved anywhere and restored in another machine goes on as the first does", () => {
  const a = busy();
  const random = new Random(11);
  for (let round = 0; round < 12; round++) {
    for (let n = 1 + random.below(90); n > 0; n--) a.vcpu.step();
    a.time += 1234;
    const b = softFixture();
    b.board.value = 0x5a;
    b.time = a.time;
    b.ram.copyIn(0, a.ram.bytes(0, RAM_BYTES)!);
    b.vcpu.restore(saved(a));
    a.board.log.length = 0;
    for (let n = 0; n < 130; n++) {
      assertEquals(plain(saved(b)), plain(saved(a)), `round ${round}, ${n} instructions on`);
      assertEquals(b.vcpu.step(), a.vcpu.step());
    }
    assert(a.board.log.length > 2, a.vcpu.describe());
    assertEquals(b.board.log, a.board.log);
    assertEquals(b.ram.read64(DATA), a.ram.read64(DATA));
  }
});

/** A state that every check lets pass, of random values. */
function randomState(seed: number): VcpuState {
  const random = new Random(seed), word = () => random.next() >>> 0;
  const state = saved(busy());
  for (const name of ["gpr", "cr2", "star", "tscAdjust", "tsc"] as const) {
    for (let i = 0; i < state[name].length; i++) state[name][i] = word();
  }
  for (
    const name of ["lstar", "cstar", "kernelGsBase", "sysenterEsp", "sysenterEip", "gdtrBase", "idtrBase"] as const
  ) {
    setU64(state[name], BigInt.asIntN(48, BigInt(word()) << 16n));
  }
  for (const name of ["fmask", "tscAux", "sysenterCs"] as const) setU64(state[name], word());
  for (let n = 0; n < 4; n++) setU64(state.dr, BigInt(word()) << 32n | BigInt(word()), n);
  for (let n = 0; n < 8; n++) {
    state.segSelector[n] = word();
    state.segLimit[n] = word();
    setU64(state.segBase, BigInt.asIntN(48, BigInt(word()) << 16n), n);
  }
  state.rflags = (word() & 0x003f_7fd5 & ~0x2a_0028) | 2;
  const xsave = new DataView(state.xsave.buffer, state.xsave.byteOffset, state.xsave.length);
  for (let n = 0; n < 8; n++) for (let i = 0; i < 10; i++) xsave.setUint8(32 + 16 * n + i, word());
  for (let at = 160; at < 416; at++) xsave.setUint8(at, word());
  for (let at = XSAVE.YMM; at < XSAVE.YMM_END; at++) xsave.setUint8(at, word());
  xsave.setBigUint64(XSAVE.XSTATE_BV, 7n, true);
  xsave.setUint16(0, (word() & 0x1f3f) | 0x40, true);
  xsave.setUint16(2, word() & 0x7f40, true); // no exception flag: ES and B follow from them
  xsave.setUint8(4, word());
  xsave.setUint16(6, word() & 0x7ff, true);
  xsave.setUint32(24, word() & 0xffff, true);
  for (let n = 0; n < 16; n++) {
    // A type, or a mask with its valid flag.
    state.mtrrPhys[2 * n] = n % 2 ? (word() & 0xffff_f800) >>> 0 : (word() & 0xffff_f000 | 6) >>> 0;
    state.mtrrPhys[2 * n + 1] = word() & 0xff;
  }
  for (let i = 0; i < 22; i++) state.mtrrFix[i] = 0x0605_0401;
  setU64(state.pat, 0x0706_0504_0100_0607n);
  setU64(state.specCtrl, 1);
  state.cr8 = 0;
  state.fcs = word();
  state.fds = word();
  state.instructions = word() * 1000;
  state.activity = random.below(3);
  state.shadow = 2 * random.below(2);
  state.nmiPending = random.below(2);
  state.initPending = random.below(2);
  state.sipiPending = 1;
  state.sipiVector = word();
  return state;
}

Deno.test("what a vCPU is given it gives back, field by field", () => {
  for (let seed = 1; seed <= 40; seed++) {
    const f = softFixture();
    f.time = seed * 1e9;
    const state = randomState(seed);
    f.vcpu.restore(state);
    assertEquals(plain(saved(f)), plain(state), `seed ${seed}`);
  }
});

Deno.test("registers that are wrong are refused by name, and nothing changes", () => {
  const bad: [string, (s: VcpuState) => void][] = [
    ["vCPU.rflags", (s) => s.rflags |= 1 << 3],
    ["vCPU.rflags", (s) => s.rflags &= ~2],
    ["vCPU.cr0", (s) => s.cr0[1] = 1],
    ["vCPU.cr0", (s) => s.cr0[0]! &= ~1],
    ["vCPU.cr0", (s) => s.cr0[0]! |= 1 << 29],
    ["vCPU.cr3", (s) => s.cr3[1] = 1 << 20],
    ["vCPU.cr3", (s) => s.cr3[1] = 1 << 10], // beyond this processor's physical addresses
    ["vCPU.cr4", (s) => s.cr4[0]! |= 1 << 12],
    ["vCPU.cr4", (s) => s.cr4[0]! |= 1 << 13], // VMX
    ["vCPU.cr4", (s) => s.cr4[0]! &= ~(1 << 5)],
    ["vCPU.efer", (s) => s.efer[0]! |= 2],
    ["vCPU.efer", (s) => s.efer[0]! &= ~(1 << 10)],
    ["vCPU.xcr0", (s) => s.xcr0[0] = 2],
    ["vCPU.xcr0", (s) => s.xcr0[0] = 5],
    ["vCPU.xcr0", (s) => s.xcr0[0] = 0xe7],
    ["vCPU.dr7", (s) => s.dr[15] = 1],
    ["vCPU.fs.base", (s) => s.segBase[2 * 4 + 1] = 0x8000],
    ["vCPU.cs.rights", (s) => s.segRights[1]! |= 1 << 17],
    ["vCPU.gdtrBase", (s) => s.gdtrBase[1] = 0x1_0000],
    ["vCPU.lstar", (s) => s.lstar[1] = 0x7fff_ffff],
    ["vCPU.fmask", (s) => s.fmask[1] = 1],
    ["vCPU.pat", (s) => s.pat[0] = 2],
    ["vCPU.mtrrPhys[1]", (s) => s.mtrrPhys[2] = 1],
    ["vCPU.mtrrFix[10]", (s) => s.mtrrFix[20] = 2],
    ["vCPU.miscEnable", (s) => s.miscEnable[1] = 1],
    ["vCPU.mcgStatus", (s) => s.mcgStatus[0] = 1],
    ["vCPU.xss", (s) => s.xss[0] = 1],
    ["vCPU.xsave.XSTATE_BV", (s) => s.xsave[XSAVE.XSTATE_BV] = 0x80],
    ["vCPU.xsave.XCOMP_BV", (s) => s.xsave[XSAVE.XCOMP_BV + 7] = 0x80],
    ["vCPU.xsave header", (s) => s.xsave[XSAVE.HEADER_END - 1] = 1],
    ["vCPU.xsave.MXCSR", (s) => s.xsave[XSAVE.MXCSR + 2] = 1],
    ["vcpu-x86.activity", (s) => s.activity = 3],
    ["vcpu-x86.cpl", (s) => s.cpl = 4],
    ["vcpu-x86.instructions", (s) => s.instructions = NaN],
    ["vcpu-x86.eventValid", (s) => s.eventValid = 2],
    ["vCPU.eventType", (s) => {
      s.eventValid = 1;
      s.eventType = 1;
    }],
    ["vCPU.eventVector", (s) => {
      s.eventValid = 1;
      s.eventType = EventType.EXCEPTION;
      s.eventVector = 32;
    }],
  ];
  const f = busy();
  for (let n = 0; n < 50; n++) f.vcpu.step();
  const before = saved(f);
  for (const [message, spoil] of bad) {
    const state = copyOf(before);
    spoil(state);
    assertThrows(() => f.vcpu.restore(state), RestoreError, message);
    assertEquals(plain(saved(f)), plain(before), message);
  }
});

Deno.test("whatever bits of a saved state flip, it is refused or runs without harm", () => {
  const good = saved(busy());
  const bytes = new Uint8Array(VcpuRecord.sizeBytes);
  const view = VcpuRecord.view(bytes.buffer, 0);
  const f = busy();
  // Time passes whenever somebody looks.
  let time = 0;
  Object.defineProperty(f, "time", { get: () => time += 1e5 });
  let refused = 0, ran = 0;
  const random = new Random(5);
  for (let n = 0; n < 500; n++) {
    for (const name of Object.keys(VcpuRecord.fields) as (keyof VcpuState)[]) {
      const value = good[name];
      if (typeof value === "number") (view[name] as number) = value;
      else (view[name] as Uint8Array).set(value as Uint8Array);
    }
    for (let flips = 1 + random.below(4); flips > 0; flips--) {
      // Half of them where the registers are: most of the record is the XSAVE area.
      const at = random.below(2) ? random.below(VcpuRecord.offsets.xsave) : random.below(bytes.length);
      bytes[at]! ^= 1 << random.below(8);
    }
    try {
      f.vcpu.restore(view);
    } catch (error) {
      assert(error instanceof RestoreError, String(error));
      refused++;
      continue;
    }
    Atomics.store(f.events, 0, 0);
    const reason = f.vcpu.run(time + 4e5);
    assert(reason !== "error", f.vcpu.lastError?.message);
    ran++;
  }
  assert(refused > 50 && ran > 50, `${refused} refused, ${ran} ran`);
});

Deno.test("a halted vCPU stays halted, and one that waits for SIPI takes its own", () => {
  const f = busy(), state = saved(f);
  state.activity = Activity.HALTED;
  f.vcpu.restore(state);
  assertEquals(f.vcpu.run(1e6), "halt");
  state.activity = Activity.WAIT_FOR_SIPI;
  state.sipiPending = 1;
  state.sipiVector = 0x12;
  f.vcpu.restore(state);
  assertEquals(f.events[0], VcpuEvent.SIPI | 0x1200);
  f.ram.copyIn(0x12000, hex("f4"));
  const real = saved(f);
  assertEquals(real.activity, Activity.WAIT_FOR_SIPI);
  // Real mode, as after INIT: [sdm3 §10.4.4].
  setU64(real.cr0, 0x6000_0010);
  setU64(real.efer, 0);
  setU64(real.cr4, 0);
  real.segLimit.fill(0xffff);
  f.vcpu.restore(real);
  assertEquals(f.vcpu.run(1e6), "halt");
  const after = saved(f);
  assertEquals([after.segSelector[1], u64(after.segBase, 1), u64(after.rip)], [0x1200, 0x12000n, 1n]);
  assertEquals(after.activity, Activity.HALTED);
});

Deno.test("an event whose delivery was under way is delivered first, and saved again until then", () => {
  for (
    const [type, vector, hasError] of [
      [EventType.INTERRUPT, 0x40, 0],
      [EventType.NMI, 2, 0],
      [EventType.EXCEPTION, 14, 1],
    ] as const
  ) {
    const f = busy();
    f.ram.copyIn(HANDLER, hex("f4"));
    f.ram.write(IDT + 16 * vector, 4, (0x10 << 16) | HANDLER & 0xffff);
    f.ram.write(IDT + 16 * vector + 4, 4, HANDLER & 0xffff_0000 | 0x8e00);
    const state = saved(f);
    setU64(state.idtrBase, IDT);
    state.idtrLimit = 0xfff;
    Object.assign(state, { eventValid: 1, eventType: type, eventVector: vector });
    Object.assign(state, { eventHasError: hasError, eventError: hasError ? 6 : 0 });
    f.vcpu.restore(state);
    assertEquals(plain(saved(f)), plain(state));
    assertEquals(f.vcpu.run(1e6), "halt");
    const after = saved(f);
    assertEquals(Number(u64(after.rip)), HANDLER + 1);
    const rsp = Number(u64(after.gpr, 4));
    if (hasError) assertEquals(f.ram.read64(rsp), 6);
    // The frame returns to the instruction that had not run yet.
    assertEquals(f.ram.read64(rsp + 8 * hasError), CODE);
    assertEquals(after.eventValid, 0);
  }
});

Deno.test("the time-stamp counter goes on from its value, whatever the guest's time is", () => {
  const f = busy();
  f.time = 5_000_000_000;
  const state = saved(f);
  assertEquals(u64(state.tsc), 5_000_000_000n);
  const g = busy();
  g.time = 77;
  g.vcpu.restore(state);
  g.time = 177;
  assertEquals(u64(saved(g).tsc), 5_000_000_100n);
});
