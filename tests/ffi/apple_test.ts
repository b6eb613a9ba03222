/**
 * The bindings of macOS against copies of what its headers say (*.txt), and against rules that those values have to follow.
 *
 * Lines under a name in brackets: a function's name, its parameters, its result and the first macOS that has it; or a constant's
 * name and its value.
 */
import { assert, assertEquals } from "@std/assert";
import * as arm64 from "../../ffi/hypervisor_arm64.ts";
import * as x86_64 from "../../ffi/hypervisor_x86_64.ts";
import * as vmnet from "../../ffi/vmnet.ts";
import * as vmx from "../../ffi/vmx.ts";

type Module = Readonly<Record<string, unknown>>;
const MODULES: Readonly<Record<string, Module>> = { hypervisor_x86_64: x86_64, hypervisor_arm64: arm64, vmnet, vmx };
/** Whoever runs trike has it: Deno asks for more. */
const OLDEST = [11, 0];

/** The sections of a copy: lines as words. */
async function copyOf(name: string): Promise<Map<string, string[][]>> {
  const sections = new Map<string, string[][]>();
  let lines: string[][] = [];
  for (const line of (await Deno.readTextFile(new URL(`${name}.txt`, import.meta.url))).split("\n")) {
    const title = /^\[(\w+)\]$/.exec(line)?.[1];
    if (title !== undefined) sections.set(title, lines = []);
    else if (line !== "") lines.push(line.split(" "));
  }
  return sections;
}

/** A function as a line of the copy tells it. */
function symbolOf([, parameters, result, since]: string[]): unknown {
  if (parameters === "address") return { type: "pointer" };
  const [major = 0, minor = 0] = since!.split(".").map(Number);
  const newer = major > OLDEST[0]! || (major === OLDEST[0] && minor > OLDEST[1]!);
  return { parameters: parameters === "-" ? [] : parameters!.split(","), result, ...newer ? { optional: true } : {} };
}

for (const [name, module] of Object.entries(MODULES)) {
  Deno.test(`${name}: each function and constant is the header's, and none is missing`, async () => {
    const sections = await copyOf(name);
    for (const [title, lines] of sections) {
      const found = module[title];
      const expected = Object.fromEntries(lines.map((line) => {
        const value = title.endsWith("_SYMBOLS")
          ? symbolOf(line)
          : /^"/.test(line[1]!)
          ? JSON.parse(line[1]!)
          : Number(line[1]);
        return [line[0], value];
      }));
      assertEquals(found, expected, title);
    }
    const objects = Object.keys(module).filter((key) => typeof module[key] === "object");
    const own = name === "hypervisor_arm64" ? ["LIBSYSTEM_SYMBOLS"] : [];
    assertEquals(objects.filter((key) => !sections.has(key)), own);
  });
}

Deno.test({
  name: "every function has types that the runtime takes",
  ignore: Deno.build.os !== "linux",
  fn() {
    for (const module of Object.values(MODULES)) {
      for (const key of Object.keys(module).filter((key) => key.endsWith("_SYMBOLS"))) {
        const symbols = module[key] as Deno.ForeignLibraryInterface;
        // Any library will do: none of them is looked for where all may be missing.
        const optional = Object.entries(symbols).map(([name, symbol]) => [name, { ...symbol, optional: true }]);
        Deno.dlopen("libc.so.6", Object.fromEntries(optional)).close();
      }
    }
  },
});

Deno.test("results are numbers of the kernel's error system, of the hypervisor's subsystem", () => {
  for (const results of [x86_64.hv_return_t, arm64.hv_return_t]) {
    for (const [name, value] of Object.entries(results)) {
      if (value === 0) continue;
      assertEquals([value >>> 26, (value >>> 14) & 0xfff], [0x3e, 0xba5], name);
    }
  }
  assertEquals(x86_64.hv_return_t.HV_DENIED | 0, -85377017);
});

