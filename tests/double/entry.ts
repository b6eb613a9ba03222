/** What VM entry checks: [sdm3 §27.2.1] of the controls, [sdm3 §27.3.1] of the guest's state. */
import { CONTROLS, CPU, CPU2, CR0_FIXED0, CR0_FIXED1, CR4_FIXED0, CR4_FIXED1 } from "./vmcs.ts";
import { CS, DS, ENTRY, ES, F, FS, GS, LDTR, PIN, SEGMENT, SS, TR } from "./vmcs.ts";

export type Read = (field: number) => bigint;

const PE = 1n, PG = 1n << 31n, PAE = 1n << 5n, PCIDE = 1n << 17n;
const LME = 1n << 8n, LMA = 1n << 10n, EFER_DEFINED = 0xd01n;
const VM = 1n << 17n, IF = 1n << 9n, TF = 1n << 8n;
/** Bits 63..22, 15, 5, 3. */
const RFLAGS_ZERO = ~0x3f_7fd7n & ((1n << 64n) - 1n);
const PHYSICAL_BITS = 40n;
const STI = 1n, MOV_SS = 2n, NMI_BLOCKED = 8n;
const UNUSABLE = 1n << 16n;

export const EVENT = { EXTERNAL: 0, NMI: 2, HARDWARE: 3, SOFTWARE: 4, PRIVILEGED: 5, EXCEPTION: 6, OTHER: 7 } as const;
const WITH_ERROR = [8, 10, 11, 12, 13, 14, 17];

export function isCanonical(address: bigint): boolean {
  return BigInt.asUintN(64, BigInt.asIntN(48, address)) === address;
}

/** What is wrong with the controls, in a few words; null if nothing is. */
export function controlFault(read: Read): string | null {
  for (const [field, { must, may }] of Object.entries(CONTROLS)) {
    const value = Number(read(Number(field)));
    if ((value & must) >>> 0 !== must || (value & ~may) !== 0) return `control field ${Number(field).toString(16)}`;
  }
  const pin = Number(read(F.PIN)), cpu = Number(read(F.CPU)) | 0, cpu2 = Number(read(F.CPU2));
  if (read(F.CR3_COUNT) > 4n) return "CR3-target count";
  if (!(pin & PIN.NMI) && pin & PIN.VIRTUAL_NMI) return "virtual NMIs without NMI exiting";
  if (!(pin & PIN.VIRTUAL_NMI) && cpu & CPU.NMI_WINDOW) return "NMI-window exiting without virtual NMIs";
  if (cpu & CPU.TPR_SHADOW && read(F.TPR_THRESHOLD) > 15n) return "TPR threshold";
  if (cpu2 & CPU2.UNRESTRICTED && !(cpu2 & CPU2.EPT)) return "unrestricted guest without EPT";
  return eventFault(read);
}

/** The event that is to be injected. */
export function eventFault(read: Read): string | null {
  const info = Number(read(F.ENTRY_IRQ_INFO)) >>> 0;
  if (info >>> 31 === 0) return null;
  const vector = info & 0xff, type = (info >>> 8) & 7, hasError = (info & 0x800) !== 0;
  if (info & 0x7fff_f000) return "reserved bits of the interruption information";
  if (type === 1 || type === EVENT.OTHER) return `interruption type ${type}`;
  if (type === EVENT.NMI && vector !== 2) return "an NMI whose vector is not 2";
  if (type === EVENT.HARDWARE && vector > 31) return "a hardware exception above 31";
  const wants = type === EVENT.HARDWARE && WITH_ERROR.includes(vector) && (read(F.CR0) & PE) !== 0n;
  if (hasError !== wants) return `an error code that ${wants ? "lacks" : "is too many"} for vector ${vector}`;
  if (hasError && read(F.ENTRY_EXC_ERROR) >> 16n !== 0n) return "an error code of more than 16 bits";
  const length = read(F.ENTRY_INSTR_LEN);
  const software = type === EVENT.SOFTWARE || type === EVENT.PRIVILEGED || type === EVENT.EXCEPTION;
  if (software && (length < 1n || length > 15n)) return `instruction length ${length}`;
  return null;
}

