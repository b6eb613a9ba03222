/** Events: injected, waited for, taken note of, and what goes wrong while they are delivered: [sdm3 §26.2, §27.6, §28.2]. */
import { assertEquals } from "@std/assert";
import { CODE, code, DATA, Guest, REG, STACK } from "./guest.ts";
import { openRig } from "./rig.ts";
import { CPU, F } from "./vmcs.ts";

const hv = openRig();
const VALID = 0x8000_0000, EXTERNAL = 0, NMI = 2 << 8, EXCEPTION = 3 << 8, SOFTWARE = 4 << 8, WITH_ERROR = 0x800;
/** A handler that tells by its place: HLT and the way back. */
const HLT_IRET = code("f4 48cf"), POP_HLT = code("58 f4");

Deno.test("an injected interrupt is delivered before the next instruction, and the request is over", () => {
  using g = new Guest(hv);
  g.long(code("90 f4"), { 0x40: HLT_IRET });
  g.set(REG.RFLAGS, 0x202);
  g.write(F.ENTRY_IRQ_INFO, VALID | EXTERNAL | 0x40);
  assertEquals([g.run(), g.get(REG.RIP)], [12, BigInt(CODE + 0x800)]);
  assertEquals(g.read(F.ENTRY_IRQ_INFO), 0x40n);
  assertEquals(g.get(REG.RFLAGS) & 0x200n, 0n);
  // What lies on the stack leads back to where it was.
  const rsp = Number(g.get(REG.RSP));
  assertEquals([rsp, g.ram.dv.getBigUint64(rsp, true)], [STACK - 40, BigInt(CODE)]);
  g.skip();
  assertEquals([g.run(), g.get(REG.RIP), g.get(REG.RSP)], [12, BigInt(CODE + 1), BigInt(STACK)]);
});

Deno.test("an exception is injected with its error code, a software interrupt behind its instruction", () => {
  using g = new Guest(hv);
  g.long(code("cd80 f4"), { 13: POP_HLT, 0x80: POP_HLT });
  g.write(F.ENTRY_IRQ_INFO, VALID | EXCEPTION | WITH_ERROR | 13);
  g.write(F.ENTRY_EXC_ERROR, 0x18);
  assertEquals([g.run(), g.get(REG.RAX)], [12, 0x18n]);
  g.set(REG.RIP, CODE);
  g.write(F.ENTRY_IRQ_INFO, VALID | SOFTWARE | 0x80);
  g.write(F.ENTRY_INSTR_LEN, 2);
  assertEquals([g.run(), g.get(REG.RAX)], [12, BigInt(CODE + 2)]);
});

Deno.test("the window for interrupts opens when IF is set, and not in the shadow of STI", () => {
  using g = new Guest(hv);
  g.long(code("90 fb 90 fa fb f4"));
  g.controls(CPU.IRQ_WINDOW, 0x200);
  // STI; the next instruction still runs.
  assertEquals([g.run(), Number(g.get(REG.RIP)) - CODE], [7, 3]);
  assertEquals(g.run(), 7);
  g.set(REG.RIP, CODE + 3);
  // CLI; STI; HLT: HLT exits in the shadow.
  g.set(REG.RFLAGS, 2);
  assertEquals([g.run(), Number(g.get(REG.RIP)) - CODE, g.read(F.INTERRUPTIBILITY)], [12, 5, 1n]);
  g.skip();
  assertEquals([g.run(), g.read(F.INTERRUPTIBILITY)], [7, 0n]);
});

Deno.test("an NMI blocks NMIs up to IRET, and the window for them opens then", () => {
  using g = new Guest(hv);
  g.long(code("90 90 f4"), { 2: HLT_IRET });
  g.write(F.ENTRY_IRQ_INFO, VALID | NMI | 2);
  assertEquals([g.run(), g.read(F.INTERRUPTIBILITY)], [12, 8n]);
  g.skip();
  g.controls(CPU.NMI_WINDOW, 0x200);
  assertEquals([g.run(), g.get(REG.RIP), g.read(F.INTERRUPTIBILITY)], [8, BigInt(CODE), 0n]);
});

Deno.test("exceptions go to the guest, or exit if the bitmap has them", () => {
  using g = new Guest(hv);
  g.long(code("0f0b f4"), { 6: POP_HLT });
  assertEquals([g.run(), g.get(REG.RAX)], [12, BigInt(CODE)]);
  g.set(REG.RIP, CODE);
  g.write(F.EXC_BITMAP, 1 << 6);
  assertEquals([g.run(), g.get(REG.RIP), g.read(F.EXIT_IRQ_INFO)], [0, BigInt(CODE), 0x8000_0306n]);
});

Deno.test("page faults exit by their error code too, leave CR2 alone, and tell the address", () => {
  using g = new Guest(hv);
  // A read of 1 GiB, where there is no page, and a write.
  g.long(code("8b03 f4 8903 f4"), { 14: POP_HLT });
  g.set(REG.RBX, 0x4000_0010);
  g.set(REG.CR2, 0x1111);
  g.write(F.EXC_BITMAP, 1 << 14);
  assertEquals([g.run(), g.read(F.QUALIFICATION), g.get(REG.CR2)], [0, 0x4000_0010n, 0x1111n]);
  assertEquals([g.read(F.EXIT_IRQ_INFO), g.read(F.EXIT_IRQ_ERROR)], [0x8000_0b0en, 0n]);
  // Only writes: mask and match are bit 1.
  g.write(F.PF_MASK, 2);
  g.write(F.PF_MATCH, 2);
  assertEquals([g.run(), g.get(REG.RAX), g.get(REG.CR2)], [12, 0n, 0x4000_0010n]);
  g.set(REG.RIP, CODE + 3);
  assertEquals([g.run(), g.read(F.EXIT_IRQ_ERROR)], [0, 2n]);
});