Deno.test("VMCS fields are encoded by their type: [sdm3 appendix B]", () => {
  const types: readonly [prefix: RegExp, type: number][] = [
    [/^(CTRL_|VPID$)/, 0],
    [/^(RO_|GUEST_PHYSICAL_ADDRESS$)/, 1],
    [/^GUEST_/, 2],
  ];
  const seen = new Set<number>();
  for (const [name, field] of Object.entries(vmx.VMCS)) {
    const type = types.find(([prefix]) => prefix.test(name))![1];
    assertEquals([field & 1, (field >> 10) & 3, field & ~0x6fff], [0, type, 0], name);
    assert(!seen.has(field), name);
    seen.add(field);
    if (/_(AR|LIMIT)$/.test(name)) assertEquals(field >> 13, 2, `${name} has 32 bits`);
    if (/_BASE$/.test(name)) assertEquals(field >> 13, 3, `${name} has the processor's width`);
  }
});

Deno.test("system registers are encoded by their operands", () => {
  const encoded = (op0: number, op1: number, crn: number, crm: number, op2: number) =>
    (op0 << 14) | (op1 << 11) | (crn << 7) | (crm << 3) | op2;
  const { hv_sys_reg_t: sys, hv_gic_icc_reg_t: icc, hv_gic_ich_reg_t: ich, hv_sys_reg_debug: debug } = arm64;
  assertEquals(sys.HV_SYS_REG_MPIDR_EL1, encoded(3, 0, 0, 0, 5));
  assertEquals(sys.HV_SYS_REG_SCTLR_EL1, encoded(3, 0, 1, 0, 0));
  assertEquals(sys.HV_SYS_REG_TTBR1_EL1, encoded(3, 0, 2, 0, 1));
  assertEquals(sys.HV_SYS_REG_SP_EL0, encoded(3, 0, 4, 1, 0));
  assertEquals(sys.HV_SYS_REG_SP_EL1, encoded(3, 4, 4, 1, 0));
  assertEquals(sys.HV_SYS_REG_ESR_EL1, encoded(3, 0, 5, 2, 0));
  assertEquals(sys.HV_SYS_REG_FAR_EL2, encoded(3, 4, 6, 0, 0));
  assertEquals(sys.HV_SYS_REG_VBAR_EL1, encoded(3, 0, 12, 0, 0));
  assertEquals(sys.HV_SYS_REG_TPIDR_EL0, encoded(3, 3, 13, 0, 2));
  assertEquals(sys.HV_SYS_REG_CNTV_CTL_EL0, encoded(3, 3, 14, 3, 1));
  assertEquals(sys.HV_SYS_REG_CNTV_CVAL_EL0, encoded(3, 3, 14, 3, 2));
  assertEquals(sys.HV_SYS_REG_MDSCR_EL1, encoded(2, 0, 0, 2, 2));
  assertEquals(debug.HV_SYS_REG_DBGWCR0_EL1 + 15 * debug.STRIDE, encoded(2, 0, 0, 15, 7));
  assertEquals(icc.HV_GIC_ICC_REG_PMR_EL1, encoded(3, 0, 4, 6, 0));
  assertEquals(icc.HV_GIC_ICC_REG_IGRPEN1_EL1, encoded(3, 0, 12, 12, 7));
  assertEquals(ich.HV_GIC_ICH_REG_LR15_EL2, encoded(3, 4, 12, 13, 7));
});

/** The structures in C, members in the headers' order. */
const STRUCTURES = `
#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
typedef struct {
  uint32_t version;
  uint64_t apic_gpa, apic_controls, tsc_deadline;
  uint32_t apic_id, apic_ver, tpr, apr, ldr, dfr, svr, isr[8], tmr[8], irr[8], esr, lvt[7], icr[2], icr_timer, dcr_timer,
    ccr_timer, esr_pending, boot_state, aeoi[8];
} hv_apic_state_ext_t;
typedef struct { uint32_t version; uint64_t rtbl[32]; uint32_t irr, ioa_id, ioregsel; } hv_ioapic_state_ext_t;
typedef struct {
  uint32_t version;
  uint8_t ready, icw_num, rd_cmd_reg; bool aeoi, poll, rotate, sfn;
  uint8_t irq_base, request, service, mask, smm; int8_t last_request, lowprio; bool intr_raised; uint8_t elc;
} hv_atpic_state_ext_t;
typedef struct {
  uint32_t reason;
  uint64_t exception_syndrome, exception_virtual_address, exception_physical_address;
} hv_vcpu_exit_t;
typedef struct { void *iov_base; size_t iov_len; } iovec;
typedef struct { size_t vm_pkt_size; iovec *vm_pkt_iov; uint32_t vm_pkt_iovcnt, vm_flags; } vmpktdesc;
typedef struct { void *isa; int flags, reserved; void (*invoke)(void); void *descriptor; } Block_literal;
typedef struct { unsigned long reserved, size; } Block_descriptor;
`;

