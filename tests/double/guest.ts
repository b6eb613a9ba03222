/** For tests: a vCPU of the double with guest code, through the functions of the framework alone. */
import { hostMemory, type Hv, ok } from "./rig.ts";
import { CPU, CPU2, CS, ENTRY, F, LDTR, PIN, SEGMENT, TR } from "./vmcs.ts";

export const RAM_BYTES = 1 << 20;
export const CODE = 0x8000, STACK = 0x7000, DATA = 0x9000, IDT = 0x4000, GDT = 0x5000;
const PML4 = 0x1000, PDPT = 0x2000, PD = 0x3000;
export const FOREVER = 0xffff_ffff_ffff_ffffn;

/** Machine code in hexadecimal, spaces anywhere. */
export function code(text: string): Uint8Array {
  return Uint8Array.from(text.replace(/\s+/g, "").match(/../g)!, (x) => parseInt(x, 16));
}

/** Ids of hv_x86_reg_t that tests use. */
export const REG = {
  RIP: 0,
  RFLAGS: 1,
  RAX: 2,
  RCX: 3,
  RDX: 4,
  RBX: 5,
  RSI: 6,
  RDI: 7,
  RSP: 8,
  CR2: 38,
  TPR: 49,
  XCR0: 50,
};

/** A vCPU's registers, through the functions that reach them. */
export class Registers {
  readonly #out = new BigUint64Array(1);

  constructor(readonly hv: Hv, readonly id: number) {}