Deno.test("INT3 exits as a software exception, with its length", () => {
  using g = new Guest(hv);
  g.long(code("cc f4"), { 3: POP_HLT });
  g.write(F.EXC_BITMAP, 1 << 3);
  assertEquals([g.run(), g.get(REG.RIP), g.read(F.EXIT_IRQ_INFO)], [0, BigInt(CODE), 0x8000_0603n]);
  assertEquals(g.read(F.EXIT_INSTR_LEN), 1n);
  g.write(F.EXC_BITMAP, 0);
  assertEquals([g.run(), g.get(REG.RAX)], [12, BigInt(CODE + 1)]);
});

Deno.test("a violation during a delivery tells of the event, which then can be injected again", () => {
  using g = new Guest(hv);
  g.long(code("90 f4"), { 0x40: HLT_IRET });
  g.set(REG.RFLAGS, 0x202);
  g.set(REG.RSP, 0xc000_0100);
  g.write(F.ENTRY_IRQ_INFO, VALID | EXTERNAL | 0x40);
  assertEquals([g.run(), g.get(REG.RIP), g.get(REG.RSP)], [48, BigInt(CODE), 0xc000_0100n]);
  assertEquals([g.read(F.IDT_VECTOR_INFO), g.read(F.QUALIFICATION) & 7n], [0x8000_0040n, 2n]);
  g.set(REG.RSP, STACK);
  g.write(F.ENTRY_IRQ_INFO, g.read(F.IDT_VECTOR_INFO));
  assertEquals([g.run(), g.get(REG.RIP), g.read(F.IDT_VECTOR_INFO)], [12, BigInt(CODE + 0x800), 0n]);
});

Deno.test("a violation while an exception is delivered tells the exception with its error code", () => {
  using g = new Guest(hv);
  g.long(code("8b03 f4"), { 14: POP_HLT });
  g.set(REG.RBX, 0x4000_0000);
  g.set(REG.RSP, 0xc000_0100);
  assertEquals(g.run(), 48);
  assertEquals([g.read(F.IDT_VECTOR_INFO), g.read(F.IDT_VECTOR_ERROR)], [0x8000_0b0en, 0n]);
});

Deno.test("a violation while INT n is delivered tells it as a software interrupt with its length", () => {
  using g = new Guest(hv);
  g.long(code("cd80 f4"), { 0x80: POP_HLT });
  g.set(REG.RSP, 0xc000_0100);
  assertEquals([g.run(), g.get(REG.RIP)], [48, BigInt(CODE)]);
  assertEquals([g.read(F.IDT_VECTOR_INFO), g.read(F.EXIT_INSTR_LEN)], [0x8000_0480n, 2n]);
  // Injected again as told, it comes back behind the instruction.
  g.set(REG.RSP, STACK);
  g.write(F.ENTRY_IRQ_INFO, g.read(F.IDT_VECTOR_INFO));
  g.write(F.ENTRY_INSTR_LEN, g.read(F.EXIT_INSTR_LEN));
  assertEquals([g.run(), g.get(REG.RAX)], [12, BigInt(CODE + 2)]);
});

Deno.test("an exception within an exception makes a double fault, and a third ends the guest", () => {
  using g = new Guest(hv);
  // #UD has no gate, which is #GP, which has none, which is #DF.
  g.long(code("0f0b f4"), { 8: POP_HLT });
  assertEquals([g.run(), g.get(REG.RAX)], [12, 0n]);
  g.ram.u8.fill(0, 0x4000, 0x5000);
  g.set(REG.RIP, CODE);
  assertEquals(g.run(), 2);
});

Deno.test("a nested exception that the bitmap has tells which event it met", () => {
  using g = new Guest(hv);
  g.long(code("90 f4"));
  g.set(REG.RFLAGS, 0x202);
  g.write(F.EXC_BITMAP, 1 << 13);
  g.write(F.ENTRY_IRQ_INFO, VALID | EXTERNAL | 0x50);
  assertEquals([g.run(), g.read(F.EXIT_IRQ_INFO)], [0, 0x8000_0b0dn]);
  // The gate of vector 50H in the IDT, during an external event.
  assertEquals([g.read(F.EXIT_IRQ_ERROR), g.read(F.IDT_VECTOR_INFO)], [(0x50n << 3n) | 3n, 0x8000_0050n]);
});

Deno.test("single steps of the guest's own are debug exceptions behind each instruction", () => {
  using g = new Guest(hv);
  g.long(code("90 90 f4"), { 1: POP_HLT });
  g.set(REG.RFLAGS, 0x102);
  assertEquals([g.run(), g.get(REG.RAX)], [12, BigInt(CODE + 1)]);
  g.set(REG.RIP, CODE);
  g.set(REG.RFLAGS, 0x102);
  g.write(F.EXC_BITMAP, 1 << 1);
  assertEquals([g.run(), g.get(REG.RIP), g.read(F.QUALIFICATION)], [0, BigInt(CODE + 1), 0x4000n]);
  assertEquals(g.read(F.EXIT_IRQ_INFO), 0x8000_0301n);
});

Deno.test("an interrupt wakes a vCPU that sleeps", () => {
  using g = new Guest(hv);
  g.long(code("90"), { 0x40: HLT_IRET });
  g.set(REG.RFLAGS, 0x202);
  g.write(F.ACTIVITY, 1);
  g.write(F.ENTRY_IRQ_INFO, VALID | EXTERNAL | 0x40);
  assertEquals([g.run(), g.read(F.ACTIVITY)], [12, 0n]);
  assertEquals(g.ram.dv.getUint8(DATA), 0);
});
