/** The host's processor: cases run as they are, inside this process. */
import {
  MAP_ANONYMOUS,
  MAP_FIXED_NOREPLACE,
  MAP_PRIVATE,
  type NativeLibc,
  openNativeLibc,
  PROT_EXEC,
  PROT_NONE,
  PROT_READ,
  PROT_WRITE,
  SA_NODEFER,
  SA_ONSTACK,
  SA_SIGINFO,
  SIGACTION_FLAGS,
  SIGACTION_HANDLER,
  SIGBUS,
  SIGFPE,
  SIGILL,
  SIGSEGV,
  SIGTRAP,
  SIZEOF_SIGACTION,
  SIZEOF_STACK_T,
  STACK_SIZE,
  STACK_SP,
} from "../../ffi/native.ts";
import { ARENA_BYTES, CODE, FX, GUEST_PAGES, IN, OUT, R, RECORD, STUB, VARS } from "./arena.ts";
import { emitStub, type Stub, V } from "./stub.ts";

/** Where the arena may go. */
const PLACES = [0x4000_0000, 0x2000_0000, 0x6000_0000, 0x1000_0000];
const SIGNAL_STACK_BYTES = 65536;
const SIGNALS = [SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP];

/** Why cases cannot run natively here, or null. */
export function nativeUnavailable(): string | null {
  if (Deno.build.os !== "linux" || Deno.build.arch !== "x86_64") return "the host is not x86-64 Linux";
  if (Deno.permissions.querySync({ name: "ffi" }).state !== "granted") return "started without --allow-ffi";
  return null;
}

export class Native {
  /** Address of the arena. */
  readonly base: number;
  readonly u8: Uint8Array<ArrayBuffer>;
  readonly u32: Uint32Array;
  stub: Stub;
  /** Whether AVX works in user code here: then the upper halves of the YMM registers take part. */
  readonly avx: boolean;
  /** Whether RDGSBASE and WRGSBASE work in user code here. */
  readonly gsBase: boolean;
  /** Whether 32-bit code can be entered here. */
  readonly legacy: boolean;
  readonly #libc: NativeLibc;
  readonly #entry: Deno.PointerValue;
  #entry32: Deno.PointerValue;
  readonly #actions: { signal: number; ours: Uint8Array<ArrayBuffer>; theirs: Uint8Array<ArrayBuffer> }[];
  readonly #signalStack: bigint;
  readonly #stack = new Uint8Array(SIZEOF_STACK_T);
  readonly #oldStack = new Uint8Array(SIZEOF_STACK_T);