Deno.test({
  name: "layouts are those that C gives the members, on 64-bit systems",
  ignore: !exists("/usr/bin/cc") || Deno.build.arch !== "x86_64",
  async fn() {
    const { hv_apic_state_ext_t, hv_ioapic_state_ext_t, hv_atpic_state_ext_t } = x86_64;
    const { iovec, vmpktdesc, Block_literal, Block_descriptor } = vmnet;
    const layouts = {
      hv_apic_state_ext_t,
      hv_ioapic_state_ext_t,
      hv_atpic_state_ext_t,
      hv_vcpu_exit_t: arm64.hv_vcpu_exit_t,
      iovec,
      vmpktdesc,
      Block_literal,
      Block_descriptor,
    };
    const asserts = Object.entries(layouts).flatMap(([type, members]) =>
      Object.entries(members).map(([member, at]) =>
        member === "SIZEOF"
          ? `_Static_assert(sizeof(${type}) == ${at}, "${type}");`
          : `_Static_assert(offsetof(${type}, ${member}) == ${at}, "${type}.${member}");`
      )
    );
    await compile(STRUCTURES + asserts.join("\n"));
  },
});

const VMX_HEADER = "/usr/include/x86_64-linux-gnu/asm/vmx.h";
/** Ours and the kernel's names where they differ. */
const OTHER_NAMES: Readonly<Record<string, string>> = {
  EXC_NMI: "EXCEPTION_NMI",
  IRQ: "EXTERNAL_INTERRUPT",
  INIT: "INIT_SIGNAL",
  SIPI: "SIPI_SIGNAL",
  IRQ_WND: "INTERRUPT_WINDOW",
  VIRTUAL_NMI_WND: "NMI_WINDOW",
  TASK: "TASK_SWITCH",
  MOV_CR: "CR_ACCESS",
  MOV_DR: "DR_ACCESS",
  IO: "IO_INSTRUCTION",
  RDMSR: "MSR_READ",
  WRMSR: "MSR_WRITE",
  VMENTRY_GUEST: "INVALID_STATE",
  VMENTRY_MSR: "MSR_LOAD_FAIL",
  MWAIT: "MWAIT_INSTRUCTION",
  MTF: "MONITOR_TRAP_FLAG",
  MONITOR: "MONITOR_INSTRUCTION",
  PAUSE: "PAUSE_INSTRUCTION",
  VMENTRY_MC: "MCE_DURING_VMENTRY",
  TPR_THRESHOLD: "TPR_BELOW_THRESHOLD",
  VIRTUALIZED_EOI: "EOI_INDUCED",
  EPT_INVEPT: "INVEPT",
  VMX_TIMER_EXPIRED: "PREEMPTION_TIMER",
};
/** What the header does not tell. */
const UNTOLD = ["IO_SMI", "GETSEC", "RSM", "OTHER_SMI", "SPP"];

Deno.test({
  name: "VMX's exit reasons are those of the kernel's header",
  ignore: !exists(VMX_HEADER) || !exists("/usr/bin/cc"),
  async fn() {
    const asserts = Object.entries(vmx.VMX_REASON).filter(([name]) => !UNTOLD.includes(name)).map(([name, value]) =>
      `_Static_assert(EXIT_REASON_${OTHER_NAMES[name] ?? name} == ${value}, "${name}");`
    );
    await compile(`#include <asm/vmx.h>\n${asserts.join("\n")}`);
  },
});

/** Compiles C; what the compiler complains of is the failure. */
async function compile(source: string): Promise<void> {
  const cc = new Deno.Command("cc", {
    args: ["-w", "-x", "c", "-fsyntax-only", "-"],
    stdin: "piped",
    stdout: "null",
    stderr: "piped",
  }).spawn();
  const input = cc.stdin.getWriter();
  await input.write(new TextEncoder().encode(source));
  await input.close();
  const { stderr } = await cc.output();
  assertEquals(new TextDecoder().decode(stderr), "");
}

function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch {
    return false;
  }
}