/** What is wrong with the guest's state; null if nothing is. */
export function guestFault(read: Read): string | null {
  const cr0 = read(F.CR0), cr4 = read(F.CR4), cr3 = read(F.CR3), entry = Number(read(F.ENTRY));
  const long = (entry & ENTRY.GUEST_64) !== 0;
  if ((~cr0 & CR0_FIXED0 & ~(PE | PG)) !== 0n || (cr0 & ~CR0_FIXED1) !== 0n) return "CR0";
  if (cr0 & PG && !(cr0 & PE)) return "CR0.PG without PE";
  if ((~cr4 & CR4_FIXED0) !== 0n || (cr4 & ~CR4_FIXED1) !== 0n) return "CR4";
  if (long && (!(cr0 & PG) || !(cr4 & PAE))) return "IA-32e mode without CR0.PG and CR4.PAE";
  if (!long && cr4 & PCIDE) return "CR4.PCIDE outside IA-32e mode";
  if (cr3 >> PHYSICAL_BITS) return "CR3";
  if (entry & ENTRY.LOAD_DEBUG && read(F.DR7) >> 32n) return "DR7";
  if (!isCanonical(read(F.SYSENTER_ESP)) || !isCanonical(read(F.SYSENTER_EIP))) return "SYSENTER_ESP or EIP";
  if (entry & ENTRY.LOAD_EFER) {
    const efer = read(F.EFER);
    if (efer & ~EFER_DEFINED) return "EFER";
    if (((efer & LMA) !== 0n) !== long) return "EFER.LMA against IA-32e mode guest";
    if (cr0 & PG && ((efer & LME) !== 0n) !== ((efer & LMA) !== 0n)) return "EFER.LME against LMA";
  }
  return segmentFault(read, long) ?? pointerFault(read, long) ?? activityFault(read);
}

/** Of the guest's state, what programs change at any entry: where it goes on, and what blocks. */
export function stepFault(read: Read): string | null {
  return pointerFault(read, (Number(read(F.ENTRY)) & ENTRY.GUEST_64) !== 0) ?? activityFault(read);
}

function segmentFault(read: Read, long: boolean): string | null {
  const v86 = (read(F.RFLAGS) & VM) !== 0n;
  const of = (n: number) => {
    const ar = read(SEGMENT.AR + 2 * n);
    return {
      selector: read(SEGMENT.SELECTOR + 2 * n),
      base: read(SEGMENT.BASE + 2 * n),
      limit: read(SEGMENT.LIMIT + 2 * n),
      ar,
      usable: (ar & UNUSABLE) === 0n,
      type: Number(ar & 15n),
      dpl: Number((ar >> 5n) & 3n),
    };
  };
  const tr = of(TR), ldtr = of(LDTR), cs = of(CS), ss = of(SS);
  const data = ([["DS", DS], ["ES", ES], ["FS", FS], ["GS", GS]] as const).map(([name, n]) => ({ name, ...of(n) }));
  const granular = (s: ReturnType<typeof of>) => {
    const g = (s.ar & 0x8000n) !== 0n;
    return !((s.limit & 0xfffn) !== 0xfffn && g) && !(s.limit >> 20n !== 0n && !g);
  };
  const present = (s: ReturnType<typeof of>) => (s.ar & 0x80n) !== 0n;
  const system = (s: ReturnType<typeof of>) => (s.ar & 0x10n) === 0n;
  const reserved = (s: ReturnType<typeof of>) => (s.ar & 0xfffe_0f00n) !== 0n;
  if (tr.selector & 4n || !tr.usable || !system(tr) || !present(tr) || reserved(tr) || !granular(tr)) return "TR";
  if (tr.type !== 11 && (long || tr.type !== 3)) return "TR's type";
  if (!isCanonical(tr.base)) return "TR's base";
  if (ldtr.usable) {
    if (ldtr.selector & 4n || ldtr.type !== 2 || !system(ldtr) || !present(ldtr)) return "LDTR";
    if (reserved(ldtr) || !granular(ldtr) || !isCanonical(ldtr.base)) return "LDTR";
  }
  if (v86) {
    for (const s of [cs, ss, ...data]) {
      if (s.base !== s.selector << 4n || s.limit !== 0xffffn || s.ar !== 0xf3n) return "a segment in virtual-8086 mode";
    }
    return null;
  }
  if (![3, 9, 11, 13, 15].includes(cs.type) || system(cs) || !present(cs) || reserved(cs) || !granular(cs)) return "CS";
  if (long && cs.ar & 0x2000n && cs.ar & 0x4000n) return "CS.L with D";
  if (cs.base >> 32n) return "CS's base";
  if (cs.type === 3 && cs.dpl !== 0) return "CS's DPL";
  if ((cs.type === 9 || cs.type === 11) && cs.dpl !== ss.dpl) return "CS's DPL against SS's";
  if (cs.type >= 13 && cs.dpl > ss.dpl) return "CS's DPL against SS's";
  if ((cs.type === 3 || !(read(F.CR0) & PE)) && ss.dpl !== 0) return "SS's DPL";
  if (ss.usable) {
    if ((ss.type !== 3 && ss.type !== 7) || system(ss) || !present(ss) || reserved(ss) || !granular(ss)) return "SS";
    if (ss.base >> 32n) return "SS's base";
  }
  for (const s of data) {
    if (!s.usable) continue;
    if (!(s.type & 1) || (s.type & 8 && !(s.type & 2))) return `${s.name}'s type`;
    if (system(s) || !present(s) || reserved(s) || !granular(s)) return s.name;
    if (s.name === "DS" || s.name === "ES" ? s.base >> 32n : !isCanonical(s.base)) return `${s.name}'s base`;
  }
  return null;
}

