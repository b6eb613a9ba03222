/** Exit qualifications and interruption information: [sdm3 tables 28-2 to 28-7], [sdm3 tables 25-17, 25-18]. */
import { assertEquals } from "@std/assert";
import {
  basicReason,
  Cr,
  EptViolation,
  eventToRepeat,
  Info,
  Io,
  isSoftware,
  Task,
} from "../../../src/engine/hvf/exits.ts";
import { usesUnits } from "../../../src/engine/hvf/prefixes.ts";

Deno.test("I/O: size, direction, string and port", () => {
  const read = (q: number) => [Io.size(q), Io.isIn(q), Io.isString(q), Io.port(q)];
  assertEquals(read(0x03f8_0000), [1, false, false, 0x3f8]); // OUT DX, AL
  assertEquals(read(0x0071_0048), [1, true, false, 0x71]); // IN AL, 71H
  assertEquals(read(0xffff_000b), [4, true, false, 0xffff]); // IN EAX, DX
  assertEquals(read(0x01f0_0039), [2, true, true, 0x1f0]); // REP INSW
});

Deno.test("control registers: number, kind, general register", () => {
  const read = (q: number) => [Cr.number(q), Cr.kind(q), Cr.gpr(q)];
  assertEquals(read(0x0000_0300), [0, Cr.TO, 3]); // MOV CR0, RBX
  assertEquals(read(0x0000_0f18), [8, Cr.FROM, 15]); // MOV R15, CR8
  assertEquals(read(0x0000_0020), [0, Cr.CLTS, 0]);
  assertEquals(read(0x0001_0030), [0, Cr.LMSW, 0]);
});

Deno.test("task switches: by what", () => {
  assertEquals([0x0000_0028, 0x4000_0028, 0x8000_0028, 0xc000_0028].map(Task.source), [
    Task.CALL,
    Task.IRET,
    Task.JMP,
    Task.GATE,
  ]);
});

Deno.test("EPT violations: whether an IRET had unblocked NMIs", () => {
  assertEquals([0x1181, 0x181].map(EptViolation.nmiUnblocked), [true, false]);
});

Deno.test("the reason is without the bit of a failed entry", () => {
  assertEquals(basicReason(0x8000_0021), 33);
});

Deno.test("interruption information: validity, type, vector, error code", () => {
  const pageFault = 0x8000_0b0e;
  assertEquals([Info.isValid(pageFault), Info.type(pageFault), Info.vector(pageFault)], [true, 3, 14]);
  assertEquals([Info.hasError(pageFault), Info.hasError(0x8000_0030)], [true, false]);
  assertEquals(Info.of(3, 13, true), 0x8000_0b0d);
  assertEquals(Info.of(2, 2, false), 0x8000_0202);
});

Deno.test("a delivery that was broken off is repeated as it was, less what an entry must not have", () => {
  assertEquals(eventToRepeat(0x0000_0b0e), 0, "nothing was being delivered");
  assertEquals(eventToRepeat(0x8000_1b0e), 0x8000_0b0e, "bit 12 is undefined here and must be 0 there");
  assertEquals(eventToRepeat(0x8000_0430), 0x8000_0430);
});

Deno.test("INT n, INT1, INT3 and INTO are raised by their instruction, the others are not", () => {
  const software = [0, 2, 3, 4, 5, 6].map((type) => isSoftware(Info.of(type, 3, false)));
  assertEquals(software, [false, false, false, true, true, true]);
});

Deno.test("instructions that may use the units' registers are told from their first bytes", () => {
  const uses = (hex: string, is64 = true) => usesUnits(Uint8Array.fromHex(hex), is64);
  const integer = {
    "MOV [rbx], al": "8803",
    "MOV rax, [rbx+8]": "488b4308",
    "REP MOVSB": "f3a4",
    "LOCK XADD": "f00fc103",
    "MOVZX": "0fb603",
    "CMPXCHG8B": "0fc70b",
    "LOCK CMPXCHG16B": "f0480fc70b",
    "MOVNTI": "0fc303",
    "BT": "0fa303",
    "POPCNT": "f30fb803",
    "MOVBE": "0f38f003",
    "CRC32": "f20f38f103",
    "LGDT": "0f0113",
    "CALL [rbx]": "ff13",
  };
  for (const [name, hex] of Object.entries(integer)) assertEquals(uses(hex), false, name);
  const units = {
    "FILD": "db03",
    "FWAIT": "9b",
    "MOVAPS": "0f2803",
    "MOVDQU": "f30f6f03",
    "MOVQ with REX": "66480f6e03",
    "FXSAVE": "0fae03",
    "XSAVEC": "0fc723",
    "PSHUFB": "660f380003",
    "VMOVDQU": "c5fe6f03",
    "LDDQU": "f20ff003",
    "CVTPI2PS": "0f2a03",
    "SHUFPS": "0fc60300",
    "cut off after a prefix": "6648",
    "cut off after 0FH": "0f",
  };
  for (const [name, hex] of Object.entries(units)) assertEquals(uses(hex), true, name);
  assertEquals(uses("4a", false), false, "DEC edx in 32-bit code, and no prefix");
});