  private constructor(libc: NativeLibc, base: number) {
    this.#libc = libc;
    this.base = base;
    const buffer = Deno.UnsafePointerView.getArrayBuffer(Deno.UnsafePointer.create(BigInt(base))!, ARENA_BYTES);
    this.u8 = new Uint8Array(buffer);
    this.u32 = new Uint32Array(buffer);
    this.#protect();
    // First without touching GS; then, if the host lets user code change it, with.
    this.stub = emitStub(base, false, false);
    this.u8.set(this.stub.bytes, STUB);
    this.#entry = Deno.UnsafePointer.create(BigInt(this.stub.entry));
    this.#actions = SIGNALS.map((signal) => {
      const ours = new Uint8Array(SIZEOF_SIGACTION), dv = new DataView(ours.buffer);
      dv.setBigUint64(SIGACTION_HANDLER, BigInt(this.stub.handler), true);
      dv.setInt32(SIGACTION_FLAGS, SA_SIGINFO | SA_ONSTACK | SA_NODEFER, true);
      return { signal, ours, theirs: new Uint8Array(SIZEOF_SIGACTION) };
    });
    const dv = new DataView(this.#stack.buffer);
    // Far from the arena: a stack pointer that a case happens to have in here would be taken for a nested signal.
    const rights = PROT_READ | PROT_WRITE;
    this.#signalStack = libc.symbols.mmap(0n, BigInt(SIGNAL_STACK_BYTES), rights, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0n);
    dv.setBigUint64(STACK_SP, this.#signalStack, true);
    dv.setBigUint64(STACK_SIZE, BigInt(SIGNAL_STACK_BYTES), true);
    this.#entry32 = Deno.UnsafePointer.create(BigInt(this.stub.entry32));
    this.gsBase = this.#probe([0xf3, 0x48, 0x0f, 0xae, 0xc8], false); // rdgsbase rax
    this.avx = this.#probe([0xc5, 0xf8, 0x77], false); // vzeroupper
    if (this.gsBase || this.avx) {
      this.stub = emitStub(base, this.gsBase, this.avx);
      if (this.stub.bytes.length > VARS - STUB) throw new Error("the stub is too long");
      this.u8.set(this.stub.bytes, STUB);
    }
    this.#entry32 = Deno.UnsafePointer.create(BigInt(this.stub.entry32));
    this.legacy = this.#probe([0x90], true);
  }

  /** Whether an instruction runs without a fault. */
  #probe(code: number[], legacy: boolean): boolean {
    this.u8.set(code, CODE);
    this.jump(CODE + code.length, legacy ? this.stub.exit32 : this.stub.exit);
    this.u8.fill(0, IN, IN + RECORD);
    const dv = new DataView(this.u8.buffer, IN, RECORD);
    dv.setUint32(R.FLAGS, 0x202, true);
    dv.setUint32(R.RIP, this.base + CODE, true);
    dv.setUint16(R.FX + FX.FCW, 0x37f, true);
    dv.setUint32(R.FX + FX.MXCSR, 0x1f80, true);
    this.run(1, legacy);
    return this.u32[(OUT + R.SIGNAL) >> 2] === 0;
  }

  /** Puts code at `at` in CODE, and a jump to the exit behind it. */
  place(at: number, code: ArrayLike<number>): void {
    this.u8.set(code, CODE + at);
    this.jump(CODE + at + code.length, this.stub.exit);
  }

  /** A near jump at arena offset `at`. */
  jump(at: number, target: number): void {
    const d = target - (this.base + at + 5);
    this.u8[at] = 0xe9;
    for (let i = 0; i < 4; i++) this.u8[at + 1 + i] = d >> (8 * i);
  }

  static open(): Native {
    const libc = openNativeLibc();
    for (const at of PLACES) {
      const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
      const got = libc.symbols.mmap(BigInt(at), BigInt(ARENA_BYTES), PROT_READ | PROT_WRITE, flags, -1, 0n);
      if (got === BigInt(at)) return new Native(libc, at);
      if (got !== 0xffff_ffff_ffff_ffffn) libc.symbols.munmap(got, BigInt(ARENA_BYTES));
    }
    libc.close();
    throw new Error("mmap gave none of the wanted addresses");
  }

  #protect(): void {
    const set = (at: number, bytes: number, rights: number) => {
      if (this.#libc.symbols.mprotect(BigInt(this.base + at), BigInt(bytes), rights) !== 0) {
        throw new Error("mprotect failed");
      }
    };
    // Touched first: a page that is not there yet would fault as absent, whatever its rights.
    for (const page of GUEST_PAGES) this.u8.fill(0xcc, page.at, page.at + page.bytes);
    set(CODE, STUB - CODE, PROT_NONE);
    for (const p of GUEST_PAGES) {
      set(p.at, p.bytes, PROT_READ | (p.write ? PROT_WRITE : 0) | (p.execute ? PROT_EXEC : 0));
    }
    set(STUB, VARS - STUB, PROT_READ | PROT_WRITE | PROT_EXEC);
  }

  /** Writes into a page whatever its rights. */
  patch(at: number, bytes: Uint8Array, rights: { write: boolean; execute: boolean }): void {
    const page = BigInt(this.base + (at & ~4095));
    this.#libc.symbols.mprotect(page, 4096n, PROT_READ | PROT_WRITE);
    this.u8.set(bytes, at);
    const r = PROT_READ | (rights.write ? PROT_WRITE : 0) | (rights.execute ? PROT_EXEC : 0);
    this.#libc.symbols.mprotect(page, 4096n, r);
  }

  /** Runs cases 0..count-1: their records at IN, results at OUT. */
  run(count: number, legacy = false): void {
    this.runFrom(0, count, legacy);
  }

  /** The same, from the record `offset` bytes in. */
  runFrom(offset: number, count: number, legacy = false): void {
    for (let i = 0; i < count; i++) this.u32[(OUT + offset + i * RECORD + R.SIGNAL) >> 2] = 0;
    const dv = new DataView(this.u8.buffer);
    dv.setBigUint64(VARS + V.IN_PTR, BigInt(this.base + IN + offset), true);
    dv.setBigUint64(VARS + V.OUT_PTR, BigInt(this.base + OUT + offset), true);
    dv.setInt32(VARS + V.COUNT, count, true);
    const { symbols } = this.#libc;
    symbols.sigaltstack(this.#stack, this.#oldStack);
    for (const a of this.#actions) symbols.sigaction(a.signal, a.ours, a.theirs);
    symbols.bsearch(this.#entry, this.#entry, 1n, 1n, legacy ? this.#entry32 : this.#entry);
    for (const a of this.#actions) symbols.sigaction(a.signal, a.theirs, null);
    symbols.sigaltstack(this.#oldStack, null);
  }

  close(): void {
    this.#libc.symbols.munmap(BigInt(this.base), BigInt(ARENA_BYTES));
    this.#libc.symbols.munmap(this.#signalStack, BigInt(SIGNAL_STACK_BYTES));
    this.#libc.close();
  }
}