function pointerFault(read: Read, long: boolean): string | null {
  for (const field of [F.GDTR_BASE, F.IDTR_BASE]) if (!isCanonical(read(field))) return "a descriptor table's base";
  for (const field of [F.GDTR_LIMIT, F.IDTR_LIMIT]) if (read(field) >> 16n) return "a descriptor table's limit";
  const rip = read(F.RIP), flags = read(F.RFLAGS);
  const code64 = long && (read(SEGMENT.AR + 2 * CS) & 0x2000n) !== 0n;
  if (code64 ? !isCanonical(rip) : rip >> 32n) return "RIP";
  if (flags & RFLAGS_ZERO || !(flags & 2n)) return "RFLAGS";
  if (flags & VM && (long || !(read(F.CR0) & PE))) return "RFLAGS.VM";
  const info = Number(read(F.ENTRY_IRQ_INFO)) >>> 0;
  if (info >>> 31 && ((info >>> 8) & 7) === EVENT.EXTERNAL && !(flags & IF)) return "an interrupt while RFLAGS.IF is 0";
  return null;
}

function activityFault(read: Read): string | null {
  const activity = read(F.ACTIVITY), blocked = read(F.INTERRUPTIBILITY), flags = read(F.RFLAGS);
  const info = Number(read(F.ENTRY_IRQ_INFO)) >>> 0, injects = info >>> 31 !== 0, type = (info >>> 8) & 7;
  if (activity > 3n) return "activity state";
  if (activity === 1n && ((read(SEGMENT.AR + 2 * SS) >> 5n) & 3n) !== 0n) return "HLT outside privilege level 0";
  if (activity !== 0n && blocked & (STI | MOV_SS)) return "an activity state while STI or MOV SS blocks";
  if (activity > 1n && injects) return "an event in this activity state";
  if (blocked >> 5n || (blocked & STI && blocked & MOV_SS)) return "interruptibility";
  if (blocked & STI && !(flags & IF)) return "blocking by STI while RFLAGS.IF is 0";
  if (injects && type === EVENT.EXTERNAL && blocked & (STI | MOV_SS)) return "an interrupt while STI or MOV SS blocks";
  if (injects && type === EVENT.NMI && blocked & MOV_SS) return "an NMI while MOV SS blocks";
  const virtualNmi = (Number(read(F.PIN)) & PIN.VIRTUAL_NMI) !== 0;
  if (injects && type === EVENT.NMI && virtualNmi && blocked & NMI_BLOCKED) return "an NMI while NMIs are blocked";
  const pending = read(F.PENDING_DEBUG);
  if (blocked & (STI | MOV_SS) || activity === 1n) {
    if (((pending >> 14n) & 1n) !== (flags & TF) >> 8n) return "pending debug exceptions";
  }
  return null;
}