  write(field: number, value: bigint | number): void {
    ok(this.hv.hv_vmx_vcpu_write_vmcs(this.id, field, BigInt(value)));
  }
  read(field: number): bigint {
    ok(this.hv.hv_vmx_vcpu_read_vmcs(this.id, field, this.#out));
    return this.#out[0]!;
  }
  get(register: number): bigint {
    ok(this.hv.hv_vcpu_read_register(this.id, register, this.#out));
    return this.#out[0]!;
  }
  set(register: number, value: bigint | number): void {
    ok(this.hv.hv_vcpu_write_register(this.id, register, BigInt(value)));
  }
  capability(n: number): bigint {
    ok(this.hv.hv_vmx_read_capability(n, this.#out));
    return this.#out[0]!;
  }

  /** Sets bits of a control field, and what must be 1. */
  control(field: number, bits: number): void {
    const n = { [F.PIN]: 0, [F.CPU]: 1, [F.CPU2]: 2, [F.ENTRY]: 3, [F.EXIT]: 4 }[field]!;
    const limits = this.capability(n);
    this.write(field, (BigInt(bits >>> 0) | (limits & 0xffff_ffffn)) & (limits >> 32n));
  }

  /** The controls that most programs set. */
  controls(cpu = 0, entry = 0): void {
    this.control(F.PIN, PIN.INTR | PIN.NMI | PIN.VIRTUAL_NMI);
    this.control(F.CPU, CPU.HLT | CPU.UNCOND_IO | CPU.SECONDARY | CPU.CR8_LOAD | CPU.CR8_STORE | cpu);
    this.control(F.CPU2, CPU2.EPT | CPU2.UNRESTRICTED | CPU2.RDTSCP | CPU2.INVPCID);
    this.control(F.EXIT, 0);
    this.control(F.ENTRY, ENTRY.LOAD_EFER | entry);
  }

  segments(cs: number, data: number, selector: number): void {
    for (let n = 0; n < 6; n++) {
      this.write(SEGMENT.SELECTOR + 2 * n, selector === 0 ? 0 : n === CS ? selector : selector + 8);
      this.write(SEGMENT.BASE + 2 * n, 0);
      this.write(SEGMENT.LIMIT + 2 * n, data & 0x8000 ? 0xffff_ffff : 0xffff);
      this.write(SEGMENT.AR + 2 * n, n === CS ? cs : data);
    }
    this.write(SEGMENT.AR + 2 * TR, 0x8b);
    this.write(SEGMENT.LIMIT + 2 * TR, 0xffff);
    this.write(SEGMENT.AR + 2 * LDTR, 0x10082);
  }

  /** 64-bit mode with the tables that `Guest.long` makes. */
  setLong(rip: number): void {
    this.controls(0, ENTRY.GUEST_64);
    this.segments(0xa09b, 0xc093, 0x10);
    this.write(F.CR0, 0x8000_0033);
    this.write(F.CR3, PML4);
    this.write(F.CR4, 0x2620);
    this.write(F.EFER, 0x500);
    this.write(F.CR0_MASK, 0x6000_0030);
    this.write(F.CR0_SHADOW, 0x8000_0033);
    this.write(F.CR4_MASK, 0x2000);
    this.write(F.CR4_SHADOW, 0x620);
    this.write(F.GDTR_BASE, GDT);
    this.write(F.GDTR_LIMIT, 31);
    this.write(F.IDTR_BASE, IDT);
    this.write(F.IDTR_LIMIT, 0xfff);
    this.start(rip);
  }

  start(rip: number): void {
    this.set(REG.RIP, rip);
    this.set(REG.RFLAGS, 2);
    this.set(REG.RSP, STACK);
  }
}

export function setLong(hv: Hv, id: number, rip: number): void {
  new Registers(hv, id).setLong(rip);
}

export class Guest extends Registers implements Disposable {
  readonly ram: ReturnType<typeof hostMemory>;

  constructor(hv: Hv, options = 0n) {
    const ram = hostMemory(RAM_BYTES);
    ok(hv.hv_vm_create(0n));
    ok(hv.hv_vm_map(ram.pointer, 0n, BigInt(RAM_BYTES), 7n));
    const id = new Uint32Array(1);
    ok(hv.hv_vcpu_create(id, options));
    super(hv, id[0]!);
    this.ram = ram;
  }

  [Symbol.dispose](): void {
    ok(this.hv.hv_vcpu_destroy(this.id));
    ok(this.hv.hv_vm_destroy());
  }

  /** Real mode, flat, at CODE. */
  real(program: Uint8Array): void {
    this.controls();
    this.segments(0x9b, 0x93, 0);
    this.write(F.CR0, 0x30);
    this.write(F.CR4, 0x2000);
    this.write(F.CR0_MASK, 0x8000_0021);
    this.write(F.CR0_SHADOW, 0x10);
    this.write(F.CR4_MASK, 0x2000);
    this.write(F.IDTR_LIMIT, 0x3ff);
    this.ram.u8.set(program, CODE);
    this.start(CODE);
  }

  /** 64-bit mode, the first 2 MiB mapped to themselves, with interrupt gates for `handlers`. */
  long(program: Uint8Array, handlers: Record<number, Uint8Array> = {}): void {
    const { dv } = this.ram;
    dv.setBigUint64(PML4, BigInt(PDPT | 3), true);
    dv.setBigUint64(PDPT, BigInt(PD | 3), true);
    dv.setBigUint64(PD, 0x83n, true);
    // 3 GiB and on, where nothing is.
    dv.setBigUint64(PDPT + 24, 0xc000_0083n, true);
    dv.setBigUint64(GDT + 0x10, 0x00af_9b00_0000_ffffn, true);
    dv.setBigUint64(GDT + 0x18, 0x00cf_9300_0000_ffffn, true);
    let at = CODE + 0x800;
    for (const [vector, bytes] of Object.entries(handlers)) {
      this.ram.u8.set(bytes, at);
      dv.setUint32(IDT + 16 * Number(vector), (0x10 << 16) | (at & 0xffff), true);
      dv.setUint32(IDT + 16 * Number(vector) + 4, (at & 0xffff_0000) | 0x8e00, true);
      at += 0x80;
    }
    this.ram.u8.set(program, CODE);
    this.setLong(CODE);
  }

  /** Runs to the next exit that is the guest's; gives its basic reason. */
  run(): number {
    ok(this.hv.hv_vcpu_run_until(this.id, FOREVER));
    return Number(this.read(F.EXIT_REASON));
  }

  /** Goes on behind the instruction that exited. */
  skip(): void {
    this.set(REG.RIP, this.get(REG.RIP) + this.read(F.EXIT_INSTR_LEN));
    this.write(F.INTERRUPTIBILITY, this.read(F.INTERRUPTIBILITY) & ~3n);
  }
}
